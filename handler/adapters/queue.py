"""SQS: the queues that the function sends to (dead letters, parts, deletes), and the delay of received messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """An SQS queue that an operator inspects and redrives from."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def park(self, body: str, reason: ReplicationError) -> None:
        """Send the message as it came, with the attributes `Reason` (a code) and `Detail` (a sentence).

        Raises:
            Unavailable: the queue did not take it.
        """
        texts = {"Reason": reason.code, "Detail": str(reason)[:_DETAIL_MAX]}
        with _translated("park a message", "DeadLetterQueueUnavailable"):
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": _printable(text) or "-"} for name, text in texts.items()
                },
            )


class Delay(NamedTuple):
    """The time after which a received message becomes visible again."""

    queue: str
    """The ARN of the message's queue."""
    handle: str
    """The receipt handle."""
    seconds: int


def postpone(client: Callable[[], SQSClient], delays: Iterable[Delay]) -> None:
    """Replace the visibility timeout of each message by the message's own delay, counted from now.

    Raises:
        Unavailable: some messages keep their visibility timeout, which is harmless.
    """
    refused: list[object] = []
    for queue, group in groupby(sorted(delays), key=lambda delay: delay.queue):
        for entries in _batches(
            [{"ReceiptHandle": delay.handle, "VisibilityTimeout": delay.seconds} for delay in group]
        ):
            try:
                answer = client().change_message_visibility_batch(QueueUrl=_url_of(queue), Entries=entries)
                refused += answer.get("Failed", [])
            except (ClientError, BotoCoreError) as error:
                refused.append(error)
    if refused:
        message = f"cannot postpone messages, which keep their visibility timeout: {refused[0]}"
        raise Unavailable(message, code="EventsQueueUnavailable")


class MessageQueue:
    """An SQS queue of work that any invocation may do.

    Args:
        client: returns boto3's client of SQS, made when it is first needed.
        url: the queue's.
        what: what the queue holds, for errors: "parts" or "deletes".
    """

    def __init__(self, client: Callable[[], SQSClient], url: str, what: str) -> None:
        self._client = client
        self._url = url
        self._what = what
        self._code = f"{what.capitalize()}QueueUnavailable"

    def send(self, messages: Sequence[str]) -> None:
        """Send all messages, ten at a time.

        Raises:
            Unavailable: the queue did not take all of them. It may deliver those it took twice.
        """
        for entries in _batches([{"MessageBody": message} for message in messages]):
            with _translated(f"send {self._what} to {self._url}", self._code):
                answer = self._client().send_message_batch(QueueUrl=self._url, Entries=entries)
            if answer.get("Failed"):
                message = f"cannot send {self._what} to {self._url}: {answer['Failed']}"
                raise Unavailable(message, code=self._code)

    def count(self) -> int:
        """Return the number of messages that are visible, delayed, or received and not yet deleted.

        The number is approximate: it may be wrong for up to a minute after the last message was sent.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html

        Raises:
            Unavailable: SQS did not answer.
        """
        with _translated(f"count the {self._what} in {self._url}", self._code):
            answer = self._client().get_queue_attributes(QueueUrl=self._url, AttributeNames=[*_COUNTS])
        return sum(int(answer["Attributes"][name]) for name in _COUNTS)

    def has_any(self) -> bool:
        """Return True if a message can be received now, which is exact, unlike `count`.

        A long poll asks all of SQS's servers, and takes a second if there is no message. The message that is found
        stays visible.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html

        Raises:
            Unavailable: SQS did not answer.
        """
        with _translated(f"receive {self._what} from {self._url}", self._code):
            answer = self._client().receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=LONG_POLL
            )
        return bool(answer.get("Messages"))


@contextmanager
def _translated(what: str, code: str) -> Iterator[None]:
    """Raise Unavailable for every error of boto3's."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise Unavailable(f"cannot {what}: {error}", code=code) from error


def _batches(entries: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """Yield the entries of one request after another, each with an Id."""
    numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
    for start in range(0, len(numbered), _BATCH):
        yield numbered[start : start + _BATCH]


def _url_of(arn: str) -> str:
    """Return the URL of a queue, which follows from the ARN."""
    _, partition, _, region, account, name = [*arn.split(":", 5), *[""] * 6][:6]
    domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return f"https://sqs.{region}.{domain}/{account}/{name}"


def _printable(text: str) -> str:
    """Replace control characters, which SQS refuses."""
    return "".join(character if character.isprintable() else "?" for character in text)
