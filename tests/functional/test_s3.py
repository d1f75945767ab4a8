"""The S3 source over real connections that break, lie and answer oddly."""

from __future__ import annotations

import base64
import io
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.response import StreamingBody
from botocore.stub import Stubber

from handler.adapters import http_connection
from handler.adapters.retry import LONGEST_PAUSE, TRIES
from handler.adapters.s3 import LOOKS, SHORT, S3Source, _decoded, _md5_of, _translate
from handler.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.model import KIB, MIB, Original, S3Part, Span
from handler.transfer import CheckedReader, composite_of, pieces
from tests.conftest import s3_client, s3_requests
from tests.fakes import BEGINNING, checksum, crc32c
from tests.functional.proxy import Proxy, Trouble, proxy_to

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DATA = random.Random(1).randbytes(300 * KIB + 17)  # noqa: S311 - bytes, not a secret


@pytest.fixture
def proxy(s3_url: str) -> Iterator[Proxy]:
    with proxy_to(s3_url) as proxy:
        yield proxy


class Slept(list[float]):
    """Notes how long it was to sleep, and does not."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
def source(proxy: Proxy, bucket: str, slept: Slept) -> Iterator[S3Source]:
    client = s3_requests(proxy.url)
    yield S3Source(client, bucket, sleep=slept)
    client.boto3().close()
    client.close()


@pytest.fixture
def original(s3: S3Client, bucket: str, source: S3Source, proxy: Proxy) -> Original:
    """An object that is there; the requests it took to make it are forgotten."""
    s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    found = source.head("k")
    assert found is not None
    proxy.requests.clear()
    return found


def read(source: S3Source, at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open("k", at=at, span=span) as body:
        return b"".join(pieces(body, 16 * KIB))


# --- resumed reads


@pytest.mark.parametrize("pinned", ["pinned", "as it is"])
def test_a_read_that_breaks_goes_on_from_where_it_broke(
    source: S3Source, original: Original, proxy: Proxy, pinned: str
) -> None:
    proxy.troubles.append(Trouble(cut=100_000))
    assert read(source, original if pinned == "pinned" else None) == DATA
    first, second = proxy.gets()
    assert "Range" not in first.headers
    assert second.headers["Range"] == f"bytes=100000-{len(DATA) - 1}"
    assert second.headers["If-Match"] == f'"{original.etag}"'
    assert first.sent + second.sent == len(DATA), "no byte is sent twice"


def test_a_span_that_breaks_goes_on_within_the_span(source: S3Source, original: Original, proxy: Proxy) -> None:
    proxy.troubles.append(Trouble(cut=50_000))
    assert read(source, original, Span(1000, 200_000)) == DATA[1000:200_000]
    assert [request.headers["Range"] for request in proxy.gets()] == ["bytes=1000-199999", "bytes=51000-199999"]
    assert {request.headers["If-Match"] for request in proxy.gets()} == {f'"{original.etag}"'}


def test_a_span_that_comes_too_slowly_goes_on_by_another_connection(
    s3: S3Client, bucket: str, source: S3Source, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of which each look takes a second: so each wait does, and a MiB in that time is too little."""
    data = DATA * 20
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    clock = itertools.count()
    monkeypatch.setattr(http_connection, "monotonic", clock.__next__)
    monkeypatch.setattr(http_connection, "SLOWEST", MIB)
    with source.open("k", at=source.head("k"), span=Span(1000, len(data))) as body:
        assert b"".join(pieces(body, 4 * MIB)) == data[1000:]
    gets = proxy.gets()
    assert len(gets) > 1
    starts = [int(get.headers["Range"].removeprefix("bytes=").partition("-")[0]) for get in gets]
    assert starts == sorted(set(starts)), "each goes on where the one before was given up"


def test_a_version_that_breaks_is_resumed_in_that_version(
    s3: S3Client, versioned_bucket: str, source: S3Source, proxy: Proxy
) -> None:
    old = s3.put_object(Bucket=versioned_bucket, Key="k", Body=DATA)["VersionId"]
    state = source.head("k")
    proxy.troubles.append(
        Trouble(cut=100_000, then=lambda: s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"newer"))
    )
    assert read(source, state) == DATA
    assert all(f"versionId={old}" in request.path for request in proxy.gets())


