"""SQS and Lambda in virtual time round the real handler, between two clouds in memory that can be away.

`Deployment` is a stack of template.yaml: an events queue with its dead-letter queue, Lambda's event source mapping, and
function instances, each a real `Service` with its own state. Time passes only between events, so that a week takes
seconds. What the handler decides (when a message comes again, which key fails at once, what is parked) is its own code.

    deployment = Deployment(Shape(), rules)
    deployment.troubles.append(Trouble(side=Side.DESTINATION, bucket="gs://copies", begins=60, ends=3660))
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
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, TextIO

from handler import config, observe
from handler.app import Service
from handler.core.model import Rule
from handler.core.ports import Destination, Source
from handler.wiring import Wiring
from local_emulator.poller import failed_ids
from tests.proof.virtual_ports import Clouds, Trouble
from tests.proof.virtual_sqs import DEAD_LETTERS, QUEUE_ARN, START, Clock, Message, Queue, Shape

__all__ = ["Deployment", "Message", "Shape", "Trouble", "steady"]


class Instance:
    """A function instance: the real `Service`, but for its ports."""

    def __init__(self, deployment: Deployment, settings: config.Settings) -> None:
        self._deployment = deployment

        class _Wiring(Wiring):
            def _source(self, bucket: str, with_tags: bool) -> Source:  # noqa: FBT001 - as in `Wiring`
                return deployment.clouds.source(bucket)

            def _destination(self, location: str) -> Destination:
                return deployment.clouds.destination(location)

            def aws(self, service: str) -> Any:
                assert service == "sqs"
                return deployment.queue

        clock = deployment.clock.wall
        self.service = Service(settings, clock, _Wiring(settings, clock))

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
            "SentTimestamp": str(round((START + message.sent) * 1000)),
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

    clouds_of: type[Clouds] = Clouds
    """What makes both clouds."""

    def __init__(self, shape: Shape, rules: Sequence[Mapping[str, Any]], clock: Clock | None = None) -> None:
        self.shape = shape
        self.clock = clock or Clock()
        self.queue = Queue(shape, self.clock)
        self.clouds = self.clouds_of(shape, self.clock)
        self.sources, self.destinations = self.clouds.sources, self.clouds.destinations
        self.troubles, self.calls = self.clouds.troubles, self.clouds.calls
        self.invocations = 0
        self.busy = 0.0
        """Seconds of all invocations: what Lambda bills."""
        self.log = io.StringIO()
        """The handler's lines, from warnings on."""
        self.metrics: TextIO | None = None
        """Where the handler writes its metrics; None: nowhere."""
        environment = {
            "REPLICATION_RULES": json.dumps(list(rules)),
            "DEAD_LETTER_QUEUE_URL": DEAD_LETTERS,
            "CONCURRENCY": "1",
            "POWERTOOLS_LOG_LEVEL": "WARNING",
        }
        self._settings = config.load(environment)
        self.rules: Sequence[Rule] = self._settings.rules
        self._instances = [Instance(self, self._settings) for _ in range(shape.instances)]
        self._idle = list(range(shape.instances))
        self._ends: list[tuple[float, int, Sequence[Message], set[str]]] = []
        self._pending: Iterator[tuple[float, str, str, bytes]] = iter(())
        self._next: tuple[float, str, str, bytes] | None = None

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object now; S3 tells the queue."""
        original = self.sources[bucket].put(key, data)
        self.tell(bucket, key, "ObjectCreated:Put", original.size)

    def tell(self, bucket: str, key: str, event: str, size: int | None = None) -> None:
        """Send the queue an event of S3's."""
        detail = {"key": key} | ({} if size is None else {"size": size})
        told = {"eventVersion": "2.1", "eventName": event}
        told["eventTime"] = datetime.fromtimestamp(self.clock.wall(), UTC).isoformat()
        self.queue.send(json.dumps({"Records": [{**told, "s3": {"bucket": {"name": bucket}, "object": detail}}]}))

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
        """Keep the handler's lines, and drop its metrics unless they are asked for."""
        handler = observe.logger.registered_handler
        stream = handler.stream  # type: ignore[attr-defined] # a StreamHandler
        handler.stream = self.log  # type: ignore[attr-defined]
        try:
            with contextlib.redirect_stdout(self.metrics or io.StringIO()):
                yield
        finally:
            handler.stream = stream  # type: ignore[attr-defined]


def steady(bucket: str, rate: float, seconds: float, begins: float = 0.0) -> Iterator[tuple[float, str, str, bytes]]:
    """Puts of new small objects at a steady rate, for `Deployment.expect`."""
    for number in itertools.count():
        moment = begins + number / rate
        if moment >= begins + seconds:
            return
        yield moment, bucket, f"{bucket}-{number}", b"%d" % number
