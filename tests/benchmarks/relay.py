"""A TCP relay that puts a wide-area network between a client and servers on loopback, and counts what passes.

`python -m tests.benchmarks.relay` is told on standard input, one line of JSON, what to relay (`Way`s), and answers with
a READY line that holds an address for each. After that each line read is answered with what has passed since the last.

Each direction is a pipe: bytes leave when the connection's rate and the rate of all allow it, and arrive half a round
trip later; several pieces are on their way at once. A connection is usable one round trip after it was made, with TLS
two. What is not modelled: loss, jitter, TCP's slow start, and the work of TLS.

Memory: `Profile.window` bytes for each direction of each connection, besides one piece of 256 KiB.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, cast

from tests.benchmarks.shim import MIB, ROOT

MS = 1e-3
MB = 1e6
_PIECE = 256 << 10
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What lies between the handler and the two clouds. No rate is no limit."""

    name: str
    s3: float = 0.0
    """Seconds there and back."""
    gcs: float = 0.0
    """Seconds there and back."""
    per_connection: float | None = None
    """Bytes a second, in each direction of each connection."""
    total: float | None = None
    """Bytes a second of all connections in both directions, those to S3 and those to GCS together."""
    tls: bool = False
    """Whether a new connection costs TLS's round trip as well."""

    @property
    def is_free(self) -> bool:
        """Whether a relay would change nothing."""
        return not (self.s3 or self.gcs or self.per_connection or self.total)


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="lan"),
        Profile(name="us-east", s3=2 * MS, gcs=15 * MS),
        Profile(name="ocean", s3=2 * MS, gcs=90 * MS, per_connection=25 * MB),
        Profile(name="lambda", total=75 * MB),
    )
}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One side of what is relayed."""

    upstream: str
    """host:port."""
    rtt: float = 0.0
    per_connection: float | None = None
    tls: bool = False
    link: int = 0
    """Ways with the same number share the total rate: one function instance."""
    total: float | None = None


def ways(profile: Profile, s3: str, gcs: str, *, link: int = 0) -> list[Way]:
    """Return the two sides of one function instance under a profile; `s3` and `gcs` are host:port."""
    common: dict[str, Any] = {
        "per_connection": profile.per_connection,
        "tls": profile.tls,
        "link": link,
        "total": profile.total,
    }
    return [Way(upstream=s3, rtt=profile.s3, **common), Way(upstream=gcs, rtt=profile.gcs, **common)]


class Bucket:
    """A rate that holds from the first byte on: each piece has passed when its size over the rate is over."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    def passed(self, size: int, now: float) -> float:
        """Return when these bytes, offered now, have passed."""
        self._free = max(self._free, now) + size / self._rate
        return self._free


class Schedule:
    """When the pieces of one direction arrive.

    Args:
        delay: seconds that every byte is on its way.
        buckets: rates that it passes, one after the other.
        opens: before that nothing leaves.
    """

    def __init__(self, delay: float, buckets: Sequence[Bucket] = (), opens: float = 0.0) -> None:
        self._delay = delay
        self._buckets = buckets
        self._opens = opens
        self._last = 0.0

    def arrival(self, size: int, now: float) -> float:
        """Return when a piece that is read now arrives; never before an earlier one."""
        leaves = max(now, self._opens)
        for bucket in self._buckets:
            leaves = bucket.passed(size, leaves)
        self._last = max(self._last, leaves + self._delay)
        return self._last


class Asked(NamedTuple):
    """One request that passed, and when the last byte of its answer came from the server so far."""

    way: int
    method: str
    target: str
    asked: float
    answered: float


class Heads:
    """Finds the heads of HTTP/1.1 requests in a connection's bytes, however they are cut."""

    def __init__(self, found: Callable[[str, str], None]) -> None:
        self._found = found
        self._head = bytearray()
        self._skip = 0
        self._chunked = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        start = 0
        while start < len(data):
            if self._skip:
                taken = min(self._skip, len(data) - start)
                self._skip -= taken
                start += taken
                continue
            end = b"\r\n" if self._chunked else b"\r\n\r\n"
            before = len(self._head)
            self._head += data[start : start + 65536]
            found = self._head.find(end, max(0, before - len(end)))
            if found < 0:
                start += len(self._head) - before
                continue
            start += found + len(end) - before
            line = bytes(self._head[:found])
            self._head.clear()
            if self._chunked:
                self._chunk(line)
            else:
                self._request(line.decode("latin-1"))

    def _request(self, head: str) -> None:
        first, *lines = head.lstrip("\r\n").split("\r\n")
        method, target, *_ = [*first.split(" "), "", ""]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._skip = 0 if self._chunked else int(headers.get("content-length") or 0)
        self._found(method, target)

    def _chunk(self, line: bytes) -> None:
        if not line:  # the end of the trailer
            self._chunked = False
            return
        with suppress(ValueError):
            size = int(line.partition(b";")[0], 16)
            self._skip = size + 2 if size else 0


