"""The folder's mirror where it is hard: files that change, go or cannot be read at just the wrong moment."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from local_emulator.watch import Mirror


class Bucket:
    """Of boto3's client what the mirror uses."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []

    def upload_fileobj(self, stream: Any, bucket: str, key: str, **rest: Any) -> None:
        self.calls.append(f"PUT {key}")
        self.objects[key] = stream.read()

    def delete_object(self, *, Bucket: str, Key: str) -> None:  # noqa: N803 - boto3's own names
        self.calls.append(f"DELETE {Key}")
        self.objects.pop(Key, None)


def mirror_of(folder: Path, bucket: Bucket) -> Mirror:
    return Mirror(folder, cast("S3Client", bucket), "dummy")


def test_nothing_is_put_twice_without_a_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    bucket = Bucket()
    mirror = mirror_of(tmp_path, bucket)
    for _ in range(3):
        mirror.sync()
    assert bucket.calls == ["PUT a"]


def test_a_file_that_changes_while_it_is_read_is_put_again(tmp_path: Path) -> None:
    class Slow(Bucket):
        def upload_fileobj(self, stream: Any, bucket: str, key: str, **rest: Any) -> None:
            super().upload_fileobj(stream, bucket, key)
            if len(self.calls) == 1:
                (tmp_path / "a").write_bytes(b"2")  # of the same size

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
    scan = mirror._scan

    def scan_then_remove() -> Any:
        found = scan()
        (tmp_path / "a").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(mirror, "_scan", scan_then_remove)
    mirror.sync()
    assert bucket.objects == {"b": b"22"}
    assert not caplog.records


def test_what_cannot_be_put_is_said_once_and_stops_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Bucket):
        def upload_fileobj(self, stream: Any, bucket: str, key: str, **rest: Any) -> None:
            if key == "a":
                raise ClientError(
                    {"Error": {"Code": "KeyTooLongError", "Message": "Your key is too long"}}, "PutObject"
                )
            super().upload_fileobj(stream, bucket, key)

    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")
    bucket = Picky()
    mirror = mirror_of(tmp_path, bucket)
    mirror.sync()
    mirror.sync()
    assert bucket.objects == {"b": b"22"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_only_regular_files_are_objects(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    bucket = Bucket()
    mirror_of(tmp_path, bucket).sync()
    assert bucket.objects == {"file": b"1", "link": b"1"}


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
