"""Where a bucket is: as boto3 says, or left to boto3."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

from handler.adapters.s3_address import address_of

US: dict[str, str] = {"AWS_DEFAULT_REGION": "us-west-2"}
HERE = "http://127.0.0.1:5000"

KNOWN = [
    # bucket, what the environment says, the address
    ("dummy", US, "https://dummy.s3.us-west-2.amazonaws.com"),
    ("dummy", {"AWS_DEFAULT_REGION": "eu-central-1"}, "https://dummy.s3.eu-central-1.amazonaws.com"),
    ("dummy", {"AWS_DEFAULT_REGION": "ap-southeast-2"}, "https://dummy.s3.ap-southeast-2.amazonaws.com"),
    ("dummy", {"AWS_DEFAULT_REGION": "us-gov-west-1"}, "https://dummy.s3.us-gov-west-1.amazonaws.com"),
    ("dummy", {"AWS_DEFAULT_REGION": "cn-north-1"}, "https://dummy.s3.cn-north-1.amazonaws.com.cn"),
    ("with.dots", US, "https://s3.us-west-2.amazonaws.com/with.dots"),
    ("dummy", US | {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://dummy.s3-fips.us-west-2.amazonaws.com"),
    ("dummy", US | {"AWS_USE_DUALSTACK_ENDPOINT": "True"}, "https://dummy.s3.dualstack.us-west-2.amazonaws.com"),
    (
        "with.dots",
        US | {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_USE_FIPS_ENDPOINT": "true"},
        "https://s3-fips.dualstack.us-west-2.amazonaws.com/with.dots",
    ),
    ("dummy", US | {"AWS_USE_FIPS_ENDPOINT": "false"}, "https://dummy.s3.us-west-2.amazonaws.com"),
    ("dummy", US | {"AWS_ENDPOINT_URL": HERE}, f"{HERE}/dummy"),
    ("with.dots", US | {"AWS_ENDPOINT_URL": f"{HERE}/"}, f"{HERE}/with.dots"),
    ("dummy", US | {"AWS_ENDPOINT_URL": "https://elsewhere", "AWS_ENDPOINT_URL_S3": HERE}, f"{HERE}/dummy"),
    ("dummy", US | {"AWS_ENDPOINT_URL_S3": "http://localhost:4566"}, "http://localhost:4566/dummy"),
    ("dummy", US | {"AWS_ENDPOINT_URL_S3": "http://[::1]:4566"}, "http://[::1]:4566/dummy"),
    (
        "dummy",
        US | {"AWS_ENDPOINT_URL_S3": HERE, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        "https://dummy.s3.us-west-2.amazonaws.com",
    ),
    ("dummy", US | {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "amazonaws.com"}, "https://dummy.s3.us-west-2.amazonaws.com"),
]  # fmt: skip


@pytest.mark.parametrize(("bucket", "environment", "address"), KNOWN)
def test_a_plain_bucket_is_where_boto3_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, bucket: str, environment: dict[str, str], address: str
) -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    assert address_of(bucket, environment | files) == address
    for name in ("AWS_DEFAULT_REGION", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []

    def answer(request: Any, **_: object) -> Any:
        asked.append(request.url)
        return AWSResponse(request.url, 200, HTTPHeaders(), SimpleNamespace(stream=lambda: [b""]))

    client = boto3.session.Session().client("s3", config=Config(retries={"total_max_attempts": 1}))
    client.meta.events.register("before-send.s3.HeadObject", answer)
    client.head_object(Bucket=bucket, Key="a/../b")
    client.close()
    assert asked == [f"{address}/a/../b"]


@pytest.mark.parametrize(
    ("bucket", "environment"),
    [
        ("dummy", {}),
        ("dummy", {"AWS_DEFAULT_REGION": "us-iso-east-1"}),
        ("dummy", {"AWS_DEFAULT_REGION": "eusc-de-east-1"}),
        ("dummy", {"AWS_DEFAULT_REGION": "aws-global"}),
        ("dummy", {"AWS_DEFAULT_REGION": "us-west-2.evil.example/"}),
        ("dummy", {"AWS_DEFAULT_REGION": "cn-north-1", "AWS_USE_FIPS_ENDPOINT": "true"}),
        ("dummy", US | {"AWS_PROFILE": "mine"}),
        ("dummy", US | {"AWS_DEFAULT_PROFILE": "mine"}),
        ("dummy", US | {"HTTPS_PROXY": "http://proxy:1"}),
        ("dummy", US | {"https_proxy": "http://proxy:1", "no_proxy": "localhost"}),
        ("dummy", US | {"AWS_ENDPOINT_URL": "http://here:99999999"}),
        ("dummy", US | {"AWS_ENDPOINT_URL": "http://here/with/a/path"}),
        ("dummy", US | {"AWS_ENDPOINT_URL": "http://user:secret@here"}),
        ("dummy", US | {"AWS_ENDPOINT_URL": "here:5000"}),
        ("dummy", US | {"AWS_ENDPOINT_URL": "https://s3-accelerate.amazonaws.com"}),
        ("express--usw2-az1--x-s3", US),
        ("alias-abcdef--op-s3", US),
        ("arn:aws:s3:us-west-2:123456789012:accesspoint/mine", US),
        ("Upper", US),
        ("under_score", US),
        ("a..b", US),
        ("a", US),
        ("", US),
        ("-a-", US),
        ("a/../b", US),
        ("127.0.0.1", US),
    ],
)
def test_what_is_not_plain_is_left_to_boto3(bucket: str, environment: dict[str, str]) -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    assert address_of(bucket, environment | files) is None


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_file_may_say_anything(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config"
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull) | {name: str(file)}
    assert address_of("dummy", US | files)
    file.write_text("[default]\n")
    assert address_of("dummy", US | files) is None
