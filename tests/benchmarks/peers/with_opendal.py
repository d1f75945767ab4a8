"""OpenDAL, in Rust too: small objects in one piece, large ones as files, parts of them side by side."""

from __future__ import annotations

import opendal

from tests.benchmarks.peers.session import CONCURRENCY, GCS_URL, MIB, S3_URL, SOURCE, TARGET, WHOLE, Item, serve_threads

s3 = opendal.Operator(
    "s3",
    bucket=SOURCE,
    endpoint=S3_URL,
    region="us-east-1",
    access_key_id="local",
    secret_access_key="local",
    disable_config_load="true",
    disable_ec2_metadata="true",
)
gcs = opendal.Operator(
    "gcs",
    bucket=TARGET,
    endpoint=GCS_URL,
    allow_anonymous="true",
    disable_vm_metadata="true",
    disable_config_load="true",
)


def copy(item: Item) -> None:
    if item.size <= WHOLE:
        gcs.write(item.key, s3.read(item.key))
        return
    with (
        s3.open(item.key, "rb", concurrent=CONCURRENCY, chunk=8 * MIB) as original,
        gcs.open(item.key, "wb", concurrent=CONCURRENCY, chunk=8 * MIB) as replica,
    ):
        while piece := original.read(8 * MIB):
            replica.write(piece)


if __name__ == "__main__":
    serve_threads(copy)
