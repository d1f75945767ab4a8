"""The brake on mass deletes: deletes wait in a queue of their own, and are held there if too many of them come.

A delete that the loop decides on is sent to the deletes queue, whose messages are delivered after a delay. Then it is
carried out, if the source still has no such object. The delay lets the queue's length show how many deletes there are:
if more than the limit wait, or if any are held already, they are moved to the queue of held deletes, from which only an
operator takes them (`handler.deletes`). A delete that is held does no harm, as it is decided on anew afterwards.

The two lengths are the only state. SQS counts approximately: an instance that has held the first deletes holds all
others until the count shows that some are held, for `HOLDING` seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handler.adapters.queue import MessageQueue
from handler.errors import ReplicationError, Unavailable
from handler.events import Delivery, delete_message

HOLDING = 120.0
"""Seconds: twice the time after which SQS's counts are right."""


class Brake:
    """Sends deletes to the queue where they wait, and holds those that are too many.

    Args:
        waiting: the deletes queue.
        held: the queue of held deletes.
        limit: deletes that may wait at once.
        clock: seconds since 1970.
    """

    def __init__(self, waiting: MessageQueue, held: MessageQueue, limit: int, clock: Callable[[], float]) -> None:
        self._waiting, self._held, self._limit, self._clock = waiting, held, limit, clock
        self._holding_until = 0.0

    def defer(self, bucket: str, key: str) -> None:
        """Have a key's copies deleted later, unless the source has the key again by then.

        Raises:
            Unavailable: the queue did not take the message.
        """
        self._waiting.send([delete_message(bucket, key)])

    def hold(self, deliveries: Sequence[Delivery]) -> dict[Delivery, list[ReplicationError]]:
        """Move the deletes among the deliveries to the held ones if they are too many.

        Returns:
            The deliveries that must not be worked on, each with what went wrong with it: nothing, if it is held.
        """
        deletes = [delivery for delivery in deliveries if _is_subject_to_brake(delivery)]
        try:
            if not deletes or not self._is_on():
                return {}
            self._held.send([delivery.raw for delivery in deletes])
        except Unavailable as error:
            return {delivery: [error] for delivery in deletes}
        return {delivery: [] for delivery in deletes}

    def _is_on(self) -> bool:
        """Whether deletes are to be held."""
        if self._held.count():
            self._holding_until = 0.0
            return True
        if self._clock() < self._holding_until:
            return True
        if self._waiting.count() <= self._limit:
            return False
        self._holding_until = self._clock() + HOLDING
        return True


def _is_subject_to_brake(delivery: Delivery) -> bool:
    return any(change.may_delete and not change.released for change in delivery.changes)
