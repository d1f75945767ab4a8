"""What an operator sees: lines and metrics that a machine can read, named as agreed, and no secret in them."""

from __future__ import annotations

import io
import json
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handler import observe
from handler.core.batch import Result, Work
from handler.core.breaker import OPENS_AFTER, CircuitOpen, Circuits, KeyFails, Side
from handler.core.decide import Action
from handler.core.errors import Corrupt, Refused, ReplicationError, Unavailable
from handler.core.model import Rule
from handler.core.route import Outcome
from handler.core.task import Change
from tests.fakes import original_of

RULE = Rule(id="reports", source="src", destination="gs://dst")
METRICS = {
    "ReplicationLatency",
    "BytesReplicated",
    "OperationsReplicated",
    "OperationsDeleted",
    "OperationsFailedReplication",
    "OperationsPendingReplication",
    "OperationsUnverified",
    "BytesPendingReplication",
}


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(observe.logger.registered_handler, "stream", stream)
    return stream


def result(*errors: ReplicationError, actions: tuple[Action, ...] | None = (Action.PUT,), **fields: Any) -> Result:
    told: dict[str, Any] = {
        "bucket": "src",
        "key": "a/b.csv",
        "size": 12,
        "time": datetime.now(UTC) - timedelta(seconds=2),
    } | fields
    work = Work(bucket=told["bucket"], key=told["key"], changes=(Change(event="ObjectCreated:Put", **told),))
    outcome = Outcome(
        rule=RULE, actions=actions or (), why="equal", name="copies/a/b.csv", original=original_of(b"x"), bytes=12
    )
    return Result(work=work, outcomes=() if actions is None else (outcome,), errors=errors)


def report(capsys: pytest.CaptureFixture[str], log: io.StringIO, *results: Result) -> tuple[list[Any], list[Any]]:
    """The log lines and the metrics, both as parsed JSON."""
    observe.Observer("Replicator").report(results)
    return [json.loads(line) for line in log.getvalue().splitlines()], [
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    ]


def measured(metrics: Any) -> dict[str, float]:
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Replicator"
    assert [set(names) for names in directive["Dimensions"]] == [{"SourceBucket", "Rule"}, {"SourceBucket"}]
    return {metric["Name"]: sum(metrics[metric["Name"]]) for metric in directive["Metrics"]}


@pytest.mark.parametrize(
    ("check", "actions", "count"),
    [("none", (Action.PUT,), 1), ("CRC32C", (Action.PUT,), 0), ("none", (Action.PATCH,), 0), ("none", (), 0)],
)
def test_what_is_written_without_a_check_is_counted(
    capsys: pytest.CaptureFixture[str], log: io.StringIO, check: str, actions: tuple[Action, ...], count: int
) -> None:
    done = result(actions=actions)
    _, (metrics,) = report(capsys, log, replace(done, outcomes=(replace(done.outcomes[0], check=check),)))
    assert measured(metrics)["OperationsUnverified"] == count


