"""A request's body: counted, with the planned fault in it, stored, and compared with its checksums."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from local_emulator.gcs.model import errors
from local_emulator.gcs.store.blobs import Blob
from local_emulator.gcs.store.writer import Writer

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from local_emulator.gcs.http.calls import Call

    Headers = CIMultiDictProxy[str]

SMALL = 256 << 10
MAX_OBJECT = 5 << 40


async def head(pieces: AsyncIterator[bytes]) -> bytes:
    """Return a body's first bytes: all of it, unless they are more than SMALL."""
    first: list[bytes] = []
    size = 0
    async for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size > SMALL:
            break
    return b"".join(first)


async def receive(call: Call, first: bytes, pieces: AsyncIterator[bytes]) -> Blob:
    """Return a body's bytes, safely on disk."""
    writer = Writer(call.store.layout, call.store.pool)
    try:
        await writer.write(first)
        async for piece in pieces:
            await writer.write(piece)
            if writer.received > MAX_OBJECT:
                raise errors.invalid("The object is larger than 5 TiB.", status=413)  # noqa: TRY301 - cleaned up alike
        return await writer.finish()
    except BaseException:
        await writer.discard()
        raise


async def faulty(call: Call, pieces: AsyncIterator[bytes], offset: int = 0) -> AsyncIterator[bytes]:
    """Yield a body with the planned fault in it."""
    planned = call.fault("error-after", "stall", "corrupt-upload")
    seen = offset
    async for piece in pieces:
        data = piece
        if planned is not None and not planned.fired:
            cut = planned.fault.amount - seen
            if planned.fault.kind == "corrupt-upload":
                planned.fire()
                data = (b"B" if data[:1] == b"A" else b"A") + data[1:]
            elif cut < len(data) and planned.fault.kind == "stall":
                await asyncio.sleep(planned.fire().seconds)
            elif 0 <= cut <= len(data) and planned.fault.kind == "error-after":
                if cut:
                    yield data[:cut]
                raise _injected(planned.fire().code, seen + cut)
        seen += len(data)
        yield data


def _injected(code: int, size: int) -> errors.GcsError:
    return errors.GcsError(code, "backendError", f"Fault injected after uploading {size} bytes")


def expected(resource: Mapping[str, Any], headers: Headers) -> dict[str, str]:
    """Return the checksums that the caller says its bytes have, by kind.

    Raises:
        GcsError: one is not base64 of the right length, or two of a kind differ.
    """
    said: list[tuple[str, Any]] = [
        ("crc32c", resource.get("crc32c")),
        ("md5", resource.get("md5Hash")),
        ("md5", headers.get("Content-MD5")),
    ]
    for header in headers.getall("x-goog-hash", []):
        for item in header.split(","):
            kind, _, value = item.strip().partition("=")
            said.append((kind.lower(), value))
    wanted: dict[str, str] = {}
    for kind, value in said:
        if not value:
            continue
        length = {"crc32c": 4, "md5": 16}.get(kind)
        try:
            good = isinstance(value, str) and len(base64.b64decode(value, validate=True)) == length
        except (binascii.Error, ValueError):
            good = False
        if not good or wanted.setdefault(kind, value) != value:
            raise errors.invalid(f"Invalid {kind} checksum: '{value}'", xml_code="InvalidDigest")
    return wanted


def verify(blob: Blob, wanted: Mapping[str, str]) -> None:
    """Refuse bytes that are not those that were sent."""
    for kind, want in wanted.items():
        have = blob.crc32c if kind == "crc32c" else blob.md5
        if have is not None and have != want:
            name = "CRC32C" if kind == "crc32c" else "MD5 hash"
            message = f'Provided {name} "{want}" doesn\'t match calculated {name} "{have}".'
            raise errors.invalid(message, xml_code="BadDigest")
