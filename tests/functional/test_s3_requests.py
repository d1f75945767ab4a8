"""The requests made by hand: what they ask, that boto3 would read the same, and when boto3 is asked instead."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from handler.adapters import retry
from handler.adapters import s3_client as module
from handler.adapters.http_connection import Broken
from handler.adapters.retry import TRIES
from handler.adapters.s3 import S3Source, _failures
from handler.adapters.s3_answer import _ANSWERED
from handler.adapters.s3_client import S3Requests
from handler.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.model import MIB, Original, Span
from handler.transfer import pieces
from tests.conftest import s3_client, s3_requests
from tests.functional.blackhole import relay_to
from tests.functional.scripted import HANG_UP, Scripted, answer, scripted

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ROOT = Path(__file__).parents[2]
PLAIN = b'ETag: "5d41402abc4b2a76b9719d911017c592"\r\nLast-Modified: Sun, 22 Nov 2026 20:00:00 GMT\r\n'
HELLO = answer("200 OK", PLAIN, b"hello")


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """The pauses between tries, which are not made."""
    return []


@pytest.fixture
def client(server: Scripted, waits: list[float]) -> Iterator[S3Requests]:
    with closing(s3_requests(f"http://127.0.0.1:{server.port}", waits.append)) as client:
        yield client
        if client.boto3.cache_info().currsize:  # type: ignore[attr-defined] # tests.conftest makes it a cached one
            client.boto3().close()


@pytest.fixture
def source(client: S3Requests) -> S3Source:
    return S3Source(client, "b01", sleep=client._sleep)


def read(source: S3Source, key: str = "k", at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open(key, at=at, span=span) as body:
        return b"".join(pieces(body, 4096))


# --- what the answer says, and that boto3 would say the same


def test_every_header_has_boto3s_name_and_type() -> None:
    """Expires is the one that botocore renames, and only a HEAD tells of archives."""
    model = botocore.session.get_session().get_service_model("s3")
    members = {
        (shape.serialization["name"].lower(), name): shape.type_name
        for operation in ("HeadObject", "GetObject")
        for name, shape in model.operation_model(operation).output_shape.members.items()  # type: ignore[union-attr] # both answer
        if shape.serialization.get("location") == "header"
    }
    kinds = {"string": str, "integer": int, "long": int}
    for header, (name, typed) in _ANSWERED.items():
        kind = members[header, "Expires" if name == "ExpiresString" else name]
        if kind != "timestamp":
            assert kinds[kind] is typed, name
        else:
            assert name in {"LastModified", "ExpiresString", "ObjectLockRetainUntilDate"}


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
def test_an_answer_by_hand_is_boto3s(server: Scripted, client: S3Requests, headers: bytes) -> None:
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\n" + headers, b"hello")
    boto3 = client.boto3()
    for method in ("head_object", "get_object"):
        told = {**getattr(client, method)(Bucket="b01", Key="k", ChecksumMode="ENABLED")}
        boto3s = {**getattr(boto3, method)(Bucket="b01", Key="k", ChecksumMode="ENABLED")}
        assert [request.by_boto3 for request in server.requests[-2:]] == [False, True]
        if method == "get_object":
            assert told.pop("Body").read() == boto3s.pop("Body").read() == b"hello"
        assert told == {name: value for name, value in boto3s.items() if name in told}
        named = {name for name, _ in _ANSWERED.values()} | {"Metadata"}
        assert {*told} == {*boto3s} & named
    if b"missing-meta" not in headers:
        by_boto3 = S3Source(boto3, "b01")
        assert S3Source(client, "b01").head("k") == by_boto3.head("k")


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


@pytest.mark.parametrize("by", ["us", "boto3"])
@pytest.mark.parametrize(("raw", "meant"), RAW)
def test_a_header_of_raw_bytes_is_utf_8_where_it_can_be_and_else_latin_1(
    server: Scripted, client: S3Requests, by: str, raw: bytes, meant: str
) -> None:
    names = (b"Content-Disposition", b"Content-Language", b"Cache-Control", b"Content-Encoding", b"x-amz-meta-a")
    headers = b"".join(b"%s: %s\r\n" % (name, raw) for name in names)
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\n" + headers, b"hello")
    source = S3Source(client if by == "us" else client.boto3(), "b01")
    found = source.head("k")
    with source.open("k") as body:
        opened = body.original
        assert body.read() == b"hello"
    assert found is not None
    assert found.headers == opened.headers
    assert found.headers[1:] == (meant,) * 4
    assert found.user_metadata == opened.user_metadata == {"a": meant}


def test_an_expiry_of_nothing_is_none(server: Scripted, source: S3Source) -> None:
    """boto3 fails to parse it."""
    server.default = answer("200 OK", PLAIN + b"Content-Length: 5\r\nExpires:\r\n", b"hello")
    found = source.head("k")
    assert found is not None
    assert found.expires is None


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b'ETag: "0"\r\n',
        b"Last-Modified: Sun, 22 Nov 2026 20:00:00 GMT\r\n",
        b'ETag: "0"\r\nLast-Modified: yesterday\r\n',
        b'ETag: "0"\r\nLast-Modified: Sun, 22 Nov 2026 20:00:00 -0000\r\n',
        PLAIN + b"x-amz-tagging-count: many\r\n",
        PLAIN + b"Content-Encoding: none\r\n",
    ],
)
@pytest.mark.parametrize("method", ["head", "get"])
def test_an_answer_that_is_not_plainly_s3s_is_left_to_boto3(
    server: Scripted, client: S3Requests, method: str, odd: bytes
) -> None:
    server.answers.extend([answer("200 OK", odd), HELLO])
    assert getattr(client, f"{method}_object")(Bucket="b01", Key="k")["ContentLength"] == 5
    assert [request.by_boto3 for request in server.requests] == [False, True]


@pytest.mark.parametrize("odd", [b"Content-Length: five\r\n", b"Content-Length: 5\r\nContent-Length: 5\r\n"])
@pytest.mark.parametrize(("method", "by_boto3"), [("head", True), ("get", False)])
def test_a_length_that_is_none_is_left_to_boto3_only_where_no_body_has_it(
    server: Scripted, client: S3Requests, odd: bytes, method: str, *, by_boto3: bool
) -> None:
    server.answers.extend([answer("200 OK", PLAIN + odd), HELLO])
    told = getattr(client, f"{method}_object")(Bucket="b01", Key="k")
    assert told["ContentLength"] == 5
    if method == "get":
        assert told["Body"].read() == b"hello"
    assert [request.by_boto3 for request in server.requests] == [False, by_boto3]


def test_s3_is_asked_before_the_answer_is_awaited(server: Scripted, source: S3Source) -> None:
    server.answers.extend([HELLO, HELLO])
    first, second = source.open("a"), source.open("b")
    with second as body:
        assert body.read() == b"hello"
    assert {request.target for request in server.requests} >= {"/b01/b"}
    with first as body:
        assert body.read() == b"hello"
    assert sorted((request.connection, request.target) for request in server.requests) == [(1, "/b01/a"), (2, "/b01/b")]


def test_an_encoded_body_is_handed_on_as_it_is(server: Scripted, source: S3Source) -> None:
    import gzip
    import hashlib

    data = gzip.compress(b"hello" * 100)
    etag = b'ETag: "%s"\r\n' % hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
    headers = PLAIN.replace(PLAIN.split(b"\r\n")[0] + b"\r\n", etag) + b"Content-Encoding: gzip\r\n"
    server.default = answer("200 OK", headers + b"Content-Length: %d\r\n" % len(data), data)
    assert read(source) == data
    assert server.requests[0].headers["accept-encoding"] == "identity"


# --- what is asked


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("k", "/b01/k"),
        ("a/../b", "/b01/a/../b"),
        ("..", "/b01/.."),
        (".", "/b01/."),
        ("a/./b/", "/b01/a/./b/"),
        ("//", "/b01///"),
        ("/lead", "/b01//lead"),
        ("%2F", "/b01/%252F"),
        ("%", "/b01/%25"),
        ("a b+c", "/b01/a%20b%2Bc"),
        ("naïve/日本", "/b01/na%C3%AFve/%E6%97%A5%E6%9C%AC"),
        ("?versionId=1#x", "/b01/%3FversionId%3D1%23x"),
        ("~!*'()&=;:@$,", "/b01/~%21%2A%27%28%29%26%3D%3B%3A%40%24%2C"),
        ("line\r\nHost: elsewhere", "/b01/line%0D%0AHost%3A%20elsewhere"),
        ("x" * 1024, "/b01/" + "x" * 1024),
    ],
)
def test_a_key_is_sent_as_boto3_sends_it(server: Scripted, client: S3Requests, key: str, target: str) -> None:
    server.default = HELLO
    client.head_object(Bucket="b01", Key=key)
    client.boto3().head_object(Bucket="b01", Key=key)
    assert [(request.by_boto3, request.target) for request in server.requests] == [(False, target), (True, target)]


def test_all_that_is_asked_is_signed_and_sent(server: Scripted, client: S3Requests) -> None:
    server.default = answer("206 Partial Content", PLAIN, b"hell")
    asked: Any = {"Key": "k", "IfMatch": '"e"', "Range": "bytes=0-3", "VersionId": "a/+b", "ChecksumMode": "ENABLED"}
    client.get_object(Bucket="b01", **asked)["Body"].close()
    client.boto3().get_object(Bucket="b01", **asked)["Body"].close()
    ours, boto3s = server.requests
    assert ours.target == boto3s.target.replace("&x-id=GetObject", "")
    for name in ("if-match", "range", "x-amz-checksum-mode", "x-amz-content-sha256", "host", "accept-encoding"):
        assert ours.headers[name] == boto3s.headers[name], name
    signed = ours.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert set(ours.headers) - set(signed) == {"authorization", "user-agent", "accept-encoding"}


def test_credentials_are_the_environments_of_the_moment(
    server: Scripted, client: S3Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.default = HELLO
    for number in ("1", "2"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"key-{number}")
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"token-{number}")
        client.head_object(Bucket="b01", Key="k")
    for request, number in zip(server.requests, ("1", "2"), strict=True):
        assert request.headers["x-amz-security-token"] == f"token-{number}"
        assert f"Credential=key-{number}/" in request.headers["authorization"]


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    module._session_credentials.cache_clear()
    yield
    module._session_credentials.cache_clear()


@pytest.mark.usefixtures("no_keys")
def test_credentials_that_renew_themselves_are_asked_for_each_time(
    server: Scripted, client: S3Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under SnapStart, where they come by an endpoint of the container's."""
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)).isoformat()
    with scripted() as container:
        for number in range(3):
            told = f'{{"AccessKeyId": "key-{number}", "SecretAccessKey": "s", "Token": "t", "Expiration": "{soon}"}}'
            container.answers.append(answer("200 OK", b"", told.encode()))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{container.port}/")
        server.default = HELLO
        for _ in range(2):
            client.head_object(Bucket="b01", Key="k")
    used = [request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in server.requests]
    assert len(set(used)) == 2, used


