"""The folder's own state, `.replicator/`: temporary files, locks, and one record a key of what the copy carries.

Everything here is durable once it returns, and survives a crash at any instruction.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import google_crc32c

from handler.core.model import MIB, Generation, Headers, Lock, Replica, Stamp


class Records:
    """The state folder. Any number of threads and processes share one.

    Args:
        state: its path.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._swept = False

    def prepare(self) -> None:
        """Make the state folder if it is missing; once, remove the temporary files of killed writers."""
        if not (self._state / "tmp").is_dir():
            for name in ("tmp", "meta", "lock"):
                (self._state / name).mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            for path in (self._state / "tmp").iterdir():
                with contextlib.suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a live writer holds it
                    path.unlink()

    @contextlib.contextmanager
    def temporary(self) -> Iterator[IO[bytes]]:
        """Open a new file that no sweep removes while its writer lives; remove it at the end unless it was renamed."""
        while True:
            path = self._state / "tmp" / uuid.uuid4().hex
            with path.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not os.fstat(file.fileno()).st_nlink:
                    continue  # a sweep removed it before it was locked
                try:
                    yield file
                finally:
                    path.unlink(missing_ok=True)
                return

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the key's lock, which all processes respect, and which ends with the process."""
        stripe = hashlib.sha256(key.encode()).hexdigest()[:2]
        with (self._state / "lock" / stripe).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def path(self, key: str) -> Path:
        """Return the path of a key's record."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._state / "meta" / name[:2] / f"{name}.json"

    def read(self, key: str, identity: str) -> Replica | None:
        """Return what the record says of a file, None if it does not mention the file."""
        try:
            record = json.loads(self.path(key).read_text())
        except FileNotFoundError:
            return None
        entry = record.get("files", {}).get(identity)
        return replica_of(entry) if entry else None

    def write(self, key: str, files: Mapping[str, Replica]) -> None:
        """Replace a key's record; `files` maps identities of files to what they are copies of."""
        path = self.path(key)
        path.parent.mkdir(exist_ok=True)
        with self.temporary() as file:
            record = {"key": key, "files": {identity: entry_of(replica) for identity, replica in files.items()}}
            file.write(json.dumps(record, indent=1).encode())
            flush(file)
            Path(file.name).rename(path)
        sync(path.parent)


def identity_of(status: os.stat_result) -> str:
    """Return what distinguishes a file from every other that was ever at its path."""
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def flush(file: IO[bytes]) -> None:
    """Write a file's bytes to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksums(data: Iterable[bytes]) -> tuple[str, str]:
    """Return the CRC32C and MD5 of all the pieces as base64."""
    crc32c, md5 = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False)
    for piece in data:
        crc32c.update(piece)
        md5.update(piece)
    return base64.b64encode(crc32c.digest()).decode(), base64.b64encode(md5.digest()).decode()


def checksums_of(path: Path) -> tuple[str, str]:
    """Return the CRC32C and MD5 of a file as base64."""
    with path.open("rb") as file:
        return checksums(iter(lambda: file.read(MIB), b""))


def entry_of(replica: Replica) -> dict[str, Any]:
    """Return the replica as a record stores it."""
    stamp = replica.stamp
    return {
        "generation": replica.generation,
        "size": replica.size,
        "crc32c": replica.crc32c,
        "md5": replica.md5,
        "headers": stamp.headers._asdict(),
        "metadata": dict(stamp.metadata),
        "custom_time": _text(stamp.custom_time),
        "storage_class": stamp.storage_class,
        "kms_key": stamp.kms_key,
        "lock": stamp.lock and [stamp.lock.mode, _text(stamp.lock.until), stamp.lock.hold],
        "contexts": None if stamp.contexts is None else dict(stamp.contexts),
    }


def replica_of(entry: Mapping[str, Any]) -> Replica:
    """Return the replica of a record's entry. Records of earlier releases lack key, contexts and lock."""
    mode, until, hold = entry.get("lock") or ("", None, None)
    return Replica(
        generation=Generation(*entry["generation"]),
        size=entry["size"],
        crc32c=entry["crc32c"],
        md5=entry["md5"],
        stamp=Stamp(
            headers=Headers(**entry["headers"]),
            metadata=entry["metadata"],
            custom_time=_moment(entry["custom_time"]),
            storage_class=entry["storage_class"],
            kms_key=entry.get("kms_key"),
            contexts=entry.get("contexts"),
            lock=Lock(mode, _moment(until), hold) if entry.get("lock") else None,
        ),
    )


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
