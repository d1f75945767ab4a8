"""The JSON API's calls on buckets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from local_emulator.gcs.http import bucket_fields
from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import acl, attributes, errors
from local_emulator.gcs.model.conditions import Conditions, whole_number
from local_emulator.gcs.model.resources import Bucket, bucket_resource
from local_emulator.gcs.store import layout, lifecycle


async def insert(call: Call) -> web.StreamResponse:
    """Make a bucket."""
    resource = await call.json_body(required=True)
    name = layout.check_bucket_name(resource.get("name"))
    said = bucket_fields.new(_with_acls(call, resource))
    if call.flag("enableObjectRetention"):
        said["objectRetention"] = {"mode": "Enabled"}
    return call.bucket_answer(await call.store.make_bucket(name, said))


async def get(call: Call, name: str) -> web.StreamResponse:
    """Return a bucket's resource."""
    _check_soft_deleted(call)
    bucket = await call.store.bucket(name)
    _conditions(call).check(0, bucket.metageneration, (), reading=True)
    return call.bucket_answer(bucket)


async def list_(call: Call) -> web.StreamResponse:
    """Return one page of the buckets."""
    _check_soft_deleted(call)
    most = whole_number(call.query.get("maxResults") or 1000, "maxResults")
    prefix, token = call.query.get("prefix", ""), call.query.get("pageToken", "")
    found = [b for b in await call.store.buckets() if b.name.startswith(prefix) and b.name > token]
    answer: dict[str, Any] = {"kind": "storage#buckets"}
    shown = found[: max(most, 1)]
    if len(found) > len(shown):
        answer["nextPageToken"] = shown[-1].name
    if shown:
        answer["items"] = [bucket_resource(bucket, call.base, full=call.full) for bucket in shown]
    return call.answer(answer)


def _check_soft_deleted(call: Call) -> None:
    if call.flag("softDeleted"):
        raise errors.not_implemented("soft-deleted buckets")


async def patch(call: Call, name: str) -> web.StreamResponse:
    """Change some of a bucket's attributes."""
    said = bucket_fields.writable_fields(_with_acls(call, await call.json_body()))
    return await _change(call, name, lambda bucket: bucket_fields.patched(bucket.attributes, said))


async def update(call: Call, name: str) -> web.StreamResponse:
    """Replace a bucket's attributes."""
    said = bucket_fields.writable_fields(_with_acls(call, await call.json_body()))
    return await _change(call, name, lambda bucket: bucket_fields.replaced(bucket.attributes, said))


async def _change(call: Call, name: str, change: Any) -> web.StreamResponse:
    return call.bucket_answer(await call.store.change_bucket(name, change, _conditions(call)))


async def delete(call: Call, name: str) -> web.StreamResponse:
    """Remove an empty bucket."""
    await call.store.drop_bucket(name, _conditions(call))
    return web.Response(status=204)


async def lock_retention_policy(call: Call, name: str) -> web.StreamResponse:
    """Lock a bucket's retention policy: from now on it can only be made longer."""
    if "ifMetagenerationMatch" not in call.query:
        raise errors.required("Required parameter: ifMetagenerationMatch")

    def locked(bucket: Bucket) -> attributes.Attributes:
        if "retentionPolicy" not in bucket.attributes:
            raise errors.invalid(f"The bucket {name} has no retention policy.")
        return bucket.attributes | {"retentionPolicy": bucket.attributes["retentionPolicy"] | {"isLocked": True}}

    return await _change(call, name, locked)


async def storage_layout(call: Call, name: str) -> web.StreamResponse:
    """Return where and how a bucket keeps its objects: without a hierarchical namespace."""
    bucket = await call.store.bucket(name)
    shown = {field: bucket.attributes[field] for field in ("location", "locationType")}
    flat = {"hierarchicalNamespace": {"enabled": False}}
    return call.answer({"kind": "storage#storageLayout", "bucket": name} | shown | flat)


async def managed_folders(call: Call, name: str) -> web.StreamResponse:
    """Return a bucket's managed folders, of which there are none, as none can be made."""
    await call.store.bucket(name)
    return call.answer({"kind": "storage#managedFolders"})


def _conditions(call: Call) -> Conditions:
    return Conditions.of_query(call.query, {})


def _with_acls(call: Call, resource: dict[str, Any]) -> dict[str, Any]:
    """Return the resource with the predefined ACLs that the query names."""
    lists = (
        ("acl", "predefinedAcl", acl.PREDEFINED_OF_BUCKETS),
        ("defaultObjectAcl", "predefinedDefaultObjectAcl", acl.PREDEFINED_OF_OBJECTS),
    )
    named = {field: acl.predefined(known, call.query[name]) for field, name, known in lists if call.query.get(name)}
    return resource | named


async def run_lifecycle(call: Call, bucket: str) -> web.StreamResponse:
    """Take every action that is due, at once, and answer with them; `{"now": TIME}` judges as of another time."""
    body = await call.json_body()
    now = attributes.moment(body["now"], "now") if "now" in body else datetime.fromtimestamp(call.store.clock(), UTC)
    await call.store.bucket(bucket)
    await call.store.refresh(bucket, "")
    return call.answer({"actions": await call.store.commit(lifecycle.act(bucket, now))})
