"""An empty environment for every test, S3 on loopback, and the flags that point the contract at other servers."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from handler import config
from handler.adapters.s3.client import S3Requests
from tests.fakes import Faults
from tests.witness import known

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_EMPTIED = ("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "POWERTOOLS_", "STORAGE_", "LAMBDA_", "OTEL_")
_OURS = (
    "REPLICATION_RULES",
    "GCS_CLIENT",
    "CONCURRENCY",
    "DEAD_LETTER_QUEUE_URL",
    "METRICS_NAMESPACE",
    "SOURCE_BUCKET_OWNER",
)
_LOOPBACK = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1,localhost",
}
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")
S3_CREDENTIALS = pytest.StashKey[dict[str, str]]()
"""Those of the server at --s3-url."""
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "more servers for the contracts and for tests/witness")
    group.addoption("--gcs-url", help="another GCS server, for instance http://127.0.0.1:4443")
    group.addoption("--gcs-server", choices=tuple(known.GCS), help="its name: its known differences are expected")
    group.addoption(
        "--gcs-bucket", help="a live bucket, with application default credentials; its objects are replaced"
    )
    group.addoption(
        "--gcs-client",
        default="json-api",
        choices=config.GCS_CLIENTS,
        help="which client speaks to GCS in the tests that leave it open",
    )
    group.addoption("--s3-url", help="another S3 server, with the credentials of the environment; buckets are made")
    group.addoption("--s3-server", choices=tuple(known.S3), help="its name: its known differences are expected")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the credentials for --s3-url before the environment is emptied, and keep bytecode."""
    _keep_bytecode(config.rootpath / ".pytest_cache/bytecode")
    config.stash[S3_CREDENTIALS] = {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}
    if config.getoption("--s3-url") and not {*_CREDENTIALS[:2]} <= config.stash[S3_CREDENTIALS].keys():
        raise pytest.UsageError("--s3-url needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")


def _keep_bytecode(folder: Path) -> None:
    """Keep the bytecode of the tests and of the processes that they start in a folder of ours.

    With PYTHONDONTWRITEBYTECODE each of them compiles its modules anew, which is a sixth of the suite's time.
    """
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which rigs were not asked for: nothing is left out silently."""
    unasked = [flag for flag in ("--gcs-url", "--gcs-bucket", "--s3-url") if not config.getoption(flag)]
    return [f"contract rigs not asked for: {', '.join(unasked)}"] if unasked else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Expect the known differences of the servers that were named."""
    known.expect(config, items)


@pytest.fixture(autouse=True, scope="session")
def _empty_environment(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of the machine's own accounts reaches a test, and no test reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_EMPTIED) or name in _OURS:
                patch.delenv(name)
        for name, value in _LOOPBACK.items():
            patch.setenv(name, value)
        patch.setenv("GCS_CLIENT", request.config.getoption("--gcs-client"))
        yield


@pytest.fixture
def faults() -> Iterator[Faults]:
    """What goes wrong in this test; all that is planned must happen."""
    planned = Faults()
    yield planned
    planned.check()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """S3's API over HTTP on loopback."""
    from moto.server import ThreadedMotoServer  # half a second that only these tests need

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(url: str) -> S3Client:
    """boto3's client for that server, which tries once."""
    return boto3.client("s3", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


def s3_requests(
    url: str, sleep: Callable[[float], None] = lambda _: None, time_left: Callable[[], float] = lambda: 600.0
) -> S3Requests:
    """The function's own client for that server, which waits for nothing."""
    environment = {**_LOOPBACK, "AWS_ENDPOINT_URL_S3": url}
    return S3Requests(cache(lambda: s3_client(url)), environment=environment, sleep=sleep, time_left=time_left)


@pytest.fixture(scope="session")
def s3(s3_url: str) -> Iterator[S3Client]:
    """A client of S3 on loopback."""
    client = s3_client(s3_url)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    """An empty bucket of the test's own."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned_bucket(s3: S3Client, bucket: str) -> str:
    """An empty versioned bucket of the test's own."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def other_s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Client, str]]:
    """A client of the S3 at --s3-url, and a bucket there, which is deleted again."""
    for name, value in request.config.stash[S3_CREDENTIALS].items():
        monkeypatch.setenv(name, value)
    client, name = s3_client(request.config.getoption("--s3-url")), f"witness-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield client, name
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for found in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            if found["Key"]:  # SeaweedFS lists `//` as the empty key
                client.delete_object(Bucket=name, Key=found["Key"], VersionId=found["VersionId"])
    client.delete_bucket(Bucket=name)
    client.close()
