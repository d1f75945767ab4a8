"""The GCS adapter's one POST for a small body, over real HTTP: its checksums, its condition, and what goes wrong."""

from __future__ import annotations

import base64
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import Corrupt, Moved, Unavailable
from handler.core.model import ABSENT, KIB, MIB, SMALL, Generation, Headers, Rule, Stamp
from handler.core.reconcile import reconcile
from handler.core.route import Route
from tests.fakes import BadReader, MemorySource, breaks, crc32c, ends_early, md5, reader
from tests.functional.conftest import Bucket, Slept
from tests.functional.fault_proxy import LOST, FaultProxy, PlannedFault, every, sends

RULE = Rule(id="r", source="bucket", destination="gs://bucket")
DATA = random.Random(2).randbytes(4 * KIB)  # noqa: S311 - bytes, not a secret
STAMP = Stamp(
    headers=Headers("text/csv", None, 'attachment; filename="ü.csv"', "de", "no-store"),
    metadata={"origin": "a test", "größe": "groß"},
    custom_time=datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC),
)


def posted(proxy: FaultProxy) -> tuple[dict[str, Any], bytes]:
    """The resource and the bytes of the one POST there was."""
    (request,) = proxy.requests
    boundary = request.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    _, resource, media, end = request.body.split(b"--" + boundary)
    assert end.strip() == b"--"
    described = json.loads(resource.split(b"\r\n\r\n", 1)[1])
    return described, media.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


# --- one POST


