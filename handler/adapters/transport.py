"""HTTP by libcurl: requests and answers of bounded size, each held in memory as a whole.

libcurl makes and keeps the connections, speaks TLS, goes by the proxies that the environment names (`https_proxy`,
`no_proxy`), and enforces the limits below. A request takes it a third of the processor time that `http.client` takes.
https://curl.se/libcurl/c/curl_easy_setopt.html
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import pycurl

from handler.adapters.retry import CONNECT, Broken
from handler.core.model import MIB

LARGEST = 16 * MIB
"""Bytes of an answer of which the size is not known before."""
_LEAST = 64 * 1024
"""Bytes that every answer may have: an error may be longer than what was asked for."""
IDLE_MAX = 60.0
"""Seconds that a connection may have been idle: NAT forgets one without a word after 350 s."""
SLOWEST = 64 * 1024
"""Bytes a second at which a long body may come or leave; a slower one is given up, as another try may do better."""
_LONG = MIB
"""Bytes of a body from which on its time is measured by `SLOWEST` too."""
_STALL = 5
"""Seconds for which a long body may be slower than `SLOWEST`. libcurl's speed is the average of some five seconds."""
_UNSENT = 128 * 1024
"""Bytes that the kernel takes before they can leave. With more, a slow upload that flows would look like silence."""
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
"""Python names it from 3.12 on; the number is Linux's."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name, decoded as Latin-1; of several with one name the values are joined by commas."""
    data: bytes

    def json(self) -> Any:
        """Return what the body says. Raises ValueError where it is no JSON."""
        return json.loads(self.data)


