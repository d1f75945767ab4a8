"""What is staged for one large copy: listed, copied, verified, and composed.

Custom metadata of a staged object:
    s3-replica-part-sums        its checksums by S3's algorithm (handler/sums.py)
    s3-replica-part-crc32c      its CRC32C, where it was known: a listing may not say it
    s3-replica-part-verified    of a union: how the whole was verified before the union was made

A part of a "CRC32C of spans" has none: the destination's own CRC32C is all that is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from handler.errors import Corrupt, Moved, NotFound, Unavailable
from handler.model import ABSENT, Generation, Original, Part, Replica, Span, Stamp
from handler.pace import Pace
from handler.plan import Piece, Plan, cover, layout_of, span_of
from handler.ports import Composer, Destination, Source
from handler.sums import (
    OWN,
    Layout,
    algorithm_of,
    can_merge,
    decoded,
    encoded,
    expected,
    is_of_parts,
    merged,
    of_object,
    sum_of,
)
from handler.transfer import HashedReader, merge

FAN = 32
"""Objects that one compose takes. https://cloud.google.com/storage/docs/composite-objects."""
_SUMS, _CRC32C, _VERIFIED = (f"s3-replica-part-{name}" for name in ("sums", "crc32c", "verified"))
_BARE = "CRC32C of spans"
"""The check whose parts need no metadata."""

Map = Callable[[Callable[[Piece], Piece], Iterable[Piece]], Iterable[Piece]]


class Staged(NamedTuple):
    """What a listing shows: pieces, the gaps between them, and the marker of a hand-over."""

    chain: list[Piece]
    gaps: list[Span]
    found: Mapping[str, Replica]
    marker: Replica


