"""The JSON API's calls on notification configurations, which this server keeps and by which it publishes nothing."""

from __future__ import annotations

import logging
import re
from typing import Any

from aiohttp import web

from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import errors
from local_emulator.gcs.store import documents

LOG = logging.getLogger("local_emulator.gcs")
KIND = "notification"
WARNING = "nothing is published to Pub/Sub here"
FIELDS = ("custom_attributes", "event_types", "object_name_prefix", "payload_format", "topic")
_TOPIC = re.compile(r"(?://pubsub\.googleapis\.com/)?(projects/[^/]+/topics/[^/]+)")


async def all_(call: Call, bucket: str) -> web.StreamResponse:
    """Make a configuration, or return those there are."""
    await call.store.bucket(bucket)
    if call.method == "POST":
        return await _insert(call, bucket)
    found = await call.store.read(lambda c: documents.all_of(c, KIND, bucket))
    return call.answer({"kind": "storage#notifications", "items": [_shown(call, bucket, one) for one in found]})


async def _insert(call: Call, bucket: str) -> web.StreamResponse:
    said = await call.json_body(required=True)
    topic = _TOPIC.fullmatch(said["topic"]) if isinstance(said.get("topic"), str) else None
    if topic is None:
        raise errors.invalid("Invalid value for topic: it is //pubsub.googleapis.com/projects/PROJECT/topics/TOPIC.")
    if said.get("payload_format") not in {"JSON_API_V1", "NONE"}:
        raise errors.invalid("Invalid value for payload_format: it is JSON_API_V1 or NONE.")
    made = {name: said[name] for name in FIELDS if said.get(name)} | {"topic": f"//pubsub.googleapis.com/{topic[1]}"}
    found = await call.store.read(lambda c: documents.all_of(c, KIND, bucket))
    number = str(max((int(one["id"]) for one in found), default=0) + 1)
    await call.store.commit(documents.change(KIND, bucket, number, lambda _: made | {"id": number}))
    call.committed = True
    LOG.warning("The notification configuration %s of %s is kept, but %s.", number, bucket, WARNING)
    response = call.answer(_shown(call, bucket, made | {"id": number}))
    response.headers["Warning"] = f'299 - "{WARNING}"'
    return response


async def one(call: Call, bucket: str, number: str) -> web.StreamResponse:
    """Return or delete a configuration."""
    await call.store.bucket(bucket)
    found = await call.store.read(lambda c: documents.find(c, KIND, bucket, number))
    if found is None:
        raise errors.GcsError(404, "notFound", f"No such notification configuration: {bucket}/{number}")
    if call.method == "GET":
        return call.answer(_shown(call, bucket, found))
    await call.store.commit(documents.change(KIND, bucket, number, lambda _: None))
    call.committed = True
    return web.Response(status=204)


def _shown(call: Call, bucket: str, found: documents.Document) -> dict[str, Any]:
    where = f"{call.base}/storage/v1/b/{bucket}/notificationConfigs/{found['id']}"
    return {"kind": "storage#notification", "selfLink": where, "etag": found["id"]} | found
