"""Where S3 and its buckets are: as the environment says, or else as boto3's client says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from handler.core.errors import Refused

_REGION = re.compile(r"(us|us-gov|eu|ap|sa|ca|me|af|il|mx|cn)-[a-z]+-\d")
_ENDPOINT = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?")
_AWS = re.compile(r"s3[.-]([a-z0-9.-]+\.)?amazonaws\.com(\.cn)?")
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_NOT_GENERAL = re.compile(r".*--(x|op|ol)-s3|arn:.*|.*/.*|", re.DOTALL)


class Place(NamedTuple):
    """Where S3 is."""

    endpoint: str
    region: str
    """By which requests are signed."""

    def address_of(self, bucket: str) -> str:
        """Return the URL under which a bucket's keys are, without a slash at its end.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html

        Raises:
            Refused: the bucket is a directory bucket or an access point, which take other requests.
        """
        if _NOT_GENERAL.fullmatch(bucket):
            raise Refused(f"{bucket!r} is not the name of a general purpose bucket", code="SrcBucketNotSupported")
        parts = urlsplit(self.endpoint.rstrip("/"))
        if _AWS.fullmatch(parts.hostname or "") and _LABEL.fullmatch(bucket):  # no certificate is valid for a dot
            return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"
        return f"{parts.scheme}://{parts.netloc}{parts.path}/{quote(bucket, safe='')}"

    def moved_to(self, region: str) -> Place:
        """Return where S3 is in another region: at an endpoint of AWS's own there, else at the same endpoint."""
        if not _AWS.fullmatch(urlsplit(self.endpoint).hostname or ""):
            return Place(self.endpoint, region)
        if f".{self.region}." in self.endpoint:
            return Place(self.endpoint.replace(f".{self.region}.", f".{region}."), region)
        return Place(f"https://s3.{region}.amazonaws.com", region)


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return where S3 is, as far as the environment says so beyond doubt; None where only boto3 knows.

    That is where there is a profile or a configuration file, which may say anything, a region of a partition that is
    not AWS's public, Chinese or US government one, or an endpoint that is more than a scheme, a host and a port.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    region = environment.get("AWS_DEFAULT_REGION", "")
    if not _REGION.fullmatch(region) or _is_configured(environment):
        return None
    if endpoint := _endpoint(environment):
        return Place(endpoint, region) if _ENDPOINT.fullmatch(endpoint) else None
    fips = "-fips" if _is_true(environment, "AWS_USE_FIPS_ENDPOINT") else ""
    service = f"s3{fips}{'.dualstack' if _is_true(environment, 'AWS_USE_DUALSTACK_ENDPOINT') else ''}"
    partition = ".cn" if region.startswith("cn-") else ""
    return None if partition and fips else Place(f"https://{service}.{region}.amazonaws.com{partition}", region)


def _endpoint(environment: Mapping[str, str]) -> str:
    if _is_true(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return ""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")


def _is_true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() == "true"


def _is_configured(environment: Mapping[str, str]) -> bool:
    """Return True if there is a profile or a file of them."""
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
