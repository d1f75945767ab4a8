"""One huge object from S3 to the GCS shim, each side's peak memory measured: `python -m tests.benchmarks.huge`.

The S3 here is a small server that makes the object's bytes up from their offsets. moto would not do: it holds the
object itself, reads all of it for every ranged GET, and would be measured in place of the handler. The object's ETag is
no MD5 (SSE-KMS), so that nothing but what the handler computes on the way vouches for it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c

from tests.benchmarks.shim import MIB, ROOT, Shim, peak

HANDLER_LIMIT, SHIM_LIMIT = 256 * MIB, 64 * MIB
BUCKET, KEY = "huge", "folder/huge.bin"
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_BLOCK = random.Random(5).randbytes(MIB)  # noqa: S311 - bytes, not a secret
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PATIENCE = 4 * 3600.0
"""Seconds that the invocation may take: on a slow machine more than Lambda's fifteen minutes, as memory is measured."""


class Body:
    """Bytes that follow from their offsets: each MiB begins with its own number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.etag = hashlib.sha256(f"huge {size}".encode()).hexdigest()[:32]

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`."""
        while start < stop:
            number, offset = divmod(start, MIB)
            block = number.to_bytes(8, "big") + _BLOCK[8:]
            piece = block[offset : offset + stop - start]
            yield piece
            start += len(piece)

    def crc32c(self) -> str:
        """Return the checksum of all of them, as GCS writes it."""
        checksum = google_crc32c.Checksum()
        for piece in self.pieces(0, self.size):
            checksum.update(piece)
        return base64.b64encode(checksum.digest()).decode()


@contextmanager
def fake_s3(body: Body) -> Iterator[str]:
    """Serve HEAD and GET of the one object, with Range and If-Match."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"body": body}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body: Body

    def do_HEAD(self) -> None:
        """Answer as S3 does; a GET is the same with bytes."""
        start, stop = 0, self.body.size
        if self.headers.get("If-Match", f'"{self.body.etag}"').strip('"') != self.body.etag:
            self._begin(412, 0)
            return
        if found := _RANGE.fullmatch(self.headers.get("Range", "")):
            start, stop = int(found[1]), min(int(found[2]) + 1, self.body.size)
        self._begin(206 if found else 200, stop - start, f"bytes {start}-{stop - 1}/{self.body.size}" if found else "")
        if self.command == "GET":
            for piece in self.body.pieces(start, stop):
                self.wfile.write(piece)

    do_GET = do_HEAD  # noqa: N815 - the name BaseHTTPRequestHandler asks for

    def _begin(self, status: int, length: int, content_range: str = "") -> None:
        headers = {
            "ETag": f'"{self.body.etag}"',
            "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT",
            "Content-Type": "application/octet-stream",
            "x-amz-server-side-encryption": "aws:kms",
            "Accept-Ranges": "bytes",
            "Content-Length": str(length),
        } | ({"Content-Range": content_range} if content_range else {})
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


def invoke() -> None:
    """Be the function: handle the event on standard input, and say what came of it and what it took."""
    from handler import app  # only where it is measured
    from local_emulator.context import Context

    event = json.load(sys.stdin)
    begun = time.monotonic()
    answer = app.lambda_handler(event, Context(deadline=begun + _PATIENCE))
    sys.stderr.write(json.dumps({"answer": answer, "seconds": time.monotonic() - begun, "peak": peak()}) + "\n")


def _handle(s3: str, shim: Shim, size: int) -> dict[str, Any]:
    rule = {"ID": "huge", "Source": {"Bucket": BUCKET}, "Destination": {"Bucket": f"gs://{shim.bucket}"}}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_", "GCP_"))
    }
    environment |= {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",  # the least that template.yaml allows: ten parts at once
        "STORAGE_EMULATOR_HOST": shim.url,
        "REPLICATION_RULES": json.dumps([rule]),
    }
    described = {"bucket": {"name": BUCKET}, "object": {"key": KEY, "size": size}}
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:CompleteMultipartUpload"}
    message = {
        "messageId": "huge",
        "eventSource": "aws:sqs",
        "attributes": {"ApproximateReceiveCount": "1"},
        "body": json.dumps({"Records": [record | {"s3": described}]}),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.huge", "--invoke"],
        cwd=ROOT,
        env=environment,
        input=json.dumps({"Records": [message]}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or '"answer": {"batchItemFailures": []}' not in done.stderr:
        raise RuntimeError(f"the handler failed: {done.stdout}{done.stderr}")
    told: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return told


def run(size: int, folder: Path) -> int:
    """Copy an object of that size, tell what it took, and return the exit status."""
    body = Body(size)
    with fake_s3(body) as s3, Shim(folder / "gcs", "huge-copies") as shim:
        told = _handle(s3, shim, size)
        shim_peak = peak(shim.process.pid)
        where = f"{shim.url}/storage/v1/b/{shim.bucket}/o/{KEY.replace('/', '%2F')}"
        with urllib.request.urlopen(where, timeout=30) as answer:
            stored = json.load(answer)
    whole = (int(stored["size"]), stored["crc32c"]) == (size, body.crc32c())
    fits = told["peak"] < HANDLER_LIMIT and shim_peak < SHIM_LIMIT
    _say(
        f"object            {size / MIB:,.0f} MiB in {told['seconds']:.1f} s: {size / MIB / told['seconds']:,.0f} MiB/s"
    )
    _say(f"handler's peak    {told['peak'] / MIB:.0f} MiB of {HANDLER_LIMIT // MIB} allowed")
    _say(f"shim's peak       {shim_peak / MIB:.0f} MiB of {SHIM_LIMIT // MIB} allowed")
    _say(f"size and CRC32C   {'as made' if whole else 'WRONG'}: {stored['size']}, {stored['crc32c']}")
    _say("huge: passed" if whole and fits else "huge: FAILED")
    return 0 if whole and fits else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def bytes_of(text: str) -> int:
    """Read a size such as 5GiB."""
    found = re.fullmatch(r"(\d+)(|KiB|MiB|GiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a size such as 5GiB or 64MiB: {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.huge", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--size", type=bytes_of, default="5GiB", help="of the object (default: %(default)s)")
    parser.add_argument("--invoke", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.invoke:
        invoke()
        return 0
    with tempfile.TemporaryDirectory(prefix="huge-") as folder:
        return run(options.size, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
