"""The Lambda entry: parses an event, has its keys replicated, and answers as the trigger wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from handler import config, events, observe
from handler.adapters.queue import DeadLetterQueue, Delay, postpone
from handler.answers import task_result
from handler.core.batch import Result, Work, coalesce
from handler.core.errors import Malformed, ReplicationError, Unavailable
from handler.core.route import Outcome
from handler.core.task import Change, CopyTask
from handler.events import Batch, Delivery, Trigger
from handler.redelivery import Failed, delays, final_reason, set_apart
from handler.wiring import MARGIN, Context, Wiring


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
    """The answers to all triggers, kept across invocations.

    Args:
        settings: the configuration.
        clock: seconds since 1970.
        wiring: the replicator's parts; None: those that the settings ask for.
    """

    def __init__(
        self, settings: config.Settings, clock: Callable[[], float] = time.time, wiring: Wiring | None = None
    ) -> None:
        self._clock = clock
        self.wiring = wiring or Wiring(settings, clock)
        self.deadline = self.wiring.deadline
        self.replicator = self.wiring.replicator
        self._brake = self.wiring.brake
        observe.logger.setLevel(settings.log_level)
        self._observer = observe.Observer(settings.metrics_namespace, clock)
        self._dead_letters: Callable[[], DeadLetterQueue] | None = None
        if settings.dead_letter_queue:
            self._dead_letters = lambda: DeadLetterQueue(self.wiring.aws("sqs"), settings.dead_letter_queue)

    def close(self) -> None:
        """Close every connection, which Lambda never does."""
        self.wiring.close()

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
        results = {result.work.target: result for result in self._run(work)}
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
        results = self.replicator.replicate(work, has_time=self.deadline.is_ahead) if work else []
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
            postpone(lambda: self.wiring.aws("sqs"), chosen)
        except Unavailable as error:
            observe.logger.warning(str(error))


@cache
def _service() -> Service:
    return Service(config.load())


def _verdict(delivery: Delivery, results: Mapping[tuple[str, str, CopyTask | None], Result]) -> list[ReplicationError]:
    """All that went wrong with a delivery, what is worth another try first."""
    errors: list[ReplicationError] = [Malformed(fault) for fault in delivery.faults]
    for change in delivery.changes:
        errors += results[change.target].errors
    return sorted(errors, key=lambda error: not error.retryable)


def _outcomes(delivery: Delivery, results: Mapping[tuple[str, str, CopyTask | None], Result]) -> Iterator[Outcome]:
    """What became of each copy that a delivery speaks of."""
    for change in delivery.changes:
        yield from results[change.target].outcomes


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
