"""What must never happen, whoever asks and whatever fails.

That no code does what scanners look for is ruff's to say: `select = ["ALL"]` has all of its S rules (bandit's), and
each exception stands in the code or in pyproject.toml with its reason. The template's roles have tests of their own.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.oauth2.credentials
import psutil
import pytest

from handler import app, observe
from handler.adapters import retry
from handler.adapters.gcs import client as gcs_client
from local_emulator.context import Context
from local_emulator.gcs import GcsServer
from local_emulator.process import EmulatorProcess
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every, fault_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

EVENTS = Path(__file__).parents[2] / "events"
SECRET_KEY, SESSION_TOKEN, GOOGLE_TOKEN = (
    "unspeakable-secret-key",
    "unspeakable-session-token",
    "unspeakable-google-token",
)
BODY = b"unspeakable body " * 20


def post(bucket: str, key: str) -> dict[str, Any]:
    """Ask by the Function URL."""
    event = copy.deepcopy(json.loads((EVENTS / "function-url.json").read_text()))
    event |= {"body": json.dumps({"s3_bucket": bucket, "s3_key": key}), "isBase64Encoded": False}
    answer: dict[str, Any] = app.lambda_handler(event, Context())
    return answer


def deploy(patch: pytest.MonkeyPatch, rules: list[dict[str, Any]], s3_url: str, **more: str) -> None:
    environment = {"REPLICATION_RULES": json.dumps(rules), "AWS_ENDPOINT_URL_S3": s3_url, **more}
    for name, value in environment.items():
        patch.setenv(name, value)
    app._service.cache_clear()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    yield
    app._service.cache_clear()


# --- REST


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, s3_url: str, bucket: str, tmp_path: Path) -> Path:
    """The folder that the one rule copies to; beside it lies what must not be touched."""
    (tmp_path / "beside").write_text("beside")
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "link").symlink_to(tmp_path)
    rule = {"ID": "all", "Source": {"Bucket": bucket}, "Destination": {"Bucket": f"file://{copies}"}}
    deploy(monkeypatch, [rule], s3_url)
    return copies


def test_a_caller_cannot_reach_a_bucket_without_a_rule(
    folder: Path, s3: S3Client, s3_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"private-{bucket}"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=other, Key="salaries", Body=b"private")
    s3.put_object(Bucket=bucket, Key="k", Body=b"public")
    disguises = [
        other, other.upper(), f" {other}", f"{other} ", f"{other}/", f"{bucket}/../{other}", f"../{other}",
        f"s3://{other}", f"arn:aws:s3:::{other}", f"{other}\x00", f"{bucket}\x00{other}",
        f"{other}.s3.amazonaws.com", f"{other}?x={bucket}", f"{other}#{bucket}", f"{bucket}@{other}", "*", "%", ".",
        "..",
    ]  # fmt: skip
    with fault_proxy(s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        app._service.cache_clear()
        for disguise in disguises:
            assert post(disguise, "salaries")["statusCode"] in {400, 403}, disguise
        for key in (f"../{other}/salaries", f"/../../{other}/salaries", f"{other}/salaries"):
            assert post(bucket, key)["statusCode"] == 404, key
        assert all(request.path.startswith(f"/{bucket}") for request in proxy.requests), "another bucket was asked for"
    assert b"private" not in everything_in(folder)


AWAY = [
    "../beside", "../../beside", "a/../../beside", "/beside", "//beside", "link/beside", "link/new", "./../beside",
    "..", ".", "/", "..\\beside", ".replicator/meta/x", ".replicator/tmp/x", ".replicator/lock/00", "~/beside",
    "%2e%2e/beside", "..%2fbeside", "a/" + "../" * 30 + "tmp/beside", "\u2025/beside", "\uff0e\uff0e/beside",
    "C:\\beside", "beside\x00.txt",
]  # fmt: skip


@pytest.mark.parametrize("key", AWAY)
def test_no_key_leads_out_of_the_folder(folder: Path, s3: S3Client, bucket: str, tmp_path: Path, key: str) -> None:
    before = outside(tmp_path)
    stored = copy_of(s3, bucket, key)
    answer = post(bucket, key)
    assert "Traceback" not in answer["body"]
    assert outside(tmp_path) == before
    if stored and answer["statusCode"] == 200:
        assert stored in everything_in(folder)


def copy_of(s3: S3Client, bucket: str, key: str) -> bytes:
    """Put the key, where S3 and boto3 let it be put."""
    data = f"the bytes of {key!r}".encode()
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    return data if s3.get_object(Bucket=bucket, Key=key)["Body"].read() == data else b""


def outside(folder: Path) -> dict[str, bytes]:
    """All files of the folder but for those below `copies`, which may change."""
    found = (file for file in folder.rglob("*") if file.is_file() and "copies" not in file.relative_to(folder).parts)
    return {str(file): file.read_bytes() for file in found}


def everything_in(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


# --- logs


def message(bucket: str, key: str) -> dict[str, Any]:
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "size": len(BODY)}}
    record = {"eventVersion": "2.6", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": detail}
    return {"eventSource": "aws:sqs", "messageId": key, "body": json.dumps({"Records": [record]})}


TROUBLES = [
    PlannedFault(status=403, code="InvalidAccessKeyId"),
    PlannedFault(
        status=403,
        code="ExpiredToken",
        body=f"<Error><Code>ExpiredToken</Code><Message>{'x'}</Message></Error>".encode(),
    ),
    PlannedFault(status=500, code="InternalError"),
    PlannedFault(status=503, code="SlowDown"),
    PlannedFault(cut_answer=20),
    PlannedFault(cut_answer=20, by_reset=True),
    PlannedFault(flip_answer=3),
    PlannedFault(status=200, body=b"<garbage"),
]
GCS_TROUBLES = [
    "return-401", "return-403", "return-400", "return-412", "return-503", "return-503-after-0K",
    "return-reset-connection", "return-broken-stream", "return-reset-connection-after-commit",
    "inject-upload-data-error",
]  # fmt: skip


def test_no_log_line_holds_a_credential_a_token_an_upload_address_or_a_body(
    monkeypatch: pytest.MonkeyPatch,
    s3: S3Client,
    s3_url: str,
    bucket: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At DEBUG for everything, as an operator can ask Lambda for: boto3's own lines held the session token then."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(retry, "SILENCE", 0.5)
    monkeypatch.setattr(retry, "PATIENCE", 0.5)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger=observe.logger.name)
    large = BODY * (9 * 1024 * 1024 // len(BODY))
    s3.put_object(Bucket=bucket, Key="large", Body=large)
    rule = {
        "ID": "r",
        "Source": {"Bucket": bucket},
        "Destination": {"Bucket": "gs://copies", "Tags": {"Status": "Enabled"}},
    }
    with GcsServer(tmp_path / "gcs", bucket="copies") as server, fault_proxy(s3_url) as proxy:
        deploy(monkeypatch, [rule], proxy.url, STORAGE_EMULATOR_HOST=server.url)
        credentials = google.oauth2.credentials.Credentials(token=GOOGLE_TOKEN)
        real = gcs_client.connect

        def connect(*arguments: Any, **named: Any) -> Any:
            client = real(*arguments, **named)
            client.credentials = credentials
            return client

        monkeypatch.setattr(gcs_client, "connect", connect)
        told = run(s3, bucket, proxy, server.url)
    logged = "\n".join([caplog.text, *(str(vars(record)) for record in caplog.records), *capfd.readouterr(), told])
    assert "large" in logged
    assert "failed" in logged, "nothing failed, so nothing was shown"
    for what in (
        SECRET_KEY,
        SESSION_TOKEN,
        GOOGLE_TOKEN,
        "unspeakable body",
        "upload_id=A",
        "X-Amz-Signature",
        "Signature=",
    ):
        assert what not in logged, f"{what!r} was logged: ...{logged[max(0, logged.find(what) - 300) :][:600]}"


def run(s3: S3Client, bucket: str, proxy: FaultProxy, gcs_url: str) -> str:
    """Replicate through every trouble there is; return what callers were answered."""
    import requests  # only for the instructions

    answers: list[Any] = []
    for number, trouble in enumerate(TROUBLES):
        s3.put_object(Bucket=bucket, Key=f"s3-{number}", Body=BODY)
        proxy.plan(every("GET"), *[trouble] * 6)
        answers += [
            app.lambda_handler({"Records": [message(bucket, f"s3-{number}")]}, Context()),
            post(bucket, f"s3-{number}"),
        ]
        proxy.forgive()
    for number, instruction in enumerate(GCS_TROUBLES):
        key = f"gcs-{number}" if number % 2 else "large"
        if number % 2:
            s3.put_object(Bucket=bucket, Key=key, Body=BODY)
        plan = {"instructions": {"storage.objects.insert": [instruction] * 3}, "any": True}
        test = requests.post(f"{gcs_url}/retry_test", json=plan, timeout=30).json()["id"]
        answers += [app.lambda_handler({"Records": [message(bucket, key)]}, Context()), post(bucket, key)]
        requests.delete(f"{gcs_url}/retry_test/{test}", timeout=30)
    return "\n".join(map(str, answers))


# --- sockets


def test_every_server_listens_on_loopback_only(tmp_path: Path) -> None:
    """The emulator's REST endpoint, moto with S3 and SQS, and the GCS server: one process, asked of the kernel."""
    folders = ["--source", str(tmp_path / "source"), "--destination", str(tmp_path / "copies")]
    with EmulatorProcess("--port", "0", *folders) as emulator:
        process = psutil.Process(emulator.process.pid)
        family = [process, *process.children(recursive=True)]
        listening = [
            socket.laddr
            for each in family
            for socket in each.net_connections(kind="inet")
            if socket.status == psutil.CONN_LISTEN
        ]
    assert len(listening) >= 3, listening
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_the_gcs_server_on_its_own_listens_on_loopback_only(tmp_path: Path) -> None:
    before = listening_here()
    with GcsServer(tmp_path):
        assert {ip for ip, _ in listening_here() - before} == {"127.0.0.1"}


def listening_here() -> set[tuple[str, int]]:
    sockets = psutil.Process(os.getpid()).net_connections(kind="inet")
    return {(each.laddr.ip, each.laddr.port) for each in sockets if each.status == psutil.CONN_LISTEN}