@dataclass(frozen=True, kw_only=True)
class Job:
    """One large copy: from where, to where, and how it is cut."""

    source: Source
    destination: Composer
    original: Original
    plan: Plan
    pace: Pace
    reach: int
    """Bytes of an S3 part up to which one read is expected to get all of it."""

    @property
    def check(self) -> str:
        """By which of S3's checksums the copy is verified, "" where by none."""
        return self.plan.whole.check

    def all(self) -> Staged:
        """List all that is staged for the plan."""
        return self._listed(self.destination.list(self.plan.prefix), Span(0, self.original.size))

    def blocks(self) -> Staged:
        """List the spans that are whole, and the marker."""
        found = self.destination.list(self.plan.prefix, start=self.plan.blocks)
        return self._listed(found, Span(0, self.original.size))

    def of_span(self, work: Part) -> Staged:
        """List the parts of one span."""
        span = span_of(work)
        start, stop = self.plan.parts_of(span)
        return self._listed(self.destination.list(self.plan.prefix, start=start, stop=stop), span)

    def _listed(self, found: Mapping[str, Replica], span: Span) -> Staged:
        pieces = [piece for name, replica in found.items() if (piece := self._piece(name, replica))]
        chain, gaps = cover([piece for piece in pieces if not self._is_spare(piece)], span)
        return Staged(chain, gaps, found, found.get(self.plan.marker, Replica()))

    def _piece(self, name: str, replica: Replica) -> Piece | None:
        """Return the piece that an object is; None where it is none, or its checksum was not written down."""
        start, metadata = self.plan.start_of(name), replica.stamp.metadata
        if start is None or not replica.size:
            return None
        piece = Piece(
            start=start,
            size=replica.size,
            name=name,
            crc32c=replica.crc32c or metadata.get(_CRC32C),
            verified=metadata.get(_VERIFIED, ""),
        )
        if not self.check or piece.verified or self.check == _BARE:
            return piece
        return piece._replace(sums=tuple(decoded(metadata[_SUMS]))) if _SUMS in metadata else None

    def _is_spare(self, piece: Piece) -> bool:
        """Return True for a fragment of an S3 part that is to be read whole, as nothing else can verify it."""
        fragments = [each for each in piece.sums if not each.value]
        return bool(fragments) and all(each.size > 0 for each in fragments) and self._lies_in_reach(piece.span)

    def _lies_in_reach(self, span: Span) -> bool:
        for work in self.plan.spans:
            if work.span and work.span.start <= span.start < work.span.stop:
                return layout_of(work).at(span.start)[0].size <= self.reach
        return False

    def copy(
        self, work: Part, gap: Span, staged: Mapping[str, Replica], may_begin: Callable[[int], bool]
    ) -> Iterator[Piece | None]:
        """Copy what is missing of a span, in parts for as long as they may begin.

        A part lies within one S3 part, so that its checksum is of that one. It is the whole S3 part where checksums
        of fragments cannot be merged, and the S3 part is in reach.

        Args:
            work: the span.
            gap: the bytes that are missing.
            staged: what was listed, by name.
            may_begin: tells whether there is time for so many bytes.

        Yields:
            Each piece; None for one that another puts at this moment, and whose checksum is not written down yet.

        Raises:
            Moved: the source is no longer in the plan's state.
            Corrupt: an S3 part is not what S3 says it is; nothing of it was stored.
        """
        layout, start = layout_of(work), gap.start
        atomic = is_of_parts(self.check) and not can_merge(self.check)
        while start < gap.stop:
            lies, _ = layout.at(start)
            most = min(gap.stop, lies.stop) - start
            size = most if atomic and most == lies.size <= self.reach else self.pace.length(most)
            if not may_begin(size):
                return
            span = Span(start, start + size)
            yield self._copy_part(work, span, layout, staged)
            start = span.stop

    def _copy_part(self, work: Part, span: Span, layout: Layout, staged: Mapping[str, Replica]) -> Piece | None:
        """Copy one part, unless another was first."""
        name, (lies, s3_part) = self.plan.part(span, work), layout.at(span.start)
        algorithm = algorithm_of(self.check)
        known = s3_part.checksum if span == lies else ""
        value = known or (OWN if algorithm == "CRC32C" else None)
        if not can_merge(self.check) and span != lies:
            algorithm, value = "", ""  # nothing can be made of a fragment's
        stamp = self._stamp(value if self.check and self.check != _BARE else None, span, layout)
        before = staged.get(name, Replica())
        with self.source.open(self.original.key, at=self.original, span=span) as body:
            reader = HashedReader(body, "" if value == OWN else algorithm, known)
            try:
                with self.pace.measured(span.size):
                    part = self.destination.put(name, reader, stamp, expect=before.generation)
                if self.check and value is None:
                    told = self._stamp(reader.checksum, span, layout)
                    told = replace(told, metadata={**told.metadata, _CRC32C: part.crc32c or ""})
                    part = self.destination.patch(name, told, expect=part.generation)
            except Moved:
                part = self.destination.head(name)
                if not part.exists:
                    raise
        return self._piece(name, part)

    def _stamp(self, value: str | None, span: Span, layout: Layout) -> Stamp:
        metadata = {} if value is None else {_SUMS: encoded([sum_of(layout, span, value)])}
        return Stamp(storage_class=self.plan.storage_class, metadata=metadata)

    def unite(self, work: Part, pieces: Sequence[Piece], has_time: Callable[[], bool]) -> Piece:
        """Compose the parts of a whole span into one object.

        Raises:
            Moved: another is composing them.
            Corrupt: an S3 part is not what S3 says it is. Its fragments are gone.
            Unavailable: time ran out. What was joined remains.
        """
        name = self.plan.block(span_of(work))
        if [piece.name for piece in pieces] == [name]:
            return pieces[0]
        pieces = self.held(layout_of(work), pieces)
        while len(pieces) > FAN:
            groups = [pieces[at : at + FAN] for at in range(0, len(pieces), FAN)]
            pieces = [self._union(self.plan.union(_run(group), of_blocks=False), group, has_time) for group in groups]
        return self._union(name, pieces, has_time)

    def held(self, layout: Layout, pieces: Sequence[Piece], map_: Map = map) -> list[Piece]:
        """Return the pieces with their CRC32C, and each S3 part that they are of held against its checksum.

        Args:
            layout: where the S3 parts lie.
            pieces: what was copied of them.
            map_: looks at several pieces at once.

        Raises:
            Corrupt: an S3 part is not what S3 says it is. Its fragments are gone.
        """
        known = self._known(pieces, map_)
        for (lies, s3_part), group in itertools.groupby(known, key=lambda piece: layout.at(piece.start)):
            fragments = list(group)
            if not s3_part.checksum or _run(fragments) != lies or not all(piece.sums for piece in fragments):
                continue
            (found,) = merged(self.check, [each for piece in fragments for each in piece.sums])
            if found.value not in {"", s3_part.checksum}:
                sweep(self.destination, {piece.name: self.destination.head(piece.name) for piece in fragments})
                raise Corrupt(
                    f"{self.original.key!r}: the S3 part at byte {lies.start} arrived with {self.check} "
                    f"{found.value}, S3 holds {s3_part.checksum}"
                )
        return known

    def _union(self, name: str, pieces: Sequence[Piece], has_time: Callable[[], bool], verified: str = "") -> Piece:
        """Compose up to 32 pieces into one that carries their checksums, or says how the whole was verified."""
        if len(pieces) == 1 and name != self.plan.block(pieces[0].span):
            return pieces[0]
        if not has_time():
            raise Unavailable(f"no time is left to join the parts of {self.plan.whole.name!r}", code="OutOfTime")
        sums = tuple(merged(self.check, [each for piece in pieces for each in piece.sums])) if not verified else ()
        metadata = {_CRC32C: crc32c} if (crc32c := _crc32c_of(pieces)) else {}
        metadata |= {_SUMS: encoded(sums)} if sums and self.check != _BARE else {}
        metadata |= {_VERIFIED: verified} if verified else {}
        stamp = Stamp(storage_class=self.plan.storage_class, metadata=metadata)
        union = self._join(name, pieces, stamp, ABSENT)
        return Piece(pieces[0].start, union.size, name, sums, union.crc32c or crc32c, verified)

    def compose(
        self,
        chain: Sequence[Piece],
        stamp: Callable[[str], Stamp],
        expect: Generation,
        has_time: Callable[[], bool],
        map_: Map,
    ) -> tuple[Replica, str]:
        """Verify what covers the whole, and join it.

        Args:
            chain: pieces that follow each other from the first byte to the last.
            stamp: what the copy carries, by the name of the check that it passed.
            expect: the destination's generation.
            has_time: False when time is out.
            map_: looks at several pieces at once.

        Returns:
            The replica, and the check that it passed: "none" where not all checksums are known.

        Raises:
            Moved: the destination is at another generation, or another is just composing.
            Corrupt: the pieces are not what S3 holds.
            Unavailable: time ran out. What was joined remains.
        """
        pieces = self._known(chain, map_)
        check = self._verified(pieces)
        while len(pieces) > FAN:
            groups = [pieces[at : at + FAN] for at in range(0, len(pieces), FAN)]
            verified = f"{check}: {_crc32c_of(pieces)}"
            pieces = [
                self._union(self.plan.union(_run(group), of_blocks=True), group, has_time, verified) for group in groups
            ]
        return self._join(self.plan.whole.name, pieces, stamp(check), expect), check

    def _verified(self, pieces: Sequence[Piece]) -> str:
        """Hold all pieces together against S3's checksum of the object; return the name of the check."""
        if marks := {piece.verified for piece in pieces if piece.verified}:
            check, _, crc32c = marks.pop().partition(": ")
            if marks or crc32c != _crc32c_of(pieces):
                raise Corrupt(f"{self.plan.whole.name!r}: its parts are not those that were verified before")
            return check
        if not self.check:
            return "none"
        found, wanted = of_object(self.check, [each for piece in pieces for each in piece.sums]), self._expected()
        if found is None:
            return "none"
        if found != wanted:
            raise Corrupt(f"{self.plan.whole.name!r}: its parts' {self.check} add up to {found}, S3 holds {wanted}")
        return self.check

    def _expected(self) -> str:
        return expected(self.original, self.check)

    def _known(self, pieces: Sequence[Piece], map_: Map) -> list[Piece]:
        """Return the pieces with their CRC32C; get those of which the listing did not say it."""
        return [self._resolved(piece) for piece in map_(self._looked_up, pieces)]

    def _resolved(self, piece: Piece) -> Piece:
        """Return the piece with its own CRC32C among its sums, where they are to have it."""
        sums = piece.sums
        if self.check == _BARE and not (sums or piece.verified):
            sums = (sum_of(layout_of(self.plan.whole), piece.span, OWN),)
        own = piece.crc32c or ""
        return piece._replace(sums=tuple(each._replace(value=own) if each.value == OWN else each for each in sums))

    def _looked_up(self, piece: Piece) -> Piece:
        if piece.crc32c:
            return piece
        replica = self.destination.head(piece.name)
        if replica.size != piece.size:
            raise Moved(f"{piece.name!r}: the part is gone, another is composing it")
        return piece._replace(crc32c=replica.crc32c)

    def _join(self, name: str, pieces: Sequence[Piece], stamp: Stamp, expect: Generation) -> Replica:
        wanted = _crc32c_of(pieces)
        stamp = stamp.recording(wanted) if wanted else replace(stamp, crc32c_name="")
        try:
            joined = self.destination.compose(name, [piece.name for piece in pieces], stamp, expect=expect)
        except NotFound as error:
            raise Moved(f"{name!r}: parts are gone, another is composing them") from error
        if joined.crc32c and wanted and joined.crc32c != wanted:
            self.destination.delete(name, expect=joined.generation)
            raise Corrupt(f"{name!r}: composed to crc32c {joined.crc32c}, while its parts' add up to {wanted}")
        return joined


