"""smart_open: both sides as files."""

from __future__ import annotations

import shutil

import boto3
import smart_open
from botocore.config import Config
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from requests.adapters import HTTPAdapter

from tests.benchmarks.peers.session import CONCURRENCY, GCS_URL, MIB, S3_URL, SOURCE, TARGET, Item, serve_threads

s3 = boto3.client("s3", endpoint_url=S3_URL, config=Config(max_pool_connections=CONCURRENCY))
gcs = storage.Client(project="-", credentials=AnonymousCredentials(), client_options={"api_endpoint": GCS_URL})
gcs._http.mount("http://", HTTPAdapter(pool_maxsize=CONCURRENCY))


def copy(item: Item) -> None:
    with (
        smart_open.open(f"s3://{SOURCE}/{item.key}", "rb", transport_params={"client": s3}) as original,
        smart_open.open(f"gs://{TARGET}/{item.key}", "wb", transport_params={"client": gcs}) as replica,
    ):
        shutil.copyfileobj(original, replica, MIB)


if __name__ == "__main__":
    serve_threads(copy)
