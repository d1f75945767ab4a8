"""The files that hold the bytes of objects: written at once, joined, copied, hashed, removed."""
# os functions cost a tenth of pathlib's, and these run for every request
# ruff: noqa: PTH108, PTH123

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c

from local_emulator.gcs.model import errors

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Stored
    from local_emulator.gcs.store.layout import Layout

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are safely on disk, though nothing refers to them yet."""

    name: str
    size: int
    crc32c: str
    md5: str | None
    inode: int
    mtime: int


def encode_crc32c(value: int) -> str:
    """Return a CRC32C as GCS writes it: base64 of four bytes, most significant first."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def write_small(layout: Layout, data: bytes) -> Blob:
    """Store a small body in one go; blocks."""
    name = layout.new_blob()
    fd = os.open(layout.blob(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        write_all(fd, data)
        os.fsync(fd)
        stat = os.fstat(fd)
    finally:
        os.close(fd)
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    return Blob(name, len(data), encode_crc32c(google_crc32c.extend(0, data)), md5, stat.st_ino, stat.st_mtime_ns)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; os.write may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def hash_file(path: str) -> tuple[str, str]:
    """Return CRC32C and MD5 of a file; blocks."""
    crc, md5 = 0, hashlib.md5(usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        for block in _blocks(file.fileno(), None):
            crc = google_crc32c.extend(crc, block)
            md5.update(block)
    return encode_crc32c(crc), base64.b64encode(md5.digest()).decode()


def _blocks(fd: int, count: int | None) -> Iterator[bytes]:
    while count is None or count > 0:
        block = os.read(fd, BLOCK if count is None else min(BLOCK, count))
        if not block:
            return
        yield block
        if count is not None:
            count -= len(block)


def concatenate(layout: Layout, sources: list[int]) -> Blob:
    """Store the bytes of open files one after the other, without an MD5, as compose does; blocks."""
    name, crc, size = layout.new_blob(), 0, 0
    fd = os.open(layout.blob(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        for source in sources:
            os.lseek(source, 0, os.SEEK_SET)
            for block in _blocks(source, None):
                write_all(fd, block)
                crc = google_crc32c.extend(crc, block)
                size += len(block)
        os.fsync(fd)
        stat = os.fstat(fd)
    except BaseException:
        remove(layout.blob(name))
        raise
    finally:
        os.close(fd)
    return Blob(name, size, encode_crc32c(crc), None, stat.st_ino, stat.st_mtime_ns)


def copy(layout: Layout, source: int, stored: Stored) -> Blob:
    """Store the bytes of an open file once more, as the kernel does it fastest; blocks."""
    name, left = layout.new_blob(), stored.size
    fd = os.open(layout.blob(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.lseek(source, 0, os.SEEK_SET)
        while left and (done := _copy_some(source, fd, left)):
            left -= done
        if left:
            raise errors.backend("The source became shorter while it was copied.")  # noqa: TRY301 - the cleanup is for it too
        os.fsync(fd)
        stat = os.fstat(fd)
    except BaseException:
        remove(layout.blob(name))
        raise
    finally:
        os.close(fd)
    return Blob(name, stored.size, stored.crc32c, stored.md5, stat.st_ino, stat.st_mtime_ns)


def _copy_some(source: int, fd: int, most: int) -> int:
    try:
        return os.copy_file_range(source, fd, min(most, 1 << 30))
    except OSError:
        data = os.read(source, min(most, BLOCK))
        write_all(fd, data)
        return len(data)
