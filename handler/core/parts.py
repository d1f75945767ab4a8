"""Objects too large for one stream: cut into spans and parts, copied side by side, then composed.

Nothing is remembered but what is staged, under a prefix of the destination, named by the state of the object that it is
of and by the bytes it has. So every step can be lost, repeated, or done by two at once: a part is put where none is,
whoever finds a span whole composes it into one object, whoever finds all spans whole composes the copy on the condition
of the destination's generation, and composing consumes what it joins.

A message asks for one span. Its worker lists that span's parts and the whole spans, never the parts of other spans. It
sends the message again only if it copied something; else the message fails, and the queue delivers it again.

Requests. An instance has s seconds and moves r bytes a second. An object has n spans of at most b bytes: n is at most
1,024, and one more for each 44 S3 parts. A span takes i = ceil(b / (0.75 * r * s)) invocations, as the last quarter of
an invocation's time may be too short for another part. An invocation makes at most
p = STREAMS * (1 + ceil(log2(1 + r * s / (STREAMS * SHORTEST)))) parts, as each takes half of the time that is left.
Then the calls of the ports, and messages, are at most

    n * (i * (2 heads + pages of whole spans + 1 page of parts + 2 for each of p parts + 1 message)
         + pages of whole spans + 1 + ceil(i * p / 31) composes) + n / 31 + 10

which `most_calls` computes. A checksum other than CRC32C costs a patch for each part besides. A part of over 8 MiB is
an upload session of one request for each 8 MiB.

Memory: as many pieces as streams, and what a piece takes on its way (a chunk of an upload session is 8 MiB).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from handler.core.checksums import Layout, check_of_parts, is_of_parts
from handler.core.composing import FAN, Joining
from handler.core.errors import Corrupt, Moved, Unavailable
from handler.core.model import ABSENT, GIB, MIB, SMALL, CopyTask, Generation, Original, Replica, Span, Stamp
from handler.core.plan import SPAN, Plan, StagedPart, coverage, cut_name, divide, span_of, span_size
from handler.core.ports import Composer, Source
from handler.core.rate import SHORTEST, RateEstimate
from handler.core.readers import MERGED, composite, mergeable, nothing_of
from handler.core.staging import Job, sweep

LARGE = 128 * MIB
"""Bytes from which on an object is copied in parts."""
HUGE = GIB
"""Bytes from which on its parts are left to other invocations, where there is a queue for them."""
STREAMS = 4
"""Into how many at least the work of one invocation is cut, where that is long enough."""
RESENT = timedelta(days=1)
"""After this time messages of spans that are still missing are taken for lost."""


def most_calls(size: int, rate: float, seconds: float) -> int:
    """Return how many calls of the ports the copy of an object takes at most, and messages; see above.

    Args:
        size: bytes of the object.
        rate: bytes a second of one instance.
        seconds: how long an invocation may work.
    """
    span = min(size, span_size(size, SPAN))
    spans = -(-size // span)
    invocations = math.ceil(span / (0.75 * rate * seconds))
    parts = STREAMS * (1 + math.ceil(math.log2(1 + rate * seconds / (STREAMS * SHORTEST))))
    pages = 1 + spans // 1000
    composes = 1 + math.ceil(invocations * parts / (FAN - 1))
    return spans * (invocations * (4 + pages + 2 * parts) + pages + composes) + spans // (FAN - 1) + 10


class Parts:
    """Copies large objects in parts: side by side in this process, or by messages to others.

    Args:
        threads: copies so many spans at once.
        large: bytes from which on an object is copied in parts.
        huge: bytes from which on its parts become messages at once, rather than when time runs out.
        span: bytes that a message asks for.
        send: hands parts to the queue; None where there is none.
        rate: knows how much time there is, and what can be done in it.
        now: the time of day.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword, with a default each
        self,
        threads: Executor,
        *,
        large: int = LARGE,
        huge: int = HUGE,
        span: int = SPAN,
        send: Callable[[Sequence[CopyTask]], None] | None = None,
        rate: RateEstimate | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._threads = threads
        self._large = large
        self._huge = huge
        self._span = span
        self._send = send
        self._now = now
        self.rate = rate or RateEstimate()

    def take(self, original: Original, *, redelivered: bool = False) -> bool:
        """Whether an object is copied in parts: it is large and verifiable so, or huge, or there is no time to stream.

        Verifiable means by a checksum to which those of the parts add up.

        Args:
            original: the object's state.
            redelivered: whether a delivery before this one did not finish.
        """
        adds_up = mergeable(original) or (not original.checksums and composite(original) in MERGED)
        if original.size >= (self._large if adds_up else self._huge):
            return True
        return original.size > SMALL and not self.rate.allows(original.size, redelivered=redelivered)

    def may_have_taken(self, original: Original) -> bool:
        """Whether an earlier delivery may have copied it in parts."""
        return original.size >= min(self._large, SMALL + 1)

    def job(  # noqa: PLR0913 - the copy's two sides and its states
        self,
        source: Source,
        destination: Composer,
        original: Original,
        work: CopyTask,
        stored: Stamp,
        *,
        redelivered: bool = False,
    ) -> Job:
        """Return the copy of one state of an object, whose bytes are to be stored so.

        Raises:
            Moved: the source is no longer in that state.
        """
        if work.span is None:
            original = source.parts(original)
        plan = Plan.of(work, original, check_of_parts(original), self._span, stored)
        if original.parts_assumed and destination.head(plan.exact).exists:
            original = source.parts(original, exact=True)
            plan = Plan.of(work, original, check_of_parts(original), self._span, stored)
        return Job(
            source=source,
            destination=destination,
            original=original,
            plan=plan,
            rate=self.rate,
            reach=self.rate.reach(redelivered=redelivered),
        )

    def put(
        self,
        job: Job,
        work: CopyTask,
        stamp: Callable[[str], Stamp],
        *,
        expect: Generation,
        has_time: Callable[[], bool],
    ) -> tuple[Replica, str] | None:
        """Bring a copy on: copy what is missing, or hand it over; compose where all is there.

        Args:
            job: the copy.
            work: the span that is this invocation's own, or the whole.
            stamp: what the copy carries, by the name of the check that it passed.
            expect: the destination's generation.
            has_time: False when there is no time for another part.

        Returns:
            The copy and the check that its bytes passed, or None where others are to finish it.

        Raises:
            Moved: as `Job.copy` and `Joining.compose` do.
            Corrupt: the parts are not what S3 holds; what is wrong of them is gone.
            Unavailable: time ran out, and nothing was copied, or there is no queue to hand the rest over. What was
                copied remains.
        """
        chain = self._put_span(job, work, has_time) if work.span else self._put_whole(job, has_time)
        if chain is None:
            return None
        try:
            return Joining(job).compose(chain, stamp, expect, has_time, self._threads.map)
        except Corrupt:
            sweep(job.destination, job.destination.list(job.plan.prefix), has_time)
            self._require_boundaries(job, work)
            raise

    def _put_span(self, job: Job, work: CopyTask, has_time: Callable[[], bool]) -> list[StagedPart] | None:
        """Finish the span of a message; return all spans where that was the last one."""
        span = span_of(work)
        blocks = job.blocks()
        if _overlap(blocks.gaps, span):
            staged = job.of_span(work)
            streams = STREAMS // max(1, len(staged.gaps))
            tasks = [(work, share) for gap in staged.gaps for share in divide(gap, streams, work, shortest=2 * SMALL)]
            pieces, late = self._copy(job, tasks, {**staged.found, **blocks.found}, has_time)
            if pieces and (late or not has_time()) and self._send:
                self._send([work])
                return None
            if late:
                raise Unavailable(f"no time is left for the rest of {span} of {work.name!r}", code="OutOfTime")
            Joining(job).unite(work, _all_of(span, [*staged.chain, *pieces], work.name), has_time)
            blocks = job.blocks()
        return None if blocks.gaps else blocks.chain

    def _put_whole(self, job: Job, has_time: Callable[[], bool]) -> list[StagedPart] | None:
        """Finish the whole, or hand its spans over; return the pieces where they are all there."""
        huge = self._send is not None and job.original.size >= self._huge
        staged = job.blocks() if huge else job.all()
        whole, name = Span(0, job.original.size), job.plan.whole.name
        if staged.gaps and self._send and (huge or staged.marker.exists):
            self._hand_over(job, staged.gaps, staged.marker)
            return None
        chain = self._united(job, staged.chain, has_time)
        if staged.gaps:
            pieces, late = self._copy(job, _missing(job, staged.gaps), staged.found, has_time)
            chain += pieces
            if late and self._send:
                self._hand_over(job, coverage(chain, whole)[1], staged.marker)
                return None
            if late:
                raise Unavailable(f"no time is left for the rest of {name!r}", code="OutOfTime")
            chain = self._united(job, _all_of(whole, chain, name), has_time)
        if is_of_parts(job.check):
            return Joining(job).held(Layout(job.original.parts, 0), chain, self._threads.map)
        return chain

    def _hand_over(self, job: Job, gaps: Sequence[Span], marker: Replica) -> None:
        """Send a message for each span that has gaps, unless that was done before."""
        sent = marker.stamp.custom_time
        if self._send is None or (marker.exists and (sent is None or self._now() - sent < RESENT)):
            return
        self._send([work for work in job.plan.spans if _overlap(gaps, span_of(work))])
        marked = replace(job.plan.stored, custom_time=self._now())
        with suppress(Moved):  # another has sent them too
            job.destination.put(job.plan.marker, nothing_of(job.original), marked, expect=marker.generation)

    def _united(self, job: Job, chain: Sequence[StagedPart], has_time: Callable[[], bool]) -> list[StagedPart]:
        """Compose spans that are whole, where there are more pieces than one compose takes."""
        if len(chain) <= FAN:
            return list(chain)
        starts = [piece.start for piece in chain]
        tasks: list[tuple[CopyTask, Sequence[StagedPart]]] = []
        for work in job.plan.spans:
            span = span_of(work)
            inside = chain[bisect_left(starts, span.start) : bisect_left(starts, span.stop)]
            if len(inside) > 1 and sum(piece.size for piece in inside) == span.size:
                tasks.append((work, inside))
        consumed = {piece.name for _, inside in tasks for piece in inside}
        blocks = self._threads.map(lambda task: Joining(job).unite(task[0], task[1], has_time), tasks)
        return sorted([*(piece for piece in chain if piece.name not in consumed), *blocks])

    def _copy(
        self,
        job: Job,
        tasks: Sequence[tuple[CopyTask, Span]],
        staged: Mapping[str, Replica],
        has_time: Callable[[], bool],
    ) -> tuple[list[StagedPart], bool]:
        """Copy gaps side by side; return what was copied, and whether there was too little time for all of it.

        The first part may begin however slow it was of late. The first failure ends the others. It is raised once none
        is under way: what went on beyond that would put parts in a later invocation, when nobody looks for them.
        """
        failures: list[Exception] = []
        refused: list[int] = []
        begun: list[int] = []
        pieces: list[StagedPart] = []

        def may_begin(size: int) -> bool:
            if failures or not has_time() or (begun and not self.rate.fits(size)):
                refused.append(size)
                return False
            begun.append(size)
            return True

        def copy(lane: Sequence[tuple[CopyTask, Span]]) -> None:
            try:
                for work, gap in lane:
                    pieces.extend(piece for piece in job.copy(work, gap, staged, may_begin) if piece)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)

        lanes = self.rate.streams(len(tasks)) if tasks else 0
        for _ in self._threads.map(copy, [tasks[lane::lanes] for lane in range(lanes)]):
            pass
        if failures:
            raise failures[0]
        return pieces, bool(refused)

    @staticmethod
    def _require_boundaries(job: Job, work: CopyTask) -> None:
        """Make sure that S3's parts lie where they were taken to lie, before the bytes are called wrong.

        Raises:
            Moved: they do not. The next look asks for all of them.
            Unavailable: they do not, and the spans are for the event to cut anew.
        """
        whole = job.plan.whole
        exact = job.source.parts(job.original, exact=True) if whole.assumed else job.original
        if not whole.assumed or not exact.parts or cut_name(whole.check, exact.parts) == whole.plan:
            return
        with suppress(Moved):  # another has found it out too
            job.destination.put(job.plan.exact, nothing_of(job.original), job.plan.stored, expect=ABSENT)
        reason = f"the parts of {job.original.key!r} at S3 are not of one size, as they were taken to be"
        if work.span is None:
            raise Moved(reason)
        raise Unavailable(reason, code="SrcPartsUneven")


def _missing(job: Job, gaps: Sequence[Span]) -> list[tuple[CopyTask, Span]]:
    """Return what is to be copied, span by span; few gaps are cut, so that each stream has one."""
    tasks = [(work, hole) for work in job.plan.spans for hole in _overlap(gaps, span_of(work))]
    streams = STREAMS // len(tasks)
    return [(work, share) for work, hole in tasks for share in divide(hole, streams, work, shortest=2 * SMALL)]


def _overlap(gaps: Sequence[Span], span: Span) -> list[Span]:
    """Return what of the gaps lies in a span."""
    cut = [Span(max(gap.start, span.start), min(gap.stop, span.stop)) for gap in gaps]
    return [gap for gap in cut if gap.start < gap.stop]


def _all_of(span: Span, pieces: Sequence[StagedPart], name: str) -> list[StagedPart]:
    """Return the pieces that cover a span.

    Raises:
        Moved: they do not, as another is just putting some.
    """
    chain, gaps = coverage(pieces, span)
    if gaps:
        raise Moved(f"{name!r}: another is putting the bytes {gaps[0]}")
    return chain
