"""A change of storage class that takes several calls: it ends, however short the invocations are."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.adapters.gcs import rewrite as gcs_rewrite
from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import Moved, Unavailable
from handler.core.model import ABSENT, MIB, Generation, Replica, Stamp
from handler.core.plan import STAGING
from tests.fakes import reader
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy, PlannedFault, Request

DATA = random.Random(3).randbytes(5 * MIB)  # noqa: S311 - bytes, not a secret
STAMP = Stamp(metadata={"a": "b"}, custom_time=datetime(2026, 5, 4, tzinfo=UTC))
COLD = replace(STAMP, storage_class="COLDLINE")


@pytest.fixture(autouse=True)
def steps_of_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_rewrite, "STEP", MIB)


@pytest.fixture
def there(gcs: GcsDestination, proxy: FaultProxy) -> Replica:
    """An object of five steps; the requests it took are forgotten."""
    replica = gcs.put("k", reader(DATA), STAMP, expect=ABSENT)
    proxy.requests.clear()
    return replica


def is_rewrite(request: Request) -> bool:
    return "/rewriteTo/" in request.path


def rewrites(proxy: FaultProxy) -> int:
    return sum(map(is_rewrite, proxy.requests))


def staged(gcs: GcsDestination) -> list[str]:
    return list(gcs.list(STAGING))


def runs_out(gcs: GcsDestination, proxy: FaultProxy, left: list[float], expect: Generation, calls: int = 2) -> None:
    """Patch in an invocation whose time ends with so many calls of the rewrite."""
    passing = [PlannedFault()] * (calls - 1)
    proxy.plan(is_rewrite, *passing, PlannedFault(before=lambda: left.__setitem__(0, 0.0)))
    with pytest.raises(Unavailable) as caught:
        gcs.patch("k", COLD, expect=expect)
    assert (caught.value.code, caught.value.wait) == ("InRewrite", gcs_rewrite.SOON)
    left[0] = 60.0


def test_the_next_invocation_continues_where_the_time_ended(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica, left: list[float]
) -> None:
    runs_out(gcs, proxy, left, there.generation)
    assert len(staged(gcs)) == 1
    assert gcs.head("k") == there
    runs_out(gcs, proxy, left, there.generation)
    changed = gcs.patch("k", COLD, expect=there.generation)
    assert (changed.stamp.storage_class, changed.stamp.metadata) == ("COLDLINE", {"a": "b"})
    assert rewrites(proxy) == 5, "no step is made twice"
    assert staged(gcs) == []
    assert gcs_bucket.data("k") == DATA


def test_a_token_is_stored_under_the_key_of_the_copy(
    gcs: GcsDestination, proxy: FaultProxy, there: Replica, left: list[float]
) -> None:
    """An organisation's policy may refuse whatever is under no key: constraints/gcp.restrictNonCmekServices."""
    keyed = replace(STAMP, kms_key="projects/p/locations/us/keyRings/r/cryptoKeys/k")
    proxy.plan(is_rewrite, PlannedFault(before=lambda: left.__setitem__(0, 0.0)))
    with pytest.raises(Unavailable):
        gcs.patch("k", keyed, expect=there.generation)
    left[0] = 60.0
    (token,) = staged(gcs)
    assert gcs.head(token).stamp.kms_key == keyed.kms_key
    assert gcs.patch("k", keyed, expect=there.generation).stamp.kms_key == keyed.kms_key
    assert rewrites(proxy) == 5, "no step is made twice"


def test_a_rewrite_in_one_invocation_stores_no_token(gcs: GcsDestination, proxy: FaultProxy, there: Replica) -> None:
    assert gcs.patch("k", COLD, expect=there.generation).stamp.storage_class == "COLDLINE"
    assert rewrites(proxy) == 5
    assert [request.method for request in proxy.requests if not is_rewrite(request)] == ["GET", "GET"]


def test_the_progress_outlives_a_gcs_that_stops_answering(
    gcs: GcsDestination, proxy: FaultProxy, there: Replica, left: list[float]
) -> None:
    silent = PlannedFault(status=503, before=lambda: left.__setitem__(0, 0.0))
    proxy.plan(is_rewrite, PlannedFault(), PlannedFault(), silent)
    with pytest.raises(Unavailable):
        gcs.patch("k", COLD, expect=there.generation)
    left[0] = 60.0
    gcs.patch("k", COLD, expect=there.generation)
    assert rewrites(proxy) == 6, "the call that failed, and no other, is made again"


@pytest.mark.parametrize("status", [400, 410])
def test_a_token_that_gcs_no_longer_takes_is_dropped(
    gcs: GcsDestination, proxy: FaultProxy, there: Replica, left: list[float], status: int
) -> None:
    runs_out(gcs, proxy, left, there.generation)
    proxy.plan(is_rewrite, PlannedFault(status=status, reason="invalid", message="Invalid rewrite token"))
    assert gcs.patch("k", COLD, expect=there.generation).stamp.storage_class == "COLDLINE"
    assert rewrites(proxy) == 2 + 1 + 5
    assert staged(gcs) == []


def test_a_token_of_other_metadata_is_not_used(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, there: Replica, left: list[float]
) -> None:
    runs_out(gcs, proxy, left, there.generation)
    gcs_bucket.patch("k", metadata={"a": "by a rival"})
    with pytest.raises(Moved):
        gcs.patch("k", COLD, expect=there.generation)
    now = gcs.head("k").generation
    changed = gcs.patch("k", replace(COLD, metadata={"a": "new"}), expect=now)
    assert (changed.stamp.storage_class, changed.stamp.metadata) == ("COLDLINE", {"a": "new"})


def test_two_invocations_that_rewrite_one_object_end_with_one_class(
    gcs: GcsDestination, proxy: FaultProxy, there: Replica, left: list[float]
) -> None:
    runs_out(gcs, proxy, left, there.generation)
    proxy.plan(is_rewrite, PlannedFault(), PlannedFault(before=lambda: _rival(gcs, there)))
    with pytest.raises(Moved):
        gcs.patch("k", COLD, expect=there.generation)
    assert gcs.head("k").stamp.storage_class == "COLDLINE"
    assert staged(gcs) == []


def _rival(gcs: GcsDestination, there: Replica) -> None:
    gcs.patch("k", COLD, expect=there.generation)
