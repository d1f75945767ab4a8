"""Objects too large for one stream: cut into parts, copied side by side into part objects, then composed.

Nothing is remembered but the parts themselves, under a staging prefix of the destination, named by the state of the
object that they are of and by the bytes they have. So every step can be lost, repeated, or done by two at once: a part
is put where none is, it may be as short as the time that is left asks for, whoever finds that they cover the whole
composes them on the condition of the destination's generation, and composing consumes them. More than 32 are composed
32 at a time first (https://cloud.google.com/storage/docs/composite-objects).

Memory: as many pieces as streams, and what a piece takes on its way (a chunk of an upload session is 8 MiB).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from handler.errors import Corrupt, Moved, NotFound, Unavailable
from handler.model import ABSENT, GIB, MIB, SMALL, Generation, Original, Part, Replica, Span, Stamp
from handler.plan import SPAN, Pace, Piece, Plan
from handler.ports import Composer, Destination, Source
from handler.transfer import HashedReader, merge, mergeable

LARGE = 128 * MIB
"""Bytes from which on an object is copied in parts."""
HUGE = GIB
"""Bytes from which on its parts are left to other invocations, where there is a queue for them."""
STREAMS = 4
"""Into how many at least the work of one invocation is cut, where that is long enough."""
FAN = 32
"""Objects that one compose takes."""
_CHECK = "s3-replica-part-check"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One large copy: from where, to where, and how it is cut."""

    source: Source
    destination: Composer
    original: Original
    plan: Plan
    pace: Pace = field(default_factory=Pace)

    @property
    def algorithm(self) -> str | None:
        """The checksum by which S3 vouches for the whole and which those of the parts add up to."""
        return mergeable(self.original)

    def staged(self) -> Mapping[str, Replica]:
        """What lies in staging for the plan, by name."""
        return self.destination.list(self.plan.prefix)

    def cover(self, staged: Mapping[str, Replica]) -> tuple[list[Piece], list[Span]]:
        """Return the parts that follow each other from the beginning on, and the gaps between them."""
        longest: dict[int, Piece] = {}
        for piece in self._pieces(staged):
            if piece.start not in longest or piece.size > longest[piece.start].size:
                longest[piece.start] = piece
        starts = sorted(longest)
        chain, gaps, at = [], [], 0
        while at < self.plan.whole.size:
            if piece_here := longest.get(at):
                chain.append(piece_here)
                at += piece_here.size
            else:
                following = bisect.bisect(starts, at)
                stop = starts[following] if following < len(starts) else self.plan.whole.size
                gaps.append(Span(at, stop))
                at = stop
        return chain, gaps

    def _pieces(self, staged: Mapping[str, Replica]) -> Iterator[Piece]:
        """Parts; one whose checksum was not written down is none."""
        for name, replica in staged.items():
            start, share = self.plan.start_of(name), self._share(replica)
            if start is not None and share is not None and replica.size:
                yield Piece(start, replica.size, name, share, replica.crc32c)

    def _share(self, replica: Replica) -> str | None:
        """A part's share of the whole's checksum, "" where the whole has none that can be shared, None if unknown."""
        if self.algorithm is None:
            return ""
        return replica.crc32c if self.algorithm == "CRC32C" else replica.stamp.metadata.get(_CHECK)

    def copy(self, gap: Span, staged: Mapping[str, Replica], go_on: Callable[[], bool]) -> bool:
        """Copy what is missing there, in parts as long as there is time for; False where there was not for all.

        Raises:
            Moved: the source is no longer in the plan's state.
        """
        start = gap.start
        while start < gap.stop:
            if not go_on():
                return False
            span = Span(start, min(gap.stop, start + self.pace.length()))
            self._copy_part(span, staged.get(self.plan.part(span), Replica()))
            start = span.stop
        return True

    def _copy_part(self, span: Span, before: Replica) -> None:
        """Copy one part, unless another was first."""
        name, stamp = self.plan.part(span), Stamp(storage_class=self.plan.storage_class)
        with self.source.open(self.original.key, at=self.original, span=span) as body:
            reader = HashedReader(body, self.algorithm)
            try:
                with self.pace.measured(span.size):
                    part = self.destination.put(name, reader, stamp, expect=before.generation)
                if self.algorithm not in {None, "CRC32C"}:
                    checked = replace(stamp, metadata={_CHECK: reader.checksum})
                    self.destination.patch(name, checked, expect=part.generation)
            except Moved:
                if not self.destination.head(name).exists:
                    raise

    def compose(self, parts: Sequence[Piece], stamp: Stamp, expect: Generation, go_on: Callable[[], bool]) -> Replica:
        """Join what covers the whole, and verify it.

        Raises:
            Moved: the destination is at another generation, or another is just composing.
            Corrupt: the parts are not what S3 holds; they are gone.
            Unavailable: time ran out. What was joined remains.
        """
        while len(parts) > FAN:
            parts = [self._united(parts[at : at + FAN], go_on) for at in range(0, len(parts), FAN)]
        expected = self.original.checksums[self.algorithm] if self.algorithm else ""
        if (checksum := self._added(parts)) != expected:
            sweep(self.destination, self.staged())
            raise Corrupt(
                f"{self.plan.whole.name!r}: its parts' {self.algorithm} add up to {checksum}, S3 holds {expected}"
            )
        return self._join(self.plan.whole.name, parts, stamp, expect)

    def _united(self, parts: Sequence[Piece], go_on: Callable[[], bool]) -> Piece:
        """Compose up to 32 parts into one."""
        if len(parts) == 1:
            return parts[0]
        if not go_on():
            raise Unavailable(f"no time is left to join the parts of {self.plan.whole.name!r}", code="OutOfTime")
        share, name = self._added(parts), self.plan.union(parts)
        metadata = {_CHECK: share} if self.algorithm not in {None, "CRC32C"} else {}
        union = self._join(name, parts, Stamp(storage_class=self.plan.storage_class, metadata=metadata), ABSENT)
        return Piece(parts[0].start, union.size, name, share, union.crc32c)

    def _added(self, parts: Sequence[Piece]) -> str:
        return merge(self.algorithm, [(part.share, part.size) for part in parts]) if self.algorithm else ""

    def _join(self, name: str, parts: Sequence[Piece], stamp: Stamp, expect: Generation) -> Replica:
        known = [(part.crc32c, part.size) for part in parts if part.crc32c]
        expected = merge("CRC32C", known) if len(known) == len(parts) else None
        stamp = stamp.recording(expected) if expected else replace(stamp, crc32c_name="")
        try:
            joined = self.destination.compose(name, [part.name for part in parts], stamp, expect=expect)
        except NotFound as error:
            raise Moved(f"{name!r}: parts are gone, another is composing them") from error
        if joined.crc32c and expected and joined.crc32c != expected:
            self.destination.delete(name, expect=joined.generation)
            raise Corrupt(f"{name!r}: composed to crc32c {joined.crc32c}, while its parts' add up to {expected}")
        return joined


