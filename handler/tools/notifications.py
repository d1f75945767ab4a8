"""The template's custom resources: one adds a notification to a bucket's others, and takes only that one away again.

S3 knows one document of all notifications of a bucket, which is read and written as a whole and without a condition. So
it is read right before it is written, and read again afterwards until ours is seen to have stayed.

The other resource, the guard, refuses another source bucket before CloudFormation has changed anything of the stack.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
import logging
import random
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

LISTS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
"""S3's three lists of notifications, and where each says whom it tells."""

GUARD = "Custom::SourceBucket"
"""The guard's resource type."""
OVERLAP = 360.0
"""Seconds for which both kinds of delivery are on, where one takes the other's place. S3 takes around five minutes to
begin with EventBridge.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html"""
TRIES = 5
SETTLING = 2.0
"""Seconds after a write within which another's write, begun before ours, would show."""
_REASON_MAX = 1024
_PASSING = {"AccessDenied", "InternalError", "OperationAborted", "ServiceUnavailable", "SlowDown"}
"""Codes of errors that may be over in seconds. S3 denies access also to a role that was made a moment ago."""
_PASSING_WRITE = {*_PASSING, "InvalidArgument"}
"""S3 refuses a queue so whose policy was made a moment ago and is not known everywhere."""
_UNENCODED = "/!-_.*'()"
"""Characters beside letters and digits that S3 takes as they are in a filter.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html"""

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)

Json = dict[str, Any]


class NotificationError(Exception):
    """The notification cannot be as the template wants it; the message says why and what to do."""


def lambda_handler(event: Json, context: Any) -> None:
    """Answer CloudFormation in every case: without an answer it would wait until its own timeout."""
    properties = event.get("ResourceProperties") or {}
    fallback = f"{properties.get('Bucket')}/{properties.get('ConfigurationId')}"
    answer = {
        "Status": "SUCCESS",
        "PhysicalResourceId": event.get("PhysicalResourceId") or fallback,
        "StackId": event.get("StackId"),
        "RequestId": event.get("RequestId"),
        "LogicalResourceId": event.get("LogicalResourceId"),
    }
    try:
        client = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=20))
        answer["PhysicalResourceId"] = perform(event, client)
    except Exception as error:
        log.exception("failed")
        what = str(error) if isinstance(error, NotificationError) else f"{type(error).__name__}: {error}"
        where = getattr(context, "log_stream_name", "unknown")
        answer |= {"Status": "FAILED", "Reason": f"{what[:_REASON_MAX]} (log stream {where})"}
    _send(event["ResponseURL"], answer)


