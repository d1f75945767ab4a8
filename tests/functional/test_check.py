"""The check on a stack in moto: what is wired and then broken is said, and rings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from handler.tools import check, event_path
from tests.functional.conftest import Bucket
from tests.functional.rig import Clock
from tests.functional.stack import Deployed, allow, deployed
from tests.unit.alarms import Alarm, Metrics
from tests.unit.cfn import Stack

SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event"}
PARTS = {"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": [".s3-replica-parts/"]}}
SOUND = {"lifecycle": {"rule": [PARTS]}}


@pytest.fixture
def stack(s3_url: str, bucket: str, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    _set_up(gcs_bucket, **SOUND)
    yield from deployed(s3_url, monkeypatch, bucket, gcs_bucket)


def _set_up(copies: Bucket, **fields: Any) -> None:
    answer = copies.http.patch(f"{copies.url}/storage/v1/b/{copies.name}", json=fields, timeout=30)
    assert answer.ok, answer.text


def rings(properties: dict[str, Any], out: str) -> bool:
    """Whether an alarm of the template rings if each period has what was measured here."""
    period = properties.get("Period") or properties["Metrics"][1]["MetricStat"]["Period"]
    sent = Metrics()
    for number in range(10):
        for line in out.splitlines():
            if "_aws" in json.loads(line):
                sent.add_embedded(number * period, line)
    return Alarm(properties).rings(sent, 10 * period)


def test_a_sound_stack_has_no_fault_and_rings_nothing(stack: Deployed, capfd: pytest.CaptureFixture[str]) -> None:
    answer = check.lambda_handler(SCHEDULED, Clock())
    assert answer["ok"], answer["table"]
    subjects = {row["subject"] for row in answer["rows"] if row["result"] == "ok"}
    assert {"region", "notification", "queue policy", "mapping of events", "lifecycle rule", "soft delete"} <= subjects
    out = capfd.readouterr().out
    assert '"CheckFaults":[0]' in out
    assert not rings(Stack(SourceBucketName=stack.bucket).resource("CheckAlarm"), out)


def test_a_notification_that_another_tool_overwrote_rings(
    stack: Deployed, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stack.notify()
    answer = check.lambda_handler(SCHEDULED, Clock())
    alarm = Stack(SourceBucketName=stack.bucket).resource("CheckAlarm")
    assert rings(alarm, capfd.readouterr().out)
    assert not answer["ok"]
    assert stack.row("notification")["result"] == "WRONG"
    assert [vars(record)["subject"] for record in caplog.records if record.levelname == "ERROR"] == ["notification"]


def test_what_the_check_says_puts_the_notification_back(stack: Deployed) -> None:
    stack.wiring |= {"Prefix": "dt=2026/", "Suffix": ".csv"}
    with pytest.MonkeyPatch.context() as patch:
        stack.set(patch)
        stack.notify()
        wanted = json.loads(stack.row("notification")["detail"].partition("QueueConfigurations ")[2])
        assert wanted["Filter"]["Key"]["FilterRules"][0] == {"Name": "prefix", "Value": "dt%3D2026/"}
        stack.notify(QueueConfigurations=[wanted])
        assert stack.row("notification")["result"] == "ok"


@pytest.mark.parametrize(
    "change",
    [
        {"Events": ["s3:ObjectCreated:*"]},
        {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:others"},
        {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "dt=2026/"}]}}},
    ],
    ids=["fewer events", "another queue", "another filter"],
)
def test_a_notification_that_was_changed_is_wrong(stack: Deployed, change: dict[str, Any]) -> None:
    (ours,) = stack.s3.get_bucket_notification_configuration(Bucket=stack.bucket)["QueueConfigurations"]
    stack.notify(QueueConfigurations=[ours | change])
    assert stack.row("notification")["result"] == "WRONG"


def test_a_mapping_that_is_off_is_wrong_unless_replication_is_paused(stack: Deployed) -> None:
    stack.functions.update_event_source_mapping(UUID=stack.mapping, Enabled=False)
    assert stack.row("mapping of events")["result"] == "WRONG"
    stack.wiring["Replication"] = "Paused"
    with pytest.MonkeyPatch.context() as patch:
        stack.set(patch)
        assert stack.row("mapping of events")["result"] == "ok"


def test_a_mapping_that_is_gone_is_wrong(stack: Deployed) -> None:
    stack.functions.delete_event_source_mapping(UUID=stack.mapping)
    assert stack.row("mapping of events")["result"] == "WRONG"


@pytest.mark.parametrize(
    ("service", "source"), [("s3.amazonaws.com", "arn:aws:s3:::another"), ("sns.amazonaws.com", "arn:aws:s3:::*")]
)
def test_a_queue_that_the_bucket_may_not_send_to_is_wrong(stack: Deployed, service: str, source: str) -> None:
    allow(stack, service, source)
    assert stack.row("queue policy")["result"] == "WRONG"


def test_a_bucket_of_another_region_is_wrong(
    s3_url: str, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    far = f"far-{bucket}"
    for stack in deployed(s3_url, monkeypatch, bucket, gcs_bucket):
        where: Any = {"LocationConstraint": "eu-west-1"}
        stack.s3.create_bucket(Bucket=far, CreateBucketConfiguration=where)
        stack.bucket = stack.wiring["Bucket"] = far
        stack.set(monkeypatch)
        assert stack.row("region")["result"] == "WRONG"


def test_a_rule_of_event_bridge_must_be_on_and_send_to_the_queue(
    stack: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{stack.wiring['ConfigurationId']}-EventRule-1"
    stack.wiring |= {"Delivery": "EventBridge", "Rule": name}
    stack.set(monkeypatch)
    assert (stack.row("notification")["result"], stack.row("rule")["result"]) == ("WRONG", "WRONG")
    allow(stack, "events.amazonaws.com", f"arn:aws:events:us-east-1:123456789012:rule/{name[:-1]}*")
    events = boto3.client("events")
    events.put_rule(Name=name, EventPattern="{}")
    assert "does not send" in stack.row("rule")["detail"]
    events.put_targets(Rule=name, Targets=[{"Id": "q", "Arn": stack.wiring["QueueArn"]}])
    for subject in ("rule", "queue policy"):
        assert stack.row(subject)["result"] == "ok"
    events.disable_rule(Name=name)
    assert "is off" in stack.row("rule")["detail"]
    events.close()


def test_a_bucket_that_sends_to_event_bridge_is_right() -> None:
    """moto takes this part of a bucket's notifications, and does not tell of it."""
    s3 = SimpleNamespace(get_bucket_notification_configuration=lambda **_: {"EventBridgeConfiguration": {}})
    assert event_path._notification(s3, {"Bucket": "b"}, {"Delivery": "EventBridge"}) == "EventBridge"


