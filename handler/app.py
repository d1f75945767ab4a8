"""The Lambda entry and composition root: which trigger, which adapter, which answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from handler import config, events, observe
from handler.adapters import retry
from handler.adapters.queue import DeadLetterQueue, Delay, MessageQueue, postpone
from handler.adapters.s3 import S3Source
from handler.adapters.s3_client import S3Requests
from handler.adapters.transport import IDLE_MAX
from handler.answers import task_result
from handler.brake import Brake
from handler.breaker import Circuits
from handler.errors import Malformed, ReplicationError, Unavailable
from handler.events import Batch, Delivery, Trigger
from handler.model import Change, Part
from handler.pace import Pace
from handler.parts import Parts
from handler.ports import Destination, Source
from handler.reconcile import Outcome
from handler.redelivery import Failed, delays, final_reason, set_apart
from handler.replicator import Replicator, Result, Work, coalesce
from handler.throttle import ThrottledSource, TokenBucket

MARGIN = 5.0
"""Seconds before the deadline at which nothing new is begun."""


class Context(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is ended."""


def lambda_handler(event: dict[str, Any], context: Context) -> Any:
    """Answer any trigger of design section 7.

    Raises:
        ConfigurationError: the function is set up wrongly; the message names every fault.
        ReplicationError: a direct event that must be delivered again.
    """
    service = _service()
    service.deadline.begin(context)
    if "requestContext" in event:
        from handler import rest  # its routers cost a cold start that only HTTP needs

        return rest.answer(event, context, allows=service.replicator.allows, replicate=service.on_demand)
    return service.handle(event)


