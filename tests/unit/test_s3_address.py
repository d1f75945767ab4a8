"""Where a bucket is: where boto3 looks for it, or where boto3 says that S3 is."""

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

from handler.adapters.s3.address import Place, place_of
from handler.core.errors import Refused

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
    ("12345", US, "https://12345.s3.us-west-2.amazonaws.com"),
    ("Upper", US | {"AWS_ENDPOINT_URL": HERE}, f"{HERE}/Upper"),
]  # fmt: skip


@pytest.mark.parametrize(("bucket", "environment", "address"), KNOWN)
def test_a_plain_bucket_is_where_boto3_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, bucket: str, environment: dict[str, str], address: str
) -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    place = place_of(environment | files)
    assert place is not None
    assert place.address_of(bucket) == address
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
    "environment",
    [
        {},
        {"AWS_DEFAULT_REGION": "us-iso-east-1"},
        {"AWS_DEFAULT_REGION": "eusc-de-east-1"},
        {"AWS_DEFAULT_REGION": "aws-global"},
        {"AWS_DEFAULT_REGION": "us-west-2.evil.example/"},
        {"AWS_DEFAULT_REGION": "cn-north-1", "AWS_USE_FIPS_ENDPOINT": "true"},
        US | {"AWS_PROFILE": "mine"},
        US | {"AWS_DEFAULT_PROFILE": "mine"},
        US | {"AWS_ENDPOINT_URL": "http://here/with/a/path"},
        US | {"AWS_ENDPOINT_URL": "http://user:secret@here"},
        US | {"AWS_ENDPOINT_URL": "here:5000"},
    ],
)
def test_what_the_environment_does_not_say_beyond_doubt_is_boto3s_to_say(environment: dict[str, str]) -> None:
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    assert place_of(environment | files) is None


@pytest.mark.parametrize(
    ("endpoint", "bucket", "address"),
    [
        ("https://s3.amazonaws.com", "dummy", "https://dummy.s3.amazonaws.com"),
        ("https://s3.us-iso-east-1.c2s.ic.gov", "dummy", "https://s3.us-iso-east-1.c2s.ic.gov/dummy"),
        ("https://s3-accelerate.amazonaws.com", "dummy", "https://dummy.s3-accelerate.amazonaws.com"),
        ("https://bucket.vpce-1.s3.us-west-2.vpce.amazonaws.com", "dummy", "https://bucket.vpce-1.s3.us-west-2.vpce.amazonaws.com/dummy"),
        ("http://here/with/a/path", "dummy", "http://here/with/a/path/dummy"),
        ("https://s3.us-west-2.amazonaws.com", "Upper_case", "https://s3.us-west-2.amazonaws.com/Upper_case"),
        ("https://s3.us-west-2.amazonaws.com", "127.0.0.1", "https://s3.us-west-2.amazonaws.com/127.0.0.1"),
    ],
)  # fmt: skip
def test_a_bucket_is_a_host_at_aws_where_it_can_be_and_else_a_path(endpoint: str, bucket: str, address: str) -> None:
    assert Place(endpoint, "us-west-2").address_of(bucket) == address


@pytest.mark.parametrize(
    "bucket",
    [
        "express--usw2-az1--x-s3",
        "alias-abcdef--op-s3",
        "arn:aws:s3:us-west-2:123456789012:accesspoint/mine",
        "",
        "a/../b",
    ],
)
def test_what_is_no_general_purpose_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(Refused):
        Place("https://s3.us-west-2.amazonaws.com", "us-west-2").address_of(bucket)


@pytest.mark.parametrize(
    ("endpoint", "moved"),
    [
        ("https://s3.us-west-2.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("https://s3-fips.dualstack.us-west-2.amazonaws.com", "https://s3-fips.dualstack.eu-west-1.amazonaws.com"),
        ("https://s3.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        (HERE, HERE),
    ],
)
def test_another_region_has_another_endpoint_at_aws(endpoint: str, moved: str) -> None:
    assert Place(endpoint, "us-west-2").moved_to("eu-west-1") == Place(moved, "eu-west-1")


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_file_may_say_anything(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config"
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull) | {name: str(file)}
    assert place_of(US | files)
    file.write_text("[default]\n")
    assert place_of(US | files) is None
