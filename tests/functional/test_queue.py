"""The dead-letter queue, on SQS's API over HTTP."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from handler.adapters.queue import DeadLetterQueue
from handler.errors import Malformed, Refused, ReplicationError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

_numbers = itertools.count()


@pytest.fixture(scope="module")
def sqs(s3_url: str) -> Iterator[SQSClient]:
    client = boto3.client("sqs", endpoint_url=s3_url, config=Config(retries={"total_max_attempts": 1}))
    yield client
    client.close()


@pytest.fixture
def url(sqs: SQSClient) -> str:
    return sqs.create_queue(QueueName=f"dead-{os.getpid()}-{next(_numbers)}")["QueueUrl"]


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        ('{"Records": []}', Refused("no permission", code="DstPutObjectNotPermitted"), "no permission"),
        ("not JSON", Malformed("not JSON: line 1"), "not JSON: line 1"),
        ("naïve 日本", Refused("key 'naïve'"), "key 'naïve'"),
        ("x", Refused("control \x00 and \ud800 and\nbreak"), "control ? and ? and?break"),
        ("x", Refused(""), "-"),
        ("x", Refused("long " * 1000), ("long " * 1000)[:1024]),
        ("y" * 200_000, Refused("large"), "large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_message_is_parked_as_it_came_with_its_reason(
    sqs: SQSClient, url: str, body: str, reason: ReplicationError, detail: str
) -> None:
    DeadLetterQueue(sqs, url).park(body, reason)
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == body
    told = {name: value.get("StringValue") for name, value in message["MessageAttributes"].items()}
    assert told == {"Reason": reason.code, "Detail": detail}


@pytest.mark.parametrize("body", ["", "x" * 2_000_000])
def test_what_sqs_does_not_take_is_unavailable_or_taken(sqs: SQSClient, url: str, body: str) -> None:
    try:
        DeadLetterQueue(sqs, url).park(body, Refused("r"))
    except Unavailable as error:
        assert error.code == "DeadLetterQueueUnavailable"  # noqa: PT017 - moto takes what SQS may not


def test_a_queue_that_is_not_there_is_unavailable(sqs: SQSClient, url: str) -> None:
    with pytest.raises(Unavailable):
        DeadLetterQueue(sqs, url + "-gone").park("x", Refused("r"))


def test_a_queue_that_does_not_answer_is_unavailable() -> None:
    client = boto3.client("sqs", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(Unavailable):
        DeadLetterQueue(client, "http://127.0.0.1:9/1/q").park("x", Refused("r"))
    client.close()
