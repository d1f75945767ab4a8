"""The XML API's simple calls on objects: GET, HEAD, PUT and DELETE, conditions in headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local_emulator.gcs.http import bodies, media, objects, uploads
from local_emulator.gcs.http.calls import Call, body, decoded
from local_emulator.gcs.model import acl, errors
from local_emulator.gcs.model.conditions import Conditions, whole_number
from local_emulator.gcs.store import layout, writes
from local_emulator.gcs.store.write_rate import Target

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Stored

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
COPY = "x-goog-copy-source"
KNOWN_PARAMETERS = frozenset({"generation"})


def target_of(call: Call, bucket: str, name: str) -> Target:
    """Return the object, with the conditions in the headers."""
    if unknown := set(call.query) - KNOWN_PARAMETERS:
        raise errors.not_implemented(f"?{min(unknown)} of the XML API")
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
    for header in ("x-goog-encryption-key", "x-goog-object-lock-mode"):
        if header in headers:
            raise errors.not_implemented(f"{header} of the XML API")
    resource: dict[str, Any] = {field: headers[name] for name, field in FIELDS.items() if name in headers}
    if resource.get("contentEncoding") == "aws-chunked":
        raise errors.not_implemented("aws-chunked bodies")
    resource["metadata"] = {
        name[len(META) :].lower(): value for name, value in headers.items() if name.lower().startswith(META)
    }
    if name := headers.get("x-goog-acl"):
        first, *words = name.split("-")
        resource["acl"] = acl.predefined(acl.PREDEFINED_OF_OBJECTS, first + "".join(map(str.capitalize, words)))
    return resource


async def get(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Return an object's bytes; HEAD its headers alone."""
    return await media.send(call, target_of(call, bucket, name), xml=True)


async def put(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Store an object."""
    target = target_of(call, bucket, layout.check_object_name(name))
    await call.store.bucket(bucket)
    resource = resource_of(call)
    if COPY in call.request.headers:
        return await _copy(call, target, resource)
    resource.setdefault("contentType", "application/octet-stream")
    wanted = bodies.expected({}, call.request.headers)
    pieces = bodies.faulty(call, body(call.request))
    stored = await uploads.keep(call, target, resource, pieces, wanted)
    return web.Response(headers=_headers(stored))


def _headers(stored: Stored) -> dict[str, str]:
    headers = media.headers_of(stored, stored.xml_etag)
    shown = ("ETag", "x-goog-generation", "x-goog-metageneration", "x-goog-hash", "x-goog-stored-content-length")
    return {name: headers[name] for name in shown}


async def _copy(call: Call, target: Target, resource: dict[str, Any]) -> web.StreamResponse:
    """Copy the object that a PUT names, with its metadata unless the PUT is to replace them."""
    headers = call.request.headers
    directive = headers.get("x-goog-metadata-directive", "COPY").upper()
    if directive not in {"COPY", "REPLACE"}:
        raise errors.invalid("Invalid value for x-goog-metadata-directive: it is COPY or REPLACE.")
    bucket, _, name = decoded(headers[COPY].removeprefix("/")).partition("/")
    generation = headers.get(f"{COPY}-generation")
    source = Target(
        bucket,
        layout.check_object_name(name),
        Conditions.of_headers(headers, prefix=f"{COPY}-"),
        whole_number(generation, f"{COPY}-generation") if generation else None,
    )
    is_copy = directive == "COPY"
    said = {name: value for name, value in resource.items() if not is_copy or name in {"storageClass", "acl"}}
    stored, _ = await objects.copied(call, said, source, target, keep=is_copy)
    fields = {"ETag": f'"{stored.xml_etag}"', "LastModified": stored.attributes["updated"]}
    inner = "".join(f"<{field}>{text}</{field}>" for field, text in fields.items())
    text = f"<?xml version='1.0' encoding='UTF-8'?><CopyObjectResult>{inner}</CopyObjectResult>"
    shown = {name: value for name, value in _headers(stored).items() if name != "ETag"}
    return web.Response(body=text.encode(), content_type="application/xml", headers=shown)


async def delete(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Remove an object."""
    await call.store.bucket(bucket)
    await call.store.commit(writes.delete(target_of(call, bucket, name), limit=call.limit))
    call.committed = True
    return web.Response(status=204)
