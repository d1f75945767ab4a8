"""Keyless credentials for GCS: the function's AWS role exchanged for Google's. Imported only when needed."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import google.auth
from google.auth import aws
from google.auth.exceptions import RefreshError

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def find(configuration: str, transport: Any) -> Any:
    """Return google-auth's credentials, with no token yet.

    Args:
        configuration: as `client.connect` takes it; empty for application default credentials.
        transport: sends google-auth's requests.

    Raises:
        ValueError: the configuration is malformed.
        google.auth.exceptions.DefaultCredentialsError: there are no application default credentials.
    """
    if configuration:
        return _federated(configuration)
    return google.auth.default(scopes=[_SCOPE], request=transport)[0]


def _federated(configuration: str) -> aws.Credentials:
    """Return credentials by the configuration that `gcloud iam workload-identity-pools` writes.

    The metadata URLs in it are dropped. A Lambda function has no metadata server, and under SnapStart the credentials
    come from the container endpoint, which boto3 supports and google-auth does not.
    """
    text = configuration if configuration.lstrip().startswith("{") else Path(configuration).read_text()
    info: dict[str, Any] = json.loads(text)
    if info.get("type") != "external_account":
        raise ValueError(f"cannot use the GCP credentials: their type is {info.get('type')!r}, not 'external_account'")
    info.pop("credential_source", None)
    credentials: aws.Credentials = aws.Credentials.from_info(
        info, scopes=[_SCOPE], aws_security_credentials_supplier=_OwnRole()
    )
    return credentials


class _OwnRole(aws.AwsSecurityCredentialsSupplier):
    """Supplies the function's current AWS credentials: the environment's, else boto3's."""

    def get_aws_security_credentials(self, context: object, request: object) -> aws.AwsSecurityCredentials:
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if key and secret:
            return aws.AwsSecurityCredentials(key, secret, os.environ.get("AWS_SESSION_TOKEN"))
        credentials = self._session.get_credentials()
        if credentials is None:
            raise RefreshError("cannot get a GCP token: boto3 finds no AWS credentials to exchange")
        frozen = credentials.get_frozen_credentials()
        return aws.AwsSecurityCredentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def get_aws_region(self, context: object, request: object) -> str:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or self._session.region_name
        if not region:
            raise RefreshError("cannot get a GCP token: boto3 finds no AWS region; set AWS_DEFAULT_REGION")
        return str(region)

    @cached_property
    def _session(self) -> Any:
        import boto3  # 100 ms, and needed under SnapStart only

        return boto3.Session()
