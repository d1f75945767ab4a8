"""A fleet of function instances that copies one huge object in virtual time: the real loop, and bytes that only count.

Each invocation runs from its beginning to its end before the next one runs, so an invocation may see what another one
did a few seconds later. Lanes of one invocation run one after the other, each by a clock of its own.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import anycrc

from handler.core.errors import Moved, NotFound, ReplicationError
from handler.core.model import Generation, Original, Replica, Rule, Span, Stamp
from handler.core.parts import Parts
from handler.core.ports import Reader
from handler.core.rate import RateEstimate
from handler.core.reconcile import reconcile
from handler.core.route import Route
from handler.core.task import CopyTask
from handler.wiring import MARGIN

RULE = Rule(id="r", source="src", destination="gs://dst")
TIMEOUT = 120.0
VISIBILITY = 780.0
"""Seconds after which what was not acknowledged comes again: template.yaml's, for that timeout."""
RECEIVES = 10
PAGE = 1000
PAGE_SECONDS, REQUEST_SECONDS = 0.25, 0.05
THREADS = 16

Result = TypeVar("Result")


class KilledError(BaseException):
    """The function's timeout: nothing in the handler can catch it."""


class Clock:
    """Seconds of one instance; each lane has its own between a fork and a join."""

    def __init__(self) -> None:
        self.now = self.deadline = 0.0
        self.lanes = 1

    def __call__(self) -> float:
        return self.now

    def left(self) -> float:
        return self.deadline - MARGIN - self.now

    def has_time(self) -> bool:
        return self.left() > 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.deadline:
            self.now = self.deadline
            raise KilledError


