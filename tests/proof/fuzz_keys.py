"""Awkward keys end to end: S3 on loopback, the real handler, GCS on loopback, and a comparison of everything."""

from __future__ import annotations

import http.client
import io
import json
import logging
import multiprocessing
import os
import random
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote, quote_plus

from handler import app, config
from local_emulator.context import Context
from tests.proof.storm import free_port, kill
from tests.proof.storm_compare import Gcs, compare
from tests.proof.storm_load import AUTHORIZATION, Bucket
from tests.proof.storm_servers import serve_aws, serve_gcs

KEYS = 10_000
_BATCH = 100
_PIECES = (
    ".", "..", "...", "/", "//", "/./", "/../", "\\", "%", "%2F", "%2f", "%00", "%25", "%%", "+", "++", " ", "  ",
    "\t", "\x01", "\x7f", "\x85", "é", "e\u0301", "ß", "İ", "\u0131", "ﬁ", "\u200b", "\u202e", "\ufeff", "\ufffd",
    "\U0001f4be", "\U0010fffd", "'", '"', "`", "<", ">", "&", "&amp;", "=", "?", "#", "*", "[", "]", "{", "}", "|",
    "~", "^", ";", ":", "@", "!", "$", "(", ")", ",", "CON", "nul.txt", ".gcs", ".replicator", ".DS_Store",
    "a" * 255, "b" * 256, "é" * 130, "-", "--", "_", "0", "null", "undefined", "NaN", "true", "${x}", "{{x}}",
    "$(id)", "; rm -rf /", "../../etc/passwd", "c:\\x", "http://x/y", "s3://b/k", "gs://b/k", "?versionId=1",
    "?tagging", "#frag", "part.1", "o", "b", "v1", "upload", ".well-known",
)  # fmt: skip


def awkward(drawn: random.Random) -> Iterator[str]:
    """Yield distinct keys that S3 takes and GCS does too."""
    seen: set[str] = set()
    while True:
        pieces = [drawn.choice(_PIECES) if drawn.random() < 0.8 else _letter(drawn) for _ in range(drawn.randint(1, 7))]
        key = "".join(pieces).encode()[: 1024 if drawn.random() < 0.9 else 900].decode(errors="ignore")
        if key and key not in seen and key not in {".", ".."} and not key.startswith(".well-known/acme-challenge/"):
            seen.add(key)
            yield key


def _letter(drawn: random.Random) -> str:
    while True:
        letter = chr(drawn.randrange(0x20, 0x110000))
        if unicodedata.category(letter) not in {"Cs", "Cn", "Co"}:
            return letter


def fuzz_keys(count: int, drawn: random.Random) -> int:
    """Replicate so many keys and compare; return how many S3 on loopback took.

    Raises:
        AssertionError: with the first differences.
    """
    spawn = multiprocessing.get_context("spawn")
    bucket = Bucket("awkward", "copies-of-awkward")
    with tempfile.TemporaryDirectory(prefix="keys-") as name, ExitStack() as closers:
        folder, port = Path(name), free_port()
        ours, theirs = spawn.Pipe()
        aws = spawn.Process(target=serve_aws, args=(theirs, "calm", 0.0, folder / "fired"), daemon=True)
        gcs_ours, gcs_theirs = spawn.Pipe()
        arguments = (gcs_theirs, folder / "gcs", port, "calm", 0.0, folder / "fired")
        gcs = spawn.Process(target=serve_gcs, args=arguments, daemon=True)
        try:
            aws.start()
            gcs.start()
            s3_port, _ = ours.recv()
            gcs_ours.recv()
            calm = closers.enter_context(closing(Gcs(port, folder / "gcs")))
            calm.make_bucket(bucket.copy)
            taken = _put(s3_port, bucket.name, awkward(drawn), count)
            assert len(taken) > 0.97 * count, f"moto took {len(taken)} of {count} keys only"
            failed = _replicate(bucket, taken, s3_port, port)
            assert not failed, f"not replicated: {failed[:3]}"
            ours.send(("dump", bucket.name))
            source = ours.recv()
            assert len(source) == len(taken)
            differences = list(compare(calm, bucket, source, {}, set()))
            assert not differences, differences[:5]
        finally:
            for process in (aws, gcs):
                if process.pid:
                    kill(process)
    return len(taken)


def _put(port: int, bucket: str, keys: Iterator[str], count: int) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []

    def put(path: str, data: bytes) -> int:
        connection.request("PUT", path, data, {"Authorization": AUTHORIZATION, "Content-Type": "text/plain"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    assert put(f"/{bucket}", b"") == 200
    for _, key in zip(range(count), keys, strict=False):
        if put(f"/{bucket}/{quote(key, safe='')}", key.encode()) == 200:
            taken.append(key)
    connection.close()
    return taken


def _replicate(bucket: Bucket, keys: Sequence[str], s3_port: int, gcs_port: int) -> list[Any]:
    """Tell the handler in batches; return the messages that it says failed."""
    rule = {"ID": "r", "Source": {"Bucket": bucket.name}, "Destination": {"Bucket": f"gs://{bucket.copy}"}}
    environment = {
        "REPLICATION_RULES": json.dumps([rule]),
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3_port}",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{gcs_port}",
        "AWS_ACCESS_KEY_ID": "fuzz",
        "AWS_SECRET_ACCESS_KEY": "fuzz",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    failed: list[Any] = []
    with mock.patch.dict(os.environ, environment), redirect_stdout(io.StringIO()):  # its metrics
        service = app.Service(config.load(os.environ))
        logging.disable()
        try:
            for start in range(0, len(keys), _BATCH):
                service.deadline.begin(Context())
                answer = service.handle(
                    {"Records": [_message(bucket.name, key) for key in keys[start : start + _BATCH]]}
                )
                failed += answer["batchItemFailures"]
        finally:
            logging.disable(logging.NOTSET)
    return failed


def _message(bucket: str, key: str) -> dict[str, Any]:
    size = len(key.encode())
    s3 = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": size}}
    record = {"eventVersion": "2.6", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}
    return {"eventSource": "aws:sqs", "messageId": quote_plus(key), "body": json.dumps({"Records": [record]})}
