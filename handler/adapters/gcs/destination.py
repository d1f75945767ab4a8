"""Google Cloud Storage as a destination, by its JSON API. Every write is conditional; see `Composer`.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import google_crc32c

from handler.adapters.gcs.client import Client
from handler.adapters.gcs.errors import of_response, translated
from handler.adapters.gcs.resources import (
    HEADERS,
    LISTED,
    boundary,
    encoded,
    forbidden,
    multipart,
    overrides,
    replica_of,
    require_storable,
    resource_of,
)
from handler.adapters.gcs.rewrite import Rewrite
from handler.adapters.gcs.upload import ResumableSession
from handler.adapters.transport import Answer
from handler.core.errors import Corrupt, Moved, NotFound
from handler.core.model import ABSENT, SMALL, Generation, Headers, Replica, Stamp
from handler.core.ports import Reader
from handler.core.readers import pieces

MOST_PARTS = 32
"""What one compose takes."""

_NO_CRC32C = "AAAAAA=="
"""As long as any."""
_JSON = {"Content-Type": "application/json"}
_REWRITE_SILENCE = 30.0
"""Seconds: Google advises to give a rewrite at least as many, as it copies before it answers."""


class GcsDestination:
    """One bucket; see `Composer`. All threads share it.

    Args:
        client: as `gcs_client.connect` makes it.
        bucket: its name.
        time_left: seconds until the work must be done; retries do not go beyond.
        sleep: waits that many seconds before a request is sent again.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        *,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"
        self._time_left = time_left
        self._sleep = sleep

    def head(self, key: str) -> Replica:
        """Return what is at `key`, by one metadata read."""
        if forbidden(key):
            return Replica()
        try:
            with translated(what := f"look at {key!r}"):
                return replica_of(self._call(what, "GET", self._at(key)))
        except NotFound:
            return Replica()

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Store the body: up to 8 MiB by one POST, above by a resumable session; see `Destination`.

        Raises:
            Refused: GCS has no room for such a name, size or metadata (design section 4), besides what it denies.
        """
        require_storable(key, body.size, stamp.recording(_NO_CRC32C))
        if body.size > SMALL:
            return self._put_in_chunks(key, body, stamp, expect)
        data = b"".join(pieces(body, SMALL))  # what the reader raises stays as it is
        md5 = body.original.md5 if body.size == body.original.size else None
        crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        # The checksums go along: GCS stores nothing that differs from what left S3.
        described = resource_of(stamp.recording(crc32c))
        resource = {"name": key, "crc32c": crc32c, **described, **({"md5Hash": md5} if md5 else {})}
        with translated(what := f"write {key!r}"):
            answer = self._insert(what, resource, stamp, data, expect)
            return self._verified(replica_of(answer.json()), key, len(data), crc32c)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace the metadata by one PATCH; a change of storage class is a rewrite within GCS; see `Destination`."""
        require_storable(key, 0, stamp)
        if expect == ABSENT:
            raise Moved(f"{key!r}: nothing to patch")
        at = f"{self._at(key)}?{_held(expect)}"
        with _absence_is_moved(key), translated(what := f"patch {key!r}"):
            replica = replica_of(found := self._call(what, "GET", at))
            old = replica.stamp  # which names a PATCH must null
            if old.is_rewritten_for(stamp):
                return self._rewritten(key, replica.size, stamp.over(old), expect)
            gone = dict.fromkeys((*HEADERS, "customTime"))
            metadata = {**dict.fromkeys(old.metadata), **stamp.metadata}
            resource = {**gone, **resource_of(stamp), "metadata": metadata}
            resource.pop("storageClass", None)
            if old.contexts and stamp.contexts is not None:
                resource["contexts"]["custom"] |= {name: None for name in old.contexts if name not in stamp.contexts}
            if stamp.lock and old.lock and stamp.lock._replace(hold=None).is_met_by(old.lock):
                resource.pop("retention", None)  # it stays: nothing can shorten one that is locked
            if overrides(resource.get("retention"), found.get("retention")):
                at += "&overrideUnlockedRetention=true"
            return replica_of(self._call(what, "PATCH", at, resource))

    def delete(self, key: str, *, expect: Generation) -> None:
        """Delete, if `key` still is at `expect`; see `Destination`."""
        if expect == ABSENT or forbidden(key):
            raise Moved(f"{key!r}: nothing to delete")
        with _absence_is_moved(key), translated(what := f"delete {key!r}"):
            self._ask(what, "DELETE", f"{self._at(key)}?{_held(expect)}")

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        """Join 1 to 32 objects of the bucket, which go for good: soft delete does not keep them; see `Composer`."""
        require_storable(key, 0, stamp)
        if not 1 <= len(parts) <= MOST_PARTS:
            raise ValueError(f"{len(parts)} parts: GCS composes 1 to {MOST_PARTS}")
        order = {
            "sourceObjects": [{"name": part} for part in parts],
            "destination": resource_of(stamp),
            "deleteSourceObjects": True,
        }
        with translated(what := f"compose {key!r}"):
            at = f"{self._at(key)}/compose?{_held(expect)}{_key(stamp, 'kmsKeyName')}"
            return replica_of(self._call(what, "POST", at, order))

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> dict[str, Replica]:
        """Return the objects whose names begin with `prefix`; one request for each 1,000; see `Composer`."""
        return dict(self.scan(prefix, start=start, stop=stop))

    def scan(self, prefix: str, *, start: str = "", stop: str = "") -> Iterator[tuple[str, Replica]]:
        """Yield the objects whose names begin with `prefix`, in the order of their names' UTF-8; a page is held.

        Args:
            prefix: what the names begin with.
            start: yield only names from this one on.
            stop: yield only names before this one; "" for no end.
        """
        at = f"{self._objects}?prefix={quote(prefix, safe='')}&fields=nextPageToken,items({LISTED})"
        for name, value in (("startOffset", start), ("endOffset", stop)):
            at += f"&{name}={quote(value, safe='')}" if value else ""
        what, more = f"list {prefix!r} in {self._objects}", ""
        while True:
            with translated(what):
                page = self._call(what, "GET", at + more)
                found = [(item["name"], replica_of(item)) for item in page.get("items", [])]
            yield from found
            if not (token := page.get("nextPageToken")):
                return
            more = f"&pageToken={quote(token, safe='')}"

    def _insert(self, what: str, resource: Mapping[str, Any], stamp: Stamp, data: bytes, expect: Generation) -> Answer:
        body, kind = multipart(resource, stamp.headers.content_type, data, boundary())
        at = self._insert_at(expect) + _key(stamp, "kmsKeyName")
        return self._ask(what, "POST", at, body, {"Content-Type": kind})

    def _insert_at(self, expect: Generation) -> str:
        return f"/upload{self._objects}?uploadType=multipart&{_held(expect)}"

    def _put_in_chunks(self, key: str, body: Reader, stamp: Stamp, expect: Generation) -> Replica:
        """Put by a session. Where the answer that begins one is lost, another is begun.

        The first is never used then: it has no bytes, nothing of it is visible, and it ends by itself after a week.
        """
        at = f"/upload{self._objects}?uploadType=resumable&{_held(expect)}{_key(stamp, 'kmsKeyName')}"
        headers = _JSON | {"X-Upload-Content-Length": str(body.size)}
        with translated(what := f"begin to write {key!r}"):
            resource = encoded({"name": key, **resource_of(stamp)})
            address = self._ask(what, "POST", at, resource, headers).headers["location"]
        session = ResumableSession(self._client, address, body.size, time_left=self._time_left, sleep=self._sleep)
        stored, crc32c = session.send(body)
        with translated(f"write {key!r}"):
            return self._verified(replica_of(stored), key, body.size, crc32c)

    def _verified(self, stored: Replica, key: str, size: int, crc32c: str) -> Replica:
        """Take back, on its own generation, what a server stored otherwise than it was told to."""
        if (stored.size, stored.crc32c) == (size, crc32c):
            return stored
        self.delete(key, expect=stored.generation)
        raise Corrupt(f"{key!r}: GCS stored {stored.size} bytes, crc32c {stored.crc32c}; sent {size}, {crc32c}")

    def _rewritten(self, key: str, size: int, stamp: Stamp, expect: Generation) -> Replica:
        rewrite = Rewrite(objects=self, key=key, stamp=stamp, expect=expect, size=size, time_left=self._time_left)
        return replica_of(rewrite.run())

    def rewrite_step(self, key: str, stamp: Stamp, expect: Generation, limit: int, token: str) -> Any:
        """Rewrite a bounded number of bytes of an object onto itself; see `gcs_rewrite.Objects`."""
        at = (
            f"{self._at(key)}/rewriteTo/b/{self._objects.split('/')[4]}/o/{quote(key, safe='')}?{_held(expect)}"
            f"&ifSourceGenerationMatch={expect.number}&maxBytesRewrittenPerCall={limit}"
        ) + _key(stamp, "destinationKmsKeyName")
        more = f"&rewriteToken={quote(token, safe='')}" if token else ""
        with translated(what := f"rewrite {key!r}"):
            return self._call(what, "POST", at + more, resource_of(stamp), silence=_REWRITE_SILENCE)

    def read_text(self, key: str) -> tuple[str, Generation]:
        """Return a small object's text and generation."""
        with translated(what := f"read {key!r}"):
            answer = self._ask(what, "GET", f"{self._at(key)}?alt=media")
            found = (int(answer.headers[f"x-goog-{name}"]) for name in ("generation", "metageneration"))
            return answer.data.decode(), Generation(*found)

    def put_text(self, key: str, text: str, *, expect: Generation, kms_key: str | None) -> Generation:
        """Store a small object of our own."""
        with translated(what := f"write {key!r}"):
            stamp = Stamp(headers=Headers("text/plain"), kms_key=kms_key)
            answer = self._insert(what, {"name": key}, stamp, text.encode(), expect)
            return replica_of(answer.json()).generation

    def _at(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _call(
        self,
        what: str,
        method: str,
        path: str,
        resource: Mapping[str, Any] | None = None,
        *,
        silence: float | None = None,
    ) -> Any:
        """Return the JSON of GCS's answer."""
        body = None if resource is None else encoded(resource)
        return self._ask(what, method, path, body, {} if body is None else _JSON, silence=silence).json()

    def _ask(  # noqa: PLR0913 - a request has so many parts
        self,
        what: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        silence: float | None = None,
    ) -> Answer:
        """Return GCS's answer if it is a success. All requests here read, carry conditions, or begin a session."""
        answer = self._client.request(
            method, path, body, headers, time_left=self._time_left, sleep=self._sleep, silence=silence
        )
        return _success(answer, what)


def _success(answer: Answer, what: str) -> Answer:
    if not 200 <= answer.status < 300:
        raise of_response(answer, what)
    return answer


@contextmanager
def _absence_is_moved(key: str) -> Iterator[None]:
    """A change of what was there and is gone lost a race."""
    try:
        yield
    except NotFound as error:
        raise Moved(f"{key!r} is gone") from error


def _key(stamp: Stamp, parameter: str) -> str:
    """Return the query's part that names the KMS key, which comes by no resource; "" for the bucket's default."""
    return f"&{parameter}={quote(stamp.kms_key, safe='')}" if stamp.kms_key else ""


def _held(expect: Generation) -> str:
    """The condition on content and metadata, as a query; a new object has neither yet."""
    if expect == ABSENT:
        return "ifGenerationMatch=0"
    return f"ifGenerationMatch={expect.number}&ifMetagenerationMatch={expect.metageneration}"
