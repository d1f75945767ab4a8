"""An object in the JSON API's terms, both ways, and what GCS has no room for.

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
"""What `Headers` has, in its order."""
LISTED = ",".join(
    (
        "name,generation,metageneration,size,crc32c,md5Hash,metadata,customTime,storageClass,kmsKeyName,contexts",
        *HEADERS,
    )
)
"""What is asked of each of many objects. Of a single one, to say it takes longer than to read the rest."""

_LARGEST = 5 * TIB
_NAME_MAX, _METADATA_MAX, _METADATA_KEY_MAX, _METADATA_VALUE_MAX = 1024, 8 * KIB, KIB, 4 * KIB


def forbidden(key: str) -> bool:
    """Whether GCS has no such name. https://cloud.google.com/storage/docs/objects#naming."""
    return (
        not 1 <= len(key.encode()) <= _NAME_MAX
        or "\r" in key
        or "\n" in key
        or key in {".", ".."}
        or key.startswith(".well-known/acme-challenge/")
    )


def require_storable(key: str, size: int, stamp: Stamp) -> None:
    """Refuse, before a byte moves, what GCS cannot hold. https://cloud.google.com/storage/quotas#objects."""
    if forbidden(key):
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


def encoded(resource: Mapping[str, Any]) -> bytes:
    """Return its JSON."""
    return json.dumps(resource).encode()


def boundary() -> str:
    """Return one so long and random that no data has it. No secret, so the kernel need not be asked for it."""
    return f"{random.getrandbits(128):032x}"


def multipart(resource: Mapping[str, Any], content_type: str | None, data: bytes, mark: str) -> tuple[bytes, str]:
    """Return the body of an upload that is one POST, and the body's own type.

    https://cloud.google.com/storage/docs/uploading-objects, "JSON API multipart upload". The media's type must be the
    resource's, else GCS refuses both.

    Args:
        resource: in the JSON API's terms.
        content_type: the media's.
        data: the media.
        mark: as `boundary` makes it.
    """
    head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + encoded(resource)
    media = f"\r\n--{mark}\r\nContent-Type: {content_type or 'application/octet-stream'}\r\n\r\n".encode()
    body = b"".join((head, media, data, f"\r\n--{mark}--\r\n".encode()))
    return body, f"multipart/related; boundary={mark}"


def resource_of(stamp: Stamp) -> dict[str, Any]:
    """What is to be stored beside the bytes, in the JSON API's terms."""
    resource: dict[str, Any] = {
        name: value for name, value in zip(HEADERS, stamp.headers, strict=True) if value is not None
    }
    resource["metadata"] = dict(stamp.metadata)
    if stamp.custom_time:
        resource["customTime"] = _text(stamp.custom_time)
    if stamp.storage_class:
        resource["storageClass"] = stamp.storage_class
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
    """Return what protects an object, a retention only until it is over; None for nothing."""
    retention = resource.get("retention", {})
    until = datetime.fromisoformat(retention["retainUntilTime"]) if retention else None
    is_retained = until is not None and until > datetime.now(UTC)
    lock = Lock(hold=resource.get("temporaryHold") or None)
    lock = lock._replace(mode=retention["mode"], until=until) if is_retained else lock
    return lock if lock != Lock() else None


def overrides(new: Mapping[str, Any] | None, old: Mapping[str, Any] | None) -> bool:
    """Return True if GCS puts the new retention in place of the old one only for a request that says to override it.

    Another retention than one that is Unlocked, and shorter, or Locked. Whoever says it needs a permission of its own.
    https://cloud.google.com/storage/docs/using-object-lock
    """
    if not new or not old or old["mode"] != "Unlocked":
        return False
    after, before = (datetime.fromisoformat(retention["retainUntilTime"]) for retention in (new, old))
    return new["mode"] == "Locked" or after < before


def replica_of(resource: Mapping[str, Any]) -> Replica:
    """Return what GCS says of an object. No size means no bytes: protobuf's JSON leaves out a number that is 0.

    Raises:
        ValueError: there is no generation, so no change could be made on condition; or a value has another form.
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
