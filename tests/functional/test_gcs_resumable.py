"""The GCS adapter's resumable session: its chunks, chunks that are kept in part, and trouble that passes."""

from __future__ import annotations

import random

import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.upload import CHUNK
from handler.adapters.retry import TRIES
from handler.core.errors import Unavailable
from handler.core.model import ABSENT, KIB, MIB, SMALL, Generation, Headers, Rule, Stamp
from handler.core.reconcile import reconcile
from handler.core.route import Route
from tests.fakes import MemorySource, crc32c, reader
from tests.functional.conftest import Bucket, Slept
from tests.functional.fault_proxy import LOST, FaultProxy, PlannedFault, Request, every, ranges, sends

DATA = random.Random(3).randbytes(2 * CHUNK + 3 * MIB + 17)  # noqa: S311 - bytes, not a secret
SIZE = len(DATA)
RULE = Rule(id="r", source="bucket", destination="gs://bucket")


def puts(proxy: FaultProxy) -> list[Request]:
    """The PUTs that carry bytes."""
    return [request for request in proxy.requests if request.method == "PUT" and request.body]


def span(request: Request) -> tuple[int, int]:
    first, _, last = request.range.removeprefix("bytes ").partition("/")[0].partition("-")
    return int(first), int(last) + 1


def put(gcs: GcsDestination, data: bytes = DATA, expect: Generation = ABSENT) -> None:
    replica = gcs.put("k", reader(data), Stamp(), expect=expect)
    assert (replica.size, replica.crc32c) == (len(data), crc32c(data))


# --- no trouble


