"""Checks what the stack set up between the source bucket and the functions, where events can be lost silently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import ClientError

from handler.config import Settings
from handler.tools.notification_document import is_same, wanted_of
from handler.tools.rows import CLIENTS, Row, Wrong, judged

_SENDS = {"sqs:sendmessage", "sqs:*", "*"}
Wiring = Mapping[str, Any]


def rows(settings: Settings) -> Iterator[Row]:
    """Compare the resources with what the stack made, as WIRING says."""
    wiring = settings.wiring
    if not wiring:
        yield Row("not tried", "the stack", "notification, queue policy, mappings, region", "WIRING is not set")
        return
    bucket, queue = wiring["Bucket"], wiring["QueueArn"]
    owner = settings.owner_of(bucket)
    target = {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})
    s3 = boto3.client("s3", config=CLIENTS)
    where = f"s3://{bucket}"
    yield judged(where, "region", "s3:ListBucket", lambda: _region(s3, target))
    yield judged(where, "notification", "s3:GetBucketNotification", lambda: _notification(s3, target, wiring))
    if wiring["Rule"]:
        subject = "rule", "events:DescribeRule or events:ListTargetsByRule"
        yield judged(f"EventBridge {wiring['Rule']}", *subject, lambda: _rule(wiring["Rule"], queue))
    yield judged(queue, "queue policy", "sqs:GetQueueAttributes", lambda: _policy(settings, owner))
    for name, uuid in wiring["Mappings"].items():
        subject = f"mapping of {name}", "lambda:GetEventSourceMapping"
        yield judged(f"mapping {uuid}", *subject, partial(_mapping, uuid, wiring["Replication"]))


def _region(s3: Any, target: Mapping[str, str]) -> str:
    """Return the bucket's region. S3 sends no event to a queue in another region."""
    there, here = s3.head_bucket(**target)["BucketRegion"], s3.meta.region_name
    if there != here:
        raise Wrong(f"the bucket is in {there}, the function in {here}: deploy the stack in {there}")
    return str(there)


def _notification(s3: Any, target: Mapping[str, str], wiring: Wiring) -> str:
    """Return the notification's id. A tool that writes the bucket's notifications as a whole removes ours."""
    current = s3.get_bucket_notification_configuration(**target)
    wanted = wanted_of(wiring)
    if wanted is None:
        if "EventBridgeConfiguration" not in current:
            raise Wrong('the bucket does not send to EventBridge: add {"EventBridgeConfiguration": {}}')
        return "EventBridge"
    name = wiring["ConfigurationId"]
    ours = [entry for entry in current.get("QueueConfigurations", []) if entry.get("Id") == name]
    if not ours:
        raise Wrong(f"{name!r} is gone, no event comes: add to QueueConfigurations {json.dumps(wanted)}")
    if not is_same({"QueueConfigurations": ours}, {"QueueConfigurations": [wanted]}):
        raise Wrong(f"{name!r} was changed: replace it in QueueConfigurations by {json.dumps(wanted)}")
    return str(name)


def _rule(name: str, queue: str) -> str:
    events = boto3.client("events", config=CLIENTS)
    try:
        state = events.describe_rule(Name=name)["State"]
    except events.exceptions.ResourceNotFoundException:
        raise Wrong("the rule is gone: switch EventDelivery to Direct and back") from None
    if not state.startswith("ENABLED"):
        raise Wrong(f"the rule is off: aws events enable-rule --name {name}")
    if queue not in {target["Arn"] for target in events.list_targets_by_rule(Rule=name)["Targets"]}:
        raise Wrong(f"the rule does not send to {queue}: aws events put-targets --rule {name}")
    return ""


def _policy(settings: Settings, owner: str | None) -> str:
    wiring = settings.wiring
    queue = wiring["QueueArn"]
    _, partition, _, region, account, name = queue.split(":")
    service, sender = "s3.amazonaws.com", f"arn:{partition}:s3:::{wiring['Bucket']}"
    if wiring["Rule"]:
        service, sender = "events.amazonaws.com", f"arn:{partition}:events:{region}:{account}:rule/{wiring['Rule']}"
    sqs = boto3.client("sqs", config=CLIENTS)
    url = f"{(settings.parts_queue or '').rpartition('/')[0]}/{name}"  # of the same account and region
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    policy = json.loads(answer.get("Attributes", {}).get("Policy", "{}"))
    if not any(_allows(statement, service, sender, owner) for statement in policy.get("Statement", [])):
        raise Wrong(f"it does not let {service} send for {sender}: deploy the stack again without this change")
    return service


def _allows(statement: Mapping[str, Any], service: str, sender: str, owner: str | None) -> bool:
    """Return True if a statement lets the service send for the sender. Only the stack's own conditions are compared."""
    principal = statement.get("Principal")
    services = _listed(principal.get("Service") if isinstance(principal, dict) else principal)
    actions = {action.lower() for action in _listed(statement.get("Action"))}
    if statement.get("Effect") != "Allow" or not {service, "*"}.intersection(services) or not _SENDS & actions:
        return False
    for condition in statement.get("Condition", {}).values():
        for name, values in condition.items():
            if name.lower() == "aws:sourcearn" and not any(fnmatchcase(sender, value) for value in _listed(values)):
                return False
            if name.lower() == "aws:sourceaccount" and service.startswith("s3.") and owner not in _listed(values):
                return False
    return True


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _mapping(uuid: str, replication: str) -> str:
    functions = boto3.client("lambda", config=CLIENTS)
    try:
        mapping = functions.get_event_source_mapping(UUID=uuid)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise Wrong("it is gone, and nothing receives the queue's messages: deploy the stack again") from error
        raise
    if mapping["State"] in {"Disabled", "Disabling"}:
        if replication == "Paused":
            return "paused, by the parameter Replication"
        raise Wrong(f"it is off: aws lambda update-event-source-mapping --uuid {uuid} --enabled")
    return f"{mapping['State']} {mapping.get('LastProcessingResult', '')}".strip()
