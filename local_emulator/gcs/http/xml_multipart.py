"""The XML API's multipart upload, which like GCS's takes no conditions: what it completes overwrites."""

from __future__ import annotations

import base64
import itertools
import json
import os
import secrets
import time
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from aiohttp import web

from local_emulator.gcs.http import bodies, xml_api
from local_emulator.gcs.http.calls import Call, body
from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.store import blobs, layout, writes
from local_emulator.gcs.store.write_rate import Target

if TYPE_CHECKING:
    import sqlite3

    from local_emulator.gcs.model.resources import Stored
    from local_emulator.gcs.store.database import Transaction

KIND = "xml"
LEAST_PART = 5 << 20
Part = tuple[int, str, int, str]  # number, blob, size, entity tag


def _answer(root: str, *fields: tuple[str, str]) -> web.Response:
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields)
    text = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{inner}</{root}>"
    return web.Response(body=text.encode(), content_type="application/xml")


async def initiate(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Begin an upload; a condition is refused here, as GCS does."""
    layout.check_object_name(name)
    if any(header.lower().startswith("x-goog-if-") for header in call.request.headers):
        raise errors.invalid("Preconditions are not supported by XML API multipart uploads.")
    owner = await call.store.bucket(bucket)
    resource = xml_api.resource_of(call)
    attributes.new(resource, owner.attributes)
    upload = secrets.token_hex(24)
    values = (upload, bucket, name, KIND, time.time(), "", 0, 0, json.dumps(resource), 0, "")
    statement = "INSERT INTO sessions VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    await call.store.commit(lambda tx: tx.connection.execute(statement, values).rowcount)
    fields = ("Bucket", bucket), ("Key", name), ("UploadId", upload)
    return _answer("InitiateMultipartUploadResult", *fields)


async def _resource(call: Call, bucket: str, name: str) -> dict[str, Any]:
    query = "SELECT request FROM sessions WHERE id = ? AND bucket = ? AND name = ? AND kind = ? AND status = 0"
    values = (call.query["uploadId"], bucket, name, KIND)
    row = await call.store.read(lambda connection: connection.execute(query, values).fetchone())
    if row is None:
        raise errors.GcsError(404, "notFound", "The requested upload was not found.", xml_code="NoSuchUpload")
    resource: dict[str, Any] = json.loads(row[0])
    return resource


def _parts(connection: sqlite3.Connection, upload: str) -> list[Part]:
    query = "SELECT number, blob, size, md5 FROM parts WHERE session = ? ORDER BY number"
    return [(row[0], row[1], row[2], base64.b64decode(row[3]).hex()) for row in connection.execute(query, (upload,))]


async def put_part(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Store one part, or store it again."""
    await _resource(call, bucket, name)
    upload, text = call.query["uploadId"], call.query.get("partNumber", "")
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise errors.invalid("Part number must be an integer between 1 and 10000, inclusive.")
    pieces = bodies.faulty(call, body(call.request))
    blob = await bodies.receive(call, await bodies.head(pieces), pieces)
    try:
        bodies.verify(blob, bodies.expected({}, call.request.headers))
    except errors.GcsError:
        blobs.remove(call.store.layout.blob(blob.name))
        raise

    def op(tx: Transaction) -> None:
        query = "SELECT blob FROM parts WHERE session = ? AND number = ?"
        tx.garbage += [row[0] for row in tx.connection.execute(query, (upload, int(text)))]
        values = (upload, int(text), blob.name, blob.size, blob.md5, blob.crc32c, attributes.now())
        tx.connection.execute("INSERT OR REPLACE INTO parts VALUES(?, ?, ?, ?, ?, ?, ?)", values)

    await call.store.commit(op)
    etag = base64.b64decode(blob.md5 or "").hex()
    return web.Response(headers={"ETag": f'"{etag}"', "x-goog-hash": f"crc32c={blob.crc32c},md5={blob.md5}"})


async def complete(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Make the listed parts the object, whatever was there before."""
    resource = await _resource(call, bucket, name)
    upload = call.query["uploadId"]
    asked = _asked(await call.whole_body())
    known = {part[0]: part for part in await call.store.read(lambda connection: _parts(connection, upload))}
    parts = _chosen(asked, known)
    with ExitStack() as stack:
        sources = []
        for _, part, _, _ in parts:
            sources.append(os.open(call.store.layout.blob(part), os.O_RDONLY))
            stack.callback(os.close, sources[-1])
        blob = await call.store.run(blobs.concatenate, call.store.layout, sources)

    def then(tx: Transaction, _: Stored) -> None:
        _forget(tx, upload)

    target = Target(bucket, name)
    try:
        stored = await call.store.commit(writes.put(target, blob, resource, limit=call.limit, then=then))
    except BaseException:
        blobs.remove(call.store.layout.blob(blob.name))
        raise
    call.committed = True
    response = _answer("CompleteMultipartUploadResult", ("Bucket", bucket), ("Key", name), ("ETag", f'"{stored.etag}"'))
    response.headers["x-goog-generation"], response.headers["x-goog-hash"] = str(stored.generation), stored.hashes
    return response


def _forget(tx: Transaction, upload: str) -> None:
    tx.garbage += [row[0] for row in tx.connection.execute("SELECT blob FROM parts WHERE session = ?", (upload,))]
    tx.connection.execute("DELETE FROM parts WHERE session = ?", (upload,))
    tx.connection.execute("DELETE FROM sessions WHERE id = ?", (upload,))


def _asked(data: bytes) -> list[tuple[int, str]]:
    try:
        root = ET.fromstring(data)  # noqa: S314 - bounded in size, on loopback, and expat limits expansion
        asked = []
        for part in root.iterfind("{*}Part"):
            fields = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
            asked.append((int(fields["PartNumber"]), fields["ETag"].strip().strip('"')))
    except (ET.ParseError, KeyError, ValueError) as error:
        raise errors.invalid("The XML you provided was not well-formed.", xml_code="MalformedXML") from error
    if not asked:
        raise errors.invalid("You must specify at least one part.", xml_code="MalformedXML")
    return asked


def _chosen(asked: list[tuple[int, str]], known: dict[int, Part]) -> list[Part]:
    numbers = [number for number, _ in asked]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise errors.invalid("The list of parts was not in ascending order.", xml_code="InvalidPartOrder")
    for number, etag in asked:
        if number not in known or known[number][3] != etag:
            raise errors.invalid(f"Part {number} could not be found.", xml_code="InvalidPart")
    parts = [known[number] for number in numbers]
    if any(part[2] < LEAST_PART for part in parts[:-1]):
        message = "Your proposed upload is smaller than the minimum allowed object size."
        raise errors.invalid(message, xml_code="EntityTooSmall")
    return parts


async def abort(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Forget an upload and its parts."""
    await _resource(call, bucket, name)
    await call.store.commit(lambda tx: _forget(tx, call.query["uploadId"]))
    return web.Response(status=204)


async def list_parts(call: Call, bucket: str, name: str) -> web.StreamResponse:
    """Return the parts there are."""
    await _resource(call, bucket, name)
    upload = call.query["uploadId"]
    parts = await call.store.read(lambda connection: _parts(connection, upload))
    inner = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{etag}"</ETag><Size>{size}</Size></Part>'
        for number, _, size, etag in parts
    )
    response = _answer(
        "ListPartsResult", ("Bucket", bucket), ("Key", name), ("UploadId", upload), ("IsTruncated", "false")
    )
    text = response.body if isinstance(response.body, bytes) else b""
    response.body = text.replace(b"</ListPartsResult>", inner.encode() + b"</ListPartsResult>")
    return response
