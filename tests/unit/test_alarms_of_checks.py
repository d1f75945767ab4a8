"""When the alarms of the check and the canary ring; `alarms.py` works their own expressions out."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from handler import observe
from tests.unit.alarms import MINUTE, Alarm, Metrics, states
from tests.unit.cfn import Stack

HOUR = 60
RUNS = 10
"""Minutes between two runs of the canary."""
STACK = Stack(CanaryMinutes=str(RUNS))
CHECK, CANARY = ({name: Alarm(STACK.resource(name))} for name in ("CheckAlarm", "CanaryAlarm"))


def changes(alarm: Mapping[str, Alarm], metrics: Metrics, minutes: int) -> list[int]:
    """The minutes at which an alarm changes its state."""
    return states(alarm, metrics, minutes).get(next(iter(alarm)), [])


def send(metrics: Metrics, minute: int, capfd: pytest.CaptureFixture[str]) -> None:
    for line in capfd.readouterr().out.splitlines():
        if "_aws" in line:
            metrics.add_embedded(minute * MINUTE, line)


def checked(faults: Mapping[int, int], hours: int, capfd: pytest.CaptureFixture[str]) -> Metrics:
    """So many faults in each hour; none in those that are not named."""
    metrics = Metrics()
    for hour in range(hours):
        found = [{"subject": "notification"}] * faults.get(hour, 0)
        observe.checked("CrossCloudReplicator", "dummy", found)
        send(metrics, hour * HOUR + 5, capfd)
    return metrics


def test_a_fault_rings_within_the_hour_and_no_longer_than_it_lasts(capfd: pytest.CaptureFixture[str]) -> None:
    assert changes(CHECK, checked({}, 6, capfd), 6 * HOUR) == []
    rings, ends = changes(CHECK, checked({2: 1, 3: 2}, 8, capfd), 8 * HOUR)
    assert 2 * HOUR < rings <= 3 * HOUR + 5
    assert 4 * HOUR < ends <= 6 * HOUR


def ran(failures: Mapping[int, int | None], runs: int, capfd: pytest.CaptureFixture[str]) -> Metrics:
    """So many failed steps in each run; None where it does not take place."""
    metrics = Metrics()
    for number in range(runs):
        failed = failures.get(number, 0)
        if failed is not None:
            details = {f"step {step}": "why" for step in range(failed)}
            observe.canary("CrossCloudReplicator", "dummy", details, {"put": 1.0})
            send(metrics, number * RUNS + 1, capfd)
    return metrics


@pytest.mark.parametrize("failed", [1, None], ids=["fails", "does not run"])
def test_the_canary_rings_after_two_runs(capfd: pytest.CaptureFixture[str], failed: int | None) -> None:
    once = ran({10: failed}, 30, capfd)
    assert [minute for minute in changes(CANARY, once, 30 * RUNS) if minute > 3 * RUNS] == []
    twice = ran({10: failed, 11: failed, 12: failed}, 30, capfd)
    rings, ends = (minute for minute in changes(CANARY, twice, 30 * RUNS) if minute > 3 * RUNS)
    assert 11 * RUNS < rings <= 13 * RUNS
    assert 13 * RUNS <= ends <= 16 * RUNS
