"""What the loop needs of the outside world: promises that every adapter and every fake keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from handler.core.model import Generation, Original, Replica, Span, Stamp


class Reader(Protocol):
    """Bytes of exactly one state of an object, pulled by whoever writes them."""

    @property
    def original(self) -> Original:
        """Return the state that is being read."""

    @property
    def size(self) -> int:
        """Return how many bytes will come in all."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes (all that are left where negative), b"" at the end.

        Raises:
            Moved: that state no longer exists.
            Unavailable: the bytes stopped coming.
            Corrupt: what came is not what S3 says it holds; raised before the last bytes are handed out.
        """


class Source(Protocol):
    """One bucket that is read."""

    def head(self, key: str) -> Original | None:
        """Return the current state of `key`, None where there is no such object (or a delete marker)."""

    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> AbstractContextManager[Reader]:
        """Read `key` in exactly the state `at`, or in whatever state it is where `at` is None.

        Raises:
            Moved: there is no such object in that state.
        """

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        """Return `original` with the parts of its multipart upload, or as it is where they cannot be learnt.

        Args:
            original: a state whose only checksums are of parts.
            exact: ask for the boundary of every part, however many requests that takes; nothing is assumed then.

        Raises:
            Moved: there is no such object in that state.
        """


class Destination(Protocol):
    """One place that is written to. Every change is conditional, atomic, and durable once it returns."""

    def head(self, key: str) -> Replica:
        """Return what is at `key`; `Replica()` where there is nothing."""

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Store the reader's bytes, all or none of them, if `key` still is at `expect`.

        A body that breaks, ends early, or is longer than it said leaves what was there.

        Raises:
            Moved: `key` is at another generation or metageneration, perhaps by this very call, whose answer was lost.
            Corrupt: the body was not what it announced, or what arrived is not what was sent.
            Whatever the reader raises, as it is.
        """

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace everything but the bytes, if `key` still is at `expect`.

        Raises:
            Moved: `key` is at another generation or metageneration.
        """

    def delete(self, key: str, *, expect: Generation) -> None:
        """Remove `key`, if it still is at `expect`.

        Raises:
            Moved: `key` is at another generation or metageneration, or already gone.
        """


@runtime_checkable
class Composer(Destination, Protocol):
    """A destination that can join objects it holds without moving their bytes."""

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        """Store the concatenation of 1 to 32 objects as `key`, if `key` still is at `expect`, and remove the parts.

        Raises:
            Moved: `key` is at another generation or metageneration.
            NotFound: a part does not exist.
        """

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        """Return the objects whose names begin with `prefix`, by name, as they are now.

        A listing may lack checksums, as one of a bucket with a customer-managed key does; `head` has them.

        Args:
            prefix: what the names begin with.
            start: return only names from this one on.
            stop: return only names before this one; "" for no end.
        """
