"""A server that answers byte for byte what it is told to, and notes every request and its connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

HANG_UP = b""
"""Close the connection in place of an answer."""


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    connection: int
    method: str
    target: str
    headers: Mapping[str, str]
    """Their names in lower case."""

    @property
    def by_boto3(self) -> bool:
        """Whether boto3 sent it."""
        return "Boto3" in self.headers["user-agent"]


@dataclass
class Scripted:
    """Where it listens, what it will answer, and what has come."""

    port: int
    answers: deque[bytes] = field(default_factory=deque)
    default: bytes = HANG_UP
    """Answered once there is nothing else."""
    by_target: Mapping[str, bytes] = field(default_factory=dict)
    """Answered to requests whose target has this text, before all else."""
    requests: list[Request] = field(default_factory=list)


def answer(status: str, headers: bytes = b"", body: bytes = b"") -> bytes:
    """Write down an answer; the length of the body comes by itself."""
    length = b"" if b"ontent-" in headers else b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %s\r\n%s%s\r\n%s" % (status.encode(), headers, length, body)


def error_answer(status: str, code: str = "", body: bytes | None = None) -> bytes:
    """Write down an error as S3 does, or with another body."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    return answer(
        status, b"Content-Type: application/xml\r\n" + b"Content-Length: %d\r\n" % len(body or text), body or text
    )


PLAIN = b'ETag: "5d41402abc4b2a76b9719d911017c592"\r\nLast-Modified: Sun, 22 Nov 2026 20:00:00 GMT\r\n'
HELLO = answer("200 OK", PLAIN, b"hello")
"""An object of five bytes."""


@contextmanager
def scripted(tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Run one on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        server, open_, done = Scripted(listener.getsockname()[1]), list[socket.socket](), threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, server, tls, open_, done.is_set))
        thread.start()
        try:
            yield server
        finally:
            done.set()
            thread.join()
            for each in open_:
                each.close()


def _accept(
    listener: socket.socket,
    server: Scripted,
    tls: ssl.SSLContext | None,
    open_: list[socket.socket],
    is_done: Callable[[], bool],
) -> None:
    number = 0
    while not is_done():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        number += 1
        connection.settimeout(10)
        threading.Thread(target=_serve, args=(connection, server, tls, number), daemon=True).start()
        open_.append(connection)


def _serve(connection: socket.socket, server: Scripted, tls: ssl.SSLContext | None, number: int) -> None:
    try:
        with tls.wrap_socket(connection, server_side=True) if tls else connection as wire:
            while text := _head(wire):
                line, *rest = text.decode("latin-1").split("\r\n")
                method, target, _ = line.split(" ")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
                server.requests.append(Request(number, method, target, headers))
                told = next((told for text, told in server.by_target.items() if text in target), None)
                if told is None:
                    told = server.answers.popleft() if server.answers else server.default
                if not told:
                    return
                head, end, body = told.partition(b"\r\n\r\n")
                wire.sendall(head + end if method == "HEAD" else told)
                if method == "GET" and b"Content-Length: %d\r\n" % len(body) not in head + b"\r\n":
                    return
    except OSError:
        return  # the client hung up


def _head(wire: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        if not (more := wire.recv(65536)):
            return b""
        text += more
    return text[:-4]
