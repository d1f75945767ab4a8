"""Our own HTTP/1.1: what it makes of every answer, held against the standard library's, and how it uses connections."""

from __future__ import annotations

import base64
import gc
import http.client
import inspect
import io
import re
import socket
import ssl
import struct
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from ipaddress import ip_address
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import certifi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.adapters import http as module
from handler.adapters import http_connection
from handler.adapters.http import Answer, Pool
from handler.adapters.http_connection import Broken, Connection
from handler.model import KIB, MIB
from tests.functional.scripted import HANG_UP, Scripted, answer, scripted

SOON, LONG = 0.05, 10.0
"""Seconds of silence: that are to pass, and that are not."""
SECRET = "Bearer unspeakable"
OK = answer("200 OK", body=b"ok")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
SAFE = ["GET", "HEAD"]
UNSAFE = METHODS[2:]


# --- what an answer says, of bytes that come in pieces


@contextmanager
def told(*parts: bytes, method: str = "GET", more: bool = False) -> Iterator[tuple[Answer, list[Connection]]]:
    """What is made of them, each coming by itself, and the connections that may be kept. `more` might come after."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection, kept = Connection(near), list[Connection]()
    connection.set_timeout(LONG)
    with far, closing(connection):
        sender = threading.Thread(target=_send_all, args=(far, parts, more))
        sender.start()
        try:
            yield Answer(connection, kept.append, bare=method == "HEAD"), kept
        finally:
            connection.close()
            sender.join()


def _send_all(far: socket.socket, parts: Sequence[bytes], more: bool) -> None:  # noqa: FBT001 - a thread's arguments
    with suppress(BrokenPipeError, ConnectionResetError):
        for part in parts:
            far.send(part)
        if not more:
            far.shutdown(socket.SHUT_WR)


def read_all(answer: Answer, found: list[bytes], *sizes: int | None) -> None:
    """Read to the end, by these in turn, into `found`."""
    turns = deque(sizes)
    while data := answer.read(turns[0]):
        found.append(data)
        turns.rotate()


def pieces(data: bytes, size: int = 60000) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


BODY = b"hello, world"
HEAD = b'HTTP/1.1 200 Fine\r\nETag: "a: b"\r\nX-None:\r\nx-Blank: \t b \r\n'
LENGTH = HEAD + b"Content-Length: 12 \t\r\n\r\n" + BODY
CHUNKS = b'5\r\nhello\r\n002;name=val;"x\r\n, \r\n5 ; a\r\nworld\r\n'
CHUNKED = HEAD + b"Transfer-Encoding: Chunked \r\n\r\n" + CHUNKS + b"0;last\r\nTrailer: a\r\nAnother: b\r\n\r\n"
CLOSED = HEAD + b"\r\n" + BODY
SAID = {"etag": '"a: b"', "x-none": "", "x-blank": "b "}
FRAMED = {"length": LENGTH, "chunked": CHUNKED, "closed": CLOSED}


@pytest.mark.parametrize("kind", FRAMED)
def test_an_answer_is_the_same_wherever_it_is_cut(kind: str) -> None:
    whole = FRAMED[kind]
    for cut in range(1, len(whole)):
        with told(whole[:cut], whole[cut:], more=kind != "closed") as (answer, kept):
            assert (answer.status, answer.data) == (200, BODY)
            assert {name: answer.headers[name] for name in SAID} == SAID
            assert {"ETag", "X-None", "x-Blank"} <= {*answer.names.values()}
            assert [connection.is_usable() for connection in kept] == ([] if kind == "closed" else [True])


@pytest.mark.parametrize("size", [None, 1, 5, 7, 12, 100])
@pytest.mark.parametrize("kind", FRAMED)
def test_an_answer_is_read_in_any_sizes(kind: str, size: int | None) -> None:
    with told(*pieces(FRAMED[kind], 1), more=kind != "closed") as (answer, kept):
        found = []
        while data := answer.read(size):
            assert answer.read(0) == b""
            assert size is None or len(data) <= size
            found.append(data)
        assert b"".join(found) == BODY
        assert answer._connection is None, "it is done with"
        assert answer.read() == answer.read(1) == b""
        assert len(kept) == (kind != "closed")


@pytest.mark.parametrize("length", [b"0", b"000"])
def test_a_body_of_no_bytes_leaves_the_connection_at_once(length: bytes) -> None:
    with told(b"HTTP/1.1 200 \r\nContent-Length: %s\r\n\r\n" % length, more=True) as (answer, kept):
        assert len(kept) == 1
        assert answer.data == b""
    with told(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n\r\n" % length, more=True) as (answer, kept):
        assert answer.data == b""
        assert len(kept) == 1


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304), ("PUT", 204)])
def test_what_has_no_body_has_none_whatever_it_says(method: str, status: int, framing: bytes) -> None:
    with told(b"HTTP/1.1 %d \r\n%s\r\n" % (status, framing), method=method, more=True) as (answer, kept):
        assert (answer.status, answer.data) == (status, b"")
        assert [connection.is_usable() for connection in kept] == [True]


def test_what_comes_before_the_answer_is_skipped() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    for size in (1, 60000):
        with told(*pieces(early + LENGTH, size), more=True) as (answer, _):
            assert (answer.status, answer.data) == (200, BODY)
            assert "link" not in answer.headers


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        (b"HTTP/1.1 200 \r\n", True),
        (b"HTTP/1.1 200 \r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 \r\nConnection: Keep-Alive, CLOSE\r\n", False),
        (b"HTTP/1.1 200 \r\nConnection: a\r\nconnection: close\r\n", False),
        (b"HTTP/1.1 200 \r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.0 200 \r\n", False),
        (b"HTTP/1.0 200 \r\nConnection: Keep-Alive\r\n", True),
    ],
)
@pytest.mark.parametrize(
    "body", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
def test_a_connection_is_kept_unless_the_server_says_otherwise(head: bytes, body: bytes, *, is_kept: bool) -> None:
    with told(head + body, more=True) as (answer, kept):
        assert answer.data == b"ok"
        assert len(kept) == is_kept


def test_headers_of_one_name_are_joined_and_keep_their_first_spelling() -> None:
    head = b"HTTP/1.1 200 \r\nX-One: a\r\nx-two: b\r\nx-ONE:c\r\nX-TWO:   d\r\nX-One:\r\nContent-Length: 0\r\n\r\n"
    for size in (1, 60000):
        with told(*pieces(head, size)) as (answer, _):
            assert answer.headers == {"x-one": "a, c, ", "x-two": "b, d", "content-length": "0"}
            assert answer.names == {"x-one": "X-One", "x-two": "x-two", "content-length": "Content-Length"}


def test_a_head_may_be_longer_than_what_is_read_at_once() -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 1000) for number in range(198))
    head = b"HTTP/1.1 200 \r\n" + lines + b"Content-Length: 2\r\n\r\n"
    with told(*pieces(head + b"ok")) as (answer, _):
        assert answer.data == b"ok"
        assert answer.headers["x-197"] == "v" * 1000


LONGEST = 65536
BAD_HEADS = [
    (b"", "ended without an answer"),
    (b"HTTP/1.1 200", "ended within a line"),
    (b"HTTP/1.1 200 OK\r\n", "ended without an answer"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "ended without an answer"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", "ended without an answer"),
    (b"\r\n\r\n", "empty"),
    (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "empty|not HTTP"),
    (b"no http at all\r\n\r\n", "not HTTP"),
    (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
    (b"ICY 200 OK\r\n\r\n", "not HTTP"),
    (b"http/1.1 200 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 \r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 twohundred\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 20 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 099 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 2\xb20 OK\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 200 " + b"x" * LONGEST + b"\r\n\r\n", "too long"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * LONGEST + b"\r\n\r\n", "too long"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n", "too long"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" + b" folded\r\n" * 200 + b"\r\n", "too long"),
    (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header"),
    (b"HTTP/1.1 200 OK\r\n folded: at once\r\n: no name\r\n\r\n", "no header"),
    (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", "no header"),
    (b"HTTP/1.1 200 OK\r\nX: one\rContent-Length: 0\r\n\r\n", "line break"),
    (b"HTTP/1.1 200 OK\r\nX: one\r\r\n\r\n", "line break"),
    (b"HTTP/1.1 200 OK\r\n\r\r\nX: one\r\n\r\n", "line break"),
    *[
        (b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nhello" % length, "Content-Length")
        for length in (
            b"",
            b"five",
            b"-5",
            b"+5",
            b"5.0",
            b"5_0",
            b"0x5",
            b"5, 5",
            b"5\r\nContent-Length: 5",
            b"9" * 5000,
        )
    ],
    *[
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % coding, "Transfer-Encoding")
        for coding in (b"", b"gzip, chunked", b"identity", b"chunked\r\nTransfer-Encoding: chunked")
    ],
]


@pytest.mark.parametrize(("head", "text"), BAD_HEADS, ids=[f"{n}" for n in range(len(BAD_HEADS))])
def test_a_head_that_is_none_is_broken(head: bytes, text: str) -> None:
    for size in (1, 60000) if len(head) < 5000 else (60000,):
        with pytest.raises(Broken, match=text) as caught, told(*pieces(head, size)):
            pass
        assert len(str(caught.value)) < 300


BAD_CHUNKS = [
    b"",
    b"5",
    b"5\r\n",
    b"5\r\nhel",
    b"5\r\nhello",
    b"5\r\nhello\r",
    b"5\r\nhello\r\n",
    b"5\r\nhello\r\n0",
    b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello\r\n0\r\nTrailer: a\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello, world\r\n0\r\n\r\n",
    b"5\r\nhello, 5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\nx\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n",
    *[
        b"5\r\nhello\r\n%s\r\nhello\r\n0\r\n\r\n" % size
        for size in (b"", b";5", b"x", b"-5", b"-1", b"+5", b"0x5", b"0_5", b"5 5", b"f" * 16, b"f" * 70000)
    ],
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS, ids=[f"{n}" for n in range(len(BAD_CHUNKS))])
@pytest.mark.parametrize("size", [None, 1, 3, 4096])
def test_chunks_that_are_none_break_after_what_came_before(chunks: bytes, size: int | None) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    with told(*pieces(raw)) as (answer, kept):
        found = list[bytes]()
        with pytest.raises(Broken):
            read_all(answer, found, size)
        came = len(re.match(rb"5\r\n(.{,5})|", chunks)[1] or b"")  # type: ignore[index] # it always matches
        assert b"".join(found) == (
            b"" if size is None else b"hell\r"[:came] if b"hell\r" in chunks else b"hello"[:came]
        )
        assert kept == []
        assert answer.read() == b"", "it is done with"


@pytest.mark.parametrize("size", [None, 1, 4, 7, 100])
def test_a_body_that_ends_early_breaks_after_what_came(size: int | None) -> None:
    with told(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel", b"lo, ") as (answer, kept):
        found = list[bytes]()
        with pytest.raises(Broken, match="bytes early"):
            read_all(answer, found, size)
        assert b"".join(found) == (b"" if size is None else b"hello, ")
        assert kept == []
    for raw in (b"Content-Length: 10\r\n\r\nhello, ", b"Transfer-Encoding: chunked\r\n\r\na\r\nhello, "):
        with told(b"HTTP/1.1 200 OK\r\n" + raw) as (answer, _), pytest.raises(Broken):
            answer.data  # noqa: B018 - it reads


@pytest.mark.parametrize("size", [1000, MIB, 4 * MIB])
def test_a_long_body_that_comes_too_slowly_breaks_after_what_came(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    clock = count()
    monkeypatch.setattr(http_connection, "monotonic", clock.__next__)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * MIB)
    left = 2 * MIB - 5 * 60000
    with told(head, *pieces(bytes(2 * MIB))) as (answer, kept):
        found = list[bytes]()
        with pytest.raises(Broken, match=f"came too slowly, and was given up {left} bytes early"):
            read_all(answer, found, size)
        assert kept == []
    assert len(b"".join(found)) == 5 * 60000


def test_what_comes_slowly_is_waited_for_where_it_is_short_or_fast_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(http_connection, "monotonic", clock.__next__)
    short, long = (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) for size in (MIB - 1, MIB))
    with told(*pieces(short)) as (answer, kept):
        assert len(answer.data) == MIB - 1
        assert len(kept) == 1
    monkeypatch.setattr(http_connection, "SLOWEST", 59000)
    with told(*pieces(long), *pieces(short)) as (answer, kept):
        assert len(answer.data) == MIB
        monkeypatch.setattr(http_connection, "SLOWEST", MIB)
        assert len(Answer(kept[0], kept.append, bare=False).data) == MIB - 1, "the one before was watched, this is not"


@pytest.mark.parametrize("size", [None, 4])
def test_more_than_memory_has_is_broken(size: int | None) -> None:
    """A server may announce what it likes."""
    for raw in (
        b"Content-Length: " + b"9" * 15 + b"\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 15 + b"\r\nhello",
    ):
        with told(b"HTTP/1.1 200 OK\r\n" + raw) as (answer, _), pytest.raises(Broken):
            read_all(answer, [], size)


@pytest.mark.parametrize(
    ("raw", "is_kept"),
    [
        (b"Content-Length: 12\r\n\r\n" + BODY, True),
        (b"Content-Length: 65536\r\n\r\n" + bytes(65536), True),
        (b"Content-Length: 65537\r\n\r\n" + bytes(65537), False),
        (b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"0\r\n\r\n", True),
        (b"Transfer-Encoding: chunked\r\n\r\n10001\r\n" + bytes(65537) + b"\r\n0\r\n\r\n", False),
        (b"\r\n" + BODY, False),
        (b"Content-Length: 13\r\n\r\n" + BODY, False),
        (b"Content-Length: 13\r\n\r\n", False),
    ],
)
def test_the_rest_of_an_answer_is_drained_where_it_is_short(raw: bytes, *, is_kept: bool) -> None:
    raw = b"HTTP/1.1 404 Not Found\r\n" + raw
    with told(*pieces(raw)) as (answer, kept):
        answer.drain()
        assert len(kept) == is_kept
        assert answer.read() == b""
        answer.drain()
        answer.close()


def test_nothing_is_read_where_the_rest_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with told(b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", more=True) as (answer, kept):
        monkeypatch.setattr(answer, "read", pytest.fail)
        answer.drain()
        assert kept == []


def test_an_answer_may_be_json() -> None:
    for body, said in ((b'{"a": [1]}', {"a": [1]}), (b"null", None)):
        with told(b"HTTP/1.1 200 OK\r\n\r\n" + body) as (answer, _):
            assert answer.json() == answer.json() == said
    for body in (b"", b"<html>", b"\xff\xfe{"):
        with told(b"HTTP/1.1 200 OK\r\n\r\n" + body) as (answer, _), pytest.raises(ValueError):
            answer.json()


# --- held against the standard library's


class Read(NamedTuple):
    """What a client makes of an answer; None of what it could not make anything."""

    status: int | None
    headers: dict[str, str] | None
    names: dict[str, str] | None
    body: bytes | None
    came: bytes = b""
    """Of a body that breaks: what was read before."""


def by_library(raw: bytes, method: str) -> tuple[Read, bool]:
    """What http.client reads, and whether the head is one that it found in order."""
    wire: Any = type("Wire", (), {"makefile": lambda _, mode: io.BytesIO(raw)})()
    with closing(http.client.HTTPResponse(wire, method=method)) as response:
        try:
            response.begin()
        except (http.client.HTTPException, ValueError):
            return Read(None, None, None, None), True
        head: Message = response.headers
        names = {name.lower(): name for name in reversed(head.keys())}
        headers = {name: ", ".join(map(unfolded, head.get_all(name, []))) for name in names}
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            return Read(response.status, headers, names, None, error.partial), not head.defects
        except (ValueError, OverflowError, MemoryError):
            return Read(response.status, headers, names, None), not head.defects
        return Read(response.status, headers, names, body), not head.defects


def unfolded(value: str) -> str:
    first, *more = re.split(r"\r?\n", value)
    return " ".join([first, *(line.strip() for line in more)])


def by_us(parts: Sequence[bytes], method: str, sizes: Sequence[int]) -> Read:
    """What we read, by `sizes` in turn where there are any."""
    found = list[bytes]()
    try:
        with told(*parts, method=method) as (answer, _):
            head = answer.status, dict(answer.headers), dict(answer.names)
            try:
                read_all(answer, found, *(sizes or (None,)))
            except Broken:
                return Read(*head, None, b"".join(found))
            return Read(*head, b"".join(found))
    except Broken:
        return Read(None, None, None, None)


def cut_up(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
    return [raw[start:stop] for start, stop in pairwise(ends)]


@dataclass(frozen=True)
class Told:
    """An answer as a server might give it."""

    raw: bytes
    body: bytes
    method: str
    lasts: bool
    """Whether nothing in it tells where it ends."""


VISIBLE = st.characters(codec="latin-1", exclude_categories=["Cc"])
ODD = st.sampled_from(
    ["x-a", "X-A", "x-A", "X-b", "x-amz-meta-Owner", "X-Amz-Meta-owner", "ETag", "etag", "!#$%&'*+.^_`|~9"]
)
NAMES = ODD | st.text("ABCabc-_09", min_size=1, max_size=8).map("x-".__add__)
BLANKS = st.sampled_from(["", " ", "\t", "  \t "])
VALUES = st.text(VISIBLE, max_size=12)
FOLDS = st.sampled_from(["", "", "", "\r\n more", "\r\n\t and \r\n  more "])
LINES = st.builds(
    lambda name, blank, value, fold: (name, blank, value, fold if value.strip() else ""), NAMES, BLANKS, VALUES, FOLDS
)


@st.composite
def tellings(draw: st.DrawFn) -> Told:
    """Any answer that RFC 9112 allows, and that http.client reads in no other way."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT"]))
    status = draw(st.sampled_from([200, 206, 204, 304, 308, 404, 412, 503]) | st.integers(200, 999))
    bare = method == "HEAD" or status in {204, 304}
    lines = [f"{name}:{blank}{value}{fold}" for name, blank, value, fold in draw(st.lists(LINES, max_size=6))]
    lines += draw(st.sampled_from([[], [], ["Connection: close"], ["connection: Keep-Alive"]]))
    body, kind = draw(st.binary(max_size=200)), draw(st.sampled_from(["length", "chunked", "closed"]))
    framed = body
    if kind == "length":
        lines.insert(
            draw(st.integers(0, len(lines))),
            f"{draw(st.sampled_from(['Content-Length', 'content-LENGTH']))}: {len(body)}",
        )
    elif kind == "chunked" and not bare:  # of what has no body http.client would read one, against RFC 9112, 6.3
        lines.insert(
            draw(st.integers(0, len(lines))), f"transfer-Encoding: {draw(st.sampled_from(['chunked', 'CHUNKED']))}"
        )
        chunks = cut_up(body, draw(st.lists(st.integers(0, 200), max_size=4)))
        size, extension = st.sampled_from(["%x", "%X", "%04x"]), st.sampled_from(["", "", ";a=b", ' ; a="b"'])
        framed = b"".join(
            f"{draw(size) % len(chunk)}{draw(extension)}\r\n".encode() + chunk + b"\r\n" for chunk in chunks
        )
        trailers = draw(st.sampled_from(["", "", "X-Sum: a\r\n", "X-Sum: a\r\nx-b:\r\n"]))
        framed += f"0{draw(extension)}\r\n{trailers}\r\n".encode()
    version, reason = (
        draw(st.sampled_from(["1.1", "1.1", "1.0"])),
        draw(st.sampled_from(["", " ", " OK", " Not Found: \xff"])),
    )
    early = draw(st.sampled_from(["", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100\r\nX-A: b\r\n\r\n"]))
    head = early + "\r\n".join([f"HTTP/{version} {status}{reason}", *lines]) + "\r\n\r\n"
    head = head.replace("\r\n", draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"])))
    return Told(head.encode("latin-1") + (b"" if bare else framed), b"" if bare else body, method, kind == "closed")


CUTS = st.lists(st.integers(0, 2000), max_size=8)
SIZES: st.SearchStrategy[list[int]] = st.just([]) | st.lists(st.integers(1, 90), min_size=1, max_size=3)


@settings(max_examples=120, deadline=None)
@given(tellings(), CUTS, SIZES)
def test_every_answer_reads_as_the_librarys(said: Told, cuts: list[int], sizes: list[int]) -> None:
    library, orderly = by_library(said.raw, said.method)
    assert orderly
    assert library.body == said.body
    assert by_us(cut_up(said.raw, cuts), said.method, sizes) == library


@settings(max_examples=120, deadline=None)
@given(tellings(), st.integers(0, 2000), CUTS, SIZES)
def test_an_answer_that_is_cut_short_breaks_wherever_it_can_be_known(
    said: Told, end: int, cuts: list[int], sizes: list[int]
) -> None:
    """The library takes the end of a connection for that of a head or of trailers; we do not."""
    end %= len(said.raw)
    raw = said.raw[:end]
    library, _ = by_library(raw, said.method)
    ours = by_us(cut_up(raw, cuts), said.method, sizes)
    head_ends = re.compile(rb"(?:HTTP/1.1 100.*?\r?\n\r?\n)?.*?\r?\n\r?\n", re.DOTALL).match(said.raw)
    assert head_ends
    if end < head_ends.end():
        assert ours == Read(None, None, None, None)
    elif said.lasts:
        assert ours == library
        assert ours.body == said.body[: end - head_ends.end()]
    else:
        assert ours.body is None
        assert ours[:3] == library[:3]
        assert said.body.startswith(ours.came)
        assert library.body is not None or not sizes or ours.came.startswith(library.came)


CHANGED = st.tuples(st.integers(0, 2000), st.sampled_from(list(b"\r\n :;,0159aFx+-_\t\x00\x0b\x85\xff")))


@settings(max_examples=200, deadline=None)
@given(tellings(), st.lists(CHANGED, min_size=1, max_size=3), CUTS, SIZES)
def test_whatever_comes_is_read_as_the_library_does_or_is_broken(
    said: Told, changes: list[tuple[int, int]], cuts: list[int], sizes: list[int]
) -> None:
    """We refuse more than it does; what we take, we take as it does, but for these.

    - Of a 204 and a 304 it reads chunks, which RFC 9112, 6.3 says are none; it takes 101 to 199 for final.
    - A head that is out of order ends for it at the first such line; here its other lines count.
    - It takes the bytes of a chunk for all, where less came than the end of the connection.
    """
    raw = bytearray(said.raw)
    for at, byte in changes:
        raw[at % len(raw)] = byte
    library, orderly = by_library(bytes(raw), said.method)
    ours = by_us(cut_up(bytes(raw), cuts), said.method, sizes)
    if ours.status is None or not orderly or (library.status or 0) < 200:
        return
    assert ours[:3] == library[:3]
    if ours.body is not None and ours.status not in {204, 304}:
        assert ours.body == library.body


# --- connections


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        server.default = OK
        yield server


@contextmanager
def pool_to(port: int, scheme: str = "http", host: str = "127.0.0.1", **settings: Any) -> Iterator[Pool]:
    with closing(Pool(f"{scheme}://{host}:{port}/", **{"connections": 5, **settings})) as pool:
        yield pool


@pytest.fixture
def pool(server: Scripted) -> Iterator[Pool]:
    with pool_to(server.port) as pool:
        yield pool


def ask(pool: Pool, method: str = "GET", body: bytes | None = None, *, timeout: float = LONG, **headers: str) -> Answer:
    """Ask, and read all of the answer."""
    answer = pool.request(method, "/", headers, body, timeout=timeout)
    assert answer.data is not None
    return answer


def idle(pool: Pool) -> list[Connection]:
    return list(pool._idle)


def wait_for_news(pool: Pool) -> None:
    """Wait until the server has done something to the idle connection."""
    (connection,) = idle(pool)
    assert connection._poll.poll(1000 * LONG)


@dataclass
class Server:
    """One whose connections a test serves itself."""

    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    """All of each, as it came."""
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released for every connection that is done with."""

    def receive(self, wire: socket.socket) -> bytes:
        """Return the next request; none where the client hung up."""
        text = b""
        while (end := text.find(b"\r\n\r\n") + 4) < 4 or len(text) < end + announced(text[:end]):
            if not (more := wire.recv(1 << 20)):
                return b""
            text += more
        self.requests.append(text)
        return text


def announced(head: bytes) -> int:
    found = re.search(rb"Content-Length: (\d+)", head)
    return int(found[1]) if found else 0


Serve = Callable[[Server, socket.socket], object]


@contextmanager
def served(
    serve: Serve, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", receives: int = 0
) -> Iterator[Server]:
    """Run one on loopback. What it still does at the end is given up. `receives`: bytes that it buffers at most."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener, ThreadPoolExecutor(8) as threads:
        server, wires = Server(listener.getsockname()[1]), list[socket.socket]()
        if receives:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)

        def accept() -> None:
            while True:
                wires.append(listener.accept()[0])
                wires[-1].settimeout(LONG)
                wires[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.connections += 1
                threads.submit(run, wires[-1])

        def run(wire: socket.socket) -> None:
            with suppress(OSError), tls.wrap_socket(wire, server_side=True) if tls else wire as spoken:
                serve(server, spoken)
            wire.close()
            server.ended.release()

        accepting = threads.submit(accept)
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                accepting.result()
            for wire in wires:
                with suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)


def always(server: Server, wire: socket.socket) -> None:
    """Answer every request."""
    while request := server.receive(wire):
        wire.sendall(OK.removesuffix(b"ok") if request.startswith(b"HEAD ") else OK)


def once(server: Server, wire: socket.socket) -> None:
    """Answer one request and close the connection, without having said that it would be."""
    if request := server.receive(wire):
        wire.sendall(OK.removesuffix(b"ok") if request.startswith(b"HEAD ") else OK)


def silently(server: Server, wire: socket.socket) -> None:
    """Answer nothing."""
    while server.receive(wire):
        pass


def test_requests_one_after_another_take_one_connection(server: Scripted, pool: Pool) -> None:
    empty = b"Content-Type: a\r\n"
    server.answers.extend(
        [
            OK,
            answer("200 OK"),
            answer("204 No Content", empty),
            answer("404 Not Found", body=b"no"),
            answer("500 Oops", body=b"x" * 70000),
        ]
    )
    statuses = [ask(pool, method).status for method in ["GET", "PUT", "DELETE", "PATCH", "GET", *METHODS * 2]]
    assert statuses == [200, 200, 204, 404, 500, *[200] * 12]
    assert [request.method for request in server.requests[5:]] == METHODS * 2
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_requests_at_once_take_one_each_and_no_more_are_kept_than_may_be(limit: int) -> None:
    met = threading.Barrier(3)

    def serve(server: Server, wire: socket.socket) -> None:
        while server.receive(wire):
            met.wait(LONG)
            wire.sendall(OK)

    with served(serve) as server, pool_to(server.port, connections=limit) as pool, ThreadPoolExecutor(3) as threads:
        for turn in range(2):
            list(threads.map(lambda _: ask(pool), range(3)))
            kept = min(limit, 3)
            assert len(idle(pool)) == kept
            assert server.connections == 3 + turn * (3 - kept)
            for _ in range(3 - kept):
                assert server.ended.acquire(timeout=LONG), "what is not kept is closed"


def test_connections_that_are_given_back_at_once_are_not_more_than_may_be() -> None:
    started, met = threading.Barrier(2), threading.Barrier(2)

    class Together(deque[Connection]):
        def append(self, connection: Connection, /) -> None:
            met.wait(LONG)
            super().append(connection)

    def serve(server: Server, wire: socket.socket) -> None:
        while server.receive(wire):
            started.wait(LONG)
            wire.sendall(OK)

    with served(serve) as server, pool_to(server.port, connections=1) as pool, ThreadPoolExecutor(2) as threads:
        pool._idle = Together()
        list(threads.map(lambda _: ask(pool), range(2)))
        assert len(idle(pool)) == 1


def test_a_connection_whose_answer_is_not_read_is_not_used_again(server: Scripted, pool: Pool) -> None:
    first, second = (pool.request("GET", "/", {}, timeout=LONG) for _ in range(2))
    assert (second.read(1), first.read(), second.read()) == (b"o", b"ok", b"k")
    third = pool.request("GET", "/", {}, timeout=LONG)
    third.close()
    assert third.read() == b""
    ask(pool)
    assert [request.connection for request in server.requests] == [1, 2, 2, 1]


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_that_the_server_ended_meanwhile_is_found_out_before_it_is_used(method: str) -> None:
    with served(once) as server, pool_to(server.port) as pool:
        for number in (1, 2):
            assert ask(pool, method).status == 200
            wait_for_news(pool)
            assert (server.connections, len(server.requests)) == (number, number)


@pytest.mark.parametrize("method", METHODS)
def test_what_nobody_asked_for_answers_nothing(method: str) -> None:
    """As where a server grows tired of waiting, and says so."""
    read = threading.Event()

    def serve(server: Server, wire: socket.socket) -> None:
        while server.receive(wire):
            wire.sendall(answer("200 OK"))
            read.wait(LONG)
            wire.sendall(answer("408 Request Timeout"))

    with served(serve) as server, pool_to(server.port) as pool:
        for number in (1, 2):
            read.clear()
            assert ask(pool, method).status == 200
            read.set()
            wait_for_news(pool)
            assert server.connections == number


EMPTY = answer("204 No Content", b"Content-Type: a\r\n")
IN_CHUNKS = answer("200 OK", b"Content-Type: a\r\nTransfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n")


@pytest.mark.parametrize("told", [OK, EMPTY, IN_CHUNKS])
def test_what_comes_along_with_an_answer_is_not_taken_for_the_next(told: bytes) -> None:
    def serve(server: Server, wire: socket.socket) -> None:
        while server.receive(wire):
            wire.sendall(told + answer("200 OK", body=b"stolen"))

    with served(serve) as server, pool_to(server.port) as pool:
        for number in (1, 2, 3):
            assert ask(pool, "POST").data == (b"" if told == EMPTY else b"ok")
            assert server.connections == number


@pytest.mark.parametrize("bad", [HANG_UP, b"no http\r\n\r\n", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"])
@pytest.mark.parametrize("method", SAFE)
def test_what_a_kept_connection_fails_to_answer_is_asked_on_a_new_one(
    server: Scripted, pool: Pool, method: str, bad: bytes
) -> None:
    server.answers.extend([OK, bad])
    assert ask(pool).status == ask(pool, method).status == ask(pool).status == 200
    assert [request.connection for request in server.requests] == [1, 1, 2, 2]


@pytest.mark.parametrize(("method", "connections", "requests"), [("GET", 5, 3 + 2 + 2), ("POST", 4, 3 + 1 + 1)])
def test_of_kept_connections_none_is_left_once_one_failed(method: str, connections: int, requests: int) -> None:
    """What lies in between may have forgotten all of them, and say so only when it is used: not by one try each."""
    met, failing = threading.Barrier(3), threading.Event()

    def serve(server: Server, wire: socket.socket) -> None:
        server.receive(wire)
        if not failing.is_set():
            met.wait(LONG)
        wire.sendall(OK)
        server.receive(wire)

    with served(serve) as server, pool_to(server.port) as pool, ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: ask(pool), range(3)))
        failing.set()
        with suppress(Broken) if method == "POST" else nullcontext():
            assert ask(pool, method).data == b"ok"
        assert idle(pool) == [] or method == "GET"
        assert ask(pool, method).data == b"ok"
        assert (server.connections, len(server.requests)) == (connections, requests)


@pytest.mark.parametrize("method", UNSAFE)
def test_what_may_have_arrived_is_not_sent_twice(server: Scripted, pool: Pool, method: str) -> None:
    server.answers.extend([OK, HANG_UP])
    ask(pool)
    with pytest.raises(Broken):
        ask(pool, method)
    assert [request.method for request in server.requests] == ["GET", method]
    assert ask(pool, method).status == 200


@pytest.mark.parametrize("method", METHODS)
def test_a_new_connection_that_fails_is_not_tried_again(server: Scripted, pool: Pool, method: str) -> None:
    server.answers.append(HANG_UP)
    with pytest.raises(Broken, match=r"^the connection ended without an answer$"):
        ask(pool, method)
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_kept", [False, True])
def test_silence_is_broken_and_not_asked_again(method: str, *, is_kept: bool) -> None:
    def serve(server: Server, wire: socket.socket) -> None:
        if is_kept:
            server.receive(wire)
            wire.sendall(OK)
        silently(server, wire)

    with served(serve) as server, pool_to(server.port) as pool:
        if is_kept:
            ask(pool)
        with pytest.raises(Broken, match=r"^TimeoutError: "):
            ask(pool, method, timeout=SOON)
        assert server.ended.acquire(timeout=LONG), "it is closed"
        assert (server.connections, len(server.requests)) == (1, 1 + is_kept)


@pytest.mark.parametrize("framing", [b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_silence_within_a_body_is_broken(framing: bytes) -> None:
    def serve(server: Server, wire: socket.socket) -> None:
        server.receive(wire)
        wire.sendall(b"HTTP/1.1 200 OK\r\n%s\r\n5\r\nhe" % framing)
        silently(server, wire)

    with served(serve) as server, pool_to(server.port) as pool:
        with pytest.raises(Broken, match=r"^TimeoutError: "):
            ask(pool, timeout=SOON)
        assert server.ended.acquire(timeout=LONG), "it is closed"
        assert len(server.requests) == 1


def test_a_connection_that_is_reset_within_a_body_is_broken() -> None:
    read = threading.Event()

    def serve(server: Server, wire: socket.socket) -> None:
        server.receive(wire)
        wire.sendall(b"HTTP/1.1 200 OK\r\n\r\nhe")
        read.wait(LONG)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with served(serve) as server, pool_to(server.port) as pool:
        answered = pool.request("GET", "/", {}, timeout=LONG)
        assert answered.read(2) == b"he"
        read.set()
        with pytest.raises(Broken, match=r"^ConnectionResetError: "):
            answered.read()
        assert server.connections == 1


def test_a_connection_is_closed_whatever_interrupts_a_request(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    ask(pool)
    (connection,) = idle(pool)
    monkeypatch.setattr(module, "Answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(pool)
    assert connection._socket.fileno() == -1
    assert idle(pool) == []


@pytest.mark.parametrize("end", ["close", "collect"])
def test_nothing_is_left_open(end: str) -> None:
    with served(always) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pool = Pool(f"http://127.0.0.1:{server.port}", connections=2)
        held = [pool.request("GET", "/", {}, timeout=LONG) for _ in range(4)]
        held.pop().close()
        for each in held:
            assert each.data == b"ok"
        there = weakref.ref(pool)
        if end == "close":
            pool.close()
        else:
            del pool, held, each
            gc.collect()
            assert there() is None
        for _ in range(4):
            assert server.ended.acquire(timeout=LONG)
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_a_pool_that_was_closed_may_be_used_again(server: Scripted, pool: Pool) -> None:
    ask(pool)
    pool.close()
    pool.close()
    ask(pool)
    assert [request.connection for request in server.requests] == [1, 2]


# --- what is sent


BODIES = [None, b"", b"x", b"x" * 65536, bytes(range(256)) * 257]


@pytest.mark.parametrize("body", BODIES, ids=[str(body if body is None else len(body)) for body in BODIES])
@pytest.mark.parametrize("method", METHODS)
def test_a_request_arrives_as_it_is(method: str, body: bytes | None) -> None:
    headers = {"X-A": " b: \xe9", "Authorization": "c"}
    with served(always) as server, pool_to(server.port) as pool:
        for _ in range(2):
            assert pool.request(method, "/a%20b?c=d&e", headers, body, timeout=LONG).data in {b"ok", b""}
        head = f"{method} /a%20b?c=d&e HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept-Encoding: identity\r\n"
        head += "X-A:  b: \xe9\r\nAuthorization: c\r\n"
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            head += f"Content-Length: {len(body or b'')}\r\n"
        assert server.requests == [head.encode("latin-1") + b"\r\n" + (body or b"")] * 2
        assert server.connections == 1


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://gcs", "gcs"),
        ("http://gcs:80", "gcs"),
        ("http://gcs:443", "gcs:443"),
        ("https://gcs:443/path?query", "gcs"),
        ("https://gcs:80/", "gcs:80"),
        ("https://user:word@gcs:443/", "gcs"),
        ("http://user:word@gcs:8080/", "gcs:8080"),
        ("http://[::1]", "[::1]"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://[::1]:443", "[::1]"),
    ],
)
def test_the_host_is_named_with_its_port_where_that_says_something(origin: str, host: str) -> None:
    assert Pool(origin, connections=1).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_host_may_be_an_address_of_either_kind_and_the_caller_may_name_it(host: str) -> None:
    with served(always, host=host.strip("[]")) as server, pool_to(server.port, host=host) as pool:
        ask(pool)
        ask(pool, Host="elsewhere")
        hosts = [[line for line in text.split(b"\r\n") if line.startswith(b"Host:")] for text in server.requests]
        assert hosts == [[f"Host: {host}:{server.port}".encode()], [b"Host: elsewhere"]]


@pytest.mark.parametrize(
    "origin", ["", "gcs", "gcs:80", "ftp://gcs", "http://", "https:///path", "http://gcs:port", "http://gcs:99999"]
)
def test_what_is_no_url_of_a_server_is_refused(origin: str) -> None:
    with pytest.raises(ValueError):
        Pool(origin, connections=1)


BAD_TARGETS = ["/a b", "/a\r\nX: y", "/a\n", "/a\r", "/a HTTP/1.1\r\nX: y\r\n\r\n", "/\u20ac"]
BAD_VALUES = ["a\r\nY: b", "a\nb", "a\rb", "\r\n\r\nGET /", "\n", "a\r\n b", "\u20ac"]
BAD_NAMES = ["X\r\nY", "X\n", "X\r", "\u20ac"]


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        *[("GET", target, {}) for target in BAD_TARGETS],
        *[("GET", "/", {"X": value}) for value in BAD_VALUES],
        *[("GET", "/", {name: "a"}) for name in BAD_NAMES],
        ("GET /", "/", {}),
        ("GET\r\n", "/", {}),
    ],
)
def test_a_head_that_would_say_something_else_is_not_sent(
    server: Scripted, pool: Pool, method: str, target: str, headers: dict[str, str]
) -> None:
    ask(pool)
    with pytest.raises(ValueError):
        pool.request(method, target, headers, timeout=LONG)
    ask(pool)
    assert [(request.connection, request.target) for request in server.requests] == [(1, "/")] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("is_kept", [False, True])
def test_an_answer_that_comes_before_all_is_sent_is_found(authority: Authority, scheme: str, *, is_kept: bool) -> None:
    """A condition is judged by the head alone; then the connection is ended, with most of the body unread."""

    def serve(server: Server, wire: socket.socket) -> None:
        if is_kept:
            server.receive(wire)
            wire.sendall(OK)
        while b"\r\n\r\n" not in wire.recv(4096):
            pass
        wire.sendall(answer("412 Precondition Failed", body=b"no"))

    tls = authority.context if scheme == "https" else None
    with served(serve, tls) as server, pool_to(server.port, scheme, authorities=authority.file) as pool:
        for number in (1, 2):
            if is_kept:
                ask(pool)
            answered = ask(pool, "PUT", bytes(16 << 20))
            assert (answered.status, answered.data) == (412, b"no")
            assert server.connections == number


# --- TLS


@dataclass(frozen=True)
class Authority:
    """One that signs for 127.0.0.1, and a server's side of TLS with what it signed."""

    file: str
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


def make_authority(folder: Path) -> Authority:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now, pem = datetime.now(UTC), serialization.Encoding.PEM
    ours, its = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        issuer, subject = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in ("authority", name)
        )
        number, hour = x509.random_serial_number(), timedelta(hours=1)
        return x509.CertificateBuilder(issuer, subject, key.public_key(), number, now - hour, now + hour)

    identity = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())
    use = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False) | {"key_cert_sign": True}
    root = certificate("authority", ours).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(x509.KeyUsage(**use), critical=True).add_extension(identity, critical=False)
    named = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity)
    leaf = certificate("server", its).add_extension(named, critical=False).add_extension(issuer, critical=False)
    private = its.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "root.pem").write_bytes(root.sign(ours, hashes.SHA256()).public_bytes(pem))
    (folder / "pair.pem").write_bytes(private + leaf.sign(ours, hashes.SHA256()).public_bytes(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")
    return Authority(str(folder / "root.pem"), context)


def test_a_server_that_the_authority_knows_by_this_name_is_trusted(authority: Authority) -> None:
    body = bytes(range(256)) * 4096
    with scripted(authority.context) as server, pool_to(server.port, "https", authorities=authority.file) as pool:
        server.default = answer("200 OK", body=body)
        for method in ("GET", "HEAD", "GET"):
            assert ask(pool, method).data == (body if method == "GET" else b"")
        assert [request.connection for request in server.requests] == [1, 1, 1]
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("method", METHODS)
def test_over_tls_a_connection_that_the_server_ended_is_found_out(authority: Authority, method: str) -> None:
    with served(once, authority.context) as server, pool_to(server.port, "https", authorities=authority.file) as pool:
        for number in (1, 2):
            ask(pool, method)
            wait_for_news(pool)
            assert (server.connections, len(server.requests)) == (number, number)


def test_a_server_of_another_name_is_not_trusted(authority: Authority) -> None:
    with (
        served(always, authority.context) as server,
        pool_to(server.port, "https", "localhost", authorities=authority.file) as pool,
    ):
        with pytest.raises(Broken, match=f"^no connection to localhost:{server.port}: .*[Hh]ostname"):
            ask(pool)
        assert server.requests == []


@pytest.mark.parametrize("known", ["another", "certifi's", "the system's"])
def test_a_server_that_no_authority_of_ours_knows_is_not_trusted(
    authority: Authority, tmp_path: Path, known: str
) -> None:
    files = {"another": make_authority(tmp_path).file, "certifi's": certifi.where(), "the system's": ""}
    with (
        served(always, authority.context) as server,
        pool_to(server.port, "https", authorities=files[known]) as pool,
    ):
        with pytest.raises(Broken, match="CERTIFICATE_VERIFY_FAILED"):
            ask(pool)
        assert server.requests == []


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        ("http://127.0.0.1:{gone}", "refused"),
        ("https://127.0.0.1:{gone}", "refused"),
        ("https://127.0.0.1:{silent}", "timed out"),
        ("https://127.0.0.1:{rude}", "SSL"),
        ("http://a..b", "Unicode"),
        (f"http://{'a' * 64}.example", "Unicode"),
    ],
)
def test_what_cannot_be_connected_to_is_broken(authority: Authority, origin: str, text: str) -> None:
    def rudely(server: Server, wire: socket.socket) -> None:
        wire.sendall(b"220 a server of mail\r\n")
        silently(server, wire)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = listener.getsockname()[1]
    with (
        served(lambda _, wire: wire.recv(1 << 16) and wire.recv(1 << 16)) as silent,
        served(rudely) as rude,
        closing(
            Pool(
                origin.format(gone=gone, silent=silent.port, rude=rude.port),
                connections=1,
                authorities=authority.file,
            )
        ) as pool,
        pytest.raises(Broken, match=f"^no connection to .*{text}"),
    ):
        ask(pool, timeout=SOON if "silent" in origin else LONG)


