"""SQS for the walks through the brake: virtual time, messages in any order, and counts that are up to a minute old."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handler.tools.deletes import Queues

LAG = 60.0
"""Seconds that a count of SQS's may be old.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html"""
DELAY = 300
"""Seconds that a delete waits, as in template.yaml."""
VISIBILITY = 780.0
START = 1_767_225_600.0
ACCOUNT = "https://sqs.us-east-1.amazonaws.com/123456789012/"
QUEUES = Queues(ACCOUNT + "events", ACCOUNT + "deletes", ACCOUNT + "held")


@dataclass
class Message:
    """One message, and when it may be received."""

    number: int
    body: str
    sent: float
    visible_at: float
    receives: int = 0

    def received(self, queue: str) -> dict[str, Any]:
        """Return it as Lambda hands it over."""
        return {
            "messageId": str(self.number),
            "receiptHandle": str(self.number),
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue.rpartition('/')[2]}",
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": str(self.receives),
                "SentTimestamp": str(round(self.sent * 1000)),
            },
        }


class Sqs:
    """SQS in virtual time, as far as boto3's client is used by the handler and by `handler.tools.deletes`."""

    def __init__(self, chance: random.Random) -> None:
        self.now = START
        self.chance = chance
        self.queues: dict[str, dict[str, Message]] = {url: {} for url in QUEUES}
        self._counts: dict[str, list[tuple[float, int]]] = {url: [(0.0, 0)] for url in QUEUES}
        self._sent = 0
        self.between: Callable[[], None] = lambda: None
        """What others do before a request of the brake's is answered."""

    def send(self, url: str, body: str) -> None:
        """Take a message; those of the deletes queue are delivered after its delay."""
        self._sent += 1
        delay = DELAY if url == QUEUES.deletes else 0
        self.queues[url][str(self._sent)] = Message(self._sent, body, self.now, self.now + delay)
        self._note(url)

    def delete(self, url: str, handle: str) -> None:
        """Forget a message."""
        self.queues[url].pop(handle, None)
        self._note(url)

    def _note(self, url: str) -> None:
        self._counts[url].append((self.now, len(self.queues[url])))

    def receive(self, url: str, visibility: float = VISIBILITY, most: int = 10) -> list[Message]:
        """Hand out some of the messages that are visible, in any order."""
        due = [message for message in self.queues[url].values() if message.visible_at <= self.now]
        batch = self.chance.sample(due, min(most, len(due)))
        for message in batch:
            message.receives += 1
            message.visible_at = self.now + visibility
        return batch

    def next_due(self, *urls: str) -> float | None:
        """Return when the next message can be received."""
        return min((each.visible_at for url in urls for each in self.queues[url].values()), default=None)

    # --- as boto3's client

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        assert 1 <= len(Entries) <= 10
        for entry in Entries:
            self.send(QueueUrl, entry["MessageBody"])
        return {}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: Sequence[str]) -> Any:  # noqa: N803 - boto3's
        """See SQS: the counts add up to what there was at one moment of the last minute."""
        self.between()
        moment = self.now - self.chance.uniform(0, LAG)
        counted = [count for at, count in self._counts[QueueUrl] if at <= moment][-1]
        told = dict.fromkeys(AttributeNames, 0) | {"ApproximateNumberOfMessages": counted, "DelaySeconds": DELAY}
        return {"Attributes": {name: str(told[name]) for name in AttributeNames}}

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        for entry in Entries:
            self.queues[QueueUrl][entry["ReceiptHandle"]].visible_at = self.now + entry["VisibilityTimeout"]
        return {}

    def receive_message(self, *, QueueUrl: str, VisibilityTimeout: int, **_rest: object) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        self.between()
        batch = [message.received(QueueUrl) for message in self.receive(QueueUrl, VisibilityTimeout)]
        return {
            "Messages": [
                {"Body": each["body"], "ReceiptHandle": each["receiptHandle"], "Attributes": each["attributes"]}
                for each in batch
            ]
        }

    def delete_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        for entry in Entries:
            self.delete(QueueUrl, entry["ReceiptHandle"])

    def close(self) -> None:
        """Be a client."""
