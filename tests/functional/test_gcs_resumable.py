"""The GCS adapter's resumable session over connections that break, and servers that keep a part or answer oddly."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from handler.adapters.gcs import GcsDestination
from handler.adapters.gcs_session import CHUNK, TRIES
from handler.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.model import ABSENT, KIB, MIB, SMALL, Generation, Headers, Rule, Stamp
from handler.reconcile import Route, reconcile
from tests.fakes import BadReader, MemorySource, breaks, crc32c, ends_early, reader, too_long
from tests.functional.conftest import Bucket, Slept
from tests.functional.wire import LOST, Request, Trouble, Wire, every, ranges, sends

DATA = random.Random(3).randbytes(2 * CHUNK + 3 * MIB + 17)  # noqa: S311 - bytes, not a secret
SIZE = len(DATA)
RULE = Rule(id="r", source="bucket", destination="gs://bucket")


def puts(wire: Wire) -> list[Request]:
    """The PUTs that carry bytes."""
    return [request for request in wire.requests if request.method == "PUT" and request.body]


def span(request: Request) -> tuple[int, int]:
    first, _, last = request.range.removeprefix("bytes ").partition("/")[0].partition("-")
    return int(first), int(last) + 1


def put(gcs: GcsDestination, data: bytes = DATA, expect: Generation = ABSENT) -> None:
    replica = gcs.put("k", reader(data), Stamp(), expect=expect)
    assert (replica.size, replica.crc32c) == (len(data), crc32c(data))


def assert_given_up(wire: Wire, bucket: Bucket, was: bytes | None = None) -> None:
    """The session was cancelled, no object was deleted, and what is visible is what was there."""
    deletes = [request for request in wire.requests if request.method == "DELETE"]
    assert [bool(request.query.get("upload_id")) for request in deletes] == [True]
    assert bucket.data("k") == was


# --- no trouble


def test_a_byte_over_8_mib_goes_by_a_session_of_two_chunks(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    data = DATA[: SMALL + 1]
    put(gcs, data)
    assert wire.methods() == ["POST", "PUT", "PUT"]
    assert ranges(wire.requests)[1:] == [f"bytes 0-{SMALL - 1}/{SMALL + 1}", f"bytes {SMALL}-{SMALL}/{SMALL + 1}"]
    assert gcs_bucket.data("k") == data


def test_chunks_are_multiples_of_256_kib_and_only_the_last_has_the_checksum(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    put(gcs)
    start, *sent = wire.requests
    assert start.query["ifGenerationMatch"] == "0"
    assert start.headers["X-Upload-Content-Length"] == str(SIZE)
    assert all(len(request.body) % (256 * KIB) == 0 for request in sent[:-1])
    assert [request.headers.get("x-goog-hash") for request in sent] == [None, None, f"crc32c={crc32c(DATA)}"]
    assert gcs_bucket.data("k") == DATA


def test_everything_a_stamp_has_arrives_by_a_session_too(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    stamp = Stamp(headers=Headers("text/csv", "gzip"), metadata={"größe": "groß"}, storage_class="ARCHIVE")
    gcs.put("k", reader(DATA), stamp, expect=ABSENT)
    resource = gcs_bucket.resource("k")
    assert (resource["contentType"], resource["contentEncoding"]) == ("text/csv", "gzip")
    assert (resource["metadata"], resource["storageClass"]) == ({"größe": "groß"}, "ARCHIVE")


# --- a part is kept


@pytest.mark.parametrize("kept", [0, 256, 1024])
@pytest.mark.parametrize("chunk", [1, 2])
def test_a_partly_kept_chunk_goes_on_where_gcs_has_come_to(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, kept: int, chunk: int
) -> None:
    """308 with a shorter Range, or with none at all."""
    instruction = {"x-goog-emulator-instructions": f"persist-only-{kept}K"}
    wire.plan(sends("PUT", chunk), Trouble(adds=instruction))
    put(gcs)
    again = puts(wire)[chunk]
    assert span(again) == ((chunk - 1) * CHUNK + kept * KIB, chunk * CHUNK)
    assert sum(len(request.body) for request in puts(wire)) == SIZE + CHUNK - kept * KIB, "nothing kept is sent twice"
    assert gcs_bucket.data("k") == DATA


def test_a_chunk_kept_piece_by_piece_takes_as_many_requests_as_it_must(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, slept: Slept
) -> None:
    """Getting on resets the count of fruitless tries."""
    instruction = {"x-goog-emulator-instructions": "persist-only-512K"}
    wire.plan(every("PUT"), *[Trouble(adds=instruction)] * (2 * TRIES))
    put(gcs)
    starts = [span(request)[0] for request in puts(wire)]
    assert starts[: 2 * TRIES] == [n * 512 * KIB for n in range(2 * TRIES)]
    assert sum(slept) == 0
    assert gcs_bucket.data("k") == DATA


def test_of_a_last_chunk_that_is_kept_but_not_finished_only_the_last_byte_goes_again(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    wire.plan(sends("PUT", 3), Trouble(adds={"x-goog-emulator-instructions": "persist-only-8192K"}))
    put(gcs)
    assert span(puts(wire)[-1]) == (SIZE - 1, SIZE)
    assert puts(wire)[-1].headers["x-goog-hash"] == f"crc32c={crc32c(DATA)}"
    assert gcs_bucket.data("k") == DATA


# --- trouble that passes


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_error_that_passes_is_followed_by_a_question_and_the_rest(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, status: int
) -> None:
    wire.plan(sends("PUT", 2), Trouble(status=status))
    put(gcs)
    assert ranges(wire.requests)[2:5] == [
        f"bytes {CHUNK}-{2 * CHUNK - 1}/{SIZE}",
        f"bytes */{SIZE}",
        f"bytes {CHUNK}-{2 * CHUNK - 1}/{SIZE}",
    ]
    assert gcs_bucket.data("k") == DATA


def test_a_503_in_the_middle_of_a_chunk_loses_and_doubles_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    wire.plan(
        sends("PUT", 2), Trouble(adds={"x-goog-emulator-instructions": f"return-503-after-{(CHUNK + MIB) // KIB}K"})
    )
    put(gcs)
    assert span(puts(wire)[2]) == (CHUNK + MIB, 2 * CHUNK)
    assert gcs_bucket.data("k") == DATA


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_connection_reset_in_the_middle_of_a_chunk_loses_and_doubles_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, chunk: int
) -> None:
    wire.plan(sends("PUT", chunk), Trouble(cut=2 * MIB + 11))
    put(gcs)
    assert puts(wire)[chunk - 1].status == LOST
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.resource("k")["metageneration"] == "1"


def test_a_lost_answer_in_the_middle_sends_no_byte_twice(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    wire.plan(sends("PUT", 2), Trouble(forget=True))
    put(gcs)
    assert sum(len(request.body) for request in puts(wire)) == SIZE
    assert gcs_bucket.data("k") == DATA


def test_a_lost_answer_to_the_last_byte_is_settled_by_asking_the_session(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    wire.plan(lambda request: request.range == last, Trouble(forget=True))
    put(gcs)
    assert ranges(wire.requests)[3:] == [last, f"bytes */{SIZE}"]
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.names() == {"k"}


def test_a_lost_answer_to_the_question_is_followed_by_another(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    wire.plan(lambda request: request.range in {last, f"bytes */{SIZE}"}, *[Trouble(forget=True)] * 4)
    put(gcs)
    assert ranges(wire.requests)[3:] == [last, f"bytes */{SIZE}"] * 2 + [last]
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.names() == {"k"}


def test_where_all_answers_are_lost_the_object_is_there_and_redelivery_finds_it_equal(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    source = MemorySource()
    source.put("k", DATA)
    route = Route(source=source, destination=gcs, rules=(RULE,))
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    wire.plan(
        lambda request: request.method == "PUT" and request.range in {last, f"bytes */{SIZE}"},
        *[Trouble(forget=True)] * (2 * TRIES),
    )
    with pytest.raises(Unavailable):
        reconcile(route, "k")
    wire.forgive()
    generation = gcs_bucket.resource("k")["generation"]
    assert gcs_bucket.data("k") == DATA
    assert reconcile(route, "k").actions == ()
    assert gcs_bucket.resource("k")["generation"] == generation


# --- trouble that does not


def fails(gcs: GcsDestination, kind: type[ReplicationError], expect: Generation = ABSENT) -> ReplicationError:
    with pytest.raises(kind) as caught:
        put(gcs, expect=expect)
    return caught.value


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("asked", ["put", "question"])
def test_a_session_that_is_gone_is_unavailable_and_leaves_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, status: int, asked: str
) -> None:
    if asked == "question":
        wire.plan(sends("PUT", 2), Trouble(status=503))
        wire.plan(lambda request: request.range == f"bytes */{SIZE}", Trouble(status=status, message="No session."))
    else:
        wire.plan(sends("PUT", 2), Trouble(status=status, message="No session."))
    assert fails(gcs, Unavailable).code == "DstSessionGone"
    assert_given_up(wire, gcs_bucket)


def test_bytes_that_gcs_had_and_lost_end_the_session(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    wire.plan(sends("PUT", 2), Trouble(status=308, headers={"Range": "bytes=0-1023"}))
    assert fails(gcs, Unavailable).code == "DstSessionGone"
    assert_given_up(wire, gcs_bucket)


def test_a_rival_before_the_session_means_moved_and_no_byte_is_sent(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    gcs_bucket.insert("k", b"rival")
    fails(gcs, Moved)
    assert wire.methods() == ["POST"]
    assert gcs_bucket.data("k") == b"rival"


def test_a_rival_during_the_session_means_moved_and_stays(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    wire.plan(sends("PUT", 3), Trouble(before=lambda: gcs_bucket.insert("k", b"rival")))
    fails(gcs, Moved)
    assert_given_up(wire, gcs_bucket, b"rival")


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_byte_spoilt_on_the_way_is_corrupt_and_a_rivals_newer_copy_is_untouched(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, chunk: int
) -> None:
    """The library would delete the object without a generation: whoever's it is."""
    rival: list[dict[str, Any]] = [gcs_bucket.insert("k", b"old")]

    def overwrite(_: object = None) -> None:
        rival.append(gcs_bucket.insert("k", b"rival"))

    wire.plan(sends("PUT", chunk), Trouble(flip=MIB))
    wire.plan(sends("DELETE"), Trouble(before=overwrite))
    fails(gcs, Corrupt, Generation(int(rival[0]["generation"]), 1))
    assert gcs_bucket.resource("k") == rival[1]
    assert_given_up(wire, gcs_bucket, b"rival")