@pytest.mark.parametrize(("connect", "silence"), [(SOON, LONG), (LONG, SOON)])
def test_a_connection_is_not_waited_for_longer_than_for_an_answer_nor_than_that_takes(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, connect: float, silence: float
) -> None:
    monkeypatch.setattr(module, "CONNECT", connect)
    started = time.monotonic()
    with (
        served(silently) as server,
        pool_to(server.port, "https", authorities=authority.file) as pool,
        pytest.raises(Broken, match="timed out"),
    ):
        ask(pool, timeout=silence)
    assert time.monotonic() - started < LONG / 2


def test_the_addresses_of_a_host_share_the_time_for_a_connection(
    server: Scripted, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a host's addresses takes no connection: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as filling:
        for _ in range(3):
            wire = filling.enter_context(socket.socket())
            wire.setblocking(False)
            wire.connect_ex(full.getsockname())
        taken = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 15
        free = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
        monkeypatch.setattr(module, "CONNECT", 0.4)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [taken[0], free])
        assert ask(pool).data == b"ok"
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: taken)
        pool.close()
        started = time.monotonic()
        with pytest.raises(Broken, match="timed out"):
            ask(pool)
        assert time.monotonic() - started < 2


def test_once_connected_the_time_is_the_requests(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT", 3.0)
    for timeout in (LONG, LONG, 7.0):
        ask(pool, timeout=timeout)
        (connection,) = idle(pool)
        assert connection._socket.gettimeout() == timeout


def test_authorities_that_cannot_be_read_are_broken(tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_text("no certificate")
    for name in ("none.pem", "odd.pem"):
        with pool_to(9, "https", authorities=str(tmp_path / name)) as pool, pytest.raises(Broken):
            ask(pool)


# --- proxies


WORD, QUOTED = "user@:unspeakable/@", "user%40:unspeakable%2F%40"
"""A proxy's user and password, and how a URL has them."""


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment's, which has none else."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_


def passing_on(word: str = "") -> Serve:
    """Be a proxy that is asked to CONNECT to a port on loopback, by whoever knows this word."""
    basic = f"\r\nProxy-Authorization: Basic {base64.b64encode(word.encode()).decode()}\r\n".encode()

    def serve(server: Server, wire: socket.socket) -> None:
        head = server.receive(wire)
        where = re.match(rb"CONNECT 127\.0\.0\.1:(\d+) HTTP/1\.[01]\r\n", head)
        if not where or (word and basic not in head):
            wire.sendall(b"HTTP/1.1 %s\r\nConnection: close\r\n\r\n" % (b"407 Who?" if where else b"405 No"))
            return
        with socket.create_connection(("127.0.0.1", int(where[1]))) as upstream, ThreadPoolExecutor(1) as threads:
            wire.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a\r\n\r\n")
            threads.submit(pump, upstream, wire)
            pump(wire, upstream)

    return serve


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("word", ["", WORD])
@pytest.mark.parametrize("spelled", ["http://{}127.0.0.1:{}", "{}127.0.0.1:{}", "http://{}127.0.0.1:{}/"])
def test_a_proxy_is_asked_for_a_tunnel_and_sees_nothing_of_what_goes_through(
    authority: Authority, proxies: Callable[..., None], scheme: str, word: str, spelled: str
) -> None:
    """By http too: a proxy that reads along would have to be spoken to in another way."""
    tls = authority.context if scheme == "https" else None
    with served(passing_on(word)) as proxy, served(always, tls) as server:
        proxies(**{f"{scheme}_proxy": spelled.format(f"{QUOTED}@" if word else "", proxy.port)})
        with pool_to(server.port, scheme, authorities=authority.file, proxied=True) as pool:
            for _ in range(2):
                assert ask(pool, Authorization="Bearer ours").data == b"ok"
        (asked,) = proxy.requests
        assert asked.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.".encode())
        assert b"Bearer" not in asked
        assert (b"Proxy-Authorization" in asked) == bool(word)
        assert all(text.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:") for text in server.requests)
        assert [b"Proxy" in text for text in server.requests] == [False, False]
        assert server.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxied", "exempt", "other"),
    [
        (True, "127.0.0.1", False),
        (True, "example.com, 127.0.0.1:{}", False),
        (True, "*", False),
        (False, "", False),
        (True, "", True),
    ],
)
def test_a_proxy_is_passed_by_where_it_is_not_meant(
    authority: Authority, proxies: Callable[..., None], scheme: str, exempt: str, *, proxied: bool, other: bool
) -> None:
    """Where it is another scheme's, the server is exempt, or the pool never asks."""
    with served(always, authority.context if scheme == "https" else None) as server, served(silently) as proxy:
        meant = scheme if not other else {"http": "https", "https": "http"}[scheme]
        proxies(**{f"{meant}_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": exempt.format(server.port)})
        with pool_to(server.port, scheme, authorities=authority.file, proxied=proxied) as pool:
            assert ask(pool).data == b"ok"
        assert proxy.connections == 0


@pytest.mark.parametrize("exempt", ["::1", "other, ::1"])
def test_a_server_may_be_exempt_by_its_address(proxies: Callable[..., None], exempt: str) -> None:
    with served(always, host="::1") as server, served(silently) as proxy:
        proxies(http_proxy=f"http://127.0.0.1:{proxy.port}", no_proxy=exempt)
        with pool_to(server.port, host="[::1]", proxied=True) as pool:
            assert ask(pool).data == b"ok"
        assert proxy.connections == 0


@pytest.mark.parametrize("exempt", ["example.com", "127.0.0.1:1", "127.0.0.2"])
def test_a_server_that_is_not_exempt_goes_by_the_proxy(proxies: Callable[..., None], exempt: str) -> None:
    with served(passing_on()) as proxy, served(always) as server:
        proxies(http_proxy=f"http://127.0.0.1:{proxy.port}", no_proxy=exempt)
        with pool_to(server.port, proxied=True) as pool:
            assert ask(pool).data == b"ok"
        assert proxy.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        (passing_on("else:word"), "407"),
        (silently, "timed out"),
        (lambda *_: None, "."),
        (lambda _, wire: wire.sendall(b"no http\r\n\r\n"), "BadStatusLine"),
        (lambda _, wire: wire.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "502"),
    ],
)
def test_a_proxy_that_makes_no_tunnel_is_broken_and_its_password_not_told(
    authority: Authority, proxies: Callable[..., None], scheme: str, proxy: Serve, text: str
) -> None:
    with served(proxy) as refusing, served(always) as server:
        proxies(**{f"{scheme}_proxy": f"http://{QUOTED}@127.0.0.1:{refusing.port}"})
        with (
            pool_to(server.port, scheme, authorities=authority.file, proxied=True) as pool,
            pytest.raises(Broken, match=f"^no connection to 127.0.0.1:{server.port}: .*{text}") as caught,
        ):
            ask(pool, timeout=SOON if proxy is silently else LONG)
        assert refusing.ended.acquire(timeout=LONG), "it is closed"
        assert "unspeakable" not in told_of(caught.value)
        assert server.connections == 0


