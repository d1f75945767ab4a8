"""Requests to S3: what they ask, where they go, when they are tried again, and their connections."""

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

import pytest

from handler.adapters import retry, transport
from handler.adapters.retry import TRIES
from handler.adapters.s3 import client as module
from handler.adapters.s3.client import S3Requests
from handler.adapters.s3.source import S3Source
from handler.core.errors import Moved, Refused, ReplicationError, Unavailable
from handler.core.model import MIB, Original, Span
from handler.core.readers import even_chunks
from tests.conftest import s3_client, s3_requests
from tests.functional.fault_proxy import fault_proxy
from tests.functional.scripted import HANG_UP, HELLO, PLAIN, Scripted, answer, error_answer, scripted

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """The pauses between tries, which are not made."""
    return []


@pytest.fixture
def left() -> list[float]:
    """Seconds that there are; a test takes them away."""
    return [600.0]


@pytest.fixture
def client(server: Scripted, waits: list[float], left: list[float]) -> Iterator[S3Requests]:
    url = f"http://127.0.0.1:{server.port}"
    with closing(s3_requests(url, waits.append, lambda: left[0])) as client:
        yield client
        if client.boto3.cache_info().currsize:  # type: ignore[attr-defined] # tests.conftest makes it a cached one
            client.boto3().close()


@pytest.fixture
def source(client: S3Requests) -> S3Source:
    return S3Source(client, "b01")


def read(source: S3Source, key: str = "k", at: Original | None = None, span: Span | None = None) -> bytes:
    with source.open(key, at=at, span=span) as body:
        return b"".join(even_chunks(body, 4096))


def regions(server: Scripted) -> list[str]:
    """Return the regions by which requests were signed."""
    return [request.headers["authorization"].split("/")[2] for request in server.requests]


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
    client.ask("HEAD", "b01", key)
    client.boto3().head_object(Bucket="b01", Key=key)
    assert [(request.by_boto3, request.target) for request in server.requests] == [(False, target), (True, target)]


def test_all_that_is_asked_is_signed_and_sent(server: Scripted, client: S3Requests) -> None:
    server.default = answer("206 Partial Content", PLAIN, b"hell")
    headers = {"If-Match": '"e"', "Range": "bytes=0-3", "x-amz-checksum-mode": "ENABLED"}
    client.ask("GET", "b01", "k", headers, "versionId=a%2F%2Bb")
    asked: Any = {"Key": "k", "IfMatch": '"e"', "Range": "bytes=0-3", "VersionId": "a/+b", "ChecksumMode": "ENABLED"}
    client.boto3().get_object(Bucket="b01", **asked)["Body"].close()
    ours, boto3s = server.requests
    assert ours.target == boto3s.target.replace("&x-id=GetObject", "")
    for name in ("if-match", "range", "x-amz-checksum-mode", "x-amz-content-sha256", "host", "accept-encoding"):
        assert ours.headers[name] == boto3s.headers[name], name
    signed = ours.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert set(ours.headers) - set(signed) == {"authorization", "user-agent", "accept-encoding"}


def test_a_part_is_asked_for_by_number_and_version(server: Scripted, source: S3Source) -> None:
    server.answers.append(answer("200 OK", PLAIN + b"x-amz-version-id: v\r\n", b"hello"))
    server.default = HELLO.replace(b"200 OK", b"206 Partial Content", 1)
    original = source.head("k")
    assert original is not None
    source._head_of_part(original, 7)
    assert server.requests[-1].target.endswith("/k?partNumber=7&versionId=v")


# --- who asks


def test_credentials_are_the_environments_of_the_moment(
    server: Scripted, client: S3Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.default = HELLO
    for number in ("1", "2"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"key-{number}")
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"token-{number}")
        client.ask("HEAD", "b01", "k")
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
            client.ask("HEAD", "b01", "k")
    used = [request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in server.requests]
    assert len(set(used)) == 2, used


@pytest.mark.usefixtures("no_keys")
def test_without_credentials_the_error_says_so(source: S3Source, server: Scripted) -> None:
    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        source.head("k")
    assert server.requests == []


