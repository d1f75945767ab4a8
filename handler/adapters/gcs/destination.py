"""Google Cloud Storage as a destination. Every write is conditional; see `Composer`."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import google_crc32c

from handler.adapters.gcs.client import Client
from handler.adapters.gcs.errors import translated
from handler.adapters.gcs.objects import JsonObjects, Resource
from handler.adapters.gcs.resources import (
    HEADERS,
    is_forbidden,
    needs_override,
    replica_of,
    require_storable,
    writable_fields,
)
from handler.adapters.gcs.rewrite import Rewrite
from handler.core.errors import Corrupt, Moved, NotFound
from handler.core.model import ABSENT, SMALL, Generation, Replica, Stamp
from handler.core.ports import Reader
from handler.core.readers import even_chunks

MOST_PARTS = 32
"""Objects that one compose joins at most."""
_NO_CRC32C = "AAAAAA=="
"""As long as any CRC32C."""


class GcsDestination:
    """One bucket; see `Composer`. All threads share it.

    Args:
        client: as `client.connect` makes it.
        bucket: its name.
        objects: makes the requests: `JsonObjects`, or `OfficialObjects` for Google's own client.
        time_left: seconds until the work must be done; retries do not go beyond.
        sleep: waits that many seconds before a request is sent again.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        *,
        objects: type[JsonObjects] = JsonObjects,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._objects = objects(client, bucket, time_left=time_left, sleep=sleep)
        self._time_left = time_left

    def head(self, key: str) -> Replica:
        """Return what is at `key`, by one metadata read."""
        if is_forbidden(key):
            return Replica()
        with suppress(NotFound), translated(f"look at {key!r}"):
            return replica_of(self._objects.get(key))
        return Replica()

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Store the body: up to 8 MiB by one POST, above by a resumable session; see `Destination`.

        Raises:
            Refused: GCS does not allow the name, the size or the metadata, or denies the write.
        """
        require_storable(key, body.size, stamp.recording(_NO_CRC32C))
        if body.size > SMALL:
            return self._put_by_session(key, body, stamp, expect)
        data = b"".join(even_chunks(body, SMALL))  # errors of the reader are not translated
        # GCS stores nothing that differs from these checksums.
        crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        fields = {"name": key, "crc32c": crc32c, **writable_fields(stamp.recording(crc32c))}
        if body.original.md5 and body.size == body.original.size:
            fields["md5Hash"] = body.original.md5
        with translated(f"write {key!r}"):
            return self._verified(self._objects.insert(fields, data, expect), key, len(data), crc32c)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace the metadata by a PATCH, the storage class or KMS key by a rewrite within GCS; see `Destination`."""
        require_storable(key, 0, stamp)
        if expect == ABSENT:
            raise Moved(f"cannot patch {key!r}: there is no object")
        with _absence_is_moved(key), translated(f"patch {key!r}"):
            found = self._objects.get(key, expect)
            replica = replica_of(found)
            if replica.stamp.is_rewritten_for(stamp):
                new = stamp.over(replica.stamp)
                rewrite = Rewrite(self._objects, key, new, expect, size=replica.size, time_left=self._time_left)
                return replica_of(rewrite.run())
            fields = _changes(stamp, replica.stamp)
            override = needs_override(fields.get("retention"), found.get("retention"))
            return replica_of(self._objects.patch(key, fields, expect, override_retention=override))

    def delete(self, key: str, *, expect: Generation) -> None:
        """Delete, if `key` still is at `expect`; see `Destination`."""
        if expect == ABSENT or is_forbidden(key):
            raise Moved(f"cannot delete {key!r}: there is no object")
        with _absence_is_moved(key), translated(f"delete {key!r}"):
            self._objects.delete(key, expect)

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        """Join 1 to 32 objects of the bucket, and delete them for good: soft delete does not keep them."""
        require_storable(key, 0, stamp)
        if not 1 <= len(parts) <= MOST_PARTS:
            raise ValueError(f"cannot compose {key!r} from {len(parts)} parts: GCS takes 1 to {MOST_PARTS}")
        with translated(f"compose {key!r}"):
            return replica_of(self._objects.compose(key, parts, writable_fields(stamp), expect))

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> dict[str, Replica]:
        """Return the objects whose names begin with `prefix`; one request for each 1,000; see `Composer`."""
        return dict(self.scan(prefix, start=start, stop=stop))

    def scan(self, prefix: str, *, start: str = "", stop: str = "") -> Iterator[tuple[str, Replica]]:
        """Yield the objects whose names begin with `prefix`, in the order of their names' UTF-8; memory: one page.

        Args:
            prefix: what the names begin with.
            start: yield only names from this one on.
            stop: yield only names before this one; "" for no end.
        """
        with translated(f"list {prefix!r} in {self._bucket!r}"):
            for page in self._objects.pages(prefix, start, stop):
                for item in page:
                    yield item["name"], replica_of(item)

    def _put_by_session(self, key: str, body: Reader, stamp: Stamp, expect: Generation) -> Replica:
        with translated(f"begin to write {key!r}"):
            session = self._objects.begin({"name": key, **writable_fields(stamp)}, body.size, expect)
        stored, crc32c = session.send(body)
        with translated(f"write {key!r}"):
            return self._verified(stored, key, body.size, crc32c)

    def _verified(self, resource: Resource, key: str, size: int, crc32c: str) -> Replica:
        """Return the stored object; delete its generation if GCS stored other bytes than were sent."""
        stored = replica_of(resource)
        if (stored.size, stored.crc32c) == (size, crc32c):
            return stored
        self.delete(key, expect=stored.generation)
        raise Corrupt(f"{key!r}: GCS stored {stored.size} bytes, crc32c {stored.crc32c}; sent {size}, {crc32c}")


def _changes(stamp: Stamp, old: Stamp) -> dict[str, Any]:
    """Return the fields of a PATCH that replaces `old`. It sets to None each name that is to go."""
    fields: dict[str, Any] = {**dict.fromkeys((*HEADERS, "customTime")), **writable_fields(stamp)}
    fields["metadata"] = {**dict.fromkeys(old.metadata), **stamp.metadata}
    for name in ("storageClass", "kmsKeyName"):
        fields.pop(name, None)
    if old.contexts and stamp.contexts is not None:
        fields["contexts"]["custom"] |= dict.fromkeys(old.contexts.keys() - stamp.contexts.keys())
    if stamp.lock and old.lock and stamp.lock._replace(hold=None).is_met_by(old.lock):
        fields.pop("retention", None)  # a Locked retention cannot be shortened
    return fields


@contextmanager
def _absence_is_moved(key: str) -> Iterator[None]:
    """Raise Moved where an object that was to be changed is gone."""
    try:
        yield
    except NotFound as error:
        raise Moved(f"{key!r} is gone") from error
