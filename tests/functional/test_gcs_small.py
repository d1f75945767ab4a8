"""The GCS adapter's single requests over real HTTP: one POST for a small body, patch, delete, and what is refused."""

from __future__ import annotations

import base64
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from handler.adapters.gcs import GcsDestination
from handler.errors import Corrupt, Moved, NotFound, Refused, Unavailable
from handler.model import ABSENT, KIB, MIB, SMALL, TIB, Generation, Headers, Replica, Rule, Stamp
from handler.reconcile import Route, reconcile
from tests.fakes import BadReader, MemorySource, breaks, crc32c, ends_early, md5, reader
from tests.functional.conftest import Bucket
from tests.functional.wire import LOST, Trouble, Wire, every, sends

RULE = Rule(id="r", source="bucket", destination="gs://bucket")
PAUSE = time.sleep
DATA = random.Random(2).randbytes(4 * KIB)  # noqa: S311 - bytes, not a secret
STAMP = Stamp(
    headers=Headers("text/csv", None, 'attachment; filename="ü.csv"', "de", "no-store"),
    metadata={"origin": "a test", "größe": "groß"},
    custom_time=datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC),
)


def posted(wire: Wire) -> tuple[dict[str, Any], bytes]:
    """The resource and the bytes of the one POST there was."""
    (request,) = wire.requests
    boundary = request.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    _, resource, media, end = request.body.split(b"--" + boundary)
    assert end.strip() == b"--"
    described = json.loads(resource.split(b"\r\n\r\n", 1)[1])
    return described, media.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


# --- one POST


