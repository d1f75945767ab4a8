"""HTTP/1.1 over connections that are kept: as much as the two clouds' APIs need, for little of a processor.

urllib3 takes some 0.5 ms of a processor for a request, more than all else that a small object costs together. The
standard library still makes the connections: TLS, the names in certificates, and CONNECT through a proxy.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from handler.adapters.http_connection import Broken, Connection
from handler.adapters.retry import CONNECT

IDLE_MAX = 60.0
"""Seconds that a connection may have been idle: what is in between drops it without a word, NAT after 350 s."""
_SHORTEST = 0.001
"""Seconds; a timeout of none would be another mode of a socket."""
_BLANK = " \t"
_HEX = b"0123456789abcdefABCDEF"
_DIGITS_MAX = 15
"""Of a number of bytes; with more it is none."""
_SAFE = frozenset({"GET", "HEAD"})
_DRAINED = 65536
"""Bytes of an answer's rest that are worth reading to keep its connection."""
_LONG = 1 << 20
"""Bytes of a body from which on it is given up where it comes too slowly."""


class Answer:
    """What a server said: its head, and a body that is yet to be read. Its connection is kept once that is done."""

    def __init__(self, connection: Connection, release: Callable[[Connection], None], *, bare: bool) -> None:
        self._connection: Connection | None = connection
        self._release = release
        self.status = 100
        while 100 <= self.status < 200:
            first, *lines = connection.lines()
            self.status, version = _status(first)
        self.headers: dict[str, str] = {}
        """By lower-case name; of several with one name the values are joined by commas."""
        self.names: dict[str, str] = {}
        """How each name was spelled first."""
        self._note(lines)
        said = self.headers.get("connection", "").lower()
        self._kept = "close" not in said and (version == "HTTP/1.1" or "keep-alive" in said)
        self._chunked, self._begun = False, False
        self._failure: Exception | None = None
        self._data: bytes | None = None
        self._left = self._length(bare=bare or self.status in {204, 304})
        if self._left == 0 and not self._chunked:
            self._end()
        elif self._left is not None and self._left >= _LONG:
            connection.watch(on=True)

    def _note(self, lines: Sequence[str]) -> None:
        name = ""
        for line in lines:
            spelled, colon, value = line.partition(":")
            if line[0] in " \t" and name:  # folded, as nobody should any more
                self.headers[name] += f" {line.strip()}"
                continue
            if not colon or spelled[-1:] in _BLANK:
                raise Broken(f"no header: {line[:80]!r}")
            name = spelled.lower()
            if name in self.headers:
                self.headers[name] += f", {value.lstrip(_BLANK)}"
            else:
                self.names[name], self.headers[name] = spelled, value.lstrip(_BLANK)

    def _length(self, *, bare: bool) -> int | None:
        """Bytes until the end of the body, or of the chunk; None where only the end of the connection tells."""
        if bare:
            return 0
        coding = self.headers.get("transfer-encoding")
        if coding is not None:
            if coding.strip(_BLANK).lower() != "chunked":
                raise Broken(f"the answer has a Transfer-Encoding of {coding[:80]!r}")
            self._chunked = True
            return 0
        told = self.headers.get("content-length")
        if told is None:
            self._kept = False
            return None
        told = told.strip(_BLANK)
        if not (told.isascii() and told.isdecimal() and len(told) <= _DIGITS_MAX):
            raise Broken(f"the answer has a Content-Length of {told[:80]!r}")
        return int(told)

    def read(self, size: int | None = None, /) -> bytes:
        """Return the next bytes of the body: `size`, less at its end and before it breaks; where None all that is left.

        Raises:
            Broken: none came, or not all where all were asked for.
        """
        if self._connection is None or size == 0:
            return b""
        try:
            if self._chunked:
                return self._read_chunks(size)
            wanted = self._left if size is None or self._left is None else min(size, self._left)
            data: bytes = self._connection.file.read(size if wanted is None else wanted)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | ValueError | MemoryError) and not isinstance(error, Broken):
                raise Broken(f"{type(error).__name__}: {error}") from error
            raise
        if self._left is None:
            if size is None or len(data) < size:
                self._end()
            return data
        self._left -= len(data)
        if not self._left:
            self._end()
        elif not data or size is None:
            why = "came too slowly, and was given up" if self._connection.is_too_slow() else "ended"
            self.close()
            raise Broken(f"the answer {why} {self._left} bytes early")
        return data

    def _read_chunks(self, size: int | None) -> bytes:
        if self._failure is not None:
            raise self._failure
        found: list[bytes] = []
        missing = size
        try:
            while missing != 0 and (piece := self._piece(missing)):
                found.append(piece)
                missing = None if missing is None else missing - len(piece)
        except (OSError, ValueError) as error:
            if size is None or not found:
                raise
            self._failure = error  # what came before is told first
        return b"".join(found)

    def _piece(self, most: int | None) -> bytes:
        """Return the next bytes of one chunk; none after the last."""
        connection = self._connection
        if connection is None or (not self._left and not self._next_chunk(connection)):
            return b""
        left = self._left or 0
        piece = connection.file.read(left if most is None else min(most, left))
        if not piece:
            raise Broken("the answer ended within a chunk")
        self._left = left - len(piece)
        return piece

    def _next_chunk(self, connection: Connection) -> bool:
        """Read how long the next chunk is; False where it was the last."""
        if self._begun and connection.file.read(2) != b"\r\n":
            raise Broken("a chunk is not as long as it said")
        self._begun = True
        told = connection.line().partition(b";")[0].strip(b" \t")
        if not told or told.strip(_HEX) or len(told) > _DIGITS_MAX:
            raise Broken(f"a chunk has a length of {told[:80]!r}")
        self._left = int(told, 16)
        if self._left:
            return True
        while connection.line():
            pass  # trailers
        self._end()
        return False

    @property
    def data(self) -> bytes:
        """All of the body, if nothing of it was read. Not functools' cached property, whose lock all answers share."""
        if self._data is None:
            self._data = self.read()
        return self._data

    def json(self) -> Any:
        """Return what the body says. Raises ValueError where it is no JSON."""
        return json.loads(self.data)

    def drain(self) -> None:
        """Be done with the answer; read on, where little is left, to keep the connection."""
        if self._left is not None and self._left <= _DRAINED:
            with contextlib.suppress(Broken):
                self.read(_DRAINED)
        self.close()

    def close(self) -> None:
        """Be done with the answer, and with the connection if something is left to read."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.watch(on=False)
            if self._kept:
                self._release(connection)
            else:
                connection.close()


class Pool:
    """The connections to one server; for all threads.

    Args:
        origin: its URL; what follows the host is not looked at.
        connections: kept open at most while they are idle.
        authorities: file of the authorities whose certificates are trusted; needed for https.
        proxied: whether to go by the proxy that the environment names, if any, as urllib.request would.
        clock: the wall clock, as others stand still while Lambda freezes the function.
    """

    def __init__(
        self,
        origin: str,
        *,
        connections: int,
        authorities: str = "",
        proxied: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{origin!r} is no URL of an HTTP server")
        self.host = parts.netloc.rpartition("@")[2]
        """As the Host header names it."""
        default = {"http": 80, "https": 443}[parts.scheme]
        if parts.port == default:
            self.host = self.host.rpartition(":")[0]
        self._place = parts.hostname, parts.port or default
        self._authorities = authorities if parts.scheme == "https" else ""
        self._tls = parts.scheme == "https"
        proxy = getproxies().get(parts.scheme, "") if proxied else ""
        bypassed = proxy and (proxy_bypass(parts.hostname) or proxy_bypass(self.host))
        self._proxy = "" if bypassed else proxy
        self._idle: deque[Connection] = deque()
        self._connections = connections
        self._clock = clock
        weakref.finalize(self, _close_all, self._idle)

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None, *, timeout: float
    ) -> Answer:
        """Send a request, and return the answer once its head has come. Redirects are not followed.

        Args:
            method: HTTP's.
            target: path and query, quoted.
            headers: all but those that frame the message; Host is the pool's where it is not among them.
            body: all of it.
            timeout: seconds of silence.

        Raises:
            Broken: no answer came. The request may have arrived nevertheless.
            ValueError: something in the head cannot be sent.
        """
        return self.begin(method, target, headers, body, timeout=timeout).answer()

    def begin(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float,
    ) -> Begun:
        """Send a request, and return at once: there is time for something else before the answer is waited for.

        The arguments are those of `request`, and so is what it raises.
        """
        size = None if body is None else len(body)
        return Begun(self, method, _head(method, target, self.host, headers, size), body, timeout)

    def close(self) -> None:
        """Close the idle connections."""
        _close_all(self._idle)

    def take(self, timeout: float) -> Connection:
        """Return a connection of which nobody else knows; `Begun` gives it back by `release`. Raises `Broken`."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(timeout)
            # A clock that was set back says nothing of the time that passed.
            if 0 <= self._clock() - connection.idle_since <= IDLE_MAX and connection.is_usable():
                connection.set_timeout(timeout)
                return connection
            connection.close()

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        connection.idle_since = self._clock()
        self._idle.append(connection)
        if len(self._idle) > self._connections:  # asked afterwards, as other threads do the same at once
            with contextlib.suppress(IndexError):
                self._idle.popleft().close()

    def _connect(self, timeout: float) -> Connection:
        try:
            made = self._made(min(CONNECT, timeout))
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: of a name that none can have
            host, port = self._place
            raise Broken(f"no connection to {host}:{port}: {type(error).__name__}: {error}") from error
        connection = Connection(made)
        connection.set_timeout(timeout)
        return connection

    def _made(self, timeout: float) -> socket.socket:
        host, port = self._place
        proxy = urlsplit(self._proxy if "://" in self._proxy or not self._proxy else f"http://{self._proxy}")
        place = (proxy.hostname or host, proxy.port or (80 if proxy.hostname else port))
        maker = (
            http.client.HTTPSConnection(*place, timeout=timeout, context=_context(self._authorities))
            if self._tls
            else http.client.HTTPConnection(*place, timeout=timeout)
        )
        maker._create_connection = _connected  # type: ignore[attr-defined] # noqa: SLF001 - the only way in
        if proxy.hostname:
            maker.set_tunnel(host, port, _proxy_headers(proxy.username, proxy.password))
        with contextlib.closing(maker):
            maker.connect()
            maker.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            made, maker.sock = maker.sock, None  # it is ours from here on
        return made


