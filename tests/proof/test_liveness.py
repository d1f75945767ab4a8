"""Liveness in short; `make prove` has all scenarios and all planted faults. See docs/proof.md."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from handler.core.breaker import Side
from handler.core.model import Generation, Rule, Stamp
from tests.fakes import reader as body_of
from tests.proof.interleaved import Interleaved
from tests.proof.liveness_faults import PLANTED, Planted
from tests.proof.liveness_load import RULES
from tests.proof.liveness_run import simulate
from tests.proof.liveness_scenarios import SHORT, Scenario
from tests.proof.reader import NUMBER, Change, Reader, Watched
from tests.proof.virtual import Shape, Trouble

QUICK = {"a key of a batch fails", "a key crashes its batch"}


@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_a_fault_that_lasts_is_in_nothing_elses_way(scenario: Scenario) -> None:
    report = simulate(scenario)
    sys.stdout.write(f"{report}\n")
    assert report.broken == {}


@pytest.mark.parametrize("planted", [each for each in PLANTED if each.scenario in QUICK], ids=lambda each: each.fault)
def test_a_planted_fault_is_caught(planted: Planted) -> None:
    assert planted.invariant in planted.simulate().broken


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = Scenario(name="again", load=10.0, seconds=60.0, fault=Trouble(side=Side.SOURCE, bucket="both"))
    first, second = simulate(scenario), simulate(scenario)
    assert (first.healthy, first.after, first.receives) == (second.healthy, second.after, second.receives)


@pytest.mark.parametrize("shape", [Shape(), Shape(timeout=900.0, visibility=5460.0)], ids=["120 s", "900 s"])
def test_what_crashes_the_function_for_ever_is_dead_lettered_before_the_queue_drops_it(shape: Shape) -> None:
    deployment = Interleaved(shape, RULES)
    deployment.troubles.append(Trouble(side=Side.SOURCE, bucket="first", key="poison", kind="hang"))
    deployment.put("first", "poison", b"data")
    deployment.run(until=shape.retention + 1)
    deployment.close()
    assert (len(deployment.queue.dead), deployment.queue.lost) == (1, [])
    assert deployment.crashes == shape.max_receives


# --- the reader


class Seen:
    """A copy, a reader who looks at it, and a source whose changes are told."""

    def __init__(self) -> None:
        self.now = 0.0
        rule = Rule(id="rule", source="originals", destination="gs://copies")
        self.reader = Reader([rule], lambda: self.now)
        self.copies = Watched("gs://copies", self.reader)

    def source(self, number: int, data: bytes | None) -> None:
        self.reader.changed("originals", "key", Change(number, data))

    def put(self, number: int, data: bytes) -> None:
        stamp = Stamp(metadata={NUMBER: str(number)}, custom_time=datetime(2026, 1, 1, tzinfo=UTC))
        self.copies.put("key", body_of(data), stamp, expect=self.generation)

    def delete(self) -> None:
        self.copies.delete("key", expect=self.generation)

    @property
    def generation(self) -> Generation:
        return self.copies.head("key").generation


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_reader_takes_newer_states_and_deletes_for_steps_forward(seen: Seen) -> None:
    for number, data in enumerate((b"1", b"2", None, b"4"), 1):
        seen.source(number, data)
    seen.put(1, b"1")
    seen.put(2, b"2")
    seen.put(2, b"2")
    seen.delete()
    seen.put(4, b"4")
    assert (seen.reader.steps_back, seen.reader.came_back, seen.reader.unequal()) == ([], [], [])


def test_a_reader_sees_an_older_state_over_a_newer_one(seen: Seen) -> None:
    seen.source(1, b"1")
    seen.source(2, b"2")
    seen.put(2, b"2")
    seen.put(1, b"1")
    assert seen.reader.steps_back == ["0.00 s: gs://copies/key: change 1 over change 2"]


def test_a_reader_sees_a_delete_of_what_the_source_has(seen: Seen) -> None:
    seen.source(1, None)
    seen.source(2, b"2")
    seen.put(2, b"2")
    seen.delete()
    assert seen.reader.steps_back == ["0.00 s: gs://copies/key: a delete of change 2, which the source has not deleted"]


def test_a_reader_sees_bytes_of_another_state(seen: Seen) -> None:
    seen.source(1, b"1")
    seen.put(1, b"2")
    assert seen.reader.steps_back == ["0.00 s: gs://copies/key: bytes that are not of change 1"]


def test_a_reader_times_a_deleted_state_that_comes_back(seen: Seen) -> None:
    seen.source(1, b"1")
    seen.source(2, None)
    seen.put(1, b"1")
    seen.delete()
    seen.put(1, b"1")
    assert len(seen.reader.unequal()) == 0
    seen.now = 3.0
    seen.delete()
    assert (seen.reader.steps_back, seen.reader.came_back) == ([], [3.0])
