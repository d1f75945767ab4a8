"""A standard SQS queue in virtual time, as far as the handler and the event source mapping use it. See `virtual.py`."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from handler import backoff

QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:events"
DEAD_LETTERS = "https://sqs.us-east-1.amazonaws.com/123456789012/dead-letters"
START = 1_767_225_600.0
"""2026-01-01 in seconds since 1970: the virtual moment 0."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the deployment is, and how fast. The defaults are those of template.yaml, at full scale."""

    instances: int = 20
    """MaximumConcurrency."""
    batch: int = 10
    request: float = 0.08
    """Seconds of one request to either side that is answered: three make a small object's copy."""
    overhead: float = 0.02
    """Seconds of an invocation beside its keys."""
    patience: float = 30.0
    """Seconds that an adapter tries a side which is away, before the key fails."""
    timeout: float = 120.0
    """The function's, in seconds."""
    visibility: float = 780.0
    """The queue's visibility timeout, in seconds."""
    max_receives: int = backoff.MAX_RECEIVES
    retention: float = backoff.RETENTION
    in_flight: int = 120_000
    """Messages in flight that a standard queue has at most."""
    seed: int = 1


class Clock:
    """Virtual seconds. While an invocation is computed, its keys' own time is added; they run side by side."""

    def __init__(self) -> None:
        self.base = 0.0
        self._spent: dict[str, float] = defaultdict(float)
        self.timeout = 0.0

    def begin(self, timeout: float) -> None:
        """Note a new invocation."""
        self.timeout = timeout
        self._spent.clear()

    def now(self, key: str | None = None) -> float:
        """Return the moment: of a key's work, or of the invocation, which lasts as long as its slowest key."""
        return self.base + (max(self._spent.values(), default=0.0) if key is None else self._spent[key])

    def spend(self, key: str, seconds: float) -> None:
        """Let a key's work take so long."""
        self._spent[key] += seconds

    def left(self) -> float:
        """Seconds until the invocation is ended."""
        return self.timeout - (self.now() - self.base)

    def get_remaining_time_in_millis(self) -> int:
        """Be Lambda's context."""
        return int(self.left() * 1000)

    def wall(self) -> float:
        """Seconds since 1970."""
        return START + self.now()


@dataclass
class Message:
    """One message of the queue."""

    id: int
    body: str
    sent: float
    receives: int = 0
    handle: str = ""
    visible_at: float = 0.0
    """Until when it is in flight."""
    settled: float | None = None
    """When it was deleted."""


class Queue:
    """A standard queue, as far as boto3's client is used by the handler, and its dead-letter queue."""

    def __init__(self, shape: Shape, clock: Clock) -> None:
        self._shape, self._clock = shape, clock
        self._random = random.Random(shape.seed)  # noqa: S311 - to be repeatable
        self._visible: list[Message] = []
        self._flying: dict[str, Message] = {}
        self._expiries: list[tuple[float, int, str]] = []
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        """What SQS moved to the dead-letter queue."""
        self.parked: list[tuple[str, str]] = []
        """What the function sent there: reason and body."""
        self.lost: list[Message] = []
        """What was dropped at the end of its retention."""
        self.received = 0

    # --- as the sender and the event source mapping use it

    def send(self, body: str) -> None:
        """Take a message."""
        message = Message(len(self.messages), body, self._clock.base)
        self.messages.append(message)
        self._visible.append(message)

    def receive(self) -> list[Message]:
        """Hand out a batch of visible messages, any of them."""
        batch: list[Message] = []
        while self._visible and len(batch) < self._shape.batch and len(self._flying) < self._shape.in_flight:
            message = self._take()
            if self._clock.base >= message.sent + self._shape.retention:
                self.lost.append(message)
            elif message.receives >= self._shape.max_receives:
                self.dead.append(message)
            else:
                message.receives += 1
                message.handle = f"{message.id}-{message.receives}"
                self._flying[message.handle] = message
                self._hide(message, self._clock.base + self._shape.visibility)
                batch.append(message)
        self.received += len(batch)
        return batch

    def _take(self) -> Message:
        place = self._random.randrange(len(self._visible))
        self._visible[place], self._visible[-1] = self._visible[-1], self._visible[place]
        return self._visible.pop()

    def _hide(self, message: Message, until: float) -> None:
        message.visible_at = until
        heapq.heappush(self._expiries, (until, message.id, message.handle))

    def delete(self, message: Message) -> None:
        """Forget a message that was worked on."""
        if self._flying.pop(message.handle, None):
            message.settled = self._clock.base

    def show(self) -> None:
        """Make visible again what is due by now."""
        while self._expiries and self._expiries[0][0] <= self._clock.base:
            until, _, handle = heapq.heappop(self._expiries)
            message = self._flying.get(handle)
            if message and message.visible_at == until:
                del self._flying[handle]
                self._visible.append(message)

    def next_expiry(self) -> float:
        """Return when the next message in flight may become visible."""
        return self._expiries[0][0] if self._expiries else inf

    @property
    def waiting(self) -> bool:
        """Whether there is a message to receive, and room for it in flight."""
        return bool(self._visible) and len(self._flying) < self._shape.in_flight

    @property
    def left(self) -> int:
        """Messages that are not settled."""
        return len(self._visible) + len(self._flying)

    # --- as the handler uses it

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        assert QueueUrl.endswith("/events")
        assert 1 <= len(Entries) <= 10
        for entry in Entries:
            assert 0 <= entry["VisibilityTimeout"] <= 43_200
            if message := self._flying.get(entry["ReceiptHandle"]):
                self._hide(message, self._clock.now() + entry["VisibilityTimeout"])
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def send_message(self, *, QueueUrl: str, MessageBody: str, MessageAttributes: Mapping[str, Any]) -> Any:  # noqa: N803 - boto3's
        """See SQS."""
        assert QueueUrl == DEAD_LETTERS
        self.parked.append((MessageAttributes["Reason"]["StringValue"], MessageBody))

    def close(self) -> None:
        """Be a client."""
