"""The dead-letter queue: where what can never succeed is parked at once, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import ReplicationError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

_DETAIL_MAX = 1024


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


def _printable(text: str) -> str:
    """SQS refuses control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
