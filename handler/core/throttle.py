"""A bandwidth limit: a token bucket that all reads of one function instance draw from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.core.errors import Unavailable
from handler.core.model import MIB, Original, Span
from handler.core.ports import Reader, Source

BURST = 1.0
"""Seconds' worth of bytes that may pass at once after a pause."""


class TokenBucket:
    """Lets so many bytes a second pass, and for all threads together.

    Args:
        rate: bytes a second.
        left: seconds until the work must be done; nobody waits beyond them.
        clock: seconds that only grow.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        rate: int,
        *,
        left: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._left = left
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid = clock() - BURST
        """The moment by which all that passed so far is paid for."""

    def take(self, size: int) -> None:
        """Wait until so many bytes may have passed.

        Raises:
            Unavailable: there is not so much time left.
        """
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - BURST) + size / self._rate
            pause = self._paid - now
        if pause > self._left():
            raise Unavailable("no time is left at the bandwidth that is allowed", code="OutOfTime")
        if pause > 0:
            self._sleep(pause)


class ThrottledSource:
    """A source whose bytes come no faster than a bucket lets them; see `Source`."""

    def __init__(self, source: Source, bucket: TokenBucket) -> None:
        self._source = source
        self._bucket = bucket

    def head(self, key: str) -> Original | None:
        """Return the current state of `key`."""
        return self._source.head(key)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        """Return the original with the parts of its upload."""
        return self._source.parts(original, exact=exact)

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        """Read `key`."""
        with self._source.open(key, at=at, span=span) as body:
            yield _ThrottledReader(body, self._bucket)


class _ThrottledReader:
    def __init__(self, body: Reader, bucket: TokenBucket) -> None:
        self.original, self.size = body.original, body.size
        self._body = body
        self._bucket = bucket

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, in steps small enough to keep the flow even."""
        data = self._body.read(size if size < 0 else min(size, MIB))
        self._bucket.take(len(data))
        return data
