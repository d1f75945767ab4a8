"""An object's bytes on their way out: ranges, decompression, and the headers that go with them."""

from __future__ import annotations

import asyncio
import os
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from local_emulator.gcs.http.calls import Call, ConnectionReset, StreamBroken
from local_emulator.gcs.model import errors
from local_emulator.gcs.model.attributes import moment
from local_emulator.gcs.model.conditions import check_dates

if TYPE_CHECKING:
    from local_emulator.gcs.http.faults import PlannedFault
    from local_emulator.gcs.model.resources import Stored
    from local_emulator.gcs.store.write_rate import Target

SMALL = 256 << 10
BLOCK = 1 << 20
_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_HEADERS = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
}


@dataclass(frozen=True)
class Part:
    """Which bytes of an object are wanted: all of them, or a range."""

    first: int
    end: int
    ranged: bool = False


def headers_of(stored: Stored, etag: str | None = None) -> dict[str, str]:
    """Return the headers that describe an object whose bytes are sent as they are stored."""
    attributes = stored.attributes
    headers = {name: attributes[field] for field, name in _HEADERS.items() if attributes.get(field)}
    headers |= {
        "Content-Type": attributes.get("contentType") or "application/octet-stream",
        "ETag": f'"{etag}"' if etag else stored.etag,
        "Last-Modified": formatdate(moment(attributes["updated"], "updated").timestamp(), usegmt=True),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": stored.hashes,
        "x-goog-stored-content-length": str(stored.size),
        "x-goog-stored-content-encoding": attributes.get("contentEncoding") or "identity",
        "x-goog-storage-class": attributes["storageClass"],
        "Accept-Ranges": "bytes",
    }
    for name, value in attributes.get("metadata", {}).items():
        headers[f"x-goog-meta-{name}"] = value
    return {name: _safe(value) for name, value in headers.items() if _TOKEN.fullmatch(name)}


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _safe(value: str) -> str:
    """Return a value that a header can carry: what it cannot is percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}~")


async def send(call: Call, target: Target, *, xml: bool = False) -> web.StreamResponse:
    """Answer with an object's bytes."""
    stored, fd = await call.store.open(target)
    try:
        return await _send(call, stored, fd, xml=xml)
    finally:
        os.close(fd)


async def _send(call: Call, stored: Stored, fd: int, *, xml: bool) -> web.StreamResponse:
    headers = headers_of(stored, stored.xml_etag if xml else None)
    if xml:
        check_dates(call.request.headers, stored.attributes["updated"])
    if _unpacked(call, stored):
        del headers["Content-Encoding"]
        headers["x-guploader-response-body-transformations"] = "gunzipped"
        headers["Warning"] = "214 UploadServer gunzipped"
        return await _stream(call, web.StreamResponse(headers=headers), _gunzip(call, fd))
    part = _part(call, stored.size)
    status = 206 if part.ranged else 200
    if part.ranged:
        headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{stored.size}"
    if call.request.method == "HEAD":
        return _head(status, headers, part)
    length = part.end - part.first
    planned = call.fault("broken-stream", "stall", "corrupt", "error-after")
    if planned is None and length <= SMALL:
        data = await call.store.run(os.pread, fd, length, part.first)
        return web.Response(status=status, headers=headers, body=data)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    if planned is None:
        return await _sendfile(call, response, fd, part)
    return await _stream(call, response, with_fault(planned, _read(call, fd, part), part.first))


def _head(status: int, headers: dict[str, str], part: Part) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = part.end - part.first
    return response


def _unpacked(call: Call, stored: Stored) -> bool:
    attributes = stored.attributes
    return (
        attributes.get("contentEncoding") == "gzip"
        and "no-transform" not in attributes.get("cacheControl", "")
        and "gzip" not in call.request.headers.get("Accept-Encoding", "")
    )


def _part(call: Call, size: int) -> Part:
    """Return what the Range header asks for; one that is not understood is ignored, as HTTP has it.

    Raises:
        GcsError: 416, there are no such bytes.
    """
    match = _RANGE.fullmatch(call.request.headers.get("Range", "").strip())
    if match is None or not (match["first"] or match["last"]):
        return Part(0, size)
    if not match["first"]:
        first, end = max(size - int(match["last"]), 0), size
    else:
        first, end = int(match["first"]), min(int(match["last"]) + 1, size) if match["last"] else size
        if match["last"] and int(match["last"]) < first:
            return Part(0, size)
    if first >= size or first >= end:
        raise errors.GcsError(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            location=("header", "Range"),
            headers={"Content-Range": f"bytes */{size}"},
        )
    return Part(first, end, ranged=True)


async def _sendfile(call: Call, response: web.StreamResponse, fd: int, part: Part) -> web.StreamResponse:
    await response.prepare(call.request)
    transport = call.request.transport
    if transport is None:
        raise ConnectionReset
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        loop = asyncio.get_running_loop()
        await loop.sendfile(transport, file, part.first, part.end - part.first)
    await response.write_eof()
    return response


async def _read(call: Call, fd: int, part: Part) -> AsyncIterator[bytes]:
    at = part.first
    while at < part.end:
        data = await call.store.run(os.pread, fd, min(BLOCK, part.end - at), at)
        if not data:
            raise ConnectionReset  # the file shrank under us: better no end than a wrong one
        at += len(data)
        yield data


async def _gunzip(call: Call, fd: int) -> AsyncIterator[bytes]:
    unpacker, at = zlib.decompressobj(wbits=31), 0
    while packed := await call.store.run(os.pread, fd, BLOCK // 4, at):
        at += len(packed)
        while packed:
            try:
                plain = await call.store.run(unpacker.decompress, packed, BLOCK)
            except zlib.error as error:
                raise ConnectionReset from error
            if plain:
                yield plain
            packed = unpacker.unconsumed_tail
            if unpacker.eof and (packed := unpacker.unused_data):
                unpacker = zlib.decompressobj(wbits=31)


async def with_fault(planned: PlannedFault, pieces: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """Yield bytes with the planned fault in them; amounts count from the beginning of the object."""
    fault, seen = planned.fault, offset
    if fault.kind == "broken-stream" and fault.amount <= 4:
        seen = 0
    async for piece in pieces:
        data = piece
        if fault.kind == "corrupt" and not planned.fired:
            planned.fire()
            data = (b"B" if data[:1] == b"A" else b"A") + data[1:]
        cut = fault.amount - seen
        if not planned.fired and 0 <= cut < len(data):
            yield data[:cut]
            data = data[cut:]
            seen += cut
            planned.fire()
            if fault.kind != "stall":
                raise StreamBroken
            await asyncio.sleep(fault.seconds)
        seen += len(data)
        yield data


async def _stream(call: Call, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response
