"""Bytes on their way: counted, checked in the same pass, and handed to writers in even chunks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from handler.core.checksums import Check, check_of
from handler.core.errors import Corrupt
from handler.core.model import Original, Span
from handler.core.ports import Reader


class Stream(Protocol):
    """Anything bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class CheckedReader:
    """The bytes of one state of an object, or of a span of it, counted and verified.

    The verdict comes before the last bytes are handed out: a writer that pulls to the end and is not stopped has the
    right bytes.

    Args:
        stream: where the bytes come from.
        original: the state that is read.
        span: which bytes of it; None: all.
        check: what the bytes are held against; None: every checksum that S3 keeps of the whole, and nothing for a span.
    """

    def __init__(
        self, stream: Stream, original: Original, span: Span | None = None, check: Check | None = None
    ) -> None:
        self.original = original
        self.size = original.size if span is None else span.size
        self._stream = stream
        self._left = self.size
        self._check = check_of(original) if span is None and check is None else check

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


def nothing_of(original: Original) -> CheckedReader:
    """Return a reader of no bytes, for an object that only marks something."""
    return CheckedReader(io.BytesIO(), replace(original, size=0, checksums={}, composites={}, md5=None, parts=()))


def even_chunks(body: Reader, size: int) -> Iterator[bytes]:
    """Yield the body in chunks of exactly `size` bytes, the last one shorter; nothing for an empty body.

    Memory: one chunk, besides what the reader itself holds.

    Raises:
        Corrupt: the body ended before or went on after the size it announced.
    """
    left = body.size
    while True:
        chunk = _filled(body, min(size, left))
        left -= len(chunk)
        if not left and body.read(1):
            raise Corrupt(f"{body.original.key!r} is longer than the {body.size} bytes announced")
        if chunk:
            yield chunk
        del chunk  # before the next is there
        if not left:
            return


def _filled(body: Reader, size: int) -> bytes:
    """Return exactly so many bytes, however few come at once."""
    data = body.read(size)
    while len(data) < size:
        more = body.read(size - len(data))
        if not more:
            raise Corrupt(f"{body.original.key!r} ended before the {body.size} bytes announced")
        data += more
    return data
