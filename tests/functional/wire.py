"""A proxy between a client and GCS or S3 on loopback: it notes every request, and does to some what networks do."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from requests.structures import CaseInsensitiveDict

LOST = 0
"""The status of a request whose answer never reached the client."""


@dataclass(kw_only=True)
class Request:
    """One request as it came, and the status the client saw."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = LOST

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def range(self) -> str:
        return self.headers.get("Content-Range", "")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.range} -> {self.status}"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What befalls one request."""

    status: int | None = None
    """Answered in the server's place, which never hears of it."""
    reason: str = ""
    message: str = "as told"
    body: bytes | None = None
    """Answered as it is, where there is one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    forget: bool = False
    """The answer never comes back: the connection is reset in its place."""
    cut: int | None = None
    """Body bytes after which the connection is reset, towards both sides."""
    flip: int | None = None
    """The body byte that arrives wrong."""
    adds: Mapping[str, str] = field(default_factory=dict)
    """Headers the server sees besides."""
    drops: str = ""
    """The header that is lost on the way."""
    before: Callable[[], object] = lambda: None
    """What somebody else does before the server hears of the request."""


Picks = Callable[[Request], bool]


@dataclass
class Wire:
    """Where it listens, what will befall which requests, and what has come."""

    url: str
    requests: list[Request] = field(default_factory=list)
    _planned: list[tuple[Picks, Trouble]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, picks: Picks, *troubles: Trouble) -> None:
        """Let these befall, one each, the next requests that `picks` picks."""
        self._planned += [(picks, trouble) for trouble in troubles]

    def check(self) -> None:
        """Fail if something planned never happened."""
        assert not self._planned, f"planned and never happened: {self._planned}; {self.told()}"

    def forgive(self) -> None:
        """Let what is planned and has not happened not happen."""
        self._planned.clear()

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def told(self) -> str:
        return "\n".join(str(request) for request in self.requests)

    def note(self, request: Request) -> Trouble:
        with self._lock:
            self.requests.append(request)
            for index, (picks, trouble) in enumerate(self._planned):
                if picks(request):
                    del self._planned[index]
                    return trouble
        return Trouble()


@contextmanager
def wire_to(upstream: str) -> Iterator[Wire]:
    """Run a proxy on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{server.server_port}")
    _Handler.wires[server.server_port] = wire, urlsplit(upstream).netloc
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wires: dict[int, tuple[Wire, str]] = {}  # noqa: RUF012 - the server makes handlers, so this is how they find it

    def _serve(self) -> None:
        wire, upstream = self.wires[self.server.server_address[1]]  # type: ignore[index] # an IPv4 address
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # it was given up
            self.close_connection = True
            return
        request = Request(
            method=self.command, path=self.path, headers=CaseInsensitiveDict(self.headers.items()), body=body
        )
        trouble = wire.note(request)
        trouble.before()
        if trouble.status is not None:
            content = _error(trouble) if trouble.body is None else trouble.body
            self._answer(request, trouble.status, content, trouble.headers.items())
            return
        if trouble.flip is not None:
            body = body[: trouble.flip] + bytes([body[trouble.flip] ^ 1]) + body[trouble.flip + 1 :]
        connection = http.client.HTTPConnection(upstream)
        try:
            self._forward(connection, body if trouble.cut is None else body[: trouble.cut], trouble)
            if trouble.cut is not None:
                _reset(connection.sock)
            else:
                answer = connection.getresponse()
                content = answer.read()
        finally:
            connection.close()
        if trouble.forget or trouble.cut is not None:
            self.close_connection = True
            _reset(self.connection)
            return
        self._answer(request, answer.status, content, answer.getheaders())

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names the base class asks for

    def _forward(self, connection: http.client.HTTPConnection, body: bytes, trouble: Trouble) -> None:
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in (*self.headers.items(), *trouble.adds.items()):
            if name != trouble.drops:
                connection.putheader(name, value)
        connection.endheaders(body or None)

    def _answer(self, request: Request, status: int, content: bytes, headers: Any) -> None:
        request.status = status
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD" and status not in {204, 304}:  # which have no body
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _error(trouble: Trouble) -> bytes:
    """GCS's body of an error, https://cloud.google.com/storage/docs/json_api/v1/status-codes."""
    detail = {"domain": "global", "reason": trouble.reason, "message": trouble.message}
    return json.dumps(
        {"error": {"code": trouble.status, "message": trouble.message, "errors": [detail] if trouble.reason else []}}
    ).encode()


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
