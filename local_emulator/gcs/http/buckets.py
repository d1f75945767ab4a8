"""The JSON API's calls on buckets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.conditions import Conditions, whole_number
from local_emulator.gcs.model.resources import Bucket, bucket_resource
from local_emulator.gcs.store import layout, lifecycle

SPOKEN = frozenset(
    {
        "defaultEventBasedHold",
        "encryption",
        "iamConfiguration",
        "labels",
        "lifecycle",
        "location",
        "retentionPolicy",
        "softDeletePolicy",
        "storageClass",
        "versioning",
    }
)
HARMLESS = frozenset(
    # what the server makes, and access control, which this server does not have
    [
        "acl",
        "defaultObjectAcl",
        "etag",
        "generation",
        "id",
        "kind",
        "locationType",
        "metageneration",
        "name",
        "objectRetention",
        "owner",
        "projectNumber",
        "rpo",
        "selfLink",
        "timeCreated",
        "updated",
    ]
)
DAY = 24 * 3600
DEFAULTS: attributes.Attributes = {
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "bucketPolicyOnly": {"enabled": True},
        "publicAccessPrevention": "inherited",
    },
    "softDeletePolicy": {"retentionDurationSeconds": "0"},
}


async def insert(call: Call) -> web.StreamResponse:
    """Make a bucket."""
    resource = await call.json_body(required=True)
    name = layout.check_bucket_name(resource.get("name"))
    said = DEFAULTS | {key: value for key, value in _said(resource).items() if value is not None}
    if call.flag("enableObjectRetention"):
        said["objectRetention"] = {"mode": "Enabled"}
    return call.answer(bucket_resource(await call.store.make_bucket(name, said), call.base))


async def get(call: Call, name: str) -> web.StreamResponse:
    """Return a bucket's resource."""
    bucket = await call.store.bucket(name)
    _conditions(call).check(0, bucket.metageneration, "", reading=True)
    return call.answer(bucket_resource(bucket, call.base))


async def list_(call: Call) -> web.StreamResponse:
    """Return one page of the buckets."""
    most = whole_number(call.query.get("maxResults") or 1000, "maxResults")
    prefix, token = call.query.get("prefix", ""), call.query.get("pageToken", "")
    found = [b for b in await call.store.buckets() if b.name.startswith(prefix) and b.name > token]
    answer: dict[str, Any] = {"kind": "storage#buckets"}
    shown = found[: max(most, 1)]
    if len(found) > len(shown):
        answer["nextPageToken"] = shown[-1].name
    if shown:
        answer["items"] = [bucket_resource(bucket, call.base) for bucket in shown]
    return call.answer(answer)


async def patch(call: Call, name: str) -> web.StreamResponse:
    """Change some of a bucket's attributes."""
    said = _said(await call.json_body())

    def change(bucket: Bucket) -> attributes.Attributes:
        merged = bucket.attributes | said
        if isinstance(said.get("labels"), dict):
            merged["labels"] = bucket.attributes.get("labels", {}) | said["labels"]
            merged["labels"] = {key: text for key, text in merged["labels"].items() if text is not None}
        kept = {key: value for key, value in merged.items() if value is not None}
        return kept | {"updated": attributes.now()}

    return call.answer(bucket_resource(await call.store.change_bucket(name, change, _conditions(call)), call.base))


async def update(call: Call, name: str) -> web.StreamResponse:
    """Replace a bucket's attributes."""
    said = {key: value for key, value in _said(await call.json_body()).items() if value is not None}

    def change(bucket: Bucket) -> attributes.Attributes:
        kept = {key: value for key, value in bucket.attributes.items() if key not in SPOKEN - {"location"}}
        return {"storageClass": "STANDARD"} | kept | DEFAULTS | said | {"updated": attributes.now()}

    return call.answer(bucket_resource(await call.store.change_bucket(name, change, _conditions(call)), call.base))


async def delete(call: Call, name: str) -> web.StreamResponse:
    """Remove an empty bucket."""
    await call.store.drop_bucket(name, _conditions(call))
    return web.Response(status=204)


def _conditions(call: Call) -> Conditions:
    return Conditions.of_query(call.query, {})


def _said(resource: dict[str, Any]) -> attributes.Attributes:
    said: attributes.Attributes = {}
    for field, value in resource.items():
        if field in SPOKEN:
            said[field] = _checked(field, value)
        elif field not in HARMLESS and not _is_off(value):
            raise errors.not_spoken(f"the bucket field {field}")
    return said


def _is_off(value: Any) -> bool:
    """Tell whether a feature that this server lacks is asked to be off."""
    return not value or (isinstance(value, dict) and not any(value.values()))


def _checked(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field in CHECKS:
        return CHECKS[field](value)
    if field == "storageClass" and value not in attributes.STORAGE_CLASSES:
        raise errors.invalid(f"Invalid storage class: '{value}'")
    if field == "encryption":
        key = value.get("defaultKmsKeyName") if isinstance(value, dict) else None
        if not isinstance(key, str) or value.keys() != {"defaultKmsKeyName"}:
            raise errors.not_spoken("encryption by anything but a defaultKmsKeyName")
        return value
    if field == "location" and isinstance(value, str):
        return value.upper()
    kind = {"defaultEventBasedHold": bool, "labels": dict, "iamConfiguration": dict}.get(field, str)
    if not isinstance(value, kind):
        raise errors.invalid(f"Invalid value for {field}: {value!r}")
    return value


def _retention_policy(value: Any) -> attributes.Attributes:
    period = whole_number(value.get("retentionPeriod") if isinstance(value, dict) else value, "retentionPeriod")
    if not 0 < period <= 3_155_760_000:
        raise errors.invalid("Invalid value for retentionPeriod: it is 1 second to 100 years.")
    if value.get("isLocked"):
        raise errors.not_spoken("locked retention policies")
    return {"retentionPeriod": str(period), "effectiveTime": attributes.now()}


def _versioning(value: Any) -> attributes.Attributes:
    if not isinstance(value, dict) or not isinstance(value.get("enabled"), bool):
        raise errors.invalid("Invalid value for versioning: enabled is true or false.")
    return {"enabled": value["enabled"]}


def _soft_delete_policy(value: Any) -> attributes.Attributes:
    seconds = whole_number(
        value.get("retentionDurationSeconds") if isinstance(value, dict) else value, "retentionDurationSeconds"
    )
    if seconds and not 7 * DAY <= seconds <= 90 * DAY:
        raise errors.invalid("Invalid value for retentionDurationSeconds: it is 0, or 7 to 90 days.")
    return {"retentionDurationSeconds": str(seconds)} | ({"effectiveTime": attributes.now()} if seconds else {})


CHECKS: dict[str, Callable[[Any], attributes.Attributes]] = {
    "lifecycle": lifecycle.checked,
    "retentionPolicy": _retention_policy,
    "softDeletePolicy": _soft_delete_policy,
    "versioning": _versioning,
}


async def run_lifecycle(call: Call, bucket: str) -> web.StreamResponse:
    """Take every action that is due, at once, and answer with them; `{"now": TIME}` judges as of another time."""
    body = await call.json_body()
    now = attributes.moment(body["now"], "now") if "now" in body else datetime.fromtimestamp(call.store.clock(), UTC)
    await call.store.bucket(bucket)
    await call.store.refresh(bucket, "")
    return call.answer({"actions": await call.store.commit(lifecycle.act(bucket, now))})