def test_no_read_goes_on_once_time_is_over(proxy: Proxy, bucket: str, original: Original, source: S3Source) -> None:
    left = iter([30.0, 20.0, 10.0])
    hurried = S3Source(source._client, bucket, time_left=lambda: next(left, 0.0))
    with hurried.open("k", at=original) as body:
        assert len(body.read(100)) == len(body.read(100)) == len(body.read(100)) == 100
        with pytest.raises(Unavailable, match="no time is left to read on from byte 300") as caught:
            body.read(100)
    assert caught.value.code == "OutOfTime"


def test_the_steps_are_small_where_little_time_is_left(s3: S3Client, bucket: str, source: S3Source) -> None:
    """A step may be slow; it is seen only after it whether there is time for the next."""
    left = [SHORT]
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(4 * MIB))
    with S3Source(source._client, bucket, time_left=lambda: left[0]).open("k") as body:
        assert len(body.read(2 * MIB)) == 2 * MIB
        left[0] -= 1
        assert len(body.read(2 * MIB)) == MIB


def test_breaks_are_many_so_long_as_bytes_come(
    source: S3Source, original: Original, proxy: Proxy, slept: Slept
) -> None:
    proxy.troubles.extend(Trouble(cut=20_000) for _ in range(2 * TRIES))
    assert read(source, original) == DATA
    assert len(proxy.gets()) == 2 * TRIES + 1
    assert sum(request.sent for request in proxy.gets()) == len(DATA)
    assert slept == [], "where bytes come there is nothing to wait for"


def test_a_connection_reset_loses_no_byte_and_doubles_none(source: S3Source, original: Original, proxy: Proxy) -> None:
    proxy.troubles.extend(Trouble(cut=cut, reset=True) for cut in (0, 1, 70_000, 10))
    assert read(source, original) == DATA


def test_as_many_breaks_in_a_row_as_there_are_tries_are_unavailable(
    source: S3Source, original: Original, proxy: Proxy, slept: Slept
) -> None:
    proxy.troubles.extend(Trouble(cut=0) for _ in range(TRIES))
    with pytest.raises(Unavailable):
        read(source, original)
    assert len(proxy.gets()) == TRIES
    assert len(slept) == TRIES - 1
    assert all(pause <= min(2**number, LONGEST_PAUSE) for number, pause in enumerate(slept))


def test_one_break_less_in_a_row_is_not(source: S3Source, original: Original, proxy: Proxy) -> None:
    proxy.troubles.extend(Trouble(cut=0) for _ in range(TRIES - 1))
    assert read(source, original) == DATA


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
def test_an_object_that_changes_before_it_is_resumed_is_moved(
    s3: S3Client, bucket: str, source: S3Source, original: Original, proxy: Proxy, change: str
) -> None:
    def do() -> None:
        if change == "deleted":
            s3.delete_object(Bucket=bucket, Key="k")
        else:
            s3.put_object(Bucket=bucket, Key="k", Body=DATA[::-1])

    proxy.troubles.append(Trouble(cut=100_000, then=do))
    with pytest.raises(Moved):
        read(source, original)


def test_a_resume_that_is_refused_is_refused(source: S3Source, original: Original, proxy: Proxy) -> None:
    proxy.troubles.extend([Trouble(cut=10), Trouble(status=403, code="AccessDenied")])
    with pytest.raises(Refused):
        read(source, original)


def test_an_empty_object_is_not_resumed(s3: S3Client, bucket: str, source: S3Source, proxy: Proxy) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert read(source) == b""
    assert len(proxy.gets()) == 1


