"""What S3 answers to a HEAD and a GET, read as boto3 reads it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from handler.adapters.http import Answer
from handler.adapters.http_connection import Broken

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _moment(text: str) -> datetime:
    """A date as S3 writes it, `Sun, 06 Nov 1994 08:49:37 GMT`, for which the library takes ten times as long."""
    if len(text) == 29 and text.endswith(" GMT") and text[8:11] in _MONTHS:
        day, year, hour, minute, second = (
            int(text[at : at + n]) for at, n in ((5, 2), (12, 4), (17, 2), (20, 2), (23, 2))
        )
        return datetime(year, 1 + _MONTHS.index(text[8:11]), day, hour, minute, second, tzinfo=UTC)
    return parsedate_to_datetime(text)


_META = "x-amz-meta-"
_ANSWERED: dict[str, tuple[str, Callable[[str], Any]]] = {
    "cache-control": ("CacheControl", str),
    "content-disposition": ("ContentDisposition", str),
    "content-encoding": ("ContentEncoding", str),
    "content-language": ("ContentLanguage", str),
    "content-length": ("ContentLength", int),
    "content-range": ("ContentRange", str),
    "content-type": ("ContentType", str),
    "etag": ("ETag", str),
    "expires": ("ExpiresString", str),
    "last-modified": ("LastModified", _moment),
    "x-amz-archive-status": ("ArchiveStatus", str),
    "x-amz-missing-meta": ("MissingMeta", int),
    "x-amz-object-lock-legal-hold": ("ObjectLockLegalHoldStatus", str),
    "x-amz-object-lock-mode": ("ObjectLockMode", str),
    "x-amz-object-lock-retain-until-date": ("ObjectLockRetainUntilDate", datetime.fromisoformat),
    "x-amz-mp-parts-count": ("PartsCount", int),
    "x-amz-restore": ("Restore", str),
    "x-amz-server-side-encryption": ("ServerSideEncryption", str),
    "x-amz-storage-class": ("StorageClass", str),
    "x-amz-tagging-count": ("TagCount", int),
    "x-amz-version-id": ("VersionId", str),
    "x-amz-checksum-type": ("ChecksumType", str),
    **{
        f"x-amz-checksum-{name.lower()}": (f"Checksum{name}", str)
        for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5")
    },
}
"""Each header that `S3Source` reads, as boto3 names and types it. botocore/data/s3/2006-03-01/service-2.json."""

_FINAL = {
    403: {"AccessDenied", "InvalidObjectState"},
    404: {"NoSuchKey", "NoSuchVersion"},
    405: {"MethodNotAllowed"},
    412: {"PreconditionFailed"},
    416: {"InvalidRange"},
}
"""Errors that no other region, credential or attempt would change."""
_BARE = {403: "Forbidden", 404: "Not Found"}
"""Those of a HEAD, whose answer has no body to say more."""
_ERROR_MAX = 65536
_CODE = re.compile(rb"<Code>(\w+)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


def answer_of(response: Answer, status: int) -> dict[str, Any] | None:
    """Return what the headers say, None where that is not what S3 says of an object."""
    if response.status != status:
        return None
    metadata: dict[str, str] = {}
    answer: dict[str, Any] = {"Metadata": metadata}
    try:
        for lower, value in response.headers.items():
            if lower.startswith(_META):
                metadata[response.names[lower][len(_META) :]] = value
            elif lower in _ANSWERED:
                field, typed = _ANSWERED[lower]
                answer[field] = typed(value)
    except (ValueError, OverflowError):
        return None
    modified = answer.get("LastModified")
    if not answer.get("ExpiresString"):
        answer.pop("ExpiresString", None)
    return answer if modified and modified.tzinfo and "ETag" in answer and "ContentLength" in answer else None


def final_error(operation: str, response: Answer) -> ClientError | None:
    """Return what botocore would raise, where asking again is useless. The answer is done with then."""
    if operation == "HeadObject":
        response.drain()
        status = response.status
        return _error(operation, status, str(status), _BARE[status]) if status in _BARE else None
    try:
        body = response.read(_ERROR_MAX) if response.status in _FINAL else b""
    except Broken:
        body = b""
    response.close()
    code = match[1].decode() if (match := _CODE.search(body)) else ""
    if code not in _FINAL.get(response.status, ()):
        return None
    return _error(operation, response.status, code, _message(body))


def transient_error(response: Answer) -> ClientError:
    """Return what botocore would raise where the last try failed for the moment. All of the answer has been read."""
    match = _CODE.search(response.data[:_ERROR_MAX])
    return _error(
        "Read", response.status, match[1].decode() if match else str(response.status), _message(response.data)
    )


def _message(body: bytes) -> str:
    match = _MESSAGE.search(body[:_ERROR_MAX])
    return match[1].decode(errors="replace") if match else ""


def _error(operation: str, status: int, code: str, message: str) -> ClientError:
    """As botocore would raise it."""
    said: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(said, operation)
