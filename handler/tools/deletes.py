"""Lists the deletes that the brake holds, and releases or drops them.

    python -m handler.tools.deletes list --stack STACK       show their number, and some of the keys with their ages
    python -m handler.tools.deletes release --stack STACK    carry them out, unless the source has the key again
    python -m handler.tools.deletes drop --stack STACK       forget them; the copies stay

`release` returns the deletes that were held after it began to the deletes queue, and the brake decides on them again.
After `drop`, `python -m handler.tools.verify` names each copy that stays, as "delete".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.adapters.queue import MessageQueue
from handler.core.errors import Unavailable
from handler.core.task import Change
from handler.events import parse
from handler.messages import delete_message
from handler.tools.verify import printable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_BATCH = 10
"""Messages of one receive, and keys that `list` shows, at most."""
_PROGRESS = 1_000
"""Deletes between two lines of progress."""
_WAIT = 2
"""Seconds that an empty receive lasts; a shorter one may miss messages."""
_OUTPUTS = {"events": "EventsQueueUrl", "deletes": "DeletesQueueUrl", "held": "HeldDeletesQueueUrl"}
"""The stack's outputs that have the queues' URLs."""


class Queues(NamedTuple):
    """The URLs of the queues that a delete passes through."""

    events: str
    deletes: str
    held: str


class HeldDeletes:
    """The deletes that the brake holds.

    Args:
        sqs: boto3's client.
        queues: the queues' URLs.
        clock: returns the seconds since 1970.
        wait: seconds that an empty receive lasts.
    """

    def __init__(
        self, sqs: SQSClient, queues: Queues, clock: Callable[[], float] = time.time, wait: int = _WAIT
    ) -> None:
        self._sqs, self._queues, self._clock, self._wait = sqs, queues, clock, wait

    def counts(self) -> tuple[int, int]:
        """Return about how many deletes are held, and about how many wait in the deletes queue.

        Raises:
            Unavailable: SQS does not answer.
        """
        return self._queue(self._queues.held).count(), self._queue(self._queues.deletes).count()

    def some(self) -> list[tuple[Change, float]]:
        """Return some of the held deletes, each with its age in seconds. They stay visible to other receivers."""
        return [(_change(message), self._clock() - _sent(message)) for message in self._received(visibility=0)]

    def release(self) -> Iterator[int]:
        """Release all deletes that are held by now. Yield the number of each batch.

        Raises:
            Unavailable: a queue did not take all messages; the rest is still held.
        """
        began = self._clock()
        events, deletes = self._queue(self._queues.events), self._queue(self._queues.deletes)
        while messages := self._received():
            known = [message for message in messages if _sent(message) <= began]
            events.send([_released(message) for message in known])
            deletes.send([message["Body"] for message in messages if message not in known])
            self._forget(messages)
            yield len(known)

    def drop(self) -> Iterator[int]:
        """Drop all deletes that are held by now. Yield the number of each batch."""
        began = self._clock()
        while known := [message for message in self._received() if _sent(message) <= began]:
            self._forget(known)
            yield len(known)

    def _queue(self, url: str) -> MessageQueue:
        return MessageQueue(lambda: self._sqs, url, "deletes")

    def _received(self, visibility: int = 60) -> list[MessageTypeDef]:
        answer = self._sqs.receive_message(
            QueueUrl=self._queues.held,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=visibility,
            AttributeNames=["SentTimestamp"],
        )
        return answer.get("Messages", [])

    def _forget(self, messages: Sequence[MessageTypeDef]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]
        self._sqs.delete_message_batch(QueueUrl=self._queues.held, Entries=entries)  # type: ignore[arg-type] # a plain dict is one


def _sent(message: MessageTypeDef) -> float:
    return int(message["Attributes"]["SentTimestamp"]) / 1000


def _change(message: MessageTypeDef) -> Change:
    """Return the change that a message carries."""
    batch = parse({"Records": [{"eventSource": "aws:sqs", "messageId": "", "body": message["Body"]}]})
    return batch.deliveries[0].changes[0]


def _released(message: MessageTypeDef) -> str:
    change = _change(message)
    return delete_message(change.bucket, change.key, released=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Return 0 if it succeeded, 2 if it cannot."""
    options = _options(arguments)
    try:
        held = HeldDeletes(boto3.client("sqs"), _queues(options))
        _COMMANDS[options.command](held)
    except (Unavailable, ClientError, BotoCoreError, LookupError) as error:
        sys.stderr.write(f"cannot {options.command} held deletes: {error}\n")
        return 2
    return 0


def _list(held: HeldDeletes) -> None:
    count, _ = held.counts()
    sys.stdout.write(f"{count:,} deletes are held.\n")
    for change, seconds in held.some() if count else ():
        sys.stdout.write(printable(f"  {seconds / 3600:5.1f} h  s3://{change.bucket}/{change.key}") + "\n")
    _tell_of_waiting(held)


def _release(held: HeldDeletes) -> None:
    count = _counted(held.release(), "released")
    sys.stdout.write(f"{count:,} deletes were released. Each is carried out unless the source has its key again.\n")
    _tell_of_waiting(held)


def _drop(held: HeldDeletes) -> None:
    count = _counted(held.drop(), "dropped")
    sys.stdout.write(
        f"{count:,} deletes were dropped. Their copies stay; `python -m handler.tools.verify` names them.\n"
    )
    _tell_of_waiting(held)


def _tell_of_waiting(held: HeldDeletes) -> None:
    """Print how many deletes wait. The brake carries them out if they are within the limit and none is held."""
    _, waiting = held.counts()
    if waiting:
        sys.stdout.write(f"Deletes that wait for the brake's decision: about {waiting:,}.\n")


def _counted(batches: Iterator[int], what: str) -> int:
    count = shown = 0
    for batch in batches:
        count += batch
        if count - shown >= _PROGRESS:
            shown = count
            sys.stderr.write(f"{count:,} {what}\n")
    return count


_COMMANDS = {"list": _list, "release": _release, "drop": _drop}


def _queues(options: argparse.Namespace) -> Queues:
    """Return the URLs from the options, or else from the stack's outputs.

    Raises:
        LookupError: an option is missing, or the stack has no such output.
    """
    named = {name: getattr(options, f"{name}_queue") for name in _OUTPUTS}
    if not options.stack:
        missing = [f"--{name}-queue" for name, url in named.items() if not url]
        if missing:
            raise LookupError(f"give --stack, or else {', '.join(missing)} too")
        return Queues(**named)
    stacks = boto3.client("cloudformation").describe_stacks(StackName=options.stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
    if missing := [output for output in _OUTPUTS.values() if output not in outputs]:
        raise LookupError(f"the stack {options.stack} has no output {', '.join(missing)}: deploy this release first")
    return Queues(**{name: url or outputs[_OUTPUTS[name]] for name, url in named.items()})


def _options(arguments: list[str] | None) -> argparse.Namespace:
    head, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m handler.tools.deletes",
        description=head,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(_COMMANDS), help="what to do with the held deletes")
    parser.add_argument("--stack", metavar="NAME", help="the CloudFormation stack, whose outputs have the queues' URLs")
    for name, output in _OUTPUTS.items():
        parser.add_argument(
            f"--{name}-queue", metavar="URL", help=f"the URL of this queue (default: the stack's output {output})"
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