def test_half_a_credential_is_none(source: S3Source, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    module._session_credentials.cache_clear()
    with pytest.raises(Unavailable, match="Partial credentials"):
        source.head("k")
    assert server.requests == []


# --- where

ELSEWHERE = [
    answer("301 Moved Permanently", b"x-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n"),
    answer("307 Temporary Redirect", b"x-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n"),
    error_answer(
        "400 Bad Request",
        body=b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
    ),
]


@pytest.mark.parametrize("told", ELSEWHERE, ids=["301", "307", "400"])
def test_a_bucket_in_another_region_is_asked_there_from_then_on(
    server: Scripted, source: S3Source, told: bytes
) -> None:
    server.answers.append(told)
    server.default = HELLO
    for _ in range(2):
        assert read(source) == b"hello"
    assert regions(server) == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert not any(request.by_boto3 for request in server.requests)


@pytest.mark.parametrize("region", [b"", b"x-amz-bucket-region: us-east-1\r\n"], ids=["none", "the same"])
def test_a_redirect_that_names_no_other_region_is_refused(server: Scripted, source: S3Source, region: bytes) -> None:
    told = error_answer("301 Moved Permanently", "PermanentRedirect")
    server.default = told.replace(b"\r\n", b"\r\n" + region, 1)
    with pytest.raises(Refused) as caught:
        read(source)
    assert caught.value.code == "SrcBucketInOtherRegion"
    assert len(server.requests) == 1


def test_a_bucket_of_another_kind_is_refused(server: Scripted, client: S3Requests) -> None:
    with pytest.raises(Refused, match="general purpose") as caught:
        S3Source(client, "data--use1-az4--x-s3").head("k")
    assert caught.value.code == "SrcBucketNotSupported"
    assert server.requests == []


def test_what_the_environment_does_not_say_boto3_says(server: Scripted) -> None:
    """As where a profile or a configuration file names the region and the endpoint."""
    server.default = HELLO
    url = f"http://127.0.0.1:{server.port}"
    with closing(S3Requests(cache(lambda: s3_client(url)), environment={"AWS_PROFILE": "mine"})) as client:
        assert S3Source(client, "b01").head("k") is not None
        client.boto3().close()
    assert [(request.by_boto3, request.target) for request in server.requests] == [(False, "/b01/k")]


# --- tries

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
    server.answers.extend([error_answer(status, code)] * 2)
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
    server.default = error_answer(status, code)
    with pytest.raises(Unavailable) as caught:
        source.head("k") if method == "head" else read(source)
    assert caught.value.code == (f"Src{status[:3]}" if method == "head" else f"Src{code}")
    assert [request.by_boto3 for request in server.requests] == [False] * TRIES


def test_a_retry_after_of_s3_is_waited_for(server: Scripted, source: S3Source, waits: list[float]) -> None:
    server.answers.append(
        error_answer("503 Service Unavailable", "SlowDown").replace(b"\r\n", b"\r\nRetry-After: 5\r\n", 1)
    )
    server.default = HELLO
    assert read(source) == b"hello"
    assert 5 <= waits[0] <= 6


@pytest.mark.parametrize("trouble", [error_answer("503 Service Unavailable", "SlowDown"), HANG_UP])
def test_what_only_boto3_asks_is_tried_again_by_the_same_policy(
    server: Scripted, client: S3Requests, waits: list[float], trouble: bytes
) -> None:
    """Its own client tries once."""
    tags = b"<?xml version='1.0'?><Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    server.answers.extend([trouble, trouble, answer("200 OK", b"", tags)])
    assert client.call("get_object_tagging", Bucket="b01", Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert [request.by_boto3 for request in server.requests] == [True] * 3
    assert len(waits) == 2


def test_what_boto3_is_denied_is_not_asked_again(server: Scripted, client: S3Requests) -> None:
    server.answers.append(HELLO)
    server.default = error_answer("403 Forbidden", "AccessDenied")
    with pytest.raises(Refused):
        S3Source(client, "b01", with_tags=True).head("k")
    assert len(server.requests) == 2


@pytest.mark.parametrize("method", ["head", "get"])
def test_a_connection_that_died_in_silence_costs_one_trys_silence(
    server: Scripted, waits: list[float], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The kept connection is blackholed; the request succeeds by a new one. A GET's body may be long."""
    monkeypatch.setattr(transport, "SLOWEST", 100 * MIB)
    monkeypatch.setattr(retry, "SILENCE", 0.3)
    monkeypatch.setattr(retry, "LEAST", 0.3)
    server.default = HELLO
    with (
        fault_proxy(f"http://127.0.0.1:{server.port}") as relay,
        closing(s3_requests(relay.url, waits.append)) as client,
    ):
        source = S3Source(client, "b01")
        assert source.head("k") is not None
        relay.silence()
        started = time.monotonic()
        assert (source.head("k") is not None) if method == "head" else (read(source) == b"hello")
        assert 0.3 <= time.monotonic() - started < 0.6
    assert [request.by_boto3 for request in server.requests] == [False, False]
    assert (relay.connections, len(waits)) == (2, 1)


def test_a_connection_that_dies_in_silence_in_the_middle_of_a_body_costs_one_try(
    s3: S3Client, s3_url: str, bucket: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "SILENCE", 0.5)
    monkeypatch.setattr(retry, "LEAST", 0.5)
    monkeypatch.setattr(transport, "SLOWEST", 20 * MIB)
    data = os.urandom(20 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    with fault_proxy(s3_url) as relay, closing(s3_requests(relay.url, waits.append)) as client:
        source = S3Source(client, bucket)
        with source.open("k", at=source.head("k")) as body:
            found = body.read(MIB)
            relay.silence()
            while len(found) < len(data):
                found += body.read(MIB)
        assert found == data
    assert len(waits) <= 1, "the chunk that was on its way"


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


def test_nothing_is_tried_again_once_time_is_over(server: Scripted, source: S3Source, left: list[float]) -> None:
    left[0] = 0.0
    server.answers.append(HANG_UP)
    with pytest.raises(Unavailable):
        source.head("k")
    assert len(server.requests) == 1


def test_a_kept_connection_and_a_new_one_that_fail_are_followed_by_another(server: Scripted, source: S3Source) -> None:
    server.default = HELLO
    server.answers.extend([HELLO, HANG_UP, HANG_UP])
    for _ in range(2):
        assert source.head("k") is not None
    assert [request.connection for request in server.requests] == [1, 1, 2, 3]
    assert not any(request.by_boto3 for request in server.requests)


def test_no_error_text_holds_a_credential(
    server: Scripted, source: S3Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unspeakable-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "unspeakable-token")
    caplog.set_level("DEBUG", "urllib3")
    said = []
    for status, code in [*PASSES, ("403 Forbidden", "AccessDenied"), ("404 Not Found", "NoSuchKey"), ("400 Bad", "")]:
        server.answers.extend([error_answer(status, code)] * TRIES)
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


def test_empty_bodies_and_errors_leave_the_connection_as_it_was(server: Scripted, source: S3Source) -> None:
    empty = PLAIN.replace(b"5d41402abc4b2a76b9719d911017c592", b"d41d8cd98f00b204e9800998ecf8427e")
    for _ in range(5):
        server.answers.extend([answer("200 OK", empty), error_answer("404 Not Found", "NoSuchKey")])
        assert read(source) == b""
        with pytest.raises(Moved):
            read(source)
    server.answers.extend([answer("404 Not Found"), answer("200 OK")])
    assert source.head("k") is None
    assert {request.connection for request in server.requests} == {1}
    assert server.requests[-1].target == "/b01/"


def test_threads_share_connections(server: Scripted, source: S3Source) -> None:
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
        client.close()


LOOK = """
import os, sys
from types import SimpleNamespace
from handler import app, config
service = app.Service(config.load(os.environ))
service.deadline.begin(SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
source = service.wiring._source("b01", False)
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
