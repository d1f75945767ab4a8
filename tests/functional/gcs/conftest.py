"""A GCS server of the test process's own, a bucket of each test's own, and raw HTTP beside the real client."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from local_emulator.gcs import GcsServer

_numbers = itertools.count()
QUANTUM = 256 * 1024


@dataclass
class Api:
    """Raw requests about one bucket."""

    url: str
    bucket: str
    session: requests.Session

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 30)
        kwargs.setdefault("allow_redirects", False)
        where = path if path.startswith("http") else self.url + path
        return self.session.request(method, where, **kwargs)

    def object(self, method: str, name: str, tail: str = "", **kwargs: Any) -> requests.Response:
        return self.call(method, f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}{tail}", **kwargs)

    def insert(
        self, name: str, data: bytes = b"", headers: dict[str, str] | None = None, **query: Any
    ) -> requests.Response:
        params = {"uploadType": "media", "name": name, **query}
        return self.call(
            "POST", f"/upload/storage/v1/b/{self.bucket}/o", params=params, data=data, headers=headers or {}
        )

    def multipart(
        self, resource: dict[str, Any], data: bytes, newline: bytes = b"\r\n", **query: Any
    ) -> requests.Response:
        lines = [b"--frontier", b"Content-Type: application/json", b"", json.dumps(resource).encode()]
        lines += [b"--frontier", b"Content-Type: text/x-test", b"", data, b"--frontier--", b""]
        return self.call(
            "POST",
            f"/upload/storage/v1/b/{self.bucket}/o",
            params={"uploadType": "multipart", **query},
            data=newline.join(lines),
            headers={"Content-Type": "multipart/related; boundary=frontier"},
        )

    def begin(self, name: str, resource: dict[str, Any] | None = None, **query: Any) -> str:
        response = self.call(
            "POST",
            f"/upload/storage/v1/b/{self.bucket}/o",
            params={"uploadType": "resumable", "name": name, **query},
            json=resource or {},
        )
        assert response.status_code == 200, response.text
        return response.headers["Location"]

    def send(
        self, session: str, data: bytes, span: str | None = None, method: str = "PUT", **headers: str
    ) -> requests.Response:
        extra = {"Content-Range": f"bytes {span}"} if span else {}
        return self.call(
            method, session, data=data, headers=extra | {k.replace("_", "-"): v for k, v in headers.items()}
        )

    def media(self, name: str, **kwargs: Any) -> requests.Response:
        headers = {"Accept-Encoding": "identity"} | kwargs.pop("headers", {})
        return self.object("GET", name, params={"alt": "media", **kwargs.pop("params", {})}, headers=headers, **kwargs)

    def resource(self, name: str) -> dict[str, Any]:
        response = self.object("GET", name)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def names(self, **query: Any) -> list[str]:
        page = self.call("GET", f"/storage/v1/b/{self.bucket}/o", params=query).json()
        return [item["name"] for item in page.get("items", [])]

    def xml(self, method: str, name: str, **kwargs: Any) -> requests.Response:
        return self.call(method, f"/{self.bucket}/{quote(name)}", **kwargs)

    def retry_test(self, instructions: dict[str, list[str]], **more: Any) -> str:
        response = self.call("POST", "/retry_test", json={"instructions": instructions, **more})
        assert response.status_code == 200, response.text
        test_id: str = response.json()["id"]
        return test_id

    def completed(self, test_id: str) -> bool:
        return self.call("GET", f"/retry_test/{test_id}").json()["completed"] is True


def client_of(url: str) -> storage.Client:
    return storage.Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


@pytest.fixture(autouse=True)
def _no_hidden_bucket_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gcs")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[GcsServer]:
    with GcsServer(folder) as running:
        yield running


@pytest.fixture
def api(server: GcsServer) -> Iterator[Api]:
    with requests.Session() as session:
        made = Api(server.url, f"bucket-{next(_numbers)}", session)
        response = made.call("POST", "/storage/v1/b?enableObjectRetention=true", json={"name": made.bucket})
        assert response.status_code == 200, response.text
        yield made


@pytest.fixture
def client(server: GcsServer) -> Iterator[storage.Client]:
    made = client_of(server.url)
    yield made
    made.close()


@pytest.fixture
def bucket(client: storage.Client, api: Api) -> storage.Bucket:
    return client.bucket(api.bucket)


@pytest.fixture
def home(folder: Path, api: Api) -> Path:
    """The test's bucket as a person sees it."""
    return folder / api.bucket
