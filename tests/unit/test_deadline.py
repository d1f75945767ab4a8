"""An object that takes two minutes, by invocations of 20 seconds: every one of them leaves something to go on from."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.app import MARGIN
from handler.errors import Unavailable
from handler.model import MIB, Part, Rule
from handler.parts import Parts
from handler.plan import Pace
from handler.reconcile import Outcome, Route, reconcile
from handler.throttle import ThrottledSource, TokenBucket
from tests.fakes import MemoryDestination, MemorySource, crc32c

RULE = Rule(id="r", source="src", destination="gs://dst")
RATE = MIB
SIZE = 120 * MIB
DEADLINE = 20.0


class Clock:
    """Seconds that pass by waiting; who waits together waits once."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        with self._lock:
            self.now = max(self.now, until)


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
        self.ahead: list[Part | None] = [None]
        self.invocations = 0
        self._cold, self._queue = cold, queue
        self._end = 0.0
        self._threads = ThreadPoolExecutor(4)
        self._start()

    def _start(self) -> None:
        left = self._left
        self._source = ThrottledSource(self.source, Meter(RATE, left=left, clock=self.clock, sleep=self.clock.sleep))
        self._parts = Parts(self._threads, send=self.ahead.extend if self._queue else None, pace=Pace(left, self.clock))

    def _left(self) -> float:
        return self._end - MARGIN - self.clock()

    def invoke(self) -> Outcome | None:
        """Take the next message; one that fails comes again, after the others."""
        part = self.ahead.pop(0)
        self.invocations += 1
        if self._cold:
            self._start()
        began = self.clock()
        self._end = began + DEADLINE
        route = Route(source=self._source, destination=self.destination, rules=(RULE,), parts=self._parts)
        try:
            return reconcile(route, "k", part=part, again=self.invocations > 1, go_on=lambda: self._left() > 0)
        except Unavailable:
            self.ahead.append(part)
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
