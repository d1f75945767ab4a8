"""The GCS adapter's resumable session where it must be given up: nothing new is visible, and no time is wasted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.upload import CHUNK
from handler.adapters.retry import TRIES
from handler.core.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, KIB, MIB, SMALL, Generation, Stamp
from tests.fakes import BadReader, breaks, ends_early, too_long
from tests.functional.conftest import Bucket, Slept
from tests.functional.fault_proxy import FaultProxy, Picks, PlannedFault, every, sends
from tests.functional.test_gcs_resumable import DATA, SIZE, put, puts


def assert_given_up(proxy: FaultProxy, bucket: Bucket, was: bytes | None = None) -> None:
    """The session was cancelled, no object was deleted, and what is visible is what was there."""
    deletes = [request for request in proxy.requests if request.method == "DELETE"]
    assert [bool(request.query.get("upload_id")) for request in deletes] == [True]
    assert bucket.data("k") == was


# --- trouble that does not


def fails(gcs: GcsDestination, kind: type[ReplicationError], expect: Generation = ABSENT) -> ReplicationError:
    with pytest.raises(kind) as caught:
        put(gcs, expect=expect)
    return caught.value


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("asked", ["put", "question"])
def test_a_session_that_is_gone_is_unavailable_and_leaves_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, status: int, asked: str
) -> None:
    if asked == "question":
        proxy.plan(sends("PUT", 2), PlannedFault(status=503))
        proxy.plan(
            lambda request: request.range == f"bytes */{SIZE}", PlannedFault(status=status, message="No session.")
        )
    else:
        proxy.plan(sends("PUT", 2), PlannedFault(status=status, message="No session."))
    assert fails(gcs, Unavailable).code == "DstSessionGone"
    assert_given_up(proxy, gcs_bucket)


def test_bytes_that_gcs_had_and_lost_end_the_session(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(sends("PUT", 2), PlannedFault(status=308, headers={"Range": "bytes=0-1023"}))
    assert fails(gcs, Unavailable).code == "DstSessionGone"
    assert_given_up(proxy, gcs_bucket)


def test_a_rival_before_the_session_means_moved_and_no_byte_is_sent(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    gcs_bucket.insert("k", b"rival")
    fails(gcs, Moved)
    assert proxy.methods() == ["POST"]
    assert gcs_bucket.data("k") == b"rival"


def test_a_rival_during_the_session_means_moved_and_stays(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(sends("PUT", 3), PlannedFault(before=lambda: gcs_bucket.insert("k", b"rival")))
    fails(gcs, Moved)
    assert_given_up(proxy, gcs_bucket, b"rival")


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_byte_spoilt_on_the_way_is_corrupt_and_a_rivals_newer_copy_is_untouched(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, chunk: int
) -> None:
    """The library would delete the object without a generation: whoever's it is."""
    rival: list[dict[str, Any]] = [gcs_bucket.insert("k", b"old")]

    def overwrite(_: object = None) -> None:
        rival.append(gcs_bucket.insert("k", b"rival"))

    proxy.plan(sends("PUT", chunk), PlannedFault(flip=MIB))
    proxy.plan(sends("DELETE"), PlannedFault(before=overwrite))
    fails(gcs, Corrupt, Generation(int(rival[0]["generation"]), 1))
    assert gcs_bucket.resource("k") == rival[1]
    assert_given_up(proxy, gcs_bucket, b"rival")