def sweep(destination: Destination, staged: Mapping[str, Replica], has_time: Callable[[], bool] = lambda: True) -> None:
    """Remove parts that nothing needs any more; one that changed since it was listed is somebody's.

    Raises:
        Unavailable: time ran out. What was removed is gone.
    """
    for name, replica in staged.items():
        if not has_time():
            raise Unavailable(f"no time is left to remove the staged part {name!r}", code="OutOfTime")
        with suppress(Moved):
            destination.delete(name, expect=replica.generation)


def _crc32c_of(pieces: Sequence[Piece]) -> str:
    """Return the CRC32C of pieces that follow each other, "" where one of theirs is not known."""
    known = [(piece.crc32c, piece.size) for piece in pieces if piece.crc32c]
    return merge("CRC32C", known) if len(known) == len(pieces) else ""


def _run(pieces: Sequence[Piece]) -> Span:
    return Span(pieces[0].start, pieces[-1].span.stop)


def leftovers(destination: Composer, work: Part) -> Mapping[str, Replica]:
    """List what a message's worker may find staged once its state is over: the parts of its span, and whole spans."""
    plan = Plan(replace(work, span=None), (work,))
    start, stop = plan.parts_of(span_of(work))
    parts = destination.list(plan.prefix, start=start, stop=stop)
    return {**parts, **destination.list(plan.prefix, start=plan.blocks)}