@pytest.mark.usefixtures("no_keys")
def test_without_credentials_the_error_is_boto3s(source: S3Source, server: Scripted) -> None:
    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        source.head("k")
    assert server.requests == []


def test_half_a_credential_is_boto3s_to_judge(
    source: S3Source, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with pytest.raises((Unavailable, Refused)):
        source.head("k")
    assert server.requests == []


# --- when boto3 is asked


def error(status: str, code: str = "", body: bytes | None = None) -> bytes:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    return answer(
        status, b"Content-Type: application/xml\r\n" + b"Content-Length: %d\r\n" % len(body or text), body or text
    )


ASKED_AGAIN = [
    ("301 Moved Permanently", "PermanentRedirect"),
    ("307 Temporary Redirect", "TemporaryRedirect"),
    ("304 Not Modified", ""),
    ("400 Bad Request", "ExpiredToken"),
    ("400 Bad Request", "AuthorizationHeaderMalformed"),
    ("403 Forbidden", "RequestTimeTooSkewed"),
    ("403 Forbidden", "InvalidAccessKeyId"),
    ("404 Not Found", "NoSuchBucket"),
    ("404 Not Found", "SomethingElse"),
    ("412 Precondition Failed", "SomethingElse"),
    ("204 No Content", ""),
    ("206 Partial Content", ""),
]


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        (method, *row)
        for method in ("head", "get")
        for row in ASKED_AGAIN
        if method == "get" or row[0][:3] not in {"403", "404"}  # a HEAD says no more than those, which are final
    ],
)
def test_what_boto3_may_know_more_of_is_asked_of_boto3(
    server: Scripted, source: S3Source, method: str, status: str, code: str
) -> None:
    server.answers.append(error(status, code))
    server.default = HELLO
    if method == "head":
        assert source.head("k") is not None
    else:
        assert read(source) == b"hello"
    assert [request.by_boto3 for request in server.requests] == [False, True]
    assert server.requests[0].target == server.requests[1].target.removesuffix("?x-id=GetObject")


