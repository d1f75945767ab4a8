"""The Lambda entry: parses an event, replicates its keys, and returns the answer for its trigger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from handler import config, events, observe
from handler.adapters.queue import DeadLetterQueue, Delay, postpone
from handler.answers import task_result
from handler.core.batch import Result, Work, coalesce
from handler.core.errors import Malformed, ReplicationError, Unavailable
from handler.core.task import Change, CopyTask
from handler.events import Delivery, Trigger
from handler.redelivery import Failed, delays, final_reason, set_apart
from handler.wiring import MARGIN, Context, Wiring


def lambda_handler(event: dict[str, Any], context: Context) -> Any:
    """Answer any trigger.

    Raises:
        ConfigurationError: the configuration is wrong; the message names every fault.
        ReplicationError: a direct event failed, and Lambda is to retry it.
    """
    service = _service()
    service.deadline.begin(context)
    if "requestContext" in event:
        from handler import rest  # only HTTP needs its routers, which slow a cold start down

        return rest.answer(event, context, allows=service.replicator.allows, replicate=service.on_demand)
    return service.handle(event)


class Service:
    """Answers all triggers; one instance serves all invocations of a process.

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
        """Close every connection. Lambda never calls this."""
        self.wiring.close()

    def on_demand(self, change: Change) -> Result:
        """Replicate one key for a caller who waits."""
        return self._run([Work(bucket=change.bucket, key=change.key, changes=(change,))])[0]

    def handle(self, event: object) -> Any:
        """Replicate the changes that an event tells of, and return the answer for its trigger."""
        batch = events.parse(event)
        deliveries = batch.deliveries
        if batch.trigger is Trigger.QUEUE:
            self._set_apart([delivery for delivery in deliveries if delivery.receives > 1])
        held = self._brake.hold(deliveries) if self._brake else {}
        if held:
            self._observer.held(
                [change for delivery, errors in held.items() if not errors for change in delivery.changes]
            )
        free = [delivery for delivery in deliveries if delivery not in held] if held else deliveries
        work = coalesce([(change, delivery.receives > 1) for delivery in free for change in delivery.changes])
        results = {result.work.target: result for result in self._run(work)}
        verdicts = [
            held[delivery] if held and delivery in held else _verdict(delivery, results) for delivery in deliveries
        ]
        if batch.trigger is Trigger.BATCH_OPERATIONS:
            return _task_results(event, deliveries, verdicts, results)
        failed = [pair for pair in zip(deliveries, verdicts, strict=True) if not self._is_settled(*pair)]
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

    def _is_settled(self, delivery: Delivery, errors: list[ReplicationError]) -> bool:
        """Return True if a delivery needs no retry: its copies are equal, or it is parked with its reason."""
        for record in delivery.ignored:
            observe.ignored(record)
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

    def _set_apart(self, redelivered: Sequence[Delivery]) -> None:
        """Let redelivered messages come back one by one, should this invocation end without an answer.

        One of them may have crashed the invocation before. If they came back together, they would crash together until
        the queue gives all of them up.
        """
        if redelivered:
            self._set_delays(set_apart(redelivered, self.deadline.left() + MARGIN))

    def _postpone(self, failed: Sequence[Failed]) -> None:
        """Let each message that failed come back by the schedule."""
        if failed:
            self._set_delays(delays(failed, self._clock()))

    def _set_delays(self, chosen: Iterable[Delay]) -> None:
        """Change the visibility timeout of messages. If SQS refuses, the timeout that they have holds."""
        try:
            postpone(lambda: self.wiring.aws("sqs"), chosen)
        except Unavailable as error:
            observe.logger.warning(str(error))


_Results = Mapping[tuple[str, str, CopyTask | None], Result]
"""Results by `Change.target`."""


@cache
def _service() -> Service:
    return Service(config.load())


def _verdict(delivery: Delivery, results: _Results) -> list[ReplicationError]:
    """Return all that went wrong with a delivery, the retryable errors first."""
    errors = [error for change in delivery.changes for error in results[change.target].errors]
    errors += [Malformed(fault) for fault in delivery.faults]
    return sorted(errors, key=lambda error: not error.retryable)


def _partial_failure(failed: Sequence[Failed]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting."""
    for delivery, errors in failed:
        if not delivery.id:
            raise errors[0]  # without its ID, only the whole batch can fail
    return {"batchItemFailures": [{"itemIdentifier": delivery.id} for delivery, _ in failed]}


def _task_results(
    event: Any, tasks: Sequence[Delivery], verdicts: Sequence[list[ReplicationError]], results: _Results
) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html#batch-ops-invoke-lambda-response."""
    outcomes = [[outcome for change in task.changes for outcome in results[change.target].outcomes] for task in tasks]
    return {
        "invocationSchemaVersion": event["invocationSchemaVersion"],
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": event.get("invocationId", ""),
        "results": [
            {"taskId": task.id, **task_result(errors, done)}
            for task, errors, done in zip(tasks, verdicts, outcomes, strict=True)
        ],
    }
