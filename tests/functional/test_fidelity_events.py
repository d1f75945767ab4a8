"""Events that change no byte move no byte, counted over HTTP on both sides; the others do what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_emulator.gcs import GcsServer
from tests.functional.bench import Bench, bench_on
from tests.functional.fidelity_events import HAPPENINGS, OLD, Happening
from tests.functional.rig import message


@pytest.fixture(scope="module")
def bench(s3_url: str, gcs_server: GcsServer) -> Iterator[Bench]:
    with bench_on(s3_url, gcs_server.url) as bench:
        yield bench


@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda happening: happening.what)
def test_an_event_asks_for_this_and_no_more(bench: Bench, happening: Happening) -> None:
    bucket, key = bench.versioned if happening.versioned else bench.bucket, f"{happening.rule}/{happening.what}"
    if happening.before and happening.versioned:
        happening.before(bench, bucket, key)
    bench.rig.put(bucket, key, OLD, happening.headers)
    if happening.before and not happening.versioned:
        happening.before(bench, bucket, key)
    assert bench.deliver(key, "ObjectCreated:Put", bucket=bucket, size=len(OLD)).failed() == []
    assert bench.data(key) == OLD

    happening.act(bench, bucket, key)
    told = bench.deliver(key, happening.event, bucket=bucket, **happening.of_object)
    assert told.failed() == []
    moved = len(happening.data or b"") if happening.moves else 0
    assert bench.writes() == list(happening.writes)
    downloaded, uploaded = bench.body_bytes()
    assert downloaded == moved
    assert (uploaded > moved) if happening.moves else (uploaded == 0)
    if not happening.moves:
        assert bench.rig.front.bodies() == [], "not even asked for"

    assert bench.data(key) == happening.data
    blob = bench.copy(key)
    if blob is not None:
        assert {name: (blob.metadata or {}).get(name) for name in happening.metadata} == happening.metadata
        assert {name: getattr(blob, name) for name in happening.fields} == happening.fields

    if happening.contexts is not None:
        assert bench.contexts(key) == happening.contexts

    bench.deliver(key, happening.event, bucket=bucket, **happening.of_object)
    assert [write for write in bench.writes() if write != "insert"] == [], "it is equal now"


def test_a_write_without_bytes_is_conditional_on_generation_and_metageneration(bench: Bench) -> None:
    bench.rig.put(bench.bucket, "tags/conditional", OLD)
    bench.deliver("tags/conditional", "ObjectCreated:Put")
    bench.rig.s3.put_object_tagging(
        Bucket=bench.bucket, Key="tags/conditional", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    )
    bench.deliver("tags/conditional", "ObjectTagging:Put")
    (patch,) = [request for request in bench.proxy.requests if request.method == "PATCH"]
    assert {"ifGenerationMatch", "ifMetagenerationMatch"} <= set(patch.query)


def test_a_copy_told_by_eventbridge_moves_no_byte_either(bench: Bench) -> None:
    key = "plain/by-eventbridge"
    bench.rig.put(bench.bucket, key, OLD)
    bench.deliver(key, "ObjectCreated:Put")
    bench.rig.s3.copy_object(
        Bucket=bench.bucket,
        Key=key,
        CopySource={"Bucket": bench.bucket, "Key": key},
        MetadataDirective="REPLACE",
        ContentType="text/csv",
    )
    detail = {"bucket": {"name": bench.bucket}, "object": {"key": key, "size": len(OLD)}, "reason": "CopyObject"}
    event = {"detail-type": "Object Created", "source": "aws.s3", "time": "2026-11-01T00:00:00Z", "detail": detail}
    bench.forget()
    bench.rig.handle(bench.service, {**message("m"), "body": json.dumps(event)})
    assert bench.body_bytes() == (0, 0)
    assert bench.writes() == ["patch"]