@pytest.mark.parametrize(
    ("fields", "subject", "result", "detail"),
    [
        ({"lifecycle": {"rule": []}}, "lifecycle rule", "WRONG", "none deletes .s3-replica-parts/"),
        ({}, "lifecycle rule", "ok", "after 7 days"),
        ({}, "soft delete", "ok", "off"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, "soft delete", "ok", "on, 7 days"),
        ({}, "versioning", "ok", "off"),
        ({"versioning": {"enabled": True}}, "versioning", "ok", "on"),
        ({}, "retention", "ok", "none"),
        ({"retentionPolicy": {"retentionPeriod": "60"}}, "retention", "WRONG", "60 s"),
        ({"defaultEventBasedHold": True}, "retention", "WRONG", "hold"),
    ],
)
def test_the_destination_buckets_settings_are_said(
    stack: Deployed, fields: dict[str, Any], subject: str, result: str, detail: str
) -> None:
    _set_up(stack.copies, **fields)
    row = stack.row(subject)
    assert row["result"] == result
    assert detail in row["detail"]


def test_without_a_stacks_wiring_it_says_what_is_not_tried(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WIRING")
    answer = check.lambda_handler({}, Clock())
    assert answer["ok"], answer["table"]
    assert stack.row("canary")["result"] == "not tried"


def test_the_canarys_alarm_is_read(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack.row("canary")["detail"] == "off: CanaryMinutes is 0"
    stack.wiring["CanaryMinutes"] = 10
    stack.set(monkeypatch)
    assert stack.row("canary")["result"] == "WRONG"
    alarms = boto3.client("cloudwatch")
    alarm = Stack(SourceBucketName=stack.bucket, CanaryMinutes="10").resource("CanaryAlarm")
    alarms.put_metric_alarm(**alarm | {"AlarmName": f"{stack.wiring['ConfigurationId']}-canary"})
    assert stack.row("canary")["detail"].startswith("on, each 10 minutes; its alarm is ")
    alarms.close()
