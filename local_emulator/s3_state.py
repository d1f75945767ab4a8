"""What the source buckets hold, kept on the disk: it outlives the process, also one that is killed.

`.s3/` in the source folder has a row for each object, and the bytes of those that came by the API; the bytes of the
others are the folder's files. Former versions and delete markers are not kept.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from moto.s3.models import FakeKey

from local_emulator import s3_objects
from local_emulator.scan import STATE, Signature

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, key TEXT, state TEXT, body TEXT, changed REAL, before INTEGER, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, mtime_ns INTEGER, size INTEGER, inode INTEGER) WITHOUT ROWID;
"""


class Known(NamedTuple):
    """What is known of a key of a source bucket."""

    bucket: str
    key: str
    changed: float
    """When, in seconds since 1970."""
    before: bool
    """It was in the folder before the emulator's first start, and has not changed since."""
    gone: bool


class State:
    """The rows. Any thread may use it.

    Args:
        folder: the source folder.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._uploading: dict[str, Signature] = {}
        self._open(folder)
        (self._version,) = self._one("PRAGMA user_version")
        self.first = not self._version
        """Whether no start was complete so far: what lies in the folder was there before."""

    def _open(self, folder: Path) -> None:
        self._file = folder / STATE / "state.sqlite"
        self._bodies = folder / STATE / "bodies"
        self._bodies.mkdir(parents=True, exist_ok=True)
        try:
            self._rows = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
            # What a process wrote outlives its end by any signal; the disk's cache is the kernel's affair.
            self._rows.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
            self._inode = self._file.stat().st_ino
        except sqlite3.Error as error:
            raise OSError(f"{self._file}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._rows.close()

    def is_in_place(self) -> bool:
        """Return whether the folder at the path is still the one that the state was opened in."""
        try:
            return self._file.stat().st_ino == self._inode
        except OSError:
            return False

    def move(self, folder: Path, buckets: Iterable[str]) -> None:
        """Keep everything in another folder from now on: all objects' bytes too, as it lacks the files."""
        self.close()
        self._open(folder)
        self._do("DELETE FROM files")
        self._do("DELETE FROM objects")
        self.loaded()
        for bucket in buckets:
            for found in s3_objects.objects(bucket):
                self.changed(bucket, found.name)

    def loaded(self) -> None:
        """Keep that the start is complete: whatever comes from now on is a change."""
        self.first = False
        self._do("PRAGMA user_version = 1")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write what happens in the `with` block at once, which is faster."""
        self._do("BEGIN")
        try:
            yield
        finally:
            self._do("COMMIT")

    @contextlib.contextmanager
    def of_file(self, key: str, signature: Signature) -> Iterator[None]:
        """Know an object that changes in the `with` block as the folder's file, whose bytes need not be kept."""
        self._uploading[key] = signature
        try:
            yield
        finally:
            del self._uploading[key]

    def changed(self, bucket: str, key: str) -> None:
        """Keep what an object is now."""
        found = s3_objects.current(bucket, key)
        signature = self._uploading.get(key)
        old = self._one("SELECT state, body FROM objects WHERE bucket = ? AND key = ?", bucket, key)
        body = None
        if found is not None and signature is None:
            body = self._body(found, *(old or (None, None)))
        state = json.dumps(s3_objects.state_of(found)) if found else None
        self._do(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
            *(bucket, key, state, body, time.time(), self.first),
        )
        if signature is not None:
            self._do("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", key, *signature)
        if old and old[1] and old[1] != body:
            (self._bodies / old[1]).unlink(missing_ok=True)

    def _body(self, found: FakeKey, old: str | None, body: str | None) -> str | None:
        """Keep an object's bytes, unless they are kept already, and return the name of their file."""
        if old is not None:
            before = json.loads(old)
            if (before["_etag"], before["last_modified"]) == (found.etag.strip('"'), found.last_modified.isoformat()):
                return body  # its tags changed
        name = uuid.uuid4().hex
        with found.lock, (self._bodies / name).open("xb") as file:
            found._value_buffer.seek(0)  # noqa: SLF001 - the public value is a copy in memory
            shutil.copyfileobj(found._value_buffer, file, s3_objects.PART)  # noqa: SLF001
        return name

    def forget_file(self, key: str) -> None:
        """Know that the folder has no such file any more."""
        self._do("DELETE FROM files WHERE key = ?", key)

    def lost(self, bucket: str, key: str) -> None:
        """Keep that an object went while nobody looked."""
        self._do("UPDATE objects SET state = NULL, changed = ? WHERE bucket = ? AND key = ?", time.time(), bucket, key)
        self.forget_file(key)

    def files(self) -> dict[str, Signature]:
        """Return the files that the folder had, by their keys."""
        return {key: Signature(*rest) for key, *rest in self._all("SELECT key, mtime_ns, size, inode FROM files")}

    def known(self) -> list[Known]:
        """Return every key of which something is known."""
        rows = self._all("SELECT bucket, key, changed, before, state IS NULL FROM objects")
        return [Known(bucket, key, changed, bool(before), bool(gone)) for bucket, key, changed, before, gone in rows]

    def restore(self, folder: Path, bucket: str, same: Callable[[str], bool]) -> None:
        """Put every object back whose bytes are there: in a file of ours, or in a folder's file that is the same."""
        for owner, key, state, body in self._all("SELECT bucket, key, state, body FROM objects"):
            if state is None or (body is None and not (owner == bucket and same(key))):
                continue
            path = self._bodies / body if body else folder / key
            with contextlib.suppress(OSError), path.open("rb") as file:
                s3_objects.restore(owner, key, file, json.loads(state))

    def _do(self, statement: str, *values: object) -> None:
        with self._lock, contextlib.suppress(sqlite3.ProgrammingError):  # it was closed: the process ends
            self._rows.execute(statement, values)

    def _all(self, statement: str) -> list[Any]:
        with self._lock:
            return self._rows.execute(statement).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        with self._lock, contextlib.suppress(sqlite3.ProgrammingError):
            return self._rows.execute(statement, values).fetchone()
        return None
