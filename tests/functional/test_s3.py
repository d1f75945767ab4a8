"""The S3 source over real connections that break, lie and answer oddly."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from handler.adapters.retry import LONGEST_PAUSE, TRIES
from handler.adapters.s3.chunks import CHUNK
from handler.adapters.s3.client import S3Requests
from handler.adapters.s3.source import S3Source
from handler.core.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.core.model import KIB, MIB, Original, S3Part, Span
from handler.core.readers import CheckedReader, even_chunks
from tests.conftest import s3_requests
from tests.fakes import crc32c
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every, fault_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DATA = random.Random(1).randbytes(300 * KIB + 17)  # noqa: S311 - bytes, not a secret
LARGE = random.Random(2).randbytes(20 * MIB)  # noqa: S311 - the same


@pytest.fixture
def proxy(s3_url: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_url) as proxy:
        yield proxy
        proxy.check()


class Slept(list[float]):
    """Notes how long it was to sleep, and does not."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
def left() -> list[float]:
    """Seconds that there are; a test takes them away."""
    return [600.0]


@pytest.fixture
def client(proxy: FaultProxy, slept: Slept, left: list[float]) -> Iterator[S3Requests]:
    with closing(s3_requests(proxy.url, slept, lambda: left[0])) as client:
        yield client
        client.boto3().close()


@pytest.fixture
def source(client: S3Requests, bucket: str) -> S3Source:
    return S3Source(client, bucket)


@pytest.fixture
def original(s3: S3Client, bucket: str, source: S3Source, proxy: FaultProxy) -> Original:
    """An object that is there; the requests it took to make it are forgotten."""
    s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    return found(source, proxy)


@pytest.fixture
def large(s3: S3Client, bucket: str, source: S3Source, proxy: FaultProxy) -> Original:
    """The same of three chunks."""
    s3.put_object(Bucket=bucket, Key="k", Body=LARGE)
    return found(source, proxy)


def found(source: S3Source, proxy: FaultProxy) -> Original:
    original = source.head("k")
    assert original is not None
    proxy.requests.clear()
    return original


def read(source: S3Source, at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open("k", at=at, span=span) as body:
        return b"".join(even_chunks(body, 16 * KIB if body.size < MIB else CHUNK))


# --- requests that break, and are asked again


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "as it is"])
def test_a_read_that_breaks_is_asked_for_again(
    source: S3Source, original: Original, proxy: FaultProxy, *, is_pinned: bool
) -> None:
    proxy.plan(every("GET"), PlannedFault(cut_answer=100_000))
    assert read(source, original if is_pinned else None) == DATA
    first, second = proxy.gets()
    for request in (first, second):
        assert "Range" not in request.headers
        assert request.headers.get("If-Match") == (f'"{original.etag}"' if is_pinned else None)


def test_a_span_that_breaks_is_asked_for_again(source: S3Source, original: Original, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), PlannedFault(cut_answer=50_000))
    assert read(source, original, Span(1000, 200_000)) == DATA[1000:200_000]
    assert [request.headers["Range"] for request in proxy.gets()] == ["bytes=1000-199999"] * 2
    assert {request.headers["If-Match"] for request in proxy.gets()} == {f'"{original.etag}"'}


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "as it is"])
def test_a_large_object_is_a_series_of_pinned_ranges(
    source: S3Source, large: Original, proxy: FaultProxy, *, is_pinned: bool
) -> None:
    assert read(source, large if is_pinned else None) == LARGE
    gets = proxy.gets() if is_pinned else proxy.gets()[1:]  # what is larger than a chunk is not read to see it
    bounds = [0, CHUNK, 2 * CHUNK, len(LARGE)]
    assert [get.headers["Range"] for get in gets] == [
        f"bytes={start}-{stop - 1}" for start, stop in itertools.pairwise(bounds)
    ]
    assert {get.headers["If-Match"] for get in gets} == {f'"{large.etag}"'}


