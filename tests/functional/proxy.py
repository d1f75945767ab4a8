"""A proxy between boto3 and S3 on loopback that does to a GET what networks do, and notes every request."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What befalls one GET."""

    cut: int | None = None
    """Body bytes after which the connection ends, though more were announced."""
    reset: bool = False
    """It ends by RST, not by FIN."""
    flip: int | None = None
    """The body byte that arrives wrong."""
    status: int | None = None
    """Answered in S3's place."""
    code: str = ""
    """Of the error answered in S3's place."""
    body: bytes | None = None
    """Answered in S3's place, as it is."""
    then: Callable[[], object] | None = None
    """What somebody else does once the answer is on its way."""


@dataclass(frozen=True)
class Request:
    """One request as it came, and how many body bytes were sent in answer."""

    method: str
    path: str
    headers: Mapping[str, str]
    sent: int


@dataclass
class Proxy:
    """Where it listens, what will befall the GETs to come, and what has come."""

    url: str
    troubles: deque[Trouble] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]


@contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    """Run a proxy on loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    _Handler.proxies[server.server_port] = proxy, urlsplit(upstream).netloc
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxies: dict[int, tuple[Proxy, str]] = {}  # noqa: RUF012 - the server makes handlers, so this is how they find it

    def _serve(self) -> None:
        proxy, upstream = self.proxies[self.server.server_address[1]]  # type: ignore[index] # an IPv4 address
        trouble = proxy.troubles.popleft() if self.command == "GET" and proxy.troubles else Trouble()
        length = int(self.headers.get("Content-Length", "0"))
        connection = http.client.HTTPConnection(upstream)
        try:
            connection.request(self.command, self.path, self.rfile.read(length) or None, dict(self.headers))
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
            headers = [pair for pair in answer.getheaders() if pair[0].lower() not in {"connection", "date", "server"}]
        finally:
            connection.close()
        if trouble.status is not None:
            status, headers = trouble.status, [("Content-Type", "application/xml")]
            body = trouble.body if trouble.body is not None else _error(trouble.code)
            headers.append(("Content-Length", str(len(body))))
        if trouble.flip is not None:
            body = body[: trouble.flip] + bytes([body[trouble.flip] ^ 1]) + body[trouble.flip + 1 :]
        given = body if trouble.cut is None else body[: trouble.cut]
        proxy.requests.append(Request(self.command, self.path, dict(self.headers), len(given)))
        if trouble.then is not None:
            trouble.then()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(given)
        self.wfile.flush()
        if trouble.cut is not None:
            self._hang_up(reset=trouble.reset)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names BaseHTTPRequestHandler asks for

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
