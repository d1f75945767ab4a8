"""Staged pieces on their way to a copy: held against S3's checksums, and composed, 32 at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from handler.core.checksums import OWN, Layout, encoded, expected, merged, of_object, partial_checksum
from handler.core.errors import Corrupt, Moved, NotFound, Unavailable
from handler.core.model import ABSENT, CopyTask, Generation, Replica, Span, Stamp
from handler.core.plan import Plan, StagedPart, layout_of, span_of
from handler.core.readers import merge
from handler.core.staging import BARE, CRC32C, SUMS, VERIFIED, Job, sweep

FAN = 32
"""Objects that one compose takes. https://cloud.google.com/storage/docs/composite-objects."""

Map = Callable[[Callable[[StagedPart], StagedPart], Iterable[StagedPart]], Iterable[StagedPart]]


@dataclass(frozen=True)
class Joining:
    """The composing of one job's pieces."""

    job: Job

    @property
    def _plan(self) -> Plan:
        return self.job.plan

    @property
    def _check(self) -> str:
        return self.job.check

    def unite(self, work: CopyTask, pieces: Sequence[StagedPart], has_time: Callable[[], bool]) -> StagedPart:
        """Compose the parts of a whole span into one object.

        Raises:
            Moved: another is composing them.
            Corrupt: an S3 part is not what S3 says it is. Its fragments are gone.
            Unavailable: time ran out. What was joined remains.
        """
        name = self._plan.block(span_of(work))
        if [piece.name for piece in pieces] == [name]:
            return pieces[0]
        pieces = self.held(layout_of(work), pieces)
        while len(pieces) > FAN:
            groups = [pieces[at : at + FAN] for at in range(0, len(pieces), FAN)]
            pieces = [self._union(self._plan.union(_run(group), of_blocks=False), group, has_time) for group in groups]
        return self._union(name, pieces, has_time)

    def held(self, layout: Layout, pieces: Sequence[StagedPart], map_: Map = map) -> list[StagedPart]:
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
            (found,) = merged(self._check, [each for piece in fragments for each in piece.sums])
            if found.value not in {"", s3_part.checksum}:
                sweep(self.job.destination, {piece.name: self.job.destination.head(piece.name) for piece in fragments})
                raise Corrupt(
                    f"{self.job.original.key!r}: the S3 part at byte {lies.start} arrived with {self._check} "
                    f"{found.value}, S3 holds {s3_part.checksum}"
                )
        return known

    def _union(
        self, name: str, pieces: Sequence[StagedPart], has_time: Callable[[], bool], verified: str = ""
    ) -> StagedPart:
        """Compose up to 32 pieces into one that carries their checksums, or says how the whole was verified."""
        if len(pieces) == 1 and name != self._plan.block(pieces[0].span):
            return pieces[0]
        if not has_time():
            raise Unavailable(f"no time is left to join the parts of {self._plan.whole.name!r}", code="OutOfTime")
        sums = tuple(merged(self._check, [each for piece in pieces for each in piece.sums])) if not verified else ()
        metadata = {CRC32C: crc32c} if (crc32c := _crc32c_of(pieces)) else {}
        metadata |= {SUMS: encoded(sums)} if sums and self._check != BARE else {}
        metadata |= {VERIFIED: verified} if verified else {}
        stamp = replace(self._plan.stored, metadata=metadata)
        union = self._join(name, pieces, stamp, ABSENT)
        return StagedPart(pieces[0].start, union.size, name, sums, union.crc32c or crc32c, verified)

    def compose(
        self,
        chain: Sequence[StagedPart],
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
                self._union(self._plan.union(_run(group), of_blocks=True), group, has_time, verified)
                for group in groups
            ]
        return self._join(self._plan.whole.name, pieces, stamp(check), expect), check

    def _verified(self, pieces: Sequence[StagedPart]) -> str:
        """Hold all pieces together against S3's checksum of the object; return the name of the check."""
        if marks := {piece.verified for piece in pieces if piece.verified}:
            check, _, crc32c = marks.pop().partition(": ")
            if marks or crc32c != _crc32c_of(pieces):
                raise Corrupt(f"{self._plan.whole.name!r}: its parts are not those that were verified before")
            return check
        if not self._check:
            return "none"
        found, wanted = of_object(self._check, [each for piece in pieces for each in piece.sums]), self._expected()
        if found is None:
            return "none"
        if found != wanted:
            raise Corrupt(f"{self._plan.whole.name!r}: its parts' {self._check} add up to {found}, S3 holds {wanted}")
        return self._check

    def _expected(self) -> str:
        return expected(self.job.original, self._check)

    def _known(self, pieces: Sequence[StagedPart], map_: Map) -> list[StagedPart]:
        """Return the pieces with their CRC32C; get those of which the listing did not say it."""
        return [self._resolved(piece) for piece in map_(self._looked_up, pieces)]

    def _resolved(self, piece: StagedPart) -> StagedPart:
        """Return the piece with its own CRC32C among its sums, where they are to have it."""
        sums = piece.sums
        if self._check == BARE and not (sums or piece.verified):
            sums = (partial_checksum(layout_of(self._plan.whole), piece.span, OWN),)
        own = piece.crc32c or ""
        return piece._replace(sums=tuple(each._replace(value=own) if each.value == OWN else each for each in sums))

    def _looked_up(self, piece: StagedPart) -> StagedPart:
        if piece.crc32c:
            return piece
        replica = self.job.destination.head(piece.name)
        if replica.size != piece.size:
            raise Moved(f"{piece.name!r}: the part is gone, another is composing it")
        return piece._replace(crc32c=replica.crc32c)

    def _join(self, name: str, pieces: Sequence[StagedPart], stamp: Stamp, expect: Generation) -> Replica:
        wanted = _crc32c_of(pieces)
        stamp = stamp.recording(wanted) if wanted else replace(stamp, crc32c_name="")
        try:
            joined = self.job.destination.compose(name, [piece.name for piece in pieces], stamp, expect=expect)
        except NotFound as error:
            raise Moved(f"{name!r}: parts are gone, another is composing them") from error
        if joined.crc32c and wanted and joined.crc32c != wanted:
            self.job.destination.delete(name, expect=joined.generation)
            raise Corrupt(f"{name!r}: composed to crc32c {joined.crc32c}, while its parts' add up to {wanted}")
        return joined


def _crc32c_of(pieces: Sequence[StagedPart]) -> str:
    """Return the CRC32C of pieces that follow each other, "" where one of theirs is not known."""
    known = [(piece.crc32c, piece.size) for piece in pieces if piece.crc32c]
    return merge("CRC32C", known) if len(known) == len(pieces) else ""


def _run(pieces: Sequence[StagedPart]) -> Span:
    return Span(pieces[0].start, pieces[-1].span.stop)