PASSES = [
    ("429 Too Many Requests", "SlowDown"),
    ("500 Internal Server Error", "InternalError"),
    ("503 Service Unavailable", "SlowDown"),
]


@pytest.mark.parametrize("method", ["head", "get"])
@pytest.mark.parametrize(("status", "code"), PASSES)
def test_what_passes_is_tried_again_in_place(
    server: Scripted, source: S3Source, waits: list[float], method: str, status: str, code: str
) -> None:
    server.answers.extend([error(status, code)] * 2)
    server.default = HELLO
    assert (source.head("k") is not None) if method == "head" else (read(source) == b"hello")
    assert [request.by_boto3 for request in server.requests] == [False] * 3
    assert len(waits) == 2
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize("method", ["head", "get"])
@pytest.mark.parametrize(("status", "code"), PASSES)
def test_what_does_not_pass_is_unavailable_after_as_many_tries_as_there_are(
    server: Scripted, source: S3Source, method: str, status: str, code: str
) -> None:
    server.default = error(status, code)
    with pytest.raises(Unavailable) as caught:
        source.head("k") if method == "head" else read(source)
    assert caught.value.code == (f"Src{status[:3]}" if method == "head" else f"Src{code}")
    assert [request.by_boto3 for request in server.requests] == [False] * TRIES


