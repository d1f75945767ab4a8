"""Google Cloud Storage as a destination, on Google's own client. Every write is conditional; see `Composer`."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import google_crc32c
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from handler.adapters.gcs_errors import of_response, translated
from handler.adapters.gcs_session import ResumableSession
from handler.errors import Corrupt, Moved, NotFound, Refused, Unavailable
from handler.model import ABSENT, KIB, SMALL, TIB, Generation, Headers, Replica, Stamp
from handler.ports import Reader
from handler.transfer import pieces

MOST_PARTS = 32
"""What one compose takes."""

_LARGEST = 5 * TIB
_NAME_MAX, _METADATA_MAX, _METADATA_KEY_MAX, _METADATA_VALUE_MAX = 1024, 8 * KIB, KIB, 4 * KIB
_LONGEST_RETRY = 30.0


class GcsDestination:
    """One bucket; see `Composer`. All threads share it.

    Args:
        client: as `gcs_client.connect` makes it.
        bucket: its name.
        time_left: seconds until the work must be done; retries do not go beyond.
        sleep: waits that many seconds before a part of a large body is sent again.
    """

    def __init__(
        self,
        client: storage.Client,
        bucket: str,
        *,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._time_left = time_left
        self._sleep = sleep

    def head(self, key: str) -> Replica:
        """Return what is at `key`, by one metadata read."""
        if _forbidden(key):
            return Replica()
        blob = self._bucket.blob(key)
        try:
            with translated(f"look at {key!r}"):
                blob.reload(**self._patience())
        except NotFound:
            return Replica()
        return _replica(blob)

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Store the body: up to 8 MiB by one POST, above by a resumable session; see `Destination`.

        Raises:
            Refused: GCS has no room for such a name, size or metadata (design section 4), besides what it denies.
        """
        _require_storable(key, body.size, stamp)
        blob = self._blob(key, stamp)
        if body.size > SMALL:
            return self._put_in_chunks(blob, body, expect)
        data = b"".join(pieces(body, SMALL))  # what the reader raises stays as it is
        md5 = body.original.md5 if body.size == body.original.size else None
        with translated(f"write {key!r}"):
            return self._put_at_once(blob, data, md5, expect)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace the metadata by one PATCH; a change of storage class is a rewrite within GCS; see `Destination`."""
        _require_storable(key, 0, stamp)
        if expect == ABSENT:
            raise Moved(f"{key!r}: nothing to patch")
        condition = {"if_generation_match": expect.number, "if_metageneration_match": expect.metageneration}
        with _absence_is_moved(key), translated(f"patch {key!r}"):
            blob = self._bucket.blob(key)
            blob.reload(**condition, **self._patience())  # which names a PATCH must null
            if stamp.storage_class not in {None, blob.storage_class}:
                return self._rewrite(key, stamp, expect)
            gone = dict.fromkeys(blob.metadata or {})
            _fill(blob, stamp)
            blob.metadata = {**gone, **stamp.metadata}
            blob.patch(**condition, **self._patience())
            return _replica(blob)

    def delete(self, key: str, *, expect: Generation) -> None:
        """Delete, if `key` still is at `expect`; see `Destination`."""
        if expect == ABSENT or _forbidden(key):
            raise Moved(f"{key!r}: nothing to delete")
        with _absence_is_moved(key), translated(f"delete {key!r}"):
            self._bucket.blob(key).delete(
                if_generation_match=expect.number, if_metageneration_match=expect.metageneration, **self._patience()
            )

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        """Join 1 to 32 objects of the bucket, which go for good: soft delete does not keep them; see `Composer`."""
        _require_storable(key, 0, stamp)
        if not 1 <= len(parts) <= MOST_PARTS:
            raise ValueError(f"{len(parts)} parts: GCS composes 1 to {MOST_PARTS}")
        blob = self._blob(key, stamp)
        with translated(f"compose {key!r}"):
            blob.compose(
                [self._bucket.blob(part) for part in parts],
                if_generation_match=expect.number,
                delete_source_objects=True,
                **self._patience(),
            )
            return _replica(blob)

    def list(self, prefix: str) -> dict[str, Replica]:
        """Return all objects whose names begin with `prefix`; one request for each 1,000; see `Composer`."""
        with translated(f"list {prefix!r}"):
            blobs = self._client.list_blobs(self._bucket, prefix=prefix, **self._patience())
            return {blob.name: _replica(blob) for blob in blobs}

    def _put_at_once(self, blob: storage.Blob, data: bytes, md5: str | None, expect: Generation) -> Replica:
        """One POST. The checksums go along: GCS stores nothing that differs from what left S3."""
        blob.crc32c = crc32c = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        if md5:
            blob.md5_hash = md5
        blob.upload_from_file(
            io.BytesIO(data),
            size=len(data),
            content_type=blob.content_type,
            if_generation_match=expect.number,
            checksum=None,  # it is there already
            **self._patience(),
        )
        return self._verified(_replica(blob), blob.name, len(data), crc32c)

    def _put_in_chunks(self, blob: storage.Blob, body: Reader, expect: Generation) -> Replica:
        http = self._client._http  # noqa: SLF001 - its AuthorizedSession; there is no public name
        with translated(f"begin to write {blob.name!r}"):
            answer = http.post(
                f"{self._client.api_endpoint}/upload/storage/v1/b/{self._bucket.name}/o",
                params={"uploadType": "resumable", "name": blob.name, "ifGenerationMatch": expect.number},
                json=_resource(blob),
                headers={"X-Upload-Content-Length": str(body.size)},
                timeout=self._patience()["timeout"],
            )
            if answer.status_code != 200:
                raise of_response(answer, "start of an upload session")
            address = answer.headers["Location"]
        session = ResumableSession(http, address, body.size, time_left=self._time_left, sleep=self._sleep)
        resource, crc32c = session.send(body)
        with translated(f"write {blob.name!r}"):
            stored = storage.Blob(blob.name, self._bucket)
            stored._set_properties(resource)  # noqa: SLF001 - the library's own parser of a resource
            return self._verified(_replica(stored), blob.name, body.size, crc32c)

    def _verified(self, stored: Replica, key: str, size: int, crc32c: str) -> Replica:
        """Take back, on its own generation, what a server stored otherwise than it was told to."""
        if (stored.size, stored.crc32c) == (size, crc32c):
            return stored
        if not stored.generation.number:
            raise Unavailable(f"{key!r}: GCS says it is written, and not what", code="DstUnknown")
        self.delete(key, expect=stored.generation)
        raise Corrupt(f"{key!r}: GCS stored {stored.size} bytes, crc32c {stored.crc32c}; sent {size}, {crc32c}")

    def _rewrite(self, key: str, stamp: Stamp, expect: Generation) -> Replica:
        source, target, token = self._bucket.blob(key), self._blob(key, stamp), None
        while True:
            token, _, _ = target.rewrite(
                source,
                token=token,
                if_generation_match=expect.number,
                if_metageneration_match=expect.metageneration,
                if_source_generation_match=expect.number,
                **self._patience(),
            )
            if token is None:
                return _replica(target)

    def _blob(self, key: str, stamp: Stamp) -> storage.Blob:
        blob = self._bucket.blob(key)
        _fill(blob, stamp)
        blob.metadata = dict(stamp.metadata)
        if stamp.storage_class:
            blob.storage_class = stamp.storage_class
        return blob

    def _patience(self) -> dict[str, Any]:
        """Timeouts and retries within the time that is left; all calls here carry conditions or only read."""
        left = max(1.0, min(_LONGEST_RETRY, self._time_left()))
        return {"timeout": (5.0, left), "retry": DEFAULT_RETRY.with_timeout(left)}


@contextmanager
def _absence_is_moved(key: str) -> Iterator[None]:
    """A change of what was there and is gone lost a race."""
    try:
        yield
    except NotFound as error:
        raise Moved(f"{key!r} is gone") from error


def _forbidden(key: str) -> bool:
    """Whether GCS has no such names. https://cloud.google.com/storage/docs/objects#naming."""
    return (
        not 1 <= len(key.encode()) <= _NAME_MAX
        or "\r" in key
        or "\n" in key
        or key in {".", ".."}
        or key.startswith(".well-known/acme-challenge/")
    )


