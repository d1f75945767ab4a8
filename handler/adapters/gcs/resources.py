"""Maps stamps to resources of the JSON API and resources to replicas, and checks GCS's limits.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from handler.core.errors import Refused
from handler.core.model import KIB, TIB, Generation, Headers, Lock, Replica, Stamp

HEADERS = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl")
"""The fields of `Headers`, in its order."""
LISTED = ",".join(
    (
        "name,generation,metageneration,size,crc32c,md5Hash,metadata,customTime,storageClass,kmsKeyName,contexts",
        *HEADERS,
    )
)
"""The fields that a listing returns of each object."""

_LARGEST = 5 * TIB
_NAME_MAX, _METADATA_MAX, _METADATA_KEY_MAX, _METADATA_VALUE_MAX = 1024, 8 * KIB, KIB, 4 * KIB


def is_forbidden(key: str) -> bool:
    """Return True if GCS allows no object of this name. https://cloud.google.com/storage/docs/objects#naming."""
    return (
        not 1 <= len(key.encode()) <= _NAME_MAX
        or "\r" in key
        or "\n" in key
        or key in {".", ".."}
        or key.startswith(".well-known/acme-challenge/")
    )


def require_storable(key: str, size: int, stamp: Stamp) -> None:
    """Raise Refused, before any byte moves, if GCS cannot store the object. https://cloud.google.com/storage/quotas#objects."""
    if is_forbidden(key):
        raise Refused(f"cannot write {key!r}: GCS forbids the name", code="DstKeyInvalid")
    if size > _LARGEST:
        raise Refused(f"cannot write {key!r}: it has {size} bytes, GCS stores up to 5 TiB", code="SrcObjectTooLarge")
    sizes = [(len(name.encode()), len(value.encode())) for name, value in stamp.metadata.items()]
    if (
        any(name > _METADATA_KEY_MAX or value > _METADATA_VALUE_MAX for name, value in sizes)
        or sum(map(sum, sizes)) > _METADATA_MAX
    ):
        raise Refused(
            f"cannot write {key!r}: it has {sum(map(sum, sizes))} bytes of metadata; GCS takes 8 KiB, 4 KiB a value",
            code="SrcMetadataTooLarge",
        )


def multipart(fields: Mapping[str, Any], data: bytes) -> tuple[bytes, str]:
    """Return the body and the Content-Type of an upload by one POST.

    https://cloud.google.com/storage/docs/uploading-objects, "JSON API multipart upload". GCS requires the media's type
    to be the resource's. The boundary needs no secrecy, only a length that no data repeats by chance.
    """
    mark = f"{random.getrandbits(128):032x}"
    media = fields.get("contentType") or "application/octet-stream"
    head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(fields)}"
    middle = f"\r\n--{mark}\r\nContent-Type: {media}\r\n\r\n"
    body = b"".join((head.encode(), middle.encode(), data, f"\r\n--{mark}--\r\n".encode()))
    return body, f"multipart/related; boundary={mark}"


def writable_fields(stamp: Stamp) -> dict[str, Any]:
    """Return what a write sets beside the bytes, in the JSON API's terms."""
    resource: dict[str, Any] = {
        name: value for name, value in zip(HEADERS, stamp.headers, strict=True) if value is not None
    }
    resource["metadata"] = dict(stamp.metadata)
    if stamp.custom_time:
        resource["customTime"] = _text(stamp.custom_time)
    if stamp.storage_class:
        resource["storageClass"] = stamp.storage_class
    if stamp.kms_key:
        resource["kmsKeyName"] = stamp.kms_key
    if stamp.contexts is not None:
        resource["contexts"] = {"custom": {name: {"value": value} for name, value in stamp.contexts.items()}}
    if stamp.lock is not None:
        if stamp.lock.hold is not None:
            resource["temporaryHold"] = stamp.lock.hold
        if stamp.lock.until:
            resource["retention"] = {"mode": stamp.lock.mode, "retainUntilTime": _text(stamp.lock.until)}
    return resource


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _lock_of(resource: Mapping[str, Any]) -> Lock | None:
    """Return an object's lock; None if there is neither a hold nor a retention that is still in force."""
    retention = resource.get("retention", {})
    until = datetime.fromisoformat(retention["retainUntilTime"]) if retention else None
    is_retained = until is not None and until > datetime.now(UTC)
    lock = Lock(hold=resource.get("temporaryHold") or None)
    lock = lock._replace(mode=retention["mode"], until=until) if is_retained else lock
    return lock if lock != Lock() else None


def needs_override(new: Mapping[str, Any] | None, old: Mapping[str, Any] | None) -> bool:
    """Return True if GCS replaces the old retention only for a request that asks to override it.

    That is so where an Unlocked retention is shortened or locked. To override needs a permission of its own.
    https://cloud.google.com/storage/docs/using-object-lock
    """
    if not new or not old or old["mode"] != "Unlocked":
        return False
    after, before = (datetime.fromisoformat(retention["retainUntilTime"]) for retention in (new, old))
    return new["mode"] == "Locked" or after < before


def replica_of(resource: Mapping[str, Any]) -> Replica:
    """Return the replica that a resource describes. A resource without a size has 0 bytes: protobuf's JSON omits 0.

    Raises:
        ValueError: the resource lacks a generation, which every condition needs, or has a value of another form.
    """
    for name in ("generation", "metageneration"):
        if name not in resource:
            raise ValueError(f"GCS describes an object without {name}")
    custom_time = resource.get("customTime")
    contexts = resource.get("contexts", {}).get("custom", {}).items()
    return Replica(
        generation=Generation(int(resource["generation"]), int(resource["metageneration"])),
        size=int(resource.get("size", 0)),
        crc32c=resource.get("crc32c"),
        md5=resource.get("md5Hash"),
        stamp=Stamp(
            headers=Headers(*map(resource.get, HEADERS)),
            metadata=resource.get("metadata", {}),
            custom_time=datetime.fromisoformat(custom_time) if custom_time else None,
            storage_class=resource.get("storageClass"),
            contexts={name: value["value"] for name, value in contexts if not name.startswith("google:")} or None,
            lock=_lock_of(resource),
            kms_key=resource.get("kmsKeyName", "").partition("/cryptoKeyVersions/")[0] or None,
        ),
    )