class TooLarge(Exception):
    """The body of an answer is larger than the request allows; `answer` has its status and headers."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("the answer has more bytes than were asked for")
        self.answer = answer


class Transport:
    """Sends requests to any server, by connections that are kept. All threads share it, but one at a time has a handle.

    Args:
        connections: handles kept while no thread uses them.
        authorities: file of the authorities whose certificates are trusted.
        time_left: seconds until the work must be done.
        clock: the wall clock, as libcurl's own clock stands still while Lambda freezes the function.
    """

    def __init__(
        self,
        *,
        connections: int,
        authorities: str,
        time_left: Callable[[], float] = lambda: 600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connections = connections
        self._authorities = authorities
        self._time_left = time_left
        self._clock = clock
        self._idle: list[tuple[pycurl.Curl, float]] = []
        self._lock = threading.Lock()

    def request(  # noqa: PLR0913 - all but two by keyword, as HTTP has so many
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        silence: float,
        expected: int | None = None,
    ) -> Answer:
        """Send a request, and return the answer once all of it is there. Redirects are not followed.

        libcurl sends a request again by itself where a kept connection ends before any byte of an answer.

        Args:
            method: HTTP's.
            url: sent as it is, dot segments included; quoted.
            headers: all but those that frame the message.
            body: all of it.
            silence: seconds within which the answer must be there; the time that `SLOWEST` gives a long body comes on
                top, but not beyond the time that is left.
            expected: bytes that the answer's body has at most, where that is known.

        Raises:
            Broken: no answer came, or not all of it. The request may have arrived nevertheless.
            TooLarge: the answer's body has more bytes than `expected`, or than `LARGEST`, and was not read.
            ValueError: a header has a line break.
        """
        curl = self._take()
        lines: list[bytes] = []
        data = BytesIO()
        try:
            self._prepare(curl, method, url, headers, body)
            self._limit(curl, silence, max(len(body or b""), expected or 0))
            limit = LARGEST if expected is None else max(expected, _LEAST)
            curl.setopt(pycurl.MAXFILESIZE_LARGE, 0 if method == "HEAD" else limit)  # 0 is none: it tells a length
            curl.setopt(pycurl.HEADERFUNCTION, lines.append)
            curl.setopt(pycurl.WRITEFUNCTION, data.write)
            curl.perform()
        except pycurl.error as error:
            code = error.args[0]
            if code == pycurl.E_FILESIZE_EXCEEDED:
                self._release(curl, len(body or b""))
                raise TooLarge(_answer(lines, b"")) from error
            reason = curl.errstr()
            curl.close()
            if code == pycurl.E_OPERATION_TIMEDOUT:
                self.close()  # what let this connection fall silent did so to the others
            raise Broken(f"{reason} (libcurl {code})") from error
        except BaseException:
            curl.close()
            raise
        self._release(curl, len(body or b"") + data.tell())
        return _answer(lines, data.getvalue())

    def close(self) -> None:
        """Close the connections that no thread uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for curl, _ in idle:
            curl.close()

    def _take(self) -> pycurl.Curl:
        """Return a handle that no other thread uses, with its connections unless they idled for too long."""
        with self._lock:
            curl, since = self._idle.pop() if self._idle else (None, 0.0)
        if curl is not None:
            if 0 <= self._clock() - since <= IDLE_MAX:
                return curl
            curl.close()
            self.close()  # the others idled for longer
        return self._made()

    def _release(self, curl: pycurl.Curl, held: int) -> None:
        """Keep a handle, but not the bodies that it holds, unless their bytes are few."""
        if held > _LEAST:
            curl.unsetopt(pycurl.WRITEFUNCTION)
            curl.setopt(pycurl.POSTFIELDS, b"")
        with self._lock:
            self._idle.append((curl, self._clock()))
            oldest = self._idle.pop(0)[0] if len(self._idle) > self._connections else None
        if oldest is not None:
            oldest.close()

    def _made(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        for option, value in (
            (pycurl.CAINFO, self._authorities),
            (pycurl.NOSIGNAL, 1),
            (pycurl.USERAGENT, "cross-cloud-replicator"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.MAXAGE_CONN, int(IDLE_MAX)),
            (pycurl.TCP_KEEPALIVE, 1),
            (pycurl.BUFFERSIZE, 256 * 1024),
            (pycurl.UPLOAD_BUFFERSIZE, 256 * 1024),
            (pycurl.SOCKOPTFUNCTION, _bound_unsent),
        ):
            curl.setopt(option, value)
        return curl

    def _prepare(
        self, curl: pycurl.Curl, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Accept-Encoding: identity", "Accept:", "Expect:"]  # the last two libcurl would send by itself
        if "Content-Type" not in headers:
            lines.append("Content-Type:")  # libcurl would name a form's
        text = "\n".join(lines)
        if text.count("\n") >= len(lines) or "\r" in text:
            raise ValueError(f"a header of {method} {url} has a line break")
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, text.encode("latin-1").split(b"\n"))
        if method == "HEAD":
            curl.unsetopt(pycurl.CUSTOMREQUEST)
            curl.setopt(pycurl.NOBODY, 1)
            return
        if body is None and method not in {"POST", "PUT", "PATCH"}:
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POSTFIELDS, body or b"")  # held, not copied
        curl.setopt(pycurl.CUSTOMREQUEST, method)

    def _limit(self, curl: pycurl.Curl, silence: float, size: int) -> None:
        """Set the limits on time, and on speed where the longer body may have so many bytes that it is long."""
        is_long = size >= _LONG
        flow = size / SLOWEST if is_long else 0.0
        whole = min(silence + flow, max(silence, self._time_left()))
        curl.setopt(pycurl.TIMEOUT_MS, math.ceil(whole * 1000))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, math.ceil(min(CONNECT, silence) * 1000))
        curl.setopt(pycurl.LOW_SPEED_LIMIT, SLOWEST if is_long else 0)
        curl.setopt(pycurl.LOW_SPEED_TIME, min(_STALL, math.ceil(silence)) if is_long else 0)


def _bound_unsent(descriptor: int, _purpose: int) -> int:
    """Let the kernel take no more than `_UNSENT` bytes that cannot leave yet; libcurl calls it for each new socket."""
    with suppress(OSError):  # a system without the option
        made = socket.socket(fileno=descriptor)
        try:
            made.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT)
        finally:
            made.detach()
    return pycurl.SOCKOPT_OK


def _answer(lines: list[bytes], data: bytes) -> Answer:
    status, is_whole = 0, False
    headers: dict[str, str] = {}
    for line in b"".join(lines).decode("latin-1").replace("\r\n", "\n").split("\n")[:-1]:
        name, colon, value = line.partition(":")
        if line.startswith("HTTP/"):  # of the last answer, after those that say to go on
            status, is_whole = int(line.split()[1]), False
            headers.clear()
        elif colon:
            lower, value = name.lower(), value.lstrip(" \t")
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        is_whole = is_whole or not line
    if not is_whole:  # libcurl takes what came before the connection ended for all of the headers
        raise Broken("the headers of the answer end early")
    return Answer(status, headers, data)
