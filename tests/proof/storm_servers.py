"""Both clouds of the storm as processes of their own: moto and the GCS server, each doing what networks and clouds do.

Every fault is drawn from a deck that is shuffled anew once it is empty, so each kind comes as often as the others; it
is noted when it fires, in a file that survives whatever is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import logging
import os
import random
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3 import models
from moto.sqs.models import sqs_backends
from werkzeug.serving import make_server

from local_emulator import moto_fixes
from local_emulator.gcs.http import faults
from local_emulator.gcs.http.running import serve
from local_emulator.gcs.store.store import Store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CALM = "x-storm-calm"
"""A request to the GCS server with this header meets no fault: it is the storm's own."""

_SLOW_DOWN = "S3: 503 SlowDown"
_INTERNAL = "S3: 500 InternalError"
_RESET = "S3: connection reset"
_STALL = "S3: stall"
_CUT = "S3: connection cut mid-body"
_FLIP = "S3: byte changed on the way"
SKEWED = "clock: LastModified off by hours"
S3_FAULTS = (_SLOW_DOWN, _INTERNAL, _RESET, _STALL, _CUT, _FLIP, SKEWED)

_ANY = {
    "GCS: 503": "return-503",
    "GCS: 429": "return-429",
    "GCS: 408": "return-408",
    "GCS: connection reset": "return-reset-connection",
    "GCS: answer breaks off": "return-broken-stream",
}
_UPLOAD = {
    "GCS: 503 in mid-upload": "return-503-after-0K",
    "GCS: reset after the write was applied": "return-reset-connection-after-commit",
    "GCS: 503 after the write was applied": "return-503-after-commit",
    "GCS: answer cut after the write was applied": "return-broken-stream-final-chunk-after-20B",
    "GCS: byte changed on the way": "inject-upload-data-error",
    "GCS: stall": "stall-for-0.2s-after-0K",
}
_CHUNK = {
    "GCS: chunk persisted in part": "persist-only-{}K",
    "GCS: 503 in mid-chunk": "return-503-after-{}K",
}
GCS_FAULTS = (*_ANY, *_UPLOAD, *_CHUNK)


class Tally:
    """Counts in a file, one line an occurrence, so that a SIGKILL takes none away."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def count(self, kind: str) -> None:
        """Note one occurrence."""
        os.write(self._descriptor, f"{kind}\n".encode())


class Deck:
    """Draws now and then, each kind as often as the others."""

    def __init__(self, kinds: Sequence[str], rate: float, seed: str) -> None:
        self._kinds = kinds
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable
        self._left: list[str] = []
        self._lock = threading.Lock()

    def draw(self) -> str | None:
        """Return a kind of fault, mostly None."""
        with self._lock:
            if self._random.random() >= self._rate:
                return None
            if not self._left:
                self._left = list(self._kinds)
                self._random.shuffle(self._left)
            return self._left.pop()

    def put_back(self, kind: str) -> None:
        """Take back a kind that could not be used."""
        with self._lock:
            self._left.append(kind)


# --- S3 and SQS


_AT_A_TIME: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By key. moto shows an object before it has its metadata; S3's changes are atomic."""


