"""What the folder promises beyond the contract: against crashes, other programs, links and a disk that says no."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from handler.adapters.folder.destination import FolderDestination
from handler.adapters.folder.names import STATE, natural_path
from handler.adapters.folder.records import Records
from handler.core.decide import Action
from handler.core.errors import Moved, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, Generation, Replica, Rule, Stamp
from handler.core.ports import Destination
from handler.core.reconcile import reconcile
from handler.core.route import Route
from tests.fakes import BadReader, MemorySource, crc32c, md5, reader
from tests.unit.folder_writer import KEY, body, write

STAMP = Stamp(metadata={"by": "us"})
RULE = Rule(id="r", source="src", destination="file:///x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "copies"


@pytest.fixture
def folder(root: Path) -> FolderDestination:
    return FolderDestination(root)


def put(folder: Destination, key: str, data: bytes = b"data", expect: Generation = ABSENT) -> Replica:
    return folder.put(key, reader(data, key), STAMP, expect=expect)


def tree(root: Path) -> set[str]:
    """The files a person sees."""
    files = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return {str(path) for path in files if path.parts[0] != STATE}


def making(root: Path) -> list[Path]:
    return list((root / STATE / "tmp").iterdir())


# --- what one sees


def test_ordinary_keys_are_plain_files_at_their_path(folder: FolderDestination, root: Path) -> None:
    for key in ("a.csv", "dir/sub/b.csv", "naïve/one two+three.txt"):
        put(folder, key, key.encode())
    assert tree(root) == {"a.csv", "dir/sub/b.csv", "naïve/one two+three.txt"}
    assert (root / "dir/sub/b.csv").read_bytes() == b"dir/sub/b.csv"


def test_what_is_deleted_leaves_no_empty_folder(folder: FolderDestination, root: Path) -> None:
    kept = put(folder, "dir/kept")
    gone = put(folder, "dir/sub/sub/gone")
    folder.delete("dir/sub/sub/gone", expect=gone.generation)
    assert not (root / "dir/sub").exists()
    assert tree(root) == {"dir/kept"}
    folder.delete("dir/kept", expect=kept.generation)
    assert [path.name for path in root.iterdir()] == [STATE]


def test_the_folder_is_made_when_first_written_to(folder: FolderDestination, root: Path) -> None:
    assert not folder.head("k").exists
    with pytest.raises(Moved):
        folder.delete("k", expect=ABSENT)
    assert not root.exists()
    put(folder, "k")
    assert root.is_dir()


def test_copies_outlive_the_process(folder: FolderDestination, root: Path) -> None:
    written = put(folder, "dir/k")
    assert FolderDestination(root).head("dir/k") == written


@pytest.mark.parametrize("key", [".REPLICATOR/x", ".Replicator/x", STATE.upper()])
def test_a_key_named_like_the_state_folder_does_not_make_the_disk_blind_to_case(root: Path, key: str) -> None:
    put(FolderDestination(root), key)
    put(FolderDestination(root), "Upper/Case")
    assert FolderDestination(root).head(key).exists
    assert FolderDestination(root).head("Upper/Case").exists
    assert "Upper/Case" in tree(root)


@pytest.mark.parametrize("key", [STATE, f"{STATE}/meta/x.json", f"{STATE}/lock/00", f"{STATE}/aside/k"])
def test_a_key_inside_the_state_folder_is_kept_out_of_it(folder: FolderDestination, root: Path, key: str) -> None:
    put(folder, "k")
    written = put(folder, key)
    assert folder.head(key) == written
    assert tree(root) == {"k", key.replace(STATE, "%2ereplicator", 1)}
    folder.delete(key, expect=written.generation)
    assert folder.head("k").exists


def test_on_a_disk_blind_to_case_names_are_kept_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderDestination, "_is_case_blind", lambda _self: True)
    folder = FolderDestination(root)
    replicas = {key: put(folder, key, key.encode()) for key in ("Key", "key", "KEY", "straße", "STRASSE")}
    assert {key: folder.head(key) for key in replicas} == replicas
    assert len({path.casefold() for path in tree(root)}) == len(replicas)


# --- others' files


def test_a_file_that_is_already_there_is_foreign_and_described(folder: FolderDestination, root: Path) -> None:
    root.mkdir()
    (root / "k").write_bytes(b"theirs")
    found = folder.head("k")
    assert (found.size, found.crc32c, found.md5) == (6, crc32c(b"theirs"), md5(b"theirs"))
    assert found.stamp == Stamp()


@pytest.mark.parametrize("how", ["rewritten", "replaced"])
def test_a_copy_that_somebody_changes_becomes_theirs_and_is_never_deleted(
    folder: FolderDestination, root: Path, how: str
) -> None:
    source = MemorySource()
    source.put("k", b"ours")
    route = Route(source=source, destination=folder, rules=(RULE,))
    reconcile(route, "k")
    if how == "rewritten":
        (root / "k").write_bytes(b"changed by hand")
    else:
        (root / "new").write_bytes(b"changed by hand")
        (root / "new").rename(root / "k")
    source.delete("k")
    assert reconcile(route, "k").actions == ()
    assert (root / "k").read_bytes() == b"changed by hand"
    source.put("k", b"ours again")
    assert reconcile(route, "k").actions == (Action.PUT,)
    assert (root / "k").read_bytes() == b"ours again"


def test_a_copy_that_somebody_deletes_is_absent_and_made_again(folder: FolderDestination, root: Path) -> None:
    put(folder, "k")
    (root / "k").unlink()
    assert folder.head("k") == Replica()
    put(folder, "k")


def test_a_folder_of_somebodys_at_a_keys_place_is_left_alone(folder: FolderDestination, root: Path) -> None:
    (root / "k" / "theirs").mkdir(parents=True)
    written = put(folder, "k")
    assert folder.head("k") == written
    assert (root / "k" / "theirs").is_dir()
    folder.delete("k", expect=written.generation)
    assert (root / "k" / "theirs").is_dir()


def test_a_generation_grows_though_a_file_is_of_the_future(folder: FolderDestination, root: Path) -> None:
    root.mkdir()
    (root / "k").write_bytes(b"theirs")
    future = time.time_ns() + 10**18
    os.utime(root / "k", ns=(future, future))
    found = folder.head("k")
    written = put(folder, "k", expect=found.generation)
    assert written.generation.number > found.generation.number


def test_a_head_between_two_puts_sees_one_of_them_and_never_a_stranger(root: Path) -> None:
    """Between a look at the file and a look at its record, both may be replaced twice."""
    rival = FolderDestination(root)

    class Slow(Records):
        raced = False

        def path(self, key: str) -> Path:
            if not Slow.raced:
                Slow.raced = True
                put(rival, key, b"third", expect=put(rival, key, b"second", expect=first.generation).generation)
            return super().path(key)

    first = put(rival, "k", b"first")
    slow = FolderDestination(root)
    slow._records = Slow(root / STATE)
    found = slow.head("k")
    assert found == rival.head("k")
    assert dict(found.stamp.metadata) == {"by": "us"}


# --- links


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(b"secret")
    return path


@pytest.mark.parametrize("key", ["link/secret", "link/new", "link/sub/new", "deep/link/secret"])
def test_a_link_out_of_the_folder_is_not_followed(
    folder: FolderDestination, root: Path, outside: Path, key: str
) -> None:
    root.mkdir()
    (root / "deep").mkdir()
    for link in (root / "link", root / "deep/link"):
        link.symlink_to(outside)
    assert not folder.head(key).exists
    written = put(folder, key, b"ours")
    assert folder.head(key) == written
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    folder.delete(key, expect=written.generation)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    assert (root / "link").is_symlink()


def test_a_link_to_a_file_outside_is_not_written_through(folder: FolderDestination, root: Path, outside: Path) -> None:
    root.mkdir()
    (root / "k").symlink_to(outside / "secret")
    assert not folder.head("k").exists
    put(folder, "k", b"ours")
    assert (outside / "secret").read_bytes() == b"secret"


def test_the_folder_itself_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    folder = FolderDestination(tmp_path / "link")
    written = put(folder, "dir/k")
    assert folder.head("dir/k") == written
    assert (outside / "dir/k").read_bytes() == b"data"


# --- a disk that says no

DENIED = [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG]
PASSING = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.ESTALE, errno.EINTR, errno.ENOMEM, 9999]


@pytest.mark.parametrize(
    ("number", "kind"),
    [*((number, Refused) for number in DENIED), *((number, Unavailable) for number in PASSING)],
    ids=lambda value: errno.errorcode.get(value, str(value)) if isinstance(value, int) else value.__name__,
)
@pytest.mark.parametrize("call", ["head", "put", "patch", "delete"])
def test_every_error_of_the_disk_is_one_of_ours(
    folder: FolderDestination, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ReplicationError], call: str
) -> None:
    there = put(folder, "k")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "as told")

    place = {"head": (Path, "lstat"), "put": (os, "fsync"), "patch": (os, "fsync"), "delete": (Path, "unlink")}[call]
    monkeypatch.setattr(*place, fail)
    calls: dict[str, Callable[[], object]] = {
        "head": lambda: folder.head("k"),
        "put": lambda: put(folder, "k", b"newer", expect=there.generation),
        "patch": lambda: folder.patch("k", Stamp(), expect=there.generation),
        "delete": lambda: folder.delete("k", expect=there.generation),
    }
    with pytest.raises(kind) as caught:
        calls[call]()
    assert type(caught.value) is kind
    monkeypatch.undo()
    assert folder.head("k") == there


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_write_that_fails_half_way_leaves_the_old_copy_and_no_litter(
    folder: FolderDestination, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    there = put(folder, "k", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if step == "fsync" else (Path, "rename", full)))
    with pytest.raises(Unavailable, match="No space left"):
        put(folder, "k", b"new", expect=there.generation)
    monkeypatch.undo()
    assert folder.head("k") == there
    assert making(root) == []


@pytest.mark.parametrize("call", [lambda folder: put(folder, "k"), lambda folder: put(folder, "a/b")])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, call: Callable[[Any], object]) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Refused) as caught:
            call(FolderDestination(root))
        assert caught.value.code == "DstPutObjectNotPermitted"


# --- crashes


def test_copies_in_the_making_of_dead_writers_are_swept_and_of_live_ones_are_not(root: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Held(BadReader):
        def read(self, size: int = -1, /) -> bytes:
            reading.set()
            assert go_on.wait(30)
            return super().read(size)

    live = threading.Thread(
        target=lambda: FolderDestination(root).put("k", Held(b"live", b"live"), STAMP, expect=ABSENT)
    )
    live.start()
    assert reading.wait(30)
    (lively,) = making(root)
    (root / STATE / "tmp" / "orphan").write_bytes(b"half a copy")
    put(FolderDestination(root), "another")
    assert making(root) == [lively]
    go_on.set()
    live.join()
    assert (root / "k").read_bytes() == b"live"
    assert making(root) == []


def test_a_writer_killed_at_any_moment_leaves_the_old_copy_or_the_new_one_whole(root: Path) -> None:
    """Twenty times; whoever comes next can go on from there."""
    chance = random.Random(1)  # noqa: S311 - moments, not secrets
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.unit.folder_writer"])
    number = 1
    for _ in range(20):
        hear, say = processes.Pipe(duplex=False)
        writer = processes.Process(target=write, args=(str(root), number, say))
        writer.start()
        say.close()
        for _ in range(chance.randint(1, 4)):
            number = hear.recv()
        time.sleep(chance.random() * 0.01)  # the moment is what is random here
        writer.kill()
        writer.join()
        with contextlib.suppress(EOFError):
            while True:
                number = hear.recv()
        hear.close()
        number += 1
        _check_whole(root, number)
        number += 1


def _check_whole(root: Path, at_most: int) -> None:
    found = FolderDestination(root).head(KEY)
    path = root / natural_path(KEY)
    assert found.exists == path.exists()
    if not found.exists:
        return
    written = int(found.stamp.metadata["number"])
    assert at_most - 3 <= written <= at_most
    data = path.read_bytes()
    assert data == body(written)
    assert (found.size, found.crc32c, found.md5) == (len(data), crc32c(data), md5(data))
    newer = put(FolderDestination(root), KEY, b"repaired", expect=found.generation)
    assert making(root) == []
    assert newer.generation.number > found.generation.number


def test_a_file_that_another_writers_sweep_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = FolderDestination(tmp_path / "copies")
    destination.put("first", reader(b"1", "first"), Stamp(), expect=ABSENT)
    swept: list[Path] = []
    lock = fcntl.flock

    def late(file: IO[bytes], operation: int) -> None:
        if not swept and Path(file.name).parent.name == "tmp":
            swept.append(Path(file.name))
            swept[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    destination.put("k", reader(b"data", "k"), Stamp(), expect=ABSENT)
    assert swept
    assert (tmp_path / "copies" / "k").read_bytes() == b"data"