def test_a_small_body_is_exactly_one_post_with_its_checksums_and_its_condition(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    replica = gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    resource, data = posted(wire)
    (request,) = wire.requests
    assert (request.method, request.query["ifGenerationMatch"]) == ("POST", "0")
    assert request.query["uploadType"] == "multipart"
    assert (resource["crc32c"], resource["md5Hash"], data) == (crc32c(DATA), md5(DATA), DATA)
    assert gcs_bucket.data("k") == DATA
    assert (replica.size, replica.crc32c, replica.md5) == (len(DATA), crc32c(DATA), md5(DATA))


def test_no_md5_goes_along_where_the_etag_is_none(gcs: GcsDestination, wire: Wire) -> None:
    body = reader(DATA)
    body.original = replace(body.original, md5=None)
    gcs.put("k", body, STAMP, expect=ABSENT)
    resource, _ = posted(wire)
    assert "md5Hash" not in resource
    assert resource["crc32c"] == crc32c(DATA)


def test_the_library_reads_no_bucket_behind_our_back(gcs: GcsDestination, wire: Wire) -> None:
    gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    gcs.head("k")
    time.sleep(0.3)  # it would be asked for in the background
    assert [(request.method, "/o" in request.path) for request in wire.requests] == [("POST", True), ("GET", True)]


@pytest.mark.parametrize("size", [0, 1, SMALL])
def test_a_body_of_up_to_8_mib_is_one_post(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, size: int) -> None:
    data = (DATA * (size // len(DATA) + 1))[:size]
    assert gcs.put("k", reader(data, at_most=MIB), Stamp(), expect=ABSENT).size == size
    assert wire.methods() == ["POST"]
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
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    zipped = base64.b64decode("H4sIAAAAAAAC/8tIzcnJBwCGphA2BQAAAA==")
    stored = gcs.put("k", reader(zipped), Stamp(headers=Headers(content_encoding="gzip")), expect=ABSENT)
    assert (stored.size, stored.crc32c) == (len(zipped), crc32c(zipped))
    assert gcs.head("k") == stored
    assert not any(request.query.get("alt") == "media" for request in wire.requests), "nothing is downloaded"
    assert gcs_bucket.resource("k")["size"] == str(len(zipped))


def test_a_storage_class_is_given_with_the_upload(gcs: GcsDestination, gcs_bucket: Bucket) -> None:
    gcs.put("k", reader(DATA), Stamp(storage_class="NEARLINE"), expect=ABSENT)
    assert gcs_bucket.resource("k")["storageClass"] == "NEARLINE"


@pytest.mark.parametrize(
    "body",
    [breaks(DATA), ends_early(DATA), BadReader(DATA, DATA + b"!")],
    ids=["breaks", "ends early", "goes on"],
)
def test_a_bad_small_body_sends_nothing_at_all(gcs: GcsDestination, wire: Wire, body: BadReader) -> None:
    with pytest.raises((Corrupt, Unavailable)):
        gcs.put("k", body, Stamp(), expect=ABSENT)
    assert wire.requests == []


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
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, trouble: str
) -> None:
    gcs_bucket.instruct("storage.objects.insert", trouble, trouble)
    gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert wire.methods() == ["POST"] * 3
    assert {request.query["ifGenerationMatch"] for request in wire.requests} == {"0"}
    assert gcs_bucket.data("k") == DATA


def test_a_lost_answer_meets_its_own_object_and_ends_in_success(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    """The library sends the POST again, which is refused (412), as the first took effect: look again."""
    source = MemorySource()
    source.put("k", DATA)
    wire.plan(sends("POST"), Trouble(forget=True))
    outcome = reconcile(Route(source=source, destination=gcs, rules=(RULE,)), "k", guess_absent=True)
    assert [(request.method, request.status) for request in wire.requests] == [
        ("POST", LOST),
        ("POST", 412),
        ("GET", 200),
    ]
    assert (outcome.actions, outcome.why) == ((), "equal")
    assert gcs_bucket.resource("k")["metageneration"] == "1"
    assert gcs_bucket.data("k") == DATA


def test_bytes_spoilt_on_the_way_are_refused_by_gcs_and_nothing_is_deleted(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    rival = gcs_bucket.insert("k", b"rival")
    at = Generation(int(rival["generation"]), 1)
    wire.plan(sends("POST"), Trouble(flip=3000))
    with pytest.raises(Corrupt):
        gcs.put("k", reader(DATA), Stamp(), expect=at)
    assert wire.methods() == ["POST"], "no DELETE"
    assert gcs_bucket.resource("k") == rival


def test_what_a_server_stored_wrongly_is_taken_back_on_its_own_generation_only(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire
) -> None:
    """A server that does not compare checksums answers for other bytes; by then a rival has put a newer object."""
    wrong = {**gcs_bucket.insert("k", b"wrong"), "crc32c": crc32c(b"wrong")}
    rival: list[dict[str, Any]] = []

    def overwrite() -> None:
        rival.append(gcs_bucket.insert("k", b"rival"))

    wire.plan(sends("POST"), Trouble(status=200, body=json.dumps(wrong).encode()))
    wire.plan(sends("DELETE"), Trouble(before=overwrite))
    with pytest.raises(Moved):  # so the loop looks again
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    (deleted,) = (request for request in wire.requests if request.method == "DELETE")
    assert deleted.query["ifGenerationMatch"] == wrong["generation"]
    assert gcs_bucket.resource("k") == rival[0]


def test_what_a_server_stored_wrongly_is_corrupt(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    wrong = gcs_bucket.insert("k", b"wrong")
    wire.plan(sends("POST"), Trouble(status=200, body=json.dumps(wrong).encode()))
    with pytest.raises(Corrupt):
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert gcs_bucket.names() == set()


def test_retries_end_with_the_time_that_is_left(
    gcs: GcsDestination, wire: Wire, left: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", PAUSE)
    left[0] = 1.5
    wire.plan(every("POST"), *[Trouble(status=503, reason="backendError")] * 50)
    begun = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        gcs.put("k", reader(DATA), Stamp(), expect=ABSENT)
    assert time.monotonic() - begun < 3
    assert caught.value.code == "Dst503"
    wire.forgive()


# --- patch


@pytest.fixture
def there(gcs: GcsDestination, wire: Wire) -> Replica:
    """An object that is there; the requests it took are forgotten."""
    replica = gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    wire.requests.clear()
    return replica


def test_a_patch_removes_the_names_that_are_gone_and_keeps_the_bytes(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, there: Replica
) -> None:
    stamp = replace(STAMP, headers=Headers("text/plain"), metadata={"new": "name", "größe": "klein"})
    patched = gcs.patch("k", stamp, expect=there.generation)
    assert wire.methods() == ["GET", "PATCH"]
    assert wire.requests[-1].query["ifMetagenerationMatch"] == "1"
    assert patched.generation == Generation(there.generation.number, 2)
    resource = gcs_bucket.resource("k")
    assert resource["metadata"] == {"new": "name", "größe": "klein"}
    assert resource["contentType"] == "text/plain"
    assert "cacheControl" not in resource
    assert "contentLanguage" not in resource
    assert gcs_bucket.data("k") == DATA


def test_a_patch_that_lost_a_race_is_moved(gcs: GcsDestination, gcs_bucket: Bucket, there: Replica) -> None:
    gcs_bucket.patch("k", metadata={"by": "a rival"})
    with pytest.raises(Moved):
        gcs.patch("k", STAMP, expect=there.generation)
    gcs_bucket.object("DELETE", "k")
    with pytest.raises(Moved):
        gcs.patch("k", STAMP, expect=there.generation)
    with pytest.raises(Moved):
        gcs.patch("k", STAMP, expect=ABSENT)


def test_a_patch_whose_answer_is_lost_is_moved_and_did_happen(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, there: Replica
) -> None:
    wire.plan(sends("PATCH"), Trouble(forget=True))
    with pytest.raises(Moved):
        gcs.patch("k", Stamp(metadata={"a": "b"}, custom_time=STAMP.custom_time), expect=there.generation)
    assert gcs_bucket.resource("k")["metadata"] == {"a": "b"}


def test_a_change_of_storage_class_is_a_rewrite_that_moves_no_byte_through_us(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, there: Replica
) -> None:
    stamp = replace(STAMP, storage_class="COLDLINE", metadata={"only": "this"})
    changed = gcs.patch("k", stamp, expect=there.generation)
    assert wire.methods() == ["GET", "POST"]
    rewrite = wire.requests[-1]
    assert "/rewriteTo/" in rewrite.path
    assert DATA not in rewrite.body
    assert rewrite.query["ifGenerationMatch"] == rewrite.query["ifSourceGenerationMatch"]
    assert gcs_bucket.data("k") == DATA
    resource = gcs_bucket.resource("k")
    assert (resource["storageClass"], resource["metadata"]) == ("COLDLINE", {"only": "this"})
    assert changed == gcs.head("k")


def test_custom_time_is_kept_to_the_microsecond_and_may_only_go_on(gcs: GcsDestination, there: Replica) -> None:
    later = replace(STAMP, custom_time=datetime(2026, 5, 4, 3, 2, 1, 123457, tzinfo=UTC))
    at = gcs.patch("k", later, expect=there.generation).generation
    assert gcs.head("k").stamp.custom_time == later.custom_time
    with pytest.raises(Refused) as caught:
        gcs.patch("k", STAMP, expect=at)
    assert caught.value.code == "DstRequestInvalid"


# --- delete


def test_a_delete_is_one_request_on_both_generations(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, there: Replica
) -> None:
    gcs.delete("k", expect=there.generation)
    (request,) = wire.requests
    assert request.query["ifGenerationMatch"] == str(there.generation.number)
    assert request.query["ifMetagenerationMatch"] == "1"
    assert gcs_bucket.names() == set()


def test_a_delete_of_what_a_rival_changed_or_deleted_is_moved(
    gcs: GcsDestination, gcs_bucket: Bucket, there: Replica
) -> None:
    gcs_bucket.insert("k", b"rival")
    with pytest.raises(Moved):
        gcs.delete("k", expect=there.generation)
    assert gcs_bucket.data("k") == b"rival"
    gcs_bucket.object("DELETE", "k")
    with pytest.raises(Moved):
        gcs.delete("k", expect=there.generation)


def test_a_delete_whose_answer_is_lost_is_moved_and_did_happen(
    gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire, there: Replica
) -> None:
    wire.plan(sends("DELETE"), Trouble(forget=True))
    with pytest.raises(Moved):
        gcs.delete("k", expect=there.generation)
    assert gcs_bucket.names() == set()


@pytest.mark.parametrize("hold", ["temporaryHold", "eventBasedHold"])
def test_a_held_object_is_neither_deleted_nor_overwritten(
    gcs: GcsDestination, gcs_bucket: Bucket, there: Replica, hold: str
) -> None:
    gcs_bucket.patch("k", **{hold: True})
    at = gcs.head("k").generation
    with pytest.raises(Refused) as caught:
        gcs.delete("k", expect=at)
    assert caught.value.code == "DstObjectHeld"
    for size in (1, SMALL + 1):
        with pytest.raises(Refused) as caught:
            gcs.put("k", reader(bytes(size)), Stamp(), expect=at)
        assert caught.value.code == "DstObjectHeld", size
    assert gcs_bucket.data("k") == DATA


def test_a_retained_object_is_neither_deleted_nor_overwritten(
    gcs: GcsDestination, gcs_bucket: Bucket, there: Replica
) -> None:
    bucket = f"{gcs_bucket.url}/storage/v1/b/{gcs_bucket.name}"
    gcs_bucket.http.patch(bucket, json={"retentionPolicy": {"retentionPeriod": "3600"}}, timeout=30).raise_for_status()
    with pytest.raises(Refused) as caught:
        gcs.delete("k", expect=there.generation)
    assert caught.value.code == "DstObjectRetained"
    with pytest.raises(Refused) as caught:
        gcs.put("k", reader(b"new"), Stamp(), expect=there.generation)
    assert caught.value.code == "DstObjectRetained"
    assert gcs_bucket.data("k") == DATA


# --- absence, and what GCS has no room for


@pytest.mark.parametrize("key", ["k", "a/b", "no bucket does not exist here", "The specified bucket does not exist."])
def test_an_object_that_is_not_there_is_absent(gcs: GcsDestination, key: str) -> None:
    assert gcs.head(key) == Replica()


def test_a_missing_bucket_is_refused_by_every_call_and_never_absent(gcs: GcsDestination, wire: Wire) -> None:
    gcs._bucket.name = "no-such-bucket"
    at = Generation(1, 1)
    calls = {
        "head": lambda: gcs.head("k"),
        "small put": lambda: gcs.put("k", reader(DATA), Stamp(), expect=ABSENT),
        "large put": lambda: gcs.put("k", reader(bytes(SMALL + 1)), Stamp(), expect=ABSENT),
        "patch": lambda: gcs.patch("k", Stamp(), expect=at),
        "delete": lambda: gcs.delete("k", expect=at),
        "compose": lambda: gcs.compose("k", ["a"], Stamp(), expect=ABSENT),
    }
    for name, call in calls.items():
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "DstBucketNotFound", name


def test_a_composition_of_a_part_that_is_gone_is_not_found(gcs: GcsDestination) -> None:
    with pytest.raises(NotFound):
        gcs.compose("k", ["gone"], Stamp(), expect=ABSENT)


FORBIDDEN = ["", ".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x", "ü" * 513]


@pytest.mark.parametrize("key", FORBIDDEN)
def test_a_name_that_gcs_forbids_is_refused_before_a_byte_is_read(gcs: GcsDestination, wire: Wire, key: str) -> None:
    body = breaks(DATA, AssertionError("it was read"), after=0)
    with pytest.raises(Refused) as caught:
        gcs.put(key, body, Stamp(), expect=ABSENT)
    assert caught.value.code == "DstKeyInvalid"
    with pytest.raises(Refused):
        gcs.patch(key, Stamp(), expect=Generation(1, 1))
    with pytest.raises(Moved):
        gcs.delete(key, expect=Generation(1, 1))
    assert gcs.head(key) == Replica()
    assert wire.requests == []


@pytest.mark.parametrize(
    ("metadata", "fits"),
    [
        ({"k" * KIB: "v" * 4 * KIB, "l": "v" * (3 * KIB - 1)}, True),
        ({"k" * KIB: "v" * 4 * KIB, "l": "v" * 3 * KIB}, False),
        ({"k" * (KIB + 1): ""}, False),
        ({"k": "v" * (4 * KIB + 1)}, False),
        ({"k": "ü" * (2 * KIB + 1)}, False),
    ],
)
def test_metadata_over_gcs_limits_are_refused_before_a_byte_is_read(
    gcs: GcsDestination,
    wire: Wire,
    metadata: dict[str, str],
    fits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    if fits:
        assert gcs.put("k", reader(DATA), Stamp(metadata=metadata), expect=ABSENT).stamp.metadata == metadata
        return
    with pytest.raises(Refused) as caught:
        gcs.put("k", breaks(DATA, AssertionError("it was read"), after=0), Stamp(metadata=metadata), expect=ABSENT)
    assert caught.value.code == "SrcMetadataTooLarge"
    assert wire.requests == []


def test_more_than_5_tib_is_refused_before_a_byte_is_read(gcs: GcsDestination, wire: Wire) -> None:
    body = breaks(DATA, AssertionError("it was read"), after=0)
    body.size = 5 * TIB + 1
    with pytest.raises(Refused) as caught:
        gcs.put("k", body, Stamp(), expect=ABSENT)
    assert caught.value.code == "SrcObjectTooLarge"
    assert wire.requests == []
