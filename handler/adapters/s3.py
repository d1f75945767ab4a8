"""The S3 source: pinned reads that go on where a dropped connection broke them."""

from __future__ import annotations

import base64
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from handler.adapters.retry import Attempts
from handler.adapters.s3_client import S3Requests
from handler.adapters.s3_parts import UploadParts, version
from handler.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.model import MIB, Headers, Lock, Original, Span
from handler.transfer import CheckedReader

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SHORT, STEP = 60.0, MIB
"""Seconds that are left, and bytes of a read then: a slow one does not go far beyond the end."""
LOOKS = 3
"""Times that a look is begun anew as the object changed between its requests."""

_LOCK_MODES = {"GOVERNANCE": "Unlocked", "COMPLIANCE": "Locked"}
_ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}
_ALGORITHMS = tuple(
    (f"Checksum{name}", name) for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5")
)
"""As an answer names them, and as we do."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"(.+)-(\d+)")
_ENCODED_WORD = re.compile(r"=\?[^?]+\?[bBqQ]\?[^?]*\?=")

_REFUSED = {
    "AccessDenied": "SrcGetObjectNotPermitted",
    "AllAccessDisabled": "SrcGetObjectNotPermitted",
    "InvalidObjectState": "SrcObjectArchived",
    "InvalidRequest": "SrcObjectNotEligible",  # what GET answers for SSE-C without the customer's key
    "KMS.DisabledException": "SrcKmsKeyInvalidState",
    "KMS.KMSInvalidStateException": "SrcKmsKeyInvalidState",
    "KMS.NotFoundException": "SrcKmsKeyNotFound",
    "KeyTooLongError": "SrcKeyTooLong",
    "NoSuchBucket": "SrcBucketNotFound",
    "PermanentRedirect": "SrcBucketInOtherRegion",
}
_MOVED = {
    "NoSuchKey",
    "NoSuchVersion",
    "PreconditionFailed",
    "InvalidRange",
    "MethodNotAllowed",
    "404",
    "405",
    "412",
    "416",
}


class S3Source:
    """One S3 bucket; see `Source`.

    Args:
        client: of S3, shared by all threads; boto3's own will do.
        bucket: its name.
        owner: the account that the bucket must belong to; S3 denies every read of a bucket of another account. None:
            S3 is not asked to check. Without it, an empty bucket that somebody else registers under the name of one
            that was deleted looks as if all objects had been deleted.
        with_tags: ask for tags as well (one more request for each object that has any).
        time_left: seconds until the work must be done; no read goes beyond.
        sleep: waits that many seconds before a broken read is taken up again; see `retry`.
    """

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        client: S3Requests | S3Client,
        bucket: str,
        *,
        owner: str | None = None,
        with_tags: bool = False,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._owner = owner
        self._where: dict[str, Any] = {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})
        """What every request says of the bucket.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html"""
        self._time_left = time_left
        self._bucket = bucket
        self._with_tags = with_tags
        self._sleep = sleep
        self._bucket_seen = threading.Event()
        self._parts = UploadParts(self._called)

    def head(self, key: str) -> Original | None:
        """Return the current state of `key`, None where there is none; see `Source`."""
        for _ in range(LOOKS):
            with suppress(Moved):  # replaced or deleted before a second request, for its tags or for a reason
                return self._head(key)
        raise Unavailable(f"{key!r} changed {LOOKS} times while it was looked at", code="SrcKeyTooHot")

    def _head(self, key: str) -> Original | None:
        try:
            answer = self._client.head_object(**self._where, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            match _status(error):
                case 404:
                    self._require_bucket()
                    return None
                case 400 | 403:
                    raise self._explained(key, error) from error
            raise self._translate(error, f"HEAD {key!r}") from error
        except _failures() as error:
            raise self._translate(error, f"HEAD {key!r}") from error
        return self._original(key, answer)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        """Return `original` with the parts of its multipart upload; see `Source` and `UploadParts`."""
        return self._parts.of(original, exact=exact)

    def _called(self, what: str, method: str, **request: Any) -> Mapping[str, Any]:
        """Call a method of the client by its name."""
        try:
            answer: Mapping[str, Any] = getattr(self._client, method)(**self._where, **request)
        except _failures() as error:
            raise self._translate(error, what) from error
        return answer

    def open(
        self, key: str, *, at: Original | None = None, span: Span | None = None
    ) -> AbstractContextManager[CheckedReader]:
        """Read `key` in the state `at`, or as it is where `at` is None; see `Source`. S3 is asked at once."""
        return self._opened(key, at, span, self._ask(key, at, span))

    @contextmanager
    def _opened(
        self, key: str, at: Original | None, span: Span | None, asked: Callable[[], Mapping[str, Any]]
    ) -> Iterator[CheckedReader]:
        answer = self._answered(key, asked)
        body: _Body = answer["Body"]
        try:
            original = self._state(key, answer, at, span)
        except BaseException:
            body.close()
            raise
        whole = span or Span(0, original.size)
        attempts = Attempts(self._time_left, self._sleep)
        stream = _ResumingStream(body, whole, lambda rest: self._again(key, original, rest), self._time_left, attempts)
        with closing(stream):
            try:
                yield CheckedReader(stream, original, span)
            except Corrupt as error:
                if not original.parts_assumed:
                    raise
                exact = self.parts(original, exact=True)
                if not exact.parts or exact.parts == original.parts:
                    raise
                raise Moved(f"{key!r}: its parts are not of one size, as they were taken to be") from error

    def _again(self, key: str, original: Original, rest: Span) -> _Body:
        body: _Body = self._answered(key, self._ask(key, original, rest))["Body"]
        return body

    def _state(self, key: str, answer: Mapping[str, Any], at: Original | None, span: Span | None) -> Original:
        """The state that a GET reads, which is to be `at` where that is given."""
        if at is not None and span is not None:
            return at
        now = self._original(key, answer)
        if at is not None and not at.same_state(now):
            raise Moved(f"{key!r} is another state by now")
        return self.parts(at or now) if span is None else now

    def _ask(self, key: str, at: Original | None, span: Span | None) -> Callable[[], Mapping[str, Any]]:
        """Send a GET, and return what waits for the answer."""
        request: dict[str, Any] = {**self._where, "Key": key, "ChecksumMode": "ENABLED"}
        if at is not None:
            request |= {"IfMatch": f'"{at.etag}"', **version(at)}
        if span is not None:
            request["Range"] = f"bytes={span.start}-{span.stop - 1}"
        if isinstance(self._client, S3Requests):
            return self._client.ask_object(**request)
        return partial(self._client.get_object, **request)

    def _answered(self, key: str, asked: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            return asked()
        except _failures() as error:
            raise self._translate(error, f"GET {key!r}") from error

    def _original(self, key: str, answer: Mapping[str, Any]) -> Original:
        """Read the state out of the answer to a HEAD or to a GET of the whole object."""
        _require_metadata(key, answer)
        etag = answer["ETag"].strip('"')
        version_id = answer.get("VersionId")
        storage_class = answer.get("StorageClass", "STANDARD")
        archived = storage_class in _ARCHIVED or "ArchiveStatus" in answer
        return Original(
            key=key,
            size=answer["ContentLength"],
            etag=etag,
            last_modified=answer["LastModified"],
            version_id=version_id,
            headers=Headers(
                content_type=_header(answer, "ContentType"),
                content_encoding=_header(answer, "ContentEncoding"),
                content_disposition=_header(answer, "ContentDisposition"),
                content_language=_header(answer, "ContentLanguage"),
                cache_control=_header(answer, "CacheControl"),
            ),
            expires=_header(answer, "ExpiresString"),
            user_metadata={name: _decoded(_text(value)) for name, value in answer.get("Metadata", {}).items()},
            tags=self._tags(key, version_id) if self._with_tags and answer.get("TagCount", 1) else {},
            storage_class=storage_class,
            lock=_lock(answer),
            archived=archived and 'ongoing-request="false"' not in answer.get("Restore", ""),
            checksums=_checksums(etag, answer),
            composites=_composites(etag, answer),
            md5=_md5_of(etag, answer),
        )

    def _tags(self, key: str, version_id: str | None) -> dict[str, str]:
        version: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        try:
            answer = self._client.get_object_tagging(**self._where, Key=key, **version)
        except _failures() as error:
            raise self._translate(error, f"tags of {key!r}") from error
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def _require_bucket(self) -> None:
        """Make sure, once, that a 404 is the key's and not the bucket's: HEAD does not say, and deletes hang on it."""
        if self._bucket_seen.is_set():
            return
        try:
            self._client.head_bucket(**self._where)
        except ClientError as error:
            if _status(error) == 404:
                raise Refused(f"there is no source bucket {self._bucket!r}", code="SrcBucketNotFound") from error
            raise self._translate(error, f"HEAD bucket {self._bucket!r}") from error
        except _failures() as error:
            raise self._translate(error, f"HEAD bucket {self._bucket!r}") from error
        self._bucket_seen.set()

    def _translate(self, error: Exception, what: str) -> ReplicationError:
        """Turn an error into one of ours. Where S3 denies, another owner may be the reason, which S3 does not say."""
        translated = _translate(error, what)
        if self._owner and translated.code == "SrcGetObjectNotPermitted":
            reason = f"a permission is missing, or the bucket {self._bucket!r} is not of the account {self._owner}"
            return Refused(f"{translated}: {reason}", code=translated.code)
        return translated

    def _explained(self, key: str, error: ClientError) -> ReplicationError:
        """Ask again by GET, as the answer to a HEAD has no body to say why."""
        try:
            self._client.get_object(**self._where, Key=key, Range="bytes=0-0")["Body"].close()
        except _failures() as reason:
            return self._translate(reason, f"HEAD {key!r}")
        return Unavailable(f"HEAD {key!r} was answered {_status(error)}, and a GET is not refused", code="SrcUnsettled")


class _Body(Protocol):
    """What is read of botocore's body, and of `http.Answer`."""

    def read(self, amt: int | None = None, /) -> bytes: ...
    def close(self) -> None: ...


