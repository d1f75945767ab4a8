"""The poller against moto's queue: what Lambda's event source mapping promises of deletes and redelivery."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local_emulator.aws import Aws
from local_emulator.context import Invoke
from local_emulator.poller import Poller, failed_ids, sqs_event
from local_emulator.settings import Settings, own_rules
from tests.e2e.support import eventually


@contextmanager
def aws_of(folder: Path, *, versioned: bool = False) -> Iterator[Aws]:
    settings = Settings(
        source=folder / "s",
        destination=folder / "d",
        bucket="dummy",
        rules=own_rules("dummy", folder / "d", "folder"),
        single=True,
        visibility=1,
        max_receives=3,
        versioned=versioned,
    )
    with Aws(settings) as aws:
        yield aws
        # moto keeps one state for the whole process
        urllib.request.urlopen(urllib.request.Request(f"{aws.url}/moto-api/reset", method="POST")).close()


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Aws]:
    with aws_of(tmp_path) as aws:
        yield aws


Poll = Callable[[Invoke], None]


@pytest.fixture
def poll(aws: Aws) -> Iterator[Poll]:
    pollers: list[Poller] = []

    def poll(invoke: Invoke, concurrency: int = 2) -> None:
        pollers.append(Poller(aws.sqs, aws.queue, invoke, concurrency=concurrency, visibility=1))
        pollers[-1].start()

    yield poll
    for poller in pollers:
        poller.stop()


def send(aws: Aws, *bodies: str) -> None:
    for body in bodies:
        aws.sqs.send_message(QueueUrl=aws.queue.url, MessageBody=body)


def left(aws: Aws, *, dead: bool = False) -> int:
    url = aws.dead_letter_queue.url if dead else aws.queue.url
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(map(int, aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


class Recorder:
    """A handler that notes what it was given, and answers or raises as it is told."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], Any]) -> None:
        self.bodies: list[str] = []
        self._answer = answer

    def __call__(self, event: dict[str, Any]) -> Any:
        self.bodies += [record["body"] for record in event["Records"]]
        return self._answer(event["Records"])


def test_what_succeeded_is_deleted(aws: Aws, poll: Poll) -> None:
    handler = Recorder(lambda records: {"batchItemFailures": []})
    send(aws, *map(str, range(25)))
    poll(handler)
    eventually(lambda: left(aws) == 0, "an empty queue")
    assert sorted(handler.bodies, key=int) == [str(number) for number in range(25)]


def test_only_what_failed_comes_again(aws: Aws, poll: Poll) -> None:
    def answer(records: list[dict[str, Any]]) -> Any:
        bad = [record for record in records if record["body"] == "bad" and receives(record) == 1]
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in bad]}

    def receives(record: dict[str, Any]) -> int:
        return int(record["attributes"]["ApproximateReceiveCount"])

    handler = Recorder(answer)
    send(aws, "good", "bad", "fine")
    poll(handler)
    # A queue's counts are approximate: one that becomes visible just then is in neither.
    eventually(lambda: len(handler.bodies) == 4 and left(aws) == 0, "four deliveries and an empty queue")
    assert sorted(handler.bodies) == ["bad", "bad", "fine", "good"]


def test_an_exception_fails_the_whole_batch_until_it_is_dead(aws: Aws, poll: Poll) -> None:
    def answer(records: list[dict[str, Any]]) -> Any:
        raise ValueError("no")

    handler = Recorder(answer)
    send(aws, "one", "two")
    poll(handler)
    eventually(lambda: left(aws, dead=True) == 2, "both in the dead-letter queue")
    assert sorted(handler.bodies) == ["one"] * 3 + ["two"] * 3


def test_invocations_run_at_once_but_not_more_than_allowed(aws: Aws, poll: Poll) -> None:
    together, together_now, lock = 0, 0, threading.Lock()
    go = threading.Event()

    def invoke(event: dict[str, Any]) -> Any:
        nonlocal together, together_now
        with lock:
            together_now += 1
            together = max(together, together_now)
        go.wait(10)
        with lock:
            together_now -= 1

    send(aws, *map(str, range(40)))
    poll(invoke)
    eventually(lambda: together == 2, "two at once")
    go.set()
    eventually(lambda: left(aws) == 0, "an empty queue")
    assert together == 2


def test_a_message_stays_hidden_while_its_invocation_runs(aws: Aws, poll: Poll) -> None:
    go = threading.Event()
    handler = Recorder(lambda records: go.wait(20) and None)
    send(aws, "slow")
    poll(handler)
    eventually(lambda: handler.bodies == ["slow"], "the first delivery")
    assert not go.wait(2.5)  # time for more than two deliveries, if the visibility timeout were not renewed
    go.set()
    eventually(lambda: left(aws) == 0, "an empty queue")
    assert handler.bodies == ["slow"]


def test_no_message_is_lost_while_others_are_deleted(aws: Aws, poll: Poll) -> None:
    handler = Recorder(lambda records: None)
    poll(handler)
    senders = [threading.Thread(target=send, args=(aws, *(f"{n}-{i}" for i in range(100)))) for n in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    eventually(lambda: left(aws) == 0, "an empty queue")
    assert set(handler.bodies) == {f"{n}-{i}" for n in range(4) for i in range(100)}


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ["b"]}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": "other"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"messageId": "b"}]}, {"a", "b"}),
        ({"batchItemFailures": ["b"]}, {"a", "b"}),
        ({"batchItemFailures": "b"}, {"a", "b"}),
        ("done", {"a", "b"}),
        (["b"], {"a", "b"}),
    ],
)
def test_an_answer_is_read_as_lambda_reads_it(answer: Any, failed: set[str]) -> None:
    assert failed_ids(answer, ["a", "b"]) == failed


def test_the_event_is_spelt_as_lambda_spells_it(aws: Aws) -> None:
    aws.sqs.send_message(
        QueueUrl=aws.queue.url,
        MessageBody="body",
        MessageAttributes={
            "text": {"DataType": "String", "StringValue": "value"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00"},
        },
    )
    messages = aws.sqs.receive_message(
        QueueUrl=aws.queue.url, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=1
    )["Messages"]
    [record] = sqs_event(messages, aws.queue.arn)["Records"]
    assert set(record.pop("attributes")) >= {
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    }
    assert record.pop("messageId")
    assert record.pop("receiptHandle")
    empty: dict[str, list[str]] = {"stringListValues": [], "binaryListValues": []}
    assert record == {
        "body": "body",
        "md5OfBody": "841a2d689ad86bd1611447453c22c6fc",
        "messageAttributes": {
            "text": {"stringValue": "value", "dataType": "String", **empty},
            "bytes": {"binaryValue": "AA==", "dataType": "Binary", **empty},
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:replication-events",
        "awsRegion": "us-east-1",
    }
