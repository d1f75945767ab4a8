"""The S3 source: reads of one state of an object, in requests of bounded size that are simply asked again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import quote

from handler.adapters.s3.chunks import CHUNK, Chunks
from handler.adapters.s3.client import S3Requests
from handler.adapters.s3.errors import of_answer, translated
from handler.adapters.s3.objects import original_of
from handler.adapters.s3.parts import UploadParts, version_of
from handler.adapters.transport import Answer
from handler.core.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.core.model import Original, Span
from handler.core.readers import CheckedReader

LOOKS = 3
"""Times that a look is begun anew as the object changed between its requests."""
_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}


class S3Source:
    """One S3 bucket; see `Source`.

    Args:
        client: asks S3; shared by all threads.
        bucket: its name.
        owner: the account that the bucket must belong to; S3 denies every read of a bucket of another account. None:
            S3 is not asked to check. Without it, an empty bucket that somebody else registers under the name of one
            that was deleted looks as if all objects had been deleted.
        with_tags: ask for tags as well (one more request for each object that has any).
    """

    def __init__(self, client: S3Requests, bucket: str, *, owner: str | None = None, with_tags: bool = False) -> None:
        self._client = client
        self._bucket = bucket
        self._owner = owner
        self._with_tags = with_tags
        self._bucket_seen = threading.Event()
        self._parts = UploadParts(self._attributes, self._head_of_part)

    def head(self, key: str) -> Original | None:
        """Return the current state of `key`, None where there is none; see `Source`."""
        for _ in range(LOOKS):
            with suppress(Moved):  # replaced or deleted before a second request, for its tags or for a reason
                return self._head(key)
        raise Unavailable(f"{key!r} changed {LOOKS} times while it was looked at", code="SrcKeyTooHot")

    def _head(self, key: str) -> Original | None:
        answer = self._ask(what := f"HEAD {key!r}", "HEAD", key, _CHECKSUMS)
        match answer.status:
            case 200:
                return self._original(what, key, answer)
            case 404:
                self._require_bucket()
                return None
            case 400 | 403:
                raise self._explained(what, key, answer.status)
        raise self._error(answer, what)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        """Return `original` with the parts of its multipart upload; see `Source` and `UploadParts`."""
        return self._parts.of(original, exact=exact)

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[CheckedReader]:
        """Read `key` in the state `at`, or as it is where `at` is None; see `Source`."""
        original, stream = self._current(key) if at is None else self._pinned(at, span)
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

    def _current(self, key: str) -> tuple[Original, Chunks]:
        """Return the state that a GET of all finds, and its bytes, which are yet to fetch if more than a chunk."""
        answer = self._ask(what := f"GET {key!r}", "GET", key, _CHECKSUMS, expected=CHUNK)
        if answer.status != 200:
            raise self._error(answer, what)
        original = self.parts(self._original(what, key, answer))
        return original, self._stream(original, Span(0, original.size), answer.data)

    def _pinned(self, at: Original, span: Span | None) -> tuple[Original, Chunks]:
        """Return the state, which S3 still has, and the bytes of the span, or of all."""
        start, stop = stretch = span or Span(0, at.size)
        answer = self._range(at, Span(start, min(start + CHUNK, stop)))
        stream = self._stream(at, stretch, answer.data)
        if span is not None:
            return at, stream
        with translated(f"GET {at.key!r}"):
            now = original_of(at.key, answer.headers)
        if at.state != now.state:
            raise Moved(f"{at.key!r} is another state by now")
        return self.parts(at), stream

    def _stream(self, at: Original, span: Span, first: bytes) -> Chunks:
        return Chunks(lambda chunk: self._range(at, chunk).data, span, self._client.read_ahead, first)

    def _range(self, at: Original, chunk: Span) -> Answer:
        """Return the answer that has exactly these bytes of the state."""
        if self._client.time_left() <= 0:
            raise Unavailable(f"no time is left to read on from byte {chunk.start}", code="OutOfTime")
        what, is_whole = f"GET {at.key!r}", chunk == Span(0, at.size)
        headers = _CHECKSUMS | {"If-Match": f'"{at.etag}"'}
        headers |= {} if is_whole else {"Range": f"bytes={chunk.start}-{chunk.stop - 1}"}
        answer = self._ask(what, "GET", at.key, headers, _query(at), expected=chunk.size)
        if answer.status != (200 if is_whole else 206):
            raise self._error(answer, what)
        if len(answer.data) != chunk.size:
            told = f"S3 answers {len(answer.data)} bytes to a request for {chunk.size}"
            raise Moved(f"{what}: {told}") if is_whole else Unavailable(f"{what}: {told}", code="SrcAnswerInvalid")
        return answer

    def _ask(  # noqa: PLR0913 - a request has so many parts
        self,
        what: str,
        method: str,
        key: str,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        *,
        expected: int | None = None,
    ) -> Answer:
        """Return S3's answer, whatever it is. Raises one of ours.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
        """
        owner = {"x-amz-expected-bucket-owner": self._owner} if self._owner else {}
        with translated(what):
            return self._client.ask(method, self._bucket, key, {**(headers or {}), **owner}, query, expected=expected)

    def _call(self, what: str, operation: str, **request: Any) -> Mapping[str, Any]:
        """Return boto3's answer. Raises one of ours."""
        owner = {"ExpectedBucketOwner": self._owner} if self._owner else {}
        try:
            with translated(what):
                return self._client.call(operation, Bucket=self._bucket, **owner, **request)
        except Refused as error:
            raise self._with_owner(error) from error.__cause__

    def _original(self, what: str, key: str, answer: Answer) -> Original:
        """Return the state that an answer describes, with its tags."""
        with translated(what):
            original = original_of(key, answer.headers)
            if not self._with_tags or answer.headers.get("x-amz-tagging-count") == "0":
                return original
            version = {"VersionId": original.version_id} if original.version_id else {}
            tags = self._call(f"tags of {key!r}", "get_object_tagging", Key=key, **version)["TagSet"]
            return original_of(key, answer.headers, {tag["Key"]: tag["Value"] for tag in tags})

    def _attributes(self, original: Original, **request: Any) -> Mapping[str, Any]:
        version = {"VersionId": found} if (found := version_of(original)) else {}
        what = f"parts of {original.key!r}"
        return self._call(what, "get_object_attributes", Key=original.key, **version, **request)

    def _head_of_part(self, original: Original, number: int) -> Mapping[str, str]:
        what = f"HEAD part {number} of {original.key!r}"
        answer = self._ask(what, "HEAD", original.key, _CHECKSUMS, _query(original, f"partNumber={number}"))
        if not 200 <= answer.status < 300:
            raise self._error(answer, what)
        return answer.headers

    def _require_bucket(self) -> None:
        """Make sure, once, that a 404 is the key's and not the bucket's: HEAD does not say, and deletes hang on it."""
        if self._bucket_seen.is_set():
            return
        answer = self._ask(what := f"HEAD bucket {self._bucket!r}", "HEAD", "")
        if answer.status == 404:
            raise Refused(f"there is no source bucket {self._bucket!r}", code="SrcBucketNotFound")
        if answer.status != 200:
            raise self._error(answer, what)
        self._bucket_seen.set()

    def _error(self, answer: Answer, what: str) -> ReplicationError:
        """Return ours for an answer that is no success."""
        return self._with_owner(of_answer(answer, what))

    def _with_owner(self, error: ReplicationError) -> ReplicationError:
        """Say that another owner of the bucket may be the reason why S3 denies, which S3 does not say."""
        if not self._owner or error.code != "SrcGetObjectNotPermitted":
            return error
        reason = f"a permission is missing, or the bucket {self._bucket!r} is not of the account {self._owner}"
        return Refused(f"{error}: {reason}", code=error.code)

    def _explained(self, what: str, key: str, status: int) -> ReplicationError:
        """Ask again by GET, as the answer to a HEAD has no body to say why."""
        answer = self._ask(what, "GET", key, {"Range": "bytes=0-0"}, expected=1)
        if answer.status >= 300:
            return self._error(answer, what)
        return Unavailable(f"{what} was answered {status}, and a GET is not refused", code="SrcUnsettled")


def _query(original: Original, first: str = "") -> str:
    version = version_of(original)
    return "&".join(filter(None, (first, f"versionId={quote(version, safe='')}" if version else "")))