# --- checksums


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC32C", "SHA1", "SHA256"])
@pytest.mark.parametrize("at", [0, 150_000, len(DATA) - 1])
def test_a_byte_that_arrives_wrong_is_corrupt(
    s3: S3Client, bucket: str, source: S3Source, proxy: Proxy, algorithm: str | None, at: int
) -> None:
    given: dict[str, Any] = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    if algorithm == "CRC32C":  # which botocore cannot compute by itself
        given["ChecksumCRC32C"] = crc32c(DATA)
    s3.put_object(Bucket=bucket, Key="k", Body=DATA, **given)
    assert read(source) == DATA
    proxy.troubles.append(Trouble(flip=at))
    with pytest.raises(Corrupt):
        read(source)


def test_a_byte_that_arrives_wrong_after_a_resume_is_corrupt(
    source: S3Source, original: Original, proxy: Proxy
) -> None:
    proxy.troubles.extend([Trouble(cut=100_000), Trouble(flip=5)])
    with pytest.raises(Corrupt):
        read(source, original)


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
    ("", 500, Unavailable, "Src"),
]


@pytest.fixture(scope="module")
def stubbed() -> S3Client:
    """A client that never leaves the process."""
    return boto3.client("s3", region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}))


@pytest.mark.parametrize(("code", "status", "kind", "ours"), ERRORS)
def test_every_error_of_a_read_is_one_of_ours(
    stubbed: S3Client, code: str, status: int, kind: type[ReplicationError], ours: str
) -> None:
    with Stubber(stubbed) as stub:
        stub.add_client_error("get_object", code, "as told", status)
        with pytest.raises(ReplicationError) as caught, S3Source(stubbed, "b").open("k"):
            pass
    assert (type(caught.value), caught.value.code) == (kind, ours)


@pytest.mark.parametrize(
    ("code", "status", "kind", "ours"), [row for row in ERRORS if row[1] in {400, 403} and row[2] is not Moved]
)
def test_a_head_that_is_denied_asks_again_for_the_reason(
    stubbed: S3Client, code: str, status: int, kind: type[ReplicationError], ours: str
) -> None:
    with Stubber(stubbed) as stub:
        stub.add_client_error("head_object", str(status), "", status)
        stub.add_client_error("get_object", code, "as told", status)
        with pytest.raises(ReplicationError) as caught:
            S3Source(stubbed, "b").head("k")
        stub.assert_no_pending_responses()
    assert (type(caught.value), caught.value.code) == (kind, ours)


@pytest.mark.parametrize("status", [400, 403])
def test_a_head_that_is_denied_and_a_get_that_is_not_is_tried_again(stubbed: S3Client, status: int) -> None:
    """A policy is just being changed."""
    with Stubber(stubbed) as stub:
        stub.add_client_error("head_object", str(status), "", status)
        stub.add_response("get_object", {"Body": StreamingBody(io.BytesIO(b"d"), 1)})
        with pytest.raises(Unavailable) as caught:
            S3Source(stubbed, "b").head("k")
    assert caught.value.code == "SrcUnsettled"


@pytest.mark.parametrize("status", [500, 503, 301, 429])
def test_a_head_that_fails_otherwise_is_unavailable(stubbed: S3Client, status: int) -> None:
    with Stubber(stubbed) as stub:
        stub.add_client_error("head_object", str(status), "", status)
        with pytest.raises(Unavailable):
            S3Source(stubbed, "b").head("k")


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Refused), (403, Refused), (500, Unavailable)], ids=["missing", "denied", "broken"]
)
def test_a_404_is_believed_only_once_the_bucket_is_seen(
    stubbed: S3Client, status: int, kind: type[ReplicationError]
) -> None:
    source = S3Source(stubbed, "b")
    with Stubber(stubbed) as stub:
        stub.add_client_error("head_object", "404", "", 404)
        stub.add_client_error("head_bucket", str(status), "", status)
        with pytest.raises(ReplicationError) as caught:
            source.head("k")
        assert type(caught.value) is kind
        for seen_before in (False, True):
            stub.add_client_error("head_object", "404", "", 404)
            if not seen_before:
                stub.add_response("head_bucket", {})
            assert source.head("k") is None
        stub.assert_no_pending_responses()