def test_of_a_large_object_only_the_chunk_that_broke_is_asked_for_again(
    source: S3Source, large: Original, proxy: FaultProxy
) -> None:
    proxy.plan(every("GET"), PlannedFault(), PlannedFault(cut_answer=5 * MIB))
    assert read(source, large, Span(10, len(LARGE))) == LARGE[10:]
    starts = [int(get.headers["Range"].removeprefix("bytes=").partition("-")[0]) for get in proxy.gets()]
    assert sorted(starts) == [10, CHUNK + 10, CHUNK + 10, 2 * CHUNK + 10]


def test_a_chunk_is_read_ahead_and_no_more(source: S3Source, large: Original, proxy: FaultProxy) -> None:
    with source.open("k", at=large) as body:
        assert len(proxy.gets()) == 1, "none is fetched before it is known that any is read"
        assert body.read(1) == LARGE[:1]
        assert len(body.read(CHUNK)) == CHUNK - 1
        assert body.read(1) == LARGE[CHUNK : CHUNK + 1]
        assert len(body.read(CHUNK)) == CHUNK - 1
    assert len(proxy.gets()) <= 3


def test_a_version_that_breaks_is_read_in_that_version(
    s3: S3Client, versioned_bucket: str, source: S3Source, proxy: FaultProxy
) -> None:
    old = s3.put_object(Bucket=versioned_bucket, Key="k", Body=DATA)["VersionId"]
    state = source.head("k")
    proxy.plan(
        every("GET"),
        PlannedFault(cut_answer=100_000, then=lambda: s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"newer")),
    )
    assert read(source, state) == DATA
    assert all(f"versionId={old}" in request.path for request in proxy.gets())


def test_no_read_goes_on_once_time_is_over(source: S3Source, large: Original, left: list[float]) -> None:
    with source.open("k", at=large) as body:
        assert len(body.read(CHUNK)) == CHUNK
        left[0] = 0.0
        with pytest.raises(Unavailable, match="no time is left to read on from byte") as caught:
            list(even_chunks(body, CHUNK))
    assert caught.value.code == "OutOfTime"


def test_a_connection_reset_loses_no_byte_and_doubles_none(
    source: S3Source, original: Original, proxy: FaultProxy
) -> None:
    proxy.plan(every("GET"), *(PlannedFault(cut_answer=cut, by_reset=True) for cut in (0, 1, 70_000, 10)))
    assert read(source, original) == DATA


def test_as_many_breaks_in_a_row_as_there_are_tries_are_unavailable(
    source: S3Source, original: Original, proxy: FaultProxy, slept: Slept
) -> None:
    proxy.plan(every("GET"), *(PlannedFault(cut_answer=10) for _ in range(TRIES)))
    with pytest.raises(Unavailable):
        read(source, original)
    assert len(proxy.gets()) == TRIES
    assert len(slept) == TRIES - 1
    assert all(pause <= min(2**number, LONGEST_PAUSE) for number, pause in enumerate(slept))


def test_one_break_less_in_a_row_is_not(source: S3Source, original: Original, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), *(PlannedFault(cut_answer=10) for _ in range(TRIES - 1)))
    assert read(source, original) == DATA


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
def test_an_object_that_changes_before_it_is_asked_for_again_is_moved(
    s3: S3Client, bucket: str, source: S3Source, original: Original, proxy: FaultProxy, change: str
) -> None:
    def do() -> None:
        if change == "deleted":
            s3.delete_object(Bucket=bucket, Key="k")
        else:
            s3.put_object(Bucket=bucket, Key="k", Body=DATA[::-1])

    proxy.plan(every("GET"), PlannedFault(cut_answer=100_000, then=do))
    with pytest.raises(Moved):
        read(source, original)


def test_a_large_object_that_changes_between_two_requests_is_moved(
    s3: S3Client, bucket: str, source: S3Source, large: Original, proxy: FaultProxy
) -> None:
    proxy.plan(every("GET"), PlannedFault(then=lambda: s3.put_object(Bucket=bucket, Key="k", Body=LARGE[::-1])))
    with pytest.raises(Moved):
        read(source, large)


def test_a_second_request_that_is_refused_is_refused(source: S3Source, original: Original, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), PlannedFault(cut_answer=10), PlannedFault(status=403, code="AccessDenied"))
    with pytest.raises(Refused):
        read(source, original)


