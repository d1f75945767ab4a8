"""Resumable uploads, request by request, as GCS answers them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from tests.functional.gcs.conftest import QUANTUM, Api

DATA = bytes(range(256)) * 4096  # 1 MiB


def _state(answer: requests.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("Range")


@pytest.mark.parametrize("chunk", [QUANTUM, 2 * QUANTUM, len(DATA)])
@pytest.mark.parametrize("told", [True, False], ids=["size told", "size told last"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_chunk_by_chunk(api: Api, chunk: int, *, told: bool, method: str) -> None:
    session = api.begin("k")
    assert _state(api.send(session, b"", "*/*")) == (308, None)
    for start in range(0, len(DATA), chunk):
        end = start + chunk
        total = str(len(DATA)) if told or end == len(DATA) else "*"
        answer = api.send(session, DATA[start:end], f"{start}-{end - 1}/{total}", method)
        if end < len(DATA):
            assert _state(answer) == (308, f"bytes=0-{end - 1}")
            assert _state(api.send(session, b"", "*/*")) == (308, f"bytes=0-{end - 1}")
    assert (answer.status_code, answer.json()["size"]) == (200, str(len(DATA)))
    assert api.media("k").content == DATA
    again = api.send(session, b"", f"*/{len(DATA)}")
    assert again.json() == answer.json() == api.resource("k")


@pytest.mark.parametrize("size", [0, 1, 5, 300_000])
def test_in_one_request_without_a_content_range(api: Api, size: int) -> None:
    assert api.send(api.begin("k"), DATA[:size]).status_code == 200
    assert api.media("k").content == DATA[:size]


def test_a_body_of_unknown_length(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (DATA[:300_000], DATA[300_000:700_001])

    assert api.call("PUT", api.begin("k"), data=pieces()).json()["size"] == "700001"
    assert api.media("k").content == DATA[:700_001]


def test_an_empty_object_by_its_size_alone(api: Api) -> None:
    assert api.send(api.begin("k"), b"", "*/0").json()["size"] == "0"


def test_bytes_that_are_there_already_are_ignored(api: Api) -> None:
    session = api.begin("k")
    api.send(session, DATA[: 2 * QUANTUM], f"0-{2 * QUANTUM - 1}/*")
    wrong = b"\0" * QUANTUM + DATA[QUANTUM : 3 * QUANTUM]
    assert _state(api.send(session, wrong, f"0-{3 * QUANTUM - 1}/*")) == (308, f"bytes=0-{3 * QUANTUM - 1}")
    assert api.send(session, DATA[QUANTUM:], f"{QUANTUM}-{len(DATA) - 1}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


def test_a_gap_is_refused_as_gcs_does(api: Api) -> None:
    answer = api.send(api.begin("k"), DATA[:QUANTUM], f"{QUANTUM}-{2 * QUANTUM - 1}/*")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/plain; charset=utf-8")
    assert f"upload offset is {QUANTUM} byte(s), which exceeds already uploaded size of 0" in answer.text


def test_a_chunk_that_is_no_multiple_is_kept_up_to_the_multiple(api: Api) -> None:
    session = api.begin("k")
    size = 2 * QUANTUM + 7
    assert _state(api.send(session, DATA[:size], f"0-{size - 1}/*")) == (308, f"bytes=0-{2 * QUANTUM - 1}")
    assert api.send(session, DATA[2 * QUANTUM :], f"{2 * QUANTUM}-{len(DATA) - 1}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


def test_a_small_chunk_that_is_not_the_last_is_refused(api: Api) -> None:
    answer = api.send(api.begin("k"), DATA[:1000], "0-999/*")
    assert (answer.status_code, "equal or greater than 262144" in answer.text) == (400, True)


@pytest.mark.parametrize("span", ["x", "0-9", "9-0/10", "0-10/5", "0-9/x", "*/x", "5-9/10", "0-8/10"])
def test_a_content_range_that_does_not_fit_is_refused(api: Api, span: str) -> None:
    assert api.send(api.begin("k"), b"0123456789", span).status_code in {400, 503}
    assert api.names() == []


def test_the_size_may_not_change(api: Api) -> None:
    session = api.begin("k")
    api.send(session, DATA[:QUANTUM], f"0-{QUANTUM - 1}/{len(DATA)}")
    assert api.send(session, DATA[QUANTUM:], f"{QUANTUM}-{len(DATA) - 1}/{len(DATA) + 1}").status_code == 400


def test_a_size_told_at_the_beginning_completes(api: Api) -> None:
    where = f"/upload/storage/v1/b/{api.bucket}/o?uploadType=resumable&name=k"
    headers = {"X-Upload-Content-Length": str(QUANTUM), "X-Upload-Content-Type": "a/b"}
    session = api.call("POST", where, headers=headers).headers["Location"]
    answer = api.send(session, DATA[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert (answer.status_code, answer.json()["contentType"]) == (200, "a/b")


def test_a_cancelled_upload_is_gone(api: Api) -> None:
    session = api.begin("k")
    api.send(session, DATA[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert [api.call("DELETE", session).status_code, api.send(session, b"", "*/*").status_code] == [499, 499]
    assert api.names() == []


def test_an_unknown_upload_is_not_found(api: Api) -> None:
    session = api.begin("k").partition("upload_id=")[0] + "upload_id=unknown"
    assert [api.send(session, b"x").status_code, api.call("DELETE", session).status_code] == [404, 404]


def test_clients_that_cannot_take_308_get_200(api: Api) -> None:
    session = api.begin("k")
    answer = api.send(session, DATA[:QUANTUM], f"0-{QUANTUM - 1}/*", X_GUploader_No_308="yes")
    assert (answer.status_code, answer.headers["X-HTTP-Status-Code-Override"]) == (200, "308")
    assert answer.headers["Range"] == f"bytes=0-{QUANTUM - 1}"


def test_the_session_url_is_of_the_host_that_was_asked(api: Api) -> None:
    port = urlsplit(api.url).port
    where = f"http://localhost:{port}/resumable/upload/storage/v1/b/{api.bucket}/o?uploadType=resumable&name=k"
    assert api.call("POST", where, headers={"Host": f"me:{port}"}).headers["Location"].startswith(f"http://me:{port}/")


def _half(api: Api, session: str, data: bytes, promised: int) -> socket.socket:
    """Send the head of a chunk and some of its bytes, and no more."""
    url = urlsplit(session)
    sock = socket.create_connection((url.hostname or "", url.port or 0))
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {promised}\r\n"
    head += f"Content-Range: bytes 0-{promised - 1}/{promised}\r\nExpect: 100-continue\r\n\r\n"
    sock.sendall(head.encode())
    assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
    sock.sendall(data)
    return sock


def _wait_for(api: Api, session: str, wanted: tuple[int, str | None]) -> None:
    tries = 200
    while _state(api.send(session, b"", "*/*")) != wanted and tries:
        threading.Event().wait(0.01)
        tries -= 1
    assert tries, f"the session never came to {wanted}"


def test_what_arrived_before_the_connection_broke_is_kept_in_whole_quanta(api: Api) -> None:
    session = api.begin("k")
    _half(api, session, DATA[: 2 * QUANTUM + 99], len(DATA)).close()
    _wait_for(api, session, (308, f"bytes=0-{2 * QUANTUM - 1}"))
    rest = DATA[2 * QUANTUM :]
    assert api.send(session, rest, f"{2 * QUANTUM}-{len(DATA) - 1}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA


def test_a_second_request_takes_over_from_one_that_hangs(api: Api) -> None:
    session = api.begin("k")
    hanging = _half(api, session, DATA[:QUANTUM], len(DATA))
    assert api.send(session, DATA, f"0-{len(DATA) - 1}/{len(DATA)}").status_code == 200
    assert api.media("k").content == DATA
    hanging.close()


def test_an_insert_that_breaks_leaves_what_was_there(api: Api) -> None:
    api.insert("k", b"old")
    url = urlsplit(api.url)
    for size in (1000, 2_000_000):
        sock = socket.create_connection((url.hostname or "", url.port or 0))
        path = f"/upload/storage/v1/b/{api.bucket}/o?uploadType=media&name=k"
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size - 1))
        sock.close()
    assert (api.media("k").content, api.names()) == (b"old", ["k"])
