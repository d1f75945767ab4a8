"""fsspec: s3fs into gcsfs, small objects in one piece."""

from __future__ import annotations

import shutil

import gcsfs
import s3fs

from tests.benchmarks.peers.session import GCS_URL, MIB, S3_URL, SOURCE, TARGET, WHOLE, Item, serve_threads

s3 = s3fs.S3FileSystem(endpoint_url=S3_URL, key="local", secret="local")
gcs = gcsfs.GCSFileSystem(project="-", token="anon", endpoint_url=GCS_URL)


def copy(item: Item) -> None:
    source, target = f"{SOURCE}/{item.key}", f"{TARGET}/{item.key}"
    if item.size <= WHOLE:
        gcs.pipe_file(target, s3.cat_file(source))
        return
    with s3.open(source, "rb", block_size=32 * MIB) as original, gcs.open(target, "wb", block_size=32 * MIB) as replica:
        shutil.copyfileobj(original, replica, 8 * MIB)


if __name__ == "__main__":
    serve_threads(copy)