CONNECTION: list[Exception] = [
    EndpointConnectionError(endpoint_url="http://s3"),
    ConnectTimeoutError(endpoint_url="http://s3"),
    ReadTimeoutError(endpoint_url="http://s3"),
    SSLError(endpoint_url="http://s3", error=ValueError("certificate")),
    NoCredentialsError(),
    ConnectionResetError("reset"),
    TimeoutError("slow"),
]


@pytest.mark.parametrize("error", CONNECTION, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["head", "open", "tags"])
def test_trouble_with_the_connection_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, stubbed: S3Client, error: Exception, call: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    source = S3Source(stubbed, "b", with_tags=True)
    broken = {"head": "head_object", "open": "get_object", "tags": "get_object_tagging"}[call]
    monkeypatch.setattr(stubbed, broken, fail)
    if call == "tags":
        monkeypatch.setattr(stubbed, "head_object", lambda **_: ANSWER)
    look = source.open("k").__enter__ if call == "open" else lambda: source.head("k")
    with pytest.raises(Unavailable):
        look()


@pytest.mark.parametrize("client_of", [s3_client, s3_requests])
def test_nobody_at_the_address_is_unavailable(client_of: Callable[[str], Any]) -> None:
    client = client_of("http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        S3Source(client, "b").head("k")


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"<?xml version='1.0'?><Error/>"])
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_an_error_without_a_word_is_still_one_of_ours(
    source: S3Source, original: Original, proxy: Proxy, status: int, body: bytes
) -> None:
    proxy.troubles.extend([Trouble(status=status, body=body)] * TRIES)  # what passes is tried again
    with pytest.raises(ReplicationError):
        read(source, original)


def test_an_answer_that_is_no_xml_is_unavailable(proxy: Proxy, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    client = s3_client(proxy.url)
    proxy.troubles.append(Trouble(status=200, body=b"{}"))
    with pytest.raises(Unavailable):
        S3Source(client, bucket, with_tags=True).head("k")
    client.close()


def test_an_object_that_goes_before_its_tags_are_read_is_absent_and_never_moved(
    proxy: Proxy, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    client = s3_client(proxy.url)
    proxy.troubles.append(Trouble(status=404, code="NoSuchKey", then=lambda: s3.delete_object(Bucket=bucket, Key="k")))
    assert S3Source(client, bucket, with_tags=True).head("k") is None
    client.close()


# --- what the answer says

ANSWER: dict[str, Any] = {
    "ETag": '"0123456789abcdef0123456789abcdef"',
    "ContentLength": 1,
    "LastModified": BEGINNING,
}


@pytest.mark.parametrize(
    ("said", "archived"),
    [
        ({}, False),
        ({"StorageClass": "STANDARD_IA"}, False),
        ({"StorageClass": "GLACIER_IR"}, False),
        ({"StorageClass": "GLACIER"}, True),
        ({"StorageClass": "DEEP_ARCHIVE"}, True),
        ({"StorageClass": "GLACIER", "Restore": 'ongoing-request="true"'}, True),
        ({"StorageClass": "GLACIER", "Restore": 'ongoing-request="false", expiry-date="Fri, 1 Jan 2027"'}, False),
        ({"StorageClass": "INTELLIGENT_TIERING"}, False),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, True),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "DEEP_ARCHIVE_ACCESS"}, True),
    ],
)
def test_what_cannot_be_read_until_it_is_restored_is_archived(
    monkeypatch: pytest.MonkeyPatch, stubbed: S3Client, said: dict[str, str], *, archived: bool
) -> None:
    monkeypatch.setattr(stubbed, "head_object", lambda **_: ANSWER | said)
    original = S3Source(stubbed, "b").head("k")
    assert original is not None
    assert original.archived is archived


ETAG = ANSWER["ETag"].strip('"')


