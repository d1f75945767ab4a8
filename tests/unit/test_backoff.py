"""When a failed message comes back: soon, then ever later, and never so often that SQS gives it up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from handler import backoff
from handler.backoff import (
    AFTERMATH,
    APART,
    LAST_CALL,
    LONGEST,
    MAX_RECEIVES,
    RETENTION,
    SPREAD,
    after_a_crash,
    delay,
    is_last_call,
)
from tests.unit.cfn import PARAMETERS, Stack


def series(chance: Callable[[], float], until: float = RETENTION) -> list[float]:
    """The ages at which a message is received that fails at once, every time."""
    ages, age = [], 0.0
    while age < until:
        ages.append(age)
        age += delay(len(ages), age, chance)
    return ages


def test_the_queues_count_and_keep_as_the_delays_are_reckoned_for_every_timeout() -> None:
    """The one parameter in the arithmetic is the timeout. A timeout without a visibility timeout fails the look-up."""
    for timeout in map(int, PARAMETERS["TimeoutSeconds"]["AllowedValues"]):
        queues = Stack(TimeoutSeconds=str(timeout)).of_type("AWS::SQS::Queue").values()
        consumed = [queue for queue in queues if "RedrivePolicy" in queue]
        assert len(consumed) >= 2
        for queue in consumed:
            assert queue["MessageRetentionPeriod"] == RETENTION
            assert queue["RedrivePolicy"]["maxReceiveCount"] == MAX_RECEIVES
            assert queue["VisibilityTimeout"] >= 6 * timeout
        assert after_a_crash(timeout, lambda: 1.0) < LAST_CALL, "else the queue could drop it before the last call"


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_no_series_of_random_numbers_uses_up_the_receives_before_the_queue_drops_the_message(chance: float) -> None:
    assert len(series(lambda: chance)) < MAX_RECEIVES


def test_the_shortest_delays_there_can_be_leave_receives_over() -> None:
    """The worst case, by arithmetic: no delay falls below 1 s, and jitter takes off a half or `SPREAD` at most."""
    growing = 2 * LONGEST  # seconds of age after which the delay does not grow any more
    while_it_grows = len(series(lambda: 1.0, until=growing))
    afterwards = (RETENTION - growing) / (LONGEST - SPREAD)
    assert while_it_grows + afterwards < MAX_RECEIVES
    assert while_it_grows < 40


def test_a_message_whose_age_is_unknown_backs_off_by_its_receives() -> None:
    assert [delay(receives, None, lambda: 0.0) for receives in (1, 2, 3, 4)] == [2, 4, 8, 16]
    assert delay(11, None, lambda: 0.0) == LONGEST
    assert delay(10**9, None, lambda: 1.0) == LONGEST - SPREAD


def test_an_old_message_that_fails_for_the_first_time_comes_back_in_seconds() -> None:
    assert delay(1, 5 * 24 * 3600, lambda: 0.0) == 2


@pytest.mark.parametrize("outage", [10, 60, 600, 1800])
def test_after_an_outage_nothing_waits_longer_than_half_of_it(outage: int) -> None:
    assert all(delay(receives, outage, lambda: 0.0) <= outage / 2 for receives in range(1, MAX_RECEIVES))


def test_jitter_takes_off_up_to_a_half_and_never_all() -> None:
    tenths = iter(range(11))
    assert {delay(1, 0.0, lambda: next(tenths) / 10) for _ in range(11)} == {1, 2}
    assert (delay(5, None, lambda: 1.0), delay(5, None, lambda: 0.0)) == (16, 32)


def test_the_last_call_leaves_time_for_two_more_tries() -> None:
    assert LAST_CALL > 2 * LONGEST
    assert not is_last_call(None)
    assert not is_last_call(RETENTION - LAST_CALL - 1)
    assert is_last_call(RETENTION - LAST_CALL)


def test_what_crashed_comes_again_once_its_invocation_is_surely_over() -> None:
    assert after_a_crash(120.0, lambda: 0.0) == 120 + AFTERMATH
    assert after_a_crash(120.0, lambda: 1.0) == 120 + AFTERMATH + APART


@pytest.mark.parametrize("timeout", [int(each) for each in PARAMETERS["TimeoutSeconds"]["AllowedValues"]])
def test_what_always_crashes_uses_up_its_receives_before_the_queue_drops_it(timeout: int) -> None:
    assert MAX_RECEIVES * after_a_crash(timeout, lambda: 0.5) < RETENTION


def test_a_delay_is_one_that_sqs_takes() -> None:
    """Whole seconds from 0 to 12 h: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/."""
    assert isinstance(delay(3, 1.0), int)
    assert 0 < backoff.LONGEST < 43_200
