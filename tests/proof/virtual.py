"""SQS and Lambda in virtual time round the real handler, between two clouds in memory that can be away.

`Deployment` is a stack of template.yaml: an events queue with its dead-letter queue, Lambda's event source mapping, and
function instances, each a real `Service` with its own state. Time passes only between events, so that a week takes
seconds. What the handler decides (when a message comes again, which key fails at once, what is parked) is its own code.

    deployment = Deployment(Shape(), rules)
    deployment.troubles.append(Trouble(Side.DESTINATION, bucket="gs://copies", begins=60, ends=3660))
    deployment.put("originals", "key", b"data")
    deployment.run(until=7200)
    assert not deployment.differences()

Assumed of SQS: a standard queue hands out any visible message. A message comes again when its visibility timeout is
over. It goes to the dead-letter queue when it would be received once more than `max_receives`. The queue drops it at
the end of the retention. `in_flight` bounds what is in flight.
Assumed of Lambda: an idle instance takes up to `batch` messages, deletes what did not fail, and does not slow down by
failures (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html).
Simplified: an invocation lasts as long as its slowest key, but its keys are computed one after the other, so a circuit
may open within a batch.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any

from handler import backoff, config, observe
from handler.app import MARGIN, Service
from handler.breaker import Side
from handler.errors import ReplicationError, Unavailable
from handler.model import Generation, Original, Replica, Span, Stamp
from handler.ports import Destination, Reader, Source
from local_emulator.poller import failed_ids
from tests.fakes import MemoryDestination, MemorySource

QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:events"
_DEAD_LETTERS = "https://sqs.us-east-1.amazonaws.com/123456789012/dead-letters"
_START = 1_767_225_600.0
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


@dataclass(kw_only=True)
class Trouble:
    """A fault of a side from one virtual moment to another; of one bucket, of one key, or of all where not said."""

    side: Side
    bucket: str | None = None
    """A source bucket, or a rule's destination, as `gs://copies`."""
    key: str | None = None
    """At the destination: the copy's name."""
    begins: float = 0.0
    ends: float = inf
    code: str = ""
    """The error's; by default that of a side which is away."""
    met: int = 0
    """How many calls met it."""

    def hits(self, side: Side, bucket: str, key: str, now: float) -> bool:
        """Return True if a call at that moment meets it."""
        same = self.side is side and self.bucket in {None, bucket} and self.key in {None, key}
        return same and self.begins <= now < self.ends

    def error(self) -> ReplicationError:
        """Return what the adapter raises once its patience is over."""
        return Unavailable("away", code=self.code or ("SrcUnreachable" if self.side is Side.SOURCE else "Dst503"))


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
        return _START + self.now()


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
        assert QueueUrl == _DEAD_LETTERS
        self.parked.append((MessageAttributes["Reason"]["StringValue"], MessageBody))

    def close(self) -> None:
        """Be a client."""


class Instance:
    """A function instance: the real `Service`, but for its ports."""

    def __init__(self, deployment: Deployment, settings: config.Settings) -> None:
        self._deployment = deployment

        class _Service(Service):
            def _source(self, bucket: str, with_tags: bool) -> Source:  # noqa: FBT001 - as in `Service`
                return _SourceInTrouble(deployment, bucket)

            def _destination(self, location: str) -> Destination:
                return _DestinationInTrouble(deployment, location)

            def aws(self, service: str) -> Any:
                assert service == "sqs"
                return deployment.queue

        self.service = _Service(settings, clock=deployment.clock.wall)

    def invoke(self, batch: Sequence[Message]) -> set[str]:
        """Return the ids of the messages that failed."""
        clock = self._deployment.clock
        clock.begin(self._deployment.shape.timeout)
        self.service.deadline.begin(clock)
        answer = self.service.handle({"Records": [_record(message) for message in batch]})
        return failed_ids(answer, [str(message.id) for message in batch])


def _record(message: Message) -> dict[str, Any]:
    return {
        "messageId": str(message.id),
        "receiptHandle": message.handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(round((_START + message.sent) * 1000)),
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE_ARN,
    }


