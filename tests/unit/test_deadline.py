"""An object that takes two minutes, by invocations of 20 seconds: every one of them leaves something to go on from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from handler.core.errors import Unavailable
from handler.core.model import MIB, Rule
from handler.core.parts import Parts
from handler.core.rate import RateEstimate
from handler.core.reconcile import reconcile
from handler.core.route import Outcome, Route
from handler.core.task import CopyTask
from handler.core.throttle import ThrottledSource, TokenBucket
from handler.wiring import MARGIN
from tests.fakes import MemoryDestination, MemorySource, crc32c

RULE = Rule(id="r", source="src", destination="gs://dst")
RATE = MIB
SIZE = 120 * MIB
DEADLINE = 20.0

Result = TypeVar("Result")


class Clock:
    """Seconds that pass once all threads that are at work wait: to the moment for which the first of them waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self._seen = threading.local()
        self._waiting: list[float] = []
        self._working = 0
        self._change = threading.Condition()

    def __call__(self) -> float:
        self._seen.now = self.now
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self._seen.now + seconds
        with self._change:
            self._waiting.append(until)
            self._pass()
            self._change.wait_for(lambda: self.now >= until)

    def work(self, more: int) -> None:
        """Let so many more threads be at work, or fewer."""
        with self._change:
            self._working += more
            self._pass()

    def _pass(self) -> None:
        if self._waiting and len(self._waiting) >= self._working:
            self.now = max(self.now, min(self._waiting))
            self._waiting = [until for until in self._waiting if until > self.now]
            self._change.notify_all()


class Workers(ThreadPoolExecutor):
    """Threads by which a clock goes, however unevenly the machine lets them run."""

    def __init__(self, count: int, clock: Clock) -> None:
        super().__init__(count)
        self._count, self._clock = count, clock

    def map(
        self, fn: Callable[..., Result], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Result]:
        tasks = list(zip(*iterables, strict=True))
        left = iter(range(len(tasks) - 1, -1, -1))
        self._clock.work(min(self._count, len(tasks)))

        def one(task: Sequence[Any]) -> Result:
            try:
                return fn(*task)
            finally:
                self._clock.work(-1 if next(left) < self._count else 0)

        return super().map(one, tasks, timeout=timeout, chunksize=chunksize)


class Meter(TokenBucket):
    """Counts what passes."""

    passed = 0

    def take(self, size: int) -> None:
        super().take(size)
        Meter.passed += size


class Desk:
    """Invocations one after the other, each with 20 seconds; `cold` ones know nothing of those before."""

    def __init__(self, *, cold: bool, queue: bool) -> None:
        self.clock = Clock()
        self.source = MemorySource()
        self.destination = MemoryDestination()
        self.data = bytes(MIB - 1) + b"!"
        self.data *= SIZE // MIB
        self.source.put("k", self.data, checksums={"CRC32C": crc32c(self.data)})
        self.ahead: list[CopyTask | None] = [None]
        self.invocations = 0
        self._cold, self._queue = cold, queue
        self._end = 0.0
        self._threads = Workers(4, self.clock)
        self._start()

    def _start(self) -> None:
        left = self._left
        self._source = ThrottledSource(self.source, Meter(RATE, left=left, clock=self.clock, sleep=self.clock.sleep))
        self._parts = Parts(
            self._threads, send=self.ahead.extend if self._queue else None, rate=RateEstimate(left, self.clock)
        )

    def _left(self) -> float:
        return self._end - MARGIN - self.clock()

    def invoke(self) -> Outcome | None:
        """Take the next message; one that fails comes again, after the others."""
        task = self.ahead.pop(0)
        self.invocations += 1
        if self._cold:
            self._start()
        began = self.clock()
        self._end = began + DEADLINE
        route = Route(source=self._source, destination=self.destination, rules=(RULE,), parts=self._parts)
        try:
            return reconcile(route, "k", task=task, redelivered=self.invocations > 1, has_time=lambda: self._left() > 0)
        except Unavailable:
            self.ahead.append(task)
            return None
        finally:
            assert self.clock() < began + DEADLINE, "an invocation was killed in the middle of its work"


@pytest.mark.parametrize("queue", [False, True], ids=["alone", "with a queue"])
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_an_object_that_takes_two_minutes_is_finished_by_invocations_of_20_seconds(*, cold: bool, queue: bool) -> None:
    Meter.passed = 0
    desk = Desk(cold=cold, queue=queue)
    while desk.ahead and desk.invocations < 60:
        desk.invoke()
    assert not desk.ahead, "it does not come to an end"
    assert desk.destination.keys() == {"k"}
    assert desk.destination.data("k") == desk.data
    assert SIZE <= Meter.passed < 2 * SIZE, "much of what was read was read in vain"
