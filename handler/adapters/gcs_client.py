"""The GCS client, and how it gets its credentials: without a key, out of the function's own AWS role."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3
import requests.adapters
from google.auth import aws
from google.auth.exceptions import RefreshError
from google.cloud import storage

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def connect(credentials: str = "", *, connections: int = 20) -> storage.Client:
    """Return a client for all threads.

    Args:
        credentials: a workload identity federation configuration, as JSON or as the path of a file that has it;
            neither holds a secret. Empty: application default credentials, or none where STORAGE_EMULATOR_HOST is set.
        connections: kept open at once.

    Raises:
        ValueError: the configuration is not one.
    """
    # The library would read the bucket's metadata in the background, for traces nobody asked for.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    client = storage.Client(project="-", credentials=_federated(credentials) if credentials else None)
    adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)  # noqa: SLF001 - its session; the default pool holds 10
    return client


def _federated(configuration: str) -> aws.Credentials:
    """Exchange AWS credentials for Google's, as the configuration of `gcloud iam workload-identity-pools` says.

    Its metadata URLs are dropped: a Lambda function has no metadata server, and under SnapStart the credentials come
    by the container endpoint, which boto3 asks and Google's library does not.
    """
    text = configuration if configuration.lstrip().startswith("{") else Path(configuration).read_text()
    info: dict[str, Any] = json.loads(text)
    if info.get("type") != "external_account":
        raise ValueError(f"the GCP credentials are of type {info.get('type')!r}, not 'external_account'")
    info.pop("credential_source", None)
    credentials: aws.Credentials = aws.Credentials.from_info(
        info, scopes=[_SCOPE], aws_security_credentials_supplier=_Boto3Supplier()
    )
    return credentials


class _Boto3Supplier(aws.AwsSecurityCredentialsSupplier):
    """The function's own AWS credentials, fresh from boto3 each time they are asked for."""

    def __init__(self) -> None:
        self._session = boto3.Session()

    def get_aws_security_credentials(self, context: object, request: object) -> aws.AwsSecurityCredentials:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise RefreshError("boto3 finds no AWS credentials to exchange")
        frozen = credentials.get_frozen_credentials()
        return aws.AwsSecurityCredentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def get_aws_region(self, context: object, request: object) -> str:
        if not self._session.region_name:
            raise RefreshError("boto3 finds no AWS region: set AWS_DEFAULT_REGION")
        return str(self._session.region_name)
