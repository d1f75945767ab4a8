"""The database: SQLite, its tables, and one transaction of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from local_emulator.gcs.model import errors
from local_emulator.gcs.model.resources import Bucket, Stored
from local_emulator.gcs.store.folder_view import FolderView

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
MOST_AT_ONCE = 256
SESSION_KEPT = 14 * 24 * 3600.0  # twice as long as one lives, so that who comes late is told so

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets(name TEXT PRIMARY KEY, metageneration INTEGER NOT NULL, attributes TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects(
  bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
  blob TEXT NOT NULL, size INTEGER NOT NULL, crc32c TEXT NOT NULL, md5 TEXT, inode INTEGER NOT NULL,
  mtime INTEGER NOT NULL, placed INTEGER NOT NULL, attributes TEXT NOT NULL, PRIMARY KEY(bucket, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retained(
  bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
  blob TEXT NOT NULL, size INTEGER NOT NULL, crc32c TEXT NOT NULL, md5 TEXT, inode INTEGER NOT NULL,
  mtime INTEGER NOT NULL, placed INTEGER NOT NULL, attributes TEXT NOT NULL, ends REAL,
  PRIMARY KEY(bucket, name, generation)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS retained_ends ON retained(ends);
CREATE TABLE IF NOT EXISTS unsettled(
  bucket TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(bucket, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents(
  kind TEXT NOT NULL, owner TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY(kind, owner, id))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock(only INTEGER PRIMARY KEY CHECK(only = 1), last INTEGER NOT NULL);
INSERT OR IGNORE INTO clock VALUES(1, 0);
CREATE TABLE IF NOT EXISTS sessions(
  id TEXT PRIMARY KEY, bucket TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, created REAL NOT NULL,
  blob TEXT NOT NULL, persisted INTEGER NOT NULL, crc INTEGER NOT NULL, request TEXT NOT NULL,
  status INTEGER NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts(
  session TEXT NOT NULL, number INTEGER NOT NULL, blob TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL,
  crc32c TEXT NOT NULL, modified TEXT NOT NULL, PRIMARY KEY(session, number)) WITHOUT ROWID;
"""

PENDING, PLACED, HOMELESS = 0, 1, 2  # of a natural file: to be made, there, impossible
OBJECT = "bucket, name, generation, metageneration, blob, size, crc32c, md5, inode, mtime, placed, attributes"
FIND_OBJECT = f"SELECT {OBJECT} FROM objects WHERE bucket = ? AND name = ?"  # noqa: S608 - constant column names
Changes = dict[tuple[str, str], Stored | None]
Op = Callable[["Transaction"], T]


def connect(path: Path | str) -> sqlite3.Connection:
    """Open the database; a connection may be handed from thread to thread, used by one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -4096")
    return connection


def stored(row: tuple[Any, ...]) -> Stored:
    """Return the object in a row of the columns in OBJECT."""
    return Stored(*(*row[:10], row[10] == PLACED, json.loads(row[11])))


def find_object(connection: sqlite3.Connection, bucket: str, name: str) -> Stored | None:
    """Return what the database says of an object."""
    row = connection.execute(FIND_OBJECT, (bucket, name)).fetchone()
    return None if row is None else stored(row)


def find_bucket(connection: sqlite3.Connection, name: str) -> Bucket | None:
    """Return what the database says of a bucket."""
    row = connection.execute("SELECT metageneration, attributes FROM buckets WHERE name = ?", (name,)).fetchone()
    return None if row is None else Bucket(name, row[0], json.loads(row[1]))


@dataclass
class Transaction:
    """What an operation may do; all of it, or nothing, becomes durable at once."""

    connection: sqlite3.Connection
    natural: FolderView
    clock: Clock
    now: float
    changed: Changes
    touched: Changes = field(default_factory=dict)
    garbage: list[str] = field(default_factory=list)

    def live(self, bucket: str, name: str) -> Stored | None:
        """Return the live generation of an object, None where there is none.

        Raises:
            Stale: a person changed the natural file; look at it first.
        """
        found = find_object(self.connection, bucket, name)
        if (
            (bucket, name) not in self.changed
            and (bucket, name) not in self.touched
            and not self.natural.agrees(bucket, name, found)
        ):
            raise errors.Stale(bucket, name)
        return found

    def put(self, new: Stored, old: Stored | None, *, keep_blob: bool = False) -> Stored:
        """Make `new` the live generation; the bytes of `old` are removed after the commit, unless they are kept."""
        values = (
            new.bucket, new.name, new.generation, new.metageneration, new.blob, new.size, new.crc32c, new.md5,
            new.inode, new.mtime, PLACED if new.placed else PENDING, json.dumps(new.attributes),
        )  # fmt: skip
        places = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT OR REPLACE INTO objects({OBJECT}) VALUES({places})", values)
        if old is not None and old.blob != new.blob and not keep_blob:
            self.garbage.append(old.blob)
        key = new.bucket, new.name
        if self.touched.get(key, self.changed.get(key, new)) is None:  # dropped a moment ago, and here again
            self.connection.execute("DELETE FROM unsettled WHERE bucket = ? AND name = ?", key)
        if not new.placed:
            self.touched[key] = new
        return new

    def drop(self, old: Stored, *, keep_blob: bool = False) -> None:
        """Remove the live generation; its bytes are removed after the commit, unless they are kept."""
        self.connection.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (old.bucket, old.name))
        if not keep_blob:
            self.garbage.append(old.blob)
        self.connection.execute("INSERT OR REPLACE INTO unsettled VALUES(?, ?)", (old.bucket, old.name))
        self.touched[old.bucket, old.name] = None

    def next_generation(self) -> int:
        """Return a number larger than every one before, now or before a restart."""
        return self.clock.tick()


class Clock:
    """Microseconds since 1970, never the same twice, never back."""

    def __init__(self, last: int) -> None:
        self.last = last

    def tick(self) -> int:
        """Return the next moment."""
        self.last = max(time.time_ns() // 1000, self.last + 1)
        return self.last


def successor(prefix: str) -> str:
    """Return the least text that is greater than every text with this prefix."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:end] + chr(code)
    return "\U0010ffff" * 1025
