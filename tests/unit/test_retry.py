"""The retry policy alone, on a clock that only its own waits and tries move."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from handler.adapters.retry import (
    CONNECT,
    LEAST,
    LONGEST_PAUSE,
    PATIENCE,
    SILENCE,
    TRANSIENT,
    TRIES,
    Attempts,
    Broken,
    answered,
)


@dataclass
class Clock:
    """Seconds since the beginning, and the deadline."""

    deadline: float = 1000.0
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def left(self) -> float:
        return self.deadline - self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def attempts(self, silence: float = SILENCE) -> Attempts:
        return Attempts(self.left, self.sleep, silence=silence, clock=lambda: self.now)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def scripted(clock: Clock, outcomes: Sequence[Answer | Exception], takes: float = 0.0) -> Callable[[float], Answer]:
    rest = iter(outcomes)

    def send(_: float) -> Answer:
        clock.now += takes
        outcome = next(rest)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return send


def test_a_try_bears_five_to_ten_seconds_of_silence() -> None:
    assert 5 <= SILENCE <= 10
    assert Clock().attempts().silence() == SILENCE


@pytest.mark.parametrize("status", sorted(TRANSIENT))
def test_a_transient_status_is_tried_again(status: int) -> None:
    clock = Clock()
    assert answered(scripted(clock, [Answer(status), Answer()]), clock.attempts()).status == 200
    assert len(clock.slept) == 1


def test_a_broken_connection_is_tried_again() -> None:
    clock = Clock()
    assert answered(scripted(clock, [Broken("reset"), Answer()]), clock.attempts()).status == 200


@pytest.mark.parametrize("outcome", [Answer(412), Answer(404), Answer(501), Answer(308)])
def test_any_other_status_is_returned_at_once(outcome: Answer) -> None:
    clock = Clock()
    assert answered(scripted(clock, [outcome]), clock.attempts()) is outcome
    assert clock.slept == []


def test_any_other_error_is_raised_at_once() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="told"):
        answered(scripted(clock, [ValueError("as told")]), clock.attempts())
    assert clock.slept == []


def test_tries_are_bounded_and_the_last_outcome_is_told() -> None:
    clock = Clock()
    troubles = [Answer(503) for _ in range(TRIES)]
    assert answered(scripted(clock, troubles), clock.attempts()) is troubles[-1]
    with pytest.raises(Broken, match="the last"):
        answered(scripted(clock, [*[Answer(503)] * (TRIES - 1), Broken("the last")]), clock.attempts())


def test_pauses_are_drawn_between_nothing_and_ever_more() -> None:
    drawn = []
    for _ in range(200):
        clock = Clock()
        answered(scripted(clock, [Answer(503)] * TRIES), clock.attempts())
        drawn.append(clock.slept + [0.0] * (TRIES - 1 - len(clock.slept)))
    for number, pauses in enumerate(zip(*drawn, strict=True)):
        ceiling = min(2.0**number, LONGEST_PAUSE)
        assert max(pauses) <= ceiling
        assert max(pauses) > 0.7 * ceiling
        assert min(pauses) < 0.3 * ceiling


def test_a_retry_after_is_waited_for() -> None:
    clock = Clock()
    told = Answer(429, {"retry-after": "7"})
    assert answered(scripted(clock, [told, Answer()]), clock.attempts()).status == 200
    assert 7 <= clock.slept[0] <= 8


def test_a_retry_after_may_be_a_date() -> None:
    clock = Clock()
    told = Answer(503, {"retry-after": formatdate(usegmt=True)})
    assert answered(scripted(clock, [told, Answer()]), clock.attempts()).status == 200
    assert clock.slept[0] <= 2


@pytest.mark.parametrize("told", ["31", "Wed, 21 Oct 2105 07:28:00 GMT", "9" * 400])
def test_a_retry_after_that_no_time_is_left_for_ends_the_tries(told: str) -> None:
    clock = Clock()
    assert answered(scripted(clock, [Answer(503, {"retry-after": told})]), clock.attempts()).status == 503
    assert clock.slept == []


@pytest.mark.parametrize("told", ["", "soon", "-1", "1.5", "²", "Wed, 99 Oct"])
def test_a_retry_after_that_says_nothing_is_none(told: str) -> None:
    clock = Clock()
    assert answered(scripted(clock, [Answer(503, {"retry-after": told}), Answer()]), clock.attempts()).status == 200
    assert clock.slept[0] <= 1


def test_nothing_is_tried_again_once_no_time_is_left() -> None:
    clock = Clock(deadline=0.0)
    assert answered(scripted(clock, [Answer(503)]), clock.attempts()).status == 503
    assert clock.slept == []


def test_a_request_is_tried_within_its_patience_however_much_time_is_left() -> None:
    clock = Clock()
    with pytest.raises(Broken):
        answered(scripted(clock, [Broken("silent")] * 2, takes=PATIENCE / 2), clock.attempts())


@pytest.mark.parametrize("left", [-3.0, 0.0, 0.5, 1.0, 3.0, 7.0, 15.0, 29.0, 55.0, 600.0])
def test_the_worst_case_is_the_formula_of_the_docstring(left: float) -> None:
    """A server that takes connections at the last moment, and then falls silent."""
    for seed in range(50):
        random.seed(seed)
        clock = Clock(deadline=left)

        def send(silence: float, clock: Clock = clock) -> Answer:
            clock.now += min(CONNECT, silence) + silence
            raise Broken("silent")

        with pytest.raises(Broken):
            answered(send, clock.attempts())
        assert clock.now <= max(0.0, min(left, PATIENCE)) + 2 * LEAST


def test_what_gets_on_is_tried_without_end_and_without_a_pause() -> None:
    clock = Clock(deadline=1e9)
    attempts = clock.attempts()
    for _ in range(10 * TRIES):
        clock.now += SILENCE
        attempts.got_on()
        assert attempts.again()
    assert clock.slept == []
    assert [attempts.again() for _ in range(TRIES)] == [True] * (TRIES - 1) + [False]


def test_what_gets_on_ends_with_the_time_that_is_left() -> None:
    clock = Clock(deadline=5.0)
    attempts = clock.attempts()
    clock.now = 5.0
    attempts.got_on()
    assert not attempts.again()
