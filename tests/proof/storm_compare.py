"""The end of the storm: every byte and every attribute of both clouds, compared without the handler's own opinion."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.proof.storm_load import FORBIDDEN, UNREPLICABLE, Bucket
from tests.proof.storm_servers import CALM

_HEADERS = {
    "content-type": "contentType",
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
}
_OWN = "s3-replica-"
_FREE = {f"{_OWN}digest", f"{_OWN}check", f"{_OWN}rule"}
"""Provenance whose value is the handler's own affair; it must only be there."""

Dump = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be."""

    bucket: str
    key: str
    what: str


class Gcs:
    """The storm's own access to the GCS server: no fault, no client library."""

    def __init__(self, port: int, folder: Path) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port)
        self._folder = folder

    def call(self, method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        """Return the body of the answer, which must be a success."""
        status, body = self._asked(method, path, data, kind)
        if status != 200:
            raise RuntimeError(f"the GCS server refused the storm's own {method} {path}: {status} {body[:300]!r}")
        return body

    def find(self, path: str) -> bytes | None:
        """Return the body of what is there, None where there is nothing."""
        status, body = self._asked("GET", path)
        return None if status == 404 else body

    def _asked(
        self, method: str, path: str, data: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        self._http.request(method, path, data, {CALM: "1", "Content-Type": kind, "Accept-Encoding": "gzip"})
        answer = self._http.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.call("POST", "/storage/v1/b?project=storm", json.dumps({"name": name}).encode())

    def put(self, bucket: str, name: str, data: bytes) -> dict[str, Any]:
        """Put an object as another tool would, and return its resource."""
        query = urlencode({"uploadType": "media", "name": name})
        resource: dict[str, Any] = json.loads(
            self.call("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", data, "x/y")
        )
        return resource

    def objects(self, bucket: str) -> Iterator[dict[str, Any]]:
        """Yield every object's resource."""
        token = ""
        while True:
            page = json.loads(self.call("GET", f"/storage/v1/b/{bucket}/o?{urlencode({'pageToken': token})}"))
            yield from page.get("items", [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def sha256(self, bucket: str, name: str) -> str:
        """The digest of the bytes: of the natural file where the name can be one, else of what is served."""
        if not {"", ".", ".."}.intersection(name.split("/")):
            with contextlib.suppress(OSError, ValueError):  # names that no file can have
                return hashlib.sha256((self._folder / bucket / name).read_bytes()).hexdigest()
        where = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
        return hashlib.sha256(self.call("GET", where)).hexdigest()


def compare(
    gcs: Gcs, bucket: Bucket, source: Dump, foreign: Mapping[str, Mapping[str, Any]], put: set[str]
) -> Iterator[Difference]:
    """Compare one bucket with its copies, both ways.

    Args:
        gcs: where the copies are.
        bucket: the source.
        source: what it holds.
        foreign: resources of what somebody else put there.
        put: names that the source has ever had: it may have replaced somebody else's, and then have been deleted.
    """
    copies = {resource["name"]: resource for resource in gcs.objects(bucket.copy)}
    wanted = {name: original for name, original in source.items() if not name.startswith((UNREPLICABLE, FORBIDDEN))}
    for name, original in wanted.items():
        if name not in copies:
            yield Difference(bucket.name, name, "has no replica")
            continue
        for what in _differences(bucket, original, copies[name], gcs.sha256(bucket.copy, name)):
            yield Difference(bucket.name, name, what)
    for name, resource in copies.items():
        if name in wanted:
            continue
        before = foreign.get(name)
        if before is None:
            yield Difference(bucket.name, name, f"is at the destination only: {resource.get('metadata')}")
        elif any(before[field] != resource[field] for field in ("generation", "metageneration", "md5Hash")):
            yield Difference(bucket.name, name, "was somebody else's, and was touched")
    for name in foreign.keys() - copies.keys() - put:
        yield Difference(bucket.name, name, "was somebody else's, and is gone")


def _differences(bucket: Bucket, original: Mapping[str, Any], copy: Mapping[str, Any], sha256: str) -> Iterator[str]:
    if (sha256, int(copy["size"])) != (original["sha256"], original["size"]):
        yield f"has other bytes: {copy['size']} instead of {original['size']}"
    headers = original["headers"]
    for header, field in _HEADERS.items():
        if headers.get(header) != copy.get(field):
            yield f"has {header} {copy.get(field)!r} instead of {headers.get(header)!r}"
    expected = {
        name.removeprefix("x-amz-meta-"): value for name, value in headers.items() if name.startswith("x-amz-meta-")
    } | {f"{_OWN}{name}": str(original[name]) for name in ("etag", "size")}
    expected |= {f"{_OWN}bucket": bucket.name}
    if bucket.tagged:
        expected |= {f"s3-tag-{name}": value for name, value in original["tags"].items()}
    moment = datetime.fromisoformat(original["last_modified"])
    if datetime.fromisoformat(copy["customTime"]).replace(tzinfo=None) != moment:
        yield f"has customTime {copy['customTime']} instead of {moment}"
    held = dict(copy.get("metadata", {}))
    if datetime.fromisoformat(held.pop(f"{_OWN}last-modified", "1970-01-01")).replace(tzinfo=None) != moment:
        yield "has the provenance of another moment"
    if held.pop(f"{_OWN}crc32c", copy["crc32c"]) != copy["crc32c"]:
        yield "has the record of another CRC32C"
    if not held.keys() >= _FREE:
        yield f"lacks one of {sorted(_FREE)}"
    rest = {name: value for name, value in held.items() if name not in _FREE}
    if rest != expected:
        yield f"has metadata {rest} instead of {expected}"
