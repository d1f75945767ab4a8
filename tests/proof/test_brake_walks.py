"""The brake on deletes over random walks: what is deleted, held and released, whatever SQS's counts say meanwhile."""

from __future__ import annotations

import pytest

from tests.proof.brake_sqs import DELAY
from tests.proof.brake_walks import LIMIT, Walk, walk

SEEDS = range(60)
HOUR = 3600.0


def empty(walked: Walk, deleted: int) -> None:
    """Delete keys within some seconds."""
    for key in walked.chance.sample(walked.keys, deleted):
        walked.remove(key)
        walked.run(until=walked.sqs.now + walked.chance.uniform(0, 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_copy_is_gone_after_a_mass_delete_and_a_release_deletes_what_is_still_absent(seed: int) -> None:
    with walk(seed) as walked:
        empty(walked, 3 * LIMIT)
        walked.run(until=walked.sqs.now + HOUR)
        assert walked.copies.keys() == set(walked.keys), "a copy was deleted"
        assert walked.held() >= 3 * LIMIT
        absent = [key for key in walked.keys if not walked.source.head(key)]
        for key in walked.chance.sample(absent, LIMIT):
            walked.put(key)  # its event may come before or after the release
        sum(walked.console.release())
        walked.run(until=walked.sqs.now + HOUR)
        walked.check_equal()
        assert walked.held() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_deletes_within_the_limit_are_carried_out_after_their_delay(seed: int) -> None:
    with walk(seed) as walked:
        empty(walked, LIMIT // 2)
        walked.run(until=walked.sqs.now + DELAY + 1)
        if all(message.receives < 2 for queue in walked.sqs.queues.values() for message in queue.values()):
            walked.check_equal()
        walked.run(until=walked.sqs.now + HOUR)
        walked.check_equal()
        assert walked.held() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trickle_that_comes_during_and_after_a_release_is_not_held_for_good(seed: int) -> None:
    """SQS may count held deletes for a minute after the last of them is gone."""
    with walk(seed) as walked:
        empty(walked, 2 * LIMIT)
        walked.run(until=walked.sqs.now + HOUR)
        left = [key for key in walked.keys if walked.source.head(key)]
        released = walked.sqs.now + DELAY
        for key in left:
            if walked.sqs.now >= released:
                released = float("inf")
                sum(walked.console.release())
            walked.remove(key)
            walked.run(until=walked.sqs.now + DELAY / 2)
        sum(walked.console.release())
        walked.run(until=walked.sqs.now + HOUR)
        walked.check_equal()
        assert walked.held() == 0
