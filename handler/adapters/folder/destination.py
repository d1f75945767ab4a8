"""The folder destination: copies as plain files, with a disk's strongest promises.

Beside the natural tree (see `folder_names`) the folder has a `.replicator/` of its own: `tmp/` (copies in the making),
`meta/` (one record a key: what its copy carries beside its bytes), `lock/`, `aside/`.

The one point at which a new copy takes effect is the rename of its file. A record says which file (inode, size, mtime)
it speaks of, and is written before the rename with the old file's entry kept in it, so whichever side of the rename a
crash falls on, the file that is there has its own record. A file with no entry was put there by somebody else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from handler.adapters.folder.names import STATE, aside_path, natural_path
from handler.adapters.folder.records import checksums, copy, entry_of, replica_of
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import ABSENT, Generation, Replica, Stamp
from handler.core.ports import Reader

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP}
_RACES = 100
"""Tries to rename into a folder that deletes keep removing as empty."""
_BLOCKED = (FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file at a key's place, and what its record says of it."""

    path: Path
    identity: str
    replica: Replica


class FolderDestination:
    """A folder; see `Destination`. Any number of threads and processes may write to one at once.

    It is made when first written to. File systems that have `flock` and rename atomically will do (not Windows).
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._state = folder / STATE
        self._case_blind: bool | None = None
        self._swept = False

    def head(self, key: str) -> Replica:
        """Return what is at `key`; a file of somebody else's is read whole for its checksums."""
        with _translated(f"look at {key!r}"):
            found = self._find(key)
            return found.replica if found else Replica()

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        """Write beside, fsync, then rename under the key's lock, if `key` still is at `expect`; see `Destination`."""
        watched = _Watched(body)
        with _translated(f"write {key!r}", watched):
            self._prepare()
            self._expect(key, expect)  # sooner than after the whole body
            with self._temporary() as file:
                crc32c, md5 = copy(watched, file)
                os.fsync(file.fileno())
                with self._lock(key):
                    found = self._expect(key, expect)
                    replica = Replica(
                        generation=Generation(_later_than(expect.number), 1),
                        size=body.size,
                        crc32c=crc32c,
                        md5=md5,
                        stamp=stamp.recording(crc32c),
                    )
                    self._write_record(key, {_identity(os.fstat(file.fileno())): replica, **_entry(found)})
                    self._place(Path(file.name), key, found)
                return replica

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        """Replace the record, if `key` still is at `expect`; see `Destination`."""
        with _translated(f"patch {key!r}"):
            if expect == ABSENT:
                raise Moved(f"{key!r}: nothing to patch")
            self._prepare()
            with self._lock(key):
                found = self._expect(key, expect)
                if found is None:
                    raise AssertionError("a file that is at a generation is there")
                was = found.replica
                replica = Replica(
                    generation=Generation(was.generation.number, was.generation.metageneration + 1),
                    size=was.size,
                    crc32c=was.crc32c,
                    md5=was.md5,
                    stamp=stamp.over(was.stamp),
                )
                self._write_record(key, {found.identity: replica})
                return replica

    def delete(self, key: str, *, expect: Generation) -> None:
        """Remove the file and folders it leaves empty, if `key` still is at `expect`; see `Destination`."""
        with _translated(f"delete {key!r}"):
            if expect == ABSENT:
                raise Moved(f"{key!r}: nothing to delete")
            self._prepare()
            with self._lock(key):
                found = self._expect(key, expect)
                if found is None:
                    raise AssertionError("a file that is at a generation is there")
                found.path.unlink()
                _sync_nearest(found.path.parent)
                self._record_path(key).unlink(missing_ok=True)
                self._prune(found.path.parent)

    def _expect(self, key: str, expect: Generation) -> _Found | None:
        found = self._find(key)
        actual = found.replica.generation if found else ABSENT
        if actual != expect:
            raise Moved(f"{key!r} is at {actual}, not at {expect}")
        return found

    def _find(self, key: str) -> _Found | None:
        aside = self._root / aside_path(key, case_blind=self._is_case_blind())
        natural = self._root / natural_path(key, case_blind=self._is_case_blind())
        for path in (aside, natural):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and not self._through_a_link(path):
                    return self._describe(key, path, status)
        return None

    def _describe(self, key: str, path: Path, status: os.stat_result) -> _Found | None:
        identity = _identity(status)
        try:
            record = json.loads(self._record_path(key).read_text())
        except FileNotFoundError:
            record = {}
        if entry := record.get("files", {}).get(identity):
            return _Found(path, identity, replica_of(entry))
        crc32c, md5 = checksums(path)
        if _identity(path.lstat()) != identity:  # replaced, and its record with it, while it was looked at
            return self._find(key)
        foreign = Replica(
            generation=Generation(status.st_mtime_ns, 1), size=status.st_size, crc32c=crc32c, md5=md5, stamp=Stamp()
        )
        return _Found(path, identity, foreign)

    def _place(self, temporary: Path, key: str, found: _Found | None) -> None:
        """Rename to the key's place: where it is, else its natural path, else aside."""
        aside = self._root / aside_path(key, case_blind=self._is_case_blind())
        natural = self._root / natural_path(key, case_blind=self._is_case_blind())
        for path in [found.path] if found else [natural, aside]:
            with contextlib.suppress(*_BLOCKED):
                self._rename(temporary, path)
                return
        raise IsADirectoryError(errno.EISDIR, "something else is in the way", str(natural))

    def _rename(self, temporary: Path, path: Path) -> None:
        for attempt in range(_RACES):
            try:
                self._make_folders(path.parent)
                temporary.rename(path)
                _sync_folder(path.parent)
            except FileNotFoundError:  # a delete of the last other file has just removed an empty folder
                if attempt + 1 == _RACES or not temporary.exists():
                    raise
            else:
                return

    def _make_folders(self, folder: Path) -> None:
        """Make the folders down to this one, each durable; a symbolic link on the way blocks it."""
        if folder == self._root:
            return
        self._make_folders(folder.parent)
        try:
            folder.mkdir()
            _sync_folder(folder.parent)
        except FileExistsError:
            if folder.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "a symbolic link is in the way", str(folder)) from None

    def _through_a_link(self, path: Path) -> bool:
        return any(parent.is_symlink() for parent in path.parents if self._root in parent.parents)

    def _prune(self, folder: Path) -> None:
        """Remove the folders a delete left empty, up to the root or the state folder's own."""
        keep = {self._root, self._state, self._root / STATE / "aside"}
        while folder not in keep:
            try:
                folder.rmdir()
            except OSError:  # not empty, or another's new copy is just arriving
                return
            folder = folder.parent

    def _prepare(self) -> None:
        """Make the state folder where it is missing; once, drop what killed writers left of copies in the making."""
        if not (self._state / "tmp").is_dir():
            for name in ("tmp", "meta", "lock"):
                (self._state / name).mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            for path in (self._state / "tmp").iterdir():
                _remove_if_orphaned(path)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[IO[bytes]]:
        """A new file that no sweep removes while its writer lives, and that goes at the end unless it was renamed."""
        while True:
            path = self._state / "tmp" / uuid.uuid4().hex
            with path.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # says that its writer lives
                if not os.fstat(file.fileno()).st_nlink:
                    continue  # another writer's sweep removed it before it was locked
                try:
                    yield file
                finally:
                    path.unlink(missing_ok=True)
                return

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Hold the key's lock, which other processes see, and which goes with the process that holds it."""
        stripe = hashlib.sha256(key.encode()).hexdigest()[:2]
        with (self._state / "lock" / stripe).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _record_path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._state / "meta" / name[:2] / f"{name}.json"

    def _write_record(self, key: str, files: dict[str, Replica]) -> None:
        path = self._record_path(key)
        path.parent.mkdir(exist_ok=True)
        with self._temporary() as file:
            record = {"key": key, "files": {identity: entry_of(replica) for identity, replica in files.items()}}
            file.write(json.dumps(record, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).rename(path)
        _sync_folder(path.parent)

    def _is_case_blind(self) -> bool:
        if self._case_blind is None:
            if not self._state.is_dir():
                return False  # nothing is there yet
            shouted = self._root / STATE.upper()
            self._case_blind = shouted.exists() and shouted.samefile(self._state)
        return self._case_blind


class _Watched:
    """A reader whose own errors are known from the disk's."""

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


@contextlib.contextmanager
def _translated(what: str, body: _Watched | None = None) -> Iterator[None]:
    """Turn every OSError but the body's into one of ours. Total: what it does not know is Unavailable."""
    try:
        yield
    except OSError as error:
        if body is not None and error is body.failure:
            raise
        message = f"cannot {what}: {error.strerror or error}"
        if error.errno in _DENIED:
            raise Refused(message, code="DstPutObjectNotPermitted") from error
        raise Unavailable(message, code="DstUnavailable") from error


def _remove_if_orphaned(path: Path) -> None:
    """Remove a copy in the making whose writer is gone: a live one holds its lock."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _identity(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _later_than(generation: int) -> int:
    return max(time.time_ns(), generation + 1)


def _entry(found: _Found | None) -> dict[str, Replica]:
    return {found.identity: found.replica} if found else {}


def _sync_nearest(folder: Path) -> None:
    """Sync the folder, or what it was in: as empty it may be removed by now, and a file in its place."""
    try:
        _sync_folder(folder)
    except (FileNotFoundError, NotADirectoryError):
        _sync_nearest(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
