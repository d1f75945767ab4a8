"""The XML API's listing of a bucket, in both of its versions.

https://cloud.google.com/storage/docs/xml-api/get-bucket-list
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import whole_number
from local_emulator.gcs.store import listing
from local_emulator.gcs.store.database import successor

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Stored

KNOWN_PARAMETERS = frozenset(
    {"list-type", "prefix", "delimiter", "max-keys", "encoding-type", "fetch-owner", "marker", "start-after",
     "continuation-token"}
)  # fmt: skip


async def list_(call: Call, bucket: str) -> web.StreamResponse:
    """Return one page of a bucket's objects; HEAD tells only that there is the bucket."""
    await call.store.bucket(bucket)
    if call.method == "HEAD":
        return web.Response(content_type="application/xml")
    if unknown := set(call.query) - KNOWN_PARAMETERS:
        raise errors.not_implemented(f"?{min(unknown)} of a bucket in the XML API")
    wanted = _wanted(call, bucket)
    if not wanted.token[0]:
        await call.store.refresh(bucket, wanted.prefix)
    page = await call.store.read(lambda connection: listing.page(connection, wanted))
    return web.Response(body=_xml(call, wanted, page).encode(), content_type="application/xml", charset="UTF-8")


def _wanted(call: Call, bucket: str) -> listing.Listing:
    query = call.query
    most = whole_number(query.get("max-keys") or listing.MOST, "max-keys")
    if most < 0:
        raise errors.invalid("Invalid value for max-keys.")
    after, delimiter = query.get("start-after") or query.get("marker") or "", query.get("delimiter", "")
    is_folder = bool(delimiter) and after.endswith(delimiter)
    asked = {
        "prefix": query.get("prefix", ""),
        "delimiter": delimiter,
        "maxResults": str(most),
        "pageToken": query.get("continuation-token", ""),
        "startOffset": (successor(after) if is_folder else after + "\0") if after else "",
    }
    return listing.Listing.of_query(bucket, asked, call.store.clock())


def _xml(call: Call, wanted: listing.Listing, page: listing.Page) -> str:
    query = call.query

    def name(text: str) -> str:
        return quote(text, safe="/") if query.get("encoding-type") == "url" else escape(text)

    given = {
        "Prefix": wanted.prefix, "Delimiter": wanted.delimiter, "Marker": query.get("marker", ""),
        "StartAfter": query.get("start-after", ""),
    }  # fmt: skip
    fields = [("Name", escape(wanted.bucket)), *((field, name(text)) for field, text in given.items() if text)]
    if query.get("list-type") == "2":
        fields.append(("KeyCount", str(len(page.items) + len(page.prefixes))))
        if page.after:
            fields.append(("NextContinuationToken", listing.token(page.after)))
    elif page.after:
        fields.append(("NextMarker", name(max([item.name for item in page.items] + page.prefixes))))
    if query.get("encoding-type") == "url":
        fields.append(("EncodingType", "url"))
    fields += [("MaxKeys", str(wanted.most)), ("IsTruncated", str(page.after is not None).lower())]
    inner = "".join(f"<{field}>{text}</{field}>" for field, text in fields)
    inner += "".join(_contents(item, name(item.name)) for item in page.items)
    inner += "".join(f"<CommonPrefixes><Prefix>{name(text)}</Prefix></CommonPrefixes>" for text in page.prefixes)
    space = "http://doc.s3.amazonaws.com/2006-03-01"
    return f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='{space}'>{inner}</ListBucketResult>"


def _contents(item: Stored, name: str) -> str:
    fields = {
        "Key": name, "Generation": item.generation, "MetaGeneration": item.metageneration,
        "LastModified": item.attributes["updated"], "ETag": f'"{item.xml_etag}"', "Size": item.size,
        "StorageClass": item.attributes["storageClass"],
    }  # fmt: skip
    return f"<Contents>{''.join(f'<{field}>{value}</{field}>' for field, value in fields.items())}</Contents>"
