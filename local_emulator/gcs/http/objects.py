"""The JSON API's calls on objects, but for the uploads."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local_emulator.gcs.http import media
from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import NONE, Conditions, whole_number
from local_emulator.gcs.store import blobs, layout, listing, versions, writes
from local_emulator.gcs.store.write_rate import Target

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Bucket, Stored
    from local_emulator.gcs.store.database import Op

MOST_SOURCES = 32


async def get(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Return an object's resource, or (alt=media) its bytes."""
    if call.flag("softDeleted"):
        if call.query.get("alt") == "media":
            raise errors.invalid("The bytes of soft-deleted objects cannot be read.")
        found = await _soft_deleted(call, bucket, name)
        return call.object_answer(found, await call.store.bucket(bucket))
    if call.query.get("alt") == "media":
        return await media.send(call, call.target(bucket, name))
    found = await call.store.find(call.target(bucket, name))
    return call.object_answer(found, await call.store.bucket(bucket))


async def list_(call: Call, bucket: str) -> web.StreamResponse:
    """Return one page of a bucket's objects."""
    wanted = listing.Listing.of_query(bucket, call.query, call.store.clock())
    owner = await call.store.bucket(bucket)
    if not wanted.token[0]:
        await call.store.refresh(bucket, wanted.prefix)
    page = await call.store.read(lambda connection: listing.page(connection, wanted))
    items = [listing.shown(call.shown(item, owner)) for item in page.items]
    return call.answer(listing.resource(page, items))