def told_of(error: BaseException) -> str:
    """All that could come into a log, but for the code of those who call."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


def test_no_text_holds_a_secret() -> None:
    """Not even where a server gives back what it was sent."""
    bad = deque(
        [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n"]
    )
    bad += [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ]

    def serve(server: Server, wire: socket.socket) -> None:
        request = server.receive(wire)
        wire.sendall(bad.popleft() if bad else request)

    for _ in range(len(bad) + 1):
        with served(serve) as server, pool_to(server.port) as pool, pytest.raises(Broken) as caught:
            ask(pool, "PUT", SECRET.encode(), Authorization=SECRET)
        assert "unspeakable" not in told_of(caught.value)
    with served(silently) as server, pool_to(server.port) as pool, pytest.raises(Broken) as caught:
        ask(pool, Authorization=SECRET, timeout=SOON)
    assert "unspeakable" not in told_of(caught.value)


# --- a request in two steps


def test_other_requests_may_come_between_a_request_and_its_answer(server: Scripted, pool: Pool) -> None:
    begun = pool.begin("GET", "/", {}, timeout=LONG)
    assert ask(pool).data == b"ok"
    assert begun.answer().data == b"ok"
    assert {request.connection for request in server.requests} == {1, 2}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_that_meets_a_connection_which_has_ended_is_asked_anew(method: str) -> None:
    def serve(server: Server, wire: socket.socket) -> None:
        if server.connections > 1:
            always(server, wire)
        elif server.receive(wire):
            wire.sendall(OK)
            server.receive(wire)  # and hangs up on the second

    with served(serve) as server, pool_to(server.port) as pool:
        assert ask(pool).data == b"ok"
        answered = pool.begin(method, "/", {}, timeout=LONG).answer()
        assert (answered.status, answered.data) == (200, b"ok" if method == "GET" else b"")
        assert server.connections == 2


def test_a_write_that_meets_a_connection_which_has_ended_is_broken() -> None:
    def serve(server: Server, wire: socket.socket) -> None:
        if server.receive(wire):
            wire.sendall(OK)
            wire.recv(65536)  # the head, and hangs up

    with served(serve) as server, pool_to(server.port) as pool:
        assert ask(pool).data == b"ok"
        begun = pool.begin("POST", "/", {}, b"data", timeout=LONG)
        assert server.ended.acquire(timeout=LONG)
        with pytest.raises(Broken):
            begun.answer()
        assert idle(pool) == []


# --- silence


def test_a_connection_that_idled_over_a_minute_of_wall_clock_is_not_used(server: Scripted) -> None:
    """Whoever is in between may have dropped it without a word, and Lambda may have frozen the function meanwhile."""
    now = [1_000_000.0]
    with pool_to(server.port, clock=lambda: now[0]) as pool:
        for passes in (0, module.IDLE_MAX, module.IDLE_MAX + 1, 0, -3600, 0):
            now[0] += passes
            ask(pool)
        assert [request.connection for request in server.requests] == [1, 1, 2, 2, 3, 3]
        assert len(idle(pool)) == 1, "what is not used is closed"


def slowly(server: Server, wire: socket.socket) -> None:
    """Take each request as a slow network does, and answer it at once when all of it is there."""
    size = 0
    while piece := wire.recv(64 * KIB):
        size += len(piece)
        time.sleep(len(piece) / RATE)
        if size >= SLOW:
            server.requests.append(b"")
            wire.sendall(OK)
            size = 0


SLOW, RATE, SILENT = 8 * MIB, 5 * MIB, 0.4
"""Bytes that `slowly` takes, how many in a second, and the seconds of silence that its client bears."""


@pytest.mark.parametrize("tls", [False, True])
def test_a_slow_upload_that_flows_is_not_cut(authority: Authority, *, tls: bool) -> None:
    """The upload takes several times the silence that is borne; the kernel has the last MiBs of it at once."""
    scheme, server_tls = ("https", authority.context) if tls else ("http", None)
    with (
        served(slowly, server_tls, receives=64 * KIB) as server,
        pool_to(server.port, scheme, authorities=authority.file) as pool,
    ):
        started = time.monotonic()
        assert ask(pool, "PUT", bytes(SLOW), timeout=SILENT).data == b"ok"
        assert time.monotonic() - started > 3 * SILENT


def test_an_upload_that_nobody_takes_any_more_is_silent() -> None:
    """The peer has all that fits into its buffers, and reads on no more."""

    def stops(server: Server, wire: socket.socket) -> None:
        wire.recv(64 * KIB)
        server.ended.acquire(timeout=LONG)

    with served(stops, receives=64 * KIB) as server, pool_to(server.port) as pool:
        for size in (256 * KIB, SLOW):
            started = time.monotonic()
            with pytest.raises(Broken, match="timed out"):
                ask(pool, "PUT", bytes(size), timeout=SOON)
            assert time.monotonic() - started < 20 * SOON
        server.ended.release(2)
