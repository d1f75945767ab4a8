"""Places where moto differs from the real services in what decides whether, and when, a copy ends right."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto import backends, sqs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3 import notifications
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend
from moto.sqs.models import Message, Queue, SQSBackend

from local_emulator.s3_events import DELETED, MARKED, Event, action, happened, unheard

Deleted = tuple[bool, dict[str, Any]]

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
        (S3Backend, "delete_object", _told_of_versions),
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


def _held(_: Callable[..., None]) -> Callable[..., None]:
    """Send S3's own events, at the end of what was done: moto's lack fields, and come too early and too often."""

    def send_event(_account_id: str, event_name: Any, bucket: FakeBucket, key: Any) -> None:
        happened(Event(str(getattr(event_name, "value", event_name)), bucket, key))

    return send_event


def _released(serve: Callable[..., Any]) -> Callable[..., Any]:
    """Let a request be one action."""

    @functools.wraps(serve)
    def call(app: DomainDispatcherApplication, environ: Any, start_response: Any) -> Any:
        with action():
            return serve(app, environ, start_response)

    return call


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
        happened(Event(MARKED, backend.get_bucket(bucket_name), marker))
        return marker

    return set_delete_marker


def _told_of_versions(delete: Callable[..., Deleted]) -> Callable[..., Deleted]:
    """Send the event of each version, or delete marker, that is deleted by its id; moto knows that of the last only."""

    @functools.wraps(delete)
    def delete_object(
        backend: S3Backend, bucket_name: str, key_name: str, version_id: str | None = None, **rest: Any
    ) -> Deleted:
        if version_id is None:
            return delete(backend, bucket_name, key_name, **rest)
        bucket = backend.get_bucket(bucket_name)
        gone = [each for each in bucket.keys.getlist(key_name, []) if str(each.version_id) == str(version_id)]
        with unheard():
            result = delete(backend, bucket_name, key_name, version_id, **rest)
        for version in gone:
            happened(Event(DELETED, bucket, version, version.version_id))
        return result

    return delete_object


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
