"""The queues, on SQS's API over HTTP."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from handler import config
from handler.adapters.queue import DeadLetterQueue, Delay, postpone
from handler.adapters.retry import CONNECT, SILENCE
from handler.adapters.transport import IDLE_MAX
from handler.app import Service
from handler.core.errors import Malformed, Refused, ReplicationError, Unavailable
from handler.tools import trials
from tests.functional.scripted import answer, scripted

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


def arn_of(sqs: SQSClient, url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def receive(sqs: SQSClient, url: str) -> dict[str, str]:
    """All visible messages, which are in flight then: body to receipt handle."""
    found: dict[str, str] = {}
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages"):
        found |= {message["Body"]: message["ReceiptHandle"] for message in messages}
    return found


def test_a_message_that_is_postponed_comes_again_after_its_own_time(sqs: SQSClient, url: str) -> None:
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    handles = receive(sqs, url)
    assert len(handles) == 12
    arn = arn_of(sqs, url)
    postpone(lambda: sqs, [Delay(arn, handles[str(number)], 0 if number % 2 else 600) for number in range(12)])
    assert set(receive(sqs, url)) == {"1", "3", "5", "7", "9", "11"}


def test_messages_of_two_queues_are_postponed_each_at_its_own(sqs: SQSClient, url: str) -> None:
    other = sqs.create_queue(QueueName=f"other-{os.getpid()}-{next(_numbers)}")["QueueUrl"]
    delays = []
    for queue in (url, other):
        sqs.send_message(QueueUrl=queue, MessageBody="m")
        delays.append(Delay(arn_of(sqs, queue), receive(sqs, queue)["m"], 0))
    postpone(lambda: sqs, delays)
    assert [set(receive(sqs, queue)) for queue in (url, other)] == [{"m"}, {"m"}]


def test_what_sqs_refuses_to_postpone_is_said_and_the_rest_is_postponed(sqs: SQSClient, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="m")
    arn = arn_of(sqs, url)
    with pytest.raises(Unavailable, match="ReceiptHandleIsInvalid") as caught:
        postpone(lambda: sqs, [Delay(arn, "no handle of this queue", 0), Delay(arn, receive(sqs, url)["m"], 0)])
    assert caught.value.code == "EventsQueueUnavailable"
    assert set(receive(sqs, url)) == {"m"}


def test_the_check_tries_whether_messages_may_be_postponed(
    sqs: SQSClient, url: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_url)
    results = [row.result for queue in (url, url + "-gone", None) for row in trials._visibility(queue)]
    assert results == ["ok", "FAILED", "not tried"]


@pytest.mark.parametrize("arn", ["arn:aws:sqs:us-east-1:123456789012:no-such-queue", "no ARN", ""])
def test_a_queue_that_is_not_there_cannot_postpone(sqs: SQSClient, arn: str) -> None:
    with pytest.raises(Unavailable, match="visibility timeout"):
        postpone(lambda: sqs, [Delay(arn, "handle", 1)])


@pytest.mark.parametrize(
    ("arn", "url"),
    [
        ("arn:aws:sqs:eu-west-1:123456789012:events", "https://sqs.eu-west-1.amazonaws.com/123456789012/events"),
        ("arn:aws-cn:sqs:cn-north-1:1:events", "https://sqs.cn-north-1.amazonaws.com.cn/1/events"),
    ],
)
def test_a_queue_has_the_url_that_sqs_gives_it(arn: str, url: str) -> None:
    """Its endpoint is the region's: https://docs.aws.amazon.com/general/latest/gr/sqs-service.html."""
    asked: list[str] = []

    class _Client:
        def change_message_visibility_batch(self, *, QueueUrl: str, Entries: object) -> dict[str, object]:  # noqa: N803 - boto3's
            asked.append(QueueUrl)
            return {}

    postpone(_Client, [Delay(arn, "handle", 1)])  # type: ignore[arg-type] # all that is used of one
    assert asked == [url]


def test_a_connection_of_boto3s_that_idled_over_a_minute_of_wall_clock_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """boto3 itself would use it: the network may have dropped it in silence while Lambda froze the function."""
    now = [1_000_000.0]
    rule = '[{"Source": {"Bucket": "b01"}, "Destination": {"Bucket": "file:///tmp"}}]'
    with scripted() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.port}")
        server.default = answer("200 OK", body=b"<?xml version='1.0'?><ListAllMyBucketsResult/>")
        with closing(Service(config.load({"REPLICATION_RULES": rule}), clock=lambda: now[0])) as service:
            for passes in (0, IDLE_MAX, IDLE_MAX + 1, 0, -3600, 0):
                now[0] += passes
                service.wiring.aws("s3").list_buckets()
    assert [request.connection for request in server.requests] == [1, 1, 2, 2, 3, 3]


def test_a_request_of_boto3s_is_short() -> None:
    """S3's is tried again by `retry`, within the time that is left, and not by boto3 as well."""
    rule = '[{"Source": {"Bucket": "b01"}, "Destination": {"Bucket": "file:///tmp"}}]'
    with closing(Service(config.load({"REPLICATION_RULES": rule}))) as service:
        for name, tries in (("s3", 1), ("sqs", 3)):
            how = service.wiring.aws(name).meta.config
            assert (how.read_timeout, how.connect_timeout) == (SILENCE, CONNECT)
            assert how.retries["total_max_attempts"] == tries