def test_a_retry_after_of_s3_is_waited_for(server: Scripted, source: S3Source, waits: list[float]) -> None:
    server.answers.append(error("503 Service Unavailable", "SlowDown").replace(b"\r\n", b"\r\nRetry-After: 5\r\n", 1))
    server.default = HELLO
    assert read(source) == b"hello"
    assert 5 <= waits[0] <= 6


@pytest.mark.parametrize("trouble", [error("503 Service Unavailable", "SlowDown"), HANG_UP])
def test_what_only_boto3_asks_is_tried_again_by_the_same_policy(
    server: Scripted, client: S3Requests, waits: list[float], trouble: bytes
) -> None:
    """Its own client tries once."""
    tags = b"<?xml version='1.0'?><Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    server.answers.extend([trouble, trouble, answer("200 OK", b"", tags)])
    assert client.get_object_tagging(Bucket="b01", Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert [request.by_boto3 for request in server.requests] == [True] * 3
    assert len(waits) == 2


def test_what_boto3_is_denied_is_not_asked_again(server: Scripted, client: S3Requests) -> None:
    server.default = error("403 Forbidden", "AccessDenied")
    with pytest.raises(ClientError):
        client.get_object_tagging(Bucket="b01", Key="k")
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["head", "get"])
def test_a_connection_that_died_in_silence_costs_one_trys_silence(
    server: Scripted, waits: list[float], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The kept connection is blackholed; the request succeeds by a new one, and boto3 is not asked."""
    monkeypatch.setattr(retry, "SILENCE", 0.3)
    monkeypatch.setattr(retry, "LEAST", 0.3)
    server.default = HELLO
    with relay_to(f"http://127.0.0.1:{server.port}") as relay, closing(s3_requests(relay.url, waits.append)) as client:
        source = S3Source(client, "b01", sleep=waits.append)
        assert source.head("k") is not None
        relay.blackhole()
        started = time.monotonic()
        assert (source.head("k") is not None) if method == "head" else (read(source) == b"hello")
        assert 0.3 <= time.monotonic() - started < 0.6
    assert [request.by_boto3 for request in server.requests] == [False, False]
    assert (relay.connections, len(waits)) == (2, 1)


def test_a_connection_that_dies_in_silence_in_the_middle_of_a_body_costs_one_trys_silence(
    s3: S3Client, s3_url: str, bucket: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "SILENCE", 0.3)
    monkeypatch.setattr(retry, "LEAST", 0.3)
    data = os.urandom(20 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    with relay_to(s3_url) as relay, closing(s3_requests(relay.url, waits.append)) as client:
        with S3Source(client, bucket, sleep=waits.append).open("k") as body:
            found = body.read(MIB)
            relay.blackhole()
            started = time.monotonic()
            while len(found) < len(data):
                found += body.read(MIB)
            assert 0.3 <= time.monotonic() - started < 3
        assert found == data
    assert (relay.connections, waits) == (2, [])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("403 Forbidden", "AccessDenied", Refused),
        ("403 Forbidden", "InvalidObjectState", Refused),
        ("404 Not Found", "NoSuchKey", Moved),
        ("404 Not Found", "NoSuchVersion", Moved),
        ("405 Method Not Allowed", "MethodNotAllowed", Moved),
        ("412 Precondition Failed", "PreconditionFailed", Moved),
        ("416 Range Not Satisfiable", "InvalidRange", Moved),
    ],
)
def test_what_is_final_costs_one_request_and_reads_as_boto3s(
    server: Scripted, client: S3Requests, status: str, code: str, kind: type[ReplicationError]
) -> None:
    server.default = error(status, code)
    with pytest.raises(kind) as ours:
        read(S3Source(client, "b01"))
    assert [request.by_boto3 for request in server.requests] == [False]
    with pytest.raises(kind) as boto3s:
        read(S3Source(client.boto3(), "b01"))
    assert (str(ours.value), ours.value.code) == (str(boto3s.value), boto3s.value.code)


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found"])
def test_a_bare_head_reads_as_boto3s(server: Scripted, client: S3Requests, status: str) -> None:
    server.default = answer(status)
    errors = []
    for each in (client, client.boto3()):
        with pytest.raises(ClientError) as caught:
            each.head_object(Bucket="b01", Key="k")
        errors.append(
            (
                str(caught.value).replace(" (reached max retries: 0)", ""),
                caught.value.response["Error"],
                caught.value.operation_name,
            )
        )
    assert errors[0] == errors[1]
    assert [request.by_boto3 for request in server.requests] == [False, True]


@pytest.mark.parametrize("body", [b"<html>AccessDenied</html>", b"\xff" * 100, b"x" * 70000, b"<Code></Code>"])
@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found"])
def test_an_error_that_is_not_plainly_s3s_is_left_to_boto3(
    server: Scripted, source: S3Source, status: str, body: bytes
) -> None:
    server.answers.append(error(status, body=body))
    server.default = HELLO
    assert read(source) == b"hello"


BAD = [HANG_UP, b"HTTP/1.1 twohundred\r\n\r\n", b"no http at all\r\n\r\n"]


@pytest.mark.parametrize("told", BAD)
def test_a_new_connection_that_fails_is_followed_by_another(server: Scripted, source: S3Source, told: bytes) -> None:
    server.answers.append(told)
    server.default = HELLO
    assert source.head("k") is not None
    assert [(request.by_boto3, request.connection) for request in server.requests] == [(False, 1), (False, 2)]


@pytest.mark.parametrize("told", BAD)
@pytest.mark.parametrize("method", ["head", "get"])
def test_a_kept_connection_that_fails_costs_no_pause(
    server: Scripted, source: S3Source, method: str, told: bytes
) -> None:
    """As after a pause of the function's: S3 closes what is idle for some seconds."""
    server.default = HELLO
    server.answers.extend([HELLO, told])
    assert source.head("k") is not None
    assert (source.head("k") is not None) if method == "head" else (read(source) == b"hello")
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert not any(request.by_boto3 for request in server.requests)
    assert source.head("k") is not None
    assert server.requests[-1].connection == 2


def test_nothing_is_tried_again_once_time_is_over(server: Scripted, client: S3Requests) -> None:
    client._time_left = lambda: 0.0
    server.answers.append(HANG_UP)
    with pytest.raises(Unavailable):
        S3Source(client, "b01").head("k")
    assert [request.by_boto3 for request in server.requests] == [False]


def test_a_kept_connection_and_a_new_one_that_fail_are_followed_by_another(server: Scripted, source: S3Source) -> None:
    server.default = HELLO
    server.answers.extend([HELLO, HANG_UP, HANG_UP])
    for _ in range(2):
        assert source.head("k") is not None
    assert [request.connection for request in server.requests] == [1, 1, 2, 3]
    assert not any(request.by_boto3 for request in server.requests)


def test_a_bucket_in_another_region_is_boto3s_from_then_on(server: Scripted, source: S3Source) -> None:
    server.answers.append(error("301 Moved Permanently", "PermanentRedirect"))
    server.default = HELLO
    for _ in range(2):
        assert source.head("k") is not None
    assert [request.by_boto3 for request in server.requests] == [False, True, True]


def test_the_head_of_a_part_is_asked_for_by_hand(server: Scripted, client: S3Requests) -> None:
    server.default = HELLO.replace(b"200 OK", b"206 Partial Content", 1)
    assert client.head_object(Bucket="b01", Key="k", PartNumber=7, VersionId="v")["ContentLength"] == 5
    (request,) = server.requests
    assert not request.by_boto3
    assert request.target.endswith("/k?partNumber=7&versionId=v")


def test_a_request_of_another_kind_is_boto3s(server: Scripted, client: S3Requests) -> None:
    server.default = HELLO
    client.head_object(Bucket="b01", Key="k", IfNoneMatch="x")
    client.head_object(Bucket="Upper", Key="k")
    assert [request.by_boto3 for request in server.requests] == [True, True]


def test_no_error_text_holds_a_credential(
    server: Scripted, source: S3Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unspeakable-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "unspeakable-token")
    caplog.set_level("DEBUG", "urllib3")
    said = []
    failing = [row for row in ASKED_AGAIN if row[0] >= "3"]
    for status, code in [*failing, *PASSES, ("403 Forbidden", "AccessDenied"), ("404 Not Found", "NoSuchKey")]:
        server.answers.extend([error(status, code)] * TRIES)  # by hand again and again, or by boto3 once
        with pytest.raises(ReplicationError) as caught:
            read(source)
        server.answers.clear()
        said.append("".join(traceback.format_exception_only(caught.value)) + repr(caught.value.__cause__))
    with pytest.raises(Unavailable) as caught:
        read(source)
    text = " ".join([*said, repr(caught.value), repr(caught.value.__cause__), caplog.text])
    assert "unspeakable" not in text
    assert "Signature=" not in text


# --- connections


def test_a_hundred_requests_take_one_connection(server: Scripted, source: S3Source) -> None:
    server.default = HELLO
    for number in range(50):
        assert source.head(f"{number}") is not None
        assert read(source, f"{number}") == b"hello"
    assert len(server.requests) == 100
    assert {request.connection for request in server.requests} == {1}


def test_empty_bodies_and_final_errors_leave_the_connection_as_it_was(server: Scripted, client: S3Requests) -> None:
    source = S3Source(client, "b01")
    empty = PLAIN.replace(b"5d41402abc4b2a76b9719d911017c592", b"d41d8cd98f00b204e9800998ecf8427e")
    for _ in range(5):
        server.answers.extend([answer("200 OK", empty), error("404 Not Found", "NoSuchKey"), answer("404 Not Found")])
        assert read(source) == b""
        with pytest.raises(Moved):
            read(source)
        with pytest.raises(ClientError):
            client.head_object(Bucket="b01", Key="k")
    server.default = HELLO
    client.head_bucket(Bucket="b01")
    assert {request.connection for request in server.requests} == {1}
    assert server.requests[-1].target == "/b01/"


def test_a_body_that_is_not_read_to_its_end_costs_its_connection_alone(server: Scripted, source: S3Source) -> None:
    server.default = HELLO
    for _ in range(3):
        with source.open("k") as body:
            assert body.read(1) == b"h"
    assert read(source) == b"hello"
    assert [request.connection for request in server.requests] == [1, 2, 3, 4]


def test_a_body_that_ends_early_goes_on_where_it_ended(server: Scripted, source: S3Source) -> None:
    server.answers.append(answer("200 OK", PLAIN + b"Content-Length: 5\r\n", b"he"))
    server.answers.append(
        answer("206 Partial Content", PLAIN + b"Content-Range: bytes 2-4/5\r\nContent-Length: 3\r\n", b"llo")
    )
    assert read(source) == b"hello"
    assert server.requests[1].headers["range"] == "bytes=2-4"
    assert [request.by_boto3 for request in server.requests] == [False, False]


def test_a_byte_changed_on_the_way_is_corrupt(server: Scripted, source: S3Source) -> None:
    server.default = answer("200 OK", PLAIN, b"hallo")
    with pytest.raises(Corrupt):
        read(source)


def test_threads_share_connections_and_boto3(server: Scripted, source: S3Source) -> None:
    server.default = HELLO
    started = threading.Barrier(8)

    def work(number: int) -> None:
        started.wait()
        for turn in range(20):
            assert read(source, f"{number}-{turn}") == b"hello"

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert len(server.requests) == 160
    assert len({request.connection for request in server.requests}) <= 8


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; its key is in the file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(hours=1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(alternative, critical=True).sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    return file


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.1", False)])
def test_only_whom_the_authorities_know_by_this_name_is_trusted(
    certificate: Path, host: str, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    environment = {**os.environ, **({"AWS_CA_BUNDLE": str(certificate)} if trusted else {})}
    for name in environment.keys() & {"AWS_CA_BUNDLE"}:
        monkeypatch.setenv(name, environment[name])
    with scripted(tls) as server:
        server.default = HELLO
        url = f"https://{host}:{server.port}"
        environment = {**environment, "AWS_ENDPOINT_URL_S3": url}
        client = S3Requests(cache(lambda: s3_client(url)), environment=environment, sleep=lambda _: None)
        source = S3Source(client, "b01")
        if trusted and host == "127.0.0.1":
            assert source.head("k") is not None
            assert [request.by_boto3 for request in server.requests] == [False]
        else:
            with pytest.raises(Unavailable, match=r"certificate|hostname"):
                source.head("k")
            assert server.requests == []
            client.boto3().close()
        client.close()


def test_of_a_real_server_both_say_the_same(s3: S3Client, s3_url: str, versioned_bucket: str) -> None:
    meta = {"owner": "bo", "Upper": "Kept", "empty": "", "odd": "=?UTF-8?B?Wm/Dqw==?="}
    expires = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    given: Any = {"ContentType": "text/csv", "ContentEncoding": "gzip", "CacheControl": "no-store", "Expires": expires}
    with closing(s3_requests(s3_url)) as client:
        for algorithm in ("CRC32", "SHA1", "SHA256"):
            s3.put_object(
                Bucket=versioned_bucket, Key="k", Body=b"hello", Metadata=meta, Tagging="a=b",
                StorageClass="GLACIER_IR", ChecksumAlgorithm=algorithm, **given,
            )  # fmt: skip
            ours, boto3s = (
                S3Source(client, versioned_bucket, with_tags=True),
                S3Source(s3, versioned_bucket, with_tags=True),
            )
            assert ours.head("k") == boto3s.head("k")
            with ours.open("k") as one, boto3s.open("k") as other:
                assert one.original == other.original
        s3.delete_object(Bucket=versioned_bucket, Key="k")
        assert ours.head("k") is None
        client.boto3().close()


def test_the_body_breaks_in_no_other_way_than_is_known() -> None:
    """`_ResumingStream` takes up what our own raises, and boto3's, which is urllib3's."""
    assert issubclass(Broken, _failures())
    assert HTTPError in _failures()


LOOK = """
import os, sys
from types import SimpleNamespace
from handler import app, config
service = app.Service(config.load(os.environ))
service.deadline.begin(SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
source = service._source("b01", False)
assert source.head("k").size == 5
with source.open("k") as body:
    assert body.read() == b"hello"
slow = ("boto3", "botocore.session", "botocore.auth", "botocore.client", "urllib3")
print(sorted(name for name in slow if name in sys.modules))
"""


def test_a_cold_start_loads_no_boto3(server: Scripted) -> None:
    server.default = HELLO
    rule = '[{"ID": "r", "Source": {"Bucket": "b01"}, "Destination": {"Bucket": "file:///tmp"}}]'
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.port}",
        "REPLICATION_RULES": rule,
        "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1:9/1/letters",
        "PARTS_QUEUE_URL": "http://127.0.0.1:9/1/parts",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, env=environment, cwd=ROOT, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
