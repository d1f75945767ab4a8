"""The template's custom resources. One adds a notification to a bucket's others and removes only that one again.

S3 keeps all notifications of a bucket in one document, which is read and written as a whole and without a precondition.
So the document is read right before each write, and read again afterwards until our notification has stayed.

The other resource, the guard, refuses another source bucket before CloudFormation changes anything of the stack.

The function has the runtime's own boto3, this module and notification_document.py, and nothing else of handler/.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
import logging
import random
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from handler.tools.notification_document import (
    LISTS,
    Json,
    NotificationError,
    entries,
    is_same,
    refuse_overlap,
    wanted_of,
)

GUARD = "Custom::SourceBucket"
"""The guard's resource type."""
OVERLAP = 360.0
"""Seconds for which both kinds of delivery are on when one replaces the other. S3 takes about five minutes to begin
with EventBridge. https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html"""
TRIES = 5
SETTLING = 2.0
"""Seconds after our write within which the write of another tool that began earlier would show."""
_REASON_MAX = 1024
_TRANSIENT = {"AccessDenied", "InternalError", "OperationAborted", "ServiceUnavailable", "SlowDown"}
"""Codes of errors that may be over in seconds. S3 also denies access to a role that is a few seconds old."""
_TRANSIENT_WRITE = {*_TRANSIENT, "InvalidArgument"}
"""S3 answers InvalidArgument for a queue whose policy is a few seconds old."""
log = logging.getLogger(__name__)
log.setLevel(logging.INFO)


def lambda_handler(event: Json, context: Any) -> None:
    """Answer CloudFormation in every case: without an answer it waits until its own timeout."""
    properties = event.get("ResourceProperties") or {}
    fallback = f"{properties.get('Bucket')}/{properties.get('ConfigurationId')}"
    answer = {
        "Status": "SUCCESS",
        "PhysicalResourceId": event.get("PhysicalResourceId") or fallback,
        **{name: event.get(name) for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    try:
        client = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=20))
        answer["PhysicalResourceId"] = perform(event, client)
    except Exception as error:
        log.exception("failed")
        what = str(error) if isinstance(error, NotificationError) else f"{type(error).__name__}: {error}"
        stream = getattr(context, "log_stream_name", "unknown")
        answer |= {"Status": "FAILED", "Reason": f"{what[:_REASON_MAX]} (log stream {stream})"}
    _send(event["ResponseURL"], answer)


