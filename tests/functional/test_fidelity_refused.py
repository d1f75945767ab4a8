"""What cannot be replicated is parked at once with its reason, and costs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_emulator.gcs import GcsServer
from local_emulator.poller import failed_ids, sqs_event
from tests.functional.bench import Bench, bench_on
from tests.functional.fidelity_refusals import REFUSALS, Refusal
from tests.functional.rig import BODY, record


@pytest.fixture(scope="module")
def bench(s3_url: str, gcs_server: GcsServer) -> Iterator[Bench]:
    with bench_on(s3_url, gcs_server.url) as bench:
        yield bench


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.what)
def test_it_is_parked_once_with_its_reason_and_its_neighbour_is_replicated(bench: Bench, refusal: Refusal) -> None:
    rig, good = bench.rig, f"good beside {refusal.what}"
    arranged = refusal.arrange(bench, f"object with {refusal.what}")
    bad = arranged if isinstance(arranged, str) else json.dumps({"Records": [arranged]})
    rig.put(bench.bucket, good, BODY)
    queue = rig.queue(VisibilityTimeout="30")
    for body in (bad, json.dumps({"Records": [record(bench.bucket, good, size=len(BODY))]})):
        rig.sqs.send_message(QueueUrl=queue, MessageBody=body)

    messages = rig.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    told = rig.handle(bench.service, *sqs_event(messages, "arn:aws:sqs:us-east-1:123456789012:q")["Records"])
    assert failed_ids(told.answer, [message["MessageId"] for message in messages]) == set(), "both are acknowledged"

    letters = rig.sqs.receive_message(
        QueueUrl=bench.dead_letters, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages", [])
    for letter in letters:
        rig.sqs.delete_message(QueueUrl=bench.dead_letters, ReceiptHandle=letter["ReceiptHandle"])
    assert [letter["Body"] for letter in letters] == [bad]
    attributes = {name: value["StringValue"] for name, value in letters[0]["MessageAttributes"].items()}
    assert attributes["Reason"] == refusal.code
    assert attributes["Detail"]
    assert [line["code"] for line in told.lines if line["message"] == "parked"] == [refusal.code]
    assert told.measured("OperationsFailedReplication") == refusal.counted
    assert told.measured("OperationsPendingReplication") == 0

    assert bench.data(good) == BODY
    assert told.line(good)["outcome"] == "put"
