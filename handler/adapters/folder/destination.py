"""A folder as a destination: copies as plain files, with a disk's strongest promises.

Beside the natural tree (see `names`) the folder has a state folder, `.replicator/` (see `records`).

A new copy takes effect when its file is renamed. The record is written before that, for the new file and the old one.
So whichever side of the rename a crash falls on, the file that is there has an entry. A file without an entry belongs
to somebody else.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from handler.adapters.folder.names import STATE, aside_path, natural_path
from handler.adapters.folder.records import Records, checksums, checksums_of, flush, identity_of, sync
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import ABSENT, MIB, Generation, Replica, Stamp
from handler.core.ports import Reader
from handler.core.readers import even_chunks

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP}
_RACES = 100
"""Tries to rename into a folder that deletes keep removing as empty."""
_BLOCKED = (FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class _Found:
    """The file of a key, and what its record says."""

    path: Path
    identity: str
    replica: Replica


class FolderDestination:
    """A folder; see `Destination`. Any number of threads and processes may write to it at once.

    The first write makes the folder. The file system needs `flock` and atomic renames (not Windows).
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._records = Records(folder / STATE)
        self._case_blind: bool | None = None

    def head(self, key: str) -> Replica:
        """Return what is at `key`. A file without a record is read for its checksums."""
        with _translated(f"look at {key!r}"):
            found = self._find(key)
            return found.replica if found else Replica()

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Write a temporary file, and rename it under the key's lock if `key` is at `expect`; see `Destination`."""
        watched = _Watched(body)
        with _translated(f"write {key!r}", watched):
            self._records.prepare()
            self._expect(key, expect)  # before the whole body is read
            with self._records.temporary() as file:
                crc32c, md5 = checksums(_written(watched, file))
                flush(file)
                with self._records.lock(key):
                    found = self._expect(key, expect)
                    generation = Generation(max(time.time_ns(), expect.number + 1), 1)
                    recorded = stamp.recording(crc32c)
                    replica = Replica(generation=generation, size=body.size, crc32c=crc32c, md5=md5, stamp=recorded)
                    old = {found.identity: found.replica} if found else {}
                    self._records.write(key, {identity_of(os.fstat(file.fileno())): replica, **old})
                    self._place(Path(file.name), key, found)
                return replica

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace the record, if `key` still is at `expect`; see `Destination`."""
        with _translated(f"patch {key!r}"), self._locked(key, expect) as found:
            was = found.replica
            generation = was.generation._replace(metageneration=was.generation.metageneration + 1)
            replica = replace(was, generation=generation, stamp=stamp.over(was.stamp))
            self._records.write(key, {found.identity: replica})
            return replica

    def delete(self, key: str, *, expect: Generation) -> None:
        """Remove the file and the folders it leaves empty, if `key` still is at `expect`; see `Destination`."""
        with _translated(f"delete {key!r}"), self._locked(key, expect) as found:
            found.path.unlink()
            _sync_nearest(found.path.parent)
            self._records.path(key).unlink(missing_ok=True)
            self._prune(found.path.parent)

    @contextmanager
    def _locked(self, key: str, expect: Generation) -> Iterator[_Found]:
        """Yield the file of a key that is at `expect`, under the key's lock."""
        if expect == ABSENT:
            raise Moved(f"cannot change {key!r}: there is no file")
        self._records.prepare()
        with self._records.lock(key):
            found = self._expect(key, expect)
            if found is None:
                raise AssertionError("a file that is at a generation exists")
            yield found

    def _expect(self, key: str, expect: Generation) -> _Found | None:
        """Return the file of a key. Raises Moved if it is not at `expect`."""
        found = self._find(key)
        actual = found.replica.generation if found else ABSENT
        if actual != expect:
            raise Moved(f"{key!r} is at {actual}, not at {expect}")
        return found

    def _find(self, key: str) -> _Found | None:
        for path in self._paths(key)[::-1]:
            with suppress(FileNotFoundError, NotADirectoryError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and not self._is_through_a_link(path):
                    return self._describe(key, path, status)
        return None

    def _describe(self, key: str, path: Path, status: os.stat_result) -> _Found | None:
        identity = identity_of(status)
        if replica := self._records.read(key, identity):
            return _Found(path, identity, replica)
        crc32c, md5 = checksums_of(path)
        if identity_of(path.lstat()) != identity:  # replaced meanwhile, and its record with it
            return self._find(key)
        generation = Generation(status.st_mtime_ns, 1)
        foreign = Replica(generation=generation, size=status.st_size, crc32c=crc32c, md5=md5, stamp=Stamp())
        return _Found(path, identity, foreign)

    def _paths(self, key: str) -> tuple[Path, Path]:
        """Return where the file of a key may be: its natural path, and the one aside."""
        blind = self._is_case_blind()
        return self._root / natural_path(key, case_blind=blind), self._root / aside_path(key, case_blind=blind)

    def _place(self, temporary: Path, key: str, found: _Found | None) -> None:
        """Rename to the path of the old file, else to the natural path, else aside."""
        for path in (found.path,) if found else self._paths(key):
            with suppress(*_BLOCKED):
                self._rename(temporary, path)
                return
        raise IsADirectoryError(errno.EISDIR, "something else is in the way", str(self._paths(key)[0]))

    def _rename(self, temporary: Path, path: Path) -> None:
        for attempt in range(_RACES):
            try:
                self._make_folders(path.parent)
                temporary.rename(path)
                sync(path.parent)
            except FileNotFoundError:  # a delete has just removed the folder as empty
                if attempt + 1 == _RACES or not temporary.exists():
                    raise
            else:
                return

    def _make_folders(self, folder: Path) -> None:
        """Make the folders down to this one, each durable. A symbolic link on the way blocks it."""
        if folder == self._root:
            return
        self._make_folders(folder.parent)
        try:
            folder.mkdir()
            sync(folder.parent)
        except FileExistsError:
            if folder.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "a symbolic link is in the way", str(folder)) from None

    def _is_through_a_link(self, path: Path) -> bool:
        return any(parent.is_symlink() for parent in path.parents if self._root in parent.parents)

    def _prune(self, folder: Path) -> None:
        """Remove the folders that a delete left empty, up to the root or the state folder's own."""
        while folder not in {self._root, self._root / STATE, self._root / STATE / "aside"}:
            try:
                folder.rmdir()
            except OSError:  # not empty, or a new copy is arriving
                return
            folder = folder.parent

    def _is_case_blind(self) -> bool:
        if self._case_blind is None:
            state, upper = self._root / STATE, self._root / STATE.upper()
            if not state.is_dir():
                return False  # nothing is there yet
            self._case_blind = upper.exists() and upper.samefile(state)
        return self._case_blind


class _Watched:
    """A reader whose own errors can be told from the disk's."""

    def __init__(self, body: Reader) -> None:
        self.original, self.size = body.original, body.size
        self.failure: BaseException | None = None
        self._body = body

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._body.read(size)
        except BaseException as error:
            self.failure = error
            raise


def _written(body: Reader, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the body in pieces of 1 MiB, each once it is written."""
    for piece in even_chunks(body, MIB):
        file.write(piece)
        yield piece


@contextmanager
def _translated(what: str, body: _Watched | None = None) -> Iterator[None]:
    """Translate every OSError but the body's. Total: an unknown one is Unavailable."""
    try:
        yield
    except OSError as error:
        if body is not None and error is body.failure:
            raise
        message = f"cannot {what}: {error.strerror or error}"
        if error.errno in _DENIED:
            raise Refused(message, code="DstPutObjectNotPermitted") from error
        raise Unavailable(message, code="DstUnavailable") from error


def _sync_nearest(folder: Path) -> None:
    """Sync the folder, or the nearest above it: an empty one may be removed meanwhile, and a file be in its place."""
    try:
        sync(folder)
    except (FileNotFoundError, NotADirectoryError):
        _sync_nearest(folder.parent)
