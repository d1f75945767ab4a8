"""What an event costs: every HTTP request to S3 and to GCS, from the handler's entry on, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from handler import app
from handler.core.model import KIB, SMALL
from local_emulator.context import Context
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy, Request, fault_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DATA = bytes(range(256)) * 16
assert len(DATA) == 4 * KIB


@dataclass
class Pipeline:
    """The handler between two counting proxies."""

    s3: S3Client
    bucket: str
    copies: Bucket
    wires: tuple[FaultProxy, FaultProxy]

    def message(
        self, event: str = "ObjectCreated:Put", size: int | None = len(DATA), receives: int = 1
    ) -> dict[str, Any]:
        described = {"key": "k"} if size is None else {"key": "k", "size": size, "eTag": "?"}
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventTime": "2026-11-22T10:00:00.000Z",
            "eventName": event,
            "s3": {"bucket": {"name": self.bucket}, "object": described},
        }
        return {
            "messageId": f"message-{id(record)}",
            "body": json.dumps({"Records": [record]}),
            "attributes": {"ApproximateReceiveCount": str(receives)},
            "eventSource": "aws:sqs",
        }

    def deliver(self, *messages: dict[str, Any]) -> list[str]:
        """Invoke the function with one batch; return the requests it made, in order."""
        del self.wires[0].requests[:]
        assert app.lambda_handler({"Records": list(messages)}, Context()) == {"batchItemFailures": []}
        return [f"{_call(request)} {request.status}" for request in self.wires[0].requests]


def _call(request: Request) -> str:
    if "/storage/v1/" not in request.path:
        return f"S3 {request.method}"
    return "GCS LIST" if request.method == "GET" and "/o/" not in request.path else f"GCS {request.method}"


@contextmanager
def service() -> Iterator[None]:
    """The function's own state is made anew, and forgotten."""
    app._service.cache_clear()
    yield
    app._service.cache_clear()


@pytest.fixture
def pipeline(
    s3_url: str, s3: S3Client, bucket: str, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    rule = {"Source": {"Bucket": bucket}, "Destination": {"Bucket": f"gs://{gcs_bucket.name}"}}
    with fault_proxy(s3_url) as s3_proxy, fault_proxy(gcs_bucket.url) as gcs_proxy, service():
        gcs_proxy.requests = s3_proxy.requests  # one log of both
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_proxy.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_proxy.url)
        monkeypatch.setenv("REPLICATION_RULES", json.dumps([rule]))
        yield Pipeline(s3, bucket, gcs_bucket, (s3_proxy, gcs_proxy))


@pytest.fixture
def replicated(pipeline: Pipeline) -> Pipeline:
    """An object that has its copy."""
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=DATA)
    pipeline.deliver(pipeline.message())
    assert pipeline.copies.data("k") == DATA
    return pipeline


def test_a_new_small_object_costs_one_s3_get_one_gcs_post_and_one_s3_head(pipeline: Pipeline) -> None:
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=DATA)
    assert pipeline.deliver(pipeline.message()) == ["S3 GET 200", "GCS POST 200", "S3 HEAD 200"]
    assert pipeline.copies.data("k") == DATA


def test_a_new_empty_object_costs_no_more(pipeline: Pipeline) -> None:
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=b"")
    assert pipeline.deliver(pipeline.message(size=0)) == ["S3 GET 200", "GCS POST 200", "S3 HEAD 200"]


def test_a_second_message_of_the_same_event_costs_two_looks(replicated: Pipeline) -> None:
    assert replicated.deliver(replicated.message()) == ["GCS GET 200", "S3 HEAD 200"]


def test_at_another_instance_it_costs_a_wrong_guess_besides(replicated: Pipeline) -> None:
    app._service.cache_clear()
    assert replicated.deliver(replicated.message()) == ["S3 GET 200", "GCS POST 412", "GCS GET 200", "S3 HEAD 200"]


def test_a_redelivered_message_costs_two_looks(replicated: Pipeline) -> None:
    assert replicated.deliver(replicated.message(receives=2)) == ["GCS GET 200", "S3 HEAD 200"]


def test_two_messages_of_one_key_in_one_batch_cost_no_more_than_one_in_earnest(pipeline: Pipeline) -> None:
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=DATA)
    assert pipeline.deliver(pipeline.message(), pipeline.message()) == [
        "GCS GET 404",
        "S3 HEAD 200",
        "S3 GET 200",
        "GCS POST 200",
        "S3 HEAD 200",
    ]


def test_an_overwritten_object_costs_two_looks_besides(replicated: Pipeline) -> None:
    replicated.s3.put_object(Bucket=replicated.bucket, Key="k", Body=b"newer")
    assert replicated.deliver(replicated.message(size=5)) == [
        "GCS GET 200",
        "S3 HEAD 200",
        "S3 GET 200",
        "GCS POST 200",
        "S3 HEAD 200",
    ]
    assert replicated.copies.data("k") == b"newer"


def test_changed_metadata_cost_a_patch_and_no_body(replicated: Pipeline) -> None:
    replicated.s3.put_object(Bucket=replicated.bucket, Key="k", Body=DATA, ContentType="text/csv")
    assert replicated.deliver(replicated.message(size=None)) == [
        "GCS GET 200",
        "S3 HEAD 200",
        "GCS GET 200",
        "GCS PATCH 200",
        "S3 HEAD 200",
    ]


def test_a_delete_costs_one_delete_between_two_looks(replicated: Pipeline) -> None:
    replicated.s3.delete_object(Bucket=replicated.bucket, Key="k")
    removed = replicated.message("ObjectRemoved:Delete", size=None)
    once = "S3 HEAD 200"  # that the bucket exists, asked once a function instance
    assert replicated.deliver(removed) == ["GCS GET 200", "S3 HEAD 404", once, "GCS DELETE 204", "S3 HEAD 404"]
    assert replicated.deliver(removed) == ["GCS GET 404", "S3 HEAD 404"]
    assert replicated.copies.names() == set()


def test_a_large_new_object_costs_a_session_and_for_each_chunk_a_get_and_a_put(pipeline: Pipeline) -> None:
    size = SMALL + 1
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=bytes(size))
    told = pipeline.deliver(pipeline.message(size=size))
    assert [each for each in told if each != "S3 GET 206"] == [
        "GCS GET 404",
        "S3 HEAD 200",
        "GCS POST 200",
        "GCS PUT 308",
        "GCS PUT 200",
        "S3 HEAD 200",
    ]
    assert told.count("S3 GET 206") == 2
