"""One invocation's work on a large copy: on the span of a message, or on the whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from handler.core.composing import FAN, compose, join_span, verified_parts
from handler.core.errors import Corrupt, Moved, Unavailable
from handler.core.model import ABSENT, SMALL, Generation, Replica, Span, Stamp
from handler.core.partials import Layout, is_of_parts
from handler.core.plan import StagedPart, coverage, cut_name, divide, overlap
from handler.core.staging import Staged, Staging, mark, sweep
from handler.core.steps import Progress
from handler.core.task import CopyTask

STREAMS = 4
"""Into how many at least the work of one invocation is cut, where that is long enough."""


@dataclass
class Attempt:
    """What one invocation finds staged of a large copy, and adds to it."""

    staging: Staging
    task: CopyTask | None
    is_huge: bool
    """Whether others copy the spans at once."""
    staged: Staged = field(init=False)
    """What there is of the task's span, or of the whole."""
    others_miss: bool = False
    """Whether other spans than the task's are not whole."""
    joined: bool = False
    copied: bool = False
    late: bool = False
    """Whether there is no time for what is left."""

    def __post_init__(self) -> None:
        if not self.task:
            self.staged = self.staging.blocks() if self.is_huge else self.staging.all()
            return
        self._list_blocks()
        if overlap(self.staged.gaps, self.task.span):
            own = self.staging.of_span(self.task.span)
            self.staged, self.joined = own._replace(found={**own.found, **self.staged.found}), False

    @property
    def span(self) -> Span:
        """The bytes that are to be copied."""
        return self.task.span if self.task else Span(0, self.staging.original.size)

    def progress(self, *, has_queue: bool) -> Progress:
        """Return what the next step depends on."""
        return Progress(
            is_message=self.task is not None,
            has_queue=has_queue,
            is_sent=has_queue and (self.is_huge or self.staged.marker.exists),
            missing=bool(self.staged.gaps),
            copied=self.copied,
            late=self.late,
            joined=self.joined,
            others_miss=self.others_miss,
        )

    def _list_blocks(self) -> None:
        """List the spans that are whole, as the task's own is by now."""
        self.staged, self.joined = self.staging.blocks(), True
        self.others_miss = bool(self.staged.gaps)

    def copy(self) -> None:
        """Copy what is missing, side by side, as far as there is time; few gaps are cut, so that each stream has one.

        Raises:
            Moved: another is putting what is still missing then.
        """
        gaps = self.staged.gaps
        tasks = [(task, hole) for task in self.staging.plan.tasks for hole in overlap(gaps, task.span)]
        streams = STREAMS // max(1, len(tasks))
        made, refused = self._side_by_side(
            [(task, cut) for task, hole in tasks for cut in divide(hole, streams, task, shortest=2 * SMALL)]
        )
        parts, gaps = coverage([*self.staged.parts, *made], self.span)
        self.staged, self.copied = self.staged._replace(parts=parts, gaps=gaps), bool(made)
        self.late = refused or (self.task is not None and self.copied and not self.staging.has_time())
        if gaps and not self.late:
            raise Moved(f"{self.staging.plan.copy.name!r}: another is putting the bytes {gaps[0]}")

    def _side_by_side(self, tasks: Sequence[tuple[CopyTask, Span]]) -> tuple[list[StagedPart], bool]:
        """Copy gaps; return what was copied, and whether there was too little time for all of it.

        The first part may begin however slow it was of late. The first failure ends the others. It is raised once none
        is under way: what went on beyond that would put parts in a later invocation, when nobody looks for them.
        """
        failures: list[Exception] = []
        refused: list[int] = []
        begun: list[int] = []
        made: list[StagedPart] = []
        rate = self.staging.rate

        def may_begin(size: int) -> bool:
            if failures or not self.staging.has_time() or (begun and not rate.fits(size)):
                refused.append(size)
                return False
            begun.append(size)
            return True

        def copy(lane: Sequence[tuple[CopyTask, Span]]) -> None:
            try:
                for task, gap in lane:
                    made.extend(part for part in self.staging.copy(task, gap, self.staged.found, may_begin) if part)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)

        lanes = rate.streams(len(tasks))
        for _ in self.staging.side_by_side(copy, [tasks[lane::lanes] for lane in range(lanes)]):
            pass
        if failures:
            raise failures[0]
        return made, bool(refused)

    def join(self) -> None:
        """Compose spans that are whole: the task's own, or those of the whole if there are too many parts."""
        alone = replace(self.staging, side_by_side=map)
        if self.task:
            join_span(alone, self.task, self.staged.parts)
            self._list_blocks()
            return

        def joined(task: CopyTask) -> Sequence[StagedPart]:
            inside = parts[bisect_left(starts, task.span.start) : bisect_left(starts, task.span.stop)]
            is_whole = len(inside) > 1 and sum(part.size for part in inside) == task.span.size
            return [join_span(alone, task, inside)] if is_whole else inside

        parts = self.staged.parts
        if len(parts) > FAN:
            starts = [part.start for part in parts]
            parts = [*chain.from_iterable(self.staging.side_by_side(joined, self.staging.plan.tasks))]
        if is_of_parts(self.staging.check):
            parts = verified_parts(self.staging, Layout(self.staging.original.parts, 0), parts)
        self.staged, self.joined = self.staged._replace(parts=parts), True

    def compose(self, stamp: Callable[[str], Stamp], expect: Generation) -> tuple[Replica, str]:
        """Join what covers the whole to the copy; remove it all if it is not what S3 holds."""
        try:
            return compose(self.staging, self.staged.parts, stamp, expect)
        except Corrupt:
            listed = self.staging.destination.list(self.staging.plan.prefix)
            sweep(self.staging.destination, listed, self.staging.has_time)
            self._require_boundaries()
            raise

    def _require_boundaries(self) -> None:
        """Make sure that S3's parts lie where they were taken to lie, before the bytes are called wrong.

        Raises:
            Moved: they do not. The next look asks for all of them.
            Unavailable: they do not, and the spans are for the event to cut anew.
        """
        copy, original = self.staging.plan.copy, self.staging.original
        exact = self.staging.source.parts(original, exact=True) if copy.assumed else original
        if not copy.assumed or not exact.parts or cut_name(copy.check, exact.parts) == copy.plan:
            return
        mark(self.staging, self.staging.plan.exact, self.staging.plan.stored, ABSENT)
        reason = f"the parts of {original.key!r} at S3 are not of one size, as they were taken to be"
        if self.task is None:
            raise Moved(reason)
        raise Unavailable(reason, code="SrcPartsUneven")
