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

tests/unit/test_fanout_scale.py holds it to that. A checksum other than CRC32C costs a patch for each part besides. A
part of over 8 MiB is an upload session of one request for each 8 MiB.

Memory: as many chunks as streams, and what a chunk takes on its way (a chunk of an upload session is 8 MiB).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from handler.core.attempt import Attempt
from handler.core.checksums import MERGED, composite, mergeable
from handler.core.errors import Unavailable
from handler.core.model import GIB, MIB, SMALL, Generation, Original, Replica, Stamp
from handler.core.partials import check_of_parts
from handler.core.plan import SPAN, Plan, overlap
from handler.core.ports import Composer, Source
from handler.core.rate import RateEstimate
from handler.core.staging import Staged, Staging, mark
from handler.core.steps import Step, next_step
from handler.core.task import CopyTask, LargeCopy

LARGE = 128 * MIB
"""Bytes from which on an object is copied in parts."""
HUGE = GIB
"""Bytes from which on its parts are left to other invocations, where there is a queue for them."""
RESENT = timedelta(days=1)
"""After this time messages of spans that are still missing are taken for lost."""


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

    def takes(self, original: Original, *, redelivered: bool = False) -> bool:
        """Return True if an object is copied in parts: large and verifiable so, huge, or too slow for one stream.

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
        """Return True if an earlier delivery may have copied it in parts."""
        return original.size >= min(self._large, SMALL + 1)

    def staging(  # noqa: PLR0913 - the copy's two sides and its states
        self,
        source: Source,
        destination: Composer,
        original: Original,
        work: CopyTask | LargeCopy,
        stored: Stamp,
        *,
        redelivered: bool = False,
        has_time: Callable[[], bool] = lambda: True,
    ) -> Staging:
        """Return what is staged for a copy whose bytes are to be stored so: for one span of it, or for the whole.

        Raises:
            Moved: the source is no longer in that state.
        """
        if isinstance(work, CopyTask):
            plan = Plan(work.copy, (work,), stored)
        else:
            original = source.parts(original)
            plan = Plan.of(work, original, check_of_parts(original), self._span, stored)
            if original.parts_assumed and destination.head(plan.exact).exists:
                original = source.parts(original, exact=True)
                plan = Plan.of(work, original, check_of_parts(original), self._span, stored)
        return Staging(
            source=source,
            destination=destination,
            original=original,
            plan=plan,
            rate=self.rate,
            reach=self.rate.reach(redelivered=redelivered),
            has_time=has_time,
            side_by_side=self._threads.map,
        )

    def copy(
        self, staging: Staging, task: CopyTask | None, stamp: Callable[[str], Stamp], *, expect: Generation
    ) -> tuple[Replica, str] | None:
        """Bring a copy on: copy what is missing, or hand it over; compose where all is there.

        Args:
            staging: the copy.
            task: the span that is this invocation's own; None: the whole.
            stamp: what the copy carries, by the name of the check that it passed.
            expect: the destination's generation.

        Returns:
            The copy and the check that its bytes passed, or None where others are to finish it.

        Raises:
            Moved: as `Staging.copy` and `compose` do.
            Corrupt: the parts are not what S3 holds; what is wrong of them is gone.
            Unavailable: time ran out, and nothing was copied, or there is no queue to hand the rest over. What was
                copied remains.
        """
        has_queue = self._send is not None
        is_huge = has_queue and staging.original.size >= self._huge
        attempt = Attempt(staging, task, has_queue=has_queue, is_huge=is_huge)
        while True:
            match next_step(attempt.now):
                case Step.COPY:
                    attempt.copy()
                case Step.JOIN:
                    attempt.join()
                case Step.COMPOSE:
                    return attempt.compose(stamp, expect)
                case Step.FAIL:
                    missing = f"the rest of {attempt.span} of {staging.plan.copy.name!r}"
                    raise Unavailable(f"no time is left for {missing}", code="OutOfTime")
                case Step.SEND:
                    self._hand_over(staging, task, attempt.staged)
                    return None
                case Step.LEAVE:
                    return None

    def _hand_over(self, staging: Staging, task: CopyTask | None, staged: Staged) -> None:
        """Send the message of a task again, or one for each span that has gaps, unless that was done before."""
        sent, send = staged.marker.stamp.custom_time, self._send or (lambda _: None)
        if task:
            send([task])
        elif not staged.marker.exists or (sent is not None and self._now() - sent >= RESENT):
            send([task for task in staging.plan.tasks if overlap(staged.gaps, task.span)])
            marked = replace(staging.plan.stored, custom_time=self._now())
            mark(staging, staging.plan.marker, marked, staged.marker.generation)
