"""What an operator sees: one structured log line per outcome, and metrics under S3 Replication's own names.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-metrics.html
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import groupby
from typing import TextIO, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from handler.core.batch import Result
from handler.core.breaker import CircuitOpen, Side, Switched, side_of
from handler.core.errors import ReplicationError
from handler.core.model import Change
from handler.core.reconcile import IN_PARTS, Action, Outcome

logger = Logger(service="replicator", level="INFO", log_uncaught_exceptions=False)

_NAMED = 10
"""Objects of one message that a line names at most."""

for _vendor in ("boto3", "botocore", "google", "urllib3"):
    logging.getLogger(_vendor).setLevel(logging.INFO)  # at DEBUG they log session tokens and signatures


class Observer:
    """Reports results once a batch is done, so that no record pays for it alone.

    Args:
        namespace: CloudWatch's.
        clock: seconds since 1970.
    """

    def __init__(self, namespace: str, clock: Callable[[], float] = time.time) -> None:
        self._namespace, self._clock = namespace, clock

    def report(self, results: Sequence[Result]) -> None:
        """Log each outcome and error, and add them up into metrics by source bucket and rule."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        _write(_outcome_line(result, outcome, now) for result in results for outcome in result.outcomes)
        for result in results:
            lag = _lag(result, now)
            for error in result.errors:
                if isinstance(error, CircuitOpen):
                    continue  # a line tells of the opening, and a metric counts the keys
                log = logger.info if error.code == IN_PARTS else logger.warning if error.retryable else logger.error
                cause = error.__cause__ if error.code == "Unforeseen" else None
                log(str(error), extra=_line(result, lag) | {"outcome": "failed", "code": error.code}, exc_info=cause)
        self._measure(results, now)
        self._measure_sides(results, now)

    def held(self, deletes: Sequence[Change]) -> None:
        """Log each delete that the brake held, and count them by source bucket."""
        for change in deletes:
            logger.warning("held a delete", extra={"outcome": "held", "bucket": change.bucket, "key": change.key})
        for bucket, count in Counter(change.bucket for change in deletes).items():
            metrics = EphemeralMetrics(namespace=self._namespace)
            metrics.add_dimension("SourceBucket", bucket)
            metrics.add_metric("DeletesHeld", MetricUnit.Count, count)
            metrics.flush_metrics()

    def _measure(self, results: Iterable[Result], now: datetime) -> None:
        """Measure by source bucket and rule, and by source bucket alone, which alarms can watch whatever the rules."""
        pairs = [(result.work.bucket, _rule(result), result) for result in results]
        pairs.sort(key=lambda pair: pair[:2])
        for (bucket, rule), group in groupby(pairs, key=lambda pair: pair[:2]):
            metrics = EphemeralMetrics(namespace=self._namespace)
            metrics.add_dimension("SourceBucket", bucket)
            metrics.add_dimension("Rule", rule)
            metrics.add_dimensions(SourceBucket=bucket)
            _add(metrics, [result for _, _, result in group], now)
            metrics.flush_metrics()

    def _measure_sides(self, results: Iterable[Result], now: datetime) -> None:
        """Measure what comes back, by the side at which it failed or was not tried."""
        pending: defaultdict[tuple[str, Side], list[Result]] = defaultdict(list)
        for result in results:
            for side in {side_of(error) for error in result.errors if error.retryable}:
                if side:
                    pending[result.work.bucket, side].append(result)
        for (bucket, side), failed in pending.items():
            metrics = EphemeralMetrics(namespace=self._namespace)
            metrics.add_dimension("SourceBucket", bucket)
            metrics.add_dimension("Side", side.value)
            _add_pending(metrics, failed, now)
            metrics.flush_metrics()


def _add(metrics: EphemeralMetrics, results: Sequence[Result], now: datetime) -> None:
    """Counts and bytes as sums, latencies one by one, for their percentiles."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    deleted = sum(outcome.done == Action.DELETE for outcome in outcomes)
    pending = [result for result in results if result.retryable]
    failed = [result for result in results if any(not error.retryable for error in result.errors)]
    for name, unit, value in (
        ("OperationsReplicated", MetricUnit.Count, sum(outcome.changed for outcome in outcomes) - deleted),
        ("OperationsDeleted", MetricUnit.Count, deleted),
        ("OperationsUnverified", MetricUnit.Count, sum(_is_unverified(outcome) for outcome in outcomes)),
        ("OperationsFailedReplication", MetricUnit.Count, len(failed)),
        ("BytesReplicated", MetricUnit.Bytes, sum(outcome.bytes for outcome in outcomes)),
        ("BytesPendingReplication", MetricUnit.Bytes, sum(result.work.size for result in pending)),
    ):
        metrics.add_metric(name, unit, value)
    _add_pending(metrics, pending, now)
    for result in results:
        if any(outcome.changed for outcome in result.outcomes) and (lag := _lag(result, now)) is not None:
            metrics.add_metric("ReplicationLatency", MetricUnit.Seconds, lag)


def _add_pending(metrics: EphemeralMetrics, pending: Sequence[Result], now: datetime) -> None:
    """How many come back, and the seconds since the oldest of their events."""
    metrics.add_metric("OperationsPendingReplication", MetricUnit.Count, len(pending))
    times = [change.time for result in pending for change in result.work.changes if change.time]
    if times:
        metrics.add_metric("OldestPendingSeconds", MetricUnit.Seconds, _seconds(min(times), now))


def _is_unverified(outcome: Outcome) -> bool:
    """Return True if bytes were written that no checksum of S3's vouches for."""
    return Action.PUT in outcome.actions and outcome.check == "none"