def test_a_small_body_is_exactly_one_post_with_its_checksums_and_its_condition(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    replica = gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    resource, data = posted(proxy)
    (request,) = proxy.requests
    assert (request.method, request.query["ifGenerationMatch"]) == ("POST", "0")
    assert request.query["uploadType"] == "multipart"
    assert (resource["crc32c"], resource["md5Hash"], data) == (crc32c(DATA), md5(DATA), DATA)
    assert gcs_bucket.data("k") == DATA
    assert (replica.size, replica.crc32c, replica.md5) == (len(DATA), crc32c(DATA), md5(DATA))


def test_no_md5_goes_along_where_the_etag_is_none(gcs: GcsDestination, proxy: FaultProxy) -> None:
    body = reader(DATA)
    body.original = replace(body.original, md5=None)
    gcs.put("k", body, STAMP, expect=ABSENT)
    resource, _ = posted(proxy)
    assert "md5Hash" not in resource
    assert resource["crc32c"] == crc32c(DATA)


def test_nothing_reads_the_bucket_behind_our_back(gcs: GcsDestination, proxy: FaultProxy) -> None:
    gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    gcs.head("k")
    time.sleep(0.3)  # in the background, as Google's own client does
    assert [(request.method, "/o" in request.path) for request in proxy.requests] == [("POST", True), ("GET", True)]


@pytest.mark.parametrize("size", [0, 1, SMALL])
def test_a_body_of_up_to_8_mib_is_one_post(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, size: int
) -> None:
    data = (DATA * (size // len(DATA) + 1))[:size]
    assert gcs.put("k", reader(data, at_most=MIB), Stamp(), expect=ABSENT).size == size
    assert proxy.methods() == ["POST"]
    assert gcs_bucket.data("k") == data


def test_everything_a_stamp_has_arrives_and_comes_back(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    resource = gcs_bucket.resource("k")
    assert (resource["contentType"], resource["contentLanguage"]) == ("text/csv", "de")
    assert (resource["cacheControl"], resource["contentDisposition"]) == ("no-store", 'attachment; filename="ü.csv"')
    assert resource["metadata"] == {"origin": "a test", "größe": "groß"}
    assert resource["customTime"] == "2026-05-04T03:02:01.123456Z"
    found = gcs.head("k").stamp
    assert replace(found, storage_class=None) == STAMP


def test_a_gzip_object_is_stored_as_it_is_and_compared_by_its_metadata(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    zipped = base64.b64decode("H4sIAAAAAAAC/8tIzcnJBwCGphA2BQAAAA==")
    stored = gcs.put("k", reader(zipped), Stamp(headers=Headers(content_encoding="gzip")), expect=ABSENT)
    assert (stored.size, stored.crc32c) == (len(zipped), crc32c(zipped))
    assert gcs.head("k") == stored
    assert not any(request.query.get("alt") == "media" for request in proxy.requests), "nothing is downloaded"
    assert gcs_bucket.resource("k")["size"] == str(len(zipped))


def test_a_storage_class_is_given_with_the_upload(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    gcs.put("k", reader(DATA), Stamp(storage_class="NEARLINE"), expect=ABSENT)
    assert gcs_bucket.resource("k")["storageClass"] == "NEARLINE"


@pytest.mark.parametrize(
    "body",
    [breaks(DATA), ends_early(DATA), BadReader(DATA, DATA + b"!")],
    ids=["breaks", "ends early", "goes on"],
)
def test_a_bad_small_body_sends_nothing_at_all(gcs: GcsDestination, proxy: FaultProxy, body: BadReader) -> None:
    with pytest.raises((Corrupt, Unavailable)):
        gcs.put("k", body, Stamp(), expect=ABSENT)
    assert proxy.requests == []


# --- conditions, lost answers, spoilt bytes


def test_a_rivals_object_is_not_overwritten(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    gcs_bucket.insert("k", b"rival")
    with pytest.raises(Moved):
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    with pytest.raises(Moved):
        gcs.put("k", reader(DATA), Stamp(), expect=Generation(1, 1))
    assert gcs_bucket.data("k") == b"rival"


@pytest.mark.parametrize("trouble", ["return-503", "return-429", "return-408", "return-500", "return-reset-connection"])
def test_what_passes_is_tried_again_under_the_same_condition(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, trouble: str
) -> None:
    gcs_bucket.instruct("storage.objects.insert", trouble, trouble)
    gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert proxy.methods() == ["POST"] * 3
    assert {request.query["ifGenerationMatch"] for request in proxy.requests} == {"0"}
    assert gcs_bucket.data("k") == DATA


def test_a_lost_answer_meets_its_own_object_and_ends_in_success(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    """The POST is sent again, which is refused (412), as the first took effect: look again."""
    source = MemorySource()
    source.put("k", DATA)
    proxy.plan(sends("POST"), PlannedFault(forget=True))
    outcome = reconcile(Route(source=source, destination=gcs, rules=(RULE,)), "k", guess_absent=True)
    assert [(request.method, request.status) for request in proxy.requests] == [
        ("POST", LOST),
        ("POST", 412),
        ("GET", 200),
    ]
    assert (outcome.actions, outcome.why) == ((), "equal")
    assert gcs_bucket.resource("k")["metageneration"] == "1"
    assert gcs_bucket.data("k") == DATA


def test_bytes_spoilt_on_the_way_are_refused_by_gcs_and_nothing_is_deleted(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    rival = gcs_bucket.insert("k", b"rival")
    at = Generation(int(rival["generation"]), 1)
    proxy.plan(sends("POST"), PlannedFault(flip=3000))
    with pytest.raises(Corrupt):
        gcs.put("k", reader(DATA), Stamp(), expect=at)
    assert proxy.methods() == ["POST"], "no DELETE"
    assert gcs_bucket.resource("k") == rival


def test_what_a_server_stored_wrongly_is_taken_back_on_its_own_generation_only(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    """A server that does not compare checksums answers for other bytes; by then a rival has put a newer object."""
    wrong = {**gcs_bucket.insert("k", b"wrong"), "crc32c": crc32c(b"wrong")}
    rival: list[dict[str, Any]] = []

    def overwrite() -> None:
        rival.append(gcs_bucket.insert("k", b"rival"))

    proxy.plan(sends("POST"), PlannedFault(status=200, body=json.dumps(wrong).encode()))
    proxy.plan(sends("DELETE"), PlannedFault(before=overwrite))
    with pytest.raises(Moved):  # so the loop looks again
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    (deleted,) = (request for request in proxy.requests if request.method == "DELETE")
    assert deleted.query["ifGenerationMatch"] == wrong["generation"]
    assert gcs_bucket.resource("k") == rival[0]


def test_what_a_server_stored_wrongly_is_corrupt(gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    wrong = gcs_bucket.insert("k", b"wrong")
    proxy.plan(sends("POST"), PlannedFault(status=200, body=json.dumps(wrong).encode()))
    with pytest.raises(Corrupt):
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert gcs_bucket.names() == set()


def test_retries_end_with_the_time_that_is_left(
    gcs: GcsDestination, proxy: FaultProxy, left: list[float], slept: Slept
) -> None:
    """Each try takes a second, and each pause its time."""

    def second() -> None:
        left[0] = 3.0 - len(proxy.requests) - sum(slept)

    left[0] = 3.0
    proxy.plan(every("POST"), *[PlannedFault(status=503, reason="backendError", before=second)] * 50)
    with pytest.raises(Unavailable) as caught:
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert caught.value.code == "Dst503"
    assert 1 <= len(proxy.requests) <= 3
    assert sum(slept) < 3
    proxy.forgive()