class Service:
    """The assembled replicator, kept across invocations.

    Args:
        settings: the configuration.
        clock: seconds since 1970.
    """

    def __init__(self, settings: config.Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self.deadline = Deadline()
        self._clients: dict[str, Any] = {}
        self._used: dict[str, float] = {}
        self._lock = Lock()
        self._s3 = S3Requests(
            partial(self.aws, "s3"),
            connections=settings.concurrency + settings.streams,
            time_left=self.deadline.left,
        )
        self._bucket = settings.bandwidth and TokenBucket(settings.bandwidth, left=self.deadline.left)
        observe.logger.setLevel(settings.log_level)
        self._observer = observe.Observer(settings.metrics_namespace, clock)
        self._dead_letters: Callable[[], DeadLetterQueue] | None = None
        if settings.dead_letter_queue:
            self._dead_letters = lambda: DeadLetterQueue(self.aws("sqs"), settings.dead_letter_queue)
        self._brake = self._new_brake()
        self.replicator = Replicator(
            settings.by_source,
            source=self._source,
            destination=self._destination,
            concurrency=settings.concurrency,
            parts=Parts(
                ThreadPoolExecutor(settings.streams, "part"),
                huge=settings.huge,
                send=self._sender(),
                pace=Pace(self.deadline.left),
            ),
            dry_run=settings.dry_run,
            circuits=Circuits(clock=clock, switched=observe.switched),
            defer_delete=self._brake.defer if self._brake else None,
        )

    def _queue(self, url: str, what: str) -> MessageQueue:
        return MessageQueue(partial(self.aws, "sqs"), url, what)

    def _new_brake(self) -> Brake | None:
        waiting, held, limit = (
            self._settings.deletes_queue,
            self._settings.held_deletes_queue,
            self._settings.deletes_limit,
        )
        if not (waiting and held and limit):
            return None
        return Brake(self._queue(waiting, "deletes"), self._queue(held, "deletes"), limit)

    def _sender(self) -> Callable[[Sequence[Part]], None] | None:
        if not self._settings.parts_queue:
            return None
        queue = self._queue(self._settings.parts_queue, "parts")
        return lambda parts: queue.send([events.part_message(part) for part in parts])

    def aws(self, service: str) -> Any:
        """Return the one boto3 client of a service, made when it is first needed: most invocations need none.

        boto3 would use connections of any age, so those that idled for over `IDLE_MAX` seconds are closed.
        """
        with self._lock:  # boto3 makes one at a time
            now = self._clock()
            idle, self._used[service] = now - self._used.get(service, now), now
            if service in self._clients and not 0 <= idle <= IDLE_MAX:
                self._clients[service].close()  # a botocore client connects anew
            if service not in self._clients:
                import boto3  # a cold start's largest part, for rare requests
                from botocore.config import Config

                # What S3Requests asks of S3, it tries again itself.
                how = Config(
                    max_pool_connections=self._settings.concurrency + 2,
                    retries={"mode": "standard", "total_max_attempts": 1 if service == "s3" else 3},
                    connect_timeout=retry.CONNECT,
                    read_timeout=retry.SILENCE,
                    tcp_keepalive=True,
                )
                self._clients[service] = boto3.client(service, config=how)  # type: ignore[call-overload] # by name
            return self._clients[service]

    def _source(self, bucket: str, with_tags: bool) -> Source:  # noqa: FBT001 - the shape of Replicator's factory
        source = S3Source(
            self._s3,
            bucket,
            owner=self._settings.owner_of(bucket),
            with_tags=with_tags,
        )
        return ThrottledSource(source, self._bucket) if self._bucket else source

    def _destination(self, location: str) -> Destination:
        scheme, _, place = location.partition("://")
        if scheme == "file":
            from handler.adapters.folder import FolderDestination  # each only where a rule asks for it

            return FolderDestination(Path(place))
        from handler.adapters.gcs import GcsDestination

        return GcsDestination(self.gcs(), place, time_left=self.deadline.left)

    def gcs(self) -> Any:
        """Return the one client of GCS, whose token all threads share."""
        with self._lock:
            if "gcs" not in self._clients:
                from handler.adapters.gcs_client import connect

                connections = self._settings.concurrency + self._settings.streams
                self._clients["gcs"] = connect(
                    self._settings.gcp_credentials, connections=connections, time_left=self.deadline.left
                )
            return self._clients["gcs"]

    def close(self) -> None:
        """Close every connection, which Lambda never does."""
        for client in self._clients.values():
            client.close()
        self._s3.close()
        self.replicator.close()

    def on_demand(self, change: Change) -> Result:
        """Replicate one key for a caller who waits."""
        return self._run([Work(bucket=change.bucket, key=change.key, changes=(change,))])[0]

    def handle(self, event: object) -> Any:
        """Replicate what an event tells of, and answer as its trigger wants."""
        batch = events.parse(event)
        if batch.trigger is Trigger.QUEUE:
            self._set_apart(batch.deliveries)
        held = self._brake.hold(batch.deliveries) if self._brake else {}
        self._observer.held([change for delivery, errors in held.items() if not errors for change in delivery.changes])
        work = coalesce(
            (change, delivery.receives > 1)
            for delivery in batch.deliveries
            if delivery not in held
            for change in delivery.changes
        )
        results = {result.work.place: result for result in self._run(work)}
        verdicts = [
            held[delivery] if delivery in held else _verdict(delivery, results) for delivery in batch.deliveries
        ]
        if batch.trigger is Trigger.BATCH_OPERATIONS:
            outcomes = [[*_outcomes(delivery, results)] for delivery in batch.deliveries]
            return _task_results(event, batch, verdicts, outcomes)
        failed = [pair for pair in zip(batch.deliveries, verdicts, strict=True) if not self._settled(*pair)]
        if batch.trigger is Trigger.QUEUE:
            self._postpone(failed)
            return _partial_failure(failed)
        for _, errors in failed:
            raise errors[0]
        return None

    def _run(self, work: Sequence[Work]) -> list[Result]:
        results = self.replicator.replicate(work, go_on=self.deadline.is_ahead) if work else []
        self._observer.report(results)
        return results

    def _settled(self, delivery: Delivery, errors: list[ReplicationError]) -> bool:
        """Whether a delivery is done with: all is equal, or what never can be is parked with its reason."""
        for what in delivery.ignored:
            observe.ignored(what)
        if not errors:
            return True
        reason = final_reason(delivery, errors, self._clock())
        if not reason or not self._dead_letters:
            return False
        try:
            self._dead_letters().park(delivery.raw, reason)
        except Unavailable as error:
            observe.logger.error(str(error))
            return False
        observe.parked(reason, delivery.id, delivery.changes)
        return True

    def _set_apart(self, deliveries: Sequence[Delivery]) -> None:
        """Have redelivered messages come again one by one, should this invocation end without an answer.

        One of them may have crashed the invocation before. Together they would come again, and crash, until the queue
        gives all of them up.
        """
        left = self.deadline.left() + MARGIN
        self._set_delays(set_apart(deliveries, left))

    def _postpone(self, failed: Sequence[Failed]) -> None:
        """Have each message that failed come again by the schedule."""
        self._set_delays(delays(failed, self._clock()))

    def _set_delays(self, chosen: Iterable[Delay]) -> None:
        """Have each message come again at its time. If SQS refuses, the visibility timeout holds."""
        try:
            postpone(lambda: self.aws("sqs"), chosen)
        except Unavailable as error:
            observe.logger.warning(str(error))


@cache
def _service() -> Service:
    return Service(config.load())


class Deadline:
    """The end of the invocation that began last."""

    def __init__(self) -> None:
        self._context: Context | None = None

    def begin(self, context: Context) -> None:
        """Note a new invocation."""
        self._context = context

    def left(self) -> float:
        """Seconds for work that is to be finished, `MARGIN` kept back."""
        return self._context.get_remaining_time_in_millis() / 1000 - MARGIN if self._context else 0.0

    def is_ahead(self) -> bool:
        """Whether there is time left at all."""
        return self.left() > 0


def _verdict(delivery: Delivery, results: Mapping[tuple[str, str, Part | None], Result]) -> list[ReplicationError]:
    """All that went wrong with a delivery, what is worth another try first."""
    errors: list[ReplicationError] = [Malformed(fault) for fault in delivery.faults]
    for change in delivery.changes:
        errors += results[change.place].errors
    return sorted(errors, key=lambda error: not error.retryable)


def _outcomes(delivery: Delivery, results: Mapping[tuple[str, str, Part | None], Result]) -> Iterator[Outcome]:
    """What became of each copy that a delivery speaks of."""
    for change in delivery.changes:
        yield from results[change.place].outcomes


def _partial_failure(failed: Sequence[Failed]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting."""
    for delivery, errors in failed:
        if not delivery.id:
            raise errors[0]  # nothing less than the whole batch can be named
    return {"batchItemFailures": [{"itemIdentifier": delivery.id} for delivery, _ in failed]}


def _task_results(
    event: Any, batch: Batch, verdicts: Sequence[list[ReplicationError]], outcomes: Sequence[list[Outcome]]
) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html#batch-ops-invoke-lambda-response."""
    return {
        "invocationSchemaVersion": event["invocationSchemaVersion"],
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": event.get("invocationId", ""),
        "results": [
            {"taskId": delivery.id, **task_result(errors, done)}
            for delivery, errors, done in zip(batch.deliveries, verdicts, outcomes, strict=True)
        ],
    }
