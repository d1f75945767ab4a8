"""A byte that arrives wrong is seen by every kind of checksum that S3 keeps: nothing is written, and it is retried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_emulator.gcs import GcsServer
from tests.functional.bench import Bench, bench_on
from tests.functional.fidelity import KINDS, Kind
from tests.functional.rig import BODY

_CHECKED = [kind for kind in KINDS if kind.row.section == "Integrity" and kind.check != "none"]


@pytest.fixture(scope="module")
def bench(s3_url: str, gcs_server: GcsServer) -> Iterator[Bench]:
    with bench_on(s3_url, gcs_server.url) as bench:
        yield bench


def put(bench: Bench, kind: Kind, key: str) -> None:
    if kind.parts:
        bench.rig.put_parts(bench.bucket, key, kind.parts, kind.headers, kind.override())
    else:
        bench.rig.put(bench.bucket, key, kind.body, kind.headers, kind.override())


@pytest.mark.parametrize("before", [False, True], ids=["new", "over a good copy"])
@pytest.mark.parametrize("kind", _CHECKED, ids=lambda kind: kind.name)
def test_a_flipped_byte_is_corrupt_and_writes_nothing(bench: Bench, kind: Kind, *, before: bool) -> None:
    key = f"plain/{kind.name}{' again' if before else ''}"
    if before:
        bench.rig.put(bench.bucket, key, BODY)
        assert bench.deliver(key, "ObjectCreated:Put").failed() == []
    put(bench, kind, key)
    # What looks alike is read once more by the right boundaries, before anything is called Corrupt.
    bench.rig.front.overrides[bench.bucket, key].flips = 2 if kind.name.endswith("look alike") else 1

    told = bench.deliver(key, "ObjectCreated:Put", size=len(kind.whole))
    assert told.failed() == ["m"], "it is retried"
    line = told.line(key)
    assert (line["outcome"], line["code"], line["level"]) == ("failed", "Corrupt", "WARNING")
    assert told.measured("OperationsPendingReplication") == 1
    assert told.measured("BytesReplicated") == told.measured("OperationsFailedReplication") == 0
    assert bench.data(key) == (BODY if before else None), "nothing is written"

    told = bench.deliver(key, "ObjectCreated:Put")
    assert told.failed() == []
    assert told.line(key)["check"] == kind.check
    blob = bench.copy(key)
    assert blob is not None
    assert blob.metadata["s3-replica-check"] == kind.check
    assert bench.data(key) == kind.whole


def test_every_kind_of_check_is_among_them() -> None:
    algorithms = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
    composite = {f"{name} of parts" for name in algorithms if name != "CRC64NVME"}
    assert {kind.check for kind in _CHECKED} == {*algorithms, *composite, "MD5 ETag", "ETAG of parts"}
