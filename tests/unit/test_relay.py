"""The benchmarks' wide-area network: by an injected clock what it does to time, over sockets what it leaves alone."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.benchmarks.relay import MS, PROFILES, Bucket, Heads, Lane, Log, Schedule, Way, listen, ways, window
from tests.benchmarks.shim import MIB


def test_a_byte_is_on_its_way_for_the_delay() -> None:
    schedule = Schedule(0.045)
    assert [schedule.arrival(10, now) for now in (1.0, 1.001, 5.0)] == pytest.approx([1.045, 1.046, 5.045])


def test_nothing_leaves_before_the_connection_is_made() -> None:
    schedule = Schedule(0.045, opens=10.09)
    assert schedule.arrival(10, 10.0) == pytest.approx(10.135)
    assert schedule.arrival(10, 11.0) == pytest.approx(11.045)


def test_a_rate_holds_from_the_first_byte_on_and_saves_nothing_up() -> None:
    bucket = Bucket(100.0)
    assert [bucket.passed(50, now) for now in (0.0, 0.0, 10.0)] == pytest.approx([0.5, 1.0, 10.5])


def test_pieces_on_their_way_add_their_times_on_the_wire_but_not_their_delays() -> None:
    schedule = Schedule(1.0, [Bucket(100.0)])
    assert [schedule.arrival(100, 0.0) for _ in range(3)] == pytest.approx([2.0, 3.0, 4.0])


def test_connections_share_the_total_rate_and_each_keeps_its_own() -> None:
    total = Bucket(150.0)
    one, other = (Schedule(0.0, [Bucket(100.0), total]) for _ in range(2))
    assert one.arrival(150, 0.0) == pytest.approx(2.5)
    assert other.arrival(150, 0.0) == pytest.approx(3.5)


def test_an_end_never_overtakes_the_bytes_before_it() -> None:
    schedule = Schedule(0.5, [Bucket(10.0)])
    assert schedule.arrival(100, 0.0) == schedule.arrival(0, 0.1) == pytest.approx(10.5)


@dataclass
class Far:
    """A clock that is set, timers that ring when it is, and a far side that notes what came when."""

    now: float = 0.0
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    came: list[tuple[float, bytes]] = field(default_factory=list)
    throttled: list[bool] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        self.came.append((self.now, data))

    def write_eof(self) -> None:
        self.came.append((self.now, b""))

    def lane(self, schedule: Schedule, size: int = MIB) -> Lane:
        lane = Lane(
            schedule,
            size,
            clock=lambda: self.now,
            call_at=lambda when, do: self.timers.append((when, do)),
            throttle=self.throttled.append,
        )
        lane.sink = self
        return lane

    def run(self) -> None:
        while self.timers:
            self.timers.sort(key=lambda timer: timer[0])
            self.now, do = self.timers.pop(0)
            do()


def test_a_lane_hands_over_in_order_when_it_is_time() -> None:
    far = Far()
    lane = far.lane(Schedule(1.0))
    lane.feed(b"a")
    far.now = 0.25
    lane.feed(b"b")
    lane.then(far.write_eof)
    assert far.came == []
    far.run()
    assert far.came == [(1.0, b"a"), (1.25, b"b"), (1.25, b"")]


def test_a_lane_without_delay_hands_over_at_once() -> None:
    far = Far()
    far.lane(Schedule(0.0)).feed(b"a")
    assert far.came == [(0.0, b"a")]
    assert far.timers == []


def test_a_full_window_stops_reading_until_there_is_room() -> None:
    far = Far()
    lane = far.lane(Schedule(1.0), 10)
    lane.feed(b"a" * 6)
    lane.feed(b"b" * 6)
    assert far.throttled == [True]
    far.run()
    assert far.throttled == [True, False]


def test_a_far_side_that_takes_no_more_holds_the_lane() -> None:
    far = Far()
    lane = far.lane(Schedule(0.0))
    lane.block(True)
    lane.feed(b"a")
    assert far.came == []
    lane.block(False)
    assert far.came == [(0.0, b"a")]


def test_the_profiles_are_those_of_the_issue() -> None:
    told = {p.name: (p.s3 / MS, p.gcs / MS, p.per_connection, p.total) for p in PROFILES.values()}
    assert told == {
        "lan": (0, 0, None, None),
        "us-east": (2, 15, None, None),
        "ocean": (2, 90, 25e6, None),
        "lambda": (0, 0, None, 75e6),
    }
    assert [name for name, profile in PROFILES.items() if profile.is_free] == ["lan"]


def test_both_sides_of_an_instance_share_its_rate() -> None:
    s3, gcs = ways(PROFILES["lambda"], "a:1", "b:2", link=3)
    assert (s3.link, s3.total, gcs.link, gcs.total) == (3, 75e6, 3, 75e6)


def test_the_window_holds_the_rate_over_the_round_trip() -> None:
    assert window(Way(upstream="", rtt=0.09, per_connection=25e6)) == 4_500_000
    assert window(Way(upstream="", total=75e6)) == 256 << 10
    assert window(Way(upstream="", rtt=1.0)) == 8 * MIB


REQUESTS = (
    b"GET /a?x HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /b HTTP/1.1\r\ncontent-length: 24\r\n\r\nGET /no HTTP/1.1\r\n\r\n1234"
    b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n14;x=y\r\nGET /no HTTP/1.1\r\n\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    b"DELETE /d HTTP/1.1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_requests_are_counted_however_they_are_cut_and_bodies_are_not(size: int) -> None:
    found: list[tuple[str, str]] = []
    heads = Heads(lambda method, target: found.append((method, target)))
    for start in range(0, len(REQUESTS), size):
        heads.feed(REQUESTS[start : start + size])
    assert found == [("GET", "/a?x"), ("POST", "/b"), ("PUT", "/c"), ("DELETE", "/d")]


Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relayed(serve: Served, **way: float) -> AsyncIterator[tuple[int, Log]]:
    """A server behind a relay; the relay's port and its log."""
    log = Log()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    (relay,) = await listen([Way(upstream=upstream, **way)], log)  # type: ignore[arg-type] # numbers all
    async with server, relay:
        yield relay.sockets[0].getsockname()[1], log
        while log.ends:  # noqa: ASYNC110 - a connection never closed is a fault, and ends in the time limit
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("way", [{}, {"rtt": 0.002}, {"rtt": 0.002, "per_connection": 50e6, "total": 80e6}])
def test_bytes_pass_unharmed_both_ways_and_so_does_a_half_close(way: dict[str, float]) -> None:
    sent = random.Random(1).randbytes(3 * MIB + 17)  # noqa: S311 - bytes, not a secret

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.read()  # up to the client's half-close
        writer.write(body[::-1])
        writer.write_eof()
        await writer.drain()
        writer.close()

    async def run() -> tuple[bytes, Log]:
        async with relayed(serve, **way) as (port, log):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.write_eof()
            body = await reader.read()
            writer.close()
            await writer.wait_closed()
            return body, log

    body, log = asyncio.run(run())
    assert body == sent[::-1]
    assert log.bytes[0] == 2 * len(sent)
    assert log.connections[0] == 1


def test_a_reset_by_the_server_reaches_the_client_as_one() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset(writer)

    async def run() -> None:
        async with relayed(serve, rtt=0.002) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(run())


def test_a_reset_by_the_client_reaches_the_server_as_one() -> None:
    ended: list[type[BaseException] | None] = []

    async def run() -> None:
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readexactly(1)
                writer.write(b"y")
                await reader.read()
                ended.append(None)
            except ConnectionError as error:
                ended.append(type(error))
            writer.close()
            done.set()

        async with relayed(serve) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            await reader.readexactly(1)
            reset(writer)
            await done.wait()

    asyncio.run(run())
    assert ended == [ConnectionResetError]


def test_a_server_that_is_not_there_is_a_reset() -> None:
    async def run() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            log = Log()
            (relay,) = await listen([Way(upstream=f"127.0.0.1:{free.getsockname()[1]}")], log)
            async with relay:
                reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname())
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
                while log.ends:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.001)

    asyncio.run(run())


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    held = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
