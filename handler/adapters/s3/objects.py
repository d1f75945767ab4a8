"""An object as the headers of S3's answer describe it.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime

from handler.core.errors import Refused
from handler.core.model import Headers, Lock, Original

_META = "x-amz-meta-"
_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5")
_CHECKSUMS = tuple((f"x-amz-checksum-{name.lower()}", name) for name in _ALGORITHMS)
_ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}
_LOCK_MODES = {"GOVERNANCE": "Unlocked", "COMPLIANCE": "Locked"}
_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"(.+)-(\d+)")
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
_ENCODED_WORD = re.compile(r"=\?[^?]+\?[bBqQ]\?[^?]*\?=")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def original_of(key: str, headers: Mapping[str, str], tags: Mapping[str, str] | None = None) -> Original:
    """Return the state that an answer to a HEAD or to a GET describes, of the whole object or of a range of it.

    Raises:
        Refused: S3 does not return all of the user metadata.
        ValueError: the headers are not those of an object.
    """
    _require_metadata(key, headers)
    for name in ("etag", "last-modified"):
        if name not in headers:
            raise ValueError(f"S3 describes an object without {name}")
    etag, headers = etag_of(headers), _texts(headers)
    told = {name: value for header, name in _CHECKSUMS if (value := headers.get(header)) is not None}
    storage_class = headers.get("x-amz-storage-class", "STANDARD")
    archived = storage_class in _ARCHIVED or "x-amz-archive-status" in headers
    return Original(
        key=key,
        size=_size_of(headers),
        etag=etag,
        last_modified=_moment(headers["last-modified"]),
        version_id=headers.get("x-amz-version-id"),
        headers=Headers(
            content_type=headers.get("content-type"),
            content_encoding=headers.get("content-encoding"),
            content_disposition=headers.get("content-disposition"),
            content_language=headers.get("content-language"),
            cache_control=headers.get("cache-control"),
        ),
        expires=headers.get("expires") or None,
        user_metadata={name[len(_META) :]: _decoded(headers[name]) for name in headers if name.startswith(_META)},
        tags=tags or {},
        storage_class=storage_class,
        lock=_lock(headers),
        archived=archived and 'ongoing-request="false"' not in headers.get("x-amz-restore", ""),
        checksums=_checksums(etag, told, headers),
        composites=_composites(etag, told, headers),
        md5=_md5_of(etag, headers),
    )


def etag_of(headers: Mapping[str, str]) -> str:
    """Return the ETag without its quotes."""
    return headers.get("etag", "").strip('"')


def _size_of(headers: Mapping[str, str]) -> int:
    if (told := headers.get("content-range")) is not None:
        match = _TOTAL.fullmatch(told)
        told = match[1] if match else ""
    else:
        told = headers.get("content-length", "").strip()
    if not (told.isascii() and told.isdecimal()):
        raise ValueError("S3 describes an object without its size")
    return int(told)


def _moment(text: str) -> datetime:
    """Read a date as S3 writes it, `Sun, 06 Nov 1994 08:49:37 GMT`, for which the library takes ten times as long."""
    if len(text) == 29 and text.endswith(" GMT") and text[8:11] in _MONTHS:
        month = 1 + _MONTHS.index(text[8:11])
        return datetime.fromisoformat(f"{text[12:16]}-{month:02}-{text[5:7]}T{text[17:25]}+00:00")
    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        raise ValueError(f"S3 tells a time without its zone: {text!r}")
    return moment


def _checksums(etag: str, told: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums of all the bytes. A multipart upload's is one only where S3 says so."""
    if "-" in etag and headers.get("x-amz-checksum-type") != "FULL_OBJECT":
        return {}
    return {name: value for name, value in told.items() if not _OF_PARTS.fullmatch(value)}


def _composites(etag: str, told: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums of the parts' checksums: `<base64>-<parts>`, and the ETag, `<hex>-<parts>`."""
    composites = {name: match[1] for name, value in told.items() if (match := _OF_PARTS.fullmatch(value))}
    match = _OF_PARTS.fullmatch(etag)
    if match and _MD5.fullmatch(match[1]) and _is_plain(headers):
        composites["ETAG"] = base64.b64encode(bytes.fromhex(match[1])).decode()
    return composites


def _is_plain(headers: Mapping[str, str]) -> bool:
    """Return True if ETags are of the bytes: encrypted not at all, or by S3's own keys."""
    return headers.get("x-amz-server-side-encryption", "AES256") == "AES256"


def _md5_of(etag: str, headers: Mapping[str, str]) -> str | None:
    """Return the ETag as base64 MD5, where it is one: a single part, encrypted not at all or by S3's own keys.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    if not _MD5.fullmatch(etag) or not _is_plain(headers):
        return None
    return base64.b64encode(bytes.fromhex(etag)).decode()


def _require_metadata(key: str, headers: Mapping[str, str]) -> None:
    """Refuse an object of whose user metadata S3 keeps some back, as they are no legal HTTP headers.

    No other request returns them: SOAP, by which they were written, is gone, and the tables of S3 Metadata lag behind.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#AmazonS3-HeadObject-response-header-MissingMeta
    """
    if missing := int(headers.get("x-amz-missing-meta", 0)):
        raise Refused(
            f"S3 does not return {missing} of the user metadata of {key!r}, which are no legal HTTP headers; copy the "
            "object onto itself with metadata that are",
            code="SrcMetadataMissing",
        )


def _lock(headers: Mapping[str, str]) -> Lock:
    """Return what S3 says of Object Lock, without a retention that is over: GCS takes no time in the past.

    S3 says it to those who have s3:GetObjectRetention and s3:GetObjectLegalHold. A hold that was released is "OFF"; one
    that never was is not told of, as one that the caller may not see.
    """
    hold = {"ON": True, "OFF": False}.get(headers.get("x-amz-object-lock-legal-hold", ""))
    mode = _LOCK_MODES.get(headers.get("x-amz-object-lock-mode", ""))
    told = headers.get("x-amz-object-lock-retain-until-date")
    until = datetime.fromisoformat(told).astimezone(UTC) if told else None
    if not mode or until is None or until <= datetime.now(UTC):
        return Lock(hold=hold)
    return Lock(mode, until, hold)


def _texts(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers as text, most of which are ASCII."""
    if "".join(headers.values()).isascii():
        return headers
    return {name: _text(value) for name, value in headers.items()}


def _text(value: str) -> str:
    """Decode a header's bytes, which were read as Latin-1, as the UTF-8 that they mostly are.

    S3 returns a system header such as Content-Disposition byte for byte as it was given.
    """
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _decoded(value: str) -> str:
    """Return user metadata as it was given: S3 hands non-ASCII back RFC 2047-encoded."""
    if not _ENCODED_WORD.search(value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError):
        return value  # it only looked encoded: then it is the value
