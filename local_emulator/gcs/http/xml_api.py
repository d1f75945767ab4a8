"""The XML API's simple calls on objects: GET, HEAD, PUT and DELETE, conditions in headers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from local_emulator.gcs.http import bodies, media, uploads
from local_emulator.gcs.http.calls import Call, body
from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import Conditions, whole_number
from local_emulator.gcs.store import layout, writes
from local_emulator.gcs.store.write_rate import Target

FIELDS = {
    "Cache-Control": "cacheControl",
    "Content-Disposition": "contentDisposition",
    "Content-Encoding": "contentEncoding",
    "Content-Language": "contentLanguage",
    "Content-Type": "contentType",
    "x-goog-storage-class": "storageClass",
    "x-goog-custom-time": "customTime",
}
META = "x-goog-meta-"
SPOKEN_PARAMETERS = frozenset({"generation"})


def target_of(call: Call, bucket: str, name: str) -> Target:
    """Return the object, with the conditions in the headers."""
    if unknown := set(call.query) - SPOKEN_PARAMETERS:
        raise errors.not_spoken(f"?{min(unknown)} of the XML API")
    generation = call.query.get("generation")
    return Target(
        bucket,
        name,
        Conditions.of_headers(call.request.headers),
        whole_number(generation, "generation") if generation else None,
    )


def resource_of(call: Call) -> dict[str, Any]:
    """Return what the headers of a PUT say of the object."""
    headers = call.request.headers
    for header in ("x-goog-copy-source", "x-goog-encryption-key", "x-goog-object-lock-mode"):
        if header in headers:
            raise errors.not_spoken(f"{header} of the XML API")
    resource: dict[str, Any] = {field: headers[name] for name, field in FIELDS.items() if name in headers}
    if resource.get("contentEncoding") == "aws-chunked":
        raise errors.not_spoken("aws-chunked bodies")
    resource["metadata"] = {
        name[len(META) :].lower(): value for name, value in headers.items() if name.lower().startswith(META)
    }
    return resource


async def get(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Return an object's bytes; HEAD its headers alone."""
    return await media.send(call, target_of(call, bucket, name), xml=True)


async def put(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Store an object."""
    target = target_of(call, bucket, layout.check_object_name(name))
    await call.store.bucket(bucket)
    resource = resource_of(call)
    wanted = bodies.expected({}, call.request.headers)
    pieces = bodies.faulty(call, body(call.request))
    stored = await uploads.keep(call, target, resource, pieces, wanted)
    headers = media.headers_of(stored, media.xml_etag(stored))
    shown = ("ETag", "x-goog-generation", "x-goog-metageneration", "x-goog-hash", "x-goog-stored-content-length")
    return web.Response(headers={name: headers[name] for name in shown})


async def delete(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Remove an object."""
    await call.store.bucket(bucket)
    await call.store.commit(writes.delete(target_of(call, bucket, name), limit=call.limit))
    call.committed = True
    return web.Response(status=204)
