"""What every handler needs of a request and an answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes

from aiohttp import ClientError, web

from local_emulator.gcs.model import acl, errors
from local_emulator.gcs.model.conditions import Conditions, flag, whole_number
from local_emulator.gcs.model.resources import Bucket, Stored, bucket_resource, object_resource, selected
from local_emulator.gcs.store.write_rate import Limit, Target

if TYPE_CHECKING:
    from local_emulator.gcs.http.faults import Faults, PlannedFault
    from local_emulator.gcs.store.sessions import Sessions
    from local_emulator.gcs.store.store import Store

MAX_JSON = 16 << 20
BROKEN = (ConnectionError, ClientError, web.RequestPayloadError, web.PayloadAccessError, asyncio.IncompleteReadError)


class ConnectionReset(Exception):
    """Raised to answer nothing at all."""


class StreamBroken(Exception):
    """Raised to end the connection after what was sent so far."""


class BodyBroken(Exception):
    """The caller went away in the middle of its body."""


@dataclass
class Call:
    """One request on its way through a handler."""

    request: web.BaseRequest
    store: Store
    sessions: Sessions
    faults: Faults
    path: str
    query: dict[str, str]
    planned: PlannedFault | None = None
    committed: bool = False

    @property
    def base(self) -> str:
        """This server's URL as the caller sees it."""
        return f"http://{self.request.headers.get('Host') or self.request.host}"

    @property
    def own_url(self) -> str:
        """This server's URL as it reaches itself."""
        transport = self.request.transport
        host, port, *_ = transport.get_extra_info("sockname") if transport is not None else ("", 0)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def method(self) -> str:
        """The HTTP method, which a caller may give in a header."""
        return self.request.headers.get("X-HTTP-Method-Override", self.request.method).upper()

    @property
    def limit(self) -> Limit:
        """The limit of one change a second of a name, as this request meets it."""
        planned = self.fault("one-write-a-second")
        if planned is not None:
            planned.fire()
        return partial(self.store.limit.check, asked=planned is not None)

    def fault(self, *kinds: str) -> PlannedFault | None:
        """Return the planned fault if it is of one of these kinds."""
        return self.planned if self.planned is not None and self.planned.fault.kind in kinds else None

    def target(self, bucket: str, name: str) -> Target:
        """Return the object this call is about, with the conditions in its query."""
        generation = self.query.get("generation")
        return Target(
            bucket,
            name,
            Conditions.of_query(self.query, self.request.headers),
            whole_number(generation, "generation") if generation else None,
        )

    def with_key(self, resource: dict[str, Any], parameter: str) -> dict[str, Any]:
        """Return the resource with the KMS key that the query names, if it names one."""
        return resource | ({"kmsKeyName": self.query[parameter]} if self.query.get(parameter) else {})

    def with_acl(self, resource: dict[str, Any], parameter: str = "predefinedAcl") -> dict[str, Any]:
        """Return the resource with the predefined ACL that the query names, if it names one."""
        name = self.query.get(parameter)
        return resource | ({"acl": acl.predefined(acl.PREDEFINED_OF_OBJECTS, name)} if name else {})

    def flag(self, name: str) -> bool:
        """Return a boolean parameter."""
        return flag(self.query, name)

    async def json_body(self, *, required: bool = False) -> dict[str, Any]:
        """Return the body, which is a JSON object.

        Raises:
            GcsError: it is not.
        """
        data = await self.whole_body()
        if self.request.headers.get("Content-Encoding") == "gzip":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise errors.invalid("The body is not gzip.") from error
        if data.strip() in {b"", b"null"} and not required:  # rclone's way to say nothing is null
            return {}
        return parse_object(data)

    async def whole_body(self) -> bytes:
        """Return a small body."""
        size, pieces = 0, []
        async for piece in body(self.request):
            size += len(piece)
            if size > MAX_JSON:
                raise errors.invalid("The body is too large.", status=413)
            pieces.append(piece)
        return b"".join(pieces)

    def answer(self, value: Any, status: int = 200) -> web.Response:
        """Return a JSON answer, cut down to the `fields` asked for."""
        text = json.dumps(selected(value, self.query.get("fields")))
        return web.Response(
            body=text.encode(), status=status, content_type="application/json", charset="UTF-8", headers=NO_CACHE
        )

    @property
    def full(self) -> bool:
        """True if the caller asks for access control lists too."""
        return self.query.get("projection", "noAcl").lower() == "full"

    def shown(self, stored: Stored, bucket: Bucket) -> dict[str, Any]:
        """Return an object's resource as this call asks for it."""
        return object_resource(stored, bucket.attributes, self.base, full=self.full)

    def bucket_answer(self, bucket: Bucket) -> web.Response:
        """Return a bucket's resource."""
        return self.answer(bucket_resource(bucket, self.base, full=self.full))

    def object_answer(self, stored: Stored, bucket: Bucket) -> web.Response:
        """Return an object's resource."""
        response = self.answer(self.shown(stored, bucket))
        response.headers["ETag"] = stored.etag
        return response


NO_CACHE = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate"}


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Raises:
        GcsError: there is none.
    """
    try:
        value = json.loads(data)
        if b"\\u" in data or b"\xed" in data:  # nothing else can make half a character
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise errors.GcsError(400, "parseError", "Parse Error") from error
    if not isinstance(value, dict):
        raise errors.GcsError(400, "parseError", "Parse Error: expected a JSON object")
    return value


def parse_headers(lines: bytes) -> dict[str, str]:
    """Return the headers in these lines, but for those of the body's length."""
    headers: dict[str, str] = {}
    for line in lines.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() not in {"", "content-length", "host"}:
            headers[name.strip()] = value.strip()
    return headers


async def body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Raises:
        BodyBroken: the caller went away.
    """
    if request.headers.get("Expect", "").lower() == "100-continue" and request.can_read_body:
        writer = request.writer
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0
    try:
        while data := await request.content.readany():
            yield data
    except BROKEN as error:
        raise BodyBroken from error


def split_target(raw: str) -> tuple[str, dict[str, str]]:
    """Return path and parameters of a request target, the path still encoded.

    Raises:
        GcsError: the parameters are not UTF-8.
    """
    if not raw.startswith("/"):
        _, _, rest = raw.partition("://")
        raw = "/" + rest.partition("/")[2]
    path, _, query = raw.partition("#")[0].partition("?")
    try:
        return path, dict(parse_qsl(query, keep_blank_values=True, errors="strict"))
    except ValueError as error:
        raise errors.invalid("Invalid query parameters.") from error


def decoded(segment: str) -> str:
    """Return a path segment in clear.

    Raises:
        GcsError: it is not UTF-8.
    """
    try:
        return unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError as error:
        raise errors.invalid("Invalid name: not UTF-8.") from error


def reset(request: web.BaseRequest) -> None:
    """Cut the connection so that the other side sees it reset."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
