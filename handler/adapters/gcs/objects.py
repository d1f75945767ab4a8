"""The objects of one bucket by GCS's JSON API, one request a method.

Every method raises `Failed` where GCS refuses, and `Broken` where it does not answer; see `errors.translated`.
https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from handler.adapters.gcs.client import Client
from handler.adapters.gcs.errors import Failed
from handler.adapters.gcs.resources import LISTED, multipart
from handler.adapters.gcs.upload import ResumableSession
from handler.adapters.transport import Answer
from handler.core.model import ABSENT, Generation

Resource = Mapping[str, Any]
"""An object in the JSON API's terms, or the fields of one that a write sets; `kmsKeyName` among them."""
REWRITE_SILENCE = 30.0
"""Seconds: Google advises to wait at least as long for a rewrite, as GCS copies before it answers."""


class JsonObjects:
    """The requests to one bucket. All threads share it.

    Args:
        client: sends the requests.
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
        self._bucket = quote(bucket, safe="")
        self._time_left = time_left
        self._sleep = sleep

    def get(self, key: str, expect: Generation | None = None) -> Resource:
        """Return an object's resource, if the object is at `expect` where that is given."""
        query = f"?{precondition_query(expect)}" if expect else ""
        return self._json("GET", self._path(key) + query)

    def insert(self, fields: Resource, data: bytes, expect: Generation) -> Resource:
        """Store a small object by one POST, its name and checksums among the fields."""
        body, kind = multipart(_without_key(fields), data)
        query = f"uploadType=multipart&{precondition_query(expect)}{_key_query(fields)}"
        return self._json("POST", f"/upload{self._path()}?{query}", body, {"Content-Type": kind})

    def begin(self, fields: Resource, size: int, expect: Generation) -> ResumableSession:
        """Begin an upload of `size` bytes.

        Where the answer is lost, another session is begun. The first has no bytes, and ends by itself after a week.
        """
        query = f"uploadType=resumable&{precondition_query(expect)}{_key_query(fields)}"
        headers = {"Content-Type": "application/json", "X-Upload-Content-Length": str(size)}
        answer = self._ask("POST", f"/upload{self._path()}?{query}", _encoded(_without_key(fields)), headers)
        address = answer.headers["location"]
        return ResumableSession(self._client, address, size, time_left=self._time_left, sleep=self._sleep)

    def patch(self, key: str, fields: Resource, expect: Generation, *, override_retention: bool) -> Resource:
        """Set these fields of an object; None removes a value."""
        override = "&overrideUnlockedRetention=true" if override_retention else ""
        return self._json("PATCH", f"{self._path(key)}?{precondition_query(expect)}{override}", fields)

    def delete(self, key: str, expect: Generation) -> None:
        """Delete an object."""
        self._ask("DELETE", f"{self._path(key)}?{precondition_query(expect)}")

    def compose(self, key: str, parts: Sequence[str], fields: Resource, expect: Generation) -> Resource:
        """Store the concatenation of objects, and delete them for good: soft delete does not keep them."""
        order = {
            "sourceObjects": [{"name": part} for part in parts],
            "destination": _without_key(fields),
            "deleteSourceObjects": True,
        }
        return self._json("POST", f"{self._path(key)}/compose?{precondition_query(expect)}{_key_query(fields)}", order)

    def rewrite(self, key: str, fields: Resource, expect: Generation, *, limit: int, token: str) -> Resource:
        """Rewrite an object onto itself; return GCS's answer, with a token if bytes are left.

        Args:
            key: the object's name.
            fields: all that the object is to carry.
            expect: the object's generation.
            limit: bytes that one call rewrites at most.
            token: the last answer's; "" begins.
        """
        query = f"{precondition_query(expect)}&ifSourceGenerationMatch={expect.number}&maxBytesRewrittenPerCall={limit}"
        query += _key_query(fields, "destinationKmsKeyName")
        query += f"&rewriteToken={quote(token, safe='')}" if token else ""
        path = f"{self._path(key)}/rewriteTo/b/{self._bucket}/o/{quote(key, safe='')}?{query}"
        return self._json("POST", path, _without_key(fields), silence=REWRITE_SILENCE)

    def pages(self, prefix: str, start: str, stop: str) -> Iterator[Sequence[Resource]]:
        """Yield the objects whose names begin with `prefix`, from `start` on and before `stop`, 1,000 at a time."""
        query = f"prefix={quote(prefix, safe='')}&fields=nextPageToken,items({LISTED})"
        for name, value in (("startOffset", start), ("endOffset", stop)):
            query += f"&{name}={quote(value, safe='')}" if value else ""
        token = ""
        while True:
            page = self._json("GET", f"{self._path()}?{query}{token}")
            yield page.get("items", [])
            if "nextPageToken" not in page:
                return
            token = f"&pageToken={quote(page['nextPageToken'], safe='')}"

    def read(self, key: str) -> tuple[bytes, Generation]:
        """Return a small object's bytes and generation."""
        answer = self._ask("GET", f"{self._path(key)}?alt=media")
        found = (int(answer.headers[f"x-goog-{name}"]) for name in ("generation", "metageneration"))
        return answer.data, Generation(*found)

    def _path(self, key: str | None = None) -> str:
        path = f"/storage/v1/b/{self._bucket}/o"
        return path if key is None else f"{path}/{quote(key, safe='')}"

    def _json(
        self,
        method: str,
        path: str,
        body: Resource | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        silence: float | None = None,
    ) -> dict[str, Any]:
        """Return the JSON of GCS's answer."""
        if isinstance(body, Mapping):
            body, headers = _encoded(body), {"Content-Type": "application/json"}
        found: dict[str, Any] = self._ask(method, path, body, headers, silence=silence).json()
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        silence: float | None = None,
    ) -> Answer:
        """Return GCS's answer if it is a success. All requests here read, carry conditions, or begin a session."""
        how: dict[str, Any] = {"time_left": self._time_left, "sleep": self._sleep, "silence": silence}
        answer = self._client.request(method, path, body, headers, **how)
        if not 200 <= answer.status < 300:
            raise Failed(answer)
        return answer


def precondition_query(expect: Generation) -> str:
    """Return the condition on content and metadata, as a query; a new object has no metageneration yet."""
    if expect == ABSENT:
        return "ifGenerationMatch=0"
    return f"ifGenerationMatch={expect.number}&ifMetagenerationMatch={expect.metageneration}"


def _without_key(fields: Resource) -> Resource:
    return {name: value for name, value in fields.items() if name != "kmsKeyName"}


def _key_query(fields: Resource, parameter: str = "kmsKeyName") -> str:
    """Return the part of a query that names the KMS key; "" for the bucket's default key."""
    return f"&{parameter}={quote(fields['kmsKeyName'], safe='')}" if "kmsKeyName" in fields else ""


def _encoded(fields: Resource) -> bytes:
    return json.dumps(fields).encode()
