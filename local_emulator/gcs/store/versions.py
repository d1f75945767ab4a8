"""Generations that are no longer live: noncurrent ones of a versioned bucket, and soft-deleted ones.

https://cloud.google.com/storage/docs/object-versioning and https://cloud.google.com/storage/docs/soft-delete
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local_emulator.gcs.model import attributes
from local_emulator.gcs.store.database import OBJECT, stored

if TYPE_CHECKING:
    import sqlite3

    from local_emulator.gcs.model.resources import Bucket, Stored
    from local_emulator.gcs.store.database import Transaction

_FIND = f"SELECT {OBJECT} FROM retained WHERE bucket = ? AND name = ? AND generation = ?"  # noqa: S608 - constant names


def enabled(bucket: Bucket) -> bool:
    """Return True if overwriting and deleting leave noncurrent versions."""
    return bucket.attributes.get("versioning", {}).get("enabled") is True


def soft_delete_seconds(bucket: Bucket) -> int:
    """Return how long soft-deleted objects are retained, in seconds; 0 where the bucket has no soft delete."""
    return int(bucket.attributes.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))


def addressed(
    connection: sqlite3.Connection, live: Stored | None, bucket: str, name: str, generation: int | None
) -> Stored | None:
    """Return the live or noncurrent generation that a call names, the live one where it names none."""
    if generation is None or (live is not None and live.generation == generation):
        return live
    row = connection.execute(f"{_FIND} AND ends IS NULL", (bucket, name, generation)).fetchone()
    return None if row is None else stored(row)


def soft_deleted(connection: sqlite3.Connection, bucket: str, name: str, generation: int, now: float) -> Stored | None:
    """Return a soft-deleted generation whose retention has not ended, None where there is none."""
    row = connection.execute(f"{_FIND} AND ends > ?", (bucket, name, generation, now)).fetchone()
    return None if row is None else stored(row)


def retire(tx: Transaction, old: Stored, bucket: Bucket, *, permanently: bool = False) -> bool:
    """Keep a live generation that is overwritten or deleted, as its bucket says; return True if its bytes are kept.

    Args:
        tx: what removes it from the live ones.
        old: the live generation.
        bucket: its bucket.
        permanently: the caller named the generation, so that it does not become noncurrent.
    """
    if enabled(bucket) and not permanently:
        _insert(tx, old, {"timeDeleted": _timestamp(tx.now)}, None)
        return True
    return _soft_delete(tx, old, bucket)


def drop(tx: Transaction, old: Stored, bucket: Bucket) -> None:
    """Delete a noncurrent version: it becomes soft-deleted where the bucket says so, else it is gone."""
    key = old.bucket, old.name, old.generation
    tx.connection.execute("DELETE FROM retained WHERE bucket = ? AND name = ? AND generation = ?", key)
    if not _soft_delete(tx, old, bucket):
        tx.garbage.append(old.blob)


def change(tx: Transaction, new: Stored) -> Stored:
    """Store the changed metadata of a noncurrent version."""
    tx.connection.execute(
        "UPDATE retained SET metageneration = ?, attributes = ? WHERE bucket = ? AND name = ? AND generation = ?",
        (new.metageneration, json.dumps(new.attributes), new.bucket, new.name, new.generation),
    )
    return new


def forget(tx: Transaction, bucket: str, *, ended: bool) -> None:
    """Remove a bucket's soft-deleted objects for good: those whose retention has ended, or all."""
    until = tx.now if ended else float("inf")
    gone = tx.connection.execute("DELETE FROM retained WHERE bucket = ? AND ends <= ? RETURNING blob", (bucket, until))
    tx.garbage += [row[0] for row in gone.fetchall()]


def _soft_delete(tx: Transaction, old: Stored, bucket: Bucket) -> bool:
    seconds = soft_delete_seconds(bucket)
    if not seconds:
        return False
    forget(tx, bucket.name, ended=True)
    ends = tx.now + seconds
    _insert(tx, old, {"softDeleteTime": _timestamp(tx.now), "hardDeleteTime": _timestamp(ends)}, ends)
    return True


def _insert(tx: Transaction, old: Stored, times: attributes.Attributes, ends: float | None) -> None:
    kept = replace(old, placed=False, attributes=old.attributes | times)
    places = ", ".join("?" * 13)
    tx.connection.execute(
        f"INSERT INTO retained({OBJECT}, ends) VALUES({places})",
        (
            kept.bucket, kept.name, kept.generation, kept.metageneration, kept.blob, kept.size, kept.crc32c, kept.md5,
            kept.inode, kept.mtime, 0, json.dumps(kept.attributes), ends,
        ),
    )  # fmt: skip


def _timestamp(seconds: float) -> str:
    return attributes.timestamp(datetime.fromtimestamp(seconds, UTC))
