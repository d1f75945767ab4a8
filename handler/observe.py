"""What an operator sees: one structured log line for each outcome, and metrics under S3 Replication's own names.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-metrics.html
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO, cast

from aws_lambda_powertools import Logger

from handler.core.batch import Result
from handler.core.breaker import CircuitOpen, Side, Switched, side_of
from handler.core.decide import Action
from handler.core.errors import IN_PARTS, ReplicationError
from handler.core.route import Outcome
from handler.core.task import Change

logger = Logger(service="replicator", level="INFO", log_uncaught_exceptions=False)

_NAMED = 10
"""Objects of one message that a log line names at most."""
_VALUES = 100
"""Values of a metric that CloudWatch reads of one line."""
_JSON = json.JSONEncoder(separators=(",", ":"), default=str).encode

for _vendor in ("boto3", "botocore", "google", "urllib3"):
    logging.getLogger(_vendor).setLevel(logging.INFO)  # at DEBUG they log session tokens and signatures


class Observer:
    """Reports the results of a batch once all of them are there. `clock` returns seconds since 1970."""

    def __init__(self, namespace: str, clock: Callable[[], float] = time.time) -> None:
        self._namespace, self._clock = namespace, clock

    def report(self, results: Sequence[Result]) -> None:
        """Log each outcome and each error, and emit metrics by source bucket and rule and by source bucket and side.

        The metrics of a rule count for its source bucket alone as well, so that alarms need not know the rules.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        timestamp = f"{str(now)[:19]},{now.microsecond // 1000:03}+0000"
        tallies: dict[tuple[str, str], _Tally] = {}
        lines: list[dict[str, object]] = []
        for result in results:
            lag = _lag(result, now)
            lines += [_outcome_line(result, outcome, lag, timestamp) for outcome in result.outcomes]
            rule = result.outcomes[0].rule.id if result.outcomes else "none"
            tallies.setdefault((result.work.bucket, rule), _Tally()).add(result, lag)
        _write(lines)
        failed = [result for result in results if result.errors]
        for result in failed:
            _log_errors(result, now)
        for (bucket, rule), tally in tallies.items():
            by = [{"SourceBucket": bucket, "Rule": rule}, {"SourceBucket": bucket}]
            _emit(self._namespace, now, by, tally.metrics(now))
        for (bucket, side), pending in _by_side(failed).items():
            _emit(self._namespace, now, [{"SourceBucket": bucket, "Side": side.value}], _pending(pending, now))

    def held(self, deletes: Sequence[Change]) -> None:
        """Log each delete that the brake held, and count them by source bucket."""
        for change in deletes:
            logger.warning("held a delete", extra={"outcome": "held", "bucket": change.bucket, "key": change.key})
        now = datetime.fromtimestamp(self._clock(), UTC)
        for bucket, count in Counter([change.bucket for change in deletes]).items():
            _emit(self._namespace, now, [{"SourceBucket": bucket}], [("DeletesHeld", "Count", [count])])


_Metric = tuple[str, str, Sequence[float]]
"""A metric's name, unit and values."""


@dataclass(slots=True)
class _Tally:
    """The results of one source bucket and rule, added up; latencies one by one, for their percentiles."""

    replicated: int = 0
    deleted: int = 0
    unverified: int = 0
    """Objects whose bytes were written although S3 keeps no checksum of them that can be computed."""
    failed: int = 0
    bytes: int = 0
    latencies: list[float] = field(default_factory=list)
    pending: list[Result] = field(default_factory=list)

    def add(self, result: Result, lag: float | None) -> None:
        self.bytes += sum([outcome.bytes for outcome in result.outcomes])
        changed = [outcome for outcome in result.outcomes if outcome.changed]
        deleted = sum([outcome.done == Action.DELETE for outcome in changed])
        self.deleted += deleted
        self.replicated += len(changed) - deleted
        self.unverified += sum([outcome.check == "none" and Action.PUT in outcome.actions for outcome in changed])
        if changed and lag is not None:
            self.latencies.append(lag)
        if result.errors:
            self.failed += any(not error.retryable for error in result.errors)
            if result.retryable:
                self.pending.append(result)

    def metrics(self, now: datetime) -> list[_Metric]:
        return [
            ("OperationsReplicated", "Count", [self.replicated]),
            ("OperationsDeleted", "Count", [self.deleted]),
            ("OperationsUnverified", "Count", [self.unverified]),
            ("OperationsFailedReplication", "Count", [self.failed]),
            ("BytesReplicated", "Bytes", [self.bytes]),
            ("BytesPendingReplication", "Bytes", [sum([result.work.size for result in self.pending])]),
            *_pending(self.pending, now),
            ("ReplicationLatency", "Seconds", self.latencies),
        ]


