"""Every change in the source folder reaches the destination; nothing else there is touched."""

from __future__ import annotations

import os
import shutil
import sys
import time
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


def test_a_source_folder_that_vanishes_is_an_error_and_costs_no_copy(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    (desk.source / "first.txt").write_bytes(b"1")
    desk.await_equal("first.txt")
    away = desk.source.rename(desk.source.with_name("away"))
    eventually(lambda: "is gone. Nothing is deleted for that: bring it back" in desk.told(), "the error")
    away.rename(desk.source)
    (desk.source / "second.txt").write_bytes(b"2")
    desk.await_equal("second.txt")
    assert "is back" in desk.told()
    assert desk.equal("first.txt")
    (desk.source / "first.txt").unlink()
    desk.await_gone("first.txt")


def test_another_folder_in_its_place_is_followed_and_costs_no_copy(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    (desk.source / "first.txt").write_bytes(b"1")
    desk.await_equal("first.txt")
    desk.source.rename(desk.source.with_name("away"))
    eventually(lambda: "is gone" in desk.told(), "the error")
    desk.source.mkdir()
    (desk.source / "second.txt").write_bytes(b"2")
    desk.await_equal("second.txt")
    assert "another folder is at " in desk.told()
    assert (desk.destination / "first.txt").read_bytes() == b"1"
    assert s3_of(desk).get_object(Bucket="dummy", Key="first.txt")["Body"].read() == b"1"


@pytest.mark.parametrize(
    "count", [pytest.param(100, id="100"), pytest.param(2000, id="2,000", marks=[pytest.mark.slow])]
)
def test_a_tree_that_is_renamed_always_has_its_copies(start: Callable[..., Desk], count: int) -> None:
    desk = start("--deletes-limit", "100000")
    (desk.source / "old").mkdir()
    for number in range(count):
        (desk.source / f"old/{number}.txt").write_bytes(b"%d" % number)
    eventually(lambda: len(list(desk.destination.glob("old/*.txt"))) == count, "every copy", 20 + count / 10)
    (desk.source / "old").rename(desk.source / "new")

    def copies(name: str) -> set[str]:
        return {path.name for path in desk.destination.glob(f"{name}/*.txt")}

    def moved() -> bool:
        old = copies("old")
        assert len(old | copies("new")) == count, "a file has no copy"
        return not old

    eventually(moved, f"the old names gone in {desk.told()}", 20 + count / 10)
    assert len(copies("new")) == count


def test_a_file_that_is_written_slowly_goes_up_once(start: Callable[..., Desk]) -> None:
    desk = start()
    with (desk.source / "slow.bin").open("wb", buffering=0) as slow:
        for _ in range(10):
            slow.write(bytes(1 << 20))
            (desk.source / "quick.txt").write_bytes(b"%f" % time.time())
            desk.await_equal("quick.txt")
    desk.await_equal("slow.bin")

    def lines() -> list[str]:
        return [line for line in desk.emulator.output() if " slow.bin " in line]

    eventually(lines, "the line that says so")
    (desk.source / "quick.txt").write_bytes(b"the last")
    desk.await_equal("quick.txt")
    assert len(lines()) == 1


def test_a_versioned_buckets_states_arrive_when_versions_are_deleted_by_their_ids(start: Callable[..., Desk]) -> None:
    desk = start("--versioned")
    s3 = s3_of(desk)
    first, second = (s3.put_object(Bucket="dummy", Key="v", Body=body)["VersionId"] for body in (b"first", b"second"))

    def copy_is(body: bytes) -> None:
        eventually(lambda: desk.bytes("v") == body, f"the copy being {body!r} in {desk.told()}")

    copy_is(b"second")
    s3.delete_object(Bucket="dummy", Key="v", VersionId=second)
    copy_is(b"first")
    marker = s3.delete_object(Bucket="dummy", Key="v")["VersionId"]
    desk.await_gone("v")
    s3.delete_object(Bucket="dummy", Key="v", VersionId=marker)
    copy_is(b"first")
    s3.delete_object(Bucket="dummy", Key="v", VersionId=first)
    desk.await_gone("v")


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
