"""The one commit point: SQLite, written by one thread that commits what many callers ask for in one transaction."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from local_emulator.gcs.model import errors
from local_emulator.gcs.model.resources import Bucket, Stored
from local_emulator.gcs.store.natural import Natural

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
    natural: Natural
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


@dataclass
class _Job(Generic[T]):
    op: Op[T]
    future: Future[T]
    result: T | None = None
    error: BaseException | None = None


class Committer(threading.Thread):
    """Runs operations one after the other; those that came in together are committed together."""

    def __init__(self, connection: sqlite3.Connection, natural: Natural, seconds: Callable[[], float]) -> None:
        super().__init__(name="gcs-committer", daemon=True)
        self._connection = connection
        self._natural = natural
        self._seconds = seconds
        connection.executescript(SCHEMA)
        self._clock = Clock(connection.execute("SELECT last FROM clock").fetchone()[0])
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()

    def repair(self) -> None:
        """Bring the natural files to where the database was when the last process ended, however it ended."""
        self._connection.execute("DELETE FROM sessions WHERE created < ?", (time.time() - SESSION_KEPT,))
        self._connection.execute("DELETE FROM parts WHERE session NOT IN (SELECT id FROM sessions)")
        select = "SELECT bucket, name FROM objects WHERE placed = ? UNION SELECT bucket, name FROM unsettled"
        names = set(self._connection.execute(select, (PENDING,)).fetchall())
        homeless = self._connection.execute("SELECT bucket, name FROM objects WHERE placed = ?", (HOMELESS,)).fetchall()
        names |= {one for one in homeless if self._natural.fingerprint(*one) is None}
        self._settle({(bucket, name): find_object(self._connection, bucket, name) for bucket, name in names})
        self._connection.execute("DELETE FROM retained WHERE ends <= ?", (self._seconds(),))
        named = " UNION ".join(f"SELECT blob FROM {table}" for table in ("objects", "retained", "sessions", "parts"))  # noqa: S608 - constant table names
        self._natural.sweep({row[0] for row in self._connection.execute(named)})

    def submit(self, op: Op[T], future: Future[T] | None = None) -> Future[T]:
        """Run `op` in the next transaction; its result comes once that is durable and the natural files follow."""
        future = future or Future()
        self._queue.put(_Job(op, future))
        return future

    def stop(self) -> None:
        """Finish what was submitted, then end."""
        self._queue.put(None)
        self.join()
        self._connection.close()

    def run(self) -> None:
        """Work until stopped."""
        last = False
        while not last:
            jobs, last = self._take()
            if jobs:
                self._commit(jobs)

    def _take(self) -> tuple[list[_Job[Any]], bool]:
        jobs: list[_Job[Any]] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == MOST_AT_ONCE:
                return jobs, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        changed: Changes = {}
        garbage: list[str] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._run_one(job, changed, garbage)
            self._connection.execute("UPDATE clock SET last = ?", (self._clock.last,))
            self._connection.execute("COMMIT")
            self._settle(changed)
            self._natural.discard(garbage)
        except BaseException as error:  # noqa: BLE001 - a full disk is told to every caller; the thread lives on
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for job in jobs:
                job.error = job.error or errors.backend(f"The commit failed: {error}")
        for job in jobs:
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    def _run_one(self, job: _Job[Any], changed: Changes, garbage: list[str]) -> None:
        self._connection.execute("SAVEPOINT one")
        transaction = Transaction(self._connection, self._natural, self._clock, self._seconds(), changed)
        try:
            job.result = job.op(transaction)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller of this one operation
            job.error = error
            self._connection.execute("ROLLBACK TO one")
        else:
            changed |= transaction.touched
            garbage += transaction.garbage
        self._connection.execute("RELEASE one")

    def _settle(self, changes: Changes) -> None:
        """Make natural files follow the database, then note that they do.

        The note may be lost in a power failure, so it needs no sync: settling twice does no harm.
        """
        if not changes:
            return
        placed, gone = [], []
        for (bucket, name), new in changes.items():
            there = self._natural.settle(bucket, name, new)
            if new is None:
                gone.append((bucket, name))
            else:
                placed.append((PLACED if there else HOMELESS, bucket, name))
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("UPDATE objects SET placed = ? WHERE bucket = ? AND name = ?", placed)
        self._connection.executemany("DELETE FROM unsettled WHERE bucket = ? AND name = ?", gone)
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA synchronous = FULL")
