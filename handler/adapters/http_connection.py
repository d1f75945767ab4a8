"""One connection of `http`'s: what is sent on it, and what is read of it line by line."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
from io import BufferedReader, RawIOBase
from time import monotonic
from typing import Any

_LINE_MAX, _LINES_MAX = 65536, 200
_BUFFER = 65536
_AT_ONCE = 65536
"""Bytes of a body up to which it leaves with its head, and of a longer one that are sent at once."""
PATIENCE = 5.0
"""Seconds spent waiting for a long body, after which it is given up if it did not bring `SLOWEST` bytes in each."""
SLOWEST = 128 * 1024


class Broken(OSError):
    """No answer came, or not all of it: the connection could not be made, broke, fell silent, or spoke no HTTP."""


class Connection:
    """A socket, what was read of it, and whether it still is of use."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._raw = _Raw(made)
        self.file = BufferedReader(self._raw, _BUFFER)
        self.kept = False
        """Whether it has carried a request before."""
        self.idle_since = 0.0
        """Wall clock's, of when it was last given back."""
        self._timeout = -1.0
        self._poll = select.poll()
        self._poll.register(made, select.POLLIN)

    def set_timeout(self, seconds: float) -> None:
        """Let silence be an error after so long."""
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def watch(self, *, on: bool) -> None:
        """Let what comes so slowly that another connection may do better be as if it had ended, or no longer."""
        self._raw.watched, self._raw.too_slow = on, False
        self._raw.waited, self._raw.came = 0.0, 0

    def is_too_slow(self) -> bool:
        """Whether it was as if it had ended, for being so slow."""
        return self._raw.too_slow

    def is_usable(self) -> bool:
        """Whether the server has neither ended the connection nor said what nobody asked for."""
        self._raw.silent = True
        try:
            return not (self._poll.poll(0) or self.file.peek(1))
        finally:
            self._raw.silent = False

    def send(self, head: bytes, body: bytes | None) -> None:
        """Send a request. A server may answer before it has read all of it, and end the connection; then that is read.

        A long body is sent piece by piece, as the timeout of `sendall` is of the whole, however well it flows.

        Raises: OSError.
        """
        try:
            if body and len(body) > _AT_ONCE:
                self._socket.sendall(head)
                rest = memoryview(body)
                while rest:
                    rest = rest[self._socket.send(rest[:_AT_ONCE]) :]
                self._raw.unsent = unsent(self._socket)
            else:
                self._raw.unsent = 0
                self._socket.sendall(head + body if body else head)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            if not self._poll.poll(0):
                raise

    def lines(self) -> list[str]:
        """Return the lines of a head: at once where all of it has come, as it mostly has.

        Raises:
            Broken: there is none.
        """
        there = self.file.peek(1)
        end = there.find(b"\r\n\r\n")
        if end > 0 and there.count(b"\n", 0, end) == there.count(b"\r\n", 0, end) == there.count(b"\r", 0, end):
            found: list[bytes] = self.file.read(end + 4)[:end].split(b"\r\n")
        else:
            found = [self.line()]
            while found[-1] and len(found) <= _LINES_MAX:
                found.append(self.line())
            if found.pop():
                raise Broken("the head of the answer is too long")
        if not found or len(found) > _LINES_MAX:
            raise Broken("the head of the answer is empty, or too long")
        return [line.decode("latin-1") for line in found]

    def line(self) -> bytes:
        """Return the next line, without its end.

        Raises:
            Broken: it has none.
        """
        line: bytes = self.file.readline(_LINE_MAX)
        if not line.endswith(b"\n"):
            if len(line) == _LINE_MAX:
                raise Broken("a line of the answer is too long")
            raise Broken("the connection ended within a line" if line else "the connection ended without an answer")
        line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if b"\r" in line:  # https://www.rfc-editor.org/rfc/rfc9112#section-2.2
            raise Broken(f"a line break within a line: {line[:80]!r}")
        return line

    def close(self) -> None:
        """Let go of the socket."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._socket.close()


class _Raw(RawIOBase):
    """What comes from a socket. While what was sent still leaves, it is not silent."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self.unsent = 0
        """Bytes of a long request that the kernel still had when that was looked at last."""
        self.silent = False
        """Whether to say that nothing has come, without a look."""
        self.watched = False
        self.too_slow = False
        self.waited, self.came = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.silent:
            return None
        return self._watched(buffer) if self.watched else self._receive(buffer)

    def _receive(self, buffer: Any) -> int:
        while True:
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                before, self.unsent = self.unsent, unsent(self._socket) if self.unsent else 0
                if self.unsent >= before:
                    raise

    def _watched(self, buffer: Any) -> int:
        """Receive, or say that there is an end, so that nothing is lost of what a single read found until then."""
        if self.too_slow:
            return 0
        began = monotonic()
        count = self._receive(buffer)
        self.waited += monotonic() - began
        self.came += count
        if self.waited >= PATIENCE:
            self.too_slow = self.came < SLOWEST * self.waited
            self.waited, self.came = 0.0, 0
        return count


def unsent(made: socket.socket) -> int:
    """Return how many of the bytes that were sent have not arrived yet: the kernel takes MiBs of them at once.

    That is Linux's SIOCOUTQ, tcp(7); 0 where a system does not say.
    """
    try:
        return int(struct.unpack("i", fcntl.ioctl(made, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
