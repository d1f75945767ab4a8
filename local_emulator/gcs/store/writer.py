"""One body on its way to disk: written, hashed and synced beside the event loop, in flat memory."""
# os functions cost a tenth of pathlib's, and these run for every request
# ruff: noqa: PTH123

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import google_crc32c

from local_emulator.gcs.model import errors

if TYPE_CHECKING:
    from hashlib import _Hash

    from local_emulator.gcs.store.layout import Layout

from local_emulator.gcs.store.blobs import Blob, _blocks, encode_crc32c, remove, write_all

HELD = 320 << 10
"""Bytes of an upload gathered before they are written; there may be many uploads at once."""
GRANULE = 256 << 10
SYNC_EVERY = 64 << 20


class Writer:
    """One body being stored.

    Memory: at most two blocks in the hands of the threads and one being filled, each a block and what one read from
    the socket adds to it: under 3 x (1 MiB + the connection's read buffer).
    """

    def __init__(self, layout: Layout, pool: Executor, *, name: str | None = None, size: int = 0, crc: int = 0) -> None:
        self.name = name or layout.new_blob()
        self.path = layout.blob(self.name)
        self.size = size
        self.crc = crc
        self.md5: _Hash = hashlib.md5(usedforsecurity=False)
        self._pool = pool
        self._fd = -1
        self.open()
        self._held: list[bytes] = []
        self._held_size = 0
        self._jobs: list[asyncio.Future[None]] = []
        self._sync: asyncio.Future[None] | None = None
        self._unsynced = 0

    def open(self) -> None:
        """Open the file again, after a close."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o644)
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)

    def rehash(self) -> None:
        """Make up for an MD5 that was lost with the process that computed it; blocks."""
        with open(self.path, "rb", buffering=0) as file:
            for block in _blocks(file.fileno(), self.size):
                self.md5.update(block)

    @property
    def received(self) -> int:
        """How many bytes there are, those not yet handed to a thread included."""
        return self.size + self._held_size

    async def write(self, data: bytes) -> None:
        """Take some bytes; waits while the threads are behind."""
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size >= HELD:
            await self._settle()
            self._hand_over(self._split(self.received % GRANULE))

    def _split(self, excess: int) -> list[bytes]:
        """Take what is held, but for the last `excess` bytes: what reaches the file ends on a whole granule."""
        blocks, kept = self._held, []
        while excess:
            last = blocks.pop()
            if len(last) > excess:
                blocks.append(last[:-excess])
                last = last[-excess:]
            kept.append(last)
            excess -= len(last)
        self._held = kept[::-1]
        self._held_size = sum(map(len, kept))
        return blocks

    def _hand_over(self, blocks: list[bytes]) -> None:
        loop, amount = asyncio.get_running_loop(), sum(map(len, blocks))
        self._jobs = [
            loop.run_in_executor(self._pool, self._store, blocks),
            loop.run_in_executor(self._pool, self._digest, blocks),
        ]
        self.size += amount
        self._unsynced += amount
        if self._unsynced >= SYNC_EVERY and (self._sync is None or self._sync.done()):
            self._unsynced = 0
            self._sync = loop.run_in_executor(self._pool, os.fdatasync, self._fd)

    async def _settle(self) -> None:
        """Wait for the threads; a caller that is cancelled here loses nothing."""
        if not self._jobs:
            return
        await asyncio.wait(self._jobs)
        jobs, self._jobs = self._jobs, []
        for error in filter(None, (job.exception() for job in jobs)):
            raise errors.backend(f"The bytes could not be stored: {error}") from error

    def _store(self, blocks: list[bytes]) -> None:
        for block in blocks:
            write_all(self._fd, block)
            self.crc = google_crc32c.extend(self.crc, block)

    def _digest(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self.md5.update(block)

    def drop_tail(self) -> None:
        """Forget the bytes after the last whole granule."""
        self._held = self._split(min(self.received % GRANULE, self._held_size))
        self._held_size = sum(map(len, self._held))

    async def flush(self) -> None:
        """Wait until all bytes taken so far are safely on disk."""
        await self._settle()
        if self._held_size:
            self._hand_over(self._split(0))
            await self._settle()
        if self._sync is not None:
            await asyncio.wait([self._sync])
        await asyncio.get_running_loop().run_in_executor(self._pool, os.fsync, self._fd)

    def digests(self) -> tuple[str, str]:
        """Return CRC32C and MD5 of what was flushed."""
        return encode_crc32c(self.crc), base64.b64encode(self.md5.digest()).decode()

    async def finish(self) -> Blob:
        """Make all of it durable, close the file and return what it is."""
        await self.flush()
        stat = os.fstat(self._fd)
        self.close()
        crc, md5 = self.digests()
        return Blob(self.name, self.size, crc, md5, stat.st_ino, stat.st_mtime_ns)

    def close(self) -> None:
        """Close the file, keeping it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    async def discard(self) -> None:
        """Close the file and remove it."""
        if waiting := [*self._jobs, *([self._sync] if self._sync else [])]:
            await asyncio.wait(waiting)
        self.close()
        remove(self.path)
