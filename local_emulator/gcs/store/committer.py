"""The one thread that writes the database: it commits what many callers ask for in one transaction."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from local_emulator.gcs.model import errors
from local_emulator.gcs.store.folder_view import FolderView

if TYPE_CHECKING:
    pass

from local_emulator.gcs.store.database import (
    HOMELESS,
    MOST_AT_ONCE,
    PENDING,
    PLACED,
    SCHEMA,
    SESSION_KEPT,
    Changes,
    Clock,
    Op,
    Transaction,
    find_object,
)

T = TypeVar("T")


@dataclass
class _Job(Generic[T]):
    op: Op[T]
    future: Future[T]
    result: T | None = None
    error: BaseException | None = None


class Committer(threading.Thread):
    """Runs operations one after the other; those that came in together are committed together."""

    def __init__(self, connection: sqlite3.Connection, natural: FolderView, seconds: Callable[[], float]) -> None:
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