@dataclass(frozen=True)
class Told:
    """What passed in a time."""

    requests: Sequence[Asked]
    bytes: Mapping[int, int]
    """By way, in both directions."""
    connections: Mapping[int, int]


@dataclass
class Log:
    """What has passed since it was last told."""

    requests: list[list[Any]] = field(default_factory=list)
    bytes: Counter[int] = field(default_factory=Counter)
    connections: Counter[int] = field(default_factory=Counter)
    ends: int = 0
    """Open now, two to a connection."""

    def told(self) -> dict[str, Any]:
        """Return it as JSON, and begin anew; what is not answered yet is told as answered when it was asked."""
        document = {
            "requests": self.requests,
            "bytes": {str(way): count for way, count in self.bytes.items()},
            "connections": {str(way): count for way, count in self.connections.items()},
        }
        self.requests, self.bytes, self.connections = [], Counter(), Counter()
        return document


class _Sink(Protocol):
    """What a lane needs of a transport."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...


class Lane:
    """One direction of one connection: what is read waits here until it arrives.

    Args:
        schedule: when what arrives.
        window: bytes that may be on their way before reading stops.
        clock: seconds that only grow.
        call_at: calls a function at a time of that clock.
        throttle: stops (True) and goes on (False) with reading.
    """

    def __init__(
        self,
        schedule: Schedule,
        window: int,
        *,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], object],
        throttle: Callable[[bool], None],
    ) -> None:
        self._schedule = schedule
        self._window = window
        self._clock = clock
        self._call_at = call_at
        self._throttle = throttle
        self._queue: deque[tuple[float, bytes | Callable[[], None]]] = deque()
        self._held = 0
        self._full = False
        self._blocked = False
        self._timer = False
        self.sink: _Sink | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece that was read."""
        now = self._clock()
        self._held += len(data)
        self._enter(self._schedule.arrival(len(data), now), data)
        if self._held >= self._window and not self._full:
            self._full = True
            self._throttle(True)

    def then(self, do: Callable[[], None]) -> None:
        """Do something once all that was read has arrived: pass on an end or a reset."""
        self._enter(self._schedule.arrival(0, self._clock()), do)

    def block(self, blocked: bool) -> None:  # noqa: FBT001 - the two states of a transport
        """Note whether the far side takes no more for now."""
        self._blocked = blocked
        self.pump()

    def pump(self) -> None:
        """Hand over what has arrived."""
        while self._queue and not self._blocked and self.sink is not None:
            due, what = self._queue[0]
            if due > self._clock():
                self._wait(due)
                return
            self._queue.popleft()
            if isinstance(what, bytes):
                self._held -= len(what)
                self.sink.write(what)
            else:
                what()
        if self._full and self._held < self._window:
            self._full = False
            self._throttle(False)

    def _enter(self, due: float, what: bytes | Callable[[], None]) -> None:
        self._queue.append((due, what))
        if not self._timer:
            self.pump()

    def _wait(self, due: float) -> None:
        if not self._timer:
            self._timer = True
            self._call_at(due, self._ring)
        if self._full and self._held < self._window:
            self._full = False
            self._throttle(False)

    def _ring(self) -> None:
        self._timer = False
        self.pump()


