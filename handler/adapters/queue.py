"""SQS: the queues that are written to (dead letters, parts, deletes), and when a message comes again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from handler.core.errors import ReplicationError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

LONG_POLL = 1
"""Seconds of the shortest poll that asks all of SQS's servers."""
_DETAIL_MAX = 1024
_BATCH = 10
_COUNTS: tuple[QueueAttributeNameType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)


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


class MessageQueue:
    """An SQS queue of work that any invocation may do.

    Args:
        client: boto3's, for SQS, made when it is first needed.
        url: the queue's.
        what: what the queue holds, for errors: "parts" or "deletes".
    """

    def __init__(self, client: Callable[[], SQSClient], url: str, what: str) -> None:
        self._client = client
        self._url = url
        self._what = what

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
                answer = self._client().send_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type] # a plain dict is one
            except (ClientError, BotoCoreError) as error:
                raise self._unavailable(f"cannot hand {self._what} over: {error}") from error
            if answer.get("Failed"):
                raise self._unavailable(f"cannot hand {self._what} over: {answer['Failed']}")

    def count(self) -> int:
        """Return how many messages the queue holds: visible, delayed, or received and not yet settled.

        SQS counts approximately: up to a minute passes until the count is right after the last message was sent.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html

        Raises:
            Unavailable: the queue does not say.
        """
        try:
            answer = self._client().get_queue_attributes(QueueUrl=self._url, AttributeNames=[*_COUNTS])
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(f"cannot count the {self._what} in {self._url}: {error}") from error
        return sum(int(answer["Attributes"][name]) for name in _COUNTS)

    def has_any(self) -> bool:
        """Return whether a message can be received from the queue: right now, unlike what its count says.

        A poll that waits asks all of SQS's servers, and lasts a second if there is no message. One that is found can be
        received by others at once.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html

        Raises:
            Unavailable: the queue does not say.
        """
        try:
            answer = self._client().receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=LONG_POLL
            )
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(f"cannot see whether there are {self._what} in {self._url}: {error}") from error
        return bool(answer.get("Messages"))

    def _unavailable(self, text: str) -> Unavailable:
        return Unavailable(text, code=f"{self._what.capitalize()}QueueUnavailable")


def _printable(text: str) -> str:
    """SQS refuses control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