class _ResumingStream:
    """A body that is asked for again from where it broke, in the same state."""

    def __init__(
        self,
        body: _Body,
        span: Span,
        reopen: Callable[[Span], _Body],
        time_left: Callable[[], float],
        attempts: Attempts,
    ) -> None:
        self._body = body
        self._offset, self._stop = span
        self._reopen = reopen
        self._time_left = time_left
        self._attempts = attempts

    def read(self, size: int = -1, /) -> bytes:
        while True:
            left = self._time_left()
            if left <= 0:
                raise Unavailable(f"no time is left to read on from byte {self._offset}", code="OutOfTime")
            if left < SHORT and size > STEP:
                size = STEP
            try:
                if data := self._body.read(size if size >= 0 else None):
                    self._offset += len(data)
                    self._attempts.got_on()
                    return data
                failure: Exception = EOFError(f"ended at byte {self._offset} of {self._stop}")
            except _failures() as error:
                if _is_mismatch(error):
                    raise _translate(error, "body") from error
                failure = error
            if self._offset >= self._stop:
                return b""
            self._body.close()
            if not self._attempts.again():
                raise Unavailable(f"the body broke again and again at byte {self._offset}: {failure}") from failure
            self._body = self._reopen(Span(self._offset, self._stop))

    def close(self) -> None:
        self._body.close()


