"""Objects of the local S3, made of files inside this process: an upload over HTTP costs moto forty milliseconds."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO

from moto.s3.models import FakeBucket, FakeKey, FakeMultipart, S3Backend, s3_backends
from requests.structures import CaseInsensitiveDict

from local_emulator.context import ACCOUNT
from local_emulator.s3_events import COMPLETED, Event, action, happened

PART = 8 << 20
"""Bytes from which a file goes up in parts of as many, as `aws s3 cp` does it."""
PUT = "s3:ObjectCreated:Put"


def backend() -> S3Backend:
    """Return moto's S3 of this process."""
    return s3_backends[ACCOUNT]["aws"]


def current(bucket: str, key: str) -> FakeKey | None:
    """Return the object, None where there is none or a delete marker hides it."""
    found = backend().get_bucket(bucket).keys.get(key)
    return found if isinstance(found, FakeKey) else None


def objects(bucket: str) -> Iterator[FakeKey]:
    """Yield each object of a bucket."""
    for key in list(backend().get_bucket(bucket).keys):
        if found := current(bucket, key):
            yield found


def put(bucket: str, key: str, body: BinaryIO, content_type: str | None, going_on: Callable[[], bool]) -> bool:
    """Upload a file, and send its event; return False if `going_on` said to end before the last piece."""
    place = backend().get_bucket(bucket)
    made, sums, sizes = _empty(place, key), [], []
    while piece := body.read(PART):
        if not going_on():
            made.dispose()
            return False
        made._value_buffer.write(piece)  # noqa: SLF001 - the public setter wants the whole body at once
        sums.append(hashlib.md5(piece, usedforsecurity=False))
        sizes.append(len(piece))
    made.contentsize = sum(sizes)
    multipart = made.contentsize >= PART
    if multipart:
        joined = hashlib.md5(b"".join(each.digest() for each in sums), usedforsecurity=False)
        made._etag = f"{joined.hexdigest()}-{len(sums)}"  # noqa: SLF001 - no setter
        made.multipart = _parts(made, sizes)
    else:
        made._etag = (sums[0] if sums else hashlib.md5(b"", usedforsecurity=False)).hexdigest()  # noqa: SLF001
    if content_type:
        made.set_metadata({"Content-Type": content_type})
    with action():
        _set(place, made)
        happened(Event(COMPLETED if multipart else PUT, place, made))
    return True


def delete(bucket: str, key: str) -> None:
    """Delete an object, and send its event."""
    with action():
        backend().delete_object(bucket, key)


def restore(bucket: str, key: str, body: BinaryIO, state: Mapping[str, Any]) -> None:
    """Put an object back as `state_of` described it. This is no event."""
    place = backend().get_bucket(bucket)
    made = _empty(place, key)
    while piece := body.read(PART):
        made._value_buffer.write(piece)  # noqa: SLF001 - see above
    made.contentsize = made._value_buffer.tell()  # noqa: SLF001
    for name in _KEPT:
        setattr(made, name, state[name])
    made.last_modified = datetime.fromisoformat(state["last_modified"])
    made._metadata.clear()  # noqa: SLF001 - the default content type
    made.set_metadata(dict(state["metadata"]))
    if state["parts"]:
        made.multipart = _parts(made, state["parts"])
    _set(place, made)
    backend().tagger.tag_resource(made.arn, [{"Key": name, "Value": value} for name, value in state["tags"].items()])


_KEPT = (
    "_etag",
    "_version_id",
    "_storage_class",
    "checksum_algorithm",
    "checksum_value",
    "checksum_type",
    "checksum_parts",
    "encryption",
    "kms_key_id",
    "lock_mode",
    "lock_legal_status",
    "lock_until",
)


def state_of(key: FakeKey) -> dict[str, Any]:
    """Return everything of an object but its bytes, for JSON."""
    parts = key.multipart.parts if key.multipart else {}
    return {
        **{name: getattr(key, name) for name in _KEPT},
        "_etag": key.etag.strip('"'),
        "last_modified": key.last_modified.isoformat(),
        "metadata": dict(key.metadata),
        "parts": [parts[number].size for number in sorted(parts)],
        "tags": backend().tagger.get_tag_dict_for_resource(key.arn),
    }


def _empty(bucket: FakeBucket, key: str) -> FakeKey:
    return FakeKey(
        name=key,
        value=b"",
        account_id=ACCOUNT,
        region_name=bucket.region_name,
        bucket_name=bucket.name,
        is_versioned=bucket.is_versioned,
        version_id=str(uuid.uuid4()) if bucket.is_versioned else "null",
        max_buffer_size=PART,
    )


def _set(bucket: FakeBucket, made: FakeKey) -> None:
    """Make it the newest version, or the only one."""
    versions = bucket.keys.getlist(made.name, []) if bucket.is_versioned else []
    backend().tagger.delete_all_tags_for_resource(made.arn)
    bucket.keys.setlist(made.name, [*versions, made])


def _parts(whole: FakeKey, sizes: Sequence[int]) -> FakeMultipart:
    """Return the upload that an object came by: its parts are asked for by number."""
    upload = FakeMultipart(whole.name, CaseInsensitiveDict(), account_id=ACCOUNT, region_name=whole.region_name)
    at = 0
    for number, size in enumerate(sizes, 1):
        upload.parts[number] = _Part(whole, number, at, size)
        at += size
    upload.partlist = sorted(upload.parts)
    return upload


class _Part(FakeKey):
    """A part whose bytes are those of the whole."""

    def __init__(self, whole: FakeKey, number: int, at: int, size: int) -> None:
        super().__init__(number, b"", whole.account_id, whole.region_name)  # type: ignore[arg-type] # moto does so
        self._whole, self._at, self.contentsize = whole, at, size

    @property
    def value(self) -> bytes:
        """The part's bytes."""
        with self._whole.lock:
            self._whole._value_buffer.seek(self._at)  # noqa: SLF001 - moto's own class
            return self._whole._value_buffer.read(self.contentsize)  # noqa: SLF001

    @value.setter
    def value(self, new_value: bytes) -> None:
        """Be empty, as moto's constructor wants it."""
        self.contentsize = len(new_value)
