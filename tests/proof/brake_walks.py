"""Random walks through the brake on deletes, with the real handler between fakes of both stores and of SQS.

What SQS promises is all that is relied on: messages come at least once and in any order; an invocation may end before
it is acknowledged; each count is right as of some moment within the last minute. Any instance may take any batch, and
one that starts remembers nothing. The model hands counts out as they were at a random moment of that minute.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from handler import config
from handler.app import Service
from handler.breaker import Circuits
from handler.deletes import HeldDeletes, Queues
from handler.replicator import Replicator
from tests.fakes import MemoryDestination, MemorySource

LAG = 60.0
"""Seconds that a count of SQS's may be old.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html"""
DELAY = 300
"""Seconds that a delete waits, as in template.yaml."""
VISIBILITY = 780.0
START = 1_767_225_600.0
LIMIT = 6
ACCOUNT = "https://sqs.us-east-1.amazonaws.com/123456789012/"
QUEUES = Queues(ACCOUNT + "events", ACCOUNT + "deletes", ACCOUNT + "held")
RULES = json.dumps([{"ID": "r", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}])


class BrokenError(AssertionError):
    """What must never be."""


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
    """SQS in virtual time, as far as boto3's client is used by the handler and by `handler.deletes`."""

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


class Copies(MemoryDestination):
    """The destination. A live key's copy is never deleted."""

    def __init__(self, source: MemorySource) -> None:
        super().__init__()
        self._source = source
        self.wrongly_deleted: list[str] = []

    def delete(self, key: str, **condition: Any) -> None:
        """Delete, and note where that was wrong."""
        super().delete(key, **condition)
        if self._source.head(key) is not None:
            self.wrongly_deleted.append(key)


@dataclass
class Walk:
    """One source, its copies, the queues between them, and what happens there by chance."""

    seed: int
    keys: list[str] = field(default_factory=lambda: [f"k{number}" for number in range(20)])

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - to be repeatable
        self.sqs = Sqs(self.chance)
        self.source = MemorySource()
        self.copies = Copies(self.source)
        self.console = HeldDeletes(cast("Any", self.sqs), QUEUES, clock=lambda: self.sqs.now, wait=0)
        self.sqs.between = self._meanwhile
        self._open = ExitStack()
        self._idle: list[Service] = []
        for key in self.keys:
            self.put(key)
        self.run(until=self.sqs.now + 1)

    def close(self) -> None:
        """End the instances."""
        self._open.close()

    def put(self, key: str) -> None:
        """Put an object at the source, whose event comes."""
        self.source.put(key, key.encode() + self.chance.randbytes(2))
        self._tell("ObjectCreated:Put", key)

    def remove(self, key: str) -> None:
        """Delete an object at the source, whose event comes, perhaps twice."""
        self.source.delete(key)
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            self._tell("ObjectRemoved:Delete", key)

    def _tell(self, event: str, key: str) -> None:
        record = {"eventName": event, "s3": {"bucket": {"name": "dummy"}, "object": {"key": key}}}
        self.sqs.send(QUEUES.events, json.dumps({"Records": [record]}))

    def run(self, until: float) -> None:
        """Let the function work on what comes, batch by batch, each of which takes some time."""
        while (due := self.sqs.next_due(QUEUES.events, QUEUES.deletes)) is not None and due <= until:
            self.sqs.now = max(self.sqs.now, due)
            for url in self.chance.sample([QUEUES.events, QUEUES.deletes], 2):
                self._invoke(url)
            self.sqs.now += self.chance.uniform(0, 0.3)
        self.sqs.now = max(self.sqs.now, until)

    def _invoke(self, url: str) -> None:
        """Hand a batch to any instance; sometimes it is killed before Lambda acknowledges what is done."""
        batch = self.sqs.receive(url, most=self.chance.choice((1, 3, 10)))
        if not batch:
            return
        service = self._instance()
        service.deadline.begin(_Unhurried())
        answer = service.handle({"Records": [message.received(url) for message in batch]})
        self._idle.append(service)
        if self.chance.random() < 0.03:
            return
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        for message in batch:
            if str(message.number) not in failed:
                self.sqs.delete(url, str(message.number))

    def _meanwhile(self) -> None:
        """Let other instances take batches of deletes, now and then; the request that waits meanwhile may be slow."""
        if self.chance.random() < 0.1:
            for _ in range(self.chance.randint(1, 5)):
                self._invoke(QUEUES.deletes)
            self.sqs.now += self.chance.choice((0, LAG / 2, 2 * LAG))

    def _instance(self) -> Service:
        """Return one that was used before and is idle, or start another."""
        if self._idle and self.chance.random() < 0.7:
            return self._idle.pop(self.chance.randrange(len(self._idle)))
        settings = config.load(
            {
                "REPLICATION_RULES": RULES,
                "DELETES_QUEUE_URL": QUEUES.deletes,
                "HELD_DELETES_QUEUE_URL": QUEUES.held,
                "DELETES_LIMIT": str(LIMIT),
                "POWERTOOLS_LOG_LEVEL": "CRITICAL",
            }
        )
        service = self._open.enter_context(closing(Service(settings, clock=lambda: self.sqs.now)))
        service._clients["sqs"] = self.sqs
        service._used["sqs"] = self.sqs.now
        brake = service._brake
        assert brake is not None
        service.replicator.close()
        service.replicator = Replicator(
            settings.by_source,
            source=lambda _bucket, _tags: self.source,
            destination=lambda _location: self.copies,
            concurrency=1,
            circuits=Circuits(clock=lambda: self.sqs.now),
            defer_delete=brake.defer,
        )
        return service

    def held(self) -> int:
        """Return how many messages are held, by no count of SQS's."""
        return len(self.sqs.queues[QUEUES.held])

    def check(self) -> None:
        """See that no live key's copy was deleted."""
        if self.copies.wrongly_deleted:
            raise BrokenError(f"the copies of live keys were deleted: {self.copies.wrongly_deleted}")

    def check_equal(self) -> None:
        """See that both sides have the same, too."""
        self.check()
        live = {key for key in self.keys if self.source.head(key)}
        if self.copies.keys() != live:
            raise BrokenError(f"copies {sorted(self.copies.keys() ^ live)} are not as the source")


class _Unhurried:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@contextmanager
def walk(seed: int) -> Iterator[Walk]:
    """Begin a walk, whose metrics nobody reads."""
    with contextlib.redirect_stdout(io.StringIO()), closing(Walk(seed)) as begun:
        yield begun
        begun.check()