def _write(lines: Iterable[Mapping[str, object]]) -> None:
    """Log lines at once, as the logger would one by one, which takes ten times as long."""
    if not logging.getLogger(logger.service).isEnabledFor(logging.INFO):
        return
    handler = cast("logging.StreamHandler[TextIO]", logger.registered_handler)
    text = "".join([json.dumps(line, separators=(",", ":"), default=str) + handler.terminator for line in lines])
    with handler.lock or nullcontext():
        handler.stream.write(text)
        handler.flush()


def _line(result: Result, lag: float | None) -> dict[str, object]:
    work = result.work
    events = sorted({change.event for change in work.changes})
    return {"bucket": work.bucket, "key": work.key, "events": events, "seconds_since_event": lag}


def _outcome_line(result: Result, outcome: Outcome, now: datetime) -> dict[str, object]:
    """What is logged of an outcome."""
    return {
        "level": "INFO",
        "message": outcome.done,
        "timestamp": f"{str(now)[:19]},{now.microsecond // 1000:03}+0000",
        "service": logger.service,
        **_line(result, _lag(result, now)),
        "outcome": outcome.done,
        "actions": outcome.actions,
        "why": outcome.why,
        "rule": outcome.rule.id,
        "destination": f"{outcome.rule.destination}/{outcome.name}",
        "bytes": outcome.bytes,
        "check": outcome.check,
    }


def _rule(result: Result) -> str:
    return result.outcomes[0].rule.id if result.outcomes else "none"


def _lag(result: Result, now: datetime) -> float | None:
    """Seconds since the last event of the key, None where no event told its time."""
    times = [change.time for change in result.work.changes if change.time]
    return _seconds(max(times), now) if times else None


def _seconds(since: datetime, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 3)


def parked(reason: ReplicationError, where: str, changes: Sequence[Change]) -> None:
    """Log that a message was given up, why, and of which objects it told."""
    objects = [f"{change.bucket}/{change.key}" for change in changes[:_NAMED]]
    logger.error("parked", extra={"code": reason.code, "detail": str(reason), "delivery": where, "objects": objects})


def switched(change: Switched) -> None:
    """Log that a circuit opened, and why, or that it closed."""
    where = {"side": change.side.value, "bucket": change.bucket}
    if change.error:
        detail = f"of the {change.side} {change.bucket}: {change.error}"
        logger.warning("opened the circuit", extra={**where, "code": change.error.code, "detail": detail})
    else:
        detail = f"of the {change.side} {change.bucket} after {change.seconds:.1f} s"
        logger.warning("closed the circuit", extra={**where, "seconds": round(change.seconds, 3), "detail": detail})


def ignored(what: str) -> None:
    """Log what was told that changes no copy."""
    logger.debug("ignored", extra={"why": what})


def checked(namespace: str, bucket: str, faults: Sequence[Mapping[str, str]]) -> None:
    """Log each fault that the check on its schedule found, and measure their number."""
    for fault in faults:
        logger.error("found a fault", extra=dict(fault))
    _count(namespace, {"SourceBucket": bucket}, "CheckFaults", MetricUnit.Count, len(faults))


def canary(namespace: str, bucket: str, failures: Mapping[str, str], seconds: Mapping[str, float]) -> None:
    """Log each step of a run that failed, and measure their number, and how long the others took."""
    for step, detail in failures.items():
        logger.error("the canary failed", extra={"bucket": bucket, "step": step, "detail": detail})
    _count(namespace, {"SourceBucket": bucket}, "CanaryFailures", MetricUnit.Count, len(failures))
    for step, taken in seconds.items():
        dimensions = {"SourceBucket": bucket, "Step": step}
        _count(namespace, dimensions, "CanaryLatency", MetricUnit.Seconds, taken)


def _count(namespace: str, dimensions: Mapping[str, str], name: str, unit: MetricUnit, value: float) -> None:
    metrics = EphemeralMetrics(namespace=namespace)
    for dimension, of in dimensions.items():
        metrics.add_dimension(dimension, of)
    metrics.add_metric(name, unit, value)
    metrics.flush_metrics()
