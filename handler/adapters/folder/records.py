"""What the folder destination writes: copies with their checksums, and records of what they carry."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import google_crc32c

from handler.core.model import MIB, Generation, Headers, Lock, Replica, Stamp
from handler.core.ports import Reader
from handler.core.readers import pieces


def copy(body: Reader, file: IO[bytes]) -> tuple[str, str]:
    """Write the body in pieces of 1 MiB; return its CRC32C and MD5 as base64."""
    digests = _digested(_written(pieces(body, MIB), file))
    file.flush()
    return digests


def checksums(path: Path) -> tuple[str, str]:
    """Return the CRC32C and MD5 of a file as base64."""
    with path.open("rb") as file:
        return _digested(iter(lambda: file.read(MIB), b""))


def _written(data: Iterable[bytes], file: IO[bytes]) -> Iterable[bytes]:
    for piece in data:
        file.write(piece)
        yield piece


def _digested(data: Iterable[bytes]) -> tuple[str, str]:
    crc32c, md5 = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False)
    for piece in data:
        crc32c.update(piece)
        md5.update(piece)
    return base64.b64encode(crc32c.digest()).decode(), base64.b64encode(md5.digest()).decode()


def entry_of(replica: Replica) -> dict[str, Any]:
    """Return the replica as a record keeps it."""
    stamp = replica.stamp
    return {
        "generation": replica.generation,
        "size": replica.size,
        "crc32c": replica.crc32c,
        "md5": replica.md5,
        "headers": stamp.headers._asdict(),
        "metadata": dict(stamp.metadata),
        "custom_time": stamp.custom_time.isoformat() if stamp.custom_time else None,
        "storage_class": stamp.storage_class,
        "kms_key": stamp.kms_key,
        "lock": stamp.lock and [stamp.lock.mode, _text(stamp.lock.until), stamp.lock.hold],
        "contexts": None if stamp.contexts is None else dict(stamp.contexts),
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _lock(entry: list[Any] | None) -> Lock | None:
    if entry is None:
        return None
    mode, until, hold = entry
    return Lock(mode, datetime.fromisoformat(until) if until else None, hold)


def replica_of(entry: dict[str, Any]) -> Replica:
    """Return the replica that a record's entry tells of."""
    return Replica(
        generation=Generation(*entry["generation"]),
        size=entry["size"],
        crc32c=entry["crc32c"],
        md5=entry["md5"],
        stamp=Stamp(
            headers=Headers(**entry["headers"]),
            metadata=entry["metadata"],
            custom_time=datetime.fromisoformat(entry["custom_time"]) if entry["custom_time"] else None,
            storage_class=entry["storage_class"],
            kms_key=entry.get("kms_key"),  # records of earlier releases have none of these
            contexts=entry.get("contexts"),
            lock=_lock(entry.get("lock")),
        ),
    )
