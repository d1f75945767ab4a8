"""What `storm_fanout` kills, and where it reads from: mortal instances of the function, and an S3 that notes reads."""

from __future__ import annotations

import base64
import json
import logging
import multiprocessing
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anycrc
import boto3
from botocore.config import Config

from handler.core.model import Span
from handler.core.plan import SPAN
from local_emulator import moto_fixes
from local_emulator.poller import failed_ids, sqs_event
from tests.benchmarks.bench_fanout import Mapping
from tests.benchmarks.bench_measure import Failed, Session
from tests.benchmarks.bench_servers import SOURCE
from tests.benchmarks.huge import Body

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

ROUNDS = 20
"""Times that what failed is let come again."""
_ARN = "arn:aws:sqs:us-east-1:1:parts"
_EVENT, _SPAN = "with the event", "with a span"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PROCESSES = multiprocessing.get_context("forkserver")


def serve_s3(pipe: Connection, body: Body) -> None:
    """Run moto until the pipe closes; each question there is answered with the bounds of all ranged GETs so far.

    moto reads all of an object for each ranged GET, which for this one takes longer than the function waits. So the
    bytes of a range are made up here, and the headers are those of moto's HEAD.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # heavy
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
    app, asked = DomainDispatcherApplication(create_backend_app), []

    def noting(environ: Any, start_response: Any) -> Any:
        found = _RANGE.match(environ.get("HTTP_RANGE", ""))
        if environ["REQUEST_METHOD"] != "GET" or not found:
            return app(environ, start_response)
        start, stop = int(found[1]), min(int(found[2]) + 1, body.size)
        asked.append((start, stop))
        told: list[Any] = []
        whole = {name: value for name, value in environ.items() if name != "HTTP_RANGE"} | {"REQUEST_METHOD": "HEAD"}
        list(app(whole, lambda *answer: told.extend(answer)))
        status, headers = told[:2]
        if not status.startswith("200"):
            start_response(status, headers)
            return []
        own = {"content-length", "content-range"}
        kept = [(name, value) for name, value in headers if name.lower() not in own and "checksum" not in name.lower()]
        bounds = {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{body.size}"}
        start_response("206 Partial Content", [*kept, *bounds.items()])
        return body.pieces(start, stop)

    with moto_fixes.applied():
        server = make_server("127.0.0.1", 0, noting, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pipe.send(f"http://127.0.0.1:{server.server_port}")
        while True:
            try:
                pipe.recv()
            except EOFError:
                os._exit(0)
            pipe.send(asked)


@contextmanager
def s3_with(key: str, body: Body, folder: Path) -> Iterator[tuple[str, Callable[[], list[Span]]]]:
    """Run S3 with one object and a checksum of it; yield its URL, and what returns all ranged GETs."""
    here, there = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=serve_s3, args=(there, body), daemon=True)
    process.start()
    there.close()

    def reads() -> list[Span]:
        here.send("reads?")
        return [Span(*bounds) for bounds in here.recv()]

    try:
        url: str = here.recv()
        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=300),
        )
        client.create_bucket(Bucket=SOURCE)
        with (folder / "original").open("w+b") as file:
            file.writelines(body.pieces(0, body.size))
            file.seek(0)
            client.put_object(
                Bucket=SOURCE,
                Key=key,
                Body=file,
                ChecksumAlgorithm="CRC64NVME",  # which has to be written down with each part
                ChecksumCRC64NVME=_crc64nvme(body),
            )
        client.close()
        yield url, reads
    finally:
        here.close()
        process.join()


def _crc64nvme(body: Body) -> str:
    model, value = anycrc.Model("CRC64-NVME"), 0
    for piece in body.pieces(0, body.size):
        value = model.calc(piece, value)
    return base64.b64encode(value.to_bytes(8, "big")).decode()


class Death(NamedTuple):
    """An instance that was killed before it had answered."""

    span: int | None
    """The one that it was given; None: the event."""
    at: str
    """What it was killed at, in words."""


@dataclass(kw_only=True)
class Mortal(Mapping):
    """An event source mapping whose instances can be killed; each is replaced, and its message comes again.

    A span's at once, as if the visibility timeout were over; the event, like all that failed, by `redeliver`.
    """

    start: Callable[[], Session]
    """Makes an instance."""
    bury: Callable[[Session], object]
    """Waits for the end of a killed one."""
    deaths: list[Death] = field(default_factory=list)
    too_late: int = 0
    """Instances that were killed and had answered."""
    _busy: dict[int, str] = field(default_factory=dict)
    _doomed: dict[int, str] = field(default_factory=dict)
    """By process: what it works at, and at what it was sent SIGKILL."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def kill(self, chance: random.Random, at: str = "") -> bool:
        """Kill an instance that works; False where none does. Only one with the event is, as nothing begins before."""
        with self._lock:
            working = self._busy.keys() - self._doomed.keys()
            if _EVENT in self._doomed.values():
                working = {pid for pid in working if self._busy[pid] != _EVENT}
            if working:
                pid = chance.choice(sorted(working))
                self._doomed[pid] = at or self._busy[pid]
                os.kill(pid, signal.SIGKILL)
            return bool(working)

    @property
    def kills(self) -> int:
        """How many were killed before they had answered, as far as is known by now."""
        return len(self._doomed) - self.too_late

    def deliver(self) -> None:
        """Feed the instances, and let what failed come again when nothing else is left, until nothing is."""
        for _ in range(ROUNDS):
            self.drain()
            left = self.left()
            if not left:
                break
            if left == len(self.again):
                self.redeliver()

    def left(self) -> int:
        """How many messages the queue holds, visible or not."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    def _invoke(self, session: Session, batch: list[MessageTypeDef]) -> None:
        (message,), pid = batch, session.process.pid
        asked = json.loads(message["Body"]).get("replicatePart", {}).get("span")
        span = asked[0] // SPAN if asked else None
        with self._lock:
            self.invocations += 1
            self.again.pop(message["MessageId"], None)
            self._busy[pid] = _EVENT if span is None else _SPAN
        try:
            answer = self._tell(session, batch)
            with self._lock:
                del self._busy[pid]
                if pid in self._doomed and answer is None:
                    self.deaths.append(Death(span, self._doomed[pid]))
                elif pid in self._doomed:
                    self.too_late += 1
            self._settle(message, answer, at_once=answer is None and span is not None)
            if pid in self._doomed:
                self.bury(session)
                session = self.start()
        except Exception as error:  # noqa: BLE001 - `drain` raises it
            self.errors.append(error)
        finally:
            self.idle.put(session)

    def _tell(self, session: Session, batch: list[MessageTypeDef]) -> Any:
        """Return the answer, None where it was killed before it gave one."""
        try:
            return json.loads(session.tell(json.dumps(sqs_event(batch, _ARN))))
        except Failed:
            if session.process.pid not in self._doomed:
                raise
            return None

    def _settle(self, message: MessageTypeDef, answer: Any, *, at_once: bool) -> None:
        where: Any = {"QueueUrl": self.url, "ReceiptHandle": message["ReceiptHandle"]}
        if at_once:
            self.sqs.change_message_visibility(VisibilityTimeout=0, **where)
        elif answer is None or failed_ids(answer, [message["MessageId"]]):
            self.again[message["MessageId"]] = where["ReceiptHandle"]
        else:
            self.sqs.delete_message(**where)
