"""The bytes of a span, fetched chunk by chunk; while one is read, the next is on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from handler.core.model import MIB, Span

CHUNK = 8 * MIB
"""Bytes of a request. An upload session sends as many at once, so that they are not copied."""


AHEAD = 4
"""Chunks that are fetched ahead of all streams together. Many streams need none: each reads while others write."""


class ReadAhead:
    """Fetches chunks that are not asked for yet, for all streams; so many at once as may be."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AHEAD, "read-ahead")
        self._free = threading.Semaphore(AHEAD)

    def begin(self, fetch: Callable[[Span], bytes], chunk: Span) -> Future[bytes] | None:
        """Begin to fetch a chunk; return None if too many are fetched ahead already."""
        return self._threads.submit(fetch, chunk) if self._free.acquire(blocking=False) else None

    def end(self, ahead: Future[bytes]) -> bytes:
        """Return the bytes of a chunk, and make room for another."""
        try:
            return ahead.result()
        finally:
            self._free.release()

    def drop(self, ahead: Future[bytes]) -> None:
        """Make room for another once the chunk is there, which nobody needs any more."""
        ahead.cancel()
        ahead.add_done_callback(lambda _: self._free.release())

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()


class Chunks:
    """A stream of a span. Memory: a chunk, besides the one that is fetched ahead.

    Args:
        fetch: returns the bytes of a chunk.
        span: what is read.
        ahead: fetches the next chunk.
        first: the first bytes of the span, where they are there already.
    """

    def __init__(self, fetch: Callable[[Span], bytes], span: Span, ahead: ReadAhead, first: bytes = b"") -> None:
        self._fetch = fetch
        self._threads = ahead
        self._data, self._offset = first, 0
        self._rest = Span(span.start + len(first), span.stop)
        self._next: Future[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end. Raises: as `fetch` does."""
        if self._offset == len(self._data):
            self._data, self._offset = b"", 0  # before the next is there
            self._data = self._fetched()
        if self._next is None and self._rest.size:
            self._next = self._threads.begin(self._fetch, self._chunk)
        start, self._offset = self._offset, len(self._data) if size < 0 else min(self._offset + size, len(self._data))
        return self._data[start : self._offset]

    def close(self) -> None:
        """Fetch no more."""
        if self._next is not None:
            self._threads.drop(self._next)
            self._next = None

    @property
    def _chunk(self) -> Span:
        return Span(self._rest.start, min(self._rest.start + CHUNK, self._rest.stop))

    def _fetched(self) -> bytes:
        """Return the next chunk, fetched ahead or now."""
        if not self._rest.size:
            return b""
        ahead, self._next = self._next, None
        data = self._threads.end(ahead) if ahead else self._fetch(self._chunk)
        self._rest = Span(self._chunk.stop, self._rest.stop)
        return data
