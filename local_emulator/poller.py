"""Lambda's event source mapping for SQS: it polls, invokes, and deletes what did not fail."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from local_emulator.context import Invoke

BATCH = 10
LONG_POLL = 5
"""Seconds. SQS answers as soon as there is a message; the length decides only how often an idle poller asks."""

log = logging.getLogger(__name__)


class Queue(NamedTuple):
    """The two names that SQS has for a queue."""

    url: str
    arn: str


class Poller:
    """Feeds a queue's messages to a handler until it is stopped.

    One thread receives, because moto hands a message out twice to two who ask at once; each batch is an invocation in a
    thread of its own, at most `concurrency` at a time. A message that failed is left alone: it becomes visible when
    the handler asked for that, or else when its visibility timeout is over. In AWS that timeout is six times the
    function's own; here it is short, and is therefore renewed while the invocation runs.
    """

    def __init__(self, sqs: SQSClient, queue: Queue, invoke: Invoke, *, concurrency: int, visibility: int) -> None:
        self._sqs = sqs
        self._queue = queue
        self._invoke = invoke
        self._visibility = visibility
        self._slots = threading.BoundedSemaphore(concurrency)
        self._stopped = threading.Event()
        self._held: set[str] = set()
        self._held_lock = threading.Lock()

    def start(self) -> None:
        """Begin to poll."""
        for work in (self._receive, self._renew):
            threading.Thread(target=work, name=f"poller-{work.__name__}", daemon=True).start()

    def stop(self) -> None:
        """Take no more messages. What runs is not waited for: its messages become visible again."""
        self._stopped.set()

    def _receive(self) -> None:
        while not self._stopped.is_set():
            self._slots.acquire()
            batch: Sequence[MessageTypeDef] = ()
            try:
                batch = self._sqs.receive_message(
                    QueueUrl=self._queue.url,
                    MaxNumberOfMessages=BATCH,
                    WaitTimeSeconds=LONG_POLL,
                    VisibilityTimeout=self._visibility,
                    AttributeNames=["All"],
                    MessageAttributeNames=["All"],
                ).get("Messages", ())
            except (BotoCoreError, ClientError) as error:
                if not self._stopped.wait(0.2):
                    log.warning("the queue did not answer: %s", error)
            if batch and not self._stopped.is_set():
                threading.Thread(target=self._run, args=(batch,), name="invocation", daemon=True).start()
            else:
                self._slots.release()

    def _run(self, batch: Sequence[MessageTypeDef]) -> None:
        handles = {message["MessageId"]: message["ReceiptHandle"] for message in batch}
        try:
            failed = self._outcome(batch, handles.values())
            done = [handle for message_id, handle in handles.items() if message_id not in failed]
            if done and not self._stopped.is_set():
                entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(done)]
                self._sqs.delete_message_batch(QueueUrl=self._queue.url, Entries=entries)  # type: ignore[arg-type]
        except (BotoCoreError, ClientError) as error:
            if not self._stopped.is_set():
                log.warning("messages could not be deleted and will come again: %s", error)
        finally:
            self._slots.release()

    def _outcome(self, batch: Sequence[MessageTypeDef], handles: Collection[str]) -> set[str]:
        """Invoke the handler and return the ids of the messages that failed.

        Their visibility timeout is renewed meanwhile, and not any more once the handler may have set it.
        """
        ids = [message["MessageId"] for message in batch]
        with self._held_lock:
            self._held.update(handles)
        try:
            answer = self._invoke(sqs_event(batch, self._queue.arn))
        except Exception as error:
            log.warning(
                "the handler raised, %d messages will come again: %s",
                len(ids),
                error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )
            return set(ids)
        finally:
            with self._held_lock:
                self._held.difference_update(handles)
        return failed_ids(answer, ids)

    def _renew(self) -> None:
        while not self._stopped.wait(self._visibility / 2):
            with self._held_lock:
                held = list(self._held)
            for handle in held:
                try:
                    self._sqs.change_message_visibility(
                        QueueUrl=self._queue.url, ReceiptHandle=handle, VisibilityTimeout=self._visibility
                    )
                except (BotoCoreError, ClientError) as error:  # settled meanwhile, or the server is gone
                    log.debug("not renewed: %s", error)


def failed_ids(answer: Any, ids: Sequence[str]) -> set[str]:
    """Return the messages of a batch that failed, by the rules of Lambda's partial batch responses.

    Nothing, an empty answer and an empty or null list mean that all succeeded; an answer that is no object, or names
    what was not in the batch, means that all failed.
    """
    if answer is None:
        return set()
    if not isinstance(answer, Mapping):
        return set(ids)
    failures = answer.get("batchItemFailures") or []
    if not isinstance(failures, list):
        return set(ids)
    named = [item.get("itemIdentifier") if isinstance(item, Mapping) else None for item in failures]
    return {name for name in ids if name in named} if all(name in ids for name in named) else set(ids)


def sqs_event(batch: Sequence[MessageTypeDef], queue_arn: str) -> dict[str, Any]:
    """Return the event that Lambda makes of received messages."""
    return {"Records": [_record(message, queue_arn) for message in batch]}


def _record(message: MessageTypeDef, queue_arn: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    """Spell a message attribute as Lambda does; bytes travel as base64."""
    record: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        record["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        record["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return record
