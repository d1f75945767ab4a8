"""The proxy between a client and GCS or S3 on loopback: it notes every request, and does to some what networks do."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from requests.structures import CaseInsensitiveDict

LOST = 0
"""The status of a request whose answer never reached the client."""
_BLOCK = 1 << 16
_FRAMING = {"connection", "transfer-encoding", "content-length"}


@dataclass(kw_only=True)
class Request:
    """One request as it came, and what the client saw of the answer."""

    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    body: bytes
    status: int = LOST
    given: int = 0
    """Body bytes of the answer."""

    @property
    def query(self) -> dict[str, str]:
        parsed = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}

    @property
    def range(self) -> str:
        return self.headers.get("Content-Range", "")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.range} -> {self.status}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent to the client."""

    status: int
    headers: Iterable[tuple[str, str]]
    body: bytes
    announced: int | None = None
    """The Content-Length, where it is not the body's length: the connection ends after the body."""


@dataclass(frozen=True, kw_only=True)
class PlannedFault:
    """What befalls one request. One with nothing planned passes."""

    status: int | None = None
    """Answered in the server's place, which never hears of the request."""
    code: str = ""
    """S3's code of that answer; without one the answer is GCS's."""
    reason: str = ""
    message: str = "as told"
    body: bytes | None = None
    """That answer's body, where it is another one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    forget: bool = False
    """The answer never comes back: the connection is reset in its place."""
    cut: int | None = None
    """Bytes of the request's body after which the connection is reset, towards both sides."""
    cut_answer: int | None = None
    """Bytes of the answer's body after which the connection ends, though more were announced."""
    by_reset: bool = False
    """That end is by RST, not by FIN."""
    flip: int | None = None
    """The byte of the request's body that arrives wrong."""
    flip_answer: int | None = None
    """The byte of the answer's body that arrives wrong."""
    adds: Mapping[str, str] = field(default_factory=dict)
    """Headers the server sees besides."""
    drops: str = ""
    """The header that is lost on the way."""
    before: Callable[[], object] = lambda: None
    """What somebody else does before the server hears of the request."""
    then: Callable[[], object] = lambda: None
    """What somebody else does once the server has answered."""


Picks = Callable[[Request], bool]