class Begun:
    """A request that has left; its answer is yet to be read. See `Pool.begin`."""

    def __init__(self, pool: Pool, method: str, head: bytes, body: bytes | None, timeout: float) -> None:
        self._pool, self._method, self._head, self._body, self._timeout = pool, method, head, body, timeout
        self._send()

    def answer(self) -> Answer:
        """Return the answer once its head has come; to be asked for once. Raises: as `Pool.request` does."""
        while True:
            try:
                return Answer(self._connection, self._pool.release, bare=self._method == "HEAD")
            except BaseException as error:  # noqa: BLE001 - all is raised again, but what sending it anew may mend
                self._give_up(error)
            self._send()

    def _send(self) -> None:
        while True:
            self._connection = self._pool.take(self._timeout)
            self._kept, self._connection.kept = self._connection.kept, True
            try:
                self._connection.send(self._head, self._body)
            except BaseException as error:  # noqa: BLE001 - the same
                self._give_up(error)
            else:
                return

    def _give_up(self, error: BaseException) -> None:
        """Close the connection, and raise what went wrong. Return where the request is to be sent once more.

        The server may have ended a kept connection while it was idle: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
        What ended it, without a word if it was something in between, ended the other idle ones as well.
        """
        self._connection.close()
        if self._kept:
            self._pool.close()
        if not isinstance(error, OSError):
            raise error
        if self._kept and self._method in _SAFE and not isinstance(error, TimeoutError):
            return
        if isinstance(error, Broken):
            raise error
        raise Broken(f"{type(error).__name__}: {error}") from error