@pytest.mark.parametrize(
    ("said", "checksums", "composites"),
    [
        ({}, {}, {}),
        ({"ChecksumCRC32C": "AAAAAA=="}, {"CRC32C": "AAAAAA=="}, {}),
        ({"ChecksumCRC32C": "AAAAAA==", "ChecksumSHA256": "abc=-3"}, {"CRC32C": "AAAAAA=="}, {"SHA256": "abc="}),
        ({"ETag": f'"{ETAG}-2"'}, {}, {"ETAG": "ASNFZ4mrze8BI0VniavN7w=="}),
        ({"ETag": f'"{ETAG}-2"', "ServerSideEncryption": "aws:kms"}, {}, {}),
        ({"ETag": '"not-hex"'}, {}, {}),
        (
            {"ETag": f'"{ETAG}-2"', "ChecksumType": "FULL_OBJECT", "ChecksumCRC32C": "AAAAAA=="},
            {"CRC32C": "AAAAAA=="},
            {"ETAG": "ASNFZ4mrze8BI0VniavN7w=="},
        ),
        ({"ETag": f'"{ETAG}-2"', "ChecksumCRC32C": "AAAAAA=="}, {}, {"ETAG": "ASNFZ4mrze8BI0VniavN7w=="}),
    ],
)
def test_checksums_of_the_bytes_are_known_from_those_of_the_parts(
    monkeypatch: pytest.MonkeyPatch,
    stubbed: S3Client,
    said: dict[str, str],
    checksums: dict[str, str],
    composites: dict[str, str],
) -> None:
    monkeypatch.setattr(stubbed, "head_object", lambda **_: ANSWER | said)
    original = S3Source(stubbed, "b").head("k")
    assert original is not None
    assert (dict(original.checksums), dict(original.composites)) == (checksums, composites)


@pytest.mark.parametrize(
    "now",
    [
        {"LastModified": BEGINNING + timedelta(seconds=1)},
        {"VersionId": "v2"},
        {"ContentLength": 2},
        {"ETag": '"other"'},
    ],
    ids=lambda said: next(iter(said)),
)
def test_a_state_with_the_same_etag_is_still_another(stubbed: S3Client, now: dict[str, Any]) -> None:
    with Stubber(stubbed) as stub:
        stub.add_response("head_object", ANSWER)
        stub.add_response("get_object", ANSWER | now | {"Body": StreamingBody(io.BytesIO(b"x"), 1)})
        source = S3Source(stubbed, "b")
        with pytest.raises(Moved), source.open("k", at=source.head("k")):
            pass


PARTED = ANSWER | {"ETag": f'"{ETAG}-4"', "ContentLength": 35}
BODY_OF_PARTS = {"Body": StreamingBody(io.BytesIO(bytes(35)), 35)}
PART = ANSWER | {"ETag": PARTED["ETag"], "ContentLength": 10, "PartsCount": 4}
LAST = PART | {"ContentLength": 5}
OTHER = PART | {"ETag": f'"{ETAG}-5"'}


def sizes_of(original: Original) -> list[int]:
    return [part.size for part in original.parts]