def _shares(gap: Span, streams: int) -> list[Span]:
    """Cut a span into up to so many, but into none of less than 16 MiB."""
    count = max(1, min(streams, gap.size // (2 * SMALL)))
    cuts = [gap.start + gap.size * at // count for at in range(count + 1)]
    return [Span(start, stop) for start, stop in itertools.pairwise(cuts)]


def sweep(destination: Destination, staged: Mapping[str, Replica]) -> None:
    """Remove parts that nothing needs any more; one that changed since it was listed is somebody's."""
    for name, replica in staged.items():
        with suppress(Moved):
            destination.delete(name, expect=replica.generation)


class Parts:
    """Copies large objects in parts: side by side in this process, or by messages to others.

    Args:
        threads: copies so many spans at once.
        large: bytes from which on an object is copied in parts.
        huge: bytes from which on its parts become messages at once, rather than when time runs out.
        span: bytes that a message asks for.
        send: hands parts to the queue; None where there is none.
        pace: knows how much time there is, and what can be done in it.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword, with a default each
        self,
        threads: Executor,
        *,
        large: int = LARGE,
        huge: int = HUGE,
        span: int = SPAN,
        send: Callable[[Sequence[Part]], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._threads = threads
        self._large = large
        self._huge = huge
        self._span = span
        self._send = send
        self.pace = pace or Pace()

    def take(self, original: Original, *, again: bool = False) -> bool:
        """Whether an object is copied in parts: it is large and verifiable so, or huge, or there is no time to stream.

        Verifiable means by a checksum to which those of the parts add up.

        Args:
            original: the object's state.
            again: whether a delivery before this one did not finish.
        """
        if original.size >= (self._large if mergeable(original) else self._huge):
            return True
        return original.size > SMALL and not self.pace.allows(original.size, again=again)

    def may_have_taken(self, original: Original) -> bool:
        """Whether an earlier delivery may have copied it in parts."""
        return original.size >= min(self._large, SMALL + 1)

    def job(
        self, source: Source, destination: Composer, original: Original, work: Part, storage_class: str | None
    ) -> Job:
        """Return the copy of one state of an object, in that class."""
        plan = Plan(work, self._span, storage_class)
        return Job(source=source, destination=destination, original=original, plan=plan, pace=self.pace)

    def put(
        self, job: Job, work: Part, stamp: Stamp, *, expect: Generation, go_on: Callable[[], bool]
    ) -> Replica | None:
        """Bring a copy on: copy what is missing, or hand it over; compose where all is there.

        Args:
            job: the copy.
            work: says which span is this invocation's own; with the index None, it is the whole.
            stamp: what the copy carries.
            expect: the destination's generation.
            go_on: False when there is no time for another part.

        Returns:
            The replica, or None where others are to finish it.

        Raises:
            Moved: as `Job.copy` and `Job.compose` do.
            Unavailable: time ran out, and there is no queue to hand the rest over. What was copied remains.
        """
        staged = job.staged()
        parts, gaps = job.cover(staged)
        missing = {index: holes for index in range(job.plan.count) if (holes := job.plan.within(index, gaps))}
        if missing and work.index is None and self._send and job.original.size >= self._huge:
            self._send([work.at(index) for index in missing])
            return None

        mine = [(index, gap) for index in missing if work.index in {None, index} for gap in missing[index]]
        if mine:  # few spans, as one that is a message's, are to have more streams than one each
            mine = [(index, share) for index, gap in mine for share in _shares(gap, STREAMS // len(mine))]
        late = self._copy(job, mine, staged, go_on)
        if late and self._send:
            self._send([work.at(index) for index in sorted(late)])
            return None
        if late:
            raise Unavailable(f"no time is left for {len(late)} of {job.plan.count} spans", code="OutOfTime")
        if mine:
            parts, gaps = job.cover(job.staged())
        if gaps and work.index is None:
            raise Moved(f"{work.name!r}: parts are gone, another is composing them")
        return None if gaps else job.compose(parts, stamp, expect, go_on)

    def _copy(
        self, job: Job, spans: Sequence[tuple[int, Span]], staged: Mapping[str, Replica], go_on: Callable[[], bool]
    ) -> set[int]:
        """Copy spans side by side, and return the indexes of those that there was no time for.

        The first that fails ends the others. It is raised once none is under way: what went on beyond that would put
        parts in a later invocation, when nobody looks for them.
        """
        failures: list[Exception] = []

        def copy(task: tuple[int, Span]) -> int | None:
            index, gap = task
            try:
                return None if job.copy(gap, staged, lambda: not failures and go_on()) else index
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
                return index

        late = {index for index in self._threads.map(copy, spans) if index is not None}
        if failures:
            raise failures[0]
        return late
