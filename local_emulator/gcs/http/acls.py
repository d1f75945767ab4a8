"""The JSON API's calls on single entries of access control lists: of buckets, of new objects, of objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import acl, attributes, errors
from local_emulator.gcs.model.conditions import Conditions
from local_emulator.gcs.model.resources import Bucket, bucket_acl, etag, object_acl
from local_emulator.gcs.store import writes


@dataclass(frozen=True)
class AccessList:
    """One access control list, and how to replace it."""

    kind: str
    roles: tuple[str, ...]
    where: dict[str, str]
    etag: str
    entries: acl.Acl
    save: Callable[[acl.Acl], Awaitable[Any]]

    def shown(self, one: dict[str, str]) -> dict[str, Any]:
        """Return an entry's resource."""
        return acl.resource(one, self.kind, self.where, self.etag)


async def _of_bucket(call: Call, bucket: str, field: str) -> AccessList:
    found = await call.store.bucket(bucket)
    _check_fine_grained(found)

    async def save(new: acl.Acl) -> None:
        def change(old: Bucket) -> attributes.Attributes:
            return old.attributes | {field: new, "updated": attributes.now()}

        await call.store.change_bucket(bucket, change, Conditions(metageneration_match=found.metageneration))

    own = field == "acl"
    tag = etag(1, found.metageneration)
    kind, roles = ("bucket", acl.BUCKET_ROLES) if own else ("object", acl.OBJECT_ROLES)
    return AccessList(kind, roles, {"bucket": bucket} if own else {}, tag, bucket_acl(found, field), save)


async def _of_object(call: Call, bucket: str, name: str) -> AccessList:
    _check_fine_grained(await call.store.bucket(bucket))
    target = call.target(bucket, name)
    found = await call.store.find(target, reading=False)

    async def save(new: acl.Acl) -> None:
        await call.store.commit(
            writes.patch(target, {"acl": new}, whole=False, override=False, limit=call.limit),
        )

    where = {"bucket": bucket, "object": name, "generation": str(found.generation)}
    return AccessList("object", acl.OBJECT_ROLES, where, found.etag, object_acl(found), save)


def _check_fine_grained(bucket: Bucket) -> None:
    if attributes.has_uniform_access(bucket.attributes):
        raise errors.invalid("Cannot use ACL API when uniform bucket-level access is enabled.")


async def bucket(call: Call, name: str, entity: str = "") -> web.StreamResponse:
    """Answer any call on the entries of a bucket's list."""
    return await _answer(call, await _of_bucket(call, name, "acl"), entity)


async def default_object(call: Call, name: str, entity: str = "") -> web.StreamResponse:
    """Answer any call on the entries of the list that new objects of a bucket have."""
    return await _answer(call, await _of_bucket(call, name, "defaultObjectAcl"), entity)


async def object_(call: Call, bucket_name: str, name: str, entity: str = "") -> web.StreamResponse:
    """Answer any call on the entries of an object's list."""
    return await _answer(call, await _of_object(call, bucket_name, name), entity)


async def _answer(call: Call, found: AccessList, entity: str) -> web.StreamResponse:
    if not entity:
        if call.method == "POST":
            return await _save(call, found, acl.entry(await call.json_body(), found.roles))
        items = [found.shown(one) for one in found.entries]
        return call.answer({"kind": f"storage#{found.kind}AccessControls", "items": items})
    old = acl.found(found.entries, entity)
    if call.method == "GET":
        return call.answer(found.shown(old))
    if call.method == "DELETE":
        await found.save(acl.without(found.entries, entity))
        call.committed = True
        return web.Response(status=204)
    return await _save(call, found, acl.entry(old | await call.json_body() | {"entity": entity}, found.roles))


async def _save(call: Call, found: AccessList, new: dict[str, str]) -> web.StreamResponse:
    await found.save(acl.replaced(found.entries, new))
    call.committed = True
    return call.answer(found.shown(new))
