"""The folder as a person sees it: a view of the database that is repaired after a crash, and read back when edited."""
# os functions cost a tenth of pathlib's, and these run for every request
# ruff: noqa: PTH103, PTH105, PTH106, PTH108, PTH116, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from local_emulator.gcs.store import blobs
from local_emulator.gcs.store.layout import STATE

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Stored
    from local_emulator.gcs.store.layout import Layout

Print = tuple[int, int, int]


class FolderView:
    """The files that a person sees, and what a person does to them: changes are generations, removals deletes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def fingerprint(self, bucket: str, name: str) -> Print | None:
        """Return inode, modification time and size of an object's natural file, None where there is none."""
        path = self._layout.natural(bucket, name)
        if path is None:
            return None
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or not self._layout.inside(path):
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def agrees(self, bucket: str, name: str, found: Stored | None) -> bool:
        """Return True if the natural file is what the database says."""
        seen = self.fingerprint(bucket, name)
        if found is None:
            return seen is None
        if seen is None:
            return not found.placed
        return seen == (found.inode, found.mtime, found.size)

    def is_intact(self, found: Stored) -> bool:
        """Return True if the bytes are still those that were stored: a person may write into a natural file."""
        try:
            status = os.stat(self._layout.blob(found.blob))
        except OSError:
            return False
        return (status.st_mtime_ns, status.st_size) == (found.mtime, found.size)

    def settle(self, bucket: str, name: str, found: Stored | None) -> bool:
        """Make the natural file follow the database; tell whether it is there now.

        Where another object's file stands in the way (`a` beside `a/b`) the object lives as a blob alone.
        """
        path = self._layout.natural(bucket, name)
        if path is None:
            return False
        if found is None:
            self._take_away(path, bucket)
            return False
        if not self._layout.inside(path):
            return False
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._link(self._layout.blob(found.blob), path)
        except OSError:
            self._take_away(path, bucket)  # an older generation's file would pass for a person's
            return False
        return True

    def _link(self, blob: str, path: str) -> None:
        try:
            os.link(blob, path)
        except FileExistsError:
            scratch = os.path.join(self._layout.scratch, os.path.basename(blob))
            blobs.remove(scratch)
            os.link(blob, scratch)
            try:
                os.replace(scratch, path)
            finally:
                blobs.remove(scratch)  # rename does nothing where both names are one file already

    def _take_away(self, path: str, bucket: str) -> None:
        if not self._layout.inside(path):
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
        root, parent = self._layout.bucket_root(bucket), os.path.dirname(path)
        with contextlib.suppress(OSError):
            while parent != root:
                os.rmdir(parent)
                parent = os.path.dirname(parent)

    def adopt(self, bucket: str, name: str) -> blobs.Blob | None:
        """Give a person's file a blob, and return it; blocks.

        None where there is no such file (any more), or it is being written to while it is read.
        """
        path, before = self._layout.natural(bucket, name), self.fingerprint(bucket, name)
        if path is None or before is None:
            return None
        blob = self._layout.new_blob()
        try:
            os.link(path, self._layout.blob(blob), follow_symlinks=False)
            crc, md5 = blobs.hash_file(self._layout.blob(blob))
        except OSError:
            return None
        if self.fingerprint(bucket, name) != before:
            blobs.remove(self._layout.blob(blob))
            return None
        inode, mtime, size = before
        return blobs.Blob(blob, size, crc, md5, inode, mtime)

    def prints(self, bucket: str, prefix: str) -> dict[str, Print]:
        """Return the fingerprint of every natural file of a bucket under a prefix; blocks."""
        root, folders = self._layout.bucket_root(bucket), prefix.split("/")[:-1]
        start = os.path.join(root, *folders)
        if any(part in {"", ".", ".."} or "\0" in part for part in folders) or not self._layout.inside(f"{start}/-"):
            return {}
        found: dict[str, Print] = {}
        pending = ["/".join([*folders, ""]) if folders else ""]
        while pending:
            path = pending.pop()
            with contextlib.suppress(OSError), os.scandir(os.path.join(root, path)) as entries:
                for entry in entries:
                    self._look(entry, path, prefix, found, pending)
        return found

    def _look(
        self, entry: os.DirEntry[str], path: str, prefix: str, found: dict[str, Print], pending: list[str]
    ) -> None:
        name = path + entry.name
        if not _is_text(name) or (self._layout.bucket is not None and name == STATE):
            return
        if entry.is_dir(follow_symlinks=False):
            if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                pending.append(f"{name}/")
        elif name.startswith(prefix) and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            found[name] = (status.st_ino, status.st_mtime_ns, status.st_size)

    def prune(self, bucket: str) -> bool:
        """Remove a bucket's folder if there is no file in it; tell whether it is gone."""
        root = self._layout.bucket_root(bucket)
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not os.path.lexists(root)

    def bucket_names(self) -> list[str]:
        """Return the names of the folders that stand for buckets."""
        if self._layout.bucket is not None:
            return [self._layout.bucket]
        with os.scandir(self._layout.folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != STATE]

    def discard(self, names: list[str]) -> None:
        """Remove blobs that nothing refers to."""
        for name in names:
            blobs.remove(self._layout.blob(name))

    def sweep(self, named: set[str]) -> None:
        """Remove what a crash left: blobs that the database does not name, and scratch files."""
        for shard in os.listdir(self._layout.blobs):
            for name in os.listdir(os.path.join(self._layout.blobs, shard)):
                if name not in named:
                    self.discard([name])
        for name in os.listdir(self._layout.scratch):
            blobs.remove(os.path.join(self._layout.scratch, name))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
