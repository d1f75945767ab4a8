"""The bandwidth limit, on a clock that only waiting moves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.core.errors import Unavailable
from handler.core.model import MIB, Span
from handler.core.throttle import BURST, ThrottledSource, TokenBucket
from tests.fakes import MemorySource

RATE = MIB


class Clock:
    """Seconds that pass by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def left(self) -> float:
        return 1000.0 - self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket(clock: Clock) -> TokenBucket:
    return TokenBucket(RATE, left=clock.left, clock=clock, sleep=clock.sleep)


def test_no_more_passes_than_the_rate_allows(clock: Clock, bucket: TokenBucket) -> None:
    for _ in range(100):
        bucket.take(RATE // 4)
    assert clock.now - 100 == pytest.approx(25 - BURST)


def test_after_a_pause_no_more_than_a_burst_is_saved_up(clock: Clock, bucket: TokenBucket) -> None:
    clock.now += 500
    began = clock.now
    for _ in range(20):
        bucket.take(RATE)
    assert clock.now - began == pytest.approx(20 - BURST)


def test_the_rate_is_of_all_threads_together(clock: Clock) -> None:
    waits: list[float] = []
    bucket = TokenBucket(RATE, left=clock.left, clock=clock, sleep=waits.append)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bucket.take, [RATE] * 40))
    assert max(waits) == pytest.approx(40 - BURST)
    assert len(waits) == 39, "one that waits less than its share passes too early"


def test_nobody_waits_beyond_the_deadline(clock: Clock, bucket: TokenBucket) -> None:
    with pytest.raises(Unavailable) as caught:
        bucket.take(1000 * RATE)
    assert caught.value.code == "OutOfTime"
    assert clock.now == 100


def test_a_throttled_source_is_the_same_source(clock: Clock, bucket: TokenBucket) -> None:
    source = MemorySource()
    data = bytes(range(256)) * 16384
    source.put("k", data)
    throttled = ThrottledSource(source, bucket)
    original = throttled.head("k")
    assert original == source.head("k")
    assert throttled.head("nothing") is None
    with throttled.open("k", at=original) as body:
        assert (body.original, body.size) == (original, len(data))
        assert len(body.read(4 * MIB)) == MIB, "bytes come in steps"
        assert body.read() == data[MIB:]
    with throttled.open("k", span=Span(3, 9)) as body:
        assert body.read(100) == data[3:9]
    assert clock.now - 100 == pytest.approx(4 - BURST, abs=0.01)
