"""Writes through the faults of storage-testbench's Retry Test API end right, at its own server and at ours.

https://github.com/googleapis/storage-testbench#retry-test-api
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import requests

from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import Unavailable
from handler.core.model import ABSENT, MIB, Headers, Replica, Stamp
from tests.fakes import crc32c, reader
from tests.functional.fault_proxy import fault_proxy

pytestmark = pytest.mark.witness

LARGE = random.Random(3).randbytes(20 * MIB + 5)  # noqa: S311 - bytes, not a secret
SMALL = LARGE[:1000]
STAMP = Stamp(
    headers=Headers("text/csv", None, None, "de", None),
    metadata={"owner": "bo"},
    custom_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)
INSERT = "storage.objects.insert"
PASSING = [
    "return-503",
    "return-500",
    "return-502",
    "return-504",
    "return-429",
    "return-408",
    "return-reset-connection",
]
IN_CHUNKS: Sequence[Sequence[str]] = [
    ["return-503-after-256K"],
    ["return-503-after-8192K"],
    ["return-503-after-9000K"],
    ["return-500-after-256K", "return-503-after-12288K", "return-503-after-16384K"],
    ["return-503-after-20480K"],
    ["return-broken-stream-final-chunk-after-100B"],
    ["return-503-after-256K", "return-broken-stream-final-chunk-after-1B"],
    ["stall-for-1s-after-9000K"],
]


@dataclass(frozen=True, kw_only=True)
class Store:
    """One bucket of the server."""

    url: str
    name: str
    http: requests.Session

    @contextmanager
    def failing(self, method: str, instructions: Sequence[str]) -> Iterator[GcsDestination]:
        """Yield the adapter, whose requests meet these faults; each must happen."""
        answer = self.http.post(f"{self.url}/retry_test", json={"instructions": {method: [*instructions]}}, timeout=30)
        assert answer.ok, answer.text
        plan = f"{self.url}/retry_test/{answer.json()['id']}"
        planned = {"x-retry-test-id": answer.json()["id"]}
        with fault_proxy(self.url, planned) as proxy, self.adapter(proxy.url) as destination:
            yield destination
        left = self.http.get(plan, timeout=30).json()
        assert left["completed"], left
        self.http.delete(plan, timeout=30)

    @contextmanager
    def adapter(self, url: str) -> Iterator[GcsDestination]:
        """Yield the adapter, which waits for nothing."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
            client = connect()
        with closing(client):
            yield GcsDestination(client, self.name, sleep=lambda _seconds: None)

    def put(self, key: str, data: bytes) -> Replica:
        """Put an object past all faults."""
        with self.adapter(self.url) as destination:
            return destination.put(key, reader(data), STAMP, expect=ABSENT)

    def content(self, key: str) -> bytes:
        """Return the bytes."""
        where = f"{self.url}/storage/v1/b/{self.name}/o/{quote(key, safe='')}"
        answer = self.http.get(where, params={"alt": "media"}, timeout=30)
        assert answer.ok, answer.text
        return answer.content


@pytest.fixture
def store(gcs_url: str) -> Iterator[Store]:
    with requests.Session() as http:
        name = f"faults-{uuid.uuid4().hex}"
        http.post(f"{gcs_url}/storage/v1/b?project=p", json={"name": name}, timeout=30).raise_for_status()
        yield Store(url=gcs_url, name=name, http=http)


def assert_whole(store: Store, replica: Replica, data: bytes) -> None:
    assert (replica.size, replica.crc32c) == (len(data), crc32c(data))
    assert (replica.stamp.headers, replica.stamp.custom_time) == (STAMP.headers, STAMP.custom_time)
    assert replica.stamp.metadata.items() >= STAMP.metadata.items()
    with store.adapter(store.url) as destination:
        assert destination.head("k") == replica
    assert store.content("k") == data


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_an_upload_whose_first_two_requests_fail_ends_whole(store: Store, data: bytes, fault: str) -> None:
    with store.failing(INSERT, [fault, fault]) as destination:
        replica = destination.put("k", reader(data), STAMP, expect=ABSENT)
    assert_whole(store, replica, data)


@pytest.mark.parametrize("faults", IN_CHUNKS, ids=", ".join)
def test_a_resumable_upload_that_breaks_on_its_way_ends_whole(store: Store, faults: Sequence[str]) -> None:
    with store.failing(INSERT, faults) as destination:
        replica = destination.put("k", reader(LARGE), STAMP, expect=ABSENT)
    assert_whole(store, replica, LARGE)


def test_a_resumable_upload_that_breaks_whenever_it_is_tried_leaves_nothing_visible(store: Store) -> None:
    broken = fault_proxy(store.url, {"x-goog-emulator-instructions": "return-503-after-256K"})
    with broken as proxy, store.adapter(proxy.url) as destination, pytest.raises(Unavailable):
        destination.put("k", reader(LARGE), STAMP, expect=ABSENT)
    with store.adapter(store.url) as destination:
        assert destination.list("") == {}


@pytest.mark.parametrize("fault", ["return-503", "return-reset-connection"])
@pytest.mark.parametrize("verb", ["get", "patch", "delete", "compose", "rewrite", "list"])
def test_every_other_request_is_sent_again(store: Store, verb: str, fault: str) -> None:
    there = store.put("k", SMALL)
    other = Stamp(headers=STAMP.headers, metadata={"owner": "zoe"}, custom_time=STAMP.custom_time)
    cold = Stamp(headers=STAMP.headers, metadata={"owner": "zoe"}, storage_class="NEARLINE")
    calls: dict[str, Callable[[GcsDestination], object]] = {
        "get": lambda adapter: adapter.head("k"),
        "list": lambda adapter: adapter.list(""),
        "patch": lambda adapter: adapter.patch("k", other, expect=there.generation),
        "rewrite": lambda adapter: adapter.patch("k", cold, expect=there.generation),
        "delete": lambda adapter: adapter.delete("k", expect=there.generation),
        "compose": lambda adapter: adapter.compose("whole", ["k"], other, expect=ABSENT),
    }
    with store.failing(f"storage.objects.{verb}", [fault]) as destination:
        calls[verb](destination)
    with store.adapter(store.url) as destination:
        found = destination.head("whole" if verb == "compose" else "k")
    expected = {"get": "bo", "list": "bo", "delete": None}
    assert found.stamp.metadata.get("owner") == expected.get(verb, "zoe")
