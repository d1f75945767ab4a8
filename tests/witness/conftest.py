"""The handler between two stores: those given by URL, else moto and this repository's own GCS server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from handler import app
from local_emulator.gcs import GcsServer
from tests.conftest import s3_client
from tests.functional.rig import Clock, message, record
from tests.witness.known import ADDED

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@dataclass(frozen=True, kw_only=True)
class World:
    """One source bucket, one destination bucket, and the deployed function's environment between them."""

    s3: S3Client
    bucket: str
    versioned: bool
    gcs_url: str
    copies: storage.Bucket
    patch: pytest.MonkeyPatch

    def deploy(self, *, destination: Mapping[str, Any] | None = None, **rule: Any) -> None:
        """Set the function's one rule, and begin with a new instance."""
        target = {"Bucket": f"gs://{self.copies.name}", **(destination or {})}
        rules = [{"ID": "all", "Source": {"Bucket": self.bucket}, "Destination": target, **rule}]
        self.patch.setenv("REPLICATION_RULES", json.dumps(rules))
        self.close()

    def close(self) -> None:
        """End the instance, if there is one."""
        if app._service.cache_info().currsize:
            app._service().close()
            app._service.cache_clear()

    def deliver(self, key: str, event: str = "ObjectCreated:Put") -> None:
        """Hand the function S3's event in an SQS message, which must be acknowledged."""
        batch = {"Records": [message("m", record(self.bucket, key, event))]}
        assert app.lambda_handler(batch, Clock(600.0)) == {"batchItemFailures": []}

    def delete(self, key: str) -> None:
        """Delete at the source; hand the function the event."""
        self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.deliver(key, "ObjectRemoved:DeleteMarkerCreated" if self.versioned else "ObjectRemoved:Delete")

    def copy(self, key: str) -> storage.Blob | None:
        """Return what Google's own client sees, None where there is nothing."""
        return self.copies.get_blob(key)

    def content(self, key: str) -> bytes:
        """Return the bytes as stored."""
        where = f"{self.gcs_url}/storage/v1/b/{self.copies.name}/o/{quote(key, safe='')}"
        http = self.copies.client._http
        with http.get(where, params={"alt": "media"}, headers={"Accept-Encoding": "gzip"}, stream=True) as answer:
            answer.raise_for_status()
            return bytes(answer.raw.read(decode_content=False))

    def metadata(self, key: str) -> dict[str, str]:
        """Return a copy's custom metadata, without its provenance and what the server adds."""
        blob = self.copy(key)
        assert blob is not None
        return {
            name: value for name, value in (blob.metadata or {}).items() if not name.startswith(("s3-replica-", *ADDED))
        }


@pytest.fixture(scope="session")
def gcs_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The GCS server's URL."""
    if given := request.config.getoption("--gcs-url"):
        yield str(given).rstrip("/")
        return
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server.url


@pytest.fixture(params=["plain", "versioned"])
def world(request: pytest.FixtureRequest, gcs_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Both stores, with an empty bucket each, and a rule from one to the other."""
    versioned = request.param == "versioned"
    if s3_url := request.config.getoption("--s3-url"):
        s3, bucket = request.getfixturevalue("other_s3")
    else:
        s3_url, bucket = request.getfixturevalue("s3_url"), request.getfixturevalue("bucket")
        s3 = s3_client(s3_url)
    if versioned:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_url)
    gcs = storage.Client(project="-", credentials=AnonymousCredentials(), client_options={"api_endpoint": gcs_url})
    with closing(s3), closing(gcs):
        copies = gcs.create_bucket(f"copies-{uuid.uuid4().hex}")
        world = World(s3=s3, bucket=bucket, versioned=versioned, gcs_url=gcs_url, copies=copies, patch=monkeypatch)
        world.deploy()
        yield world
        world.close()
