"""The GCS adapter's patch, delete and looks over real HTTP, and what is refused before a byte is read."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import Moved, NotFound, Refused
from handler.core.model import ABSENT, KIB, SMALL, TIB, Generation, Headers, Replica, Rule, Stamp
from tests.fakes import breaks, reader
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy, PlannedFault, sends

RULE = Rule(id="r", source="bucket", destination="gs://bucket")
PAUSE = time.sleep
DATA = random.Random(2).randbytes(4 * KIB)  # noqa: S311 - bytes, not a secret
STAMP = Stamp(
    headers=Headers("text/csv", None, 'attachment; filename="ü.csv"', "de", "no-store"),
    metadata={"origin": "a test", "größe": "groß"},
    custom_time=datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC),
)


# --- patch


@pytest.fixture
def there(gcs: GcsDestination, proxy: FaultProxy) -> Replica:
    """An object that is there; the requests it took are forgotten."""
    replica = gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    proxy.requests.clear()
    return replica


def test_a_patch_removes_the_names_that_are_gone_and_keeps_the_bytes(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica
) -> None:
    stamp = replace(STAMP, headers=Headers("text/plain"), metadata={"new": "name", "größe": "klein"})
    patched = gcs.patch("k", stamp, expect=there.generation)
    assert proxy.methods() == ["GET", "PATCH"]
    assert proxy.requests[-1].query["ifMetagenerationMatch"] == "1"
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
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica
) -> None:
    proxy.plan(sends("PATCH"), PlannedFault(forget=True))
    with pytest.raises(Moved):
        gcs.patch("k", Stamp(metadata={"a": "b"}, custom_time=STAMP.custom_time), expect=there.generation)
    assert gcs_bucket.resource("k")["metadata"] == {"a": "b"}


def test_a_change_of_storage_class_is_a_rewrite_that_moves_no_byte_through_us(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica
) -> None:
    stamp = replace(STAMP, storage_class="COLDLINE", metadata={"only": "this"})
    changed = gcs.patch("k", stamp, expect=there.generation)
    assert proxy.methods() == ["GET", "POST"]
    rewrite = proxy.requests[-1]
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
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica
) -> None:
    gcs.delete("k", expect=there.generation)
    (request,) = proxy.requests
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
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica
) -> None:
    proxy.plan(sends("DELETE"), PlannedFault(forget=True))
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


def test_a_missing_bucket_is_refused_by_every_call_and_never_absent(gcs: GcsDestination, proxy: FaultProxy) -> None:
    gcs = GcsDestination(gcs._client, "no-such-bucket")
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
def test_a_name_that_gcs_forbids_is_refused_before_a_byte_is_read(
    gcs: GcsDestination, proxy: FaultProxy, key: str
) -> None:
    body = breaks(DATA, AssertionError("it was read"), after=0)
    with pytest.raises(Refused) as caught:
        gcs.put(key, body, Stamp(), expect=ABSENT)
    assert caught.value.code == "DstKeyInvalid"
    with pytest.raises(Refused):
        gcs.patch(key, Stamp(), expect=Generation(1, 1))
    with pytest.raises(Moved):
        gcs.delete(key, expect=Generation(1, 1))
    assert gcs.head(key) == Replica()
    assert proxy.requests == []


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
    proxy: FaultProxy,
    metadata: dict[str, str],
    fits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    if fits:
        assert gcs.put("k", reader(DATA), Stamp(metadata=metadata), expect=ABSENT).stamp.metadata == metadata
        return
    with pytest.raises(Refused) as caught:
        gcs.put("k", breaks(DATA, AssertionError("it was read"), after=0), Stamp(metadata=metadata), expect=ABSENT)
    assert caught.value.code == "SrcMetadataTooLarge"
    assert proxy.requests == []


def test_more_than_5_tib_is_refused_before_a_byte_is_read(gcs: GcsDestination, proxy: FaultProxy) -> None:
    body = breaks(DATA, AssertionError("it was read"), after=0)
    body.size = 5 * TIB + 1
    with pytest.raises(Refused) as caught:
        gcs.put("k", body, Stamp(), expect=ABSENT)
    assert caught.value.code == "SrcObjectTooLarge"
    assert proxy.requests == []
