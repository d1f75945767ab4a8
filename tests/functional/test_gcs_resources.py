"""Resources that lack a field, as servers other than ours answer them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.resources import replica_of
from handler.core.errors import Unavailable
from handler.core.model import ABSENT, SMALL, Generation, Stamp
from tests.fakes import crc32c, md5, reader
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every, sends

EMPTY: dict[str, Any] = {
    "name": "k",
    "generation": "5",
    "metageneration": "1",
    "crc32c": crc32c(b""),
    "md5Hash": md5(b""),
}
"""An empty object as storage-testbench describes it: protobuf's JSON leaves out a number that is 0."""


def test_a_resource_without_size_is_of_an_empty_object() -> None:
    replica = replica_of(EMPTY)
    assert (replica.size, replica.generation) == (0, Generation(5, 1))


def test_an_empty_object_is_put_read_and_listed_where_the_answer_has_no_size(
    gcs: GcsDestination, proxy: FaultProxy
) -> None:
    def answered(resource: dict[str, Any]) -> PlannedFault:
        return PlannedFault(status=200, body=json.dumps(resource).encode())

    proxy.plan(every("POST"), answered(EMPTY))
    proxy.plan(every("GET"), answered(EMPTY), answered({"items": [EMPTY]}))
    stored = gcs.put("k", reader(b""), Stamp(), expect=ABSENT)
    assert stored.size == 0
    assert gcs.head("k") == stored
    assert gcs.list("") == {"k": stored}


@pytest.mark.parametrize("missing", ["generation", "metageneration"])
def test_a_resource_that_no_condition_can_be_made_of_is_an_error_that_says_so(
    gcs: GcsDestination, proxy: FaultProxy, missing: str
) -> None:
    resource = {name: value for name, value in EMPTY.items() if name != missing}
    proxy.plan(every("GET"), PlannedFault(status=200, body=json.dumps(resource).encode()))
    with pytest.raises(Unavailable, match=f"look at 'k': ValueError: GCS describes an object without {missing}"):
        gcs.head("k")


@pytest.mark.parametrize("nth", [1, 3], ids=["first chunk", "last chunk"])
def test_a_success_of_a_resumable_upload_that_is_cut_is_asked_for_again(
    gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy, nth: int
) -> None:
    data = bytes(2 * SMALL + 1)
    proxy.plan(sends("PUT", nth), PlannedFault(status=200, body=b"{"))
    stored = gcs.put("k", reader(data), Stamp(), expect=ABSENT)
    assert (stored.size, stored.crc32c, gcs_bucket.data("k")) == (len(data), crc32c(data), data)
