"""Writes one key over and over: S3's events, SQS, the handler, and a GCS that takes one write a second of a name.

`make hot-key`, or `python -m tests.benchmarks.hot_key [WRITES [SECONDS]]`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from handler import observe
from handler.app import Service
from local_emulator import environment, moto_fixes
from local_emulator.context import Context
from local_emulator.gcs import GcsServer
from local_emulator.poller import Poller, Queue
from tests.functional.fault_proxy import FaultProxy, fault_proxy
from tests.functional.rig import BODY, Rig, assert_nothing_secret, rig_on

KEY = "hot"
INVOCATIONS = 4
SETTLE = 180.0
"""Seconds that the queue may take to run empty: moto takes most of a second to hand out ten of 1,000 messages."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it."""

    writes: int
    seconds: float
    """That the writes took."""
    settled: float
    """Seconds from the last write until the queue was empty."""
    equal: bool
    """Whether S3 and GCS have the same bytes in the end."""
    answers: Counter[tuple[str, int]]
    """What GCS was asked to change, by method and status."""
    failures: Counter[str]
    """Codes of what failed, and came again."""

    @property
    def copies(self) -> int:
        """Writes that GCS took."""
        return sum(count for (_, status), count in self.answers.items() if status == 200)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} {method} {status}" for (method, status), count in sorted(self.answers.items()))
        failed = ", ".join(f"{count} {code}" for code, count in self.failures.items()) or "none"
        state = "equal" if self.equal else "NOT EQUAL"
        return (
            f"{self.writes} writes in {self.seconds:.1f} s, {self.copies} GCS writes, {state}; "
            f"the queue empty {self.settled:.1f} s after the last\n"
            f"  GCS answered: {answers}\n  failures: {failed}"
        )


def hot_key(moto: str, gcs_url: str, writes: int, seconds: float) -> Report:
    """Write the key that often, evenly over the seconds, and wait for the end of it."""
    with rig_on(moto, gcs_url) as rig, fault_proxy(gcs_url) as proxy, moto_fixes.applied(), _quiet() as log:
        bucket, copies, queue = rig.bucket(), rig.copies(), _queue_of(rig)
        _notify(rig, bucket, queue)
        rules = {"ID": "hot", "Source": {"Bucket": bucket}, "Destination": {"Bucket": f"gs://{copies.name}"}}
        service = rig.service(rules, gcs_url=proxy.url)
        poller = Poller(rig.sqs, queue, lambda event: _invoke(service, event), concurrency=INVOCATIONS, visibility=30)
        poller.start()
        try:
            took = _write(rig, bucket, writes, seconds)
            start = time.monotonic()
            _await_empty(rig, queue)
            settled = time.monotonic() - start
        finally:
            poller.stop()
        original = rig.s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()
        blob = rig.blob(copies, KEY)
        equal = blob is not None and blob.download_as_bytes(raw_download=True) == original
        return Report(
            writes=writes,
            seconds=took,
            settled=settled,
            equal=equal,
            answers=_answers(proxy),
            failures=Counter(log()),
        )


def _invoke(service: Service, event: dict[str, Any]) -> Any:
    service.deadline.begin(Context())
    return service.handle(event)


def _queue_of(rig: Rig) -> Queue:
    url = rig.queue(VisibilityTimeout="30")
    answer = rig.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return Queue(url, answer["Attributes"]["QueueArn"])


def _notify(rig: Rig, bucket: str, queue: Queue) -> None:
    rig.s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": queue.arn, "Events": ["s3:ObjectCreated:*"]}]},
    )


def _write(rig: Rig, bucket: str, writes: int, seconds: float) -> float:
    """One after the other, as moto fails where two put the same key at once."""
    start = time.monotonic()
    for number in range(writes):
        time.sleep(max(0.0, start + number * seconds / writes - time.monotonic()))
        rig.put(bucket, KEY, BODY + b"%06d" % number)
    return time.monotonic() - start


def _await_empty(rig: Rig, queue: Queue) -> None:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    deadline = time.monotonic() + SETTLE
    while True:
        left = rig.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
        if not any(int(left[name]) for name in names):
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"the queue is not empty after {SETTLE} s: {left}")
        time.sleep(0.05)


def _answers(proxy: FaultProxy) -> Counter[tuple[str, int]]:
    return Counter((request.method, request.status) for request in proxy.requests if request.method != "GET")


@contextmanager
def _quiet() -> Iterator[Any]:
    """Keep the handler's output; what is yielded returns the codes of all that failed."""
    log = io.StringIO()

    def codes() -> list[str]:
        assert_nothing_secret(log.getvalue())
        lines = (observe_line for observe_line in log.getvalue().splitlines() if '"outcome":"failed"' in observe_line)
        return [line.partition('"code":"')[2].partition('"')[0] for line in lines]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(log):
        patch.setattr(observe.logger.registered_handler, "stream", log)
        yield codes


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hot_key", description=__doc__)
    parser.add_argument("writes", type=int, nargs="?", default=1000, help="of the key (default %(default)s)")
    parser.add_argument("seconds", type=int, nargs="?", default=10, help="that they take (default %(default)s)")
    asked = parser.parse_args()
    environment.isolate()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with tempfile.TemporaryDirectory() as folder, GcsServer(folder, one_write_a_second=True) as gcs:
            report = hot_key(f"http://{host}:{port}", gcs.url, asked.writes, asked.seconds)
    finally:
        server.stop()
    print(report)
    return 0 if report.equal and report.copies < asked.writes / 10 else 1


if __name__ == "__main__":
    sys.exit(main())