class FaultProxy:
    """Where it listens, what will befall which requests, and what has come.

    Args:
        upstream: the server's URL.
        adds: headers that every request gets.
    """

    def __init__(self, upstream: str, adds: Mapping[str, str] | None = None) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.adds = adds or {}
        self.url = ""
        self.requests: list[Request] = []
        self.connections = 0
        self.silences = 0
        self.over = threading.Event()
        self._planned: list[tuple[Picks, PlannedFault]] = []
        self._lock = threading.Lock()

    def plan(self, picks: Picks, *faults: PlannedFault) -> None:
        """Let these befall, one each, the next requests that `picks` picks."""
        self._planned += [(picks, fault) for fault in faults]

    def check(self) -> None:
        """Fail if something planned never happened."""
        assert not self._planned, f"planned and never happened: {self._planned}; {self.told()}"

    def forgive(self) -> None:
        """Let what is planned and has not happened not happen."""
        self._planned.clear()

    def silence(self) -> None:
        """Let all connections that there are fall silent for ever, as behind a NAT that forgot them."""
        self.silences += 1

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    def told(self) -> str:
        return "\n".join(str(request) for request in self.requests)

    def note(self, request: Request) -> PlannedFault:
        """Note a request; return what befalls it."""
        with self._lock:
            self.requests.append(request)
            for index, (picks, fault) in enumerate(self._planned):
                if picks(request):
                    del self._planned[index]
                    return fault
        return PlannedFault()

    def connected(self) -> int:
        """Note a connection; return how many silences it is too young for."""
        with self._lock:
            self.connections += 1
        return self.silences

    def ask(self, request: Request, body: bytes, fault: PlannedFault) -> Answer:
        """Return the server's answer."""
        with self.forwarded(request, request.path, body, fault) as connection:
            answer = connection.getresponse()
            try:
                content, announced = answer.read(), None
            except http.client.IncompleteRead as broken:
                content, announced = broken.partial, len(broken.partial) + (broken.expected or 1)
        if request.method == "HEAD":
            announced = int(answer.headers.get("Content-Length", "0"))
        return Answer(status=answer.status, headers=answer.getheaders(), body=content, announced=announced)

    @contextmanager
    def forwarded(
        self, request: Request, path: str, body: bytes, fault: PlannedFault
    ) -> Iterator[http.client.HTTPConnection]:
        """Send a request on, by a connection of its own."""
        connection = http.client.HTTPConnection(self.upstream)
        try:
            connection.putrequest(request.method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (*request.headers.items(), *self.adds.items(), *fault.adds.items()):
                if name != fault.drops:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            yield connection
        finally:
            connection.close()


_Proxy = TypeVar("_Proxy", bound=FaultProxy)


@contextmanager
def serving(proxy: _Proxy) -> Iterator[_Proxy]:
    """Run a proxy on loopback."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def fault_proxy(upstream: str, adds: Mapping[str, str] | None = None) -> AbstractContextManager[FaultProxy]:
    """Run a proxy on loopback in front of a server."""
    return serving(FaultProxy(upstream, adds))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy

    def setup(self) -> None:
        super().setup()
        self._silences = self.proxy.connected()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        self._hold_if_silent()
        if len(body) < length:  # it was given up
            self.close_connection = True
            return
        headers = CaseInsensitiveDict(self.headers.items())
        request = Request(method=self.command, path=self.path, headers=headers, body=body)
        fault = self.proxy.note(request)
        fault.before()
        if fault.flip is not None:
            body = _flipped(body, fault.flip)
        try:
            if fault.cut is not None:
                with self.proxy.forwarded(request, request.path, body[: fault.cut], fault) as connection:
                    reset(connection.sock)
            elif fault.status is not None:
                self._answer(request, _made_up(fault), fault)
                return
            else:
                answer = self.proxy.ask(request, body, fault)
                fault.then()
                if not fault.forget:
                    self._answer(request, answer, fault)
                    return
        except (ConnectionError, http.client.HTTPException):
            pass  # the server's own end of the connection is passed on
        self.close_connection = True
        reset(self.connection)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names the base class asks for

    def _answer(self, request: Request, answer: Answer, fault: PlannedFault) -> None:
        body = b"" if self.command == "HEAD" or answer.status in {204, 304} else answer.body  # which have none
        announced = len(body) if answer.announced is None else answer.announced
        if fault.flip_answer is not None:
            body = _flipped(body, fault.flip_answer)
        body = body if fault.cut_answer is None else body[: fault.cut_answer]
        request.status, request.given = answer.status, len(body)
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _FRAMING:
                self.send_header(name, value)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        for start in range(0, len(body), _BLOCK):
            self._hold_if_silent()
            self.wfile.write(body[start : start + _BLOCK])
        if len(body) < announced and self.command != "HEAD":
            self.close_connection = True
            if fault.by_reset:
                reset(self.connection)
            else:
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    def _hold_if_silent(self) -> None:
        """Do nothing any more if this connection was there at a silence."""
        if self._silences < self.proxy.silences:
            self.proxy.over.wait()
            raise ConnectionAbortedError("silenced")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


def reset(sock: socket.socket) -> None:
    """End a connection by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _made_up(fault: PlannedFault) -> Answer:
    """Return the answer in the server's place."""
    assert fault.status is not None
    fault.then()
    kind = [("Content-Type", "application/xml")] if fault.code else []
    body = fault.body if fault.body is not None else error_of_s3(fault.code) if fault.code else _error_of_gcs(fault)
    return Answer(status=fault.status, headers=[*kind, *fault.headers.items()], body=body)


def error_of_s3(code: str) -> bytes:
    """Return S3's body of an error."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()


def _error_of_gcs(fault: PlannedFault) -> bytes:
    """GCS's body of an error, https://cloud.google.com/storage/docs/json_api/v1/status-codes."""
    detail = {"domain": "global", "reason": fault.reason, "message": fault.message}
    errors = [detail] if fault.reason else []
    return json.dumps({"error": {"code": fault.status, "message": fault.message, "errors": errors}}).encode()


# --- which requests


def sends(method: str, nth: int = 1) -> Picks:
    """The nth request of this method from now on."""
    seen = iter(range(nth))

    def picks(request: Request) -> bool:
        return request.method == method and next(seen, nth) == nth - 1

    return picks


def every(method: str) -> Picks:
    """Any request of this method."""
    return lambda request: request.method == method


def ranges(requests: Sequence[Request]) -> list[str]:
    """The Content-Range of each."""
    return [request.range for request in requests]