class Deployment:
    """The whole stack. See the module.

    Args:
        shape: how large and how fast.
        rules: REPLICATION_RULES, as a list.
    """

    def __init__(self, shape: Shape, rules: Sequence[Mapping[str, Any]]) -> None:
        self.shape = shape
        self.clock = Clock()
        self.queue = Queue(shape, self.clock)
        self.sources: dict[str, MemorySource] = defaultdict(MemorySource)
        self.destinations: dict[str, MemoryDestination] = defaultdict(MemoryDestination)
        self.troubles: list[Trouble] = []
        self.invocations = 0
        self.busy = 0.0
        """Seconds of all invocations: what Lambda bills."""
        self.calls: Counter[Side] = Counter()
        """Calls of either side's port, whether or not they met a trouble."""
        self.log = io.StringIO()
        """The handler's lines, from warnings on."""
        environment = {
            "REPLICATION_RULES": json.dumps(list(rules)),
            "DEAD_LETTER_QUEUE_URL": _DEAD_LETTERS,
            "CONCURRENCY": "1",
            "POWERTOOLS_LOG_LEVEL": "WARNING",
        }
        self._settings = config.load(environment)
        self._instances = [Instance(self, self._settings) for _ in range(shape.instances)]
        self._idle = list(range(shape.instances))
        self._ends: list[tuple[float, int, Sequence[Message], set[str]]] = []
        self._pending: Iterator[tuple[float, str, str, bytes]] = iter(())
        self._next: tuple[float, str, str, bytes] | None = None

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object now; S3 tells the queue."""
        original = self.sources[bucket].put(key, data)
        told = {"eventVersion": "2.1", "eventName": "ObjectCreated:Put"}
        told["eventTime"] = datetime.fromtimestamp(self.clock.wall(), UTC).isoformat()
        s3 = {"bucket": {"name": bucket}, "object": {"key": key, "size": original.size}}
        self.queue.send(json.dumps({"Records": [{**told, "s3": s3}]}))

    def expect(self, puts: Iterator[tuple[float, str, str, bytes]]) -> None:
        """Let objects be put at later moments: (moment, bucket, key, data), in order of time."""
        self._pending = puts
        self._next = next(puts, None)

    def run(self, until: float) -> None:
        """Let virtual time pass until that moment, or until nothing happens any more."""
        with self._quiet():
            while (moment := self._next_moment()) <= until:
                self.clock.base = max(self.clock.base, moment)
                self._happen()
        self.clock.base = max(self.clock.base, until if until < inf else 0.0)

    def differences(self) -> list[str]:
        """Return the keys whose copies are not equal to their originals, by the bytes themselves."""
        different = []
        for rule in self._settings.rules:
            copies = {key: stored.data for key, stored in self.destinations[rule.destination]._objects.items()}
            for key, states in self.sources[rule.source]._states.items():
                state = states[-1]
                if rule.covers(key) and copies.get(rule.destination_key(key)) != (state.data if state else None):
                    different.append(f"{rule.source}/{key}")
        return different

    def lag_over(self, limit: float) -> float | None:
        """Return the last moment at which some event was older than so many seconds; None where none ever was."""
        late = [
            inf if message.settled is None else message.settled
            for message in self.queue.messages
            if message.settled is None or message.settled - message.sent > limit
        ]
        return max(late, default=None)

    def _next_moment(self) -> float:
        if self._idle and self.queue.waiting:
            return self.clock.base
        arrival = self._next[0] if self._next else inf
        end = self._ends[0][0] if self._ends else inf
        return min(arrival, end, self.queue.next_expiry())

    def _happen(self) -> None:
        while self._next and self._next[0] <= self.clock.base:
            self.put(*self._next[1:])
            self._next = next(self._pending, None)
        while self._ends and self._ends[0][0] <= self.clock.base:
            _, number, batch, failed = heapq.heappop(self._ends)
            self._idle.append(number)
            for message in batch:
                if str(message.id) not in failed:
                    self.queue.delete(message)
        self.queue.show()
        while self._idle and self.queue.waiting:
            if batch := self.queue.receive():
                self._invoke(self._idle.pop(0), batch)

    def _invoke(self, number: int, batch: Sequence[Message]) -> None:
        failed = self._instances[number].invoke(batch)
        lasts = self.clock.now() - self.clock.base + self.shape.overhead
        self.clock.begin(0.0)
        self.invocations += 1
        self.busy += lasts
        heapq.heappush(self._ends, (self.clock.base + lasts, number, batch, failed))

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep the handler's lines, and drop its metrics."""
        handler = observe.logger.registered_handler
        stream = handler.stream  # type: ignore[attr-defined] # a StreamHandler
        handler.stream = self.log  # type: ignore[attr-defined]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            handler.stream = stream  # type: ignore[attr-defined]

    def meet(self, side: Side, bucket: str, key: str) -> None:
        """Let a call of a port take its time, and fail where a trouble is met that outlasts the adapter's patience."""
        self.calls[side] += 1
        began = self.clock.now(key)
        patience = min(self.shape.patience, max(0.0, self.clock.left() - MARGIN))
        for trouble in self.troubles:
            if trouble.hits(side, bucket, key, began):
                trouble.met += 1
                self.clock.spend(key, min(patience, trouble.ends - began))
                if trouble.ends - began >= patience:
                    raise trouble.error()
        self.clock.spend(key, self.shape.request)


class _SourceInTrouble:
    def __init__(self, deployment: Deployment, bucket: str) -> None:
        self._deployment, self._bucket = deployment, bucket
        self._source = deployment.sources[bucket]

    def head(self, key: str) -> Original | None:
        self._deployment.meet(Side.SOURCE, self._bucket, key)
        return self._source.head(key)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        self._deployment.meet(Side.SOURCE, self._bucket, original.key)
        return self._source.parts(original, exact=exact)

    @contextlib.contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        self._deployment.meet(Side.SOURCE, self._bucket, key)
        with self._source.open(key, at=at, span=span) as body:
            yield body


class _DestinationInTrouble:
    def __init__(self, deployment: Deployment, location: str) -> None:
        self._deployment, self._location = deployment, location
        self._destination = deployment.destinations[location]

    def head(self, key: str) -> Replica:
        self._meet(key)
        return self._destination.head(key)

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        self._meet(key)
        return self._destination.put(key, body, stamp, expect=expect)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        self._meet(key)
        return self._destination.patch(key, stamp, expect=expect)

    def delete(self, key: str, *, expect: Generation) -> None:
        self._meet(key)
        self._destination.delete(key, expect=expect)

    def _meet(self, key: str) -> None:
        self._deployment.meet(Side.DESTINATION, self._location, key)


def steady(bucket: str, rate: float, seconds: float, begins: float = 0.0) -> Iterator[tuple[float, str, str, bytes]]:
    """Puts of new small objects at a steady rate, for `Deployment.expect`."""
    for number in itertools.count():
        moment = begins + number / rate
        if moment >= begins + seconds:
            return
        yield moment, bucket, f"{bucket}-{number}", b"%d" % number
