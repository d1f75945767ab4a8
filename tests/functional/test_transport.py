"""HTTP by libcurl: what is sent, what comes of odd answers, which connections are used, and how long is waited."""

from __future__ import annotations

import base64
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import certifi
import pytest

from handler.adapters import transport as module
from handler.adapters.retry import Broken
from handler.adapters.transport import IDLE_MAX, LARGEST, Answer, TooLarge, Transport
from handler.core.model import MIB
from tests.functional.fault_proxy import fault_proxy
from tests.functional.scripted import HANG_UP, Scripted, answer, scripted

OK = answer("200 OK", b"", b"ok")
SECRET = "unspeakable"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        server.default = OK
        yield server


@pytest.fixture
def transport() -> Iterator[Transport]:
    with closing(Transport(connections=4, authorities=certifi.where())) as transport:
        yield transport


def ask(transport: Transport, server: Scripted, method: str = "GET", target: str = "/", silence: float = 5.0) -> Answer:
    return transport.request(method, f"http://127.0.0.1:{server.port}{target}", {}, silence=silence)


@contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept one connection after the other on loopback, and let `serve` have each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# --- what is sent


@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", None), ("HEAD", None), ("DELETE", None), ("POST", b""), ("POST", b"body"), ("PUT", b"b"), ("PATCH", b"b")],
)
def test_a_request_is_sent_as_it_is(transport: Transport, method: str, body: bytes | None) -> None:
    received: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        text = b""
        while not text.endswith(b"\r\n\r\n" + (body or b"")):
            text += connection.recv(65536)
        received.append(text)
        connection.sendall(OK)

    with served(serve) as port:
        headers = {"Content-Type": "text/x", "Authorization": "Bearer a"} if body else {}
        transport.request(method, f"http://127.0.0.1:{port}/a/../b//%2F.?q=%2B", headers, body, silence=5.0)
    head, _, sent = received[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    expected = {"host": f"127.0.0.1:{port}", "user-agent": "cross-cloud-replicator", "accept-encoding": "identity"}
    expected |= {name.lower(): value for name, value in headers.items()}
    expected |= {"content-length": str(len(body))} if body is not None else {}
    assert first == f"{method} /a/../b//%2F.?q=%2B HTTP/1.1"
    assert {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)} == expected
    assert sent == (body or b"")


def test_a_handle_forgets_the_request_before(transport: Transport, server: Scripted) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    for method, body in (("PUT", b""), ("GET", None), ("HEAD", None), ("DELETE", None), ("HEAD", None), ("GET", None)):
        told = transport.request(method, url, {}, body, silence=5.0)
        assert told.data == (b"" if method == "HEAD" else b"ok")
    assert [request.method for request in server.requests] == ["PUT", "GET", "HEAD", "DELETE", "HEAD", "GET"]
    assert {request.connection for request in server.requests} == {1}
    assert "content-length" not in server.requests[-1].headers


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nX: b", "a\rb"])
def test_a_header_with_a_line_break_is_not_sent(transport: Transport, server: Scripted, value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        transport.request("GET", f"http://127.0.0.1:{server.port}/", {"If-Match": value}, silence=5.0)
    assert server.requests == []


# --- what is answered


def test_headers_are_by_lower_case_name_and_those_of_one_name_are_joined(
    transport: Transport, server: Scripted
) -> None:
    server.default = answer("200 OK", b"ETag: x\r\nVary: a\r\nvary:  b \r\nX-Empty:\r\nX-Raw: \xe9\r\n", b"ok")
    headers = ask(transport, server).headers
    assert headers == {"etag": "x", "vary": "a, b ", "x-empty": "", "x-raw": "é", "content-length": "2"}


def test_what_comes_before_the_answer_is_skipped(transport: Transport, server: Scripted) -> None:
    server.default = b"HTTP/1.1 100 Continue\r\nX: a\r\n\r\n" + OK
    assert ask(transport, server) == Answer(200, {"content-length": "2"}, b"ok")


@pytest.mark.parametrize("location", [b"/elsewhere", b"http://elsewhere.example/"])
def test_a_redirect_is_not_followed(transport: Transport, server: Scripted, location: bytes) -> None:
    server.default = answer("302 Found", b"Location: %s\r\nContent-Length: 0\r\n" % location)
    assert ask(transport, server).status == 302
    assert len(server.requests) == 1


BAD = [
    HANG_UP,
    b"HTTP/1.1 twohundred\r\n\r\n",
    b"no http at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n",
]


@pytest.mark.parametrize("told", BAD)
def test_an_answer_that_is_none_or_not_whole_is_broken_and_no_secret_told(
    transport: Transport, server: Scripted, told: bytes
) -> None:
    server.default = told
    url = f"http://127.0.0.1:{server.port}/?token={SECRET}"
    with pytest.raises(Broken) as caught:
        transport.request("GET", url, {"Authorization": SECRET}, silence=5.0)
    assert SECRET not in str(caught.value) + "".join(traceback.format_exception_only(caught.value.__cause__))


LENGTH = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nETag: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n"


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["a length", "chunks"])
@pytest.mark.parametrize(("expected", "limit"), [(None, LARGEST), (MIB, MIB), (1, 64 * 1024)])
def test_an_answer_that_is_larger_than_was_asked_for_is_not_read(
    transport: Transport, server: Scripted, framing: bytes, expected: int | None, limit: int
) -> None:
    server.default = framing % (limit + 1) + bytes(limit + 1)
    with pytest.raises(TooLarge) as caught:
        transport.request("GET", f"http://127.0.0.1:{server.port}/", {}, silence=5.0, expected=expected)
    assert (caught.value.answer.status, caught.value.answer.headers["etag"]) == (200, "x")
    assert caught.value.answer.data == b""


