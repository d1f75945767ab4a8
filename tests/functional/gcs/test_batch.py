"""Batches through Google's client, and what a batch may not hold."""

from __future__ import annotations

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.functional.gcs.conftest import Api

MIXED = {"Content-Type": "multipart/mixed; boundary=mark"}


def _batch(*requests: str) -> bytes:
    parts = [
        f"--mark\r\nContent-Type: application/http\r\nContent-ID: <{n}>\r\n\r\n{r}\r\n" for n, r in enumerate(requests)
    ]
    return "".join([*parts, "--mark--"]).encode()


def test_google_s_client_changes_and_deletes_in_a_batch(client: storage.Client, bucket: storage.Bucket) -> None:
    for name in ("a", "b/c", "ü"):
        bucket.blob(name).upload_from_string("x")
    changed = bucket.blob("a")
    with client.batch():
        changed.metadata = {"é": "ö"}
        changed.patch()
        bucket.delete_blob("b/c")
        bucket.delete_blob("ü")
    assert changed.metadata == {"é": "ö"}
    assert [blob.name for blob in bucket.list_blobs()] == ["a"]
    with pytest.raises(exceptions.NotFound), client.batch():
        bucket.delete_blob("missing")
    with client.batch(raise_exception=False) as batch:
        bucket.delete_blob("missing")
        bucket.delete_blob("a")
    assert [response.status_code for response in batch._responses] == [404, 204]


def test_each_call_is_answered_by_its_id(api: Api) -> None:
    api.insert("k", b"x")
    calls = _batch(f"GET /storage/v1/b/{api.bucket}/o/k", f"GET /storage/v1/b/{api.bucket}/o/no HTTP/1.1")
    answer = api.call("POST", "/batch/storage/v1", data=calls, headers=MIXED)
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=batch_")
    assert "Content-ID: <response-0>\r\n\r\nHTTP/1.1 200 OK\r\n" in answer.text
    assert "Content-ID: <response-1>\r\n\r\nHTTP/1.1 404 Not Found\r\n" in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", _batch(), _batch(*["GET /storage/v1/b"] * 101), _batch("nonsense"),
     _batch("POST /upload/storage/v1/b/b/o?uploadType=media&name=x"), _batch("GET /storage/v1/b/b/o/k?alt=media"),
     _batch("POST /batch/storage/v1")],
)  # fmt: skip
def test_what_is_no_batch_is_refused_whole(api: Api, body: bytes) -> None:
    assert api.call("POST", "/batch/storage/v1", data=body, headers=MIXED).status_code == 400
