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
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from handler import config
from handler.app import Service
from handler.core.batch import Replicator
from handler.core.breaker import Circuits
from handler.tools.deletes import HeldDeletes
from tests.fakes import MemoryDestination, MemorySource
from tests.proof.brake_sqs import LAG, QUEUES, Sqs

LIMIT = 6
RULES = json.dumps([{"ID": "r", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}])


class BrokenError(AssertionError):
    """What must never be."""


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
        service.wiring._clients["sqs"] = self.sqs
        service.wiring._used["sqs"] = self.sqs.now
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
