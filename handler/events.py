"""Reads the changes out of every trigger's envelope. Pure and total: a malformed record becomes a fault, not a crash.

Unknown fields are ignored, as AWS asks of consumers: only the major version, the bucket and the key are required.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote_plus

from handler.core.errors import Malformed
from handler.core.model import KEY_BYTES
from handler.core.task import Change
from handler.messages import copy_task_of

_IGNORED = (
    *("ObjectAcl:", "ObjectAnnotation:", "ObjectRestore:Post", "Replication:"),
    *("Object ACL Updated", "Object Access Tier Changed", "Object Annotation", "Object Restore Initiated"),
)
"""Beginnings of the names of events after which a copy needs no change."""
_DEPTH = 4
"""Envelopes that may be nested: S3 in SNS in SQS is three."""


class Trigger(Enum):
    """What invoked the function, which decides the shape of the answer."""

    DIRECT = auto()
    """An asynchronous invocation, whose answer nobody reads: a failure is an exception."""
    QUEUE = auto()
    """SQS: the answer names the failed messages."""
    BATCH_OPERATIONS = auto()
    """S3 Batch Operations: the answer gives each task its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The names by which SQS knows a message that was received."""

    queue: str
    """The queue's ARN."""
    handle: str
    sent: float | None
    """When the message was sent, in seconds since 1970; None if the queue does not say."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One unit of acknowledgement: an SQS message, a Batch Operations task, or a whole direct event."""

    id: str
    changes: tuple[Change, ...] = ()
    faults: tuple[str, ...] = ()
    """Why some of its records cannot be read."""
    ignored: tuple[str, ...] = ()
    """Its records after which no copy needs a change."""
    raw: str = ""
    """The message as it came, for the dead-letter queue."""
    receives: int = 1
    """How often the queue has delivered it."""
    receipt: Receipt | None = None
    """Names the message when its visibility timeout is changed; None if it came by no queue."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The deliveries of one invocation."""

    trigger: Trigger
    deliveries: tuple[Delivery, ...]


def parse(event: object) -> Batch:
    """Read an invocation's event, of whichever trigger.

    Raises:
        Malformed: the event has no known shape.
    """
    match event:
        case {"tasks": [*tasks], "invocationSchemaVersion": _}:
            return Batch(Trigger.BATCH_OPERATIONS, tuple([_task(task, index) for index, task in enumerate(tasks)]))
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as messages}:
            return Batch(Trigger.QUEUE, tuple([_message(message) for message in messages]))
    reader = _Reader().read(event)
    if reader.faults and not reader.changes and not reader.ignored:
        raise Malformed("; ".join(reader.faults))
    return Batch(Trigger.DIRECT, (reader.delivery("event", _dump(event)),))


def _message(message: object) -> Delivery:
    """Read an SQS message."""
    fields = _object(message)
    attributes = _object(fields.get("attributes"))
    body, queue, handle = fields.get("body"), fields.get("eventSourceARN"), fields.get("receiptHandle")
    receipt, receives = None, _number(attributes.get("ApproximateReceiveCount"))
    if isinstance(queue, str) and isinstance(handle, str):
        sent = _number(attributes.get("SentTimestamp"))
        receipt = Receipt(queue=queue, handle=handle, sent=None if sent is None else sent / 1000)
    raw, id_ = body if isinstance(body, str) else _dump(body), str(fields.get("messageId", ""))
    return _Reader().read(body).delivery(id_, raw, 1 if receives is None else receives, receipt)


def _task(task: object, index: int) -> Delivery:
    """Read a task of S3 Batch Operations. Schema 1.0 names the bucket by ARN, 2.0 by name; the key is form-url-encoded.

    The user guide's sample decodes percent signs only, but the service was seen to send a space as a plus.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
    https://github.com/aws-powertools/powertools-lambda-python/pull/3572
    """
    fields, reader = _object(task), _Reader()
    id_, arn = fields.get("taskId"), fields.get("s3BucketArn")
    bucket = fields.get("s3Bucket") or (arn.rpartition(":")[2] if isinstance(arn, str) else None)
    reader.change(bucket, _unquoted(fields.get("s3Key")), "BatchOperations")
    return reader.delivery(id_ if isinstance(id_, str) else f"task {index}", _dump(task))


