"""The brake on mass deletes: deletes wait in a queue of their own, and are held there if too many of them come.

A delete that the loop decides on is sent to the deletes queue, whose messages are delivered after a delay. Then it is
carried out, if the source still has no such object. The delay lets the queue's length show how many deletes there are:
if more than the limit wait, or if any are held already, they are moved to the queue of held deletes, from which only an
operator takes them (`handler.tools.deletes`). A delete that is held does no harm, as it is decided on anew afterwards.

The two queues are the only state, so that any instance of the function decides as any other would. SQS counts the first
queue right by the time that a delete is delivered, as the delay is longer than a count lags. It cannot count in time
whether any are held, so one of them is asked for. This comes after the count, because a delete leaves the first queue
only once it is in the second.
"""

from __future__ import annotations

from collections.abc import Sequence

from handler.adapters.queue import MessageQueue
from handler.core.errors import ReplicationError, Unavailable
from handler.events import Delivery
from handler.messages import delete_message


class Brake:
    """Sends deletes to the queue where they wait, and holds those that are too many.

    Args:
        waiting: the deletes queue.
        held: the queue of held deletes.
        limit: deletes that may wait at once.
    """

    def __init__(self, waiting: MessageQueue, held: MessageQueue, limit: int) -> None:
        self._waiting, self._held, self._limit = waiting, held, limit

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
        return self._waiting.count() > self._limit or self._held.has_any()


def _is_subject_to_brake(delivery: Delivery) -> bool:
    return any(change.may_delete and not change.released for change in delivery.changes)
