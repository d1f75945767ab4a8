"""The emulator is killed, things change while it is down, and the next start makes both sides equal again.

`make restart` runs the long form: 2,000 files, and 20,000 that lie there at the start.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_emulator.process import EmulatorProcess
from tests.e2e.support import Desk, eventually, s3_of

Start = Callable[..., Desk]


def kill(desk: Desk) -> None:
    desk.emulator.process.send_signal(signal.SIGKILL)
    desk.emulator.stop()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    """Start an emulator that the test itself ends."""
    with ExitStack() as running:

        def begin(*arguments: str) -> Desk:
            folders = ("--source", str(tmp_path / "source_s3"), "--destination", str(tmp_path / "destination_gcs"))
            return Desk(running.enter_context(EmulatorProcess(*folders, "--port", "0", *arguments)))

        yield begin


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds, without what the emulator itself keeps there."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    held: dict[str, bytes] = {}
    for name, path in found.items():
        if not name.startswith((".s3", ".gcs", ".replicator")):
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                held[name] = path.read_bytes()
    return held


def done(desk: Desk, what: str) -> list[str]:
    """The keys of which the emulator said that this was done."""
    lines = [line.split() for line in desk.emulator.output()]
    return [words[1] for words in lines if words[:1] == [what] and len(words) > 2]


def await_equal(desk: Desk, limit: float) -> None:
    eventually(lambda: files(desk.destination) == files(desk.source), f"both sides equal in {desk.told()}", limit)


@pytest.mark.parametrize("target", ["gcs", "folder"])
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(80, id="80"),
        pytest.param(2000, id="2,000", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_what_changed_while_it_was_down_is_copied_and_nothing_else(begin: Start, target: str, count: int) -> None:
    chance = random.Random(count)  # noqa: S311 - to be repeatable
    limit = 20.0 + count / 10
    desk = begin("--target", target)
    for number in range(count):
        (desk.source / f"{number % 7}").mkdir(exist_ok=True)
        (desk.source / f"{number % 7}/{number}.txt").write_bytes(b"%d" % number)
    some = chance.randrange(count // 10, count // 2)
    eventually(lambda: len(files(desk.destination)) >= some, "some copies", limit)
    kill(desk)
    before, copied = files(desk.source), files(desk.destination)
    assert len(copied) < count or count < 1000
    names = sorted(before)
    for name in names[:10]:
        (desk.source / name).write_bytes(b"changed")
    for name in names[10:20]:
        (desk.source / name).unlink()
    for name in names[20:30]:
        (desk.source / name).rename(desk.source / f"{name}.renamed")
    for number in range(10):
        (desk.source / f"new-{number}.txt").write_bytes(b"new")
    (desk.destination / "theirs.txt").write_bytes(b"not the replicator's")
    equal = {name for name, body in files(desk.source).items() if copied.get(name) == body}

    desk = begin("--target", target)
    wanted = {**files(desk.source), "theirs.txt": b"not the replicator's"}
    eventually(lambda: files(desk.destination) == wanted, f"both sides equal in {desk.told()}", limit)
    eventually(lambda: "caught up: " in desk.told(), "the end of the catching up", limit)
    assert set(done(desk, "put")) == wanted.keys() - equal - {"theirs.txt"}
    desk.emulator.stop()

    desk = begin("--target", target)
    eventually(lambda: "Ctrl-C ends it." in desk.told(), "the banner")
    assert not any("differ from their copies" in line and not line.startswith("0") for line in desk.emulator.output())
    assert (done(desk, "put"), done(desk, "delete")) == ([], [])
    desk.emulator.stop()
    sys.stdout.write(
        f"{count:,} files, killed at {len(copied):,} copies: {len(wanted) - len(equal):,} copied, 0 again\n"
    )


def test_what_came_by_the_api_is_there_again(begin: Start) -> None:
    desk = begin()
    s3 = s3_of(desk)
    s3.put_object(
        Bucket="dummy", Key="api", Body=b"by the API", ContentType="text/x", Metadata={"a": "b"}, Tagging="k=v"
    )
    s3.put_object(Bucket="dummy", Key="gone", Body=b"deleted by the API")
    s3.upload_fileobj(io.BytesIO(bytes(9 << 20)), "dummy", "large")
    for key in ("api", "gone", "large"):
        desk.await_there(key)
    before = s3.head_object(Bucket="dummy", Key="api")
    large = s3.head_object(Bucket="dummy", Key="large", PartNumber=2)
    s3.delete_object(Bucket="dummy", Key="gone")
    desk.await_gone("gone")
    kill(desk)
    desk = begin()
    s3 = s3_of(desk)
    after = s3.head_object(Bucket="dummy", Key="api")
    for field in ("ETag", "LastModified", "ContentType", "Metadata"):
        assert after[field] == before[field]
    assert s3.get_object(Bucket="dummy", Key="api")["Body"].read() == b"by the API"
    assert s3.get_object_tagging(Bucket="dummy", Key="api")["TagSet"] == [{"Key": "k", "Value": "v"}]
    again = s3.head_object(Bucket="dummy", Key="large", PartNumber=2)
    assert (again["ETag"], again["ContentLength"]) == (large["ETag"], large["ContentLength"])
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="dummy")["Contents"]] == ["api", "large"]
    assert done(desk, "put") == []
    assert (desk.destination / "api").read_bytes() == b"by the API"
    desk.emulator.stop()


def test_tags_that_changed_just_before_the_end_are_caught_up(begin: Start, tmp_path: Path) -> None:
    destination = {"Bucket": "gs://dummy", "Tags": {"Status": "Enabled"}}
    rule = {"Source": {"Bucket": "dummy"}, "Destination": destination}
    (tmp_path / "rules.json").write_text(json.dumps([rule]))
    desk = begin("--rules", str(tmp_path / "rules.json"))
    (desk.source / "a.txt").write_bytes(b"a")
    desk.await_there("dummy/a.txt")
    s3_of(desk).put_object_tagging(Bucket="dummy", Key="a.txt", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    kill(desk)
    desk = begin("--rules", str(tmp_path / "rules.json"))
    eventually(lambda: desk.gcs("a.txt")["metadata"].get("s3-tag-k") == "v", "the tag at the copy")
    desk.emulator.stop()


def test_what_was_there_before_the_first_start_waits_to_be_asked_for(begin: Start, tmp_path: Path) -> None:
    (tmp_path / "source_s3").mkdir()
    (tmp_path / "source_s3/before.txt").write_bytes(b"before")
    (tmp_path / "source_s3/later.txt").write_bytes(b"before")
    for _ in range(2):
        desk = begin()
        (desk.source / "probe.txt").write_bytes(b"%f" % time.time())
        desk.await_equal("probe.txt")
        assert set(files(desk.destination)) == {"probe.txt"}
        kill(desk)
    (desk.source / "later.txt").write_bytes(b"changed while it was down")
    desk = begin()
    desk.await_equal("later.txt")
    assert not (desk.destination / "before.txt").exists()
    kill(desk)
    desk = begin("--catch-up")
    await_equal(desk, 20)
    desk.emulator.stop()


def test_no_catch_up_leaves_what_differs(begin: Start) -> None:
    desk = begin()
    kill(desk)
    (desk.source / "down.txt").write_bytes(b"down")
    desk = begin("--no-catch-up")
    assert "1 of 1 objects differ from their copies, and stay so (--no-catch-up)" in desk.told()
    (desk.source / "up.txt").write_bytes(b"up")
    desk.await_equal("up.txt")
    assert not (desk.destination / "down.txt").exists()
    kill(desk)
    desk = begin()
    desk.await_equal("down.txt")
    desk.emulator.stop()


def test_events_that_wait_at_the_end_are_said_and_found(begin: Start) -> None:
    desk = begin("--concurrency", "1", "--target", "folder")
    for number in range(300):
        (desk.source / f"{number}.txt").write_bytes(b"%d" % number)
    desk.await_there("1.txt")
    assert desk.emulator.stop() == 0
    assert len(files(desk.destination)) < 300
    assert "The next start compares both sides" in desk.told()
    desk = begin("--target", "folder")
    await_equal(desk, 60)
    desk.emulator.stop()


def test_a_source_folder_without_its_state_costs_no_copy(begin: Start) -> None:
    desk = begin()
    (desk.source / "a.txt").write_bytes(b"a")
    desk.await_equal("a.txt")
    desk.emulator.stop()
    shutil.rmtree(desk.source)
    desk = begin()
    assert "1 copies are of objects that" in desk.told()
    (desk.source / "b.txt").write_bytes(b"b")
    desk.await_equal("b.txt")
    assert (desk.destination / "a.txt").read_bytes() == b"a"
    desk.emulator.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_files_at_the_start(begin: Start, tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"source_s3/{number % 100}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"source_s3/{number % 100}/{number}.txt").write_bytes(b"%d" % number)
    began = time.monotonic()
    desk = begin("--catch-up")
    ready = time.monotonic() - began
    eventually(lambda: "caught up: 20,000 objects" in desk.told(), f"all in {desk.told()}", 600)
    assert any("catching up: " in line for line in desk.emulator.output())
    await_equal(desk, 60)
    took = time.monotonic() - began
    desk.emulator.stop()
    began = time.monotonic()
    desk = begin()
    again = time.monotonic() - began
    assert done(desk, "put") == []
    desk.emulator.stop()
    sys.stdout.write(f"20,000 files: READY after {ready:.1f} s, equal after {took:.1f} s; restarted in {again:.1f} s\n")
