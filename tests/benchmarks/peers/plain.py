"""The loop everybody writes first: `boto3.get_object`, then `blob.upload_from_file`. No condition, no check."""

from __future__ import annotations

import boto3
from botocore.config import Config
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from requests.adapters import HTTPAdapter

from tests.benchmarks.peers.session import CONCURRENCY, GCS_URL, S3_URL, SOURCE, TARGET, Item, serve_threads

s3 = boto3.client("s3", endpoint_url=S3_URL, config=Config(max_pool_connections=CONCURRENCY))
gcs = storage.Client(project="-", credentials=AnonymousCredentials(), client_options={"api_endpoint": GCS_URL})
gcs._http.mount("http://", HTTPAdapter(pool_maxsize=CONCURRENCY))
bucket = gcs.bucket(TARGET)


def copy(item: Item) -> None:
    answer = s3.get_object(Bucket=SOURCE, Key=item.key)
    bucket.blob(item.key).upload_from_file(
        answer["Body"], size=answer["ContentLength"], content_type=answer["ContentType"]
    )


if __name__ == "__main__":
    serve_threads(copy)
