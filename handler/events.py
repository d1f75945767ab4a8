"""From every trigger's envelope to changes. Pure, and total: an odd record becomes a reason, never a crash.

Read off the raw JSON and tolerantly, as AWS asks of consumers: the major version counts, unknown fields do not, and
nothing but bucket and key is needed.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote_plus

from handler.core.errors import Malformed
from handler.core.model import KEY_BYTES, Change, CopyTask, S3Part, Span

_UNCHANGING = (
    *("ObjectAcl:", "ObjectAnnotation:", "ObjectRestore:Post", "Replication:"),
    *("Object ACL Updated", "Object Access Tier Changed", "Object Annotation", "Object Restore Initiated"),
)
_DEPTH = 4
"""Envelopes within envelopes: S3 in SNS in SQS is three."""


class Trigger(Enum):
    """What called, which decides how the answer is given."""

    DIRECT = auto()
    """Asynchronously, with nobody to take an answer: a failure is an exception."""
    QUEUE = auto()
    """SQS: the answer names the failed messages."""
    BATCH_OPERATIONS = auto()
    """S3 Batch Operations: the answer gives each task its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What names a message that was received from SQS."""

    queue: str
    """The queue's ARN."""
    handle: str
    sent: float | None
    """When it was sent, in seconds since 1970; None where the queue does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing that is acknowledged or not: an SQS message, a Batch Operations task, or a whole direct event."""

    id: str
    changes: tuple[Change, ...] = ()
    faults: tuple[str, ...] = ()
    """Why parts of it cannot be understood."""
    ignored: tuple[str, ...] = ()
    """What it tells that changes no copy."""
    raw: str = ""
    """What came, for the dead-letter queue."""
    receives: int = 1
    """How often the queue has handed it out."""
    receipt: Receipt | None = None
    """By which the queue is told when it is to come again; None where it came by no queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one invocation brought."""

    trigger: Trigger
    deliveries: tuple[Delivery, ...]


def parse(event: object) -> Batch:
    """Understand an invocation's event, whichever trigger of design section 7 it came by.

    Raises:
        Malformed: it is of no known shape at all.
    """
    match event:
        case {"tasks": [*tasks], "invocationSchemaVersion": _}:
            deliveries = tuple(_task(task, index) for index, task in enumerate(tasks))
            return Batch(trigger=Trigger.BATCH_OPERATIONS, deliveries=deliveries)
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as messages}:
            return Batch(trigger=Trigger.QUEUE, deliveries=tuple(_message(message) for message in messages))
    delivery = _delivery("event", event, raw=_dump(event))
    if delivery.faults and not delivery.changes and not delivery.ignored:
        raise Malformed("; ".join(delivery.faults))
    return Batch(trigger=Trigger.DIRECT, deliveries=(delivery,))


def _message(message: object) -> Delivery:
    fields = message if isinstance(message, dict) else {}
    body = fields.get("body")
    raw = body if isinstance(body, str) else _dump(body)
    receives = _number(_dig(fields, "attributes", "ApproximateReceiveCount"))
    delivery = _delivery(str(fields.get("messageId", "")), body, raw=raw)
    return replace(delivery, receives=1 if receives is None else receives, receipt=_receipt(fields))


def _receipt(fields: Mapping[str, Any]) -> Receipt | None:
    queue, handle = fields.get("eventSourceARN"), fields.get("receiptHandle")
    if not (isinstance(queue, str) and isinstance(handle, str)):
        return None
    sent = _number(_dig(fields, "attributes", "SentTimestamp"))
    return Receipt(queue=queue, handle=handle, sent=None if sent is None else sent / 1000)


def _number(text: object) -> int | None:
    """A number that SQS writes as text, None where it is none."""
    digits = str(text or "")[:15]
    return int(digits) if digits.isascii() and digits.isdecimal() else None


def _delivery(id_: str, payload: object, *, raw: str) -> Delivery:
    found = list(_unwrap(payload))
    return Delivery(
        id=id_,
        changes=tuple(item for item in found if isinstance(item, Change)),
        faults=tuple(item.reason for item in found if isinstance(item, _Fault)),
        ignored=tuple(item.reason for item in found if isinstance(item, _Ignored)),
        raw=raw,
    )


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str


@dataclass(frozen=True, slots=True)
class _Ignored:
    reason: str


_Item = Change | _Fault | _Ignored


def _unwrap(payload: Any, depth: int = _DEPTH) -> Iterator[_Item]:  # noqa: C901, PLR0912 - a table, one row a shape
    """Take off one envelope after the other until records are found."""
    if depth == 0:
        yield _Fault("envelopes are nested too deep")
        return
    match payload:
        case str():
            try:
                inner = json.loads(payload)
            except (ValueError, RecursionError) as error:
                yield _Fault(f"not JSON: {error}")
                return
            if isinstance(inner, str):
                yield _Fault("a JSON string where an event should be")
                return
            yield from _unwrap(inner, depth - 1)
        case {"Type": "Notification", "Message": str(message)}:
            yield from _unwrap(message, depth - 1)
        case {"requestPayload": {**event}, "requestContext": {**_about}}:  # a failed invocation, redriven
            yield from _unwrap(event, depth - 1)
        case {"replicatePart": {**part}}:
            yield _part(part)
        case {"deleteCopy": {**fields}}:
            yield _deferred_delete(fields)
        case {"Event": "s3:TestEvent"}:
            yield _Ignored("s3:TestEvent")
        case {"detail-type": str(kind), "detail": {**detail}}:
            yield _from_eventbridge(kind, detail, payload)
        case {"Records": [*records]} if records:
            for record in records:
                yield from _record(record, depth)
        case _:
            yield _Fault("of no known shape: neither S3's nor SNS's nor EventBridge's")


