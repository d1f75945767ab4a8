"""SQS: the queues that are written to (dead letters, parts of large copies), and when a message comes again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import ReplicationError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

_DETAIL_MAX = 1024
_BATCH = 10


class DeadLetterQueue:
    """An SQS queue that an operator looks into and redrives from."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def park(self, body: str, reason: ReplicationError) -> None:
        """Send the message as it came, its reason in the attributes `Reason` (a code) and `Detail` (a sentence).

        Raises:
            Unavailable: the queue did not take it.
        """
        attributes = {"Reason": reason.code, "Detail": str(reason)[:_DETAIL_MAX]}
        try:
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": _printable(value) or "-"}
                    for name, value in attributes.items()
                },
            )
        except (ClientError, BotoCoreError) as error:
            raise Unavailable(f"cannot park a message: {error}", code="DeadLetterQueueUnavailable") from error


class Delay(NamedTuple):
    """When a message that was received comes again."""

    queue: str
    """The ARN of the queue that it came by."""
    handle: str
    """The receipt handle."""
    seconds: int


def postpone(client: Callable[[], SQSClient], delays: Iterable[Delay]) -> None:
    """Have each message come again after its own time, counted from now, in place of the visibility timeout.

    Raises:
        Unavailable: some come again only when their visibility timeout is over, which does no harm.
    """
    refused: list[object] = []
    for queue, group in groupby(sorted(delays), key=lambda delay: delay.queue):
        entries = [
            {"Id": str(number), "ReceiptHandle": delay.handle, "VisibilityTimeout": delay.seconds}
            for number, delay in enumerate(group)
        ]
        for start in range(0, len(entries), _BATCH):
            try:
                answer = client().change_message_visibility_batch(
                    QueueUrl=_url_of(queue),
                    Entries=entries[start : start + _BATCH],  # type: ignore[arg-type] # a plain dict is one
                )
                refused += answer.get("Failed", [])
            except (ClientError, BotoCoreError) as error:
                refused.append(error)
    if refused:
        raise Unavailable(
            f"cannot set when messages come again, their visibility timeout holds: {refused[0]}",
            code="EventsQueueUnavailable",
        )


def _url_of(arn: str) -> str:
    """The URL of a queue, which SQS builds of what is in its ARN."""
    _, partition, _, region, account, name = [*arn.split(":", 5), *[""] * 6][:6]
    domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return f"https://sqs.{region}.{domain}/{account}/{name}"


class PartsQueue:
    """An SQS queue of parts that any invocation may copy."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, messages: Sequence[str]) -> None:
        """Send them all, ten at a time.

        Raises:
            Unavailable: the queue did not take them all; those it took are worked on, and may come again.
        """
        for start in range(0, len(messages), _BATCH):
            entries = [
                {"Id": str(number), "MessageBody": message}
                for number, message in enumerate(messages[start : start + _BATCH])
            ]
            try:
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type] # a plain dict is one
            except (ClientError, BotoCoreError) as error:
                raise Unavailable(f"cannot hand parts over: {error}", code="PartsQueueUnavailable") from error
            if answer.get("Failed"):
                raise Unavailable(f"cannot hand parts over: {answer['Failed']}", code="PartsQueueUnavailable")


def _printable(text: str) -> str:
    """SQS refuses control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