def test_an_outcome_is_one_line(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    (line,), _ = report(capsys, log, result())
    assert (line["level"], line["message"], line["outcome"], line["actions"]) == ("INFO", "put", "put", ["put"])
    assert (line["bucket"], line["key"], line["rule"], line["bytes"]) == ("src", "a/b.csv", "reports", 12)
    assert line["destination"] == "gs://dst/copies/a/b.csv"
    assert line["events"] == ["ObjectCreated:Put"]
    assert 2 <= line["seconds_since_event"] < 60


def test_metrics_have_the_names_of_s3_replication(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    _, (metrics,) = report(capsys, log, result())
    values = measured(metrics)
    assert set(values) == METRICS
    assert (metrics["SourceBucket"], metrics["Rule"]) == ("src", "reports")
    assert (values["OperationsReplicated"], values["BytesReplicated"]) == (1, 12)
    assert (values["OperationsFailedReplication"], values["OperationsPendingReplication"]) == (0, 0)
    assert 2 <= values["ReplicationLatency"] < 60


@pytest.mark.parametrize(
    ("errors", "failed", "pending", "level"),
    [
        ([Unavailable("away")], 0, 1, "WARNING"),
        ([Corrupt("wrong")], 0, 1, "WARNING"),
        ([Refused("denied")], 1, 0, "ERROR"),
    ],
)
def test_what_failed_and_what_is_pending_are_counted_apart(
    capsys: pytest.CaptureFixture[str], log: io.StringIO, errors: list[Any], failed: int, pending: int, level: str
) -> None:
    (line,), (metrics,) = report(capsys, log, result(*errors, actions=None))
    values = measured(metrics)
    assert (values["OperationsFailedReplication"], values["OperationsPendingReplication"]) == (failed, pending)
    assert values["BytesPendingReplication"] == (12 if pending else 0)
    assert "ReplicationLatency" not in values
    assert (line["level"], line["outcome"], line["code"]) == (level, "failed", errors[0].code)


def test_an_equal_copy_is_no_operation(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    (line,), (metrics,) = report(capsys, log, result(actions=()))
    assert line["outcome"] == "nothing"
    assert measured(metrics)["OperationsReplicated"] == 0
    assert "ReplicationLatency" not in measured(metrics)


def test_metrics_are_added_up_by_bucket_and_rule(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    lines, metrics = report(
        capsys, log, result(), result(key="x"), result(bucket="other"), result(Refused("r"), actions=None)
    )
    assert len(lines) == 4
    found = {(item["SourceBucket"], item["Rule"]): measured(item)["OperationsReplicated"] for item in metrics}
    assert found == {("src", "reports"): 2, ("other", "reports"): 1, ("src", "none"): 0}


def test_a_line_has_as_many_values_of_a_metric_as_cloudwatch_reads(
    capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html."""
    _, metrics = report(capsys, log, *(result(key=f"k{number}") for number in range(230)))
    assert [len(item["ReplicationLatency"]) for item in metrics] == [100, 100, 30]
    assert [item.get("OperationsReplicated") for item in metrics] == [[230], None, None]
    assert all(item["SourceBucket"] == "src" and item["Rule"] == "reports" for item in metrics)


def test_no_event_time_is_no_latency(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    (line,), (metrics,) = report(capsys, log, result(time=None))
    assert line.get("seconds_since_event") is None
    assert "ReplicationLatency" not in measured(metrics)


def test_a_clock_ahead_of_ours_is_no_negative_latency(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    _, (metrics,) = report(capsys, log, result(time=datetime.now(UTC) + timedelta(hours=1)))
    assert measured(metrics)["ReplicationLatency"] == 0


def test_nothing_done_is_nothing_said(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    assert report(capsys, log) == ([], [])


def test_a_failure_nobody_foresaw_has_its_traceback(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    error = Unavailable("ValueError: a bug", code="Unforeseen")
    error.__cause__ = ValueError("a bug")
    (line,), _ = report(capsys, log, result(error, actions=None))
    assert line["exception_name"] == "ValueError"


@pytest.mark.parametrize("key", ["naïve 日本 🗂", 'quote" and \\', "line\nbreak", "nul\x00", "x" * 1024, "</script>"])
def test_any_key_is_one_line_of_json(capsys: pytest.CaptureFixture[str], log: io.StringIO, key: str) -> None:
    (line,), _ = report(capsys, log, result(key=key))
    assert line["key"] == key


def test_an_event_name_that_is_no_text_does_not_break_the_log(
    capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    odd = result()
    change = replace(odd.work.changes[0], event="ObjectCreated:\ud800")
    report(capsys, log, replace(odd, work=replace(odd.work, changes=(change,))))


def test_parked_and_ignored_are_said(log: io.StringIO) -> None:
    changes = [Change(bucket="b", key=f"k{number}", event="ObjectCreated:Put") for number in range(20)]
    observe.parked(Refused("no permission", code="DstPutObjectNotPermitted"), "m1", changes)
    observe.logger.setLevel(logging.DEBUG)
    try:
        observe.ignored("s3:TestEvent")
    finally:
        observe.logger.setLevel(logging.INFO)
    parked, ignored = map(json.loads, log.getvalue().splitlines())
    assert (parked["level"], parked["code"], parked["detail"], parked["delivery"]) == (
        "ERROR",
        "DstPutObjectNotPermitted",
        "no permission",
        "m1",
    )
    assert parked["objects"] == [f"b/k{number}" for number in range(10)]
    assert (ignored["level"], ignored["why"]) == ("DEBUG", "s3:TestEvent")


@pytest.mark.parametrize(
    ("error", "side", "lines"),
    [
        (CircuitOpen(Side.DESTINATION, "gs://dst"), "destination", 0),
        (CircuitOpen(Side.SOURCE, "src"), "source", 0),
        (KeyFails(Side.SOURCE, "src", "k"), "source", 7),
        (Unavailable("GCS says 503", code="Dst503"), "destination", 7),
        (Unavailable("slow down", code="SrcSlowDown"), "source", 7),
    ],
)
def test_keys_that_come_back_are_counted_by_the_side_at_which_they_failed(
    capsys: pytest.CaptureFixture[str], log: io.StringIO, error: ReplicationError, side: str, lines: int
) -> None:
    """Keys that were not tried because a side is down have no line each."""
    oldest = datetime.now(UTC) - timedelta(minutes=7)
    failed = [result(error, actions=None, key=f"k{number}") for number in range(6)]
    failed.append(result(error, actions=None, key="k6", time=oldest))
    written, (ours, sides) = report(capsys, log, *failed)
    assert len(written) == lines
    assert measured(ours)["OperationsPendingReplication"] == 7
    assert 420 <= measured(ours)["OldestPendingSeconds"] < 450
    assert (sides["SourceBucket"], sides["Side"], sides["OperationsPendingReplication"]) == ("src", side, [7])
    assert 420 <= sides["OldestPendingSeconds"][0] < 450
    (directive,) = sides["_aws"]["CloudWatchMetrics"]
    assert [set(names) for names in directive["Dimensions"]] == [{"SourceBucket", "Side"}]


@pytest.mark.parametrize("error", [Unavailable("in parts", code="InParts"), Refused("no", code="DstPutNotPermitted")])
def test_what_fails_for_no_side_or_for_good_is_no_sides_trouble(
    capsys: pytest.CaptureFixture[str], log: io.StringIO, error: ReplicationError
) -> None:
    _, metrics = report(capsys, log, result(error, actions=None))
    assert [item.get("Side") for item in metrics] == [None]


def test_the_age_of_what_comes_back_is_that_of_its_oldest_event(
    capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    """A key that is changed every second, and never copied, is late since the first of these changes."""
    young = result(Unavailable("hot"), actions=None)
    old = replace(young.work.changes[0], time=datetime.now(UTC) - timedelta(hours=1))
    _, (metrics,) = report(capsys, log, replace(young, work=replace(young.work, changes=(old, *young.work.changes))))
    assert 3600 <= measured(metrics)["OldestPendingSeconds"] < 3630


def test_what_comes_back_without_a_time_has_no_age(capsys: pytest.CaptureFixture[str], log: io.StringIO) -> None:
    _, (metrics,) = report(capsys, log, result(Unavailable("away"), actions=None, time=None))
    assert "OldestPendingSeconds" not in measured(metrics)


@pytest.mark.parametrize(
    ("actions", "replicated", "deleted"),
    [
        ((Action.PUT,), 1, 0),
        ((Action.PATCH,), 1, 0),
        ((Action.DELETE,), 0, 1),
        ((Action.PUT, Action.DELETE), 0, 1),
        ((Action.DELETE, Action.PUT, Action.PATCH), 1, 0),
        ((), 0, 0),
    ],
)
def test_a_delete_is_counted_apart_from_copies(
    capsys: pytest.CaptureFixture[str],
    log: io.StringIO,
    actions: tuple[Action, ...],
    replicated: int,
    deleted: int,
) -> None:
    _, (metrics,) = report(capsys, log, result(actions=actions))
    values = measured(metrics)
    assert (values["OperationsReplicated"], values["OperationsDeleted"]) == (replicated, deleted)


def test_an_opening_and_a_closing_are_a_line_each(log: io.StringIO) -> None:
    now = [0.0]
    circuits = Circuits(clock=lambda: now[0], switched=observe.switched)
    for number in range(OPENS_AFTER):
        with suppress(Unavailable), circuits.attempt("src", "gs://dst", f"k{number}"):
            raise Unavailable("GCS says 503", code="Dst503")
    now[0] = 90.0
    with circuits.attempt("src", "gs://dst", "probe"):
        pass
    opened, closed = map(json.loads, log.getvalue().splitlines())
    assert (opened["message"], opened["side"], opened["bucket"]) == ("opened the circuit", "destination", "gs://dst")
    assert (opened["code"], opened["detail"]) == ("Dst503", "of the destination gs://dst: GCS says 503")
    assert (closed["message"], closed["side"], closed["bucket"]) == ("closed the circuit", "destination", "gs://dst")
    assert (closed["seconds"], closed["detail"]) == (90.0, "of the destination gs://dst after 90.0 s")


def test_what_is_ignored_is_not_said_by_default(log: io.StringIO) -> None:
    observe.ignored("s3:TestEvent")
    assert log.getvalue() == ""


def test_no_secret_reaches_a_line_or_a_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GCP_CREDENTIALS"):
        monkeypatch.setenv(name, "s3cr3t-value")
    secretive = result(Refused("denied"), Unavailable("away"))
    lines, metrics = report(capsys, log, secretive)
    assert "s3cr3t" not in json.dumps([lines, metrics])
