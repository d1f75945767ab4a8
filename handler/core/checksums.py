"""The checksums that S3 keeps of objects: computed anew, made of those of parts, compared."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any, Protocol

import google_crc32c

from handler.core.errors import Corrupt
from handler.core.model import Original

MERGED = ("CRC32C", "CRC64NVME", "CRC32")
"""Checksums of a whole that follow from those of its spans."""
COMPOSITES = ("CRC32C", "CRC32", "CRC64NVME", "SHA256", "SHA1", "SHA512", "MD5", "ETAG")
"""Checksums of parts' checksums, the cheapest to verify first. "ETAG" is made of MD5s."""
_MODELS = {"CRC32C": "CRC32C", "CRC64NVME": "CRC64-NVME", "CRC32": "CRC32"}


class Hash(Protocol):
    """What hashlib's objects and the CRCs here have in common."""

    def update(self, data: bytes, /) -> None:
        """Take these bytes in as well."""

    def digest(self) -> bytes:
        """Return the checksum of all that was taken in."""


@dataclass(frozen=True, slots=True)
class Check:
    """A checksum that S3 keeps, being computed anew over what is read."""

    name: str
    hash: Hash
    expected: str
    """In base64; "" where it is not known."""

    @property
    def actual(self) -> str:
        """Return the checksum of all that was read so far, in base64."""
        return base64.b64encode(self.hash.digest()).decode()

    def verify(self, key: str) -> None:
        """Compare the checksum of what was read with the expected one.

        Raises:
            Corrupt: the bytes are not what S3 holds.
        """
        if self.expected and (actual := self.actual) != self.expected:
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
        return Check("MD5 ETag", begin("MD5"), original.md5)
    if original.parts and (made_of := composite(original)):
        hash_ = _OfParts(partial(begin, made_of), [part.size for part in original.parts])
        return Check(f"{made_of} of parts", hash_, original.composites[made_of])
    return None


def begin(algorithm: str) -> Hash:
    """Return a new hash by the algorithm's name."""
    return _HASHES["MD5" if algorithm == "ETAG" else algorithm]()


def mergeable(original: Original) -> str | None:
    """Return which checksum of `MERGED` S3 keeps of an object, None where it keeps none."""
    return next((name for name in MERGED if name in original.checksums), None)


def merge(algorithm: str, spans: Sequence[tuple[str, int]]) -> str:
    """Return the base64 checksum of a whole out of its spans' (base64 checksum, bytes), one of `MERGED`."""
    combine = _model(algorithm).combine
    values = [(base64.b64decode(value), size) for value, size in spans]
    numbers = [(int.from_bytes(value, "big"), size) for value, size in values]
    whole, _ = reduce(lambda left, right: (combine(left[0], *right), 0), numbers)
    return base64.b64encode(whole.to_bytes(len(values[0][0]), "big")).decode()


def composite(original: Original) -> str | None:
    """Return the checksum of its parts' checksums by which an object is verified, None where S3 keeps none."""
    return next((name for name in COMPOSITES if name in original.composites), None)


def composite_of(algorithm: str, values: Iterable[str]) -> str:
    """Return the base64 checksum of parts' base64 checksums, as S3 makes it."""
    whole = begin(algorithm)
    for value in values:
        whole.update(base64.b64decode(value))
    return base64.b64encode(whole.digest()).decode()


class _Crc:
    """An integer CRC in hashlib's shape, big-endian as S3 writes it."""

    def __init__(self, update: Callable[[bytes, int], int], width: int) -> None:
        self._update, self._width, self._value = update, width, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._update(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _OfParts:
    """The checksum of the concatenated checksums of parts of these sizes."""

    def __init__(self, make: Callable[[], Hash], sizes: Sequence[int]) -> None:
        self._make, self._sizes = make, iter(sizes)
        self._whole, self._part, self._room = make(), make(), next(self._sizes)

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


@cache
def _model(algorithm: str) -> Any:
    """Return what computes a CRC, faster than zlib: 13 GiB/s of a CRC32 in place of 4."""
    import anycrc  # 40 ms that an object with a CRC32C does without

    return anycrc.Model(_MODELS[algorithm])


_HASHES: Mapping[str, Callable[[], Hash]] = {
    "CRC32C": google_crc32c.Checksum,
    "CRC64NVME": lambda: _Crc(_model("CRC64NVME").calc, 8),
    "CRC32": lambda: _Crc(_model("CRC32").calc, 4),
    "SHA256": hashlib.sha256,
    "SHA1": partial(hashlib.sha1, usedforsecurity=False),
    "SHA512": hashlib.sha512,
    "MD5": partial(hashlib.md5, usedforsecurity=False),
}
