"""The events that S3 sends, made and delivered in place of moto's: one an action, with every field that S3 documents.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from moto.s3 import notifications
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey

VERSION = "2.6"
ETAG_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
COMPLETED = "s3:ObjectCreated:CompleteMultipartUpload"
DELETED = "s3:ObjectRemoved:Delete"
MARKED = "s3:ObjectRemoved:DeleteMarkerCreated"
RESTORED = "s3:ObjectRestore:Completed"
CREATED, TAGGED, RESTORE = "s3:ObjectCreated:", "s3:ObjectTagging:", "s3:ObjectRestore:"
BY_LIFECYCLE = "s3:Lifecycle"
OWNER = "A3NL1KOZZKEXAMPLE"
"""The bucket owner's principal id, as in AWS's examples."""


class Event(NamedTuple):
    """Something that happened to an object."""

    name: str
    bucket: FakeBucket
    key: FakeKey | FakeDeleteMarker | Absent
    """The object, or what it was before it was deleted."""
    version_id: str | None = None
    """Of a version that was deleted by its id."""


Observer = Callable[[str, str], None]
"""Is told the bucket and the key of each change, before its event is sent."""

observers: list[Observer] = []


class _Action(threading.local):
    """The events of the action that a thread is at; None outside of one."""

    events: list[Event] | None = None


_action = _Action()


@contextmanager
def action() -> Iterator[list[Event]]:
    """Keep events until the action is done, and then send those that S3 sends.

    moto sends a put's event before the object has its metadata, a tagging event beside each put, and a put event beside
    each completed multipart upload.
    """
    events: list[Event] = []
    _action.events = events
    try:
        yield events
    finally:
        _action.events = None
        for bucket, key in dict.fromkeys((event.bucket.name, event.key.name) for event in events):
            for observer in observers:
                observer(bucket, key)
        for event in _worth_sending(events):
            _deliver(event)


@contextmanager
def unheard() -> Iterator[None]:
    """Drop the events that come within the `with` block."""
    outer, _action.events = _action.events, []
    try:
        yield
    finally:
        _action.events = outer


def happened(event: Event) -> None:
    """Send an event, at the end of the action that it belongs to."""
    if _action.events is None:
        with action() as events:
            events.append(event)
    else:
        _action.events.append(event)


def _worth_sending(events: list[Event]) -> list[Event]:
    """Leave out what moto adds to what was done."""
    completed = [event for event in events if event.name == COMPLETED]
    created = [event for event in events if event.name.startswith(CREATED)]
    chosen = completed or created
    return [event for event in events if event in chosen or not (chosen and event.name.startswith((CREATED, TAGGED)))]


class Absent(NamedTuple):
    """An object that is not there any more."""

    name: str
    version_id: None = None


def send_again(found: list[Event]) -> None:
    """Send events of several objects in one message, as if they had just happened."""
    configuration = found[0].bucket.notification_configuration
    if not configuration:
        return
    target = configuration.queue[0]
    *_, region, _account, name = target.arn.split(":")
    records = [record(event, target.id) for event in found]
    notifications._send_sqs_message(  # noqa: SLF001 - see below
        found[0].bucket.account_id, {"Records": records}, name, region
    )


def _deliver(event: Event) -> None:
    """Send an event to the queues and topics that the bucket's configuration names."""
    configuration = event.bucket.notification_configuration
    if configuration is None:
        return
    account = event.bucket.account_id
    for send, targets in (
        (notifications._send_sqs_message, configuration.queue),  # noqa: SLF001 - moto has no public one
        (notifications._send_sns_message, configuration.topic),  # noqa: SLF001
    ):
        for target in targets:
            if target.matches(event.name, event.key.name):
                *_, region, _account, name = target.arn.split(":")
                place = name if targets is configuration.queue else target.arn
                send(account, {"Records": [record(event, target.id)]}, place, region)


def record(event: Event, configuration: str) -> dict[str, Any]:
    """Return an event's record, as S3 writes it."""
    lifecycle = event.name.startswith(BY_LIFECYCLE)
    service = lifecycle or event.name == RESTORED
    principal = "s3.amazonaws.com" if lifecycle else f"AmazonCustomer:{OWNER}" if service else f"AWS:{OWNER}"
    found: dict[str, Any] = {
        "eventVersion": VERSION,
        "eventSource": "aws:s3",
        "awsRegion": event.bucket.region_name,
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": event.name.removeprefix("s3:"),
        "userIdentity": {"principalId": principal},
        "requestParameters": {"sourceIPAddress": "s3.amazonaws.com" if service else "127.0.0.1"},
        "responseElements": {
            "x-amz-request-id": uuid.uuid4().hex[:16].upper(),
            "x-amz-id-2": uuid.uuid4().hex + uuid.uuid4().hex,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": {
                "name": event.bucket.name,
                "ownerIdentity": {"principalId": OWNER},
                "arn": event.bucket.arn,
            },
            "object": _object(event),
        },
    }
    if event.name == RESTORED and isinstance(event.key, FakeKey):
        found["glacierEventData"] = {"restoreEventData": _restored(event.key)}
    if event.name == "s3:LifecycleTransition" and isinstance(event.key, FakeKey):
        destination = {"destinationStorageClass": event.key.storage_class}
        found["lifecycleEventData"] = {"transitionEventData": destination}
    return found


def _object(event: Event) -> dict[str, Any]:
    """Return the part that says which object: a delete knows no size, a tagging no sequence."""
    key = event.key
    found: dict[str, Any] = {"key": quote_plus(key.name, safe="/")}
    marked = event.name.endswith(":DeleteMarkerCreated")
    deleted = event.name.endswith(":Delete") and not event.name.startswith(TAGGED)
    tagged = event.name.startswith(TAGGED)
    if isinstance(key, FakeKey) and not (marked or deleted):
        if not tagged:
            found["size"] = key.size
        found["eTag"] = key.etag.strip('"')
    if marked:
        found["eTag"] = ETAG_OF_NOTHING
    version_id = event.version_id or (None if deleted else key.version_id)
    if version_id and version_id != "null":
        found["versionId"] = version_id
    if not tagged:
        found["sequencer"] = next_sequencer()
    return found


def _restored(key: FakeKey) -> dict[str, str]:
    """Return what S3 says of a restored object: until when, and from which class. It expires at midnight."""
    until = key._expiry or datetime.now(UTC)  # noqa: SLF001 - the public one is text
    midnight = (until + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return {
        "lifecycleRestorationExpiryTime": f"{midnight.isoformat(timespec='milliseconds')}Z",
        "lifecycleRestoreStorageClass": str(key.storage_class),
    }


_sequence_lock = threading.Lock()
_sequence = 0


def next_sequencer() -> str:
    """Return a hexadecimal number of 18 digits that is greater than all before: seconds, then nanoseconds."""
    global _sequence  # noqa: PLW0603 - one clock for the process
    with _sequence_lock:
        _sequence = max(_sequence + 1, time.time_ns())
        seconds, nanoseconds = divmod(_sequence, 10**9)
    return f"00{seconds:08X}{nanoseconds:08X}"
