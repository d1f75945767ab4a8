"""The folder as a person sees it: plain files, and what a person does to them counts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests

from local_emulator.gcs import GcsServer
from local_emulator.gcs.store.blobs import write_small
from local_emulator.gcs.store.store import Store
from local_emulator.gcs.store.write_rate import Target
from local_emulator.gcs.store.writes import delete, put
from tests.functional.gcs.conftest import Api


def test_objects_are_plain_files(api: Api, home: Path) -> None:
    api.insert("a/b/c.txt", b"one")
    path = home / "a" / "b" / "c.txt"
    assert path.read_bytes() == b"one"
    api.insert("a/b/c.txt", b"two")
    assert path.read_bytes() == b"two"
    api.object("POST", "a/b/c.txt", "/moveTo/o/d")
    assert [(home / "d").read_bytes(), [path.name for path in home.iterdir()]] == [b"two", ["d"]]
    api.object("DELETE", "d")
    assert not list(home.iterdir())


def test_a_file_that_a_person_drops_is_an_object(api: Api, home: Path) -> None:
    (home / "x").mkdir()
    (home / "x" / "dropped").write_bytes(b"hello")
    resource = api.resource("x/dropped")
    assert (resource["crc32c"], resource["md5Hash"]) == ("mnG7TA==", "XUFAKrxLKna5cZ2REBfFkg==")
    (home / "another").write_bytes(b"")
    assert api.names() == ["another", "x/dropped"]
    assert api.insert("another", b"", ifGenerationMatch="0").status_code == 412


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_file_that_a_person_edits_is_a_new_generation(api: Api, home: Path, how: str) -> None:
    before = api.insert("k", b"before").json()
    if how == "in place":
        with (home / "k").open("ab") as file:
            file.write(b" and after")
    else:
        (home / ".swap").write_bytes(b"before and after")
        (home / ".swap").rename(home / "k")
    assert api.insert("k", b"", ifGenerationMatch=before["generation"]).status_code == 412
    after = api.resource("k")
    assert (int(after["generation"]) > int(before["generation"]), after["size"]) == (True, "16")
    assert api.media("k").content == b"before and after"


@pytest.mark.parametrize("see", ["get", "list", "write", "delete"])
def test_a_file_that_a_person_removes_is_a_deleted_object(api: Api, home: Path, see: str) -> None:
    api.insert("k", b"old")
    (home / "k").unlink()
    if see == "get":
        assert api.object("GET", "k").status_code == 404
    elif see == "list":
        assert api.names() == []
    elif see == "delete":
        assert api.object("DELETE", "k").status_code == 404
    else:
        assert api.insert("k", b"new", ifGenerationMatch="0").status_code == 200


def test_a_name_in_the_way_of_another_is_served_all_the_same(api: Api, home: Path) -> None:
    for name in ("a", "a/b", "c/d", "c"):
        api.insert(name, name.encode())
    assert [api.media(name).content for name in ("a", "a/b", "c", "c/d")] == [b"a", b"a/b", b"c", b"c/d"]
    assert api.names() == ["a", "a/b", "c", "c/d"]
    assert ((home / "a").read_bytes(), (home / "c" / "d").read_bytes()) == (b"a", b"c/d")
    api.object("DELETE", "a")
    assert (api.object("GET", "a").status_code, api.media("a/b").content) == (404, b"a/b")


def test_nothing_leaves_the_folder(api: Api, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (home / "link").symlink_to(outside)
    (home / "file").symlink_to(outside / "secret")
    for name in ("../up", "../../up", "link/secret", "link/new/x", "file", "/etc/passwd"):
        assert api.object("GET", name).status_code == 404
        assert api.insert(name, b"x").status_code == 200
        assert api.media(name).content == b"x"
    assert "link/secret" in api.names(prefix="link/")
    assert ([path.name for path in outside.iterdir()], (outside / "secret").read_bytes()) == (["secret"], b"secret")
    assert not (home.parent / "up").exists()


def test_a_folder_that_a_person_makes_is_a_bucket(api: Api, home: Path) -> None:
    made = home.parent / f"{api.bucket}-by-hand"
    made.mkdir()
    assert api.call("GET", f"/storage/v1/b/{made.name}").json()["name"] == made.name
    names = [item["name"] for item in api.call("GET", "/storage/v1/b?project=p").json()["items"]]
    assert {api.bucket, made.name} <= set(names)


def test_a_bucket_is_deleted_with_its_folder_when_empty(api: Api, home: Path) -> None:
    (home / "dropped").write_bytes(b"")
    answer = api.call("DELETE", f"/storage/v1/b/{api.bucket}")
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (409, "conflict")
    api.object("DELETE", "dropped")
    assert api.call("DELETE", f"/storage/v1/b/{api.bucket}").status_code == 204
    assert not home.exists()
    assert api.insert("k").status_code == 404


def test_a_folder_can_be_one_bucket(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_bytes(b"hello")
    with GcsServer(tmp_path, bucket="only") as server, requests.Session() as session:
        api = Api(server.url, "only", session)
        assert api.insert("a/b", b"x").status_code == 200
        assert (tmp_path / "a" / "b").read_bytes() == b"x"
        assert api.names() == ["a/b", "there.txt"]
        assert api.insert(".gcs/lock", b"x").status_code == 200
        assert api.media(".gcs/lock").content == b"x"
        assert api.names() == [".gcs/lock", "a/b", "there.txt"]
        assert Api(server.url, "other", session).insert("k").status_code == 404
        assert [item["name"] for item in api.call("GET", "/storage/v1/b").json()["items"]] == ["only"]


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with GcsServer(tmp_path), pytest.raises(RuntimeError, match="another GCS server"):
        GcsServer(tmp_path).start()
    with GcsServer(tmp_path) as server:
        assert requests.get(server.url, timeout=5).text == "OK"


def test_a_delete_and_an_insert_in_one_transaction_leave_nothing_to_mend(tmp_path: Path) -> None:
    store = Store(tmp_path, "only", one_write_a_second=False)
    target = Target("only", "k")
    try:
        blobs = [write_small(store.layout, data) for data in (b"old", b"new")]
        store.committer.submit(put(target, blobs[0], {})).result()
        gate = threading.Event()
        waiting = store.committer.submit(lambda _: gate.wait())  # what follows is taken together
        both = store.committer.submit(delete(target)), store.committer.submit(put(target, blobs[1], {}))
        gate.set()
        assert waiting.result()
        both[0].result()
        both[1].result()
    finally:
        store.close()
    (tmp_path / "k").write_bytes(b"by a person")
    with GcsServer(tmp_path, bucket="only") as server, requests.Session() as session:
        assert Api(server.url, "only", session).media("k").content == b"by a person"
