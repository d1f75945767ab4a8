"""Where a bucket is, as far as the environment alone says so beyond doubt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_REGION = re.compile(r"(us|us-gov|eu|ap|sa|ca|me|af|il|mx|cn)-[a-z]+-\d")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"https?://(?!.*s3-accelerate)([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?")
_ODD = ("--", "..", ".-", "-.")
"""In names of directory buckets (`--x-s3`), of access points (`--op-s3`, `--ol-s3`), and in no good ones."""
_NUMBERS = re.compile(r"[\d.]+")


def address_of(bucket: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL under which a bucket's keys are, without a slash at its end; None where only boto3 knows.

    That is everything that a configuration file, a profile or a proxy may have a say in, everything that is not a
    plain bucket in a region of AWS's public, Chinese or US government partition, and an endpoint that is not plain.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    region = environment.get("AWS_DEFAULT_REGION", "")
    plain = _BUCKET.fullmatch(bucket) and not any(odd in bucket for odd in _ODD)
    if not plain or not _REGION.fullmatch(region) or _is_configured(environment):
        return None
    if endpoint := _endpoint(environment):
        address = f"{endpoint.rstrip('/')}/{bucket}"
        return address if _ENDPOINT.fullmatch(endpoint) and not _is_proxied(address, environment) else None
    partition = ".cn" if region.startswith("cn-") else ""
    host = f"{_service(environment)}.{region}.amazonaws.com{partition}"
    if partition and "fips" in host:
        return None
    # No certificate is valid for a bucket with a dot as a host.
    address = f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"
    return None if _NUMBERS.fullmatch(bucket) or _is_proxied(address, environment) else address


def _endpoint(environment: Mapping[str, str]) -> str:
    if _is_true(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return ""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")


def _service(environment: Mapping[str, str]) -> str:
    fips = "-fips" if _is_true(environment, "AWS_USE_FIPS_ENDPOINT") else ""
    return f"s3{fips}{'.dualstack' if _is_true(environment, 'AWS_USE_DUALSTACK_ENDPOINT') else ''}"


def _is_true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() == "true"


def _is_configured(environment: Mapping[str, str]) -> bool:
    """Whether there is a profile or a file of them, which may say anything."""
    if environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"):
        return True
    files = environment.get("AWS_CONFIG_FILE"), environment.get("AWS_SHARED_CREDENTIALS_FILE")
    try:
        return any(
            Path(file or default).expanduser().is_file()
            for file, default in zip(files, ("~/.aws/config", "~/.aws/credentials"), strict=True)
        )
    except RuntimeError:  # there is no home
        return False


def _is_proxied(address: str, environment: Mapping[str, str]) -> bool:
    proxies = {name.lower()[:-6]: url for name, url in environment.items() if name.lower().endswith("_proxy") and url}
    if not proxies.keys() - {"no"}:
        return False
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # undocumented, and botocore's way

    return not proxy_bypass_environment(urlsplit(address).netloc, proxies)