def test_a_spoilt_byte_shows_also_where_the_session_is_finished_by_a_question(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    """GCS has all the bytes, one wrong, and answers 503; asked what it has, it makes an object of them."""
    wire.plan(
        sends("PUT", 2),
        Trouble(flip=17, adds={"x-goog-emulator-instructions": f"return-503-after-{(SMALL + MIB) // KIB}K"}),
    )
    with pytest.raises(Corrupt):
        put(gcs, DATA[: SMALL + MIB])
    assert gcs_bucket.names() == set()


def test_a_server_that_ignores_the_checksum_is_found_out(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    """The header lost on the way, the object is taken back, on its own generation."""
    wire.plan(sends("PUT", 2), Trouble(flip=17))
    wire.plan(sends("PUT", 2), Trouble(drops="x-goog-hash"))
    with pytest.raises(Corrupt):
        put(gcs)
    deletes = [request.query for request in wire.requests if request.method == "DELETE"]
    assert all("ifGenerationMatch" in query or "upload_id" in query for query in deletes)
    assert gcs_bucket.names() == set()


@pytest.mark.parametrize("was", [None, b"older"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: breaks(DATA), Unavailable),
        (lambda: breaks(DATA, after=SIZE - 1), Unavailable),
        (lambda: breaks(DATA, Moved("it changed")), Moved),
        (lambda: breaks(DATA, KeyboardInterrupt()), KeyboardInterrupt),
        (lambda: ends_early(DATA), Corrupt),
        (lambda: ends_early(DATA, CHUNK), Corrupt),
        (lambda: too_long(DATA), Corrupt),
    ],
    ids=["breaks", "breaks at the end", "changes", "is interrupted", "ends early", "ends a chunk early", "goes on"],
)
def test_a_bad_body_cancels_the_session_and_nothing_new_is_visible(
    gcs: GcsDestination,
    gcs_bucket: Bucket,
    wire: Wire,
    make: Callable[[], BadReader],
    kind: type[BaseException],
    was: bytes | None,
) -> None:
    at = Generation(int(gcs_bucket.insert("k", was)["generation"]), 1) if was else ABSENT
    with pytest.raises(kind):
        gcs.put("k", make(), Stamp(), expect=at)
    assert_given_up(wire, gcs_bucket, was)
    cancelled = wire.requests[-1]
    assert cancelled.status == 499


def test_a_session_that_cannot_be_cancelled_hides_no_error(gcs: GcsDestination, wire: Wire) -> None:
    wire.plan(sends("DELETE"), Trouble(forget=True))
    with pytest.raises(Unavailable, match="stopped coming"):
        gcs.put("k", breaks(DATA), Stamp(), expect=ABSENT)


def test_a_denied_session_is_refused_and_an_overloaded_one_unavailable(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    wire.plan(every("POST"), Trouble(status=403, reason="forbidden"), Trouble(status=503, reason="backendError"))
    assert fails(gcs, Refused).code == "DstPutObjectNotPermitted"
    assert fails(gcs, Unavailable).code == "Dst503"
    assert gcs_bucket.names() == set()


# --- bounds


def test_a_session_that_does_not_get_on_is_given_up_after_so_many_tries(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, slept: Slept
) -> None:
    wire.plan(every("PUT"), *[Trouble(status=503, reason="backendError")] * (2 * TRIES))
    assert fails(gcs, Unavailable).code == "Dst503"
    assert len(puts(wire)) == TRIES
    assert len(slept) == TRIES - 1
    assert_given_up(wire, gcs_bucket)


def test_a_server_that_keeps_nothing_is_given_up_after_so_many_tries(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    wire.plan(every("PUT"), *[Trouble(adds={"x-goog-emulator-instructions": "persist-only-0K"})] * TRIES)
    assert fails(gcs, Unavailable).code == "DstStalled"
    assert_given_up(wire, gcs_bucket)


def test_no_try_is_made_and_nothing_waited_for_beyond_the_time_that_is_left(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, left: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause takes its time, and each request a second."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        left[0] -= seconds

    def second() -> None:
        left[0] -= 1

    monkeypatch.setattr(gcs, "_sleep", sleep)
    left[0] = 3.5
    wire.plan(every("PUT"), *[Trouble(status=503, before=second)] * 2 * TRIES)
    assert fails(gcs, Unavailable).code == "OutOfTime"
    assert len([request for request in wire.requests if request.method == "PUT"]) <= 4
    assert sum(waited) < 3.5
    wire.forgive()
    assert_given_up(wire, gcs_bucket)


def test_no_time_at_all_ends_a_stalled_upload_at_once(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, left: list[float]
) -> None:
    wire.plan(sends("PUT"), Trouble(status=503, before=left.clear))
    left.append(0)
    with pytest.raises(Unavailable):
        put(gcs)
    assert len(puts(wire)) == 1
    assert gcs_bucket.names() == set()
