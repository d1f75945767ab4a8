"""The largest objects end, by slow instances too, and by no more requests than handler/core/parts.py states."""

from __future__ import annotations

import math
import sys

import pytest

from handler.core.attempt import STREAMS
from handler.core.composing import FAN
from handler.core.model import GIB, MIB, TIB
from handler.core.plan import SPAN, span_size
from handler.core.rate import SHORTEST
from handler.wiring import MARGIN
from tests.unit.fanout_simulation import PAGE, TIMEOUT, Report, simulate

MB = 1_000_000
WORKERS = 20


def most_calls(size: int, rate: float, seconds: float) -> int:
    """Return how many calls of the ports the copy of an object takes at most, and messages; see parts.py.

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


def hours(size: int, rate: float) -> float:
    """How long the bytes alone take."""
    return size / (rate * WORKERS) / 3600


def assert_ended(report: Report, size: int, rate: float) -> None:
    sys.stdout.write(f"{size / TIB:g} TiB at {rate / MB:g} MB/s: {report}\n")
    assert report.left == ["k"], "it does not end, or leaves something"
    assert report.failures == report.killed == 0
    calls = sum(report.calls.values()) + report.sent
    # A fast instance copies a span whole, where the formula counts parts of half the time that is left.
    assert calls <= most_calls(size, rate, TIMEOUT - MARGIN) < 8 * calls
    assert min(report.sizes) >= SHORTEST
    assert report.read < 1.05 * size, "much is read again"
    assert report.hours < 1.25 * hours(size, rate) + 0.1


def test_the_largest_object_ends_within_the_requests_that_are_stated() -> None:
    assert_ended(simulate(5 * TIB, 50 * MB, workers=WORKERS), 5 * TIB, 50 * MB)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [10 * MB, 20 * MB, 50 * MB, 200 * MB])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_five_tebibytes_end_at_any_rate(rate: float, *, warm: bool) -> None:
    """`make fanout-scale` does this."""
    assert_ended(simulate(5 * TIB, rate, workers=WORKERS, warm=warm), 5 * TIB, rate)


@pytest.mark.parametrize(("workers", "warm"), [(2, True), (100, False)], ids=["2 warm", "100 cold"])
def test_objects_of_many_sizes_end(workers: int, *, warm: bool) -> None:
    for size, rate in ((GIB, 2 * MB), (3 * GIB + 1, 500 * MB), (9 * GIB + 5 * MIB, 2 * MB), (33 * GIB + 1, 30 * MB)):
        report = simulate(size, rate, workers=workers, warm=warm)
        assert report.left == ["k"]
        assert report.killed == 0
        shorter = sum(part < SHORTEST for part in report.sizes)
        assert shorter <= -(-size // (32 * MIB)), "only a span's rest is shorter"


def test_a_worker_lists_its_own_span_and_whole_spans_only() -> None:
    """Else each invocation lists all parts there are, which are a hundred thousand in the middle."""
    report = simulate(16 * GIB, MB, workers=WORKERS)
    assert report.calls["list"] <= 4 * report.invocations < PAGE * report.invocations