class _Reader:
    """Opens envelopes until records are found, and collects what the records say."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.faults: list[str] = []
        self.ignored: list[str] = []

    def delivery(self, id_: str, raw: str, receives: int = 1, receipt: Receipt | None = None) -> Delivery:
        """Return what was read, as one delivery."""
        changes, faults, ignored = tuple(self.changes), tuple(self.faults), tuple(self.ignored)
        return Delivery(id_, changes, faults, ignored, raw, receives, receipt)

    def read(self, payload: Any, depth: int = _DEPTH) -> _Reader:
        """Read an envelope, or JSON text of one; return the reader."""
        if isinstance(payload, str):
            depth -= 1
            try:
                payload = json.loads(payload)
            except (ValueError, RecursionError) as error:
                self.faults.append(f"not JSON: {error}")
                return self
        if depth <= 0:
            self.faults.append("envelopes are nested too deep")
        elif isinstance(payload, str):
            self.faults.append("a JSON string where an event should be")
        else:
            self._envelope(payload, depth)
        return self

    def _envelope(self, payload: Any, depth: int) -> None:
        match payload:
            case {"Type": "Notification", "Message": str(inner)}:
                self.read(inner, depth - 1)
            case {"requestPayload": dict(inner), "requestContext": dict()}:  # a failed invocation, redriven
                self.read(inner, depth - 1)
            case {"replicatePart": dict(part)}:
                task = copy_task_of(part)
                if isinstance(task, str):
                    self.faults.append(task)
                else:
                    self.changes.append(Change(bucket=task.copy.bucket, key=task.copy.key, event="Part", task=task))
            case {"deleteCopy": dict(fields)}:
                before, released = len(self.changes), fields.get("released") is True
                self.change(fields.get("bucket"), fields.get("key"), "DeferredDelete")
                found = self.changes[before:]
                self.changes[before:] = [replace(each, may_delete=True, released=released) for each in found]
            case {"Event": "s3:TestEvent"}:
                self.ignored.append("s3:TestEvent")
            case {"detail-type": str(kind), "detail": dict(detail)}:  # EventBridge: the key is not encoded
                kind = f"{kind}:Copy" if detail.get("reason") == "CopyObject" else kind
                about = _object(detail.get("object"))
                bucket = _object(detail.get("bucket")).get("name")
                self.change(bucket, about.get("key"), kind, payload.get("time"), about.get("size"))
            case {"Records": [_, *_] as records}:
                for record in records:
                    self._record(record, depth)
            case _:
                self.faults.append("of no known shape: neither S3's nor SNS's nor EventBridge's")

    def _record(self, record: Any, depth: int) -> None:
        match record:
            case {"Sns": {"Message": str(message)}}:
                self.read(message, depth - 1)
            case {"s3": dict(s3)}:
                bucket, about = _object(s3.get("bucket")).get("name"), _object(s3.get("object"))
                key, size = _unquoted(about.get("key")), about.get("size")
                version = str(record.get("eventVersion", "2"))
                if version.partition(".")[0] == "2":
                    self.change(bucket, key, record.get("eventName"), record.get("eventTime"), size)
                else:
                    self.faults.append(f"eventVersion {version!r}: only 2.x is understood")
            case _:
                self.faults.append("a record that is not S3's")

    def change(self, bucket: object, key: object, event: object, time: object = None, size: object = None) -> None:
        """Collect the change that a record tells of, or the reason why it tells of none."""
        if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
            self.faults.append("a record without a bucket's name and an object's key")
            return
        if fault := _fault_of(key):
            self.faults.append(fault)
            return
        name = (event if isinstance(event, str) else "").removeprefix("s3:")
        if name.startswith(_IGNORED):
            self.ignored.append(f"{name} changes no copy")
            return
        known = size if type(size) is int and size >= 0 else None
        self.changes.append(Change(bucket=bucket, key=key, event=name, time=_moment(time), size=known))


def _object(value: object) -> dict[str, Any]:
    """Return the JSON object; an empty one in place of any other value."""
    return value if isinstance(value, dict) else {}


def _number(text: object) -> int | None:
    """Return a number that SQS writes as text; None if it is none."""
    digits = str(text or "")[:15]
    return int(digits) if digits.isascii() and digits.isdecimal() else None


def _unquoted(key: object) -> object:
    """Decode a key. Bytes that are not UTF-8 become text that is not Unicode, which `_fault_of` reports."""
    return unquote_plus(key, errors="surrogateescape") if isinstance(key, str) else key


def _fault_of(key: str) -> str:
    """Return why S3 has no such key; "" if it may have one."""
    try:
        is_long = len(key.encode()) > KEY_BYTES
    except UnicodeEncodeError:
        return "a key that is not Unicode text"
    return f"a key of over 1,024 bytes, which S3 does not have: {key[:64]!r}..." if is_long else ""


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _dump(value: object) -> str:
    try:
        return json.dumps(value, default=str)
    except (RecursionError, ValueError):
        return f"<{type(value).__name__} that cannot be written as JSON>"
