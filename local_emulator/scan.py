"""Says which files of a folder are objects, and whether a file is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, NamedTuple

STATE = ".s3"
"""The emulator's own folder in the source folder."""
EDITORS = (
    *("*.swp", "*.swo", "*.swx", "*~", ".#*", "#*#", "4913", ".goutputstream-*"),  # vim, Emacs, nano, GNOME
    *("*.tmp", "*.part", "*.partial", "*.crdownload"),  # what programs rename once it is complete
    *(".DS_Store", "._*", "Thumbs.db"),
)
"""Names of files that are nobody's data."""

log = logging.getLogger(__name__)


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Found(NamedTuple):
    """What a scan found."""

    files: dict[str, Signature]
    """Each object's file, by its key."""
    unread: list[str]
    """What keys begin with that may be there all the same: their folder could not be read."""


class Scanner:
    """Finds a folder's objects: regular files, and links to such in the folder.

    What else is there is named once in the log and left alone: links that lead out or to folders, devices, and names
    that are not UTF-8 or have control characters. Names that an ignore pattern matches are left alone silently.
    """

    def __init__(self, folder: Path, ignore: Sequence[str] = EDITORS) -> None:
        self._folder = folder
        self._ignore = ignore
        self._said: set[str] = set()

    def scan(self) -> Found:
        """Return what is there.

        Raises:
            FileNotFoundError, NotADirectoryError: the folder itself is not there.
        """
        found = Found({}, [])
        with os.scandir(self._folder):
            pass
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with os.scandir(self._folder / prefix) as entries:
                    for entry in entries:
                        self._see(entry, prefix + entry.name, found.files, folders)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it went while we looked
            except OSError as error:
                found.unread.append(prefix)
                self.say_once(f"the folder {prefix!r} is left as it is: it cannot be read: {error.strerror}")
        return found

    def _see(self, entry: os.DirEntry[str], key: str, files: dict[str, Signature], folders: list[str]) -> None:
        if key == STATE or any(fnmatchcase(entry.name, pattern) for pattern in self._ignore):
            return
        if why := _unfit(entry.name):
            self.say_once(f"{key!r} is not replicated: its name {why}")
        elif entry.is_dir(follow_symlinks=False):
            folders.append(f"{key}/")
        elif entry.is_symlink() and not self._leads_in(entry):
            self.say_once(f"{key!r} is not replicated: it is a link out of the folder")
        elif status := _status(entry):
            if stat.S_ISREG(status.st_mode):
                files[key] = signature_of(status)
            else:
                self.say_once(f"{key!r} is not replicated: it is {_kind(status)}")
        elif entry.is_symlink():
            self.say_once(f"{key!r} is not replicated: it is a link to nothing")

    def _leads_in(self, entry: os.DirEntry[str]) -> bool:
        target = Path(os.path.realpath(entry.path))
        folder = self._folder.resolve()
        return target.is_relative_to(folder) and not target.is_relative_to(folder / STATE)

    def say_once(self, message: str) -> None:
        """Log a warning that was not logged before."""
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)


def signature_of(status: os.stat_result) -> Signature:
    """Return a file's signature."""
    return Signature(status.st_mtime_ns, status.st_size, status.st_ino)


def is_open_for_writing(file: BinaryIO) -> bool | None:
    """Return whether some process has the file open for writing; None where this cannot be known.

    Linux grants a lease for reading only while nobody writes. The lease is given back at once.
    """
    lease = getattr(fcntl, "F_SETLEASE", None)
    if lease is None:
        return None
    try:
        # Whoever opens the file meanwhile waits for us, and we get a signal: one that is ignored by default
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, lease, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    with contextlib.suppress(OSError):
        fcntl.fcntl(file, lease, fcntl.F_UNLCK)
    return False


def _unfit(name: str) -> str:
    """Return why a name cannot be a key; "" where it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    return "has a control character" if any(ord(char) < 32 or ord(char) == 127 for char in name) else ""


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The status of what an entry names or links to; None where that is gone."""
    try:
        return entry.stat()
    except OSError:
        return None


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFDIR: "a link to a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")