async def patch(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Change some of an object's metadata."""
    return await _change(call, bucket, name, whole=False)


async def update(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Replace an object's metadata."""
    return await _change(call, bucket, name, whole=True)


async def _change(call: Call, bucket: str, name: str, *, whole: bool) -> web.StreamResponse:
    resource = call.with_acl(await call.json_body())
    target, override = call.target(bucket, name), call.flag("overrideUnlockedRetention")
    return await _write(call, writes.patch(target, resource, whole=whole, override=override, limit=call.limit))


async def delete(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Remove an object."""
    await call.store.bucket(bucket)
    await call.store.commit(writes.delete(call.target(bucket, name), limit=call.limit))
    call.committed = True
    return web.Response(status=204)


async def restore(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Make a new live generation of a soft-deleted one, which stays what it is until its retention ends."""
    target = replace(call.target(bucket, name), generation=None)
    old = await _soft_deleted(call, bucket, name)
    fd = os.open(call.store.layout.blob(old.blob), os.O_RDONLY)
    try:
        blob = await call.store.run(blobs.copy, call.store.layout, fd, old)
    finally:
        os.close(fd)
    return await _write(call, writes.restore(target, blob, old, limit=call.limit), blob)


async def _soft_deleted(call: Call, bucket: str, name: str) -> Stored:
    await call.store.bucket(bucket)
    if not call.query.get("generation"):
        raise errors.required("Required parameter: generation")
    generation, now = whole_number(call.query["generation"], "generation"), call.store.clock()
    found = await call.store.read(lambda c: versions.soft_deleted(c, bucket, name, generation, now))
    if found is None:
        raise errors.no_generation(bucket, name, generation)
    return found


async def _write(call: Call, op: Op[Stored], blob: blobs.Blob | None = None) -> web.StreamResponse:
    try:
        stored = await call.store.commit(op)
    except BaseException:
        if blob is not None:
            blobs.remove(call.store.layout.blob(blob.name))
        raise
    call.committed = True
    return call.object_answer(stored, await call.store.bucket(stored.bucket))


async def compose(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Concatenate up to 32 objects of one bucket into one."""
    request = await call.json_body(required=True)
    target = target_of(call, bucket, name)
    wanted = _sources(bucket, request)
    await call.store.bucket(bucket)
    resource = request.get("destination") or {}
    if not isinstance(resource, dict):
        raise errors.invalid("Invalid value for destination.")
    resource = call.with_acl(call.with_key(resource, "kmsKeyName"), "destinationPredefinedAcl")
    with ExitStack() as stack:
        opened = []
        for source in wanted:
            stored, fd = await call.store.open(source, reading=False)
            stack.callback(os.close, fd)
            opened.append((stored, fd))
        sources = [stored for stored, _ in opened]
        deleted = request.get("deleteSourceObjects") is True
        if deleted and not all(source.live for source in sources):
            raise errors.not_implemented("deleteSourceObjects of noncurrent versions")
        if len({source.attributes["storageClass"] for source in sources}) > 1:
            raise errors.invalid("The source objects of a compose are of one storage class.")
        blob = await call.store.run(blobs.concatenate, call.store.layout, [fd for _, fd in opened])
    op = writes.compose(target, blob, resource, sources, delete_sources=deleted, limit=call.limit)
    return await _write(call, op, blob)


def _sources(bucket: str, request: dict[str, Any]) -> list[Target]:
    sources = request.get("sourceObjects")
    if not isinstance(sources, list) or not sources:
        raise errors.required("You must provide at least one source component.")
    if len(sources) > MOST_SOURCES:
        message = f"The number of source components provided ({len(sources)}) exceeds the maximum ({MOST_SOURCES})."
        raise errors.invalid(message)
    targets = []
    for source in sources:
        if not isinstance(source, dict):
            raise errors.invalid("Invalid value for sourceObjects.")
        conditions = Conditions.of_json(source["objectPreconditions"]) if source.get("objectPreconditions") else NONE
        generation = source.get("generation")
        targets.append(
            Target(
                bucket,
                layout.check_object_name(source.get("name")),
                conditions,
                whole_number(generation, "generation") if generation is not None else None,
            )
        )
    return targets


async def copy(call: Call, bucket: str, name: str, to_bucket: str, to_name: str) -> web.StreamResponse:
    """Copy an object."""
    resource = call.with_acl(await call.json_body(), "destinationPredefinedAcl")
    new, owner = await copied(call, resource, source_of(call, bucket, name), target_of(call, to_bucket, to_name))
    return call.object_answer(new, owner)


async def copied(
    call: Call, resource: dict[str, Any], source: Target, target: Target, *, keep: bool = False
) -> tuple[Stored, Bucket]:
    """Copy an object, and return the new one and its bucket.

    A resource that says anything of metadata replaces all of them, unless they are to be kept beside it.
    """
    owner = await call.store.bucket(target.bucket)
    stored, fd = await call.store.open(source, reading=False)
    try:
        blob = await call.store.run(blobs.copy, call.store.layout, fd, stored)
    finally:
        os.close(fd)
    own = {name: value for name, value in resource.items() if name in {"kmsKeyName", "acl"}}
    said, server = writes.copied(
        stored, {name: value for name, value in resource.items() if name not in own}, keep=keep
    )
    op = writes.put(target, blob, said | own, server=server, limit=call.limit)
    try:
        new = await call.store.commit(op)
    except BaseException:
        blobs.remove(call.store.layout.blob(blob.name))
        raise
    call.committed = True
    return new, owner


def target_of(call: Call, bucket: str, name: str) -> Target:
    """Return the object that a call makes, with the conditions on the one it replaces."""
    return replace(call.target(bucket, layout.check_object_name(name)), generation=None)


def source_of(call: Call, bucket: str, name: str) -> Target:
    """Return the object that a call copies from, with the conditions on it."""
    conditions = Conditions.of_query(call.query, call.request.headers, prefix="ifSource")
    generation = call.query.get("sourceGeneration")
    return Target(bucket, name, conditions, whole_number(generation, "sourceGeneration") if generation else None)


async def move(call: Call, bucket: str, name: str, to_name: str) -> web.StreamResponse:
    """Give an object another name in its bucket."""
    target = target_of(call, bucket, to_name)
    await call.store.bucket(bucket)
    return await _write(call, writes.move(source_of(call, bucket, name), target, limit=call.limit))