def _require_storable(key: str, size: int, stamp: Stamp) -> None:
    """Refuse, before a byte moves, what GCS cannot hold. https://cloud.google.com/storage/quotas#objects."""
    if _forbidden(key):
        raise Refused(f"GCS forbids the name {key!r}", code="DstKeyInvalid")
    if size > _LARGEST:
        raise Refused(f"{key!r} has {size} bytes, GCS holds up to 5 TiB", code="SrcObjectTooLarge")
    sizes = [(len(name.encode()), len(value.encode())) for name, value in stamp.metadata.items()]
    if (
        any(name > _METADATA_KEY_MAX or value > _METADATA_VALUE_MAX for name, value in sizes)
        or sum(map(sum, sizes)) > _METADATA_MAX
    ):
        raise Refused(
            f"{key!r} has {sum(map(sum, sizes))} bytes of metadata; GCS takes 8 KiB in all, 4 KiB a value",
            code="SrcMetadataTooLarge",
        )


def _fill(blob: storage.Blob, stamp: Stamp) -> None:
    headers = stamp.headers
    blob.content_type = headers.content_type
    blob.content_encoding = headers.content_encoding
    blob.content_disposition = headers.content_disposition
    blob.content_language = headers.content_language
    blob.cache_control = headers.cache_control
    blob.custom_time = stamp.custom_time


def _resource(blob: storage.Blob) -> dict[str, Any]:
    """What is to be stored beside the bytes, in the JSON API's terms."""
    resource: dict[str, Any] = blob._get_writable_metadata()  # noqa: SLF001 - the library's own rendering
    return {name: value for name, value in resource.items() if value is not None}


def _replica(blob: storage.Blob) -> Replica:
    return Replica(
        generation=Generation(blob.generation, blob.metageneration),
        size=blob.size,
        crc32c=blob.crc32c,
        md5=blob.md5_hash,
        stamp=Stamp(
            headers=Headers(
                content_type=blob.content_type,
                content_encoding=blob.content_encoding,
                content_disposition=blob.content_disposition,
                content_language=blob.content_language,
                cache_control=blob.cache_control,
            ),
            metadata=blob.metadata or {},
            custom_time=blob.custom_time,
            storage_class=blob.storage_class,
        ),
    )
