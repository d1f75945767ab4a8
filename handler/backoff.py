"""When a message that failed comes back: after seconds, then ever later, for as long as its queue keeps it.

Nothing is remembered. SQS counts how often it has handed a message out, and knows when it was sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil

RETENTION = 14 * 24 * 3600
"""Seconds that the queues keep a message, the most that SQS allows; template.yaml sets it."""
MAX_RECEIVES = 1000
"""Receives after which SQS itself moves a message to the dead-letter queue, the most that it allows."""
LONGEST = 1350
"""Seconds of the longest delay."""
SPREAD = 90
"""Seconds that jitter takes off a delay at most. It is narrow because of `MAX_RECEIVES`: no series of random numbers
uses up that many receives within `RETENTION`. Messages that failed together are apart by then anyway."""
AFTERMATH = 30
"""Seconds from the end of an invocation until Lambda has deleted its messages at the latest."""
APART = 300
"""Seconds over which the messages of a batch that crashed come again, so that few of them share a batch once more."""
LAST_CALL = 3600
"""Seconds before the end of `RETENTION` from which on a message that fails is parked: the queue would drop it."""


def delay(receives: int, age: float | None, chance: Callable[[], float] = random.random) -> int:
    """Return the seconds until a message that failed is to be tried again.

    The delay doubles with each receive, and is at most half of the message's age: what failed in an outage of D seconds
    is tried again within D / 2 after it. Up to half of the delay, and up to `SPREAD`, is jitter.

    Args:
        receives: how often the queue has handed the message out, from 1.
        age: seconds since the message was sent; None where that is unknown.
        chance: a random number from 0 to 1.
    """
    longest = min(LONGEST, 2.0 ** min(receives, 32))
    if age is not None:
        longest = min(longest, max(2.0, age / 2))
    return round(longest - chance() * min(longest / 2, SPREAD))


def after_a_crash(left: float, chance: Callable[[], float] = random.random) -> int:
    """Return the seconds until a message is to be tried again if the invocation that has it ends without an answer.

    Each message of the batch comes at a time of its own. One that always crashes is received `MAX_RECEIVES` times
    within `RETENTION`, so that the queue does not drop it: by the longest timeout of 900 s that takes 12 to 13 days.

    Args:
        left: seconds until the invocation is ended.
        chance: a random number from 0 to 1.
    """
    return ceil(left + AFTERMATH + chance() * APART)


def is_last_call(age: float | None) -> bool:
    """Return True if the queue drops the message before it could be tried often again."""
    return age is not None and age >= RETENTION - LAST_CALL
