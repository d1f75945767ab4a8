"""Bytes on their way: counted, checked in the same pass, and handed to writers in even pieces."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import google_crc32c

from handler.errors import Corrupt
from handler.model import Original, Span
from handler.ports import Reader


class Stream(Protocol):
    """Anything bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class Hash(Protocol):
    """What hashlib's objects and the CRC wrappers here have in common."""

    def update(self, data: bytes, /) -> None:
        """Take these bytes in as well."""

    def digest(self) -> bytes:
        """The checksum of all that was taken in."""


class CheckedReader:
    """The bytes of one state of an object, counted and verified against every checksum S3 keeps of the whole of it.

    The verdict comes before the last bytes are handed out: a writer that pulls to the end and is not stopped has the
    right bytes. A span of an object is counted only.
    """

    def __init__(self, stream: Stream, original: Original, span: Span | None = None) -> None:
        self.original = original
        self.size = original.size if span is None else span.size
        self._stream = stream
        self._left = self.size
        self._checks = checks_of(original) if span is None else []

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; see `Reader`."""
        if self._left == 0 or size == 0:
            return b""
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        if not data:
            raise Corrupt(f"{self.original.key!r} ended {self._left} bytes short of the {self.size} announced")
        self._left -= len(data)
        for _, hasher, _ in self._checks:
            hasher.update(data)
        if self._left == 0:
            self._verify()
        return data

    def _verify(self) -> None:
        for name, hasher, expected in self._checks:
            actual = base64.b64encode(hasher.digest()).decode()
            if actual != expected:
                raise Corrupt(f"{self.original.key!r} arrived with {name} {actual}, S3 holds {expected}")


def checks_of(original: Original) -> list[tuple[str, Hash, str]]:
    """Return a (name, fresh hasher, expected base64) for each checksum of the whole object that can be checked."""
    found = [
        (name, _HASHES[name](), value)
        for name, value in original.checksums.items()
        if name in _HASHES and "-" not in value
    ]
    if original.md5 is not None:
        found.append(("MD5", _HASHES["MD5"](), original.md5))
    return found


def pieces(body: Reader, size: int) -> Iterator[bytes]:
    """Yield the body in pieces of exactly `size` bytes, the last one shorter; nothing for an empty body.

    Memory: one piece, besides what the reader itself holds.

    Raises:
        Corrupt: the body ended before or went on after the size it announced.
    """
    left = body.size
    while True:
        piece = _fill(body, min(size, left))
        left -= len(piece)
        if not left and body.read(1):
            raise Corrupt(f"{body.original.key!r} is longer than the {body.size} bytes announced")
        if piece:
            yield piece
        if not left:
            return


def _fill(body: Reader, size: int) -> bytes:
    data = body.read(size)
    if len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing:
        data = body.read(missing)
        if not data:
            raise Corrupt(f"{body.original.key!r} ended before the {body.size} bytes announced")
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


class _Crc32:
    """zlib's CRC32 in hashlib's shape."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _md5() -> Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Hash:
    return hashlib.sha1(usedforsecurity=False)


_HASHES: dict[str, Callable[[], Hash]] = {
    "CRC32C": google_crc32c.Checksum,
    "CRC32": _Crc32,
    "SHA1": _sha1,
    "SHA256": hashlib.sha256,
    "MD5": _md5,
}
