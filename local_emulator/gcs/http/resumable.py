"""The requests of a resumable upload: begin, send, ask, cancel, as GCS answers them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from local_emulator.gcs.http import bodies
from local_emulator.gcs.http.calls import Call, body
from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.conditions import whole_number
from local_emulator.gcs.store import layout, writes
from local_emulator.gcs.store.sessions import Session

QUANTUM = 256 << 10
_RANGE = re.compile(r"bytes (?:(?P<all>\*)|(?P<first>\d{1,18})-(?P<last>\d{1,18}|\*))/(?P<total>\d{1,18}|\*)")


@dataclass(frozen=True)
class Span:
    """What a Content-Range header says: bytes from `first` to before `end`, of `total`; a query has no `first`."""

    first: int | None
    end: int | None
    total: int | None
    bare: bool = False  # without a Content-Range: the body is all of the object


async def begin(call: Call, bucket: str) -> web.Response:
    """Begin a session, if its conditions hold now; they are judged again at its end."""
    headers = call.request.headers
    resource = await call.json_body()
    target = call.target(bucket, layout.check_object_name(call.query.get("name") or resource.get("name")))
    if "contentEncoding" in call.query:
        resource["contentEncoding"] = call.query["contentEncoding"]
    if not resource.get("contentType"):
        resource["contentType"] = headers.get("X-Upload-Content-Type") or "application/octet-stream"
    resource = call.with_acl(call.with_key(resource, "kmsKeyName"))
    bodies.expected(resource, headers)
    length = headers.get("X-Upload-Content-Length")
    total = whole_number(length, "X-Upload-Content-Length") if length else None
    if total is not None and not 0 <= total <= bodies.MAX_OBJECT:
        raise errors.invalid("The object is larger than 5 TiB.", status=413)

    def allowed(tx: Any) -> None:
        owner = writes.bucket_of(tx, bucket)
        writes.replaceable(tx, target, owner)
        attributes.new(resource, owner.attributes)

    await call.store.bucket(bucket)
    await call.store.commit(allowed)
    session = await call.sessions.begin(target, resource, total)
    where = f"{call.base}/upload/storage/v1/b/{quote(bucket, safe='')}/o?uploadType=resumable&upload_id={session.id}"
    return web.Response(headers={"Location": where, "X-GUploader-UploadID": session.id})


async def request(call: Call) -> web.StreamResponse:
    """Answer any request to a session's URL."""
    session = await call.sessions.load(call.query["upload_id"])
    if call.request.method == "DELETE":
        return await _cancel(call, session)
    if call.request.method not in {"PUT", "POST"}:
        raise errors.not_implemented(f"{call.request.method} of an upload session")
    span = _span(call)
    if session.over():
        return _ended(call, session)
    if span.total is not None and session.total not in {None, span.total}:
        raise errors.invalid(f"Invalid request. The object's size was said to be {session.total}, now {span.total}.")
    if span.first is None:
        async with session.lock:
            return await _answer(call, session, span, whole=True)
    if session.receiving is not None:
        session.receiving.cancel()
    async with session.lock:
        if session.over():
            return _ended(call, session)
        return await _take(call, session, span)


async def _cancel(call: Call, session: Session) -> web.Response:
    if session.receiving is not None:
        session.receiving.cancel()
    async with session.lock:
        if session.over():
            return _ended(call, session)
        gone = errors.GcsError(499, "clientClosedRequest", "The upload was cancelled.")
        await call.sessions.end(session, 499, gone.message)
    return web.Response(status=499)


def _ended(call: Call, session: Session) -> web.Response:
    if session.status == 200:
        return call.answer(json.loads(session.answer))
    reason = {412: "conditionNotMet", 499: "clientClosedRequest", 403: "forbidden"}.get(session.status, "invalid")
    raise errors.GcsError(session.status, reason, session.answer)


def _span(call: Call) -> Span:
    header = call.request.headers.get("Content-Range")
    length = call.request.content_length
    if header is None:
        return Span(0, length, length, bare=True)
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise errors.invalid("Invalid request.  Failed to parse Content-Range header.")
    total = None if match["total"] == "*" else int(match["total"])
    if match["all"]:
        return Span(None, None, total)
    first = int(match["first"])
    end = None if match["last"] == "*" else int(match["last"]) + 1
    if (end is not None and end <= first) or (total is not None and (end or first) > total):
        raise errors.invalid("Invalid request.  Failed to parse Content-Range header.")
    if end is not None and length is not None and length != end - first:
        raise errors.invalid(
            f"Invalid request.  There were {length} byte(s) in the request body.  There should have been "
            f"{end - first} byte(s) (starting at offset {first} and ending at offset {end - 1}) according to the "
            "Content-Range header."
        )
    return Span(first, end, total)