def test_a_spoilt_byte_shows_also_where_the_session_is_finished_by_a_question(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    """GCS has all the bytes, one wrong, and answers 503; asked what it has, it makes an object of them."""
    proxy.plan(
        sends("PUT", 2),
        PlannedFault(flip=17, adds={"x-goog-emulator-instructions": f"return-503-after-{(SMALL + MIB) // KIB}K"}),
    )
    with pytest.raises(Corrupt):
        put(gcs, DATA[: SMALL + MIB])
    assert_given_up(proxy, gcs_bucket)  # no object was deleted, as none ever was


def test_a_server_that_ignores_the_checksum_is_found_out(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    """The header lost on the way, the object is taken back, on its own generation."""
    proxy.plan(sends("PUT", 2), PlannedFault(flip=17))
    proxy.plan(sends("PUT", 2), PlannedFault(drops="x-goog-hash"))
    with pytest.raises(Corrupt):
        put(gcs)
    deletes = [request.query for request in proxy.requests if request.method == "DELETE"]
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
    proxy: FaultProxy,
    make: Callable[[], BadReader],
    kind: type[BaseException],
    was: bytes | None,
) -> None:
    at = Generation(int(gcs_bucket.insert("k", was)["generation"]), 1) if was else ABSENT
    with pytest.raises(kind):
        gcs.put("k", make(), Stamp(), expect=at)
    assert_given_up(proxy, gcs_bucket, was)
    cancelled = proxy.requests[-1]
    assert cancelled.status == 499


def test_a_session_that_cannot_be_cancelled_hides_no_error(gcs: GcsDestination, proxy: FaultProxy) -> None:
    proxy.plan(sends("DELETE"), PlannedFault(forget=True))
    with pytest.raises(Unavailable, match="stopped coming"):
        gcs.put("k", breaks(DATA), Stamp(), expect=ABSENT)


def test_a_denied_session_is_refused_and_an_overloaded_one_unavailable(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(every("POST"), PlannedFault(status=403, reason="forbidden"))
    assert fails(gcs, Refused).code == "DstPutObjectNotPermitted"
    proxy.plan(every("POST"), *[PlannedFault(status=503, reason="backendError")] * TRIES)
    assert fails(gcs, Unavailable).code == "Dst503"
    assert proxy.methods() == ["POST"] * (1 + TRIES)
    assert gcs_bucket.names() == set()


@pytest.mark.parametrize("body", [b"", b"<html>a captive portal</html>", b"{}", b"[]", b'{"generation": "x"}'])
@pytest.mark.parametrize("size", [4, SIZE])
def test_a_success_that_tells_of_no_object_is_unavailable_and_deletes_none(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, body: bytes, size: int
) -> None:
    """What became of the object nobody knows: redelivery looks. Above all no DELETE goes out without a generation."""
    if size < SIZE:
        proxy.plan(sends("POST"), PlannedFault(status=200, body=body))
    else:  # a session is asked again where its answer is no JSON, and says the same here
        proxy.plan(sends("PUT", 3), PlannedFault(status=200, body=body))
        again = 0 if body.startswith((b"{", b"[")) else TRIES - 1
        proxy.plan(lambda request: request.range.startswith("bytes */"), *[PlannedFault(status=200, body=body)] * again)
    gcs_bucket.insert("k", b"rival")
    at = gcs.head("k").generation
    with pytest.raises(Unavailable):
        put(gcs, DATA[:size], at)
    assert not [request for request in proxy.requests if request.method == "DELETE" and "/storage/v1/" in request.path
                and "upload_id" not in request.query]  # fmt: skip
    assert gcs_bucket.data("k") == b"rival"


# --- bounds


def test_a_session_that_does_not_get_on_is_given_up_after_so_many_tries(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, slept: Slept
) -> None:
    """Whether GCS still says how much it has, or does not."""
    picks: list[tuple[Picks, int]] = [
        (every("PUT"), 1),
        (lambda request: request.method == "PUT" and request.body != b"", TRIES),
    ]
    for picked, times in picks:
        proxy.plan(picked, *[PlannedFault(status=503, reason="backendError")] * TRIES)
        proxy.requests.clear()
        slept.clear()
        assert fails(gcs, Unavailable).code == "Dst503"
        assert len(puts(proxy)) == times
        assert len(slept) == TRIES - 1
        assert_given_up(proxy, gcs_bucket)


def test_a_server_that_keeps_nothing_is_given_up_after_so_many_tries(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(every("PUT"), *[PlannedFault(adds={"x-goog-emulator-instructions": "persist-only-0K"})] * TRIES)
    assert fails(gcs, Unavailable).code == "DstStalled"
    assert_given_up(proxy, gcs_bucket)


def test_a_server_that_keeps_all_and_makes_no_object_of_it_is_given_up_after_so_many_tries(
    gcs: GcsDestination, proxy: FaultProxy, slept: Slept
) -> None:
    whole = PlannedFault(status=308, headers={"Range": f"bytes=0-{SIZE - 1}"})
    proxy.plan(lambda request: request.range.endswith(f"-{SIZE - 1}/{SIZE}"), *[whole] * 3 * TRIES)
    assert fails(gcs, Unavailable).code == "DstStalled"
    assert len(slept) == TRIES - 1
    proxy.forgive()


def test_no_try_is_made_and_nothing_waited_for_beyond_the_time_that_is_left(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, left: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause takes its time, and each request a second."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        left[0] -= seconds

    def second() -> None:
        left[0] -= 1

    monkeypatch.setattr(gcs._objects, "_sleep", sleep)
    left[0] = 3.5
    proxy.plan(every("PUT"), *[PlannedFault(status=503, before=second)] * 2 * TRIES)
    assert fails(gcs, Unavailable).code in {"Dst503", "OutOfTime"}
    assert len([request for request in proxy.requests if request.method == "PUT"]) <= 4
    assert sum(waited) < 3.5
    proxy.forgive()
    assert_given_up(proxy, gcs_bucket)


def test_no_time_at_all_ends_a_stalled_upload_at_once(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, left: list[float]
) -> None:
    proxy.plan(sends("PUT"), PlannedFault(status=503, before=lambda: left.insert(0, 0.0)))
    with pytest.raises(Unavailable):
        put(gcs)
    assert len(puts(proxy)) == 1
    assert gcs_bucket.names() == set()
