"""Outages in virtual time, in short; `make prove` has the long ones. See docs/proof.md."""

from __future__ import annotations

import sys

import pytest

from handler.core.breaker import Side
from tests.proof.outage_faults import FAULTS, HOURS, Planted, shown
from tests.proof.outages import RULES, SHORT, Scenario, simulate
from tests.proof.virtual import Deployment, Shape, Trouble, steady


@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_an_outage_needs_no_human(scenario: Scenario) -> None:
    report = simulate(scenario)
    sys.stdout.write(f"{report}\n")
    assert report.faults == []


@pytest.mark.parametrize(
    "planted", [each for each in FAULTS if each.scenario is not HOURS], ids=lambda planted: planted.fault
)
def test_the_simulation_sees_what_would_be_wrong(planted: Planted) -> None:
    assert shown(planted)


def deployment(shape: Shape, *troubles: Trouble, seconds: float) -> Deployment:
    made = Deployment(shape, RULES)
    made.troubles += troubles
    made.expect(steady("originals", 1.0, seconds))
    return made


def test_a_message_of_fourteen_days_is_parked_rather_than_dropped() -> None:
    fortnight = deployment(Shape(instances=2), Trouble(side=Side.DESTINATION), seconds=2)
    fortnight.run(until=15 * 24 * 3600)
    assert [reason for reason, _ in fortnight.queue.parked] == ["Expired"] * 2
    assert (fortnight.queue.dead, fortnight.queue.lost) == ([], [])


def test_one_key_that_always_fails_is_in_no_other_keys_way() -> None:
    bad = Trouble(side=Side.DESTINATION, key="originals-7")
    world = deployment(Shape(instances=2), bad, seconds=600)
    world.run(until=700)
    assert world.differences() == ["originals/originals-7"]
    assert (world.lag_over(61.0), "opened the circuit" in world.log.getvalue()) == (float("inf"), False)


def test_a_bucket_that_is_away_keeps_another_waiting_for_its_probes_only() -> None:
    """A message waits for the rest of its batch, in which a key of the bucket that is away may be a probe."""
    rules = [*RULES, {"ID": "two", "Source": {"Bucket": "others"}, "Destination": {"Bucket": "gs://elsewhere"}}]
    shape = Shape()
    world = Deployment(shape, rules)
    world.troubles.append(Trouble(side=Side.DESTINATION, bucket="gs://copies"))
    both = zip(steady("originals", 2.0, 400), steady("others", 2.0, 400), strict=True)
    world.expect(put for pair in both for put in pair)
    world.run(until=500)
    others = [message for message in world.queue.messages if '"others"' in message.body]
    lags = [(message.settled or 1e9) - message.sent for message in others]
    assert max(lags) < 4 * shape.patience, "until each instance has found out"
    assert max(lags[len(lags) // 2 :]) < shape.patience + 1
    assert all(key.startswith("originals/") for key in world.differences())
