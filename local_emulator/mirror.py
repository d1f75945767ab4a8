"""Makes a bucket hold what a folder holds: the emulator's stand-in for whoever writes to S3."""

from __future__ import annotations

import mimetypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from local_emulator import s3_objects
from local_emulator.s3_state import State
from local_emulator.scan import Found, Scanner, Signature, is_open_for_writing, signature_of
from local_emulator.settings import SETTLE

TICK = 0.02
"""Seconds after a change in which a second one could get the same timestamp: the kernel's clock ticks that coarsely."""
UNKNOWN = 1.0
"""Seconds, at most, where nobody can say whether a program has the file open."""
LONG, MANY = 256 << 20, 1000
"""Bytes, and files: more take so long that it is said what goes on."""


class Bucket(Protocol):
    """Where the folder's files go."""

    def put(self, key: str, file: BinaryIO, content_type: str | None, signature: Signature) -> bool:
        """Upload a file; return False if that was ended before the last byte."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object."""
        ...


class SourceBucket:
    """The source folder's bucket in the local S3. It keeps what it does in the state."""

    def __init__(self, name: str, state: State, stopped: threading.Event) -> None:
        self._name, self._state, self._stopped = name, state, stopped

    def put(self, key: str, file: BinaryIO, content_type: str | None, signature: Signature) -> bool:
        """Upload a file; return False if that was ended before the last byte."""
        with self._state.of_file(key, signature):
            return s3_objects.put(self._name, key, file, content_type, lambda: not self._stopped.is_set())

    def delete(self, key: str) -> None:
        """Delete an object."""
        s3_objects.delete(self._name, key)
        self._state.forget_file(key)


class Mirror:
    """Puts and deletes objects until the bucket holds the folder's files, each under its relative path.

    New names are put before old ones are deleted, so that a renamed file always has a copy. A file that a program has
    open for writing waits until it is closed, or has not changed for `settle` seconds.

    Args:
        folder: the folder.
        bucket: where its files go.
        scanner: says which files are objects.
        known: the files that the bucket has already.
        settle: see above.
        is_same: whether the folder is still the one that `known` tells of. Nothing is deleted otherwise.
    """

    def __init__(  # noqa: PLR0913 - three of them for the tests
        self,
        folder: Path,
        bucket: Bucket,
        scanner: Scanner,
        known: dict[str, Signature] | None = None,
        *,
        settle: float = SETTLE,
        is_same: Callable[[], bool] = lambda: True,
        stopped: threading.Event | None = None,
    ) -> None:
        self._folder, self._bucket, self._scanner, self._settle, self._is_same = (
            folder,
            bucket,
            scanner,
            settle,
            is_same,
        )
        self._known = known if known is not None else {}
        self._growing: dict[str, tuple[Signature, float]] = {}
        """Files that are not complete, and since when they are as they are."""
        self.stopped = stopped or threading.Event()

    @property
    def waits(self) -> bool:
        """Whether files wait to be complete."""
        return bool(self._growing)

    def begin_anew(self) -> None:
        """Take all files of the folder for new ones."""
        self._known.clear()

    def sync(self) -> None:
        """Return once a scan finds nothing that differs, or what differs must wait or cannot be put.

        Raises:
            FileNotFoundError, NotADirectoryError: the folder is gone. Nothing was deleted for that.
        """
        while not self.stopped.is_set() and self._pass():
            pass

    def any_key(self) -> str | None:
        """Return the name of some object, None where there is none."""
        return min(self._known, default=None)

    def _pass(self) -> bool:
        """Put and delete what differs now; return whether anything was done."""
        found = self._scanner.scan()
        gone = {key for key in self._known.keys() - found.files.keys() if not key.startswith(tuple(found.unread))}
        changed = {key for key, signature in found.files.items() if self._known.get(key) != signature}
        for key in self._growing.keys() - changed:
            del self._growing[key]
        self._announce(found, changed)
        above = {parent for key in changed for parent in _parents(key)}
        in_the_way = {key for key in gone if key in above or not changed.isdisjoint(_parents(key))}
        done = self._deleted(in_the_way)
        done += [self._attempt(key, self._put) for key in sorted(changed, key=lambda key: (found.files[key].size, key))]
        done += self._deleted(gone - in_the_way)
        return any(done)

    def _announce(self, found: Found, changed: set[str]) -> None:
        size = sum(found.files[key].size for key in changed)
        if size > LONG or len(changed) > MANY:
            self._scanner.say_once(f"loading {len(changed):,} files, {size >> 20:,} MiB, into S3")

    def _deleted(self, keys: set[str]) -> list[bool]:
        if not keys or not self._is_same():
            return []
        return [self._attempt(key, self._delete) for key in sorted(keys)]

    def _attempt(self, key: str, act: Callable[[str], bool]) -> bool:
        """Act on a file, unless it is time to stop; return whether the folder should be looked at once more."""
        if self.stopped.is_set():
            return False
        try:
            return act(key)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return True  # it went while we looked: look again
        except Exception as error:  # noqa: BLE001 - S3's refusals have no common class in moto
            if not self.stopped.is_set():
                self._scanner.say_once(f"{key!r} is not replicated: {error}")
            return False

    def _delete(self, key: str) -> bool:
        self._bucket.delete(key)
        del self._known[key]
        return True

    def _put(self, key: str) -> bool:
        path = self._folder / key
        time.sleep(max(0.0, min(TICK, path.stat().st_mtime + TICK - time.time())))
        content_type, _ = mimetypes.guess_type(key)
        with path.open("rb") as file:
            # Taken before the bytes are read: whatever changes from here on shows in the next scan.
            signature = signature_of(os.fstat(file.fileno()))
            if self._grows(key, signature, file):
                return False
            if self._bucket.put(key, file, content_type, signature):
                self._known[key] = signature
        return True

    def _grows(self, key: str, signature: Signature, file: BinaryIO) -> bool:
        """Return whether a file is being written; then it is looked at again."""
        written = is_open_for_writing(file)
        limit = self._settle if written else min(self._settle, UNKNOWN)
        seen, since = self._growing.get(key, (None, 0.0))
        if seen != signature:
            since = time.monotonic()
        if written is False or (seen == signature and time.monotonic() - since >= limit):
            self._growing.pop(key, None)
            return False
        self._growing[key] = (signature, since)
        return True


def _parents(key: str) -> Iterator[str]:
    """Yield each folder that a key lies in, as a key."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key
