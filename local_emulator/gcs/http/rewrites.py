"""Rewrites: copies that may take several calls, each with the token of the one before."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local_emulator.gcs.http import objects
from local_emulator.gcs.model import errors
from local_emulator.gcs.model.attributes import KMS_VERSION
from local_emulator.gcs.model.conditions import whole_number

if TYPE_CHECKING:
    from local_emulator.gcs.http.calls import Call
    from local_emulator.gcs.model.resources import Stored

_MIB = 1 << 20


async def rewrite(call: Call, bucket: str, name: str, to_bucket: str, to_name: str) -> web.StreamResponse:
    """Copy an object, up to `maxBytesRewrittenPerCall` bytes a call where bytes have to move.

    The bytes are copied in the last call; earlier calls only count. A token belongs to one request on one state of the
    source.
    """
    resource = call.with_key(await call.json_body(), "destinationKmsKeyName")
    resource = call.with_acl(resource, "destinationPredefinedAcl")
    source, to = (bucket, name), (to_bucket, to_name)
    wanted = objects.source_of(call, *source)
    stored = await call.store.find(wanted, reading=False)
    state = hashlib.sha256(json.dumps([source, to, stored.generation, resource], sort_keys=True).encode()).hexdigest()
    done = _done(call, state) + _step(call)
    if done < stored.size and _moves_bytes(stored, resource, bucket, to_bucket):
        return call.answer(_progress(done, stored) | {"done": False, "rewriteToken": f"{state}.{done}"})
    new, owner = await objects.copied(call, resource, wanted, objects.target_of(call, *to))
    return call.answer(_progress(new.size, new) | {"done": True, "resource": call.shown(new, owner)})


def _progress(done: int, stored: Stored) -> dict[str, Any]:
    return {"kind": "storage#rewriteResponse", "totalBytesRewritten": str(done), "objectSize": str(stored.size)}


def _moves_bytes(stored: Stored, resource: dict[str, Any], bucket: str, to_bucket: str) -> bool:
    """Return True unless place, class and key stay: then GCS is done in one call, whatever the size."""
    now = stored.attributes
    is_same_key = "kmsKeyName" not in resource or now.get("kmsKeyName") == resource["kmsKeyName"] + KMS_VERSION
    return (
        bucket != to_bucket
        or resource.get("storageClass", now["storageClass"]) != now["storageClass"]
        or not is_same_key
    )


def _step(call: Call) -> int:
    """Return the bytes of one call; all there can be if the caller sets no bound."""
    if (text := call.query.get("maxBytesRewrittenPerCall")) is None:
        return 1 << 62
    step = whole_number(text, "maxBytesRewrittenPerCall")
    if step <= 0 or step % _MIB:
        raise errors.invalid("maxBytesRewrittenPerCall must be a positive multiple of 1 MiB (1048576).")
    return step


def _done(call: Call, state: str) -> int:
    """Return the bytes that the calls before have done, as their token says."""
    if (token := call.query.get("rewriteToken")) is None:
        return 0
    told, _, done = token.partition(".")
    if told != state or not done.isdecimal():
        raise errors.invalid("Invalid rewrite token: it belongs to another request or another state of the source.")
    return int(done)