def _failures() -> tuple[type[Exception], ...]:
    """What is raised where S3 denies, or a connection breaks. urllib3, 40 ms of a cold start, comes only with boto3."""
    failures: tuple[type[Exception], ...] = (ClientError, HTTPClientError, BotoCoreError, OSError)
    if "urllib3.exceptions" in sys.modules:
        failures += (sys.modules["urllib3.exceptions"].HTTPError,)
    return failures


def _translate(error: Exception, what: str) -> ReplicationError:
    """Turn any error of boto3's or of the connection into one of ours. Total: what it does not know is Unavailable."""
    if _is_mismatch(error):
        return Corrupt(f"{what}: {error}")
    if not isinstance(error, ClientError):
        return Unavailable(f"{what}: {type(error).__name__}: {error}", code="SrcUnreachable")
    code = error.response.get("Error", {}).get("Code", "")
    message = f"{what}: S3 says {code or _status(error)}: {error.response.get('Error', {}).get('Message', '')}"
    if code in _MOVED:
        return Moved(message)
    if code in _REFUSED:
        return Refused(message, code=_REFUSED[code])
    if code == "403":
        return Refused(message, code="SrcGetObjectNotPermitted")
    return Unavailable(message, code=f"Src{code}")


def _is_mismatch(error: Exception) -> bool:
    return type(error).__name__ == "FlexibleChecksumError"


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _checksums(etag: str, answer: Mapping[str, Any]) -> dict[str, str]:
    """The checksums of all the bytes. A multipart upload's is one only where S3 says so."""
    if "-" in etag and answer.get("ChecksumType") != "FULL_OBJECT":
        return {}
    found = {name: answer[field] for field, name in _ALGORITHMS if field in answer}
    return {name: value for name, value in found.items() if not _OF_PARTS.fullmatch(value)}


