"""What becomes of a message that failed: it is given up, for a reason, or comes again, at a time. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from handler import backoff
from handler.adapters.queue import Delay
from handler.core.errors import Corrupt, Refused, ReplicationError, Unavailable
from handler.events import Delivery

CORRUPT_RECEIVES = 10
"""Receives after which an object that is still corrupt is parked: each try reads all of it, and sends it to Google."""

Failed = tuple[Delivery, Sequence[ReplicationError]]
"""A delivery, and all that went wrong with it, what is worth another try first."""


def final_reason(delivery: Delivery, errors: Sequence[ReplicationError], now: float) -> ReplicationError | None:
    """Return why a delivery is given up; None where it is to be tried again.

    Args:
        delivery: what failed.
        errors: why, what is worth another try first; not empty.
        now: seconds since 1970.
    """
    error = errors[0]
    if not error.retryable:
        return error
    if delivery.receives >= CORRUPT_RECEIVES and all(isinstance(each, Corrupt) for each in errors):
        return error
    if not backoff.is_last_call(_age(delivery, now)):
        return None
    tried = f"tried {delivery.receives} times, and the queue drops it at the age of 14 days"
    return Refused(f"{tried}; the last failure: {error.code}: {error}", code="Expired")


def delays(failed: Iterable[Failed], now: float) -> Iterator[Delay]:
    """Yield when each message that failed is to come again: by `backoff`, or sooner where its work can go on sooner."""
    for delivery, errors in failed:
        if delivery.receipt is None:
            continue
        seconds = backoff.delay(delivery.receives, _age(delivery, now))
        waits = [error.wait for error in errors if isinstance(error, Unavailable) and error.wait is not None]
        if len(waits) == len(errors):
            seconds = min(seconds, math.ceil(max(waits)))
        yield Delay(delivery.receipt.queue, delivery.receipt.handle, seconds)


def set_apart(deliveries: Iterable[Delivery], left: float) -> Iterator[Delay]:
    """Yield when each redelivered message is to come again if its invocation ends without an answer, one by one.

    Args:
        deliveries: those of the invocation that begins.
        left: seconds until it is ended.
    """
    for delivery in deliveries:
        if delivery.receipt is not None and delivery.receives > 1:
            yield Delay(delivery.receipt.queue, delivery.receipt.handle, backoff.after_a_crash(left))


def _age(delivery: Delivery, now: float) -> float | None:
    """Seconds since a message was sent; None where that is unknown."""
    sent = delivery.receipt.sent if delivery.receipt else None
    return None if sent is None else max(0.0, now - sent)