def test_the_length_that_a_head_tells_is_no_bodys(transport: Transport, server: Scripted) -> None:
    server.default = LENGTH % 10**12
    assert ask(transport, server, "HEAD").headers["content-length"] == str(10**12)


# --- connections


def test_requests_one_after_another_take_one_connection(transport: Transport, server: Scripted) -> None:
    for method in ("GET", "HEAD", "GET"):
        ask(transport, server, method)
    assert [request.connection for request in server.requests] == [1, 1, 1]


def test_threads_take_a_connection_each_and_no_more_are_kept_than_may_be(server: Scripted) -> None:
    with closing(Transport(connections=2, authorities=certifi.where())) as transport, ThreadPoolExecutor(8) as threads:
        started = threading.Barrier(8)

        def work(number: int) -> None:
            started.wait()
            for turn in range(10):
                assert ask(transport, server, target=f"/{number}/{turn}").data == b"ok"

        list(threads.map(work, range(8)))
        assert len(transport._idle) <= 2
    assert len(server.requests) == 80


def test_a_connection_that_idled_over_a_minute_of_wall_clock_is_not_used(server: Scripted) -> None:
    """Whoever is in between may have dropped it without a word, and Lambda may have frozen the function meanwhile."""
    now = [1_000_000.0]
    with closing(Transport(connections=4, authorities=certifi.where(), clock=lambda: now[0])) as transport:
        for passes in (0.0, IDLE_MAX, IDLE_MAX + 1, 0.0, -3600.0, 0.0):
            now[0] += passes
            ask(transport, server)
        assert [request.connection for request in server.requests] == [1, 1, 2, 2, 3, 3]
        assert len(transport._idle) == 1, "what is not used is closed"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_kept_connection_that_the_server_ends_is_replaced(
    transport: Transport, server: Scripted, method: str
) -> None:
    server.answers.extend([OK, HANG_UP])
    for _ in range(2):
        assert ask(transport, server, method).status == 200
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_after_silence_none_of_the_kept_connections_is_used(server: Scripted) -> None:
    with (
        fault_proxy(f"http://127.0.0.1:{server.port}") as relay,
        closing(Transport(connections=4, authorities=certifi.where())) as transport,
        ThreadPoolExecutor(3) as threads,
    ):
        started = threading.Barrier(3)

        def work(_: int) -> None:
            started.wait()
            transport.request("GET", relay.url, {}, silence=5.0)

        list(threads.map(work, range(3)))
        relay.silence()
        with pytest.raises(Broken):
            transport.request("GET", relay.url, {}, silence=0.2)
        transport.request("GET", relay.url, {}, silence=5.0)


# --- time


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_an_answer_that_does_not_come_is_broken(transport: Transport) -> None:
    with served(silent) as port, pytest.raises(Broken, match="timed out"):
        transport.request("GET", f"http://127.0.0.1:{port}/", {}, silence=0.1)


def test_a_long_body_that_comes_too_slowly_is_broken(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOWEST", 100 * MIB)

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(LENGTH % (2 * MIB) + bytes(MIB))
        silent(connection)

    with served(serve) as port, pytest.raises(Broken):
        transport.request("GET", f"http://127.0.0.1:{port}/", {}, silence=0.2, expected=2 * MIB)


def test_a_long_body_has_no_more_time_than_is_left() -> None:
    with (
        served(silent) as port,
        closing(Transport(connections=1, authorities=certifi.where(), time_left=lambda: 0.0)) as transport,
        pytest.raises(Broken, match="timed out after"),
    ):
        transport.request("PUT", f"http://127.0.0.1:{port}/", {}, bytes(8 * MIB), silence=0.2)


def test_the_kernel_takes_few_bytes_that_cannot_leave() -> None:
    """With MiBs of them a slow upload that flows looks like silence."""
    with socket.socket() as made:
        module._bound_unsent(made.fileno(), 0)
        assert made.getsockopt(socket.IPPROTO_TCP, module._NOTSENT_LOWAT) == module._UNSENT


# --- proxies


def test_a_proxy_that_the_environment_names_is_asked_for_a_tunnel(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def refuse(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n")

    with served(refuse) as port:
        monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        with pytest.raises(Broken, match="407") as caught:
            transport.request("GET", "https://storage.example/o", {"Authorization": "Bearer ours"}, silence=5.0)
    basic = base64.b64encode(f"user:{SECRET}".encode())
    assert re.match(rb"CONNECT storage\.example:443 HTTP/1\.1\r\n", asked[0])
    assert basic in asked[0]
    assert b"Bearer" not in asked[0]
    assert SECRET not in str(caught.value)


def test_a_server_that_is_exempt_is_asked_directly(
    transport: Transport, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(silent) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "example.com,127.0.0.1")
        assert ask(transport, server).data == b"ok"


_HEADERS = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize("method", ["HEAD", "GET", "POST"])
@pytest.mark.parametrize(
    "begun",
    [_HEADERS, _HEADERS + b"x-amz-meta-numb", b"HTTP/1.1 100 Continue\r\n\r\n" + _HEADERS, b"HTTP/1.1 200 OK\r\n"],
    ids=["after a header", "within a header", "after those that say to go on", "after the status"],
)
def test_headers_that_end_early_are_no_answer(transport: Transport, method: str, begun: bytes) -> None:
    """libcurl takes them for all of the headers, and so S3's HEAD would describe an object without its metadata."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(begun)

    with served(serve) as port, pytest.raises(Broken):
        transport.request(method, f"http://127.0.0.1:{port}/", {}, silence=5.0)
