"""multipart/related as it streams in: the resource first, then the media, byte for byte."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import HeaderParser
from typing import Any

from local_emulator.gcs.http.calls import MAX_JSON, parse_object
from local_emulator.gcs.model import errors


def boundary_of(content_type: str) -> bytes:
    """Return the boundary in a Content-Type header.

    Raises:
        GcsError: it is not multipart/related, or says no boundary.
    """
    if plain := _PLAIN.fullmatch(content_type):
        return plain[1].encode()
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() not in {"multipart/related", "multipart/mixed"} or not boundary:
        raise errors.invalid("A multipart upload needs the content type multipart/related with a boundary.")
    if len(boundary) > 1 and boundary[0] == boundary[-1] == "'":  # gcloud's quotes, which GCS takes for such
        boundary = boundary[1:-1]
    return boundary.encode()


_PLAIN = re.compile(r"multipart/related; boundary=([0-9A-Za-z]+)")
"""What needs no parser of MIME, which takes longer than all else that is done with a small body."""
_SIMPLE = re.compile(r"Content-Type: ([!-~]+(?:; charset=[0-9A-Za-z-]+)?)")


class Related:
    """One multipart/related body.

    Lines end in CRLF or (as apitools writes them) in LF alone; which of them, the first line tells. What ends the media
    is the line end before the boundary that this body uses, so that no byte of the media is lost.
    """

    def __init__(self, content_type: str, pieces: AsyncIterator[bytes]) -> None:
        self._boundary = b"--" + boundary_of(content_type)
        self._pieces = pieces
        self._buffer = b""
        self._newline = b"\r\n"

    async def head(self) -> tuple[dict[str, Any], Message]:
        """Return the resource, and the headers of the media."""
        await self._skip_past(self._boundary)
        await self._fill(2)
        self._newline = b"\r\n" if self._buffer.lstrip(b" \t").startswith(b"\r\n") else b"\n"
        await self._skip_past(self._newline)
        await self._headers()
        resource = await self._skip_past(self._newline + self._boundary)
        await self._skip_past(self._newline)
        return parse_object(resource or b"{}"), await self._headers()

    async def media(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the media.

        Raises:
            GcsError: the body ends without its last boundary, or has a third part.
        """
        end = self._newline + self._boundary
        start = 0
        while True:
            at = self._buffer.find(end, start)
            if at < 0 or len(self._buffer) < at + len(end) + 2:
                keep = at if at >= 0 else max(len(self._buffer) - len(end) + 1, 0)
                if keep:
                    yield self._buffer[:keep]
                    self._buffer = self._buffer[keep:]
                start = 0
                await self._more()
                continue
            following = self._buffer[at + len(end) : at + len(end) + 2]
            if following == b"--":
                if at:
                    yield self._buffer[:at]
                async for _ in self._pieces:
                    pass
                return
            if following[:1] in b"\r\n \t":
                raise errors.invalid("Multipart body has more than two parts.")
            start = at + 1

    async def _headers(self) -> Message:
        if self._buffer.startswith(self._newline):
            self._buffer = self._buffer[len(self._newline) :]
            return Message()
        await self._fill(len(self._newline))
        if self._buffer.startswith(self._newline):
            self._buffer = self._buffer[len(self._newline) :]
            return Message()
        text = await self._skip_past(self._newline * 2)
        if simple := _SIMPLE.fullmatch(text.decode("latin-1")):
            message = Message()
            message["Content-Type"] = simple[1]
            return message
        return HeaderParser().parsestr(text.decode("latin-1"))

    async def _skip_past(self, mark: bytes) -> bytes:
        """Return what is before `mark`; the buffer begins after it."""
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > MAX_JSON:
                raise errors.invalid("Multipart body is malformed.")
            await self._more()
        before, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return before

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            await self._more()

    async def _more(self) -> None:
        async for piece in self._pieces:
            self._buffer += piece
            return
        raise errors.invalid("Multipart body is malformed: its last boundary is missing.")