def test_a_byte_over_8_mib_goes_by_a_session_of_two_chunks(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    data = DATA[: SMALL + 1]
    put(gcs, data)
    assert proxy.methods() == ["POST", "PUT", "PUT"]
    assert ranges(proxy.requests)[1:] == [f"bytes 0-{SMALL - 1}/{SMALL + 1}", f"bytes {SMALL}-{SMALL}/{SMALL + 1}"]
    assert gcs_bucket.data("k") == data


def test_chunks_are_multiples_of_256_kib_and_only_the_last_has_the_checksum(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    put(gcs)
    start, *sent = proxy.requests
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


# --- the session begins


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_session_that_does_not_begin_at_once_is_begun_again(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, status: int
) -> None:
    proxy.plan(sends("POST"), PlannedFault(status=status))
    put(gcs)
    assert proxy.methods() == ["POST", "POST", "PUT", "PUT", "PUT"]
    assert {request.query["ifGenerationMatch"] for request in proxy.requests if request.method == "POST"} == {"0"}
    assert gcs_bucket.data("k") == DATA


def test_a_session_whose_address_is_lost_is_never_used_and_nothing_of_it_is_visible(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(sends("POST"), PlannedFault(forget=True))
    put(gcs)
    assert proxy.methods() == ["POST", "POST", "PUT", "PUT", "PUT"]
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.resource("k")["metageneration"] == "1"


def test_a_retry_after_of_a_chunk_is_waited_for(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, slept: Slept
) -> None:
    proxy.plan(sends("PUT", 2), PlannedFault(status=429, headers={"Retry-After": "5"}))
    put(gcs)
    assert [5 <= pause <= 6 for pause in slept] == [True]
    assert gcs_bucket.data("k") == DATA


# --- a part is kept


@pytest.mark.parametrize("kept", [0, 256, 1024])
@pytest.mark.parametrize("chunk", [1, 2])
def test_a_partly_kept_chunk_goes_on_where_gcs_has_come_to(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, kept: int, chunk: int
) -> None:
    """308 with a shorter Range, or with none at all."""
    instruction = {"x-goog-emulator-instructions": f"persist-only-{kept}K"}
    proxy.plan(sends("PUT", chunk), PlannedFault(adds=instruction))
    put(gcs)
    again = puts(proxy)[chunk]
    assert span(again) == ((chunk - 1) * CHUNK + kept * KIB, chunk * CHUNK)
    assert sum(len(request.body) for request in puts(proxy)) == SIZE + CHUNK - kept * KIB, "nothing kept is sent twice"
    assert gcs_bucket.data("k") == DATA


def test_a_chunk_kept_piece_by_piece_takes_as_many_requests_as_it_must(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, slept: Slept
) -> None:
    """Getting on resets the count of fruitless tries."""
    instruction = {"x-goog-emulator-instructions": "persist-only-512K"}
    proxy.plan(every("PUT"), *[PlannedFault(adds=instruction)] * (2 * TRIES))
    put(gcs)
    starts = [span(request)[0] for request in puts(proxy)]
    assert starts[: 2 * TRIES] == [n * 512 * KIB for n in range(2 * TRIES)]
    assert sum(slept) == 0
    assert gcs_bucket.data("k") == DATA


def test_of_a_last_chunk_that_is_kept_but_not_finished_only_the_last_byte_goes_again(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(sends("PUT", 3), PlannedFault(adds={"x-goog-emulator-instructions": "persist-only-8192K"}))
    put(gcs)
    assert span(puts(proxy)[-1]) == (SIZE - 1, SIZE)
    assert puts(proxy)[-1].headers["x-goog-hash"] == f"crc32c={crc32c(DATA)}"
    assert gcs_bucket.data("k") == DATA


# --- trouble that passes


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_error_that_passes_is_followed_by_a_question_and_the_rest(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, status: int
) -> None:
    proxy.plan(sends("PUT", 2), PlannedFault(status=status))
    put(gcs)
    assert ranges(proxy.requests)[2:5] == [
        f"bytes {CHUNK}-{2 * CHUNK - 1}/{SIZE}",
        f"bytes */{SIZE}",
        f"bytes {CHUNK}-{2 * CHUNK - 1}/{SIZE}",
    ]
    assert gcs_bucket.data("k") == DATA


def test_a_503_in_the_middle_of_a_chunk_loses_and_doubles_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.plan(
        sends("PUT", 2),
        PlannedFault(adds={"x-goog-emulator-instructions": f"return-503-after-{(CHUNK + MIB) // KIB}K"}),
    )
    put(gcs)
    assert span(puts(proxy)[2]) == (CHUNK + MIB, 2 * CHUNK)
    assert gcs_bucket.data("k") == DATA


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_connection_reset_in_the_middle_of_a_chunk_loses_and_doubles_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, chunk: int
) -> None:
    proxy.plan(sends("PUT", chunk), PlannedFault(cut=2 * MIB + 11))
    put(gcs)
    assert puts(proxy)[chunk - 1].status == LOST
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.resource("k")["metageneration"] == "1"


def test_a_lost_answer_in_the_middle_loses_and_doubles_nothing(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    """libcurl sends the chunk again, as the kept connection brought no byte of an answer."""
    proxy.plan(sends("PUT", 2), PlannedFault(forget=True))
    put(gcs)
    assert sum(len(request.body) for request in puts(proxy)) == SIZE + CHUNK
    assert gcs_bucket.data("k") == DATA


def test_a_lost_answer_to_the_last_byte_is_settled_by_sending_it_again(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    proxy.plan(lambda request: request.range == last, PlannedFault(forget=True))
    put(gcs)
    assert ranges(proxy.requests)[3:] == [last, last]
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.names() == {"k"}


def test_a_lost_answer_to_the_question_is_followed_by_another(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    proxy.plan(lambda request: request.range in {last, f"bytes */{SIZE}"}, *[PlannedFault(forget=True)] * 4)
    put(gcs)
    assert ranges(proxy.requests)[3:] == [last] * 2 + [f"bytes */{SIZE}"] * 3
    assert gcs_bucket.data("k") == DATA
    assert gcs_bucket.names() == {"k"}


def test_where_all_answers_are_lost_the_object_is_there_and_redelivery_finds_it_equal(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    source = MemorySource()
    source.put("k", DATA)
    route = Route(source=source, destination=gcs, rules=(RULE,))
    last = f"bytes {2 * CHUNK}-{SIZE - 1}/{SIZE}"
    proxy.plan(
        lambda request: request.method == "PUT" and request.range in {last, f"bytes */{SIZE}"},
        *[PlannedFault(forget=True)] * (2 * TRIES),
    )
    with pytest.raises(Unavailable):
        reconcile(route, "k")
    proxy.forgive()
    generation = gcs_bucket.resource("k")["generation"]
    assert gcs_bucket.data("k") == DATA
    assert reconcile(route, "k").actions == ()
    assert gcs_bucket.resource("k")["generation"] == generation