class Lanes(Executor):
    """Runs tasks as if side by side, at most so many at once: each begins when a lane is free."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def map(
        self,
        fn: Callable[..., Result],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Result]:
        tasks = list(zip(*iterables, strict=True))
        began, results, killed = self._clock.now, [], False
        self._clock.lanes = max(1, min(THREADS, len(tasks)))
        free = [began] * self._clock.lanes
        for task in tasks:
            self._clock.now = heapq.heappop(free)
            try:
                results.append(fn(*task))
            except KilledError:
                killed = True
            heapq.heappush(free, self._clock.now)
        self._clock.now, self._clock.lanes = max(free), 1
        if killed:
            raise KilledError
        return iter(results)


@cache
def zeros(size: int) -> str:
    """The CRC32C of so many zero bytes."""
    import base64

    model = anycrc.Model("CRC32C")
    value, done, power, length = 0, 0, model.calc(b"\0"), 1
    while length <= size:
        if size & length:
            value, done = model.combine(value, power, length), done + length
        power, length = model.combine(power, power, length), length * 2
    return base64.b64encode(value.to_bytes(4, "big")).decode()


@dataclass
class Bytes:
    """A reader that nobody reads."""

    original: Original
    size: int

    def read(self, size: int = -1, /) -> bytes:
        raise AssertionError("virtual bytes are not read")


class Store:
    """Both sides: one object of zeros, and a bucket; each call takes its time by the clock of who makes it."""

    def __init__(self, original: Original, rate: float) -> None:
        self.original, self.rate = original, rate
        self.calls: Counter[str] = Counter()
        self.clock = Clock()
        self.sizes: list[int] = []
        """Of all parts that were put."""
        self.read = 0
        self._objects: dict[str, Replica] = {}
        self._names: list[str] = []
        self._generations = itertools.count(1)

    def objects(self) -> Mapping[str, Replica]:
        return self._objects

    def source_head(self) -> Original:
        self._request("source.head")
        return self.original

    def head(self, key: str) -> Replica:
        self._request("head")
        return self._objects.get(key, Replica())

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        self._expect(key, expect)
        self.calls["put"] += 1
        self.clock.sleep(REQUEST_SECONDS + body.size * self.clock.lanes / self.rate)
        if body.size:  # a marker has none
            self.sizes.append(body.size)
        self.read += body.size
        self._expect(key, expect)
        return self._store(key, body.size, stamp)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        self._request("patch")
        was = self._expect(key, expect)
        generation = was.generation._replace(metageneration=was.generation.metageneration + 1)
        self._objects[key] = replace(was, generation=generation, stamp=stamp)
        return self._objects[key]

    def delete(self, key: str, *, expect: Generation) -> None:
        self._request("delete")
        self._expect(key, expect)
        self._remove(key)

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        self._request("compose")
        if missing := [part for part in parts if part not in self._objects]:
            raise NotFound(missing[0])
        self._expect(key, expect)
        size = sum(self._objects[part].size for part in parts)
        for part in set(parts) - {key}:
            self._remove(part)
        return self._store(key, size, stamp)

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        first = bisect_left(self._names, max(prefix, start))
        last = bisect_left(self._names, min(prefix + "\U0010ffff", stop or "\U0010ffff"))
        pages = max(1, -(-(last - first) // PAGE))
        self.calls["list"] += pages
        self.clock.sleep(pages * PAGE_SECONDS)
        return {name: self._objects[name] for name in self._names[first:last]}

    def _request(self, call: str) -> None:
        self.calls[call] += 1
        self.clock.sleep(REQUEST_SECONDS)

    def _expect(self, key: str, expect: Generation) -> Replica:
        replica = self._objects.get(key, Replica())
        if replica.generation != expect:
            raise Moved(key)
        return replica

    def _store(self, key: str, size: int, stamp: Stamp) -> Replica:
        if key not in self._objects:
            insort(self._names, key)
        generation = Generation(next(self._generations), 1)
        replica = Replica(generation=generation, size=size, crc32c=zeros(size), stamp=stamp)
        self._objects[key] = replica
        return replica

    def _remove(self, key: str) -> None:
        del self._objects[key]
        del self._names[bisect_left(self._names, key)]


class VirtualSource:
    def __init__(self, store: Store) -> None:
        self._store = store

    def head(self, key: str) -> Original | None:
        return self._store.source_head()

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        return original

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        self._store.calls["open"] += 1
        yield Bytes(self._store.original, span.size if span else self._store.original.size)


@dataclass(order=True)
class Message:
    """Visible from a moment on; a part, or the event."""

    visible: float
    number: int
    task: CopyTask | None = field(compare=False)
    receives: int = field(default=0, compare=False)


@dataclass(kw_only=True)
class Report:
    """What it took."""

    hours: float
    invocations: int
    failures: int
    killed: int
    sent: int
    calls: Mapping[str, int]
    sizes: Sequence[int]
    read: int
    left: Sequence[str]

    def __str__(self) -> str:
        calls = ", ".join(f"{count:,} {name}" for name, count in sorted(self.calls.items()))
        return (
            f"{self.hours:.1f} h, {self.invocations:,} invocations ({self.failures} failed, {self.killed} killed), "
            f"{self.sent:,} messages; {sum(self.calls.values()):,} calls: {calls}; shortest part {min(self.sizes):,}"
        )


def simulate(size: int, rate: float, *, workers: int = 20, most: int = 40_000, warm: bool = True) -> Report:
    """Copy an object of that size, by instances that move so many bytes a second each.

    Args:
        most: invocations after which it is given up.
        warm: instances remember how fast they were.
    """
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    original = Original(key="k", size=size, etag="e", last_modified=moment, checksums={"CRC32C": zeros(size)})
    store, numbers = Store(original, rate), itertools.count()
    queue = [Message(0.0, next(numbers), None)]
    clocks = [Clock() for _ in range(workers)]
    free = [(0.0, worker) for worker in range(workers)]
    fleet: dict[int, Parts] = {}
    sent: list[CopyTask] = []
    invocations = failures = killed = messages = 0
    now = 0.0
    while queue and invocations < most:
        now, worker = heapq.heappop(free)
        message = heapq.heappop(queue)
        clock = clocks[worker]
        began = clock.now = max(now, message.visible)
        clock.deadline, store.clock = began + TIMEOUT, clock
        if worker not in fleet or not warm:
            fleet[worker] = Parts(Lanes(clock), send=sent.extend, rate=RateEstimate(clock.left, clock))
        route = Route(source=VirtualSource(store), destination=store, rules=(RULE,), parts=fleet[worker])
        message.receives += 1
        invocations += 1
        try:
            reconcile(route, "k", redelivered=message.receives > 1, task=message.task, has_time=clock.has_time)
            done = True
        except ReplicationError:
            done = False
            failures += message.task is not None
        except KilledError:
            done = False
            killed += 1
        for part in sent:
            heapq.heappush(queue, Message(clock.now, next(numbers), part))
        messages += len(sent)
        sent.clear()
        if not done and (message.receives < RECEIVES or message.task is None):
            message.visible = began + VISIBILITY
            heapq.heappush(queue, message)
        heapq.heappush(free, (clock.now, worker))
    return Report(
        hours=now / 3600,
        invocations=invocations,
        failures=failures,
        killed=killed,
        sent=messages,
        calls=dict(store.calls),
        sizes=store.sizes,
        read=store.read,
        left=[*store.objects(), *(["messages"] if queue else [])],
    )
