"""Finds the objects that an event file speaks of, whatever its envelope, so that `invoke` can provide them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

NEEDED = ("ObjectCreated:", "ObjectRestore:Completed", "Object Created", "Object Restore Completed")
"""Events after which the object exists, by S3's own names and EventBridge's."""


class Named(NamedTuple):
    """An object that an event speaks of as existing."""

    bucket: str
    key: str


def objects_in(event: Any) -> Iterator[Named]:
    """Yield every object that must exist for the event to make sense. What is no such event yields nothing."""
    if not isinstance(event, Mapping):
        return
    for record in _each(event.get("Records")):
        yield from _of_record(record)
    if event.get("Type") == "Notification":  # SNS in SQS
        yield from objects_in(_parsed(event.get("Message")))
    if str(event.get("detail-type", "")).startswith(NEEDED):
        yield from _named(event.get("detail"))
    for task in _each(event.get("tasks")):
        bucket = task.get("s3Bucket") or str(task.get("s3BucketArn", "")).rpartition(":")[2]
        yield Named(bucket, unquote_plus(str(task.get("s3Key", ""))))
    if "requestContext" in event:
        yield from _of_request(event)


def _of_record(record: Mapping[str, Any]) -> Iterator[Named]:
    if "body" in record:  # SQS
        yield from objects_in(_parsed(record["body"]))
    elif "Sns" in record:
        yield from objects_in(_parsed(record["Sns"].get("Message")))
    elif str(record.get("eventName", "")).startswith(NEEDED):
        for bucket, key in _named(record.get("s3")):
            yield Named(bucket, unquote_plus(key))


def _of_request(event: Mapping[str, Any]) -> Iterator[Named]:
    """Only POST asks for an object."""
    context = event["requestContext"]
    method = event.get("httpMethod") or context.get("http", {}).get("method")
    body = event.get("body") or ""
    request = _parsed(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    if method == "POST" and isinstance(request, Mapping):
        yield Named(str(request.get("s3_bucket", "")), str(request.get("s3_key", "")))


def _named(part: Any) -> Iterator[Named]:
    """Yield the bucket and key as they are written, where both are."""
    try:
        yield Named(str(part["bucket"]["name"]), str(part["object"]["key"]))
    except (KeyError, TypeError):
        return


def _each(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return None