def _composites(etag: str, answer: Mapping[str, Any]) -> dict[str, str]:
    """The checksums of the parts' checksums: `<base64>-<parts>`, and the ETag, `<hex>-<parts>`."""
    found = {name: _OF_PARTS.fullmatch(answer.get(field, "")) for field, name in _ALGORITHMS}
    composites = {name: match[1] for name, match in found.items() if match}
    match = _OF_PARTS.fullmatch(etag)
    if match and _MD5.fullmatch(match[1]) and _is_plain(answer):
        composites["ETAG"] = base64.b64encode(bytes.fromhex(match[1])).decode()
    return composites


def _is_plain(answer: Mapping[str, Any]) -> bool:
    """Whether ETags are of the bytes: encrypted not at all, or by S3's own keys."""
    return bool(answer.get("ServerSideEncryption", "AES256") == "AES256")


def _md5_of(etag: str, answer: Mapping[str, Any]) -> str | None:
    """The ETag as base64 MD5, where it is one: a single part, encrypted not at all or by S3's own keys.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    if not _MD5.fullmatch(etag) or not _is_plain(answer):
        return None
    return base64.b64encode(bytes.fromhex(etag)).decode()


def _require_metadata(key: str, answer: Mapping[str, Any]) -> None:
    """Refuse an object of whose user metadata S3 keeps some back, as they are no legal HTTP headers.

    No other request returns them: SOAP, by which they were written, is gone, and the tables of S3 Metadata lag behind.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#AmazonS3-HeadObject-response-header-MissingMeta
    """
    if missing := answer.get("MissingMeta", 0):
        raise Refused(
            f"S3 does not return {missing} of the user metadata of {key!r}, which are no legal HTTP headers; copy the "
            "object onto itself with metadata that are",
            code="SrcMetadataMissing",
        )


def _lock(answer: Mapping[str, Any]) -> Lock:
    """Return what S3 says of Object Lock, without a retention that is over: GCS takes no time in the past.

    S3 says it to those who have s3:GetObjectRetention and s3:GetObjectLegalHold. A hold that was released is "OFF"; one
    that never was is not told of, as one that the caller may not see.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    hold = {"ON": True, "OFF": False}.get(answer.get("ObjectLockLegalHoldStatus", ""))
    mode, until = _LOCK_MODES.get(answer.get("ObjectLockMode", "")), answer.get("ObjectLockRetainUntilDate")
    if not mode or until is None or until.astimezone(UTC) <= datetime.now(UTC):
        return Lock(hold=hold)
    return Lock(mode, until.astimezone(UTC), hold)


def _header(answer: Mapping[str, Any], field: str) -> str | None:
    value = answer.get(field)
    return None if value is None else _text(value)


def _text(value: str) -> str:
    """Decode a header's bytes, of which our client and botocore both make Latin-1, as the UTF-8 that they mostly are.

    S3 returns a system header such as Content-Disposition byte for byte as it was given.
    """
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _decoded(value: str) -> str:
    """User metadata as it was given: S3 hands non-ASCII back RFC 2047-encoded, and botocore leaves it so."""
    if not _ENCODED_WORD.search(value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError):
        return value  # it only looked encoded: then it is the value