def perform(event: Json, s3: Any, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Do what CloudFormation asks for and return the physical id, which changes only with the bucket or our id.

    Raises:
        NotificationError: it cannot be done; nothing was written, unless the message says so.
    """
    kind, properties = event.get("RequestType"), event["ResourceProperties"]
    if kind == "Update":
        _refuse_another_bucket(event.get("PhysicalResourceId", ""), properties["Bucket"])
    if event.get("ResourceType") == GUARD:
        return str(properties["Bucket"])
    bucket = _Bucket(s3, properties, sleep)
    if kind == "Create":
        _configure(bucket, properties, {"Delivery": "Direct"}, sleep)
    elif kind == "Update":
        _configure(bucket, properties, event.get("OldResourceProperties") or {}, sleep)
    elif kind == "Delete":
        bucket.remove(queue=properties["QueueArn"])
    else:
        raise NotificationError(f"CloudFormation sent the unknown request type {kind!r}")
    return f"{properties['Bucket']}/{properties['ConfigurationId']}"


def _refuse_another_bucket(physical_id: str, bucket: str) -> None:
    """Refuse an update to a bucket other than the physical id's. A rollback returns to that one, and passes."""
    current = physical_id.partition("/")[0]
    if current and current != bucket:
        raise NotificationError(
            f"SourceBucketName cannot be changed from {current} to {bucket}: events of {current} that still wait would "
            "have no rule, and no role could remove its notification. Nothing was changed. Deploy "
            f"another stack for {bucket}, then delete this one"
        )


def _configure(
    bucket: _Bucket, properties: Mapping[str, Any], old: Mapping[str, Any], sleep: Callable[[float], None]
) -> None:
    """Have events delivered as the properties say. The former delivery ends only after the new one has begun."""
    queues = {properties["QueueArn"], old.get("QueueArn", properties["QueueArn"])}
    wanted = wanted_of(properties)
    is_switched = old.get("Delivery", properties.get("Delivery")) != properties.get("Delivery")
    if is_switched and not wanted:
        bucket.deliver_to_event_bridge()
        sleep(OVERLAP)
    bucket.change(wanted, replaces=queues)
    if is_switched and wanted:
        sleep(OVERLAP)  # CloudFormation removes EventBridge's rule after our answer


class _Bucket:
    """The notifications of one bucket."""

    def __init__(self, s3: Any, properties: Mapping[str, Any], sleep: Callable[[float], None]) -> None:
        self._s3, self._sleep = s3, sleep
        self._id, self._name = properties["ConfigurationId"], properties["Bucket"]
        owner = properties.get("Account")
        self._target = {"Bucket": self._name} | ({"ExpectedBucketOwner": owner} if owner else {})

    def deliver_to_event_bridge(self) -> None:
        """Switch EventBridge on, beside all other notifications."""
        self._settle(lambda current: current | {"EventBridgeConfiguration": {}})

    def change(self, wanted: Json | None, *, replaces: set[str]) -> None:
        """Put `wanted` in place of our notifications to the queues `replaces`; None: switch EventBridge on instead."""

        def edit(current: Json) -> Json:
            others = self._others(current, replaces)
            for name, entry in entries(others):
                if entry.get("Id") == self._id:
                    raise NotificationError(
                        f"bucket {self._name} has a notification {self._id!r} already, to {entry.get(LISTS[name])}, "
                        "which is not of this stack: give the stack another name, or remove that notification"
                    )
            if not wanted:
                return others | {"EventBridgeConfiguration": {}}
            refuse_overlap(self._name, wanted, others)
            return others | {"QueueConfigurations": [*others.get("QueueConfigurations", []), wanted]}

        self._settle(edit)

    def remove(self, *, queue: str) -> None:
        """Remove our notification if it is there. EventBridge stays on, because others may listen to it."""
        try:
            # Skip the validation: other notifications' targets may be gone, which is not ours to judge.
            self._settle(lambda current: self._others(current, {queue}), SkipDestinationValidation=True)
        except ClientError as error:
            if _code(error) != "NoSuchBucket":
                raise

    def _settle(self, edit: Callable[[Json], Json], **options: bool) -> None:
        """Write what `edit` makes of the configuration until a later read shows that it has stayed."""
        for attempt in range(TRIES + 1):
            current = self._read()
            edited = edit(current)
            if is_same(current, edited):
                return
            if attempt < TRIES:
                self._write(edited, last=attempt == TRIES - 1, **options)
                self._sleep(SETTLING + random.random())  # noqa: S311 - two stacks must not stay in step
        raise NotificationError(
            f"something keeps replacing the notifications of bucket {self._name}: our change was written {TRIES} "
            "times and undone each time. Find the tool that writes them as a whole (another stack, Terraform) and let "
            "it keep the notifications of others"
        )

    def _read(self) -> Json:
        """Return all notifications. Try again after errors that may be over in seconds."""
        attempt = 1
        while True:
            try:
                answer = self._s3.get_bucket_notification_configuration(**self._target)
                return {name: value for name, value in answer.items() if name != "ResponseMetadata"}
            except ClientError as error:
                if _code(error) not in _TRANSIENT:
                    raise
                if attempt == TRIES:
                    raise NotificationError(
                        f"cannot read the notifications of bucket {self._name}: {_said(error)}. Check that the bucket "
                        "belongs to the account that SourceBucketOwner says, and that no policy denies the role "
                        "s3:GetBucketNotification. To delete the stack all the same: aws cloudformation delete-stack "
                        "with --retain-resources BucketNotification"
                    ) from error
                log.warning("not yet: %s", error)
            attempt += 1
            self._sleep(SETTLING)

    def _write(self, configuration: Json, *, last: bool, **options: bool) -> None:
        """Write all notifications. Ignore errors that may be over in seconds, except in the last attempt."""
        try:
            self._s3.put_bucket_notification_configuration(
                **self._target, NotificationConfiguration=configuration, **options
            )
        except ClientError as error:
            if _code(error) in _TRANSIENT_WRITE and not last:
                log.warning("not yet: %s", error)
                return
            raise NotificationError(
                f"S3 refuses the notifications of bucket {self._name}: {_said(error)}. "
                "If it names a destination: the bucket and its queue must be in one region, and the queue's policy and "
                "KMS key must let s3.amazonaws.com send. If it speaks of overlap or ambiguity: set EventDelivery to "
                "EventBridge"
            ) from error

    def _others(self, current: Json, queues: set[str]) -> Json:
        """Return all notifications but ours, which have our id and one of the queues."""
        others: Json = {}
        for name, value in current.items():
            if name not in LISTS:
                others[name] = value
            elif rest := [e for e in value if e.get("Id") != self._id or e.get("QueueArn") not in queues]:
                others[name] = rest
        return others


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _said(error: ClientError) -> str:
    return f"{_code(error)}: {error.response['Error'].get('Message', '')}"


def _send(url: str, answer: Json) -> None:
    """Put the answer to CloudFormation's presigned URL, which is signed without a content type."""
    log.info("%s", json.dumps(answer))
    for attempt in range(TRIES):
        request = urllib.request.Request(  # noqa: S310 - CloudFormation's own URL
            url, data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - CloudFormation's own URL
            return
        except OSError as error:
            log.warning("CloudFormation did not take the answer: %s", error)
            time.sleep(2**attempt / 2)
