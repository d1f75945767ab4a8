"""Makes a bucket hold what a folder holds, and keeps it so: the emulator's stand-in for whoever writes to S3."""

from __future__ import annotations

import logging
import mimetypes
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from watchfiles import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

SETTLE = 0.02
"""Seconds after a change in which a second one could get the same timestamp: the kernel's clock ticks that coarsely."""
DEBOUNCE, STEP, TICK = 100, 20, 100
"""Milliseconds: the longest and the shortest wait for more changes, and how often a quiet watcher looks up."""
FULL_SCAN = 3.0
"""Seconds between scans that nothing asked for. They find what no notification came for, which can happen."""
SPARE = 20
"""How many times as long as a scan took the next such scan is put off: a huge folder costs no more than this."""
LONG, MANY = 256 << 20, 1000
"""Bytes, and files: more take so long that it is said what goes on."""
UPLOAD = TransferConfig(use_threads=False)
"""As `aws s3 cp`: multipart from 8 MiB, in parts of 8 MiB."""

log = logging.getLogger(__name__)


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Mirror:
    """Puts and deletes objects until the bucket holds the folder's regular files, each under its relative path.

    Links to files are followed, links to folders are not. Names that are not valid UTF-8 cannot be keys and are
    skipped, as is what cannot be read; each is said once, as is what takes long.
    """

    def __init__(self, folder: Path, s3: S3Client, bucket: str) -> None:
        self._folder = folder
        self._s3 = s3
        self._bucket = bucket
        self._known: dict[str, Signature] = {}
        """What each object was put from."""
        self._said: set[str] = set()
        self.stopped = threading.Event()

    def sync(self) -> None:
        """Return once a scan finds nothing that differs, or what differs cannot be put."""
        while not self.stopped.is_set() and self._pass():
            pass

    def any_key(self) -> str | None:
        """Return the name of some object, None where there is none."""
        return min(self._known, default=None)

    def _pass(self) -> bool:
        """Delete, then put, what differs now; say whether anything was done."""
        found = self._scan()
        gone = self._known.keys() - found.keys()
        changed = [key for key, signature in found.items() if self._known.get(key) != signature]
        size = sum(found[key].size for key in changed)
        if size > LONG or len(changed) > MANY:
            self._say_once(f"loading {len(changed):,} files, {size >> 20:,} MiB, into s3://{self._bucket}")
        done = [self._attempt(key, self._delete) for key in sorted(gone)]
        done += [self._attempt(key, self._put) for key in sorted(changed, key=lambda key: found[key].size)]
        return any(done)

    def _attempt(self, key: str, act: Callable[[str], None]) -> bool:
        if self.stopped.is_set():
            return False
        try:
            act(key)
            return True
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return True  # it went while we looked: look again
        except (OSError, Boto3Error, BotoCoreError, ClientError) as error:
            if not self.stopped.is_set():
                self._say_once(f"{key!r} is not replicated: {error}")
            return False

    def _delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)
        del self._known[key]

    def _put(self, key: str) -> None:
        path = self._folder / key
        time.sleep(max(0.0, min(SETTLE, path.stat().st_mtime + SETTLE - time.time())))
        content_type, _ = mimetypes.guess_type(key)
        with path.open("rb") as file:
            # Taken before the bytes are read: whatever changes from here on shows in the next scan.
            signature = _signature(os.fstat(file.fileno()))
            self._s3.upload_fileobj(
                _Stream(file),  # type: ignore[arg-type] # the stubs ask for a whole file; boto3 needs read() alone
                self._bucket,
                key,
                ExtraArgs={"ContentType": content_type} if content_type else None,
                Config=UPLOAD,
            )
        self._known[key] = signature

    def _scan(self) -> dict[str, Signature]:
        """Return every regular file's key and signature; nothing where there is no folder."""
        found: dict[str, Signature] = {}
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with os.scandir(self._folder / prefix) as entries:
                    for entry in entries:
                        key = prefix + entry.name
                        if not _is_utf8(key):
                            self._say_once(f"{key!r} is not replicated: its name is not valid UTF-8")
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(f"{key}/")
                        elif (status := _status(entry)) and stat.S_ISREG(status.st_mode):
                            found[key] = _signature(status)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it went while we looked
            except OSError as error:
                self._say_once(f"{prefix!r} cannot be read: {error.strerror}")
        return found

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)


class Watcher:
    """Keeps a mirror in step with its folder, in a thread, also when the folder itself goes and comes again."""

    def __init__(self, mirror: Mirror, folder: Path) -> None:
        self._mirror = mirror
        self._folder = folder
        self._armed = threading.Event()

    def start(self) -> None:
        """Return once no further change can be missed."""
        threading.Thread(target=self._run, name="watcher", daemon=True).start()
        self._armed.wait()

    def stop(self) -> None:
        """Let the thread end after the object it is at."""
        self._mirror.stopped.set()

    def _run(self) -> None:
        while not self._mirror.stopped.is_set():
            try:
                self._watch()
            except FileNotFoundError:
                self._look()
            except Exception as error:  # noqa: BLE001 - the library has errors of its own; without it, look often
                log.debug("no notification: %s", error)
                self._look()

    def _look(self) -> None:
        """See what changed without being told."""
        self._mirror.sync()
        self._armed.set()
        self._mirror.stopped.wait(TICK / 1000)

    def _watch(self) -> None:
        """Follow the folder that is there now, until another one is in its place."""
        inode = self._folder.stat().st_ino
        next_scan = 0.0
        for changes in watch(
            self._folder,
            watch_filter=None,
            debounce=DEBOUNCE,
            step=STEP,
            rust_timeout=TICK,
            yield_on_timeout=True,
            stop_event=self._mirror.stopped,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if changes or time.monotonic() >= next_scan:
                begun = time.monotonic()
                self._mirror.sync()
                ended = time.monotonic()
                next_scan = ended + max(FULL_SCAN, SPARE * (ended - begun))
            self._armed.set()
            if self._folder.stat().st_ino != inode:
                return


class _Stream:
    """A file that can only be read: boto3 then sends what it read, not what the size once promised."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_mtime_ns, status.st_size, status.st_ino)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The status of what an entry names or links to; None where that is gone."""
    try:
        return entry.stat()
    except OSError:
        return None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
