"""Batches: up to 100 calls of the JSON API in one request, carried out one by one.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import secrets
from email import policy
from email.message import Message
from email.parser import BytesParser

from aiohttp import ClientSession, web

from local_emulator.gcs.http.calls import Call, parse_headers
from local_emulator.gcs.model import errors

MOST = 100
CALLS = ("/storage/v1/",)
"""What a batch may hold: neither uploads nor downloads."""


async def run(call: Call, *_: str) -> web.StreamResponse:
    """Answer each call of a batch, in order, as this server would answer it alone."""
    content_type = call.request.headers.get("Content-Type", "")
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    batch = BytesParser(policy=policy.HTTP).parsebytes(head + await call.whole_body())
    parts = batch.get_payload() if batch.is_multipart() else []
    if not isinstance(parts, list) or not parts:
        raise errors.invalid("A batch is multipart/mixed, and each part is an HTTP request.")
    if len(parts) > MOST:
        raise errors.invalid(f"The batch has {len(parts)} calls; the maximum is {MOST}.")
    mark = f"batch_{secrets.token_hex(16)}"
    async with ClientSession(auto_decompress=False) as session:
        answers = [await _answer(call, session, part) for part in parts if isinstance(part, Message)]
    body = b"".join(f"--{mark}\r\n".encode() + answer for answer in answers) + f"--{mark}--\r\n".encode()
    return web.Response(body=body, headers={"Content-Type": f"multipart/mixed; boundary={mark}"})


async def _answer(call: Call, session: ClientSession, part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    request, _, body = (payload if isinstance(payload, bytes) else b"").replace(b"\r\n", b"\n").partition(b"\n\n")
    line, _, lines = request.partition(b"\n")
    words = line.decode("latin-1").split()
    if part.get_content_type() != "application/http" or len(words) not in {2, 3}:
        raise errors.invalid("Each part of a batch is an HTTP request of the content type application/http.")
    headers = parse_headers(lines)
    for name in ("x-retry-test-id", "Authorization"):
        if name in call.request.headers:
            headers.setdefault(name, call.request.headers[name])
    path = "/" + words[1].partition("://")[2].partition("/")[2] if "://" in words[1] else words[1]
    if not path.startswith(CALLS) or "alt=media" in path:
        raise errors.invalid(f"A batch cannot hold {words[0]} {path}.")
    status, answer = await _call(call, session, words[0], path, headers, body)
    content_id = part.get("Content-ID", "").strip("<>")
    outer = "Content-Type: application/http\r\n" + (f"Content-ID: <response-{content_id}>\r\n" if content_id else "")
    return f"{outer}\r\nHTTP/1.1 {status}\r\n".encode() + answer + b"\r\n"


async def _call(  # noqa: PLR0913, PLR0917 - what a request consists of
    call: Call, session: ClientSession, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    """Send a call to this server itself; return its status line's end, and its headers and body."""
    async with session.request(method, call.own_url + path, headers=headers, data=body or None) as response:
        content = await response.read()
        shown = {name: response.headers[name] for name in ("Content-Type", "ETag") if name in response.headers}
        shown["Content-Length"] = str(len(content))
        lines = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        return f"{response.status} {response.reason}", f"{lines}\r\n".encode() + content
