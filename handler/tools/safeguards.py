"""Checks what protects the copies: the destination bucket's own settings, the brake on deletes, the canary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import boto3

from handler.adapters.queue import MessageQueue
from handler.config import Settings
from handler.core.plan import STAGING
from handler.tools.rows import CLIENTS, Row, Wrong, judged

_DAY = 86400


def of_bucket(client: Any, location: str) -> Iterator[Row]:
    """Check a GCS bucket's settings, by one request.

    https://cloud.google.com/storage/docs/json_api/v1/buckets#resource
    """
    bucket: Mapping[str, Any] = {}

    def read() -> str:
        from handler.adapters.gcs.errors import of_response

        nonlocal bucket
        path = f"/storage/v1/b/{quote(location.removeprefix('gs://'), safe='')}"
        answer = client.request("GET", path, time_left=lambda: 10.0)
        if answer.status != 200:
            raise of_response(answer, f"look at {location}")
        bucket = answer.json()
        return ""

    row = judged(location, "bucket's settings", "storage.buckets.get", read)
    if row.result != "ok":
        yield row
        return
    yield judged(location, "lifecycle rule", "", lambda: _lifecycle(bucket))
    yield judged(location, "retention", "", lambda: _retention(bucket))
    kept = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    yield Row("ok", location, "soft delete", f"on, {kept / _DAY:g} days" if kept else "off")
    yield Row("ok", location, "versioning", "on" if bucket.get("versioning", {}).get("enabled") else "off")


def _lifecycle(bucket: Mapping[str, Any]) -> str:
    for rule in bucket.get("lifecycle", {}).get("rule", []):
        condition = rule.get("condition", {})
        prefixes = condition.get("matchesPrefix", [])
        if rule.get("action", {}).get("type") == "Delete" and STAGING in prefixes and "age" in condition:
            return f"deletes {STAGING} after {condition['age']} days"
    raise Wrong(
        f"none deletes {STAGING}, where parts of overwritten objects stay: make a lifecycle rule with an age of 7 days"
    )


def _retention(bucket: Mapping[str, Any]) -> str:
    if seconds := int(bucket.get("retentionPolicy", {}).get("retentionPeriod", 0)):
        raise Wrong(f"a policy keeps each object for {seconds} s: GCS refuses to overwrite or delete copies until then")
    if bucket.get("defaultEventBasedHold"):
        raise Wrong("each new object gets a hold: GCS refuses to overwrite or delete copies")
    return "none"


def of_brake(settings: Settings) -> Row:
    """Return whether the brake is on, and whether it holds deletes."""
    if not (settings.deletes_queue and settings.held_deletes_queue and settings.deletes_limit):
        return Row("ok", "deletes", "brake", "off: each delete is carried out at once")
    sqs = boto3.client("sqs", config=CLIENTS)
    held, waiting = (
        MessageQueue(lambda: sqs, url, "deletes") for url in (settings.held_deletes_queue, settings.deletes_queue)
    )

    def look() -> str:
        count = held.count()
        if count or held.has_any():  # SQS counts a message about a minute late
            raise Wrong(f"about {count:,} deletes are held: python -m handler.tools.deletes list --stack STACK")
        return f"on, over {settings.deletes_limit:,} deletes; {waiting.count():,} wait"

    return judged("deletes", "brake", "sqs:ReceiveMessage", look)


def of_canary(wiring: Mapping[str, Any]) -> Row:
    """Return whether the canary is on, and the state of its alarm."""
    if not wiring:
        return Row("not tried", "the stack", "canary", "WIRING is not set")
    name, minutes = f"{wiring['ConfigurationId']}-canary", wiring["CanaryMinutes"]
    if not minutes:
        return Row("ok", name, "canary", "off: CanaryMinutes is 0")

    def look() -> str:
        alarms = boto3.client("cloudwatch", config=CLIENTS).describe_alarms(AlarmNames=[name])["MetricAlarms"]
        if not alarms:
            raise Wrong("its alarm is gone: deploy the stack again")
        return f"on, each {minutes} minutes; its alarm is {alarms[0]['StateValue']}"

    return judged(name, "canary", "cloudwatch:DescribeAlarms", look)
