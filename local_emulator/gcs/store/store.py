"""The objects behind the HTTP server: durable, one commit point, and equal to what a person sees in the folder."""
# os functions cost a tenth of pathlib's, and these run for every request
# ruff: noqa: PTH103, PTH118

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.conditions import Conditions
from local_emulator.gcs.model.resources import Bucket, Stored
from local_emulator.gcs.store import blobs, bucket_ops, database, edits, layout, versions, writes
from local_emulator.gcs.store.committer import Committer
from local_emulator.gcs.store.folder_view import FolderView
from local_emulator.gcs.store.write_rate import Target, WriteRateLimit

if TYPE_CHECKING:
    from pathlib import Path

    from local_emulator.gcs.store.blobs import Blob
    from local_emulator.gcs.store.database import Op

T = TypeVar("T")
THREADS = 6


class Store:
    """Buckets and objects in one folder; used by one server at a time, which a lock file sees to.

    `clock` returns seconds since 1970, for the write rate, the end of soft delete, and lifecycle rules.
    """

    def __init__(
        self, folder: Path, bucket: str | None, *, one_write_a_second: bool, clock: Callable[[], float] = time.time
    ) -> None:
        if bucket is not None:
            layout.check_bucket_name(bucket)
        self.layout = layout.Layout(folder, bucket)
        self._lock = layout.FolderLock(os.path.join(self.layout.state, "lock"))
        self.natural = FolderView(self.layout)
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gcs")
        self.limit = WriteRateLimit(always=one_write_a_second)
        self.clock = clock
        self._path = os.path.join(self.layout.state, "objects.sqlite")
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._buckets: dict[str, Bucket] = {}
        self.committer = Committer(database.connect(self._path), self.natural, clock)
        self.committer.repair()
        self.committer.start()
        if bucket is not None:
            self.committer.submit(bucket_ops.make(bucket, {}, if_absent=True)).result()

    def close(self) -> None:
        """Finish what was begun, and let go of the folder."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        while not self._readers.empty():
            self._readers.get().close()
        self.committer.stop()
        self._lock.close()

    def gone(self) -> bool:
        """Return True if somebody removed the folder, or put another one in its place."""
        return self._lock.gone()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Do blocking work beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *args)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the database beside the event loop."""
        return await self.run(self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = database.connect(self._path)
        try:
            return query(connection)
        finally:
            self._readers.put(connection)

    async def commit(self, op: Op[T]) -> T:
        """Run an operation; its result is durable, and the folder shows it.

        It is not abandoned when the caller goes away: what was submitted happens.
        """
        while True:
            try:
                return await asyncio.wrap_future(self.committer.submit(op))
            except errors.Stale as stale:
                await self.look_again(stale.bucket, stale.name)

    async def commit_small(self, data: bytes, checked: Callable[[Blob], Op[T]]) -> T:
        """Store a small body and run the operation that `checked` makes of it: one wait for both.

        Whatever fails, the body leaves nothing behind.
        """
        future: Future[T] = Future()
        names: list[Blob] = []

        def work() -> None:
            try:
                names.append(blobs.write_small(self.layout, data))
                self.committer.submit(checked(names[0]), future)
            except BaseException as error:  # noqa: BLE001 - the caller is told, whatever it is
                future.set_exception(error)

        self.pool.submit(work)
        try:
            try:
                return await asyncio.shield(asyncio.wrap_future(future))
            except errors.Stale as stale:
                await self.look_again(stale.bucket, stale.name)
                return await self.commit(checked(names[0]))
        except Exception:
            self.natural.discard([blob.name for blob in names])
            raise

    async def look_again(self, bucket: str, name: str) -> None:
        """Take over what a person did to a natural file: a new generation, or a delete."""
        try:
            await asyncio.wrap_future(self.committer.submit(lambda tx: tx.live(bucket, name)))
        except errors.Stale:
            adopted = await self.run(self.natural.adopt, bucket, name)
            if not await asyncio.wrap_future(self.committer.submit(edits.take_over(bucket, name, adopted))):
                await asyncio.sleep(0.01)  # the file is being written to; it settles soon

    async def get(self, bucket: str, name: str) -> Stored | None:
        """Return the live generation of an object."""

        def look(connection: sqlite3.Connection) -> tuple[Stored | None, bool]:
            found = database.find_object(connection, bucket, name)
            return found, self.natural.agrees(bucket, name, found)

        while True:
            found, fresh = await self.read(look)
            if fresh:
                return found
            await self.look_again(bucket, name)

    async def find(self, target: Target, *, reading: bool = True) -> Stored:
        """Return the generation that a call is about, if its conditions hold.

        Raises:
            GcsError: no such bucket or object, 412, or 304.
        """
        await self.bucket(target.bucket)
        live = found = await self.get(target.bucket, target.name)
        if target.generation is not None:
            asked = live, target.bucket, target.name, target.generation
            found = await self.read(lambda connection: versions.addressed(connection, *asked))
        return writes.judged(found, live, target, reading=reading)

    async def open(self, target: Target, *, reading: bool = True) -> tuple[Stored, int]:
        """Return an object and a file descriptor of its bytes, which stay the same whatever happens to the name."""
        for _ in range(100):
            found = await self.find(target, reading=reading)
            try:
                return found, os.open(self.layout.blob(found.blob), os.O_RDONLY)
            except FileNotFoundError:
                await asyncio.sleep(0.001)  # replaced in between
        raise errors.backend(f"The bytes of {target.bucket}/{target.name} are lost.")

    async def bucket(self, name: str) -> Bucket:
        """Return a bucket; a folder that a person made is one.

        Raises:
            GcsError: there is none.
        """
        if name in self._buckets:
            return self._buckets[name]
        found = await self.read(lambda connection: database.find_bucket(connection, name))
        if found is None and self.layout.bucket is None:
            found = await self._adopt_bucket(name)
        if found is None:
            raise errors.no_bucket()
        self._buckets[name] = found
        return found

    async def _adopt_bucket(self, name: str) -> Bucket | None:
        try:
            layout.check_bucket_name(name)
        except errors.GcsError:
            return None
        if name not in await self.run(self.natural.bucket_names):
            return None
        return await self.commit(bucket_ops.make(name, {}, if_absent=True))

    async def buckets(self) -> list[Bucket]:
        """Return all buckets, by name."""
        for name in await self.run(self.natural.bucket_names):
            try:
                await self.bucket(name)
            except errors.GcsError:
                continue
        rows = await self.read(lambda c: c.execute("SELECT name FROM buckets ORDER BY name").fetchall())
        return [await self.bucket(row[0]) for row in rows]

    async def make_bucket(self, name: str, said: attributes.Attributes) -> Bucket:
        """Make a bucket and its folder."""
        if self.layout.bucket not in {None, name}:
            raise errors.not_implemented(f"other buckets: this folder is the one bucket {self.layout.bucket}")
        bucket = await self.commit(bucket_ops.make(name, said, if_absent=False))
        await self.run(lambda: os.makedirs(self.layout.bucket_root(name), exist_ok=True))
        return bucket

    async def change_bucket(
        self, name: str, change: Callable[[Bucket], attributes.Attributes], conditions: Conditions
    ) -> Bucket:
        """Change a bucket's attributes on its conditions."""
        await self.bucket(name)

        self._buckets[name] = await self.commit(bucket_ops.change(name, change, conditions))
        return self._buckets[name]

    async def drop_bucket(self, name: str, conditions: Conditions) -> None:
        """Remove an empty bucket and its folder."""
        await self.bucket(name)
        if self.layout.bucket is not None:
            raise errors.not_implemented("the deletion of the one bucket that this folder is")
        await self.refresh(name, "")

        await self.commit(bucket_ops.drop(name, conditions))
        self._buckets.pop(name, None)

    async def refresh(self, bucket: str, prefix: str) -> None:
        """Take over whatever a person did to the files under a prefix."""

        def stale(connection: sqlite3.Connection) -> list[str]:
            prints = self.natural.prints(bucket, prefix)
            query = "SELECT name, inode, mtime, size, placed FROM objects WHERE bucket = ? AND name >= ? AND name < ?"
            names = []
            for name, *known, placed in connection.execute(query, (bucket, prefix, database.successor(prefix))):
                seen = prints.pop(name, None)
                if seen != tuple(known) if seen else placed == database.PLACED:
                    names.append(name)
            return names + list(prints)

        for name in await self.read(stale):
            await self.look_again(bucket, name)