def _connected(place: tuple[str, int], timeout: float, _: object = None) -> socket.socket:
    """Connect to the first address of a host that answers, in `timeout` seconds; what is left of them is for TLS.

    Every address but the last is given half of what is left. `socket.create_connection` gives all of it to each, and
    S3 and GCS have up to sixteen.
    """
    ends = time.monotonic() + timeout
    addresses = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _name, address) in enumerate(addresses, 1):
        made = socket.socket(family, kind, protocol)
        left = ends - time.monotonic()
        try:
            made.settimeout(max(_SHORTEST, left if number == len(addresses) else left / 2))
            made.connect(address)
        except OSError:
            made.close()
            if number == len(addresses) or left <= 0:
                raise
        else:
            made.settimeout(max(_SHORTEST, ends - time.monotonic()))
            return made
    raise OSError(f"{place[0]} has no address")


def _close_all(connections: deque[Connection]) -> None:
    while connections:
        connections.pop().close()


def _head(method: str, target: str, host: str, headers: Mapping[str, str], size: int | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    if "Host" not in headers:
        lines.append(f"Host: {host}")
    lines.append("Accept-Encoding: identity")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if size is not None or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {size or 0}")
    head = "\r\n".join(lines)
    if head.count("\n") + 1 != len(lines) or head.count("\r") + 1 != len(lines) or lines[0].count(" ") != 2:
        raise ValueError(f"the head of {method} {target!r} has a line break or a space where none may be")
    return head.encode("latin-1") + b"\r\n\r\n"


def _status(line: str) -> tuple[int, str]:
    version, _, rest = line.partition(" ")
    code = rest.partition(" ")[0]
    if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdecimal() or code < "100":
        raise Broken(f"not HTTP: {line[:80]!r}")
    return int(code), version


def _proxy_headers(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    from base64 import b64encode  # only where a proxy asks who we are

    pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}


@cache
def _context(authorities: str) -> ssl.SSLContext:
    """One for all connections: to read the authorities takes some 20 ms."""
    return ssl.create_default_context(cafile=os.fspath(authorities) or None)
