"""Faults on demand, in the language of Google's storage-testbench and beyond it."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest
import requests
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.functional.gcs.conftest import QUANTUM, Api

INSERT, GET = "storage.objects.insert", "storage.objects.get"
DATA = bytes(range(256)) * 8192  # 2 MiB
BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def _with(test_id: str) -> dict[str, str]:
    return {"x-retry-test-id": test_id}


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_return_codes_once_each_in_order(api: Api, code: int) -> None:
    test = api.retry_test({INSERT: [f"return-{code}", "return-504"], GET: ["return-404"]})
    codes = [api.insert("k", b"", headers=_with(test)).status_code for _ in range(3)]
    assert codes == [code, 504, 200]
    assert not api.completed(test)
    assert api.object("GET", "k").status_code == 200
    assert api.object("GET", "k", headers=_with(test)).status_code == 404
    assert api.completed(test)
    assert test in [one["id"] for one in api.call("GET", "/retry_tests").json()["retry_test"]]
    assert api.call("DELETE", f"/retry_test/{test}").status_code == 200
    assert api.call("GET", f"/retry_test/{test}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {}, {"instructions": {}}, {"instructions": {"storage.x": ["return-503"]}},
        {"instructions": {INSERT: ["nonsense"]}},
        {"instructions": {INSERT: "return-503"}}, {"instructions": {INSERT: ["return-503"]}, "transport": "GRPC"}, [],
    ],
)  # fmt: skip
def test_a_retry_test_that_says_nothing_known_is_refused(api: Api, body: Any) -> None:
    assert api.call("POST", "/retry_test", json=body).status_code == 400


def test_a_test_for_any_request_needs_no_header(api: Api) -> None:
    test = api.retry_test({INSERT: ["return-418"]}, any=True)
    assert [api.insert("k").status_code for _ in range(2)] == [418, 200]
    assert api.completed(test)


def test_a_reset_connection_applies_nothing(api: Api) -> None:
    test = api.retry_test({INSERT: ["return-reset-connection"]})
    with pytest.raises(requests.ConnectionError):
        api.insert("k", b"x", headers=_with(test))
    assert api.names() == []


@pytest.mark.parametrize("method", ["insert", "delete", "patch", "resumable"])
@pytest.mark.parametrize("instruction", ["return-reset-connection-after-commit", "return-503-after-commit"])
def test_an_answer_lost_after_the_commit(api: Api, method: str, instruction: str) -> None:
    api.insert("k", b"old")
    before = api.object("GET", "k").text
    session = api.begin("k")
    name = "insert" if method == "resumable" else method
    headers = _with(api.retry_test({f"storage.objects.{name}": [instruction]}))
    calls = {
        "insert": lambda: api.insert("k", b"new", headers=headers),
        "delete": lambda: api.object("DELETE", "k", headers=headers),
        "patch": lambda: api.object("PATCH", "k", headers=headers, json={"contentType": "a/b"}),
        "resumable": lambda: api.call("PUT", session, data=b"new", headers=headers),
    }
    if instruction.startswith("return-503"):
        assert calls[method]().status_code == 503
    else:
        with pytest.raises(requests.ConnectionError):
            calls[method]()
    after = api.object("GET", "k")
    assert after.status_code == (404 if method == "delete" else 200)
    assert after.text != before
    assert method in {"delete", "patch"} or api.media("k").content == b"new"
    if method == "resumable":
        assert api.send(session, b"", "*/3").json()["size"] == "3"


def test_an_upload_that_fails_after_some_bytes_keeps_them(api: Api) -> None:
    headers = _with(api.retry_test({INSERT: ["return-503-after-256K"]}))
    session = api.begin("k")
    last = len(DATA) - 1
    answer = api.call("PUT", session, data=DATA, headers=headers | {"Content-Range": f"bytes 0-{last}/{len(DATA)}"})
    assert answer.status_code == 503
    assert api.send(session, b"", "*/*").headers["Range"] == f"bytes=0-{QUANTUM - 1}"
    assert api.send(session, DATA[QUANTUM:], f"{QUANTUM}-{last}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


def test_a_one_shot_upload_that_fails_after_some_bytes_stores_nothing(api: Api) -> None:
    headers = _with(api.retry_test({INSERT: ["return-503-after-256K"]}))
    assert [api.insert("k", data, headers=headers).status_code for data in (b"short", DATA, DATA)] == [200, 503, 200]


@pytest.mark.parametrize("kept", [0, 256, 512])
def test_a_chunk_of_which_only_a_part_is_persisted(api: Api, kept: int) -> None:
    session = api.begin("k")
    headers = _with(api.retry_test({INSERT: [f"persist-only-{kept}K"]}))
    span = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    answer = api.call("PUT", session, data=DATA, headers=headers | {"Content-Range": span})
    assert (answer.status_code, answer.headers.get("Range")) == (308, f"bytes=0-{kept * 1024 - 1}" if kept else None)
    assert api.send(session, DATA[kept * 1024 :], f"{kept * 1024}-{len(DATA) - 1}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


@pytest.mark.parametrize(
    ("instruction", "header", "received"),
    [
        ("return-broken-stream", False, 4), ("return-broken-stream-after-512K", False, 512 << 10),
        ("return-broken-stream", True, 1 << 20), ("return-503-after-256K", True, 256 << 10),
    ],
)  # fmt: skip
def test_a_download_that_breaks(api: Api, instruction: str, *, header: bool, received: int) -> None:
    api.insert("k", DATA)
    headers = {"x-goog-emulator-instructions": instruction} if header else _with(api.retry_test({GET: [instruction]}))
    got, broke = b"", False
    try:
        with api.media("k", headers=headers, stream=True) as answer:
            for piece in answer.iter_content(1 << 16):
                got += piece
    except BROKEN:
        broke = True
    assert broke
    assert got == DATA[: len(got)]
    assert received - (1 << 16) < len(got) <= received or received == 4


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the client forgets the connections that broke
def test_the_real_client_recovers_from_broken_downloads_and_uploads(api: Api, bucket: storage.Bucket) -> None:
    blob = bucket.blob("k", chunk_size=QUANTUM)
    tests = [
        api.retry_test({INSERT: ["return-503", "return-reset-connection"]}, any=True),
        api.retry_test({GET: ["return-broken-stream-after-256K", "return-408"]}, any=True),
    ]
    retry = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.02)
    blob.upload_from_string(DATA, if_generation_match=0, retry=retry)
    blob.chunk_size = None
    assert blob.download_as_bytes(retry=retry) == DATA
    assert all(api.completed(test) for test in tests)
    gc.collect()


def test_the_answer_to_the_last_chunk_is_cut(api: Api) -> None:
    session = api.begin("k")
    headers = _with(api.retry_test({INSERT: ["return-broken-stream-final-chunk-after-10B"]}))
    first = api.call(
        "PUT", session, data=DATA[:QUANTUM], headers=headers | {"Content-Range": f"bytes 0-{QUANTUM - 1}/*"}
    )
    assert first.status_code == 308
    last = {"Content-Range": f"bytes {QUANTUM}-{len(DATA) - 1}/{len(DATA)}"}
    with pytest.raises(BROKEN):
        api.call("PUT", session, data=DATA[QUANTUM:], headers=headers | last)
    assert api.send(session, b"", f"*/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_stall(api: Api, direction: str) -> None:
    api.insert("k", DATA)
    headers = _with(api.retry_test({INSERT if direction == "up" else GET: ["stall-for-0.3s-after-256K"]}))
    begun = time.monotonic()
    answer = api.insert("new", DATA, headers=headers) if direction == "up" else api.media("k", headers=headers)
    assert time.monotonic() - begun >= 0.3
    assert answer.status_code == 200


def test_corrupted_data(api: Api) -> None:
    api.insert("k", b"hello")
    headers = {"x-goog-emulator-instructions": "return-corrupted-data"}
    assert api.media("k", headers=headers).content == b"Aello"
    spoilt = {"x-goog-emulator-instructions": "inject-upload-data-error", "x-goog-hash": "crc32c=mnG7TA=="}
    assert api.insert("new", b"hello", headers=spoilt).status_code == 400
    assert api.names() == ["k"]


def test_a_fault_in_a_multipart_upload_is_in_its_media(api: Api) -> None:
    """It was in the boundary, so that no client ever saw a checksum refused."""
    spoilt = {"X-Goog-Emulator-Instructions": "inject-upload-data-error"}
    api.session.headers.update(spoilt)
    answer = api.multipart({"name": "new", "crc32c": "mnG7TA=="}, b"hello")
    api.session.headers.pop("X-Goog-Emulator-Instructions")
    assert answer.status_code == 400
    assert "doesn't match calculated" in answer.text
    assert api.names() == []


def test_retries_counted_by_the_client(api: Api) -> None:
    api.insert("k", DATA)
    codes = []
    for retry in (1, 2, 3):
        headers = {"x-goog-emulator-instructions": f"return-503-after-256K/retry-{retry}"}
        codes.append(api.media("k", headers=headers).status_code)
    assert codes == [503, 503, 200]


def test_an_unknown_instruction_is_refused(api: Api) -> None:
    assert api.object("GET", "k", headers={"x-goog-emulator-instructions": "nonsense"}).status_code == 400
    assert api.object("GET", "k", headers={"x-retry-test-id": "unknown"}).status_code == 404


def test_more_than_one_write_a_second_of_a_name(api: Api) -> None:
    headers = {"x-goog-emulator-instructions": "one-write-a-second"}
    answers = [api.insert(name, b"", headers=headers) for name in ("a", "b", "a")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"


def test_faults_fire_once_under_concurrency(api: Api) -> None:
    test = api.retry_test({INSERT: ["return-503"] * 5}, any=True)
    codes: list[int] = []

    def write(number: int) -> None:
        codes.append(
            requests.post(
                f"{api.url}/upload/storage/v1/b/{api.bucket}/o?uploadType=media&name={number}", timeout=30
            ).status_code
        )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes.count(503), codes.count(200), api.completed(test)) == (5, 5, True)