async def _take(call: Call, session: Session, span: Span) -> web.StreamResponse:
    first = span.first or 0
    if first > session.persisted:
        raise errors.GcsError(
            503,
            "backendError",
            f"Invalid request.  According to the Content-Range header, the upload offset is {first} byte(s), which "
            f"exceeds already uploaded size of {session.persisted} byte(s).",
            plain=True,
        )
    if span.total is not None:
        session.request["total"] = span.total
    final = span.end is not None and span.end == session.total
    if not final and span.end is not None and span.end - first < QUANTUM:
        raise errors.invalid(
            f"Invalid request.  The number of bytes uploaded is required to be equal or greater than {QUANTUM}, except "
            f"for the final request (it's recommended to be the exact multiple of {QUANTUM}).  The received request "
            f"contained {span.end - first} bytes, which does not meet this requirement."
        )
    whole = False
    session.receiving = asyncio.create_task(_receive(call, session, first))
    try:
        await asyncio.wait([session.receiving])
        if session.receiving.cancelled():
            raise errors.backend("Another request for this upload took over.")
        session.receiving.result()
        whole = call.fault("persist-only") is None
    finally:
        session.receiving.cancel()
        session.receiving = None
        await _persist(call, session, span, whole=whole)
    return await _answer(call, session, span, whole=whole)


async def _persist(call: Call, session: Session, span: Span, *, whole: bool) -> None:
    """Keep what came, in whole quanta unless it is all there is or a fault says how much."""
    writer = session.writer
    if writer is None:
        return
    complete = whole and (span.bare or writer.received == session.total)
    if not complete and call.fault("persist-only", "error-after") is None:
        writer.drop_tail()
    await call.sessions.persist(session)


async def _receive(call: Call, session: Session, first: int) -> None:
    writer = await call.sessions.writer(session)
    skip = session.persisted - first
    planned = call.fault("persist-only")
    most = session.persisted + planned.fire().amount if planned else bodies.MAX_OBJECT
    async for piece in bodies.faulty(call, body(call.request), first):
        data = piece[skip:]
        skip = max(skip - len(piece), 0)
        data = data[: max(most - writer.received, 0)]
        if data:
            await writer.write(data)
        if writer.received > (session.total if session.total is not None else bodies.MAX_OBJECT):
            raise errors.invalid("Invalid request.  There are more bytes than the upload was said to have.")


async def _answer(call: Call, session: Session, span: Span, *, whole: bool) -> web.StreamResponse:
    total = session.total if span.total is None else span.total
    if span.bare and total is None and whole:
        total = session.persisted
    if whole and total == session.persisted:
        return await _complete(call, session)
    headers = {"Range": f"bytes=0-{session.persisted - 1}"} if session.persisted else {}
    headers["X-GUploader-UploadID"] = session.id
    if call.request.headers.get("X-GUploader-No-308", "").lower() == "yes":
        return web.Response(status=200, headers=headers | {"X-HTTP-Status-Code-Override": "308"})
    return web.Response(status=308, reason="Resume Incomplete", headers=headers)


async def _complete(call: Call, session: Session) -> web.Response:
    resource = session.request["resource"]
    try:
        wanted = bodies.expected(resource, call.request.headers)
        writer = await call.sessions.writer(session)
        blob = await writer.finish()
        bodies.verify(blob, wanted)
        bucket = await call.store.bucket(session.bucket)
        answer: dict[str, Any] = {}

        def then(tx: Any, stored: Any) -> None:
            answer.update(call.shown(stored, bucket))
            call.sessions.closing(session, 200, json.dumps(answer))(tx)

        await call.store.commit(writes.put(session.target, blob, resource, limit=call.limit, then=then))
    except errors.GcsError as error:
        if error.status != 429 and error.status < 500:
            with contextlib.suppress(errors.GcsError):
                await call.sessions.end(session, error.status, error.message)
        raise
    call.committed = True
    call.sessions.forget(session, 200, json.dumps(answer))
    return call.answer(answer)
