"""Object versioning, soft delete, lifecycle rules and the write rate, told by Google's own client."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage

from local_emulator.gcs import GcsServer
from tests.functional.gcs.conftest import Api, client_of

DAY = 24 * 3600
WEEK = 7 * DAY
_numbers = itertools.count()


@dataclass
class Clock:
    """Time that only a test moves."""

    now: float = 1_780_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs"), clock=clock) as running:
        yield running


@pytest.fixture
def api(server: GcsServer) -> Iterator[Api]:
    with requests.Session() as session:
        yield Api(server.url, f"versions-{next(_numbers)}", session)


@pytest.fixture
def made(api: Api, client: storage.Client) -> storage.Bucket:
    """A bucket with object versioning."""
    return _made(client, api.bucket, versioning_enabled=True)


@pytest.fixture
def soft(api: Api, client: storage.Client) -> storage.Bucket:
    """A bucket with soft delete."""
    bucket = client.bucket(api.bucket)
    bucket.soft_delete_policy.retention_duration_seconds = WEEK
    return client.create_bucket(bucket)


def _made(client: storage.Client, name: str, **fields: Any) -> storage.Bucket:
    bucket = client.bucket(name)
    for field, value in fields.items():
        setattr(bucket, field, value)
    return client.create_bucket(bucket)


def _put(bucket: storage.Bucket, name: str, data: bytes, **conditions: int) -> int:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **conditions)
    return int(blob.generation)


def _versions(bucket: storage.Bucket, **query: Any) -> list[tuple[str, int, bool]]:
    """Name, generation, and whether it is live, of every version."""
    found = bucket.list_blobs(versions=True, **query)
    return [(blob.name, int(blob.generation), blob.time_deleted is None) for blob in found]


def _soft_deleted(bucket: storage.Bucket) -> list[tuple[str, int]]:
    return [(blob.name, int(blob.generation)) for blob in bucket.list_blobs(soft_deleted=True)]


def _files(server: GcsServer) -> int:
    return sum(len(files) for _, _, files in os.walk(server.folder / ".gcs" / "blobs"))


# --- object versioning


def test_overwriting_and_deleting_leave_noncurrent_versions(made: storage.Bucket) -> None:
    first = _put(made, "k", b"1")
    second = _put(made, "k", b"2", if_generation_match=first)
    made.blob("k").delete(if_generation_match=second)
    assert made.get_blob("k") is None
    assert [blob.name for blob in made.list_blobs()] == []
    assert _versions(made) == [("k", first, False), ("k", second, False)]
    third = _put(made, "k", b"3", if_generation_match=0)
    assert first < second < third
    assert _versions(made) == [("k", first, False), ("k", second, False), ("k", third, True)]
    for generation, data in ((first, b"1"), (second, b"2"), (third, b"3")):
        assert made.blob("k", generation=generation).download_as_bytes() == data
        assert int(made.get_blob("k", generation=generation).generation) == generation


def test_a_delete_that_names_the_live_generation_is_for_good(made: storage.Bucket, server: GcsServer) -> None:
    files = _files(server)
    first = _put(made, "k", b"1")
    made.blob("k", generation=first).delete()
    assert _versions(made) == []
    assert _files(server) == files


def test_a_delete_of_a_noncurrent_version_leaves_the_others(made: storage.Bucket) -> None:
    first, second, third = (_put(made, "k", data) for data in (b"1", b"2", b"3"))
    made.blob("k", generation=second).delete()
    assert _versions(made) == [("k", first, False), ("k", third, True)]
    with pytest.raises(exceptions.NotFound):
        made.blob("k", generation=second).delete()


def test_a_condition_on_the_generation_is_on_the_live_one(made: storage.Bucket) -> None:
    first, second = _put(made, "k", b"1"), _put(made, "k", b"2")
    with pytest.raises(exceptions.PreconditionFailed):
        made.blob("k", generation=first).delete(if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        made.blob("k").delete(if_generation_match=first)
    made.blob("k", generation=first).delete(if_generation_match=second)
    assert _versions(made) == [("k", second, True)]


def test_a_noncurrent_version_can_be_patched_and_copied(made: storage.Bucket) -> None:
    first, second = _put(made, "k", b"1"), _put(made, "k", b"2")
    old = made.blob("k", generation=first)
    old.metadata = {"a": "b"}
    old.patch()
    assert (old.metageneration, old.time_deleted is not None) == (2, True)
    made.copy_blob(made.blob("k"), made, "k", source_generation=first)
    live = made.get_blob("k")
    assert (live.download_as_bytes(), live.metadata, live.time_deleted) == (b"1", {"a": "b"}, None)
    assert [row[1:] for row in _versions(made)] == [(first, False), (second, False), (int(live.generation), True)]


def test_versioning_that_is_switched_off_keeps_what_there_is(made: storage.Bucket) -> None:
    first, second = _put(made, "k", b"1"), _put(made, "k", b"2")
    made.versioning_enabled = False
    made.patch()
    third = _put(made, "k", b"3")
    assert _versions(made) == [("k", first, False), ("k", third, True)]
    assert second not in {row[1] for row in _versions(made)}


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_pages_of_versions_show_each_version_once(made: storage.Bucket, page_size: int) -> None:
    written = sorted((name, _put(made, name, b"x")) for name in ("a", "b/c", "b/c", "a", "b/d", "a"))
    found = _versions(made, page_size=page_size)
    assert [row[:2] for row in found] == written
    assert [row[:2] for row in _versions(made, page_size=page_size, prefix="b/")] == written[3:]
    folders = made.list_blobs(versions=True, delimiter="/", page_size=page_size)
    assert ([blob.name for blob in folders], folders.prefixes) == (["a"] * 3, {"b/"})


def test_compose_removes_its_sources_for_good(made: storage.Bucket, api: Api) -> None:
    for name in "ab":
        _put(made, name, name.encode())
    request = {"sourceObjects": [{"name": "a"}, {"name": "b"}], "deleteSourceObjects": True}
    answer = api.object("POST", "k", "/compose", json=request).json()
    assert _versions(made) == [("k", int(answer["generation"]), True)]


def test_a_versioned_bucket_is_deleted_only_without_versions(made: storage.Bucket) -> None:
    first = _put(made, "k", b"1")
    made.blob("k").delete()
    with pytest.raises(exceptions.Conflict):
        made.delete()
    made.blob("k", generation=first).delete()
    made.delete()


@pytest.mark.parametrize("hand", ["writes into the file", "replaces the file", "removes the file"])
def test_what_a_person_does_leaves_a_noncurrent_version_where_bytes_are_left(
    made: storage.Bucket, server: GcsServer, hand: str
) -> None:
    first = _put(made, "k", b"from the api")
    path = Path(server.folder) / made.name / "k"
    if hand == "removes the file":
        path.unlink()
    elif hand == "replaces the file":
        path.with_name("other").write_bytes(b"by hand")
        path.with_name("other").rename(path)
    else:
        path.write_bytes(b"by hand")
    assert (("k", first, False) in _versions(made)) is (hand != "writes into the file")
    for name, generation, _ in _versions(made):
        data = made.blob(name, generation=generation).download_as_bytes()
        assert data == (b"from the api" if generation == first else b"by hand")


def test_versions_outlive_the_server(tmp_path: Path) -> None:
    with GcsServer(tmp_path) as server, requests.Session() as session:
        client = client_of(server.url)
        bucket = _made(client, "kept", versioning_enabled=True)
        first, second = _put(bucket, "k", b"1"), _put(bucket, "k", b"2")
        client.close()
        assert Api(server.url, "kept", session).names() == ["k"]
    with GcsServer(tmp_path) as server:
        client = client_of(server.url)
        bucket = client.bucket("kept")
        assert _versions(bucket) == [("k", first, False), ("k", second, True)]
        assert bucket.blob("k", generation=first).download_as_bytes() == b"1"
        client.close()


# --- soft delete


def test_overwritten_and_deleted_objects_are_soft_deleted_until_their_time(
    soft: storage.Bucket, clock: Clock, server: GcsServer
) -> None:
    files = _files(server)
    first = _put(soft, "k", b"1")
    second = _put(soft, "k", b"2", if_generation_match=first)
    soft.blob("k").delete(if_generation_match=second)
    assert [blob.name for blob in soft.list_blobs()] == []
    assert _versions(soft) == []
    assert _soft_deleted(soft) == [("k", first), ("k", second)]
    found = soft.get_blob("k", generation=second, soft_deleted=True)
    assert (found.hard_delete_time - found.soft_delete_time).total_seconds() == WEEK
    with pytest.raises(exceptions.NotFound):
        soft.blob("k", generation=second).download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        soft.blob("k", generation=second).delete()
    clock.now += WEEK
    assert _soft_deleted(soft) == []
    with pytest.raises(exceptions.NotFound):
        soft.restore_blob("k", generation=second)
    _put(soft, "other", b"x")
    soft.blob("other").delete()
    assert _files(server) == files + 1, "bytes whose retention ended are gone"


def test_a_soft_deleted_object_is_restored_as_a_new_generation(soft: storage.Bucket) -> None:
    blob = soft.blob("k")
    blob.metadata, blob.storage_class = {"a": "b"}, "NEARLINE"
    blob.upload_from_string(b"1", "text/x-test")
    blob.metadata = {"a": "c"}
    blob.patch()
    first = int(blob.generation)
    soft.blob("k").delete()
    restored = soft.restore_blob("k", generation=first, if_generation_match=0)
    assert int(restored.generation) > first
    assert (restored.metageneration, restored.metadata, restored.storage_class) == (1, {"a": "c"}, "NEARLINE")
    assert (restored.content_type, restored.soft_delete_time) == ("text/x-test", None)
    assert soft.get_blob("k").download_as_bytes() == b"1"


def test_a_restore_is_on_conditions_of_the_live_object(soft: storage.Bucket) -> None:
    first, second = _put(soft, "k", b"1"), _put(soft, "k", b"2")
    with pytest.raises(exceptions.PreconditionFailed):
        soft.restore_blob("k", generation=first, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        soft.restore_blob("k", generation=first, if_metageneration_match=2)
    with pytest.raises(exceptions.NotFound):
        soft.restore_blob("k", generation=second)
    restored = soft.restore_blob("k", generation=first, if_generation_match=second)
    assert soft.get_blob("k").download_as_bytes() == b"1"
    assert ("k", second) in _soft_deleted(soft)
    assert int(restored.generation) not in {row[1] for row in _soft_deleted(soft)}


def test_in_a_bucket_with_both_a_noncurrent_version_is_soft_deleted_when_deleted(soft: storage.Bucket) -> None:
    soft.versioning_enabled = True
    soft.patch()
    first, second = _put(soft, "k", b"1"), _put(soft, "k", b"2")
    assert (_versions(soft), _soft_deleted(soft)) == ([("k", first, False), ("k", second, True)], [])
    soft.blob("k", generation=first).delete()
    assert (_versions(soft), _soft_deleted(soft)) == ([("k", second, True)], [("k", first)])
    soft.restore_blob("k", generation=first)
    assert [row[2] for row in _versions(soft)] == [False, True]
    assert soft.get_blob("k").download_as_bytes() == b"1"


def test_compose_hard_deletes_its_sources(soft: storage.Bucket, api: Api) -> None:
    for name in "ab":
        _put(soft, name, name.encode())
    request = {"sourceObjects": [{"name": "a"}, {"name": "b"}], "deleteSourceObjects": True}
    assert api.object("POST", "k", "/compose", json=request).status_code == 200
    assert (_soft_deleted(soft), soft.get_blob("k").download_as_bytes()) == ([], b"ab")


def test_a_policy_that_is_switched_off_keeps_what_was_soft_deleted(soft: storage.Bucket) -> None:
    first = _put(soft, "k", b"1")
    soft.blob("k").delete()
    soft.soft_delete_policy.retention_duration_seconds = 0
    soft.patch()
    _put(soft, "other", b"x")
    soft.blob("other").delete()
    assert _soft_deleted(soft) == [("k", first)]


def test_a_bucket_with_nothing_but_soft_deleted_objects_can_be_deleted(soft: storage.Bucket, server: GcsServer) -> None:
    files = _files(server)
    _put(soft, "k", b"1")
    soft.blob("k").delete()
    soft.delete()
    assert _files(server) == files


@pytest.mark.parametrize("kind", ["made", "soft"])
def test_a_move_is_refused_where_something_would_be_kept(request: pytest.FixtureRequest, api: Api, kind: str) -> None:
    _put(request.getfixturevalue(kind), "k", b"1")
    assert api.object("POST", "k", "/moveTo/o/other").status_code == 400
    assert api.names() == ["k"]


# --- lifecycle


def _run(api: Api, **body: str) -> list[tuple[str, str]]:
    answer = api.call("POST", f"/_lifecycle/{api.bucket}", json=body)
    assert answer.status_code == 200, answer.text
    return [(action["name"], action["action"]) for action in answer.json()["actions"]]


def test_a_change_of_class_by_lifecycle_is_one_of_metageneration(client: storage.Client, api: Api) -> None:
    bucket = _made(client, api.bucket)
    generation = _put(bucket, "k", b"1")
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=0, matches_prefix=["k"])
    bucket.patch()
    before = bucket.get_blob("k")
    assert _run(api, now="2100-01-01T00:00:00Z") == [("k", "SetStorageClass")]
    after = bucket.get_blob("k")
    assert (int(after.generation), after.metageneration, after.storage_class) == (generation, 2, "NEARLINE")
    assert (after.time_created, after.crc32c, after.updated > before.updated) == (
        before.time_created,
        before.crc32c,
        True,
    )
    assert _run(api, now="2100-01-01T00:00:00Z") == [], "it is of that class already"
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("k").delete(if_metageneration_match=1)


def test_of_the_actions_that_are_due_delete_comes_first_then_the_coldest_class(
    client: storage.Client, api: Api
) -> None:
    bucket = _made(client, api.bucket)
    bucket.add_lifecycle_set_storage_class_rule("COLDLINE", age=30)
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=10)
    bucket.add_lifecycle_delete_rule(age=365)
    bucket.patch()
    for name in ("a", "b"):
        _put(bucket, name, b"x")
    assert _run(api) == []
    born = bucket.get_blob("a").time_created.timestamp()

    def after(days: float) -> str:
        return datetime.fromtimestamp(born + days * DAY + 60, UTC).isoformat()

    assert _run(api, now=after(10)) == [("a", "SetStorageClass"), ("b", "SetStorageClass")]
    assert bucket.get_blob("a").storage_class == "NEARLINE"
    assert _run(api, now=after(30)) == [("a", "SetStorageClass"), ("b", "SetStorageClass")]
    assert bucket.get_blob("a").storage_class == "COLDLINE"
    held = bucket.get_blob("b")
    held.temporary_hold = True
    held.patch()
    assert _run(api, now=after(365)) == [("a", "Delete")]
    assert api.names() == ["b"]


CONDITIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"isLive": True}, ["a live", "b live"]),
    ({"isLive": False}, ["a old"]),
    ({"numNewerVersions": 1}, ["a old"]),
    ({"numNewerVersions": 2}, []),
    ({"daysSinceNoncurrentTime": 0}, ["a old"]),
    ({"noncurrentTimeBefore": "2000-01-01"}, []),
    ({"noncurrentTimeBefore": "2100-01-01"}, ["a old"]),
    ({"matchesPrefix": ["b"], "matchesSuffix": ["b", "x"]}, ["b live"]),
    ({"matchesSuffix": ["nothing"]}, []),
    ({"matchesStorageClass": ["NEARLINE"]}, ["b live"]),
    ({"createdBefore": "2000-01-01"}, []),
    ({"createdBefore": "2100-01-01"}, ["a old", "a live", "b live"]),
    ({"customTimeBefore": "2001-01-02"}, ["b live"]),
    ({"customTimeBefore": "2001-01-01"}, []),
    ({"daysSinceCustomTime": 1}, ["b live"]),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=[str(row[0]) for row in CONDITIONS])
def test_lifecycle_conditions(made: storage.Bucket, api: Api, condition: dict[str, Any], expected: list[str]) -> None:
    names = {_put(made, "a", b"1"): "a old", _put(made, "a", b"2"): "a live"}
    other = api.multipart({"name": "b", "storageClass": "NEARLINE", "customTime": "2001-01-01T12:00:00Z"}, b"3").json()
    names[int(other["generation"])] = "b live"
    rule = {"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": condition}
    answer = api.call("PATCH", f"/storage/v1/b/{api.bucket}", json={"lifecycle": {"rule": [rule]}})
    assert answer.status_code == 200, answer.text
    _run(api, now="2099-01-01T00:00:00Z")
    archived = [blob for blob in made.list_blobs(versions=True) if blob.storage_class == "ARCHIVE"]
    assert [names[int(blob.generation)] for blob in archived] == expected


@pytest.mark.parametrize(
    ("kind", "versions", "soft_deleted"), [("made", [False], 0), ("soft", [], 1)], ids=["versioned", "soft delete"]
)
def test_a_delete_by_lifecycle_is_a_delete(
    request: pytest.FixtureRequest, api: Api, kind: str, versions: list[bool], soft_deleted: int
) -> None:
    bucket = request.getfixturevalue(kind)
    bucket.add_lifecycle_delete_rule(age=0, is_live=True)
    bucket.patch()
    _put(bucket, "k", b"1")
    assert _run(api, now="2100-01-01T00:00:00Z") == [("k", "Delete")]
    assert [row[2] for row in _versions(bucket)] == versions
    assert len(_soft_deleted(bucket)) == soft_deleted
    assert _run(api, now="2100-01-01T00:00:00Z") == []


def test_rules_do_nothing_until_they_are_run(client: storage.Client, api: Api) -> None:
    bucket = _made(client, api.bucket)
    bucket.add_lifecycle_delete_rule(age=0)
    bucket.patch()
    _put(bucket, "k", b"1")
    assert api.names() == ["k"]
    assert api.call("POST", "/_lifecycle/no-such-bucket").status_code == 404


# --- the write rate


CHANGES: dict[str, Any] = {
    "insert": lambda api: api.insert("k", b"x"),
    "patch": lambda api: api.object("PATCH", "k", json={"metadata": {"a": "b"}}),
    "update": lambda api: api.object("PUT", "k", json={}),
    "delete": lambda api: api.object("DELETE", "k"),
    "compose": lambda api: api.object("POST", "k", "/compose", json={"sourceObjects": [{"name": "other"}]}),
    "rewrite": lambda api: api.object("POST", "other", f"/rewriteTo/b/{api.bucket}/o/k"),
    "the end of a resumable upload": lambda api: api.send(api.begin("k"), b"x"),
    "xml put": lambda api: api.xml("PUT", "k", data=b"x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bucket_with_that_label_takes_one_change_a_second_of_a_name(
    client: storage.Client, api: Api, clock: Clock, change: str
) -> None:
    _made(client, api.bucket, labels={"one-write-a-second": "true"})
    api.insert("other", b"x")
    assert api.insert("k", b"x").status_code == 200
    clock.now += 0.99
    refused = CHANGES[change](api)
    assert refused.status_code == 429, refused.text
    assert change == "xml put" or refused.json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"
    assert api.media("k").content == b"x", "reads are not limited"
    clock.now += 0.01
    assert CHANGES[change](api).status_code in {200, 204}


def test_a_restore_counts_as_a_change(soft: storage.Bucket, clock: Clock) -> None:
    first = _put(soft, "k", b"1")
    soft.labels = {"one-write-a-second": "true"}
    soft.patch()
    soft.blob("k").delete()
    with pytest.raises(exceptions.TooManyRequests):
        soft.restore_blob("k", generation=first, retry=None)
    clock.now += 1
    soft.restore_blob("k", generation=first, retry=None)


def test_without_the_label_there_is_no_limit(client: storage.Client, api: Api) -> None:
    _made(client, api.bucket, labels={"one-write-a-second": "false"})
    assert [api.insert("k", b"x").status_code for _ in range(3)] == [200, 200, 200]
