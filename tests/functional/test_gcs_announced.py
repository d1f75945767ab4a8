"""An insert whose head leaves before its bytes are there; what it shares with others is in `test_gcs_small`."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace

import pytest

from handler.adapters.gcs import GcsDestination
from handler.adapters.gcs_announced import LEAD, AnnouncedPut
from handler.adapters.gcs_client import connect
from handler.errors import Moved, Unavailable
from handler.model import ABSENT, KIB, SMALL, Generation, Original, Replica, Rule, Span, Stamp
from handler.ports import Reader
from handler.reconcile import Route, reconcile
from tests.fakes import MemorySource, breaks, crc32c, reader
from tests.functional.conftest import Bucket
from tests.functional.wire import Trouble, Wire, sends

DATA = random.Random(3).randbytes(4 * KIB)  # noqa: S311 - bytes, not a secret
RULE = Rule(id="r", source="bucket", destination="gs://bucket")


def put(gcs: GcsDestination, body: Reader, stamp: Stamp = Stamp(), *, told: int | None = None) -> Replica:
    with closing(gcs.announce("k", body.size if told is None else told, expect=ABSENT)) as announced:
        return announced.put(body, stamp)


def test_it_is_one_post_of_the_size_that_was_told(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    replica = put(gcs, reader(DATA), Stamp(metadata={"a": "b"}))
    (request,) = wire.requests
    assert (request.method, request.query["ifGenerationMatch"]) == ("POST", "0")
    assert int(request.headers["Content-Length"]) == len(request.body)
    assert request.body.index(DATA) == LEAD
    resource = json.loads(request.body.split(b"\r\n\r\n")[1].partition(b"\r\n")[0])
    assert (resource["name"], resource["crc32c"], resource["metadata"]) == ("k", crc32c(DATA), {"a": "b"})
    assert gcs_bucket.data("k") == DATA
    assert gcs.head("k") == replica


def test_the_connection_is_kept(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    for key in "abc":
        with closing(gcs.announce(key, 4, expect=ABSENT)) as announced:
            announced.put(reader(b"data"), Stamp())
    ((pool, *none),) = (gcs._client._pools.values(),)
    assert not none
    assert len(pool._idle) == 1
    assert gcs_bucket.names() == {"a", "b", "c"}


def test_the_head_leaves_before_there_is_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers only once GCS has the head."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with closing(connect()) as client:
            announced = GcsDestination(client, "b").announce("k", 4, expect=ABSENT)
            with listener.accept()[0] as server:
                server.settimeout(10)
                head = server.recv(65536)
                announced.close()
                rest = server.recv(65536)
    assert head.startswith(b"POST /upload/storage/v1/b/b/o?uploadType=multipart&ifGenerationMatch=0 HTTP/1.1\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert rest == b"", "it was given up"


@dataclass
class _Asked:
    """A source that asks at once, and a destination that is told of puts: in which order it comes about."""

    source: MemorySource
    seen: list[str] = field(default_factory=list)

    def head(self, key: str) -> Original | None:
        return self.source.head(key)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        return self.source.parts(original, exact=exact)

    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> AbstractContextManager[Reader]:
        self.seen.append("asked")
        return self._opened(key, at, span)

    @contextmanager
    def _opened(self, key: str, at: Original | None, span: Span | None) -> Iterator[Reader]:
        self.seen.append("awaited")
        with self.source.open(key, at=at, span=span) as body:
            yield body


@pytest.mark.parametrize("told", [None, 4096])
def test_s3_is_asked_then_gcs_is_told_then_s3s_answer_is_awaited(
    gcs: GcsDestination, monkeypatch: pytest.MonkeyPatch, told: int | None
) -> None:
    source = _Asked(MemorySource())
    source.source.put("k", DATA)
    announce = GcsDestination.announce

    def noted(gcs: GcsDestination, key: str, size: int, *, expect: Generation) -> AnnouncedPut:
        source.seen.append(f"told of {size}")
        return announce(gcs, key, size, expect=expect)

    monkeypatch.setattr(GcsDestination, "announce", noted)
    reconcile(Route(source=source, destination=gcs, rules=(RULE,)), "k", guess_absent=True, announced=told)
    assert source.seen == ["asked", *([f"told of {told}"] if told else []), "awaited"]


def test_one_that_is_given_up_stores_nothing(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    gcs.announce("k", 4, expect=ABSENT).close()
    with pytest.raises(Unavailable):
        put(gcs, breaks(DATA))
    assert gcs_bucket.names() == set()
    assert wire.requests == [], "none has a body"


@pytest.mark.parametrize("sent", [0, 1, LEAD, LEAD + 4095])
def test_gcs_stores_nothing_of_half_a_body(gcs_bucket: Bucket, sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is killed between head and body, or within it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_bucket.url)
    with closing(connect()) as client:
        announced = GcsDestination(client, gcs_bucket.name).announce("k", len(DATA), expect=ABSENT)
        begun = announced._begun
        assert begun
        body, _ = announced._body({"name": "k"}, None, DATA)
        begun._connection.send(body[:sent], None)
        announced.close()
        assert gcs_bucket.names() == set()
        assert GcsDestination(client, gcs_bucket.name).head("k") == Replica()


@pytest.mark.parametrize("told", [0, 1, 4095, 4097, SMALL, SMALL + 1])
def test_an_object_of_another_size_than_the_event_said_is_put_all_the_same(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, told: int
) -> None:
    put(gcs, reader(DATA), told=told)
    assert wire.methods() == ["POST"]
    assert gcs_bucket.data("k") == DATA


def test_one_with_more_metadata_than_there_is_room_for_is_put_all_the_same(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    stamp = Stamp(metadata={"long": "x" * LEAD})
    put(gcs, reader(DATA), stamp)
    assert wire.methods() == ["POST"]
    assert gcs_bucket.resource("k")["metadata"] == stamp.metadata


def test_one_that_turns_out_large_goes_by_a_session(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    large = DATA * (SMALL // len(DATA)) + b"x"
    assert put(gcs, reader(large), told=5).size == len(large)
    assert gcs_bucket.data("k") == large


@pytest.mark.parametrize("status", [401, 411])
def test_where_it_is_not_taken_as_it_came_an_ordinary_one_is(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, status: int
) -> None:
    wire.plan(sends("POST"), Trouble(status=status))
    put(gcs, reader(DATA))
    assert [request.status for request in wire.requests] == [status, 200]
    assert gcs_bucket.data("k") == DATA


def test_a_rivals_object_is_not_overwritten(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    with closing(gcs.announce("k", len(DATA), expect=ABSENT)) as announced:
        gcs_bucket.insert("k", b"rival")
        with pytest.raises(Moved):
            announced.put(reader(DATA), Stamp())
    assert gcs_bucket.data("k") == b"rival"
    assert wire.methods() == ["POST"]


def held(source: MemorySource) -> bytes | None:
    if not source.head("k"):
        return None
    with source.open("k") as body:
        return body.read()


def _gone(source: MemorySource) -> None:
    source.delete("k")


def _huge(source: MemorySource) -> None:
    source.put("k", DATA * (SMALL // len(DATA)) + b"x")


def _other(source: MemorySource) -> None:
    source.put("k", b"other")


@pytest.mark.parametrize("change", [_gone, _huge, _other, lambda _source: None], ids=["gone", "huge", "other", "none"])
def test_whatever_the_source_turns_out_to_hold_the_end_is_equal(
    gcs: GcsDestination, gcs_bucket: Bucket, change: Callable[[MemorySource], None]
) -> None:
    source = MemorySource()
    source.put("k", DATA)
    change(source)
    route = Route(source=source, destination=gcs, rules=(RULE,))
    reconcile(route, "k", guess_absent=True, announced=len(DATA))
    assert gcs_bucket.data("k") == held(source)


def test_a_gcs_that_is_not_there_is_said_by_the_put(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with closing(connect()) as client:
        gcs = GcsDestination(client, "b", time_left=lambda: 0.0, sleep=lambda _seconds: None)
        announced = gcs.announce("k", 4, expect=ABSENT)
        with closing(announced), pytest.raises(Unavailable):
            announced.put(reader(b"data"), Stamp())


def test_a_token_that_was_refused_is_renewed(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    class Credentials:
        token, valid, refreshed = "old", True, 0

        def apply(self, headers: dict[str, str]) -> None:
            headers["authorization"] = f"Bearer {self.token}"

        def refresh(self, _request: object) -> None:
            self.token, self.refreshed = "new", self.refreshed + 1

    gcs._client.credentials = credentials = Credentials()
    wire.plan(sends("POST"), Trouble(status=401))
    wire.plan(sends("POST"), Trouble(status=401))
    put(gcs, reader(DATA))
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer old", "Bearer old", "Bearer new"]
    assert credentials.refreshed == 1
    assert gcs_bucket.data("k") == DATA


def test_what_is_stored_is_what_an_ordinary_put_stores(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    stamp = Stamp(metadata={"größe": "groß"})
    ordinary = gcs.put("other", reader(DATA), stamp, expect=ABSENT)
    announced = put(gcs, reader(DATA), stamp)
    assert replace(announced, generation=ordinary.generation) == ordinary
