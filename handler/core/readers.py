"""Bytes on their way: counted, checked in the same pass, and handed to writers in even pieces."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Protocol

import google_crc32c

from handler.core.errors import Corrupt
from handler.core.model import Original, Span
from handler.core.ports import Reader


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
        self._check = check_of(original) if span is None else None

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; see `Reader`."""
        if self._left == 0 or size == 0:
            return b""
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        if not data:
            raise Corrupt(f"{self.original.key!r} ended {self._left} bytes short of the {self.size} announced")
        self._left -= len(data)
        if self._check:
            self._check.hash.update(data)
            if self._left == 0:
                self._check.verify(self.original.key)
        return data


MERGED = ("CRC32C", "CRC64NVME", "CRC32")
"""Checksums of a whole that follow from those of its spans."""
_MODELS = {"CRC32C": "CRC32C", "CRC64NVME": "CRC64-NVME", "CRC32": "CRC32"}


def mergeable(original: Original) -> str | None:
    """Return which of them S3 keeps of an object, None where it keeps none."""
    return next((name for name in MERGED if name in original.checksums), None)


def merge(algorithm: str, spans: Sequence[tuple[str, int]]) -> str:
    """Return the base64 checksum of a whole out of its spans' (base64 checksum, bytes), one of `MERGED`."""
    import anycrc  # only large objects need it

    model = anycrc.Model(_MODELS[algorithm])
    values = [(base64.b64decode(value), size) for value, size in spans]
    first, width = int.from_bytes(values[0][0], "big"), len(values[0][0])
    whole = reduce(
        lambda left, right: model.combine(left, int.from_bytes(right[0], "big"), right[1]), values[1:], first
    )
    return base64.b64encode(whole.to_bytes(width, "big")).decode()


COMPOSITES = ("CRC32C", "CRC32", "CRC64NVME", "SHA256", "SHA1", "SHA512", "MD5", "ETAG")
"""Checksums of parts' checksums, the cheapest to verify first. "ETAG" is made of MD5s."""


def composite(original: Original) -> str | None:
    """Return the checksum of its parts' checksums by which an object is verified, None where S3 keeps none."""
    return next((name for name in COMPOSITES if name in original.composites), None)


def composite_of(algorithm: str, values: Iterable[str]) -> str:
    """Return the base64 checksum of parts' base64 checksums, as S3 makes it."""
    whole = _make(algorithm)
    for value in values:
        whole.update(base64.b64decode(value))
    return base64.b64encode(whole.digest()).decode()


class HashedReader:
    """A reader that computes the checksum of what it hands out.

    Args:
        body: what is read.
        algorithm: one of S3's, or "ETAG"; "" for none.
        expected: what the checksum of all bytes must be, in base64; "" where that is not known. The verdict comes
            before the last bytes are handed out.
    """

    def __init__(self, body: Reader, algorithm: str, expected: str = "") -> None:
        self.original, self.size = body.original, body.size
        self._body = body
        self._left = body.size
        self._hash = _make(algorithm) if algorithm else None
        self._check = Check(algorithm, self._hash, expected) if self._hash and expected else None

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; see `Reader`."""
        data = self._body.read(size)
        self._left -= len(data)
        if self._hash:
            self._hash.update(data)
        if self._check and not self._left and data:
            self._check.verify(self.original.key)
        return data

    @property
    def checksum(self) -> str:
        """Of all that was read so far, as base64; "" where no algorithm was asked for."""
        return base64.b64encode(self._hash.digest()).decode() if self._hash else ""


@dataclass(frozen=True, slots=True)
class Check:
    """A checksum that S3 keeps, being computed anew over what is read."""

    name: str
    hash: Hash
    expected: str

    def verify(self, key: str) -> None:
        """Compare.

        Raises:
            Corrupt: they differ.
        """
        actual = base64.b64encode(self.hash.digest()).decode()
        if actual != self.expected:
            raise Corrupt(f"{key!r} arrived with {self.name} {actual}, S3 holds {self.expected}")


def check_of(original: Original) -> Check | None:
    """Return the check that can be made of a whole object, None where S3 keeps nothing that can be computed.

    A checksum of all the bytes comes before the ETag's MD5, and that before those made of the parts' checksums.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    for name, make in _HASHES.items():
        if name in original.checksums:
            return Check(name, make(), original.checksums[name])
    if original.md5 is not None:
        return Check("MD5 ETag", _md5(), original.md5)
    if original.parts and (made_of := composite(original)):
        sizes = [part.size for part in original.parts]
        hash_ = _OfParts(partial(_make, made_of), sizes)
        return Check(f"{made_of} of parts", hash_, original.composites[made_of])
    return None


def nothing_of(original: Original) -> CheckedReader:
    """Return a reader of no bytes, for an object that only marks something."""
    return CheckedReader(io.BytesIO(), replace(original, size=0, checksums={}, composites={}, md5=None, parts=()))


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
        del piece  # before the next is there
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


class _Crc:
    """An integer CRC in hashlib's shape, big-endian as S3 writes it."""

    def __init__(self, update: Callable[[bytes, int], int], width: int) -> None:
        self._update = update
        self._width = width
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._update(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _OfParts:
    """The checksum of the concatenated checksums of parts of these sizes."""

    def __init__(self, make: Callable[[], Hash], sizes: Sequence[int]) -> None:
        self._make = make
        self._sizes = iter(sizes)
        self._whole = make()
        self._part = make()
        self._room = next(self._sizes)

    def update(self, data: bytes, /) -> None:
        while data:
            if self._room == 0:
                self._whole.update(self._part.digest())
                self._part, self._room = self._make(), next(self._sizes)
            taken, data = data[: self._room], data[self._room :]
            self._part.update(taken)
            self._room -= len(taken)

    def digest(self) -> bytes:
        self._whole.update(self._part.digest())
        return self._whole.digest()


def _md5() -> Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Hash:
    return hashlib.sha1(usedforsecurity=False)


def _make(algorithm: str) -> Hash:
    """Begin a checksum by its name."""
    if algorithm in MERGED:
        return _merged(algorithm)
    return _md5() if algorithm == "ETAG" else _HASHES[algorithm]()


def _merged(algorithm: str) -> Hash:
    """One of `MERGED`, by the fastest that there is of each: the library takes a quarter of zlib's time for a CRC32."""
    if algorithm == "CRC32C":
        return google_crc32c.Checksum()
    import anycrc  # few small objects need it once S3 keeps a CRC32C

    return _Crc(anycrc.Model(_MODELS[algorithm]).calc, 8 if algorithm == "CRC64NVME" else 4)


_HASHES: dict[str, Callable[[], Hash]] = {
    "CRC32C": google_crc32c.Checksum,
    "CRC64NVME": lambda: _merged("CRC64NVME"),
    "CRC32": lambda: _Crc(zlib.crc32, 4),
    "SHA256": hashlib.sha256,
    "SHA1": _sha1,
    "SHA512": hashlib.sha512,
    "MD5": _md5,
}
