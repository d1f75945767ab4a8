"""One invocation's work on a large copy: on the span of a message, or on the whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from handler.core.composing import FAN, compose, join_span, verified_parts
from handler.core.errors import Corrupt, Moved, Unavailable
from handler.core.model import ABSENT, SMALL, Generation, Replica, Span, Stamp
from handler.core.partials import Layout, is_of_parts
from handler.core.plan import StagedPart, coverage, cut_name, divide, overlap
from handler.core.staging import Staging, mark, sweep
from handler.core.steps import Progress
from handler.core.task import CopyTask

STREAMS = 4
"""Into how many at least the work of one invocation is cut, where that is long enough."""


class Attempt:
    """What one invocation finds staged of a large copy, and adds to it.

    Args:
        staging: the copy.
        task: the span that is this invocation's own; None: the whole.
        has_queue: whether messages can be sent to others.
        is_huge: whether others are to copy all spans.
    """

    def __init__(self, staging: Staging, task: CopyTask | None, *, has_queue: bool, is_huge: bool) -> None:
        self.staging, self.task = staging, task
        self.span = task.span if task else Span(0, staging.original.size)
        self.now = Progress(is_message=task is not None, has_queue=has_queue)
        if task is None:
            self.staged = staging.blocks() if is_huge else staging.all()
            is_sent = has_queue and (is_huge or self.staged.marker.exists)
            self.now = self.now._replace(is_sent=is_sent, missing=bool(self.staged.gaps))
            return
        self._list_blocks()
        if overlap(self.staged.gaps, task.span):
            own = staging.of_span(task.span)
            self.staged = own._replace(found={**own.found, **self.staged.found})
            self.now = self.now._replace(joined=False, missing=bool(own.gaps))

    def _list_blocks(self) -> None:
        """List the spans that are whole, as the task's own is by now."""
        self.staged = self.staging.blocks()
        self.now = self.now._replace(joined=True, others_miss=bool(self.staged.gaps))

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
        late = refused or (self.task is not None and bool(made) and not self.staging.has_time())
        self.staged = self.staged._replace(parts=parts, gaps=gaps)
        self.now = self.now._replace(missing=bool(gaps), copied=bool(made), late=late)
        if gaps and not late:
            raise Moved(f"{self.staging.plan.copy.name!r}: another is putting the bytes {gaps[0]}")

    def _side_by_side(self, tasks: Sequence[tuple[CopyTask, Span]]) -> tuple[list[StagedPart], bool]:
        """Copy gaps; return what was copied, and whether there was too little time for all of it.

        The first part may begin however slow the last ones were. The first failure ends the others. It is raised once
        none is under way: a copy that outlived the invocation would put parts when nobody looks for them any more.
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
        self.staged, self.now = self.staged._replace(parts=parts), self.now._replace(joined=True)

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
