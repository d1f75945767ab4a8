"""What is staged for one large copy: listed, copied, and swept.

Custom metadata of a staged object:
    s3-replica-part-sums        its checksums by S3's algorithm (handler/core/checksums.py)
    s3-replica-part-crc32c      its CRC32C, where it was known: a listing may not say it
    s3-replica-part-verified    of a union: how the whole was verified before the union was made

A part of a "CRC32C of spans" has none: the destination's own CRC32C is all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from handler.core.checksums import Check, begin
from handler.core.errors import Moved, Unavailable
from handler.core.model import Generation, Original, Replica, Span, Stamp
from handler.core.partials import OWN, Layout, algorithm_of, can_merge, decoded, encoded, is_of_parts
from handler.core.plan import Plan, StagedPart, coverage, layout_of
from handler.core.ports import Composer, Destination, Source
from handler.core.rate import RateEstimate
from handler.core.readers import CheckedReader, nothing_of
from handler.core.task import CopyTask

SUMS, CRC32C, VERIFIED = (f"s3-replica-part-{name}" for name in ("sums", "crc32c", "verified"))
BARE = "CRC32C of spans"
"""The check whose parts need no metadata."""


class Staged(NamedTuple):
    """What a listing shows: the parts that follow each other, the gaps between them, and the marker of a hand-over."""

    parts: list[StagedPart]
    gaps: list[Span]
    found: Mapping[str, Replica]
    marker: Replica


@dataclass(frozen=True, kw_only=True)
class Staging:
    """One large copy, for one invocation: from where, to where, how it is cut, and how much there is time for."""

    source: Source
    destination: Composer
    original: Original
    plan: Plan
    rate: RateEstimate
    reach: int
    """Bytes of an S3 part up to which one read is expected to get all of it."""
    has_time: Callable[[], bool] = lambda: True
    """False when there is no time for another request."""
    side_by_side: Callable[[Callable[[Any], Any], Any], Any] = map
    """Calls a function with each of several values, several at once."""

    @property
    def check(self) -> str:
        """Return by which of S3's checksums the copy is verified, "" where by none."""
        return self.plan.copy.check

    def all(self) -> Staged:
        """List all that is staged for the plan."""
        return self._listed(Span(0, self.original.size))

    def blocks(self) -> Staged:
        """List the spans that are whole, and the marker."""
        return self._listed(Span(0, self.original.size), self.plan.blocks)

    def of_span(self, span: Span) -> Staged:
        """List the parts of one span."""
        return self._listed(span, *self.plan.parts_of(span))

    def _listed(self, span: Span, start: str = "", stop: str = "") -> Staged:
        found = self.destination.list(self.plan.prefix, start=start, stop=stop)
        parts = [part for name, replica in found.items() if (part := self._part(name, replica))]
        chain, gaps = coverage([part for part in parts if not self._is_spare(part)], span)
        return Staged(chain, gaps, found, found.get(self.plan.marker, Replica()))

    def _part(self, name: str, replica: Replica) -> StagedPart | None:
        """Return the part that an object is; None where it is none, or its checksum was not written down."""
        start, metadata = self.plan.start_of(name), replica.stamp.metadata
        if start is None or not replica.size:
            return None
        crc32c, verified = replica.crc32c or metadata.get(CRC32C), metadata.get(VERIFIED, "")
        part = StagedPart(start, replica.size, name, crc32c=crc32c, verified=verified)
        if not self.check or part.verified or self.check == BARE:
            return part
        return part._replace(checksums=tuple(decoded(metadata[SUMS]))) if SUMS in metadata else None

    def _is_spare(self, part: StagedPart) -> bool:
        """Return True for a fragment of an S3 part that is to be read whole, as nothing else can verify it."""
        fragments = [each for each in part.checksums if not each.value]
        if not fragments or not all(each.size > 0 for each in fragments):
            return False
        task = next((task for task in self.plan.tasks if task.span.start <= part.start < task.span.stop), None)
        return task is not None and layout_of(task).at(part.start)[0].size <= self.reach

    def copy(
        self, task: CopyTask, gap: Span, staged: Mapping[str, Replica], may_begin: Callable[[int], bool]
    ) -> Iterator[StagedPart | None]:
        """Copy what is missing of a span, in parts for as long as they may begin.

        A part lies within one S3 part, so that its checksum is of that one. It is the whole S3 part where checksums
        of fragments cannot be merged, and the S3 part is in reach.

        Args:
            task: the span.
            gap: the bytes that are missing.
            staged: what was listed, by name.
            may_begin: tells whether there is time for so many bytes.

        Yields:
            Each part; None for one that another puts at this moment, and whose checksum is not written down yet.

        Raises:
            Moved: the source is no longer in the plan's state.
            Corrupt: an S3 part is not what S3 says it is; nothing of it was stored.
        """
        layout, start = layout_of(task), gap.start
        atomic = is_of_parts(self.check) and not can_merge(self.check)
        while start < gap.stop:
            lies, _ = layout.at(start)
            most = min(gap.stop, lies.stop) - start
            size = most if atomic and most == lies.size <= self.reach else self.rate.length(most)
            if not may_begin(size):
                return
            span = Span(start, start + size)
            name = self.plan.part(span, task)
            yield self._copy_part(name, span, layout, staged.get(name, Replica()))
            start = span.stop

    def _copy_part(self, name: str, span: Span, layout: Layout, before: Replica) -> StagedPart | None:
        """Copy one part over what was listed, unless another was first."""
        (lies, s3_part), algorithm = layout.at(span.start), algorithm_of(self.check)
        known = s3_part.checksum if span == lies else ""
        value = known or (OWN if algorithm == "CRC32C" else None)
        if not can_merge(self.check) and span != lies:
            algorithm, value = "", ""  # nothing can be made of a fragment's
        stamp = self._stamp(value if self.check and self.check != BARE else None, span, layout)
        with self.source.open(self.original.key, at=self.original, span=span) as body:
            check = Check(algorithm, begin(algorithm), known) if algorithm and value != OWN else None
            reader = CheckedReader(body, self.original, span, check) if check else body
            try:
                with self.rate.measured(span.size):
                    part = self.destination.put(name, reader, stamp, expect=before.generation)
                if check and value is None:
                    stamp = self._stamp(check.actual, span, layout, {CRC32C: part.crc32c or ""})
                    part = self.destination.patch(name, stamp, expect=part.generation)
            except Moved:
                part = self.destination.head(name)
                if not part.exists:
                    raise
        return self._part(name, part)

    def _stamp(self, value: str | None, span: Span, layout: Layout, more: Mapping[str, str] | None = None) -> Stamp:
        sums = {} if value is None else {SUMS: encoded([layout.checksum(span, value)])}
        return replace(self.plan.stored, metadata={**sums, **(more or {})})


def mark(staging: Staging, name: str, stamp: Stamp, expect: Generation) -> None:
    """Put an object of no bytes that only says something, unless another was first."""
    with suppress(Moved):
        staging.destination.put(name, nothing_of(staging.original), stamp, expect=expect)


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


def leftovers(destination: Composer, task: CopyTask) -> Mapping[str, Replica]:
    """List what a message's worker may find staged once its state is over: the parts of its span, and whole spans."""
    plan = Plan(task.copy, (task,))
    start, stop = plan.parts_of(task.span)
    parts = destination.list(plan.prefix, start=start, stop=stop)
    return {**parts, **destination.list(plan.prefix, start=plan.blocks)}
