"""What S3 answers: that it reads as boto3 reads it, and which error each refusal is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from handler.adapters.retry import TRIES
from handler.adapters.s3.client import S3Requests
from handler.adapters.s3.errors import translate
from handler.adapters.s3.source import LOOKS, S3Source
from handler.core.checksums import composite_of
from handler.core.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.core.model import Original, Span
from handler.core.readers import even_chunks
from tests.conftest import s3_requests
from tests.fakes import checksum
from tests.functional.scripted import HELLO, PLAIN, Scripted, answer, error_answer, scripted


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def client(server: Scripted) -> Iterator[S3Requests]:
    with closing(s3_requests(f"http://127.0.0.1:{server.port}")) as client:
        yield client
        if client.boto3.cache_info().currsize:  # type: ignore[attr-defined] # tests.conftest makes it a cached one
            client.boto3().close()


@pytest.fixture
def source(client: S3Requests) -> S3Source:
    return S3Source(client, "b01")


def read(source: S3Source, key: str = "k", at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open(key, at=at, span=span) as body:
        return b"".join(even_chunks(body, 4096))


def look(source: S3Source) -> Original:
    original = source.head("k")
    assert original is not None
    return original


# --- what the answer says


HEADERS = [
    b"",
    (
        b"Content-Type: text/csv; charset=utf-8\r\nContent-Encoding: aws-chunked,gzip\r\nContent-Language: de\r\n"
        b"Content-Disposition: attachment; filename=\"a.csv\"; filename*=UTF-8''na%C3%AFve.csv\r\n"
        b"Cache-Control: no-cache\r\n"
    ),
    b"content-type:\r\ncontent-encoding: \r\n",
    b"Content-Type:   spaces around\t \r\n",
    b"Content-Disposition: na\xefve \xff \xc3\xa9\r\n",
    b"Cache-Control: one\r\nCache-Control: two\r\n",
    b"Expires: Wed, 21 Oct 2026 07:28:00 GMT\r\n",
    b"Expires: whenever\r\n",
    b"Expires: 0\r\n",
    b"x-amz-meta-owner: bo\r\nx-amz-meta-UPPER: Kept\r\nX-Amz-Meta-Mixed: yes\r\nx-amz-meta-empty:\r\n",
    b"x-amz-meta-twice: one\r\nx-amz-meta-Twice: two\r\n",
    b"x-amz-meta-word: =?UTF-8?B?Wm/Dqw==?=\r\nx-amz-meta-latin: Zo\xeb\r\nx-amz-meta-utf8: Zo\xc3\xab\r\n",
    b"x-amz-meta-folded: one\r\n two\r\nx-amz-meta-: no name\r\n",
    b"x-amz-missing-meta: 3\r\n",
    b"x-amz-version-id: null\r\n",
    b"x-amz-version-id: 3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo\r\n",
    b"x-amz-server-side-encryption: AES256\r\n",
    b"x-amz-server-side-encryption: aws:kms\r\nx-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:k\r\n",
    b"x-amz-storage-class: GLACIER\r\n",
    b'x-amz-storage-class: DEEP_ARCHIVE\r\nx-amz-restore: ongoing-request="true"\r\n',
    b'x-amz-storage-class: GLACIER\r\nx-amz-restore: ongoing-request="false", expiry-date="Fri, 1 Jan 2027"\r\n',
    b"x-amz-tagging-count: 0\r\n",
    b"x-amz-mp-parts-count: 7\r\nx-amz-replication-status: PENDING\r\nx-amz-object-lock-mode: GOVERNANCE\r\n",
    b"x-amz-checksum-crc32: NhCmhg==\r\nx-amz-checksum-type: FULL_OBJECT\r\n",
    b"x-amz-checksum-crc32c: mnG7TA==\r\nx-amz-checksum-type: FULL_OBJECT\r\n",
    b"x-amz-checksum-crc64nvme: M3eFcAZSQlc=\r\nx-amz-checksum-type: FULL_OBJECT\r\n",
    b"x-amz-checksum-sha1: qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\n",
    b"x-amz-checksum-sha256: LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\r\n",
    b"x-amz-checksum-md5: XUFAKrxLKna5cZ2REBfFkg==\r\nx-amz-checksum-xxhash64: AAAA\r\n",
    (
        b"x-amz-checksum-sha512: m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcj"
        b"I8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==\r\n"
    ),
    b"x-amz-delete-marker: false\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nServer: S3\r\nAccept-Ranges: bytes\r\n",
]


@pytest.mark.parametrize("headers", HEADERS)
def test_an_answer_reads_as_boto3_reads_it(server: Scripted, client: S3Requests, headers: bytes) -> None:
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\n" + headers, b"hello")
    told = client.boto3().head_object(Bucket="b01", Key="k", ChecksumMode="ENABLED")
    source = S3Source(client, "b01")
    if told.get("MissingMeta"):
        with pytest.raises(Refused):
            source.head("k")
        return
    ours = look(source)
    with source.open("k") as body:
        assert body.original == ours
        assert body.read() == b"hello"
    assert [request.by_boto3 for request in server.requests] == [True, False, False]
    fields = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl")
    assert (ours.size, ours.last_modified, f'"{ours.etag}"') == (5, told["LastModified"], told["ETag"])
    assert (ours.version_id, ours.expires) == (told.get("VersionId"), told.get("ExpiresString"))
    assert ours.storage_class == told.get("StorageClass", "STANDARD")
    raw = [value and value.encode().decode("latin-1") for value in ours.headers]
    assert all(told.get(name) in {value, mine} for name, value, mine in zip(fields, ours.headers, raw, strict=True))
    assert ours.user_metadata.keys() == {name.lower() for name in told["Metadata"]}
    sums = {name: told[f"Checksum{name}"] for name in ours.checksums}  # type: ignore[literal-required] # by name
    assert dict(ours.checksums) == sums


def test_names_of_user_metadata_are_lower_case_as_s3_keeps_them(server: Scripted, source: S3Source) -> None:
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\nX-Amz-Meta-Owner: Bo\r\n", b"hello")
    assert look(source).user_metadata == {"owner": "Bo"}


NAMES = 'attachment; filename="Åse…/日本/naïve 😀.csv"'
RAW = [
    # as S3 sends it, as it was meant
    (NAMES.encode(), NAMES),
    ("naïve".encode("latin-1"), "naïve"),
    (b"na\xefve \xff \xc3\xa9", "naïve ÿ Ã©"),
    (b"plain", "plain"),
    (b"\xc3\xa9\xc2\xa0", "é\xa0"),
    (b"\xc2\x85-\xe2\x80\xa8", "\x85-\u2028"),
]


@pytest.mark.parametrize(("raw", "meant"), RAW)
def test_a_header_of_raw_bytes_is_utf_8_where_it_can_be_and_else_latin_1(
    server: Scripted, source: S3Source, raw: bytes, meant: str
) -> None:
    names = (b"Content-Disposition", b"Content-Language", b"Cache-Control", b"Content-Encoding", b"x-amz-meta-a")
    headers = b"".join(b"%s: %s\r\n" % (name, raw) for name in names)
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\n" + headers, b"hello")
    found = look(source)
    assert found.headers[1:] == (meant,) * 4
    assert found.user_metadata == {"a": meant}


@pytest.mark.parametrize(
    "odd",
    [b"", b'ETag: "0"\r\n', b"Last-Modified: Sun, 22 Nov 2026 20:00:00 GMT\r\n", PLAIN + b"Content-Length: five\r\n"],
)
@pytest.mark.parametrize("method", ["head", "get"])
def test_an_answer_that_does_not_describe_an_object_is_unavailable(
    server: Scripted, source: S3Source, method: str, odd: bytes
) -> None:
    server.default = answer("200 OK", odd, b"hello")
    with pytest.raises(Unavailable):
        source.head("k") if method == "head" else read(source)


def test_an_encoded_body_is_handed_on_as_it_is(server: Scripted, source: S3Source) -> None:
    import gzip
    import hashlib

    data = gzip.compress(b"hello" * 100)
    etag = b'ETag: "%s"\r\n' % hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
    headers = PLAIN.replace(PLAIN.split(b"\r\n")[0] + b"\r\n", etag) + b"Content-Encoding: gzip\r\n"
    server.default = answer("200 OK", headers + b"Content-Length: %d\r\n" % len(data), data)
    assert read(source) == data
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "now",
    [
        PLAIN.replace(b"20:00:00", b"20:00:01"),
        PLAIN + b"x-amz-version-id: v2\r\n",
        PLAIN.replace(b"5d41", b"5d42"),
    ],
    ids=["time", "version", "ETag"],
)
def test_a_state_of_which_the_bytes_are_the_same_is_still_another(
    server: Scripted, source: S3Source, now: bytes
) -> None:
    server.answers.extend([HELLO, answer("200 OK", now, b"hello")])
    with pytest.raises(Moved), source.open("k", at=source.head("k")):
        pass


def test_another_length_is_another_state(server: Scripted, source: S3Source) -> None:
    server.answers.extend([HELLO, answer("200 OK", PLAIN, b"hello!")])
    with pytest.raises(Moved), source.open("k", at=source.head("k")):
        pass


@pytest.mark.parametrize(
    "told",
    [answer("206 Partial Content", PLAIN + b"Content-Range: bytes 1-2/5\r\nContent-Length: 2\r\n", b"el"), HELLO],
    ids=["less", "all"],
)
def test_other_bytes_than_those_asked_for_are_unavailable(server: Scripted, source: S3Source, told: bytes) -> None:
    server.answers.extend([HELLO, told])
    with pytest.raises(Unavailable):
        read(source, at=source.head("k"), span=Span(1, 4))


def test_a_byte_changed_on_the_way_is_corrupt(server: Scripted, source: S3Source) -> None:
    server.default = answer("200 OK", PLAIN, b"hallo")
    with pytest.raises(Corrupt):
        read(source)


# --- parts

TAG = "0123456789abcdef0123456789abcdef-4"
TIME = b"Last-Modified: Sun, 22 Nov 2026 20:00:00 GMT\r\n"


def parted(tag: str, headers: bytes = b"") -> bytes:
    return b'ETag: "%s"\r\n' % tag.encode() + TIME + headers


def of_part(tag: str, size: int) -> bytes:
    """Answer a HEAD by part number."""
    headers = parted(tag, b"x-amz-mp-parts-count: 4\r\nContent-Length: %d\r\n" % size)
    return answer("206 Partial Content", headers)


def test_an_object_that_goes_before_its_parts_are_asked_for_is_moved(server: Scripted, source: S3Source) -> None:
    server.answers.extend([answer("200 OK", parted(TAG), bytes(35)), answer("404 Not Found")])
    with pytest.raises(Moved), source.open("k"):
        pass


def test_parts_are_not_asked_for_where_the_whole_has_a_checksum(server: Scripted, source: S3Source) -> None:
    headers = b"x-amz-checksum-type: FULL_OBJECT\r\nx-amz-checksum-crc32: AAAAAA==\r\n"
    server.answers.append(answer("200 OK", parted(TAG, headers), bytes(35)))
    with source.open("k") as body:
        assert body.original.parts == ()
    assert len(server.requests) == 1


def test_a_composite_that_does_not_match_is_corrupt_only_once_every_boundary_is_known(
    server: Scripted, source: S3Source
) -> None:
    """Parts of 10, 8, 12 and 5 bytes look alike by the first, the last and the number."""
    data = bytes(range(35))
    parts = [data[:10], data[10:18], data[18:30], data[30:]]
    digest = base64.b64decode(composite_of("ETAG", [checksum("ETAG", part) for part in parts])).hex()
    tag = f"{digest}-4"

    def told(arrives: bytes) -> None:
        server.by_target = {f"partNumber={n}": of_part(tag, len(part)) for n, part in enumerate(parts, 1)}
        server.default = answer("200 OK", parted(tag), arrives)

    told(data)
    with pytest.raises(Moved, match="not of one size"), source.open("k") as body:
        list(even_chunks(body, 7))
    with source.open("k") as body:
        assert b"".join(even_chunks(body, 7)) == data
    told(data[:-1] + b"!")
    with pytest.raises(Corrupt), source.open("k") as body:
        list(even_chunks(body, 7))


def test_an_object_that_keeps_going_before_its_tags_are_read_is_unavailable(
    server: Scripted, client: S3Requests
) -> None:
    for _ in range(LOOKS):
        server.answers.extend([HELLO, error_answer("404 Not Found", "NoSuchKey")])
    with pytest.raises(Unavailable) as caught:
        S3Source(client, "b01", with_tags=True).head("k")
    assert caught.value.code == "SrcKeyTooHot"


# --- errors: total

ERRORS = [
    # what S3 answers to a GET, its status, the remedy, the code an operator reads
    ("NoSuchKey", 404, Moved, "Moved"),
    ("NoSuchVersion", 404, Moved, "Moved"),
    ("PreconditionFailed", 412, Moved, "Moved"),
    ("InvalidRange", 416, Moved, "Moved"),
    ("MethodNotAllowed", 405, Moved, "Moved"),
    ("AccessDenied", 403, Refused, "SrcGetObjectNotPermitted"),
    ("AllAccessDisabled", 403, Refused, "SrcGetObjectNotPermitted"),
    ("403", 403, Refused, "SrcGetObjectNotPermitted"),
    ("InvalidObjectState", 403, Refused, "SrcObjectArchived"),
    ("InvalidRequest", 400, Refused, "SrcObjectNotEligible"),
    ("KMS.DisabledException", 400, Refused, "SrcKmsKeyInvalidState"),
    ("KMS.KMSInvalidStateException", 400, Refused, "SrcKmsKeyInvalidState"),
    ("KMS.NotFoundException", 400, Refused, "SrcKmsKeyNotFound"),
    ("KeyTooLongError", 400, Refused, "SrcKeyTooLong"),
    ("NoSuchBucket", 404, Refused, "SrcBucketNotFound"),
    ("PermanentRedirect", 301, Refused, "SrcBucketInOtherRegion"),
    ("SlowDown", 503, Unavailable, "SrcSlowDown"),
    ("ServiceUnavailable", 503, Unavailable, "SrcServiceUnavailable"),
    ("InternalError", 500, Unavailable, "SrcInternalError"),
    ("RequestTimeout", 400, Unavailable, "SrcRequestTimeout"),
    ("ExpiredToken", 400, Unavailable, "SrcExpiredToken"),
    ("InvalidAccessKeyId", 403, Unavailable, "SrcInvalidAccessKeyId"),
    ("RequestTimeTooSkewed", 403, Unavailable, "SrcRequestTimeTooSkewed"),
    ("BrandNewError", 499, Unavailable, "SrcBrandNewError"),
    ("", 500, Unavailable, "Src500"),
]


@pytest.mark.parametrize(("code", "status", "kind", "ours"), ERRORS)
def test_every_error_of_a_read_is_one_of_ours(
    server: Scripted, source: S3Source, code: str, status: int, kind: type[ReplicationError], ours: str
) -> None:
    server.default = error_answer(f"{status} Told", code)
    with pytest.raises(ReplicationError, match="as told") as caught, source.open("k"):
        pass
    assert (type(caught.value), caught.value.code) == (kind, ours)
    assert len(server.requests) == (TRIES if status >= 500 else 1)


@pytest.mark.parametrize(
    ("code", "status", "kind", "ours"), [row for row in ERRORS if row[1] in {400, 403} and row[2] is not Moved]
)
def test_a_head_that_is_denied_asks_again_for_the_reason(
    server: Scripted, source: S3Source, code: str, status: int, kind: type[ReplicationError], ours: str
) -> None:
    server.answers.extend([answer(f"{status} Told"), error_answer(f"{status} Told", code)])
    with pytest.raises(ReplicationError) as caught:
        source.head("k")
    assert (type(caught.value), caught.value.code) == (kind, ours)
    assert [request.method for request in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [400, 403])
def test_a_head_that_is_denied_and_a_get_that_is_not_is_tried_again(
    server: Scripted, source: S3Source, status: int
) -> None:
    """A policy is just being changed."""
    server.answers.extend([answer(f"{status} Told"), HELLO])
    with pytest.raises(Unavailable) as caught:
        source.head("k")
    assert caught.value.code == "SrcUnsettled"


@pytest.mark.parametrize("status", [500, 503, 304, 429])
def test_a_head_that_fails_otherwise_is_unavailable(server: Scripted, source: S3Source, status: int) -> None:
    server.default = answer(f"{status} Told")
    with pytest.raises(Unavailable) as caught:
        source.head("k")
    assert caught.value.code == f"Src{status}"


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Refused), (403, Refused), (500, Unavailable)], ids=["missing", "denied", "broken"]
)
def test_a_404_is_believed_only_once_the_bucket_is_seen(
    server: Scripted, source: S3Source, status: int, kind: type[ReplicationError]
) -> None:
    gone = answer("404 Not Found")
    server.answers.append(gone)
    server.default = answer(f"{status} Told")
    with pytest.raises(ReplicationError) as caught:
        source.head("k")
    assert type(caught.value) is kind
    server.answers.extend([gone, answer("200 OK"), gone])
    before = len(server.requests)
    assert source.head("k") is None
    assert source.head("k") is None
    assert [request.target for request in server.requests[before:]] == ["/b01/k", "/b01/", "/b01/k"]


@pytest.mark.parametrize("body", [b"<html>AccessDenied</html>", b"\xff" * 100, b"x" * 70000, b"<Code></Code>"])
@pytest.mark.parametrize(("status", "kind"), [("403 Forbidden", Refused), ("404 Not Found", Moved)])
def test_an_error_that_is_not_plainly_s3s_is_judged_by_its_status(
    server: Scripted, source: S3Source, status: str, kind: type[ReplicationError], body: bytes
) -> None:
    server.default = error_answer(status, body=body)
    with pytest.raises(kind):
        read(source)


def test_every_exception_there_is_is_translated() -> None:
    errors: list[Any] = [ValueError("x"), KeyError("x"), Exception("x"), RecursionError()]
    for error in errors:
        assert isinstance(translate(error, "what"), Unavailable)
