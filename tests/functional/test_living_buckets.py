"""The handler in buckets that do things by themselves: versioning, soft delete, lifecycle rules, and the write rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from google.cloud import storage

from handler.adapters import retry
from handler.adapters.gcs.destination import GcsDestination
from handler.app import Service
from handler.core.model import MIB
from local_emulator.gcs import GcsServer
from tests.functional.fault_proxy import FaultProxy, PlannedFault, Request, fault_proxy
from tests.functional.rig import BODY, Rig, Told, message, record, rig_on
from tests.functional.test_rules import rule

WEEK = "604800"
LARGE = BODY * (9 * MIB // len(BODY))
"""Over what one request carries: a session puts it, and a patch records its checksum."""
VERSIONED: dict[str, Any] = {"versioning": {"enabled": True}}
SOFT: dict[str, Any] = {"softDeletePolicy": {"retentionDurationSeconds": WEEK}}
LIMITED: dict[str, Any] = {"labels": {"one-write-a-second": "true"}}
BUCKETS: dict[str, dict[str, Any]] = {
    "versioned": VERSIONED,
    "soft delete": SOFT,
    "both": VERSIONED | SOFT,
    "limited": LIMITED,
}
_numbers = itertools.count()


@dataclass
class Time:
    """The GCS server's time, which the adapter's waits move; each of them lasts at least half a second."""

    now: float = 1_780_000_000.0
    waits: list[float] = field(default_factory=list)
    stands: bool = False

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if not self.stands:
            self.now += max(seconds, 0.5)


@pytest.fixture(scope="module")
def time() -> Time:
    return Time()


@pytest.fixture(scope="module")
def living_gcs(tmp_path_factory: pytest.TempPathFactory, time: Time) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs"), clock=time) as server:
        yield server


@pytest.fixture(scope="module")
def rig(s3_url: str, living_gcs: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, living_gcs.url) as rig:
        yield rig


@pytest.fixture
def proxy(living_gcs: GcsServer) -> Iterator[FaultProxy]:
    with fault_proxy(living_gcs.url) as proxy:
        yield proxy
        proxy.check()


@pytest.fixture(autouse=True)
def _waits_move_time(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    time.waits.clear()
    time.stands = False
    monkeypatch.setitem(GcsDestination.__init__.__kwdefaults__ or {}, "sleep", time.sleep)


class Life:
    """One source, one bucket of copies, the handler between them, and its dead-letter queue."""

    def __init__(self, rig: Rig, bucket: dict[str, Any], gcs_url: str = "") -> None:
        self.rig = rig
        self.source = rig.bucket()
        self.name = f"living-{next(_numbers)}"
        self._http("POST", "/storage/v1/b", json={"name": self.name, **bucket})
        self.copies = rig.gcs.bucket(self.name)
        self.dead_letters = rig.queue()
        own = rule("all", self.source, f"gs://{self.name}")
        self.service: Service = rig.service(own, gcs_url=gcs_url, DEAD_LETTER_QUEUE_URL=self.dead_letters)

    def _http(self, method: str, path: str, **arguments: Any) -> Any:
        answer = requests.request(method, self.rig.gcs_url + path, timeout=30, **arguments)
        assert answer.ok, answer.text
        return answer.json()

    def put(self, key: str, body: bytes, **metadata: str) -> None:
        self.rig.put(self.source, key, body, {f"x-amz-meta-{name}": value for name, value in metadata.items()})

    def tell(self, key: str, event: str = "ObjectCreated:Put", receives: int = 1) -> Told:
        return self.rig.handle(self.service, message(key, record(self.source, key, event), receives=receives))

    def changed(self, key: str, body: bytes | None, **metadata: str) -> Told:
        """Put or delete at the source, tell the handler, and see that both sides are equal."""
        if body is None:
            self.rig.s3.delete_object(Bucket=self.source, Key=key)
            told = self.tell(key, "ObjectRemoved:Delete")
        else:
            self.put(key, body, **metadata)
            told = self.tell(key)
        assert told.failed() == []
        self.assert_equal(key, body, **metadata)
        return told

    def assert_equal(self, key: str, body: bytes | None, **metadata: str) -> None:
        copy = self.rig.blob(self.copies, key)
        if body is None:
            assert copy is None
        else:
            assert copy is not None
            assert copy.download_as_bytes(raw_download=True) == body
            assert metadata.items() <= copy.metadata.items()
        again = self.tell(key, receives=2)
        assert (again.failed(), again.line(key)["outcome"]) == ([], "nothing")
        assert "Messages" not in self.rig.sqs.receive_message(QueueUrl=self.dead_letters)

    def run_lifecycle(self, storage_class: str) -> list[dict[str, str]]:
        action = {"type": "SetStorageClass", "storageClass": storage_class}
        rules = {"lifecycle": {"rule": [{"action": action, "condition": {"age": 0, "isLive": True}}]}}
        self._http("PATCH", f"/storage/v1/b/{self.name}", json=rules)
        actions = self._http("POST", f"/_lifecycle/{self.name}", json={"now": "2100-01-01T00:00:00Z"})["actions"]
        return list(actions)

    def generations(self, **query: bool) -> list[int]:
        return [int(blob.generation) for blob in self.copies.list_blobs(**query)]


# --- versioning, soft delete, and the write rate, over a life


@pytest.mark.parametrize("kind", BUCKETS)
def test_an_object_lives_dies_and_comes_back(rig: Rig, kind: str) -> None:
    life = Life(rig, BUCKETS[kind])
    life.changed("k", BODY + b"1")
    life.changed("k", BODY + b"2")
    life.changed("k", BODY + b"2", owner="bo")
    life.changed("k", None)
    life.changed("k", BODY + b"1")
    life.changed("k", LARGE)
    life.changed("k", LARGE[:-1])
    life.changed("k", None)
    noncurrent, soft_deleted = len(life.generations(versions=True)), len(life.generations(soft_deleted=True))
    expected = {"versioned": (5, 0), "soft delete": (0, 5), "both": (5, 0), "limited": (0, 0)}
    assert (noncurrent, soft_deleted) == expected[kind], "a patch makes no version, every other change makes one"


@pytest.mark.parametrize("kind", ["versioned", "soft delete"])
def test_an_older_copy_that_a_person_brings_back_is_brought_up_to_date(rig: Rig, kind: str) -> None:
    life = Life(rig, BUCKETS[kind])
    life.changed("k", BODY + b"old")
    old = life.copies.get_blob("k").generation
    life.changed("k", BODY + b"new")
    _bring_back(life.copies, kind, old)
    assert life.copies.get_blob("k").download_as_bytes() == BODY + b"old"
    assert life.tell("k").line("k")["outcome"] == "put"
    life.assert_equal("k", BODY + b"new")


@pytest.mark.parametrize("kind", ["versioned", "soft delete"])
def test_a_deleted_copy_that_a_person_brings_back_is_deleted_by_the_next_event(rig: Rig, kind: str) -> None:
    life = Life(rig, BUCKETS[kind])
    life.changed("k", BODY)
    old = life.copies.get_blob("k").generation
    life.changed("k", None)
    _bring_back(life.copies, kind, old)
    assert life.tell("k", "ObjectRemoved:Delete", receives=2).line("k")["outcome"] == "delete"
    life.assert_equal("k", None)


def _bring_back(copies: storage.Bucket, kind: str, generation: int) -> None:
    if kind == "versioned":
        copies.copy_blob(copies.blob("k"), copies, "k", source_generation=generation)
    else:
        copies.restore_blob("k", generation=generation)


# --- lifecycle rules between the look and the write


def _is(method: str, part: str = "") -> Callable[[Request], bool]:
    return lambda request: request.method == method and part in request.path


WRITES: dict[str, tuple[Callable[[Request], bool], bytes | None, dict[str, str]]] = {
    "an overwrite": (_is("POST", "uploadType=multipart"), BODY + b"newer", {}),
    "the beginning of a large overwrite": (_is("POST", "uploadType=resumable"), LARGE, {}),
    "the end of a large overwrite": (_is("PUT", "upload_id"), LARGE, {}),
    "the look before a patch": (_is("GET", "ifMetagenerationMatch"), BODY, {"owner": "bo"}),
    "a patch": (_is("PATCH"), BODY, {"owner": "bo"}),
    "a delete": (_is("DELETE"), None, {}),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_change_of_class_between_the_look_and_the_write_is_looked_at_again(
    rig: Rig, proxy: FaultProxy, write: str
) -> None:
    picks, body, metadata = WRITES[write]
    life = Life(rig, {}, gcs_url=proxy.url)
    life.changed("k", BODY)
    acted: list[dict[str, str]] = []
    proxy.plan(picks, PlannedFault(before=lambda: acted.extend(life.run_lifecycle("NEARLINE"))))
    proxy.requests.clear()
    life.changed("k", body, **metadata)
    assert [action["action"] for action in acted] == ["SetStorageClass"]
    assert 412 in [request.status for request in proxy.requests], proxy.told()
    if "patch" in write:
        assert life.copies.get_blob("k").storage_class == "NEARLINE", "the bucket's own rule has its way"


def test_a_change_of_class_alone_makes_nothing_to_do(rig: Rig) -> None:
    life = Life(rig, {})
    life.changed("k", BODY)
    before = life.copies.get_blob("k")
    life.run_lifecycle("COLDLINE")
    life.assert_equal("k", BODY)
    after = life.copies.get_blob("k")
    assert (after.generation, after.metageneration) == (before.generation, before.metageneration + 1)


# --- the write rate


@pytest.mark.parametrize(
    ("body", "metadata"),
    [(BODY + b"newer", {}), (BODY, {"owner": "bo"}), (LARGE, {}), (None, {})],
    ids=["an overwrite", "a patch", "a large overwrite, which is patched", "a delete"],
)
def test_a_change_within_a_second_of_another_gets_through_by_waiting(
    rig: Rig, time: Time, body: bytes | None, metadata: dict[str, str]
) -> None:
    life = Life(rig, LIMITED)
    life.changed("k", BODY)
    life.changed("k", body, **metadata)
    assert time.waits, "it was refused at least once"


def test_a_change_that_is_refused_for_too_long_comes_again_and_ends_equal(rig: Rig, time: Time) -> None:
    life = Life(rig, LIMITED)
    life.changed("k", BODY)
    time.stands = True
    life.put("k", BODY, owner="bo")
    told = life.tell("k")
    assert (told.failed(), told.line("k")["code"]) == (["k"], "DstThrottled")
    assert len(time.waits) == retry.TRIES - 1
    assert "Messages" not in rig.sqs.receive_message(QueueUrl=life.dead_letters)
    time.stands = False
    time.now += 1
    assert life.tell("k", receives=2).failed() == []
    life.assert_equal("k", BODY, owner="bo")