def _by_side(failed: Iterable[Result]) -> dict[tuple[str, Side], list[Result]]:
    """Return the keys that are tried again, by source bucket and the side at which they failed."""
    found: dict[tuple[str, Side], list[Result]] = {}
    for result in failed:
        for side in {side_of(error) for error in result.errors if error.retryable}:
            if side:
                found.setdefault((result.work.bucket, side), []).append(result)
    return found


def _pending(results: Sequence[Result], now: datetime) -> list[_Metric]:
    """Return how many keys are tried again, and the seconds since the oldest of their events."""
    times = [change.time for result in results for change in result.work.changes if change.time]
    ages = [_seconds(min(times), now)] if times else []
    return [("OperationsPendingReplication", "Count", [len(results)]), ("OldestPendingSeconds", "Seconds", ages)]


def _emit(namespace: str, now: datetime, by: Sequence[Mapping[str, str]], metrics: Sequence[_Metric]) -> None:
    """Write those metrics that have values, counted by each set of dimensions; the first set has all of them.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    while metrics := [metric for metric in metrics if metric[2]]:
        directive = {
            "Namespace": namespace,
            "Dimensions": [[*dimensions] for dimensions in by],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit, _ in metrics],
        }
        about = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
        values = {name: values[:_VALUES] for name, _, values in metrics}
        sys.stdout.write(_JSON({"_aws": about, **by[0], **values}) + "\n")
        metrics = [(name, unit, values[_VALUES:]) for name, unit, values in metrics]


def _write(lines: Iterable[Mapping[str, object]]) -> None:
    """Log lines at once, as the logger would one by one, which takes ten times as long."""
    if not logging.getLogger(logger.service).isEnabledFor(logging.INFO):
        return
    handler = cast("logging.StreamHandler[TextIO]", logger.registered_handler)
    text = "".join([_JSON(line) + handler.terminator for line in lines])
    with handler.lock or nullcontext():
        handler.stream.write(text)
        handler.flush()


def _outcome_line(result: Result, outcome: Outcome, lag: float | None, timestamp: str) -> dict[str, object]:
    """Return what is logged of an outcome."""
    done, rule = outcome.done, outcome.rule
    return {
        "level": "INFO",
        "message": done,
        "timestamp": timestamp,
        "service": logger.service,
        **_line(result, lag),
        "outcome": done,
        "actions": outcome.actions,
        "why": outcome.why,
        "rule": rule.id,
        "destination": f"{rule.destination}/{outcome.name}",
        "bytes": outcome.bytes,
        "check": outcome.check,
    }


def _line(result: Result, lag: float | None) -> dict[str, object]:
    """Return what every line on a key has."""
    events = sorted({change.event for change in result.work.changes})
    return {"bucket": result.work.bucket, "key": result.work.key, "events": events, "seconds_since_event": lag}


def _log_errors(result: Result, now: datetime) -> None:
    for error in result.errors:
        if isinstance(error, CircuitOpen):
            continue  # one line tells of the opening, and a metric counts the keys
        log = logger.info if error.code == IN_PARTS else logger.warning if error.retryable else logger.error
        cause = error.__cause__ if error.code == "Unforeseen" else None
        extra = _line(result, _lag(result, now)) | {"outcome": "failed", "code": error.code}
        log(str(error), extra=extra, exc_info=cause)


def _lag(result: Result, now: datetime) -> float | None:
    """Return the seconds since the last event of the key; None if no event has a time."""
    times = [change.time for change in result.work.changes if change.time]
    return _seconds(max(times), now) if times else None


def _seconds(since: datetime, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 3)


def parked(reason: ReplicationError, where: str, changes: Sequence[Change]) -> None:
    """Log that a message was parked in the dead-letter queue, why, and which objects it names."""
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
    """Log a record after which no copy needs a change."""
    logger.debug("ignored", extra={"why": what})


def checked(namespace: str, bucket: str, faults: Sequence[Mapping[str, str]]) -> None:
    """Log each fault that the check on its schedule found, and measure their number."""
    for fault in faults:
        logger.error("found a fault", extra=dict(fault))
    _emit(namespace, datetime.now(UTC), [{"SourceBucket": bucket}], [("CheckFaults", "Count", [len(faults)])])


def canary(namespace: str, bucket: str, failures: Mapping[str, str], seconds: Mapping[str, float]) -> None:
    """Log each step of a run that failed, and measure their number, and how long the others took."""
    for step, detail in failures.items():
        logger.error("the canary failed", extra={"bucket": bucket, "step": step, "detail": detail})
    now = datetime.now(UTC)
    _emit(namespace, now, [{"SourceBucket": bucket}], [("CanaryFailures", "Count", [len(failures)])])
    for step, taken in seconds.items():
        _emit(namespace, now, [{"SourceBucket": bucket, "Step": step}], [("CanaryLatency", "Seconds", [taken])])
