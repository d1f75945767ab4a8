"""Which names GCS allows, and where on disk an object's bytes and its natural file are."""
# os functions cost a tenth of pathlib's, and these run for every request
# ruff: noqa: PTH102, PTH103, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import secrets
import stat
from pathlib import Path

from local_emulator.gcs.model import errors

STATE = ".gcs"
MAX_NAME = 1024
MAX_SEGMENT = 255
MAX_PATH = 3500
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_bucket_name(name: object) -> str:
    """Return `name` if GCS allows it for a bucket."""
    if not isinstance(name, str) or not _BUCKET.fullmatch(name) or any(len(part) > 63 for part in name.split(".")):
        raise errors.invalid(f"Invalid bucket name: '{name}'", xml_code="InvalidBucketName")
    if name.startswith("goog") or "google" in name or ".." in name or _is_address(name):
        raise errors.invalid(f"Invalid bucket name: '{name}'", xml_code="InvalidBucketName")
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def check_object_name(name: object) -> str:
    """Return `name` if GCS allows it for an object."""
    if not isinstance(name, str) or not name:
        raise errors.required("Required parameter: name")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise errors.invalid("Object names are valid UTF-8.") from error
    if size > MAX_NAME:
        raise errors.invalid(f"The object name is {size} bytes long; the maximum is {MAX_NAME}.", xml_code="KeyTooLong")
    if "\r" in name or "\n" in name:
        raise errors.invalid("Object names cannot contain a carriage return or a line feed.")
    if name in {".", ".."} or name.startswith(".well-known/acme-challenge/"):
        raise errors.invalid(f"Invalid object name: '{name}'")
    return name


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{path} is not a folder") from error


class Layout:
    """One folder: its buckets, its state folder, and nothing outside of it.

    `<folder>/<bucket>/<key>` is an object's natural file, `<folder>/<key>` where the folder is one bucket.
    `<folder>/.gcs/blobs/` holds the bytes under names of their own; a natural file is a hard link to its blob.
    """

    def __init__(self, folder: Path, bucket: str | None) -> None:
        _make_folder(str(folder))
        self.folder = os.path.realpath(folder)
        self.bucket = bucket
        self.state = os.path.join(self.folder, STATE)
        self.blobs = os.path.join(self.state, "blobs")
        self.scratch = os.path.join(self.state, "scratch")
        for path in (self.state, self.blobs, self.scratch):
            _make_folder(path)
        for shard in sorted({f"{number:02x}" for number in range(256)} - set(os.listdir(self.blobs))):
            os.mkdir(os.path.join(self.blobs, shard))

    def bucket_root(self, bucket: str) -> str:
        """Return the folder of a bucket."""
        return self.folder if self.bucket is not None else os.path.join(self.folder, bucket)

    def new_blob(self) -> str:
        """Return a blob name that never was; it means nothing until the database names it."""
        return secrets.token_hex(16)

    def blob(self, name: str) -> str:
        """Return the path of a blob."""
        return os.path.join(self.blobs, name[:2], name)

    def natural(self, bucket: str, name: str) -> str | None:
        """Return the path at which a person finds this object, None for a name that no file can have."""
        segments = name.split("/")
        if _CONTROL.search(name) or any(part in {"", ".", ".."} for part in segments):
            return None
        if self.bucket is not None and segments[0] == STATE:
            return None
        if any(len(part.encode()) > MAX_SEGMENT for part in segments):
            return None
        path = os.path.join(self.bucket_root(bucket), *segments)
        return path if len(path.encode()) <= MAX_PATH else None

    def inside(self, path: str) -> bool:
        """Return True if no symbolic link leads away on the way to `path`."""
        parent = os.path.dirname(path)
        while len(parent) > len(self.folder):
            try:
                if stat.S_ISLNK(os.lstat(parent).st_mode):
                    return False
            except OSError:
                pass  # what does not exist leads nowhere
            parent = os.path.dirname(parent)
        return parent == self.folder


class FolderLock:
    """Held by the one server that works in a folder. Raises RuntimeError if another one does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise RuntimeError(f"another GCS server works in this folder: {os.path.dirname(path)}") from error

    def gone(self) -> bool:
        """Return True if somebody removed the folder, or put another one in its place."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except OSError:
            return True

    def close(self) -> None:
        """Let another server work here."""
        os.close(self._file)
