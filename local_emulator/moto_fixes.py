"""Places where moto differs from the real services in what decides whether, and when, a copy ends right."""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from moto import backends, sqs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3 import notifications
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend
from moto.sqs.models import Message, Queue, SQSBackend

DELETE_MARKER_CREATED = "s3:ObjectRemoved:DeleteMarkerCreated"
ETAG_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
COMPLETED, PUT, TAGGED = (
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectCreated:Put",
    "s3:ObjectTagging:Put",
)


class _Event(NamedTuple):
    """An event that moto wants to send."""

    name: str
    send: Callable[[], None]


_blocks: list[None] = []
"""One entry for each `with` block that lasts."""
_blocks_lock = threading.Lock()


@contextmanager
def applied() -> Iterator[None]:
    """Mend moto in this process while the `with` block lasts, once however many such blocks there are."""
    with _blocks_lock:
        _blocks.append(None)
        if len(_blocks) == 1:
            _apply()
    try:
        yield
    finally:
        with _blocks_lock:
            _blocks.pop()
            if not _blocks:
                _restore()


_originals: list[tuple[Any, str, Any]] = []


def _apply() -> None:
    fixes: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (Queue, "delete_message", _serialized),
        (S3Backend, "_set_delete_marker", _announced),
        (S3Backend, "head_object", _whole),
        (notifications, "send_event", _held),
        (DomainDispatcherApplication, "__call__", _released),
        (backends, "list_of_moto_modules", _listed_once),
        (sqs.models, "unix_time_millis", _by_one_call),
        (SQSBackend, "is_message_valid_based_on_retention_period", _by_its_own_age),
    ]
    for owner, name, wrap in fixes:
        _originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, wrap(getattr(owner, name)))


def _restore() -> None:
    while _originals:
        owner, name, original = _originals.pop()
        setattr(owner, name, original)


def _listed_once(list_modules: Callable[[], Iterable[str]]) -> Callable[[], Iterable[str]]:
    """Save time only: moto lists its own folder for every request, one request at a time."""
    modules = tuple(list_modules())
    return lambda: modules


def _by_one_call(_: Callable[[], float]) -> Callable[[], float]:
    """Save time only: moto asks for the time twice for every message of a queue, by way of three dates."""
    return lambda: time.time() * 1000


def _by_its_own_age(_: Callable[..., bool]) -> Callable[..., bool]:
    """Save time only: moto counts the whole queue to learn how long each message that it hands out may be kept."""

    def is_message_valid(backend: SQSBackend, queue_name: str, message: Message) -> bool:
        queue: Any = backend.get_queue(queue_name)
        sent: Any = message.sent_timestamp
        return bool(sent / 1000 + queue.message_retention_period > time.time())

    return is_message_valid


class _Request(threading.local):
    """The S3 events of the request that a thread is serving; None outside of one."""

    events: list[_Event] | None = None


_request = _Request()


def _held(send: Callable[..., None]) -> Callable[..., None]:
    """Keep events until their request is done: moto sends a put's event before the object has its metadata."""

    @functools.wraps(send)
    def send_event(account_id: str, event_name: str, bucket: Any, key: Any) -> None:
        if _request.events is None:
            send(account_id, event_name, bucket, key)
        else:
            name = str(getattr(event_name, "value", event_name))
            _request.events.append(_Event(name, lambda: send(account_id, event_name, bucket, key)))

    return send_event


def _released(serve: Callable[..., Any]) -> Callable[..., Any]:
    """Send a request's events at its end, and only those that S3 sends."""

    @functools.wraps(serve)
    def call(app: DomainDispatcherApplication, environ: Any, start_response: Any) -> Any:
        _request.events = []
        try:
            return serve(app, environ, start_response)
        finally:
            events, _request.events = _request.events, None
            for event in _worth_sending(events):
                event.send()

    return call


def _worth_sending(events: list[_Event]) -> list[_Event]:
    """Leave out what moto adds: a tagging event to each put, and a put event to each completed multipart upload."""
    completed = [event for event in events if event.name == COMPLETED]
    created = [event for event in events if event.name.startswith("s3:ObjectCreated:")]
    chosen = completed or created
    return [event for event in events if event in chosen or not (chosen and event.name in {PUT, TAGGED})]


def _serialized(delete: Callable[[Queue, str], None]) -> Callable[[Queue, str], None]:
    """Delete under the lock of the queue: moto rebuilds its list without it, and drops what arrives meanwhile."""

    @functools.wraps(delete)
    def delete_message(queue: Queue, receipt_handle: str) -> None:
        with queue._messages_lock:  # noqa: SLF001 - the lock under which moto appends
            delete(queue, receipt_handle)

    return delete_message


def _announced(
    mark: Callable[[S3Backend, str, str], FakeDeleteMarker],
) -> Callable[[S3Backend, str, str], FakeDeleteMarker]:
    """Send the event of a new delete marker, which moto does not know."""

    @functools.wraps(mark)
    def set_delete_marker(backend: S3Backend, bucket_name: str, key_name: str) -> FakeDeleteMarker:
        marker = mark(backend, bucket_name, key_name)
        bucket = backend.get_bucket(bucket_name)
        configuration = bucket.notification_configuration
        for target in configuration.queue if configuration else []:
            if target.matches(DELETE_MARKER_CREATED, key_name):
                queue, region = target.arn.split(":")[-1], target.arn.split(":")[3]
                notifications._send_sqs_message(  # noqa: SLF001 - moto has no public one
                    backend.account_id, _event(bucket, marker, target.id), queue, region
                )
        return marker

    return set_delete_marker


def _whole(head: Callable[..., FakeKey | None]) -> Callable[..., FakeKey | None]:
    """Answer a HEAD of a part with the whole object's ETag and time, as S3 does; moto answers with the part's own."""

    @functools.wraps(head)
    def head_object(
        backend: S3Backend, bucket_name: str, key_name: str, version_id: str | None = None, part_number: Any = None
    ) -> FakeKey | None:
        found = head(backend, bucket_name, key_name, version_id=version_id, part_number=part_number)
        whole = head(backend, bucket_name, key_name, version_id=version_id) if part_number else None
        if found is not None and whole is not None and found is not whole:
            # The part itself is changed: once the upload is complete, nothing else asks for its ETag.
            found._etag, found.last_modified = whole.etag.strip('"'), whole.last_modified  # noqa: SLF001 - no setter
        return found

    return head_object


def _event(bucket: FakeBucket, marker: FakeDeleteMarker, configuration: str) -> dict[str, Any]:
    """Return what S3 sends; it has no size, and the ETag of nothing."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": bucket.region_name,
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": DELETE_MARKER_CREATED.removeprefix("s3:"),
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": {"name": bucket.name, "arn": bucket.arn},
            "object": {
                "key": quote_plus(marker.name, safe="/"),
                "eTag": ETAG_OF_NOTHING,
                "versionId": marker.version_id,
                "sequencer": uuid.uuid4().hex[:16].upper(),
            },
        },
    }
    return {"Records": [record]}