def perform(event: Json, s3: Any, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Do what CloudFormation asks for and return the resource's physical id, which changes with the bucket or id only.

    Raises:
        NotificationError: it cannot be done; nothing was written, unless the message says so.
    """
    properties = event["ResourceProperties"]
    if event.get("RequestType") == "Update":
        _refuse_another_bucket(event.get("PhysicalResourceId", ""), properties["Bucket"])
    if event.get("ResourceType") == GUARD:
        return str(properties["Bucket"])
    bucket = _Bucket(s3, properties, sleep)
    match event.get("RequestType"):
        case "Create":
            _configure(bucket, properties, {"Delivery": "Direct"}, sleep)
        case "Update":
            _configure(bucket, properties, event.get("OldResourceProperties") or {}, sleep)
        case "Delete":
            bucket.remove(replaces={properties["QueueArn"]})
        case other:
            raise NotificationError(f"CloudFormation asks for {other!r}, which is not known here")
    return f"{properties['Bucket']}/{properties['ConfigurationId']}"


def _refuse_another_bucket(physical_id: str, bucket: str) -> None:
    """Refuse an update to a bucket other than that of the physical id. A roll-back comes to that one, and passes."""
    current = physical_id.partition("/")[0]
    if current and current != bucket:
        raise NotificationError(
            f"SourceBucketName cannot be changed from {current} to {bucket}: events of {current} that still wait would "
            "have no rule, and nothing would be allowed to take its notification away. Nothing was changed. Deploy "
            f"another stack for {bucket}, then delete this one"
        )


def _configure(
    bucket: _Bucket, properties: Mapping[str, Any], old: Mapping[str, Any], sleep: Callable[[float], None]
) -> None:
    """Have events delivered as the properties say. What delivered them before goes only once the other has begun."""
    queues = {properties["QueueArn"], old.get("QueueArn", properties["QueueArn"])}
    wanted = wanted_of(properties)
    is_switched = old.get("Delivery", properties.get("Delivery")) != properties.get("Delivery")
    if is_switched and not wanted:
        bucket.deliver_to_event_bridge()
        sleep(OVERLAP)
    bucket.change(wanted, replaces=queues)
    if is_switched and wanted:
        sleep(OVERLAP)  # CloudFormation takes EventBridge's rule away after the answer


def wanted_of(properties: Mapping[str, Any]) -> Json | None:
    """Return the notification as S3 writes it; none where EventBridge delivers."""
    if properties.get("Delivery") == "EventBridge":
        return None
    given = {"prefix": properties.get("Prefix", ""), "suffix": properties.get("Suffix", "")}
    rules = [{"Name": name, "Value": quote_plus(value, _UNENCODED)} for name, value in given.items() if value]
    filters = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    head = {"Id": properties["ConfigurationId"], "QueueArn": properties["QueueArn"]}
    return head | {"Events": sorted(properties["Events"])} | filters


class _Bucket:
    """One bucket's notifications."""

    def __init__(self, s3: Any, properties: Mapping[str, Any], sleep: Callable[[float], None]) -> None:
        self._s3 = s3
        self._sleep = sleep
        self._id = properties["ConfigurationId"]
        self._name = properties["Bucket"]
        owner = properties.get("Account")
        self._place = {"Bucket": self._name} | ({"ExpectedBucketOwner": owner} if owner else {})

    def deliver_to_event_bridge(self) -> None:
        """Switch EventBridge on, beside all that is there."""
        self._settle(lambda current: current | {"EventBridgeConfiguration": {}})

    def change(self, wanted: Json | None, *, replaces: set[str]) -> None:
        """Have `wanted`, in place of what is under our id for one of the queues `replaces`; None: EventBridge."""

        def target_of(current: Json) -> Json:
            others = self._others(current, replaces)
            if not wanted:
                return others | {"EventBridgeConfiguration": {}}
            _refuse_overlap(self._name, wanted, others)
            return others | {"QueueConfigurations": [*others.get("QueueConfigurations", []), wanted]}

        self._settle(target_of)

    def _settle(self, target_of: Callable[[Json], Json]) -> None:
        """Write until a look shows that what `target_of` makes of the bucket's configuration has stayed."""
        for turn in range(TRIES + 1):
            current = self._read()
            target = target_of(current)
            if is_same(current, target):
                return  # also the last look at what was written before
            if turn < TRIES:
                self._write(target, last=turn == TRIES - 1)
                self._sleep(SETTLING + random.random())  # noqa: S311 - two stacks must not go on in step
        raise NotificationError(
            f"something keeps replacing the notifications of bucket {self._name}: ours was written {TRIES} times and "
            "is gone again. Find who writes them as a whole (another stack, Terraform) and have it keep the others"
        )

    def remove(self, *, replaces: set[str]) -> None:
        """Take away what is ours, if it is there; EventBridge stays on, for others may listen to it."""
        for turn in range(TRIES):
            try:
                current = self._read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchBucket":
                    return
                raise
            target = self._others(current, replaces, refuse=False)
            if is_same(current, target):
                return
            # Others' destinations may be gone by now, and are not ours to judge.
            self._write(target, last=turn == TRIES - 1, SkipDestinationValidation=True)
            self._sleep(SETTLING)

    def _read(self) -> Json:
        """Read all notifications. Errors that may be over in seconds are waited for."""
        for _ in range(TRIES - 1):
            try:
                return self._read_once()
            except ClientError as error:
                if error.response["Error"]["Code"] not in _PASSING:
                    raise
                log.warning("not yet: %s", error)
                self._sleep(SETTLING)
        try:
            return self._read_once()
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            raise NotificationError(
                f"cannot read the notifications of bucket {self._name}: {code}: {message}. Check that the bucket "
                "belongs to the account that SourceBucketOwner says, and that no policy denies the role "
                "s3:GetBucketNotification. To delete the stack all the same: aws cloudformation delete-stack with "
                "--retain-resources BucketNotification"
            ) from error

    def _read_once(self) -> Json:
        answer = self._s3.get_bucket_notification_configuration(**self._place)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    def _write(self, target: Json, *, last: bool, **options: bool) -> None:
        """Write all of it. What may come right by itself within seconds is let pass, but for the last time."""
        try:
            self._s3.put_bucket_notification_configuration(**self._place, NotificationConfiguration=target, **options)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code in _PASSING_WRITE and not last:
                log.warning("not yet: %s: %s", code, message)
                return
            raise NotificationError(
                f"S3 refuses the notifications of bucket {self._name}: {code}: {message}. "
                "If it names a destination: the bucket and its queue must be in one region, and the queue's policy and "
                "KMS key must let s3.amazonaws.com send. If it speaks of overlap or ambiguity: set EventDelivery to "
                "EventBridge"
            ) from error

    def _others(self, current: Json, replaces: set[str], *, refuse: bool = True) -> Json:
        """All that is not ours. Ours has our id and one of our queues."""
        others: Json = {}
        for name, value in current.items():
            kept = value
            if name in LISTS:
                kept = [entry for entry in value if not self._is_ours(entry, replaces)]
                taken = [entry for entry in kept if entry.get("Id") == self._id]
                if refuse and taken:
                    raise NotificationError(
                        f"bucket {self._name} has a notification {self._id!r} already, to {taken[0].get(LISTS[name])}, "
                        "which is not of this stack: give the stack another name, or remove that notification"
                    )
            if kept or name not in LISTS:
                others[name] = kept
        return others

    def _is_ours(self, entry: Mapping[str, Any], replaces: set[str]) -> bool:
        return entry.get("Id") == self._id and entry.get("QueueArn") in replaces


def _refuse_overlap(bucket: str, wanted: Json, others: Json) -> None:
    """Say which notification is in the way: S3's own answer does not."""
    clashes = [
        f"{entry.get('Id')!r} to {entry.get(LISTS[name])} ({', '.join(common)}; {_filter_text(entry)})"
        for name, entry in _entries(others)
        if (common := _common(wanted["Events"], entry.get("Events", []))) and _filters_meet(wanted, entry)
    ]
    if clashes:
        raise NotificationError(
            f"S3 sends an event of a key to one destination only, and bucket {bucket} has notifications that overlap "
            f"with ours ({_filter_text(wanted)}): {'; '.join(clashes)}. Set EventDelivery to EventBridge, which tells "
            "any number of listeners, or narrow SourcePrefix or SourceSuffix, or take that notification away"
        )


def _entries(configuration: Json) -> Iterator[tuple[str, Json]]:
    for name in LISTS:
        for entry in configuration.get(name, []):
            yield name, entry


def _common(ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """The event types of theirs that ours has too; `s3:ObjectCreated:*` stands for all that begins so."""
    return sorted({their for our, their in product(ours, theirs) if _stands_for(our, their) or _stands_for(their, our)})


def _stands_for(kind: str, other: str) -> bool:
    return kind == other or (kind.endswith(":*") and other.startswith(kind[:-1]))


def _filters_meet(one: Json, two: Json) -> bool:
    """Whether some key has both prefixes and both suffixes."""
    (prefix, suffix), (other_prefix, other_suffix) = filter_of(one), filter_of(two)
    prefixes = prefix.startswith(other_prefix) or other_prefix.startswith(prefix)
    return prefixes and (suffix.endswith(other_suffix) or other_suffix.endswith(suffix))


def filter_of(entry: Json) -> tuple[str, str]:
    """Return what keys must begin and end with for a notification, as S3 decodes its filter."""
    prefix, suffix = _stored_filter(entry)
    return unquote_plus(prefix), unquote_plus(suffix)


def _stored_filter(entry: Json) -> tuple[str, str]:
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    values = {rule["Name"].lower(): rule.get("Value", "") for rule in rules}  # S3 answers with "Prefix"
    return values.get("prefix", ""), values.get("suffix", "")


def _filter_text(entry: Json) -> str:
    prefix, suffix = filter_of(entry)
    return f"keys {prefix}*{suffix}" if prefix or suffix else "all keys"


def is_same(one: Json, two: Json) -> bool:
    """Return True if two configurations say the same, in whatever order and spelling."""
    return _normal(one) == _normal(two)


def _normal(configuration: Json) -> object:
    rest = {name: value for name, value in configuration.items() if name not in LISTS}
    entries = sorted(
        (name, str(entry.get("Id")), entry.get(LISTS[name]), sorted(entry.get("Events", [])), _stored_filter(entry))
        for name, entry in _entries(configuration)
    )
    return rest, entries


def _send(url: str, answer: Json) -> None:
    """Put the answer where CloudFormation waits for it: an S3 object behind a presigned URL, hence no content type."""
    log.info("%s", json.dumps(answer))
    for turn in range(TRIES):
        request = urllib.request.Request(  # noqa: S310 - CloudFormation's own URL
            url, data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - CloudFormation's own URL
            return
        except OSError as error:
            log.warning("CloudFormation did not take the answer: %s", error)
            time.sleep(2**turn / 2)
