"""google-cloud-storage as the client of GCS: what it sends itself, and what goes by the JSON API.

The contract has it as a rig; `make test-google-client` passes the other tests of GCS by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.cloud import storage

from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.official import OfficialObjects
from handler.core.errors import Moved
from handler.core.model import ABSENT, SMALL, Lock, Stamp
from tests.fakes import reader
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy

ROOT = Path(__file__).parents[2]
KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
STAMP = Stamp(metadata={"a": "b"}, custom_time=datetime(2026, 5, 4, tzinfo=UTC))


@pytest.fixture
def official(proxy: FaultProxy, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsDestination]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    with closing(connect()) as client:
        yield GcsDestination(client, gcs_bucket.name, objects=OfficialObjects)


def by_google(proxy: FaultProxy) -> list[tuple[str, bool]]:
    """Return each request's method, and whether Google's client made it; forget the requests."""
    found = [(request.method, "gccl/" in request.headers.get("X-Goog-Api-Client", "")) for request in proxy.requests]
    proxy.requests.clear()
    return found


def test_googles_client_makes_the_requests_of_a_small_object(official: GcsDestination, proxy: FaultProxy) -> None:
    there = official.put("k", reader(b"data"), STAMP, expect=ABSENT)
    there = official.patch("k", replace(STAMP, metadata={"c": "d"}), expect=there.generation)
    assert official.list("") == {"k": there} == {"k": official.head("k")}
    whole = official.compose("whole", ["k"], STAMP, expect=ABSENT)
    official.delete("whole", expect=whole.generation)
    assert by_google(proxy) == [(method, True) for method in ("POST", "GET", "PATCH", "GET", "GET", "POST", "DELETE")]


def test_every_write_carries_both_preconditions(official: GcsDestination, proxy: FaultProxy) -> None:
    there = official.put("k", reader(b"data"), STAMP, expect=ABSENT)
    there = official.put("k", reader(b"newer"), STAMP, expect=there.generation)
    there = official.patch("k", STAMP, expect=there.generation)
    official.put("part", reader(b"part"), STAMP, expect=ABSENT)
    there = official.compose("k", ["part"], STAMP, expect=there.generation)
    official.delete("k", expect=there.generation)
    writes = [request.query for request in proxy.requests if request.method != "GET"]
    assert [query["ifGenerationMatch"] == "0" for query in writes] == [True, False, False, True, False, False]
    assert ["ifMetagenerationMatch" in query for query in writes] == [False, True, True, False, True, True]


def test_what_googles_client_cannot_send_goes_by_the_json_api(official: GcsDestination, proxy: FaultProxy) -> None:
    held = official.put("held", reader(b"data"), replace(STAMP, lock=Lock(hold=True)), expect=ABSENT)
    assert held.stamp.lock == Lock(hold=True)
    assert by_google(proxy) == [("POST", False)]
    official.put("large", reader(bytes(SMALL + 1)), STAMP, expect=ABSENT)
    assert by_google(proxy) == [("POST", False), ("PUT", False), ("PUT", False)]
    assert official.compose("whole", ["large"], replace(STAMP, kms_key=KEY), expect=ABSENT).stamp.kms_key == KEY
    assert by_google(proxy) == [("POST", False)]


def test_a_rewrite_by_googles_client_would_name_no_limit() -> None:
    """When this fails, `OfficialObjects` can rewrite too."""
    assert "max" not in " ".join(storage.Blob.rewrite.__code__.co_varnames)


def test_a_rivals_write_is_not_overwritten(official: GcsDestination, gcs_bucket: Bucket) -> None:
    there = official.put("k", reader(b"data"), STAMP, expect=ABSENT)
    gcs_bucket.insert("k", b"by a rival")
    with pytest.raises(Moved):
        official.put("k", reader(b"late"), STAMP, expect=there.generation)
    with pytest.raises(Moved):
        official.delete("k", expect=there.generation)
    assert gcs_bucket.data("k") == b"by a rival"
