"""The server as a server: what it does not speak, bad requests, its address, its options."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage

from local_emulator.gcs import GcsServer
from local_emulator.gcs.__main__ import main, parser
from tests.functional.gcs.conftest import Api

B = "/storage/v1/b/{bucket}"
NOT_IMPLEMENTED: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", B + "/o/k/iam", {}), ("GET", B + "/iam/other?permissions=x", {}), ("POST", B + "/managedFolders", {}),
    ("GET", B + "/folders", {}), ("GET", B + "/anywhereCaches", {}), ("GET", B + "?softDeleted=true", {}),
    ("GET", "/storage/v1/b?softDeleted=True", {}), ("GET", B + "/o?filter=contexts.a:*", {}),
    ("POST", B + "/o/bulkRestore", {}), ("POST", B + "/o/watch", {}),
    ("POST", B + "/o", {}), ("GET", "/storage/v2/b", {}), ("PUT", "/batch/storage/v1", {}),
    ("GET", "/{bucket}?versions", {}), ("PUT", "/{bucket}", {}), ("GET", "/{bucket}/k?acl", {}),
    ("POST", "/{bucket}/k", {}),
    *(("POST", "/storage/v1/b", {"json": {"name": "abc", field: value}}) for field, value in (
        ("autoclass", {"enabled": True}), ("hierarchicalNamespace", {"enabled": True}), ("cors", [{}]),
        ("website", {"mainPageSuffix": "x"}), ("billing", {"requesterPays": True}))),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}]}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [
        {"action": {"type": "Delete"}, "condition": {"matchesPattern": "x"}}]}}}),
    ("PATCH", B + "/o/k", {"json": {"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}}),
    ("POST", "/upload" + B + "/o?uploadType=media&name=x", {"headers": {"x-goog-encryption-key": "k"}}),
    ("POST", "/upload" + B + "/o?uploadType=media&name=x", {"headers": {"Content-Encoding": "gzip"}}),
    ("OPTIONS", B, {}), ("GET", "/storage/v1/b/{bucket}/o/a/b", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "more"), NOT_IMPLEMENTED, ids=[f"{c[0]} {c[1]} {n}" for n, c in enumerate(NOT_IMPLEMENTED)]
)
def test_what_is_not_implemented_is_refused_and_no_client_asks_again(
    api: Api, method: str, path: str, more: dict[str, Any]
) -> None:
    """By 400, as gcloud, rclone and object_store repeat what was answered 5xx."""
    api.insert("k", b"x")
    answer = api.call(method, path.format(bucket=api.bucket), **more)
    assert answer.status_code == 400, answer.text
    if path.startswith("/{bucket}"):
        assert "<Code>NotImplemented</Code>" in answer.text
    else:
        assert answer.json()["error"]["errors"][0]["reason"] == "notImplemented"
    assert api.names() == ["k"]


BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/storage/v1/b", {"data": b"{nonsense"}), ("POST", "/storage/v1/b", {"data": b"[]"}),
    ("POST", "/storage/v1/b", {"data": b"\xff"}), ("POST", "/storage/v1/b", {"data": b"[" * 100_000}),
    ("POST", "/storage/v1/b", {"json": {}}), ("POST", "/storage/v1/b", {"json": {"name": 5}}),
    ("POST", "/storage/v1/b", {"json": {"name": "ab"}}), ("POST", "/storage/v1/b", {"json": {"name": "UPPER"}}),
    ("POST", "/storage/v1/b", {"json": {"name": "192.168.5.4"}}),
    ("POST", "/storage/v1/b", {"json": {"name": "my_google"}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "labels": 5}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "retentionPolicy": {"retentionPeriod": "x"}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "versioning": {"enabled": "yes"}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "softDeletePolicy": {"retentionDurationSeconds": "3600"}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "softDeletePolicy": {"retentionDurationSeconds": "7776001"}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [{}]}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [
        {"action": {"type": "Delete"}, "condition": {}}]}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [
        {"action": {"type": "SetStorageClass", "storageClass": "FAST"}, "condition": {"age": 1}}]}}}),
    ("POST", "/storage/v1/b", {"json": {"name": "abc", "lifecycle": {"rule": [
        {"action": {"type": "Delete"}, "condition": {"age": "old"}}]}}}),
    ("POST", B + "/o/k/restore", {}), ("GET", B + "/o/k?softDeleted=true", {}),
    ("GET", B + "/o/k?softDeleted=true&generation=1&alt=media", {}),
    ("GET", B + "/o?softDeleted=true&versions=true", {}),
    ("POST", "/_lifecycle/{bucket}", {"json": {"now": "yesterday"}}), ("GET", B + "/o?softDeleted=1", {}),
    ("POST", "/batch/storage/v1", {}), ("POST", B + "/acl", {"json": {"entity": "allUsers", "role": "KING"}}),
    ("POST", B + "/acl", {"json": {"entity": "somebody", "role": "READER"}}),
    ("PATCH", B, {"json": {"acl": "x"}}), ("PATCH", B + "?predefinedAcl=x", {}),
    ("GET", B + "/iam/testPermissions", {}),
    ("POST", B + "/lockRetentionPolicy?ifMetagenerationMatch=1", {}), ("POST", B + "/lockRetentionPolicy", {}),
    ("PUT", B + "/iam", {"json": {"bindings": ["x"]}}), ("POST", "/storage/v1/projects/p/hmacKeys", {}),
    ("POST", B + "/notificationConfigs", {"json": {"topic": "t", "payload_format": "NONE"}}),
    ("POST", "/upload" + B + "/o", {}), ("POST", "/upload" + B + "/o?uploadType=new&name=x", {}),
    ("POST", "/upload" + B + "/o?uploadType=media", {}), ("PATCH", B + "/o/k", {"data": b"{"}),
    ("PATCH", B + "/o/k", {"json": {"contentType": 5}}), ("PATCH", B + "/o/k", {"json": {"metadata": "x"}}),
    ("PATCH", B + "/o/k", {"json": {"temporaryHold": "yes"}}),
    ("PATCH", B + "/o/k", {"json": {"storageClass": "FAST"}}),
    ("PATCH", B + "/o/k", {"json": {"retention": {"mode": "x"}}}),
    ("PATCH", B + "/o/k", {"json": {"contexts": "x"}}), ("PATCH", B + "/o/k", {"json": {"contexts": {"custom": 1}}}),
    *(("PATCH", B + "/o/k", {"json": {"contexts": {"custom": {key: {"value": value}}}}}) for key, value in (
        ("", "v"), ("k", ""), ("-k", "v"), ("k", "a/b"), ("k", "a'b"), ("k" * 257, "v"), ("k", "ü" * 129))),
    ("PATCH", B + "/o/k", {"json": {"contexts": {"custom": {f"k{i}": {"value": "v"} for i in range(51)}}}}),
    ("PATCH", B + "/o/k", {"data": b'{"metadata": {"\\ud800": "x"}}'}), ("GET", B + "/o/%FF", {}),
    ("GET", B + "/o/k?generation=x", {}), ("GET", B + "/o?prefix=%FF", {}), ("POST", "/retry_test", {"data": b"{"}),
    ("POST", B + "/o/k/compose", {"data": b""}),
    ("PATCH", B + "/o/k", {"data": b"x", "headers": {"Content-Encoding": "gzip"}}),
    ("POST", "/upload" + B + "/o?uploadType=resumable&name=x", {"headers": {"X-Upload-Content-Length": "x"}}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "more"), BAD, ids=[f"{c[0]} {c[1]} {n}" for n, c in enumerate(BAD)])
def test_bad_requests_get_400_and_a_reason(api: Api, method: str, path: str, more: dict[str, Any]) -> None:
    api.insert("k", b"x")
    answer = api.call(method, path.format(bucket=api.bucket), **more)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400), answer.text
    assert "Traceback" not in answer.text
    assert api.names() == ["k"]


@pytest.mark.parametrize(
    "request_",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_what_is_not_http_gets_400(api: Api, request_: bytes) -> None:
    url = urlsplit(api.url)
    with socket.create_connection((url.hostname or "", url.port or 0)) as sock:
        sock.sendall(request_)
        answer = sock.recv(65536)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Traceback" not in answer
    assert requests.get(api.url, timeout=5).text == "OK"


@pytest.mark.parametrize(("path", "what"), [("/storage/v1/b/missing-bucket", "bucket"), (B + "/o/missing", "object")])
def test_what_is_missing_is_not_found(api: Api, path: str, what: str) -> None:
    answer = api.call("GET", path.format(bucket=api.bucket))
    error = answer.json()["error"]
    assert (answer.status_code, error["errors"][0]["reason"], what in error["message"]) == (404, "notFound", True)
    for name in ("POST", "PUT"):
        tail = "?uploadType=media&name=k" if name == "POST" else "?upload_id=x"
        assert api.call(name, f"/upload/storage/v1/b/missing-bucket/o{tail}").status_code == 404


def test_buckets_through_the_real_client(client: storage.Client, api: Api) -> None:
    bucket = client.create_bucket(f"{api.bucket}-made", location="eu")
    assert (bucket.location, bucket.storage_class, bucket.versioning_enabled) == ("EU", "STANDARD", False)
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(bucket.name)
    bucket.labels = {"a": "b"}
    bucket.retention_period = 5
    bucket.patch()
    bucket.reload()
    assert (bucket.labels, bucket.retention_period, bucket.metageneration) == ({"a": "b"}, 5, 2)
    bucket.retention_period = None
    bucket.update()
    assert bucket.name in [one.name for one in client.list_buckets(prefix=api.bucket, page_size=1)]
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.patch(if_metageneration_match=1)
    bucket.delete()
    assert client.lookup_bucket(bucket.name) is None


def test_it_listens_on_loopback_alone(server: GcsServer) -> None:
    port = urlsplit(server.url).port
    listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [address.ip for address in listening if address.port == port] == ["127.0.0.1"]


def test_it_stops_within_a_second_whatever_hangs(tmp_path: Path) -> None:
    server = GcsServer(tmp_path, bucket="only").start()
    url = urlsplit(server.url)
    test = requests.post(
        f"{server.url}/retry_test", timeout=5, json={"instructions": {"storage.objects.list": ["return-503"]}}
    )
    assert test.status_code == 200
    sock = socket.create_connection((url.hostname or "", url.port or 0))
    sock.sendall(
        b"POST /upload/storage/v1/b/only/o?uploadType=media&name=k HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n"
    )
    sock.sendall(b"Expect: 100-continue\r\n\r\n")
    assert sock.recv(100).startswith(b"HTTP/1.1 100")
    sock.sendall(bytes(1_000_000))
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 1
    sock.close()


def test_the_option_one_write_a_second(tmp_path: Path) -> None:
    with GcsServer(tmp_path, bucket="only", one_write_a_second=True) as server, requests.Session() as session:
        api = Api(server.url, "only", session)
        assert [api.insert(name).status_code for name in "aba"] == [200, 200, 429]


def test_every_option_has_a_help_text() -> None:
    for action in parser()._actions:
        assert action.help, action.option_strings


def test_a_port_that_none_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--folder", str(tmp_path), "--port", "99999"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("argument --port: 99999 is not a port\n")


def test_a_folder_that_is_none_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    assert main(["--folder", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"local_emulator.gcs: {tmp_path}/file is not a folder\n"


def test_a_folder_that_was_removed_is_said_once_and_in_every_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "copies"
    with GcsServer(folder, bucket="only") as server, requests.Session() as session:
        api = Api(server.url, "only", session)
        assert api.insert("a").status_code == 200
        shutil.rmtree(folder)
        message = f"the folder {folder} is gone: end this server and start it again"
        for answer in (api.insert("b"), api.call("GET", "/storage/v1/b/only/o/a"), api.call("GET", "/only/a")):
            assert answer.status_code == 503
            assert message in answer.text
        folder.mkdir()
        assert api.insert("b").status_code == 503
    assert caplog.messages == [message]
    assert list(folder.iterdir()) == []