def _record(record: Any, depth: int) -> Iterator[_Item]:
    match record:
        case {"Sns": {"Message": str(message)}}:
            yield from _unwrap(message, depth - 1)
        case {"s3": {**s3}}:
            yield _from_s3(s3, record)
        case _:
            yield _Fault("a record that is not S3's")


def _from_s3(s3: Any, record: Any) -> _Item:
    version = str(record.get("eventVersion", "2"))
    if version.partition(".")[0] != "2":
        return _Fault(f"eventVersion {version!r}: only 2.x is understood")
    return _change(
        bucket=_dig(s3, "bucket", "name"),
        key=_unquoted(_dig(s3, "object", "key")),
        event=record.get("eventName"),
        time=record.get("eventTime"),
        size=_dig(s3, "object", "size"),
    )


def _from_eventbridge(kind: str, detail: Any, event: Any) -> _Item:
    """EventBridge gives the key as it is, not encoded, and tells a copy only by its reason."""
    return _change(
        bucket=_dig(detail, "bucket", "name"),
        key=_dig(detail, "object", "key"),
        event=f"{kind}:Copy" if detail.get("reason") == "CopyObject" else kind,
        time=event.get("time"),
        size=_dig(detail, "object", "size"),
    )


def _change(*, bucket: object, key: object, event: object, time: object, size: object) -> _Item:
    if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        return _Fault("a record without a bucket's name and an object's key")
    try:
        if len(key.encode()) > KEY_BYTES:
            return _Fault(f"a key of over 1,024 bytes, which S3 does not have: {key[:64]!r}...")
    except UnicodeEncodeError:
        return _Fault("a key that is not Unicode text")
    name = (event if isinstance(event, str) else "").removeprefix("s3:")
    if name.startswith(_UNCHANGING):
        return _Ignored(f"{name} changes no copy")
    return Change(
        bucket=bucket,
        key=key,
        event=name,
        time=_moment(time),
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
    )


def _task(task: object, index: int) -> Delivery:
    """One task of S3 Batch Operations; schema 1.0 names the bucket by ARN, 2.0 by name; the key is form-url-encoded.

    The user guide's sample decodes percent only; the service was seen to send a space as a plus.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
    https://github.com/aws-powertools/powertools-lambda-python/pull/3572
    """
    fields = task if isinstance(task, dict) else {}
    id_ = fields.get("taskId")
    arn = fields.get("s3BucketArn")
    item = _change(
        bucket=fields.get("s3Bucket") or (arn.rpartition(":")[2] if isinstance(arn, str) else None),
        key=_unquoted(fields.get("s3Key")),
        event="BatchOperations",
        time=None,
        size=None,
    )
    return Delivery(
        id=id_ if isinstance(id_, str) else f"task {index}",
        changes=(item,) if isinstance(item, Change) else (),
        faults=(item.reason,) if isinstance(item, _Fault) else (),
        raw=_dump(task),
    )


def _unquoted(key: object) -> object:
    """The key decoded; as undecodable text where it is not UTF-8, which `_change` then names as a fault."""
    if not isinstance(key, str):
        return key
    return unquote_plus(key, errors="surrogateescape")


def delete_message(bucket: str, key: str, *, released: bool = False) -> str:
    """Return the message that asks for the delete of a key's copies; `parse` reads it."""
    return json.dumps({"deleteCopy": {"bucket": bucket, "key": key, "released": released}})


def _deferred_delete(fields: Any) -> _Item:
    item = _change(bucket=fields.get("bucket"), key=fields.get("key"), event="DeferredDelete", time=None, size=None)
    if isinstance(item, Change):
        return replace(item, may_delete=True, released=fields.get("released") is True)
    return item


def part_message(task: CopyTask) -> str:
    """Return the message that hands a part over; `parse` reads it."""
    return json.dumps({"replicatePart": asdict(task)})


def _part(fields: Any) -> _Item:
    try:
        task = CopyTask(**fields)
    except TypeError as error:
        return _Fault(f"not a part of a copy: {error}")
    texts = ("bucket", "key", "destination", "name", "etag", "last_modified", "check", "plan")
    wrong = [name for name in texts if not isinstance(getattr(task, name), str)]
    wrong += [name for name in ("size", "offset") if not _is_size(getattr(task, name))]
    wrong += [] if isinstance(fields["version_id"], str | None) else ["version_id"]
    wrong += [] if isinstance(fields.get("assumed", False), bool) else ["assumed"]
    match fields.get("span"):
        case [start, stop] if _is_size(start) and _is_size(stop) and start < stop:
            task = replace(task, span=Span(start, stop))
        case _:
            wrong.append("span")
    match fields.get("parts", ()):
        case [*parts] if all(_is_s3_part(each) for each in parts):
            task = replace(task, parts=tuple(S3Part(*each) for each in parts))
        case _:
            wrong.append("parts")
    if wrong:
        return _Fault(f"not a part of a copy: wrong {', '.join(wrong)}")
    return Change(bucket=task.bucket, key=task.key, event="Part", task=task)


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_s3_part(value: object) -> bool:
    match value:
        case [size, str()]:
            return _is_size(size) and bool(size)
    return False


def _dig(value: object, *path: str) -> Any:
    """Follow keys down nested objects; None where one is missing or is no object."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


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
