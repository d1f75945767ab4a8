"""The way of a delete between real servers: one source, its copies, and the queues that it goes through."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handler.tools.deletes import HeldDeletes, Queues
from local_emulator.poller import sqs_event
from tests.functional.rig import Rig, Told, message, record
from tests.functional.test_rules import rule

if TYPE_CHECKING:
    from handler.app import Service

LIMIT = 3
MANY = [f"data/{number}" for number in range(2 * LIMIT + 2)]


class Lane:
    """One source, its copies, and the queues that a delete goes through. Nothing waits: the queues have no delay."""

    def __init__(self, rig: Rig, limit: int = LIMIT) -> None:
        self.rig = rig
        self.source, self.copies = rig.bucket(), rig.copies()
        self.queues = Queues(rig.queue(), rig.queue(), rig.queue())
        self.limit = limit
        self.told: list[Told] = []

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DELETES_QUEUE_URL": self.queues.deletes,
            "HELD_DELETES_QUEUE_URL": self.queues.held,
            "DELETES_LIMIT": str(self.limit),
        }

    @property
    def rule(self) -> dict[str, Any]:
        return rule("all", self.source, f"gs://{self.copies.name}")

    def instance(self, **environment: str) -> Service:
        """Start another instance of the function, which remembers nothing."""
        return self.rig.service(self.rule, **{**self.environment, **environment})

    def put(self, *keys: str) -> None:
        for key in keys:
            self.rig.s3.put_object(Bucket=self.source, Key=key, Body=b"data")
        self.tell("ObjectCreated:Put", *keys)

    def remove(self, *keys: str, told: bool = True) -> None:
        for key in keys:
            self.rig.s3.delete_object(Bucket=self.source, Key=key)
        if told:
            self.tell("ObjectRemoved:Delete", *keys)

    def empty(self) -> None:
        """Have somebody empty the source, and all deletes held."""
        self.put(*MANY)
        self.remove(*MANY)
        self.drain()

    def tell(self, event: str, *keys: str, service: Service | None = None) -> Told:
        """Deliver S3's events of these keys."""
        events = [message(key, record(self.source, key, event)) for key in keys]
        told = self.rig.handle(service or self.instance(), *events)
        self.told.append(told)
        return told

    def waiting(self) -> Sequence[Mapping[str, Any]]:
        """Receive up to ten deletes that wait, as Lambda hands them over."""
        told = self.rig.sqs.get_queue_attributes(QueueUrl=self.queues.deletes, AttributeNames=["QueueArn"])
        batch = self.rig.sqs.receive_message(
            QueueUrl=self.queues.deletes, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages", [])
        records: Sequence[Mapping[str, Any]] = sqs_event(batch, told["Attributes"]["QueueArn"])["Records"]
        return records

    def carry_out(self, batch: Sequence[Mapping[str, Any]], service: Service) -> Told:
        """Invoke the function with what waits, and acknowledge what it does not name as failed."""
        told = self.rig.handle(service, *batch)
        for each in batch:
            if each["messageId"] not in told.failed():
                self.rig.sqs.delete_message(QueueUrl=self.queues.deletes, ReceiptHandle=each["receiptHandle"])
        self.told.append(told)
        return told

    def drain(self, service: Service | None = None) -> None:
        """Carry out what waits, each batch by another instance unless one is given."""
        while batch := self.waiting():
            self.carry_out(batch, service or self.instance())

    def drain_events(self) -> None:
        """Carry out what was released."""
        while batch := self.rig.sqs.receive_message(QueueUrl=self.queues.events, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            told = self.rig.handle(self.instance(), *sqs_event(batch, "arn:aws:sqs:us-east-1:1:events")["Records"])
            assert not told.failed()
            for each in batch:
                self.rig.sqs.delete_message(QueueUrl=self.queues.events, ReceiptHandle=each["ReceiptHandle"])

    def names(self) -> list[str]:
        """The copies there are, as Google's client lists them."""
        return sorted(blob.name for blob in self.copies.list_blobs())

    def held_deletes(self, now: float = math.inf) -> HeldDeletes:
        return HeldDeletes(self.rig.sqs, self.queues, clock=lambda: now, wait=0)

    def held(self) -> int:
        return self.held_deletes().counts()[0]

    def measured(self, name: str) -> float:
        return sum(told.measured(name) for told in self.told)