class _End(asyncio.Protocol):
    """One end of a connection: what it reads goes into a lane, and the other lane ends here."""

    transport: asyncio.Transport

    def __init__(self, connection: _Connection, *, near: bool) -> None:
        self._connection = connection
        self._near = near
        self.lost = self._heard_all = self._said_all = False
        self.lane: Lane
        """What this end reads goes in here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connection.log.ends += 1
        self.transport.set_write_buffer_limits(high=MIB)
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._near:
            self._connection.accepted()

    def data_received(self, data: bytes) -> None:
        self._connection.note(data, near=self._near)
        self.lane.feed(data)

    def eof_received(self) -> bool:
        self._heard_all = True
        self.lane.then(self._connection.other(self).end)
        return not self._said_all

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._connection.log.ends -= 1
        other = self._connection.other(self)
        if not other.lost:
            self.lane.then(other.reset if exc else other.close)

    def pause_writing(self) -> None:
        self._connection.other(self).lane.block(True)

    def resume_writing(self) -> None:
        self._connection.other(self).lane.block(False)

    def throttle(self, stop: bool) -> None:  # noqa: FBT001 - the two states of a transport
        if not self.lost and not self.transport.is_closing():
            (self.transport.pause_reading if stop else self.transport.resume_reading)()

    def end(self) -> None:
        """Half-close."""
        if not self.lost and not self.transport.is_closing():
            self._said_all = True
            with suppress(OSError):  # it was reset meanwhile
                self.transport.write_eof()
            if self._heard_all:
                self.transport.close()

    def close(self) -> None:
        if not self.lost:
            self.transport.close()

    def reset(self) -> None:
        """Pass a reset on."""
        if not self.lost:
            with suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()


class _Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, number: int, way: Way, total: Bucket | None, log: Log) -> None:
        self._number, self._way, self.log = number, way, log
        self._loop = asyncio.get_running_loop()
        opens = self._loop.time() + way.rtt * (2 if way.tls else 1)
        self.near, self.far = _End(self, near=True), _End(self, near=False)
        for end in (self.near, self.far):
            buckets = [Bucket(way.per_connection)] if way.per_connection else []
            end.lane = Lane(
                Schedule(way.rtt / 2, [*buckets, *([total] if total else [])], opens),
                window(way),
                clock=self._loop.time,
                call_at=self._loop.call_at,
                throttle=end.throttle,
            )
        self._heads = Heads(self._asked)
        self._last: list[Any] | None = None

    def other(self, end: _End) -> _End:
        return self.far if end is self.near else self.near

    def accepted(self) -> None:
        self.log.connections[self._number] += 1
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        host, _, port = self._way.upstream.rpartition(":")
        try:
            await self._loop.create_connection(lambda: self.far, host, int(port))
        except OSError:
            self.far.lost = True
            self.near.reset()
            return
        self.near.lane.sink, self.far.lane.sink = self.far.transport, self.near.transport
        self.near.lane.pump()

    def note(self, data: bytes, *, near: bool) -> None:
        """Count what passes, read at the end near the client or at the one near the server."""
        self.log.bytes[self._number] += len(data)
        if near:
            self._heads.feed(data)
        elif self._last:
            self._last[-1] = time.monotonic()

    def _asked(self, method: str, target: str) -> None:
        now = time.monotonic()
        self._last = [self._number, method, target, now, now]
        self.log.requests.append(self._last)


def window(way: Way) -> int:
    """Bytes that may be on their way in one direction: twice what rate and round trip hold, from 256 KiB to 8 MiB."""
    rates = [rate for rate in (way.per_connection, way.total) if rate]
    return int(min(8 * MIB, max(_PIECE, 2 * way.rtt * min(rates, default=1000 * MB))))


async def listen(relayed: Sequence[Way], log: Log) -> list[asyncio.Server]:
    """Begin to relay; return the servers, one for each way, each on a free port of loopback."""
    totals: dict[int, Bucket] = {}
    for way in relayed:
        if way.total:
            totals.setdefault(way.link, Bucket(way.total))

    def accept(number: int, way: Way) -> asyncio.Protocol:
        return _Connection(number, way, totals.get(way.link), log).near

    loop = asyncio.get_running_loop()
    return [
        await loop.create_server(lambda number=number, way=way: accept(number, way), "127.0.0.1", 0, backlog=512)  # type: ignore[misc] # mypy has no defaults of lambdas
        for number, way in enumerate(relayed)
    ]


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    log = Log()
    relayed = [Way(**way) for way in json.loads(sys.stdin.readline())]
    servers = await listen(relayed, log)
    _answer("READY", [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers])
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip():
            _answer("TOLD", log.told())
    for server in servers:
        server.close()


def _answer(word: str, document: Any) -> None:
    sys.stdout.write(f"{word} {json.dumps(document)}\n")
    sys.stdout.flush()


class Relay:
    """The relay as a process of its own, while the `with` block lasts."""

    urls: list[str]
    """One for each way."""

    def __init__(self, relayed: Sequence[Way]) -> None:
        self._ways = relayed

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.relay"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.urls = [f"http://{place}" for place in self._ask(json.dumps([asdict(way) for way in self._ways]))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait()

    def told(self) -> Told:
        """Return what has passed since the last call."""
        document = self._ask("told")
        return Told(
            [Asked(*request) for request in document["requests"]],
            {int(way): count for way, count in document["bytes"].items()},
            {int(way): count for way, count in document["connections"].items()},
        )

    def _ask(self, line: str) -> Any:
        if self.process.stdin is None or self.process.stdout is None:
            raise AssertionError("pipes were asked for")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the relay has ended with {self.process.wait()}")
        return json.loads(answer.partition(" ")[2])


def slower(profile: Profile, total: float) -> Profile:
    """Return the profile with another total rate."""
    return replace(profile, total=total)


def main() -> None:
    """Relay until standard input ends. select's timeouts are exact to some 50 us, epoll's to a millisecond."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