class Calm(MotoRequestHandler):
    """Answers in one packet and keeps the connection; werkzeug's own waits 10 ms and closes it."""

    protocol_version = "HTTP/1.1"

    def run_wsgi(self) -> None:
        """Answer one request."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        started: list[Any] = []
        start: Any = lambda *given: started.append(given)  # noqa: E731 - WSGI's own shape
        try:
            with _AT_A_TIME[self.path.partition("?")[0]]:
                body = b"".join(self.server.app(environ, start))
            status, headers = started[-1][:2]
        except RuntimeError:  # moto's own races
            body, status, headers = b"", "500 Internal Server Error", []
        if self.command != "HEAD" and not status.startswith("204"):
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.wfile.write("\r\n".join(lines).encode("latin-1") + (b"" if self.command == "HEAD" else body))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class Troubled(Calm):
    """Does to a request what networks and S3 do."""

    deck: Deck
    noted: Tally

    def run_wsgi(self) -> None:
        """Answer one request, or not."""
        trouble = self.deck.draw() if self.command in {"GET", "HEAD"} else None
        if trouble in {_CUT, _FLIP}:
            self._spoil(trouble)
            return
        if trouble is not None:
            self.noted.count(trouble)
        if trouble == _RESET:
            self._hang_up()
        elif trouble in {_SLOW_DOWN, _INTERNAL}:
            self._refuse(*trouble.removeprefix("S3: ").split())
        else:
            if trouble == _STALL:
                time.sleep(0.2)
            super().run_wsgi()

    def _spoil(self, trouble: str) -> None:
        wire: Any = self.wfile
        held = self.wfile = io.BytesIO()
        super().run_wsgi()
        self.wfile = wire
        answer = held.getvalue()
        head, gap, body = answer.partition(b"\r\n\r\n")
        if not (self.command == "GET" and b" 200 " in head[:14] and b"etag" in head.lower() and len(body) > 1):
            self.deck.put_back(trouble)
            wire.write(answer)
            return
        self.noted.count(trouble)
        middle = len(body) // 2
        if trouble == _FLIP:
            wire.write(head + gap + body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :])
            return
        wire.write(head + gap + body[:middle])
        self.close_connection = True
        with suppress(OSError):  # the client has gone
            self.connection.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _refuse(self, status: str, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>the storm</Message></Error>".encode()
        self.send_response(int(status))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve_aws(pipe: Connection, seed: str, rate: float, tally: Path) -> None:
    """Run moto until the pipe closes; answer `dump` and `unsettled` with what a bucket or a queue holds."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    Troubled.noted = Tally(tally)
    Troubled.deck = Deck((_SLOW_DOWN, _INTERNAL, _RESET, _STALL, _CUT, _FLIP), rate, f"{seed} s3")
    with moto_fixes.applied():
        _skew(Troubled.noted, f"{seed} clock", rate)
        app = DomainDispatcherApplication(create_backend_app)
        servers = [make_server("127.0.0.1", 0, app, threaded=True, request_handler=each) for each in (Calm, Troubled)]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        pipe.send([server.server_address[1] for server in servers])
        while True:
            try:
                what, name = pipe.recv()
            except EOFError:
                os._exit(0)
            pipe.send(_dump(name) if what == "dump" else _unsettled(name))


def _skew(noted: Tally, seed: str, rate: float) -> None:
    """Let S3's clock be off by hours for some writes."""
    real: Callable[[], datetime] = models.__dict__["utcnow"]
    drawn = random.Random(seed)  # noqa: S311 - to be repeatable

    def skewed() -> datetime:
        if drawn.random() >= rate:
            return real()
        noted.count(SKEWED)
        return real() + timedelta(hours=drawn.uniform(-9, 9))

    models.__dict__["utcnow"] = skewed


def _unsettled(queue: str) -> int:
    """How many messages a queue holds, visible or not; over HTTP the answer costs moto more than all else."""
    return len(sqs_backends["123456789012"]["us-east-1"].get_queue(queue)._messages)


def _dump(bucket: str) -> dict[str, dict[str, Any]]:
    """Everything that S3 holds of a bucket, read past the HTTP server and past the handler."""
    held = models.s3_backends["123456789012"]["aws"]
    return {
        name: {
            "sha256": hashlib.sha256(key.value).hexdigest(),
            "size": len(key.value),
            "etag": key.etag.strip('"'),
            "last_modified": key.last_modified.replace(microsecond=0).isoformat(),
            "headers": {header.lower(): value for header, value in key.metadata.items()},
            "tags": {tag["Key"]: tag["Value"] for tag in held.tagger.list_tags_for_resource(key.arn)["Tags"]},
        }
        for name, key in held.get_bucket(bucket).keys.items()
    }


# --- GCS


def serve_gcs(pipe: Connection, folder: Path, port: int, seed: str, rate: float, tally: Path) -> None:
    """Run the GCS server, which says its URL, until it is killed."""
    noted = Tally(tally)
    decks = {
        kinds: Deck(tuple(of), rate * more, f"{seed} {kinds}")
        for kinds, of, more in (("any", _ANY, 1), ("upload", _UPLOAD, 1), ("chunk", _CHUNK, 10))
    }
    texts = _ANY | _UPLOAD | _CHUNK
    amounts = itertools.cycle((256, 512, 1024))

    def plan(self: faults.Faults, method: str, headers: Mapping[str, str]) -> faults.PlannedFault | None:
        if CALM in headers:
            return None
        size = int(headers.get("Content-Length", "0"))
        chunk = headers.get("Content-Range", "").startswith("bytes 0-") and size > 1 << 20
        upload = method == "storage.objects.insert" and size > 0 and "Content-Range" not in headers
        kind = decks["chunk" if chunk else "upload" if upload and next(turns) % 3 else "any"].draw()
        if kind is None:
            return None
        return faults.PlannedFault(faults.parse(texts[kind].format(next(amounts))), lambda: noted.count(kind))

    turns = itertools.count()
    faults.Faults.plan = plan  # type: ignore[method-assign]
    store = Store(folder, None, one_write_a_second=False)
    asyncio.run(serve(store, ("127.0.0.1", port), pipe.send, asyncio.Event()))
