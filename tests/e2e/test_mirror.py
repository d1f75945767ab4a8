"""The folder's mirror where it is hard: files that change, go or cannot be read at just the wrong moment."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from botocore.exceptions import ClientError

from local_emulator.__main__ import ignored
from local_emulator.mirror import Mirror
from local_emulator.scan import EDITORS, Found, Scanner, Signature
from tests.e2e.support import eventually


class Bucket:
    """Where the mirror puts files."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []

    def put(self, key: str, file: BinaryIO, content_type: str | None, signature: Signature) -> bool:
        self.calls.append(f"PUT {key}")
        self.objects[key] = file.read()
        return True

    def delete(self, key: str) -> None:
        self.calls.append(f"DELETE {key}")
        self.objects.pop(key, None)


def mirror_of(folder: Path, bucket: Bucket, **rest: Any) -> Mirror:
    return Mirror(folder, bucket, Scanner(folder), **rest)


def test_nothing_is_put_twice_without_a_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    for _ in range(3):
        mirror.sync()
    assert bucket.calls == ["PUT a"]


def test_a_file_that_changes_while_it_is_read_is_put_again(tmp_path: Path) -> None:
    class Slow(Bucket):
        def put(self, key: str, file: BinaryIO, content_type: str | None, signature: Signature) -> bool:
            super().put(key, file, content_type, signature)
            if len(self.calls) == 1:
                (tmp_path / "a").write_bytes(b"2")  # of the same size
            return True

    (tmp_path / "a").write_bytes(b"1")
    bucket = Slow()
    mirror_of(tmp_path, bucket).sync()
    assert bucket.objects == {"a": b"2"}
    assert bucket.calls == ["PUT a", "PUT a"]


def test_a_change_within_one_tick_of_the_clock_is_not_missed(tmp_path: Path) -> None:
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    for number in range(100):
        (tmp_path / "a").write_bytes(f"{number:02}".encode())
        mirror.sync()
        assert bucket.objects == {"a": f"{number:02}".encode()}


def test_a_file_that_goes_while_it_is_looked_at_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    scan = mirror._scanner.scan

    def scan_then_remove() -> Found:
        found = scan()
        (tmp_path / "a").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(mirror._scanner, "scan", scan_then_remove)
    mirror.sync()
    assert bucket.objects == {"b": b"22"}
    assert not caplog.records


def test_what_cannot_be_put_is_said_once_and_stops_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Bucket):
        def put(self, key: str, file: BinaryIO, content_type: str | None, signature: Signature) -> bool:
            if key == "a":
                raise ClientError(
                    {"Error": {"Code": "KeyTooLongError", "Message": "Your key is too long"}}, "PutObject"
                )
            return super().put(key, file, content_type, signature)

    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")
    bucket = Picky()
    mirror = mirror_of(tmp_path, bucket)
    mirror.sync()
    mirror.sync()
    assert bucket.objects == {"b": b"22"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_only_files_are_objects_and_what_else_is_there_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for path in (outside, folder, folder / "empty"):
        path.mkdir()
    (outside / "secret").write_bytes(b"not ours")
    (folder / "file").write_bytes(b"1")
    (folder / "link").symlink_to("file")
    (folder / "broken").symlink_to("nowhere")
    (folder / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "out").symlink_to(outside / "secret")
    (folder / "out-too").symlink_to(outside, target_is_directory=True)
    (folder / "a\ttab").write_bytes(b"1")
    (folder / "a\nline").write_bytes(b"1")
    os.mkfifo(folder / "pipe")
    bucket = Bucket()
    mirror = mirror_of(folder, bucket)
    for _ in range(3):
        mirror.sync()
    assert bucket.objects == {"file": b"1", "link": b"1"}
    named = sorted(re.match("'(.*)' is not replicated: (.*)", record.message).groups() for record in caplog.records)  # type: ignore[union-attr] # all of them match
    assert named == [
        ("a\\nline", "its name has a control character"),
        ("a\\ttab", "its name has a control character"),
        ("broken", "it is a link to nothing"),
        ("circle", "it is a link to a folder"),
        ("out", "it is a link out of the folder"),
        ("out-too", "it is a link out of the folder"),
        ("pipe", "it is a pipe"),
    ]


def test_editors_files_are_no_objects(tmp_path: Path) -> None:
    for name in (".x.txt.swp", "x.txt~", "x.tmp", "x.part", ".DS_Store", "4913", "#x.txt#", ".#x.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / ".s3").mkdir()
    (tmp_path / ".s3/state.sqlite").write_bytes(b"?")
    (tmp_path / "x.txt").write_bytes(b"1")
    bucket = Bucket()
    mirror_of(tmp_path, bucket).sync()
    assert bucket.objects == {"x.txt": b"1"}


def test_patterns_of_ones_own_are_added_or_stand_alone() -> None:
    assert ignored(None) == EDITORS
    assert ignored(["*.log"]) == (*EDITORS, "*.log")
    assert ignored(["", "*.log"]) == ("*.log",)
    assert ignored([""]) == ()


def test_a_file_that_is_written_slowly_goes_up_once(tmp_path: Path) -> None:
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    with (tmp_path / "slow").open("wb", buffering=0) as slow:
        for _ in range(20):
            slow.write(b"1")
            mirror.sync()
        assert mirror.waits
        assert bucket.calls == []
    mirror.sync()
    assert bucket.calls == ["PUT slow"]
    assert bucket.objects == {"slow": b"1" * 20}
    assert not mirror.waits


def test_a_file_that_stays_open_goes_up_once_it_is_quiet(tmp_path: Path) -> None:
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket, settle=0.05)
    with (tmp_path / "log").open("wb", buffering=0) as log:
        log.write(b"1")
        mirror.sync()
        assert bucket.calls == []

        def came() -> object:
            mirror.sync()
            return bucket.calls

        eventually(came, "the quiet file")
    assert bucket.calls == ["PUT log"]


def test_a_rename_puts_before_it_deletes(tmp_path: Path) -> None:
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    for number in range(3):
        (tmp_path / f"a{number}").write_bytes(b"1")
    mirror.sync()
    bucket.calls.clear()
    for number in range(3):
        (tmp_path / f"a{number}").rename(tmp_path / f"b{number}")
    mirror.sync()
    assert bucket.calls == [*(f"PUT b{number}" for number in range(3)), *(f"DELETE a{number}" for number in range(3))]


def test_a_folder_that_is_gone_or_cannot_be_read_costs_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (folder / name).write_bytes(b"1")
    bucket = Bucket()
    mirror = mirror_of(folder, bucket)
    mirror.sync()
    bucket.calls.clear()
    scandir = os.scandir

    def refused(path: Path) -> Any:
        if path.name == "inner":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:  # root may read anything
        patch.setattr(os, "scandir", refused)
        mirror.sync()
    assert "the folder 'inner/' is left as it is: it cannot be read: Permission denied" in caplog.text
    folder.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        mirror.sync()
    assert bucket.calls == []


def test_nothing_is_deleted_when_another_folder_took_the_place_during_the_scan(tmp_path: Path) -> None:
    bucket = Bucket()
    same = True
    mirror = mirror_of(tmp_path, bucket, is_same=lambda: same)
    (tmp_path / "a").write_bytes(b"1")
    mirror.sync()
    (tmp_path / "a").unlink()
    same = False
    mirror.sync()
    assert bucket.objects == {"a": b"1"}


def test_what_becomes_a_folder_is_deleted_before_what_is_in_it_is_put(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    mirror.sync()
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"2")
    mirror.sync()
    assert bucket.calls == ["PUT a", "DELETE a", "PUT a/b"]
