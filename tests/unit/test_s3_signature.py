"""The signature is botocore's own, byte for byte."""

from __future__ import annotations

import datetime as dt
import random
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from handler.adapters.s3.signature import Credentials, Signer

PLAIN = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
SESSION = PLAIN._replace(token="FwoGZXIvYXdzEJr//////////wEaD==")
HOST = "bucket.s3.eu-central-1.amazonaws.com"


def botocores(method: str, host: str, target: str, headers: dict[str, str], credentials: Credentials) -> dict[str, str]:
    request = AWSRequest(method, f"https://{host}{target}", headers=headers)
    S3SigV4Auth(ReadOnlyCredentials(*credentials), "s3", "eu-central-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def assert_as_botocore(
    monkeypatch: pytest.MonkeyPatch, method: str, host: str, target: str, headers: dict[str, str], who: Credentials
) -> None:

    moment = dt.datetime(2026, 11, 22, 21, 59, 58, tzinfo=dt.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    ours = Signer("eu-central-1", clock=moment.timestamp).headers(method, host, target, headers, who)
    found = {name.lower(): value for name, value in ours.items()}
    assert found.pop("host") == host
    assert found == botocores(method, host, target, headers, who)


@pytest.mark.parametrize("credentials", [PLAIN, SESSION], ids=["plain", "session"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["", "?versionId=null", "?versionId=3%2FL4kq%2BtJlcp.xlroDTDmJ-rmSpXd3dIbrHY_~"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-checksum-mode": "ENABLED"},
        {"x-amz-checksum-mode": "ENABLED", "If-Match": '"abc-3"', "Range": "bytes=0-9"},
        {"If-Match": '" a  b\t c "'},
    ],
    ids=["none", "checksum", "all", "spaces"],
)
def test_it_is_botocores(
    monkeypatch: pytest.MonkeyPatch, method: str, query: str, headers: dict[str, str], credentials: Credentials
) -> None:
    assert_as_botocore(monkeypatch, method, HOST, f"/some/key{query}", headers, credentials)


@pytest.mark.parametrize("host", [HOST, "127.0.0.1:5000", "localhost", "[::1]:5000"])
@pytest.mark.parametrize("path", ["/", "/bucket", "/a/../b", "//", "//lead", "/.", "/..", "/a//b/", "/%252F", "/~!"])
def test_no_path_is_normalized(monkeypatch: pytest.MonkeyPatch, host: str, path: str) -> None:
    assert_as_botocore(monkeypatch, "GET", host, path, {}, PLAIN)


def test_any_key_is_signed_as_botocore_signs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)  # noqa: S311 - keys, not secrets
    for _ in range(300):
        key = "".join(chr(chance.choice([chance.randrange(32, 127), chance.randrange(0xD7FF)])) for _ in range(20))
        assert_as_botocore(monkeypatch, "GET", HOST, f"/{quote(key, safe='/~')}", {}, SESSION)


def test_a_key_is_derived_anew_for_another_day_and_another_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter([0.0, 86399.0, 86400.0, 86400.0, 0.0])
    signer = Signer("eu-central-1", clock=lambda: next(days))
    found = [
        signer.headers("GET", HOST, "/k", {}, who)["Authorization"]
        for who in (PLAIN, PLAIN, PLAIN, PLAIN._replace(secret_key="other"), PLAIN)
    ]
    assert len(set(found)) == 4
    assert found[0] == found[4]


def test_credentials_are_not_shown() -> None:
    assert PLAIN.secret_key not in f"{SESSION!r} {SESSION}"
    assert str(SESSION.token) not in f"{SESSION!r} {SESSION}"