def test_an_empty_object_takes_one_request(s3: S3Client, bucket: str, source: S3Source, proxy: FaultProxy) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert read(source) == b""
    assert len(proxy.gets()) == 1
    assert read(source, source.head("k")) == b""


# --- checksums


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC32C", "SHA1", "SHA256"])
@pytest.mark.parametrize("at", [0, 150_000, len(DATA) - 1])
def test_a_byte_that_arrives_wrong_is_corrupt(
    s3: S3Client, bucket: str, source: S3Source, proxy: FaultProxy, algorithm: str | None, at: int
) -> None:
    given: dict[str, Any] = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    if algorithm == "CRC32C":  # which botocore cannot compute by itself
        given["ChecksumCRC32C"] = crc32c(DATA)
    s3.put_object(Bucket=bucket, Key="k", Body=DATA, **given)
    assert read(source) == DATA
    proxy.plan(every("GET"), PlannedFault(flip_answer=at))
    with pytest.raises(Corrupt):
        read(source)


def test_a_byte_that_arrives_wrong_the_second_time_is_corrupt(
    source: S3Source, original: Original, proxy: FaultProxy
) -> None:
    proxy.plan(every("GET"), PlannedFault(cut_answer=100_000), PlannedFault(flip_answer=5))
    with pytest.raises(Corrupt):
        read(source, original)


# --- odd answers


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"<?xml version='1.0'?><Error/>"])
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_an_error_without_a_word_is_still_one_of_ours(
    source: S3Source, original: Original, proxy: FaultProxy, status: int, body: bytes
) -> None:
    proxy.plan(every("GET"), *[PlannedFault(status=status, body=body)] * TRIES)  # what passes is tried again
    with pytest.raises(ReplicationError):
        read(source, original)
    proxy.forgive()  # what does not pass is asked for once


def test_an_answer_that_is_no_xml_is_unavailable(
    proxy: FaultProxy, s3: S3Client, bucket: str, client: S3Requests
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    proxy.plan(every("GET"), *[PlannedFault(status=200, body=b"{}")] * TRIES)
    with pytest.raises(Unavailable):
        S3Source(client, bucket, with_tags=True).head("k")


def test_an_object_that_goes_before_its_tags_are_read_is_absent_and_never_moved(
    proxy: FaultProxy, s3: S3Client, bucket: str, client: S3Requests
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    proxy.plan(
        every("GET"), PlannedFault(status=404, code="NoSuchKey", then=lambda: s3.delete_object(Bucket=bucket, Key="k"))
    )
    assert S3Source(client, bucket, with_tags=True).head("k") is None


def test_nobody_at_the_address_is_unavailable() -> None:
    with closing(s3_requests("http://127.0.0.1:9")) as client, pytest.raises(Unavailable) as caught:
        S3Source(client, "b01").head("k")
    assert caught.value.code == "SrcUnreachable"


def test_a_multipart_upload_is_verified_by_its_parts(s3: S3Client, bucket: str, source: S3Source) -> None:
    """moto does not answer by part number, so the answer about the first part is given in its place."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    bodies = [bytes([65 + number]) * (5 * MIB) for number in range(2)] + [b"end"]
    parts: Any = []
    for number, data in enumerate(bodies, 1):
        tag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=data)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    original = source.head("k")
    assert original is not None
    assert (set(original.composites), original.md5, dict(original.checksums)) == ({"ETAG"}, None, {})
    with source.open("k", at=original) as body:
        data = b"".join(even_chunks(body, MIB))
    verified = CheckedReader(io.BytesIO(data), replace(original, parts=tuple(S3Part(len(data)) for data in bodies)))
    assert b"".join(even_chunks(verified, MIB)) == b"".join(bodies)


def test_a_null_version_is_pinned_by_its_etag_alone(
    s3: S3Client, bucket: str, source: S3Source, proxy: FaultProxy, original: Original
) -> None:
    """What was there before versioning can be overwritten once versioning is suspended."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    null = source.head("k")
    assert null is not None
    assert read(source, null) == DATA
    if null.version_id == "null":
        assert "versionId" not in proxy.gets()[-1].path
