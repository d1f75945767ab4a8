"""What `Source` promises, proved on S3's API and on the fake alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from handler.adapters.s3.source import S3Source
from handler.core.errors import Moved, Refused
from handler.core.model import KIB, Headers, Original, Span
from handler.core.ports import Source
from handler.core.readers import even_chunks
from tests.conftest import s3_requests
from tests.fakes import MemorySource, md5

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

HEADERS = Headers(
    content_type="text/csv",
    content_encoding="gzip",
    content_disposition='attachment; filename="a.csv"',
    content_language="de",
    cache_control="max-age=60",
)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One source, and its user."""

    source: Source
    versioned: bool
    put: Callable[..., object]
    """Key, bytes, and by name: headers, metadata, tags."""
    delete: Callable[[str], object]
    tag: Callable[[str, Mapping[str, str]], object]


def _memory(versioned: bool) -> Bucket:  # noqa: FBT001 - one of two kinds, named where it is called
    source = MemorySource(versioned=versioned)

    def put(
        key: str,
        data: bytes,
        headers: Headers = Headers(),
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        source.put(key, data, headers=headers, user_metadata=metadata or {}, tags=tags or {})

    return Bucket(source=source, versioned=versioned, put=put, delete=source.delete, tag=source.tag)


def _s3(client: S3Client, source: Source, name: str, *, versioned: bool) -> Bucket:
    def put(
        key: str,
        data: bytes,
        headers: Headers = Headers(),
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        named = {"".join(map(str.capitalize, field.split("_"))): value for field, value in headers._asdict().items()}
        given: dict[str, Any] = {field: value for field, value in named.items() if value is not None}
        if tags:
            given["Tagging"] = "&".join(f"{field}={value}" for field, value in tags.items())
        client.put_object(Bucket=name, Key=key, Body=data, Metadata=dict(metadata or {}), **given)

    def tag(key: str, tags: Mapping[str, str]) -> None:
        listed: Any = [{"Key": field, "Value": value} for field, value in tags.items()]
        client.put_object_tagging(Bucket=name, Key=key, Tagging={"TagSet": listed})

    return Bucket(
        source=source,
        versioned=versioned,
        put=put,
        delete=lambda key: client.delete_object(Bucket=name, Key=key),
        tag=tag,
    )


@pytest.fixture
def origin(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """One source, empty. `conftest.py` lists the kinds."""
    kind, _, versioned = request.param.partition(" ")
    if kind == "memory":
        yield _memory(bool(versioned))
        return
    if kind.endswith("-url"):
        s3, bucket = request.getfixturevalue("other_s3")
        if versioned:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        url = request.config.getoption("--s3-url")
    else:
        bucket = request.getfixturevalue("versioned_bucket" if versioned else "bucket")
        s3, url = request.getfixturevalue("s3"), request.getfixturevalue("s3_url")
    with closing(s3_requests(url)) as requests:
        source = S3Source(requests, bucket, with_tags=True)
        yield _s3(s3, source, bucket, versioned=bool(versioned))


def read(source: Source, key: str, *, at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open(key, at=at, span=span) as body:
        return b"".join(even_chunks(body, 64 * KIB))


def head(origin: Bucket, key: str = "k") -> Original:
    original = origin.source.head(key)
    assert original is not None
    return original


def test_absence_is_none(origin: Bucket) -> None:
    assert origin.source.head("nothing/here") is None
    origin.put("k", b"x")
    assert origin.source.head("K") is None


def test_head_says_all_there_is_to_say(origin: Bucket) -> None:
    origin.put("k", b"Sample data\n", headers=HEADERS, metadata={"owner": "bo"}, tags={"team": "red"})
    original = head(origin)
    assert (original.key, original.size, original.headers) == ("k", 12, HEADERS)
    assert (dict(original.user_metadata), dict(original.tags)) == ({"owner": "bo"}, {"team": "red"})
    assert (original.md5, original.archived, original.storage_class) == (md5(b"Sample data\n"), False, "STANDARD")
    assert original.last_modified.tzinfo is not None
    assert (original.version_id is not None) == origin.versioned
    assert '"' not in original.etag


def test_open_and_head_speak_of_one_state(origin: Bucket) -> None:
    origin.put("k", b"data", headers=HEADERS, metadata={"owner": "bo"}, tags={"team": "red"})
    with origin.source.open("k") as body:
        opened = body.original
        assert body.size == 4
    assert opened.state == head(origin).state
    assert opened == head(origin)


@pytest.mark.parametrize(
    "key",
    [
        "k",
        "a/b",
        "dir/",
        "//",
        "/lead",
        "one two+three",
        "naïve/日本.txt",
        "%2F",
        "x" * 1024,
        "a/../b",
        "a/./b",
        ".a",
        "a//b/",
        "a?b=c",
        "a#b",
        "a&b;c=d",
        "~!*'()",
        "%2f%zz",
        "a\\b",
        "tab\tend",
        "\x7f",
    ],
)
def test_keys_are_taken_as_they_are(origin: Bucket, key: str) -> None:
    origin.put(key, key.encode())
    assert head(origin, key).key == key
    assert read(origin.source, key) == key.encode()


def test_an_empty_object_is_there_and_empty(origin: Bucket) -> None:
    origin.put("k", b"")
    assert head(origin).size == 0
    assert read(origin.source, "k") == b""
    assert read(origin.source, "k", at=head(origin)) == b""


def test_a_state_can_be_read_as_often_as_it_lasts(origin: Bucket) -> None:
    data = bytes(range(256)) * 1000
    origin.put("k", data)
    original = head(origin)
    assert read(origin.source, "k", at=original) == data
    assert read(origin.source, "k", at=original) == data


@pytest.mark.parametrize("span", [Span(0, 1), Span(0, 1000), Span(1, 999), Span(999, 1000), Span(500, 501)])
def test_a_span_is_just_those_bytes(origin: Bucket, span: Span) -> None:
    data = bytes(number % 251 for number in range(1000))
    origin.put("k", data)
    with origin.source.open("k", at=head(origin), span=span) as body:
        assert body.size == span.size
        assert b"".join(even_chunks(body, 7)) == data[span.start : span.stop]


@pytest.mark.parametrize("span", [None, Span(1, 3)], ids=["whole", "span"])
@pytest.mark.parametrize("data", [b"newer", b"equal"], ids=["other bytes", "the same bytes"])
def test_what_was_overwritten_is_moved_or_the_old_version(origin: Bucket, span: Span | None, data: bytes) -> None:
    origin.put("k", b"equal", metadata={"state": "1"})
    old = head(origin)
    origin.put("k", data, metadata={"state": "2"})
    if origin.versioned:
        assert read(origin.source, "k", at=old, span=span) == (b"equal" if span is None else b"qu")
    elif data != b"equal":
        with pytest.raises(Moved):
            read(origin.source, "k", at=old, span=span)
    assert read(origin.source, "k") == data


@pytest.mark.parametrize("span", [None, Span(1, 3)], ids=["whole", "span"])
def test_what_was_deleted_is_moved_or_the_old_version(origin: Bucket, span: Span | None) -> None:
    origin.put("k", b"data")
    old = head(origin)
    origin.delete("k")
    assert origin.source.head("k") is None
    if origin.versioned:
        assert read(origin.source, "k", at=old, span=span) == (b"data" if span is None else b"at")
    else:
        with pytest.raises(Moved):
            read(origin.source, "k", at=old, span=span)
    with pytest.raises(Moved):
        read(origin.source, "k")


def test_opening_what_never_was_is_moved(origin: Bucket) -> None:
    with pytest.raises(Moved):
        read(origin.source, "k")


def test_put_delete_put_is_another_state_where_versions_tell(origin: Bucket) -> None:
    origin.put("k", b"data")
    first = head(origin)
    origin.delete("k")
    origin.put("k", b"data")
    assert head(origin).etag == first.etag
    if origin.versioned:
        assert head(origin).state != first.state


def test_new_tags_are_seen_and_are_no_new_state(origin: Bucket) -> None:
    origin.put("k", b"data", tags={"team": "red"})
    before = head(origin)
    origin.tag("k", {"team": "blue", "tier": "1"})
    after = head(origin)
    assert (dict(before.tags), dict(after.tags)) == ({"team": "red"}, {"team": "blue", "tier": "1"})
    assert after.state == before.state
    assert read(origin.source, "k", at=before) == b"data"


def test_a_body_need_not_be_read_to_its_end(origin: Bucket) -> None:
    data = bytes(300 * KIB)
    origin.put("k", data)
    with origin.source.open("k") as body:
        assert body.read(10) == data[:10]
    assert read(origin.source, "k") == data


# --- S3 alone


def test_a_missing_bucket_is_refused_and_never_an_absent_object(s3_url: str) -> None:
    with closing(s3_requests(s3_url)) as requests:
        source = S3Source(requests, "no-such-bucket-anywhere")
        with pytest.raises(Refused) as caught:
            source.head("k")
        assert caught.value.code == "SrcBucketNotFound"
        with pytest.raises(Refused) as caught, source.open("k"):
            pass
        assert caught.value.code == "SrcBucketNotFound"


def test_tags_are_not_asked_for_where_no_rule_needs_them(s3: S3Client, s3_url: str, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="team=red")
    with closing(s3_requests(s3_url)) as requests:
        original = S3Source(requests, bucket).head("k")
    assert original is not None
    assert dict(original.tags) == {}
