"""GCS on loopback, what stands between it and the adapter, and a bucket of each test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import requests

from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.objects import JsonObjects
from handler.adapters.gcs.official import OfficialObjects
from local_emulator.gcs import GcsServer
from tests.functional.fault_proxy import FaultProxy, fault_proxy
from tests.functional.sam import Translator

_numbers = itertools.count()


class Slept(list[float]):
    """Notes how long it was to sleep, and does not."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@dataclass
class Bucket:
    """One bucket, as a test sees it beside the adapter: over raw HTTP, by nobody's client, past the proxy."""

    url: str
    name: str
    http: requests.Session
    _tests: list[str] = field(default_factory=list)

    def object(self, method: str, key: str, **arguments: Any) -> requests.Response:
        where = f"{self.url}/storage/v1/b/{self.name}/o/{quote(key, safe='')}"
        return self.http.request(method, where, timeout=30, **arguments)

    def insert(self, key: str, data: bytes, **query: str) -> dict[str, Any]:
        """Put an object as another tool would."""
        answer = self.http.post(
            f"{self.url}/upload/storage/v1/b/{self.name}/o",
            params={"uploadType": "media", "name": key, **query},
            data=data,
            timeout=30,
        )
        assert answer.ok, answer.text
        return dict(answer.json())

    def patch(self, key: str, **resource: Any) -> None:
        answer = self.object("PATCH", key, json=resource)
        assert answer.ok, answer.text

    def data(self, key: str) -> bytes | None:
        answer = self.object("GET", key, params={"alt": "media"}, headers={"Accept-Encoding": "gzip"})
        return answer.content if answer.status_code == 200 else None

    def resource(self, key: str) -> dict[str, Any]:
        answer = self.object("GET", key)
        assert answer.ok, answer.text
        return dict(answer.json())

    def names(self) -> set[str]:
        answer = self.http.get(f"{self.url}/storage/v1/b/{self.name}/o", timeout=30)
        return {item["name"] for item in answer.json().get("items", [])}

    def instruct(self, method: str, *instructions: str) -> None:
        """Plan faults in the language of Google's storage-testbench, for whoever calls."""
        plan = {"instructions": {method: list(instructions)}, "any": True}
        answer = self.http.post(f"{self.url}/retry_test", json=plan, timeout=30)
        assert answer.ok, answer.text
        self._tests.append(answer.json()["id"])

    def check(self) -> None:
        """Fail if a planned fault never fired."""
        left = [self.http.get(f"{self.url}/retry_test/{name}", timeout=30).json() for name in self._tests]
        for name in self._tests:
            self.http.delete(f"{self.url}/retry_test/{name}", timeout=30)
        assert all(test["completed"] for test in left), left


@pytest.fixture(scope="session")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    """SAM's translator, whose answers all workers of the run share."""
    folder = tmp_path_factory.getbasetemp()
    return Translator(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """GCS's API over HTTP on loopback."""
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def gcs_bucket(gcs_server: GcsServer) -> Iterator[Bucket]:
    """An empty bucket of the test's own; every fault planned in it must fire."""
    with requests.Session() as http:
        bucket = Bucket(gcs_server.url, f"bucket-{next(_numbers)}", http)
        http.post(f"{gcs_server.url}/storage/v1/b", json={"name": bucket.name}, timeout=30).raise_for_status()
        yield bucket
        bucket.check()


@pytest.fixture
def proxy(gcs_server: GcsServer) -> Iterator[FaultProxy]:
    """What stands between the adapter and GCS; every trouble planned in it must happen."""
    with fault_proxy(gcs_server.url) as proxy:
        yield proxy
        proxy.check()


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
def left() -> list[float]:
    """Seconds that there are; a test takes them away."""
    return [60.0]


@pytest.fixture
def gcs(
    proxy: FaultProxy,
    gcs_bucket: Bucket,
    slept: Slept,
    left: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GcsDestination]:
    """The adapter, by the client of --gcs-client. It waits for nothing."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    objects = OfficialObjects if os.environ["GCS_CLIENT"] == "google-cloud-storage" else JsonObjects
    with closing(connect(time_left=lambda: left[0], sleep=slept)) as client:
        yield GcsDestination(client, gcs_bucket.name, objects=objects, time_left=lambda: left[0], sleep=slept)
