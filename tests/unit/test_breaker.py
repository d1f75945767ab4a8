"""Circuits: a side that is down is left alone, a key that fails is not taken for a side, and nothing stays open."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from handler.core.breaker import (
    LONGEST_OPEN,
    OPENS_AFTER,
    REMEMBERED,
    REST,
    CircuitOpen,
    Circuits,
    KeyFails,
    Side,
    Switched,
    is_of_side,
)
from handler.core.errors import Corrupt, Malformed, Moved, NotFound, Refused, ReplicationError, Unavailable

AWAY = Unavailable("GCS says 503", code="Dst503")
GONE = Unavailable("S3 does not answer", code="SrcUnreachable")


@dataclass
class World:
    """Circuits, a clock, and what was tried of which side."""

    now: float = 1_000_000.0
    chance: float = 0.0
    switched: list[Switched] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.circuits = Circuits(clock=lambda: self.now, switched=self.switched.append, chance=lambda: self.chance)

    def work(
        self,
        key: str,
        error: ReplicationError | None = None,
        *,
        source: str = "s",
        to: str = "gs://d",
        takes: float = 0.0,
    ) -> str:
        """Work on a key, and say what came of it."""
        try:
            with self.circuits.attempt(source, to, key):
                self.tried.append(key)
                self.now += takes
                if error:
                    raise error
        except CircuitOpen as fault:
            return f"{fault.side} open"
        except KeyFails:
            return "rests"
        except ReplicationError:
            return "failed"
        return "done"

    def fail(self, count: int = OPENS_AFTER, error: ReplicationError = AWAY) -> None:
        for number in range(count):
            assert self.work(f"failing-{number}", error) == "failed"

    def is_open(self) -> bool:
        return bool(self.switched) and self.switched[-1].opened


@pytest.fixture
def world() -> World:
    return World()


def test_a_side_that_fails_several_keys_is_left_alone(world: World) -> None:
    world.fail()
    world.tried.clear()
    assert [world.work(f"k{number}") for number in range(100)] == ["destination open"] * 100
    assert world.tried == []


def test_one_key_that_always_fails_never_opens_a_circuit(world: World) -> None:
    assert {world.work("bad", AWAY) for _ in range(1000)} == {"failed"}
    assert world.switched == []
    assert world.work("good") == "done"


def test_keys_that_fail_between_others_that_succeed_open_nothing(world: World) -> None:
    for number in range(100):
        assert world.work(f"bad-{number}", AWAY) == "failed"
        assert number % (OPENS_AFTER - 1) or world.work("good") == "done"
    assert world.switched == []


def test_a_key_that_fails_rests_for_three_times_as_long_as_that_took(world: World) -> None:
    assert world.work("bad", AWAY, takes=30.0) == "failed"
    world.now += REST * 30.0 - 1
    assert world.work("bad") == "rests"
    assert world.switched == []
    world.now += 1
    assert world.work("bad", AWAY, takes=10.0) == "failed"
    world.now += REST * 10.0
    assert [world.work("bad"), world.work("bad")] == ["done", "done"]


def test_while_a_key_rests_its_namesakes_and_its_other_copies_do_not(world: World) -> None:
    world.work("bad", AWAY, takes=30.0)
    assert world.work("bad", source="other") == "done"
    assert world.work("bad", to="gs://other") == "done"
    assert world.work("bad") == "rests"


def test_a_key_that_fails_at_its_source_rests_on_every_way(world: World) -> None:
    world.work("bad", GONE, takes=30.0)
    assert world.work("bad", to="gs://other") == "rests"


def test_a_success_by_another_way_ends_the_rest_that_its_source_asked_for(world: World) -> None:
    """It began before the key rested."""
    with world.circuits.attempt("s", "gs://other", "bad"):
        world.work("bad", GONE, takes=30.0)
    assert world.work("bad") == "done"


def test_no_key_rests_once_the_circuit_is_closed_again(world: World) -> None:
    """It was the side and not the keys."""
    for number in range(OPENS_AFTER):
        world.work(f"k{number}", AWAY, takes=1000.0)
    world.now += LONGEST_OPEN
    assert {world.work(f"k{number}") for number in range(OPENS_AFTER)} == {"done"}


def test_the_key_that_failed_longest_ago_is_forgotten_when_there_are_too_many(world: World) -> None:
    for number in range(REMEMBERED + 1):
        world.work(f"bad-{number}", AWAY, takes=3600.0 if number < 2 else 0.0)
        world.work("good")  # so that no circuit opens
    assert (world.work("bad-0"), world.work("bad-1")) == ("done", "rests")


def test_a_clock_that_is_set_back_lets_no_key_rest(world: World) -> None:
    world.work("bad", AWAY, takes=30.0)
    world.now -= 3600
    assert world.work("bad") == "done"


@pytest.mark.parametrize(
    ("error", "side"),
    [
        (Unavailable("x", code="Dst503"), Side.DESTINATION),
        (Unavailable("x", code="DstUnreachable"), Side.DESTINATION),
        (Unavailable("x", code="DstCredentials"), Side.DESTINATION),
        (Unavailable("x", code="DstCredentialsRejected"), Side.DESTINATION),
        (Unavailable("x", code="DstTimeout"), Side.DESTINATION),
        (Unavailable("x", code="SrcUnreachable"), Side.SOURCE),
        (Unavailable("x", code="SrcInternalError"), Side.SOURCE),
        (Unavailable("x", code="SrcServiceUnavailable"), Side.SOURCE),
        (Unavailable("x", code="Src503"), Side.SOURCE),
        (Unavailable("x", code="SrcExpiredToken"), Side.SOURCE),
    ],
)
def test_some_failures_are_of_a_side(error: ReplicationError, side: Side) -> None:
    assert [each for each in Side if is_of_side(error, each)] == [side]


@pytest.mark.parametrize(
    "error",
    [
        *(Unavailable("x", code=code) for code in ("SrcKeyTooHot", "KeyTooHot", "OutOfTime", "InParts", "Unforeseen")),
        *(
            Unavailable("x", code=code)
            for code in ("SrcUnsettled", "SrcSlowDown", "SrcKMS.DisabledException", "Src418")
        ),
        *(Unavailable("x", code=code) for code in ("DstThrottled", "DstConflict", "DstSessionGone", "DstUnknown")),
        *(Unavailable("x", code=code) for code in ("PartsQueueUnavailable", "Dst418", "Unavailable")),
        Refused("x", code="DstPutObjectNotPermitted"),
        NotFound("x", code="DstObjectNotFound"),
        Malformed("x"),
        Moved("x"),
        Corrupt("x"),
    ],
    ids=lambda error: error.code,
)
def test_other_failures_are_of_one_key(world: World, error: ReplicationError) -> None:
    world.fail(OPENS_AFTER * 10, error)
    assert world.switched == []


def test_each_side_and_bucket_has_its_own_circuit(world: World) -> None:
    world.fail()
    assert world.work("k", to="gs://other") == "done"
    assert world.work("k", source="other") == "destination open"
    for number in range(OPENS_AFTER):
        world.work(f"k{number}", GONE, source="third", to="gs://third")
    assert world.work("k", source="third", to="gs://other") == "source open"
    assert world.work("k", source="s", to="gs://other") == "done"


def test_a_probe_that_succeeds_closes_the_circuit(world: World) -> None:
    world.fail()
    world.now += LONGEST_OPEN
    assert world.work("probe") == "done"
    assert [world.work(f"k{number}") for number in range(10)] == ["done"] * 10
    opened, closed = world.switched
    assert (opened.opened, opened.side, opened.bucket, opened.error) == (True, Side.DESTINATION, "gs://d", AWAY)
    assert (closed.opened, closed.bucket, closed.seconds) == (False, "gs://d", LONGEST_OPEN)


def test_a_probe_that_fails_opens_it_anew_for_longer_and_says_nothing(world: World) -> None:
    world.fail()
    pauses: list[float] = []
    for number in range(200):
        began = world.now
        while world.work(f"k{number}", AWAY) == "destination open":
            world.now += 0.5
        pauses.append(world.now - began)
    assert pauses[0] == 1.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_OPEN
    assert len(world.switched) == 1


@pytest.mark.parametrize("outage", [20, 60, 240])
def test_after_an_outage_a_circuit_is_closed_within_a_quarter_of_it(world: World, outage: float) -> None:
    world.fail()
    back = world.now + outage
    while world.now < back:
        world.work("k", AWAY)
        world.now += 0.1
    while world.work("k") != "done":
        world.now += 0.1
    assert world.now <= back + outage / 4 + 0.2


def test_of_many_at_once_one_is_the_probe(world: World) -> None:
    world.fail()
    world.now += LONGEST_OPEN
    entered, leave = threading.Event(), threading.Event()

    def probe() -> None:
        with world.circuits.attempt("s", "gs://d", "probe"):
            entered.set()
            assert leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(probe)
        assert entered.wait(10)
        assert [world.work(f"k{number}") for number in range(10)] == ["destination open"] * 10
        leave.set()
        running.result()
    assert world.work("k") == "done"


@pytest.mark.parametrize("error", [Refused("denied"), GONE, Unavailable("busy", code="DstThrottled")])
def test_a_probe_that_tells_nothing_leaves_the_next_key_to_be_one(world: World, error: ReplicationError) -> None:
    world.fail()
    world.now += LONGEST_OPEN
    assert world.work("first", error) == "failed"
    assert world.work("second") == "done"
    assert not world.is_open()


def test_a_probe_that_raises_what_nobody_foresaw_is_over(world: World) -> None:
    world.fail()
    world.now += LONGEST_OPEN
    with suppress(ZeroDivisionError), world.circuits.attempt("s", "gs://d", "k"):
        raise ZeroDivisionError
    assert world.work("next") == "done"


def test_a_probe_of_one_side_that_the_other_refuses_is_over(world: World) -> None:
    """Both sides are down; the source is due for a probe, the destination not yet."""
    for number in range(OPENS_AFTER):
        world.work(f"k{number}", GONE, to="gs://other")
    world.now += LONGEST_OPEN
    for number in range(OPENS_AFTER):
        world.work(f"k{number}", AWAY, source="other")
    assert world.work("k") == "destination open"
    assert world.work("k", to="gs://other") == "done"


def test_a_clock_that_is_set_back_does_not_keep_a_circuit_open(world: World) -> None:
    world.fail()
    world.now -= 3600
    assert world.work("k") == "done"


def test_a_key_that_was_under_way_when_the_circuit_opened_changes_nothing_by_failing(world: World) -> None:
    with suppress(Unavailable), world.circuits.attempt("s", "gs://d", "slow"):
        world.fail()
        world.now += LONGEST_OPEN - 1
        raise AWAY
    world.now += 1
    assert world.work("k") == "done"


def test_jitter_keeps_instances_apart() -> None:
    def first_probe(chance: float) -> float:
        world = World(chance=chance)
        world.fail()
        began = world.now
        while world.work("k") != "done":
            world.now += 0.05
        return world.now - began

    assert first_probe(0.0) == pytest.approx(1.0, abs=0.06)
    assert first_probe(1.0) == pytest.approx(0.5, abs=0.06)


def test_threads_agree_on_one_opening(world: World) -> None:
    go = threading.Barrier(16)

    def work(number: int) -> str:
        go.wait(10)
        return world.work(f"k{number}", AWAY)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert [change.opened for change in world.switched] == [True]
