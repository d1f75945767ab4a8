"""obstore, the Rust crate object_store for Python: asynchronous, large objects as a stream into a multipart upload."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

import obstore
from obstore.store import GCSStore, S3Store

from tests.benchmarks.peers.session import CONCURRENCY, GCS_URL, MIB, S3_URL, SOURCE, TARGET, WHOLE, Item, serve

_NOBODY = {"gcs_base_url": GCS_URL, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
s3 = S3Store(
    SOURCE,
    endpoint=S3_URL,
    region="us-east-1",
    access_key_id="local",
    secret_access_key="local",
    virtual_hosted_style_request=False,
    client_options={"allow_http": True},
)
gcs = GCSStore(TARGET, service_account_key=json.dumps(_NOBODY), client_options={"allow_http": True})


async def copy(item: Item) -> None:
    answer = await obstore.get_async(s3, item.key)
    if item.size <= WHOLE:
        await obstore.put_async(gcs, item.key, await answer.bytes_async(), use_multipart=False)
    else:
        body = answer.stream(min_chunk_size=8 * MIB)
        await obstore.put_async(gcs, item.key, body, chunk_size=8 * MIB, max_concurrency=CONCURRENCY)


async def copy_all(items: Sequence[Item]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(item: Item) -> None:
        async with slots:
            await copy(item)

    await asyncio.gather(*map(one, items))


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        serve(lambda items: runner.run(copy_all(items)))
        os._exit(0)  # the interpreter's own end aborted now and then (SIGABRT) after a stream was copied
