"""The bytes of a span, fetched chunk by chunk; while one is read, the next is on its way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future

from handler.model import MIB, Span

CHUNK = 8 * MIB
"""Bytes of a request. An upload session sends as many at once, so that they are not copied."""


class Chunks:
    """A stream of a span. Memory: two chunks.

    Args:
        fetch: returns the bytes of a chunk.
        span: what is read.
        threads: fetch ahead.
        first: the first bytes of the span, where they are there already.
    """

    def __init__(self, fetch: Callable[[Span], bytes], span: Span, threads: Executor, first: bytes = b"") -> None:
        self._fetch = fetch
        self._threads = threads
        self._data, self._offset = first, 0
        self._rest = Span(span.start + len(first), span.stop)
        self._ahead: Future[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, b"" at the end. Raises: as `fetch` does."""
        if self._offset == len(self._data):
            self._data, self._offset = b"", 0  # before the next is there
            self._data = self._next()
        elif self._ahead is None and self._rest.size:
            self._ahead = self._begun()
        start, self._offset = self._offset, len(self._data) if size < 0 else min(self._offset + size, len(self._data))
        return self._data[start : self._offset]

    def close(self) -> None:
        """Fetch no more."""
        if self._ahead is not None:
            self._ahead.cancel()

    def _next(self) -> bytes:
        """Return the next chunk, and begin to fetch the one after it."""
        if self._ahead is None and not self._rest.size:
            return b""
        ahead, self._ahead = self._ahead or self._begun(), None
        data = ahead.result()
        if self._rest.size:
            self._ahead = self._begun()
        return data

    def _begun(self) -> Future[bytes]:
        chunk = Span(self._rest.start, min(self._rest.start + CHUNK, self._rest.stop))
        self._rest = Span(chunk.stop, self._rest.stop)
        return self._threads.submit(self._fetch, chunk)