@pytest.mark.parametrize(
    ("answers", "sizes", "assumed"),
    [
        ({1: PART, 4: LAST}, [10, 10, 10, 5], True),
        ({1: PART | {"ContentLength": 11}, 4: LAST | {"ContentLength": 2}}, [11, 11, 11, 2], True),
        ({1: PART, 4: LAST | {"ContentLength": 6}, 2: PART, 3: PART | {"ContentLength": 9}}, [10, 10, 9, 6], False),
        ({1: LAST, 4: PART, 2: PART, 3: PART}, [5, 10, 10, 10], False),
        ({1: PART, 4: LAST | {"ContentLength": 6}, 2: PART, 3: PART}, [], False),
        ({1: OTHER, 4: OTHER, 2: OTHER, 3: OTHER}, [], False),
        ({1: PART | {"PartsCount": 3}, 4: LAST, 2: PART, 3: PART}, [], False),
    ],
    ids=["alike", "alike to the byte", "uneven", "a short one first", "not all of them", "another state", "miscounted"],
)
def test_parts_are_taken_to_be_alike_where_the_ends_bear_it_out_and_else_all_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    stubbed: S3Client,
    answers: dict[int, dict[str, Any]],
    sizes: list[int],
    *,
    assumed: bool,
) -> None:
    asked: list[int] = []

    def head(*, PartNumber: int = 0, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        asked.append(PartNumber)
        return answers.get(PartNumber, PARTED)

    monkeypatch.setattr(stubbed, "head_object", head)
    source = S3Source(stubbed, "b")
    original = source.head("k")
    assert original is not None
    asked.clear()
    parted = source.parts(original)
    assert (sizes_of(parted), parted.parts_assumed) == (sizes, assumed)
    assert len(asked) == (2 if assumed else 6)
    if assumed:
        answers |= {
            2: PART | {"ContentLength": 12},
            3: PART | {"ContentLength": 35 - 12 - answers[1]["ContentLength"] - answers[4]["ContentLength"]},
        }
        asked.clear()
        exact = source.parts(original, exact=True)
        assert (sizes_of(exact)[1], exact.parts_assumed) == (12, False)
        assert sorted(asked) == [1, 1, 2, 3, 4, 4]
        asked.clear()
        assert source.parts(original).parts == exact.parts, "what was found out is remembered"
        assert asked == []


COMPOSITE_PARTS = [b"0123456789", b"01234", b"0123456789", b"0123456789"]
SUMS = [checksum("CRC32", part) for part in COMPOSITE_PARTS]
OF_CRC32 = PARTED | {"ChecksumCRC32": f"{composite_of('CRC32', SUMS)}-4", "ChecksumType": "COMPOSITE"}
ATTRIBUTES = {
    "ETag": f"{ETAG}-4",
    "ObjectParts": {
        "Parts": [
            {"PartNumber": number, "Size": len(part), "ChecksumCRC32": value}
            for number, (part, value) in enumerate(zip(COMPOSITE_PARTS, SUMS, strict=True), 1)
        ]
    },
}


def attributes(stubbed: S3Client, stub: Stubber, answer: dict[str, Any] | None, code: str = "") -> Original:
    """Ask for the parts, by an answer to GetObjectAttributes; the ends are told to be alike."""
    stub.add_response("head_object", OF_CRC32)
    if answer is not None:
        stub.add_response("get_object_attributes", answer)
    else:
        stub.add_client_error("get_object_attributes", code, "", 403)
    stub.add_response("head_object", PART)
    stub.add_response("head_object", LAST)
    source = S3Source(stubbed, "b")
    original = source.head("k")
    assert original is not None
    return source.parts(original)


def test_an_upload_with_checksums_tells_all_its_parts_by_one_request(stubbed: S3Client) -> None:
    with Stubber(stubbed) as stub:
        parted = attributes(stubbed, stub, ATTRIBUTES)
    assert parted.parts == tuple(S3Part(len(part), value) for part, value in zip(COMPOSITE_PARTS, SUMS, strict=True))
    assert not parted.parts_assumed


@pytest.mark.parametrize("code", ["AccessDenied", "NotImplemented"])
def test_where_the_attributes_are_denied_the_ends_are_asked_for(stubbed: S3Client, code: str) -> None:
    with Stubber(stubbed) as stub:
        parted = attributes(stubbed, stub, None, code)
        assert (sizes_of(parted), parted.parts_assumed) == ([10, 10, 10, 5], True)
        stub.add_response("head_object", OF_CRC32)
        stub.add_response("head_object", PART)
        stub.add_response("head_object", LAST)
        source = S3Source(stubbed, "b")
        source._parts._denied = True
        again = source.head("k")
        assert again is not None
        assert source.parts(again).parts_assumed, "a denial is remembered"


@pytest.mark.parametrize(
    "answer",
    [{"ETag": f"{ETAG}-4"}, ATTRIBUTES | {"ObjectParts": {"TotalPartsCount": 4}}],
    ids=["no parts", "only their number"],
)
def test_attributes_without_parts_leave_it_to_the_ends(stubbed: S3Client, answer: dict[str, Any]) -> None:
    with Stubber(stubbed) as stub:
        assert attributes(stubbed, stub, answer).parts_assumed


def test_attributes_of_another_state_are_moved(stubbed: S3Client) -> None:
    with Stubber(stubbed) as stub, pytest.raises(Moved):
        attributes(stubbed, stub, ATTRIBUTES | {"ETag": "other-4"})


def test_checksums_of_parts_that_do_not_make_the_objects_are_not_believed(stubbed: S3Client) -> None:
    lying = {"Parts": [part | {"ChecksumCRC32": "AAAAAA=="} for part in ATTRIBUTES["ObjectParts"]["Parts"]]}  # type: ignore[index] # a table
    with Stubber(stubbed) as stub:
        parted = attributes(stubbed, stub, ATTRIBUTES | {"ObjectParts": lying})
    assert [(part.size, part.checksum) for part in parted.parts] == [(10, ""), (5, ""), (10, ""), (10, "")]


def test_an_object_that_goes_before_its_parts_are_asked_for_is_moved(stubbed: S3Client) -> None:
    with Stubber(stubbed) as stub:
        stub.add_response("get_object", PARTED | BODY_OF_PARTS)
        stub.add_client_error("head_object", "404", "", 404)
        with pytest.raises(Moved), S3Source(stubbed, "b").open("k"):
            pass


def test_a_composite_that_does_not_match_is_corrupt_only_once_every_boundary_is_known(
    monkeypatch: pytest.MonkeyPatch, stubbed: S3Client
) -> None:
    """Parts of 10, 8, 12 and 5 bytes look alike by the first, the last and the number."""
    data = bytes(range(35))
    parts = [data[:10], data[10:18], data[18:30], data[30:]]
    digest = base64.b64decode(composite_of("ETAG", [checksum("ETAG", part) for part in parts])).hex()
    whole = PARTED | {"ETag": f'"{digest}-4"'}
    arrives = data

    def head(*, PartNumber: int = 0, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        return whole | ({"ContentLength": len(parts[PartNumber - 1]), "PartsCount": 4} if PartNumber else {})

    monkeypatch.setattr(stubbed, "head_object", head)
    monkeypatch.setattr(
        stubbed, "get_object", lambda **_: whole | {"Body": StreamingBody(io.BytesIO(arrives), len(arrives))}
    )
    source = S3Source(stubbed, "b")
    with pytest.raises(Moved, match="not of one size"), source.open("k") as body:
        list(pieces(body, 7))
    with source.open("k") as body:
        assert b"".join(pieces(body, 7)) == data
    arrives = data[:-1] + b"!"
    with pytest.raises(Corrupt), source.open("k") as body:
        list(pieces(body, 7))


@pytest.mark.parametrize("whole", [{"ChecksumType": "FULL_OBJECT", "ChecksumCRC32": "AAAAAA=="}], ids=["full object"])
def test_parts_are_not_asked_for_where_the_whole_has_a_checksum(stubbed: S3Client, whole: dict[str, str]) -> None:
    with Stubber(stubbed) as stub:
        stub.add_response("get_object", PARTED | whole | {"Body": StreamingBody(io.BytesIO(bytes(35)), 35)})
        with S3Source(stubbed, "b").open("k") as body:
            assert body.original.parts == ()


def test_a_multipart_upload_is_verified_by_its_parts(s3: S3Client, bucket: str) -> None:
    """moto does not answer by part number, so the answer about the first part is given in its place."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    bodies = [bytes([65 + number]) * (5 * MIB) for number in range(2)] + [b"end"]
    parts: Any = []
    for number, data in enumerate(bodies, 1):
        tag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=data)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    original = S3Source(s3, bucket).head("k")
    assert original is not None
    assert (set(original.composites), original.md5, dict(original.checksums)) == ({"ETAG"}, None, {})
    with S3Source(s3, bucket).open("k", at=original) as body:
        data = b"".join(pieces(body, MIB))
    verified = CheckedReader(io.BytesIO(data), replace(original, parts=tuple(S3Part(len(data)) for data in bodies)))
    assert b"".join(pieces(verified, MIB)) == b"".join(bodies)


def test_metadata_that_s3_keeps_back_are_not_lost_in_silence(
    monkeypatch: pytest.MonkeyPatch, stubbed: S3Client
) -> None:
    body = StreamingBody(io.BytesIO(b"x"), 1)
    said = ANSWER | {"MissingMeta": 2}
    monkeypatch.setattr(stubbed, "head_object", lambda **_: said)
    monkeypatch.setattr(stubbed, "get_object", lambda **_: said | {"Body": body})
    for look in (lambda: S3Source(stubbed, "b").head("k"), lambda: S3Source(stubbed, "b").open("k").__enter__()):
        with pytest.raises(Refused, match="does not return 2 of the user metadata of 'k'") as caught:
            look()
        assert caught.value.code == "SrcMetadataMissing"
    monkeypatch.setattr(stubbed, "head_object", lambda **_: ANSWER | {"MissingMeta": 0})
    assert S3Source(stubbed, "b").head("k") is not None


def test_expires_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch, stubbed: S3Client) -> None:
    monkeypatch.setattr(stubbed, "head_object", lambda **_: ANSWER | {"ExpiresString": "whenever"})
    original = S3Source(stubbed, "b").head("k")
    assert original is not None
    assert original.expires == "whenever"


def test_an_object_that_keeps_going_before_its_tags_are_read_is_unavailable(stubbed: S3Client) -> None:
    with Stubber(stubbed) as stub:
        for _ in range(LOOKS):
            stub.add_response("head_object", ANSWER)
            stub.add_client_error("get_object_tagging", "NoSuchKey", "", 404)
        with pytest.raises(Unavailable):
            S3Source(stubbed, "b", with_tags=True).head("k")


@pytest.mark.parametrize(
    ("etag", "answer", "known"),
    [
        ("00000000000000000000000000000000", {}, True),
        ("00000000000000000000000000000000", {"ServerSideEncryption": "AES256"}, True),
        ("00000000000000000000000000000000", {"ServerSideEncryption": "aws:kms"}, False),
        ("00000000000000000000000000000000", {"ServerSideEncryption": "aws:kms:dsse"}, False),
        ("00000000000000000000000000000000-2", {}, False),
        ("", {}, False),
        ("0000000000000000000000000000000Z", {}, False),
    ],
)
def test_an_etag_is_an_md5_only_of_a_plain_single_part(etag: str, answer: dict[str, str], *, known: bool) -> None:
    assert (_md5_of(etag, answer) is not None) == known


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ("plain", "plain"),
        ("", ""),
        ("=?UTF-8?B?Wm/Dqw==?=", "Zoë"),
        ("=?UTF-8?Q?Zo=C3=AB?=", "Zoë"),
        ("=?utf-8?q?=F0=9F=97=82?=", "🗂"),
        ("=?UTF-8?B?Wm/Dqw==?= =?UTF-8?B?Wm/Dqw==?=", "ZoëZoë"),
        ("a =?UTF-8?Q?=C3=AB?= b", "a ë b"),
        ("=?ISO-8859-1?Q?Zo=EB?=", "Zoë"),
        ("=?no-such-charset?Q?Zo=EB?=", "=?no-such-charset?Q?Zo=EB?="),
        ("=?UTF-8?B?!!!?=", None),
        ("=?UTF-8?B?/w==?=", None),
        ("=?not encoded?=", "=?not encoded?="),
        ("1 =? 2 ?= 3", "1 =? 2 ?= 3"),
    ],
)
def test_user_metadata_is_decoded_from_rfc_2047(stored: str, meant: str | None) -> None:
    decoded = _decoded(stored)
    assert decoded == meant if meant is not None else isinstance(decoded, str)


def test_every_exception_there_is_is_translated() -> None:
    for error in (ValueError("x"), KeyError("x"), Exception("x"), RecursionError()):
        assert isinstance(_translate(error, "what"), Unavailable)


def test_a_null_version_is_pinned_by_its_etag_alone(
    s3: S3Client, bucket: str, source: S3Source, proxy: Proxy, original: Original
) -> None:
    """What was there before versioning can be overwritten once versioning is suspended."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    null = source.head("k")
    assert null is not None
    assert read(source, null) == DATA
    if null.version_id == "null":
        assert "versionId" not in proxy.gets()[-1].path
