"""objects.insert: media, multipart and the beginning of resumable uploads, each body streamed to disk and checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local_emulator.gcs.http import resumable
from local_emulator.gcs.http.bodies import SMALL, expected, faulty, head, receive, verify
from local_emulator.gcs.http.calls import Call, body
from local_emulator.gcs.http.multipart import Related
from local_emulator.gcs.model import errors
from local_emulator.gcs.store import layout, writes
from local_emulator.gcs.store.blobs import remove
from local_emulator.gcs.store.write_rate import Target

if TYPE_CHECKING:
    from local_emulator.gcs.http.bodies import Headers
    from local_emulator.gcs.model.resources import Stored
    from local_emulator.gcs.store.blobs import Blob
    from local_emulator.gcs.store.database import Op


async def insert(call: Call, bucket: str) -> web.StreamResponse:
    """Store an object, or begin to."""
    if "upload_id" in call.query:
        return await resumable.request(call)
    kind = call.query.get("uploadType")
    if call.request.headers.get("x-goog-encryption-key"):
        raise errors.not_implemented("customer-supplied encryption keys")
    if kind == "resumable":
        return await resumable.begin(call, bucket)
    if call.request.headers.get("Content-Encoding"):
        raise errors.not_implemented("Content-Encoding of the upload itself; use contentEncoding")
    await call.store.bucket(bucket)
    if kind == "multipart":
        return await _multipart(call, bucket)
    if kind == "media":
        return await _media(call, bucket)
    raise errors.required("Required parameter: uploadType is media, multipart or resumable.")


async def _media(call: Call, bucket: str) -> web.Response:
    headers = call.request.headers
    resource: dict[str, Any] = {"contentType": headers.get("Content-Type") or "application/octet-stream"}
    return await _store(call, bucket, call.query.get("name"), resource, faulty(call, body(call.request)), headers)


async def _multipart(call: Call, bucket: str) -> web.Response:
    related = Related(call.request.headers.get("Content-Type", ""), body(call.request))
    resource, media = await related.head()
    if media.get("Content-Transfer-Encoding", "binary").lower() not in {"binary", "8bit", "7bit"}:
        raise errors.not_implemented("a Content-Transfer-Encoding of the media")
    if not resource.get("contentType") and media["Content-Type"]:
        resource["contentType"] = media["Content-Type"]
    name = call.query.get("name") or resource.get("name")
    return await _store(call, bucket, name, resource, faulty(call, related.media()), call.request.headers)


async def _store(  # noqa: PLR0913, PLR0917 - what an upload consists of
    call: Call, bucket: str, name: Any, resource: dict[str, Any], pieces: AsyncIterator[bytes], headers: Headers
) -> web.Response:
    target = call.target(bucket, layout.check_object_name(name))
    if "contentEncoding" in call.query:
        resource["contentEncoding"] = call.query["contentEncoding"]
    resource = call.with_acl(call.with_key(resource, "kmsKeyName"))
    wanted = expected(resource, headers)
    stored = await keep(call, target, resource, pieces, wanted)
    return call.object_answer(stored, await call.store.bucket(bucket))


async def keep(
    call: Call, target: Target, resource: dict[str, Any], pieces: AsyncIterator[bytes], wanted: dict[str, str]
) -> Stored:
    """Stream a body to disk, check it, and commit it as an object; anything wrong leaves nothing behind."""

    def checked(blob: Blob) -> Op[Stored]:
        verify(blob, wanted)
        return writes.put(target, blob, resource, limit=limit)

    limit = call.limit
    small = await head(pieces)
    if len(small) <= SMALL:
        stored = await call.store.commit_small(small, checked)
    else:
        blob = await receive(call, small, pieces)
        try:
            stored = await call.store.commit(checked(blob))
        except errors.GcsError:
            remove(call.store.layout.blob(blob.name))
            raise
    call.committed = True
    return stored
