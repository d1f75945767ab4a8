"""The objects of one bucket by Google's own client, google-cloud-storage, on its public methods.

Google's client makes the requests and reads the answers. This project's transport carries them, because tokens,
retries, deadlines and silent connections are then treated alike by both clients. Google's client cannot do these:

    large uploads               its resumable upload loses data in four cases (see `upload`)
    uploads with a hold         it sends no temporaryHold
    compositions under a key    it sends no kmsKeyName
    rewrites                    it names no limit for the bytes of one call, so a call may take longer than a function

They go by the JSON API; see `JsonObjects`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from handler.adapters.gcs.objects import JsonObjects, Resource
from handler.adapters.gcs.resources import LISTED
from handler.adapters.retry import SILENCE
from handler.adapters.transport import Answer
from handler.core.model import ABSENT, Generation

_ATTRIBUTES = {
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
    "contentDisposition": "content_disposition",
    "contentLanguage": "content_language",
    "cacheControl": "cache_control",
    "metadata": "metadata",
    "storageClass": "storage_class",
    "contexts": "contexts",
    "temporaryHold": "temporary_hold",
    "kmsKeyName": "kms_key_name",
    "crc32c": "crc32c",
    "md5Hash": "md5_hash",
}
"""Fields of a resource that are scalars, or dicts of the same shape, as attributes of a Blob."""
_READ_ONLY = {"name": "name", "generation": "generation", "metageneration": "metageneration", "size": "size"}
_HEADERS = {"content-type", "x-goog-api-client"}
"""Headers of Google's client that are sent; the transport has its own of the others."""
_ONCE: Mapping[str, Any] = {"retry": None, "timeout": SILENCE}
"""Arguments of every call: `_Session` tries again."""


class OfficialObjects(JsonObjects):
    """The requests to one bucket, made by google-cloud-storage; see `JsonObjects`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Google's client would read the bucket in a thread of its own, for traces that nobody takes.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        self._storage = storage.Client(
            project="-",  # objects need none
            credentials=AnonymousCredentials(),  # the session adds the token
            client_options={"api_endpoint": self._client.base},
            _http=_Session(self._ask),  # documented, but not promised to stay: the version is pinned
        )
        self._blobs = self._storage.bucket(arguments[1])

    def get(self, key: str, expect: Generation | None = None) -> Resource:
        """Return an object's resource; see `JsonObjects`."""
        blob = self._blobs.blob(key)
        blob.reload(**(_preconditions(expect) if expect else {}), **_ONCE)
        return _resource_of(blob)

    def insert(self, fields: Resource, data: bytes, expect: Generation) -> Resource:
        """Store a small object by one POST; see `JsonObjects`."""
        if fields.get("temporaryHold"):
            return super().insert(fields, data, expect)
        blob = self._blob_of(fields["name"], fields)
        # A checksum of its own would replace those of the fields, and cost as much as they did.
        blob.upload_from_string(data, fields.get("contentType"), checksum=None, **_preconditions(expect), **_ONCE)
        return _resource_of(blob)

    def patch(self, key: str, fields: Resource, expect: Generation, *, override_retention: bool) -> Resource:
        """Set these fields of an object; see `JsonObjects`."""
        blob = self._blob_of(key, fields)
        blob.patch(override_unlocked_retention=override_retention, **_preconditions(expect), **_ONCE)
        return _resource_of(blob)

    def delete(self, key: str, expect: Generation) -> None:
        """Delete an object."""
        self._blobs.blob(key).delete(**_preconditions(expect), **_ONCE)

    def compose(self, key: str, parts: Sequence[str], fields: Resource, expect: Generation) -> Resource:
        """Store the concatenation of objects, and delete them; see `JsonObjects`."""
        if "kmsKeyName" in fields:
            return super().compose(key, parts, fields, expect)
        blob, sources = self._blob_of(key, fields), [self._blobs.blob(part) for part in parts]
        blob.compose(sources, delete_source_objects=True, **_preconditions(expect), **_ONCE)
        return _resource_of(blob)

    def pages(self, prefix: str, start: str, stop: str) -> Iterator[Sequence[Resource]]:
        """Yield the objects whose names begin with `prefix`, 1,000 at a time; see `JsonObjects`."""
        span = {"prefix": prefix, "start_offset": start or None, "end_offset": stop or None}
        found = self._storage.list_blobs(self._blobs, fields=f"nextPageToken,items({LISTED})", **span, **_ONCE)
        for page in found.pages:
            yield [_resource_of(blob) for blob in page]

    def _blob_of(self, key: str, fields: Resource) -> storage.Blob:
        """Return a blob on which these fields are set, and will be sent."""
        blob = self._blobs.blob(key)
        for name in _ATTRIBUTES.keys() & fields.keys():
            setattr(blob, _ATTRIBUTES[name], fields[name])
        if "customTime" in fields:
            blob.custom_time = _moment(fields["customTime"])
        if retention := fields.get("retention"):
            lock = blob.retention
            lock.mode, lock.retain_until_time = retention["mode"], _moment(retention["retainUntilTime"])
        return blob


class _Session:
    """Stands for the `requests.Session` of Google's client: sends by this project's client, by its policy.

    Errors are raised here, so Google's client sees successes only.
    """

    def __init__(self, ask: Callable[..., Answer]) -> None:
        self._ask = ask

    def request(
        self,
        method: str,
        url: str,
        data: bytes | str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float = SILENCE,
    ) -> _Response:
        """Return the answer to one request. Raises: as `JsonObjects` does."""
        texts = {name.title(): _text(value) for name, value in (headers or {}).items() if name.lower() in _HEADERS}
        body = data.encode() if isinstance(data, str) else data
        return _Response(self._ask(method, url, body, texts, silence=timeout))


class _Response:
    """What Google's client reads of a `requests.Response`."""

    def __init__(self, answer: Answer) -> None:
        self.status_code, self.headers = answer.status, answer.headers
        self.content, self.json = answer.data, answer.json


def _resource_of(blob: storage.Blob) -> Resource:
    """Return the resource that GCS answered."""
    attributes = {**_READ_ONLY, **_ATTRIBUTES}
    fields = {name: getattr(blob, attribute) for name, attribute in attributes.items()}
    fields["customTime"] = blob.custom_time and blob.custom_time.isoformat()
    fields["retention"] = blob.retention if blob.retention.mode else None
    return {name: value for name, value in fields.items() if value is not None}


def _preconditions(expect: Generation) -> dict[str, int]:
    """Return the condition on content and metadata; a new object has no metageneration yet."""
    if expect == ABSENT:
        return {"if_generation_match": 0}
    return {"if_generation_match": expect.number, "if_metageneration_match": expect.metageneration}


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
