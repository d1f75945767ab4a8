"""Every change in the source folder reaches the destination; nothing else there is touched."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.support import Desk, eventually, s3_of


def test_a_new_file_is_copied_overwritten_and_removed(desk: Desk) -> None:
    file = desk.source / "x.txt"
    file.write_bytes(b"new\n")
    desk.await_equal("x.txt")
    file.write_bytes(b"old\n")  # of the same size
    desk.await_equal("x.txt")
    file.unlink()
    desk.await_gone("x.txt")


def test_a_renamed_file_moves(desk: Desk) -> None:
    (desk.source / "before.txt").write_bytes(b"renamed\n")
    desk.await_equal("before.txt")
    (desk.source / "before.txt").rename(desk.source / "after.txt")
    desk.await_equal("after.txt")
    desk.await_gone("before.txt")


def test_a_folder_moves_in_and_out_as_a_whole(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "one.txt").write_bytes(b"1")
    (folder / "deep/er/two.txt").write_bytes(b"2")
    folder.rename(desk.source / "moved")
    desk.await_equal("moved/one.txt")
    desk.await_equal("moved/deep/er/two.txt")
    (desk.source / "moved/deep/er/three.txt").write_bytes(b"3")  # in a folder that came later
    desk.await_equal("moved/deep/er/three.txt")
    shutil.rmtree(desk.source / "moved")
    for key in ("moved/one.txt", "moved/deep/er/two.txt", "moved/deep/er/three.txt"):
        desk.await_gone(key)


def test_a_file_that_becomes_a_folder_ends_right(desk: Desk) -> None:
    (desk.source / "both").write_bytes(b"a file")
    desk.await_equal("both")
    (desk.source / "both").unlink()
    (desk.source / "both").mkdir()
    (desk.source / "both/inside").write_bytes(b"a file in a folder")
    eventually(lambda: desk.post("both/inside").status == 200, "the second one in S3")
    eventually(lambda: desk.post("both").status == 404, "the first one gone")


@pytest.mark.parametrize(
    "key",
    [
        "a name with spaces.txt",
        "plus+and&and=.txt",
        "Grüße/日本/Straße.txt",
        "per%cent%2Fencoded.txt",
        ".hidden",
        "editor.txt~",
        "cache.pyc",
        "node_modules/x.js",
        "quote\"and'quote.txt",
        "question?and#hash.txt",
        "back\\slash.txt",
        "-leading",
        "empty",
    ],
)
def test_odd_names_arrive(desk: Desk, key: str) -> None:
    file = desk.source / key
    file.parent.mkdir(parents=True, exist_ok=True)
    body = b"" if key == "empty" else key.encode()
    file.write_bytes(body)
    eventually(lambda: desk.post(key).body == {"status": "Already Exists"}, f"{key!r} replicated in {desk.told()}")
    if "%" not in key:  # the folder adapter escapes by that character
        assert (desk.destination / key).read_bytes() == body


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS allows no such names")
def test_a_name_that_is_not_utf8_is_skipped_and_said(desk: Desk) -> None:
    name = os.fsdecode(b"latin-\xe9.txt")
    (desk.source / name).write_bytes(b"?")
    (desk.source / "after-latin.txt").write_bytes(b"!")
    desk.await_equal("after-latin.txt")
    eventually(lambda: "not valid UTF-8" in desk.told(), "the warning")
    (desk.source / name).unlink()


def test_a_large_file_arrives_in_parts(desk: Desk) -> None:
    (desk.source / "large.bin").write_bytes(os.urandom(20 * 1024 * 1024 + 1))
    desk.await_equal("large.bin")
    assert s3_of(desk).head_object(Bucket="dummy", Key="large.bin")["ETag"].endswith('-3"')


def test_a_file_that_keeps_changing_ends_equal(desk: Desk) -> None:
    for number in range(200):
        (desk.source / "busy.txt").write_bytes(f"{number:03}".encode())
    desk.await_equal("busy.txt")


def test_the_content_type_is_guessed_as_the_aws_cli_does(desk: Desk) -> None:
    for key in ("typed.csv", "typed.unknown-suffix"):
        (desk.source / key).write_bytes(b"a,b\n")
        desk.await_equal(key)
    types = [
        s3_of(desk).head_object(Bucket="dummy", Key=key)["ContentType"] for key in ("typed.csv", "typed.unknown-suffix")
    ]
    assert types == ["text/csv", "binary/octet-stream"]
    if desk.ready["gcs"]:
        eventually(lambda: desk.gcs("typed.csv")["contentType"] == "text/csv", "the copy's content type")


def test_what_the_replicator_did_not_put_there_is_kept(desk: Desk) -> None:
    (desk.destination / "theirs.txt").write_bytes(b"theirs")
    s3 = s3_of(desk)
    assert desk.post("theirs.txt").status == 404
    assert (desk.destination / "theirs.txt").read_bytes() == b"theirs"
    s3.put_object(Bucket="dummy", Key="ours.txt", Body=b"ours")
    eventually((desk.destination / "ours.txt").exists, "the copy")
    s3.delete_object(Bucket="dummy", Key="ours.txt")
    desk.await_gone("ours.txt")
    assert (desk.destination / "theirs.txt").read_bytes() == b"theirs"


def test_the_source_folder_may_go_and_come_again(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    (desk.source / "first.txt").write_bytes(b"1")
    desk.await_equal("first.txt")
    shutil.rmtree(desk.source)
    desk.await_gone("first.txt")
    desk.source.mkdir()
    (desk.source / "second.txt").write_bytes(b"2")
    desk.await_equal("second.txt")


def test_a_delete_in_a_versioned_bucket_arrives(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder", "--versioned")
    (desk.source / "versioned.txt").write_bytes(b"1")
    desk.await_equal("versioned.txt")
    (desk.source / "versioned.txt").unlink()
    desk.await_gone("versioned.txt")


def test_a_change_is_at_the_destination_within_a_second(desk: Desk) -> None:
    (desk.source / "warm-up.txt").write_bytes(b"warm")
    desk.await_equal("warm-up.txt")
    (desk.source / "quick.txt").write_bytes(b"quick")
    desk.await_equal("quick.txt", limit=1.0)
