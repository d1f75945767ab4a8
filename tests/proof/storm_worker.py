"""One instance of the function in the storm: a process that takes batches from SQS as Lambda's event source does.

It is forked from a process that has imported everything, so that a SIGKILL costs little and can be dealt out freely.
Every wait of the handler's own (between its retries, before a message comes again, of an open circuit) is a tenth of
what it is in production. The wait after a crash is a fiftieth: it stands beside the visibility timeout, which is 8 s
here and 780 s there.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(float(seconds) / 10)  # before anything binds the name

import boto3  # noqa: E402 - see above

from handler import app, backoff, observe  # noqa: E402
from handler.adapters.gcs import client as gcs_client  # noqa: E402
from handler.adapters.gcs import destination as gcs  # noqa: E402
from handler.core import breaker  # noqa: E402
from local_emulator.context import invoker  # noqa: E402
from local_emulator.poller import failed_ids, sqs_event  # noqa: E402

_delay = backoff.delay
backoff.delay = lambda *told: _delay(*told) // 10
_after_a_crash = backoff.after_a_crash
backoff.after_a_crash = lambda *told: _after_a_crash(*told) // 50
breaker.SHORTEST_OPEN, breaker.LONGEST_OPEN = breaker.SHORTEST_OPEN / 10, breaker.LONGEST_OPEN / 10

_PRELOADED = (gcs, gcs_client, observe)
LONG, SHORT, NONE = 8, 1, 0
"""Seconds a batch stays invisible: long enough; over while the handler works on it; not at all."""

for _service in ("s3", "sqs"):  # loads botocore's models once for all forks
    boto3.client(_service, region_name="us-east-1", aws_access_key_id="storm", aws_secret_access_key="storm")


def work(environment: Mapping[str, str], queue: tuple[str, str], folder: Path, name: str) -> None:
    """Take batches until killed."""
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    log = os.open(folder / f"{name.partition('#')[0]}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    journal = os.open(folder / "deliveries", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    sqs = boto3.client("sqs", region_name="us-east-1")
    invoke = invoker(app.lambda_handler)
    url, arn = queue
    for turn in itertools.count():
        batch = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            VisibilityTimeout={2: NONE, 6: SHORT}.get(turn % 10, LONG),
            AttributeNames=["ApproximateReceiveCount"],
        ).get("Messages", [])
        if not batch:
            continue
        ids = [message["MessageId"] for message in batch]
        os.write(journal, f"+ {name} {' '.join(ids)}\n".encode())
        failed = _failed(invoke, sqs_event(batch, arn), ids)
        done = [message for message in batch if message["MessageId"] not in failed]
        os.write(journal, f"- {name} {' '.join(ids)}\n".encode())
        if done:
            entries: list[Any] = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(done)
            ]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def _failed(invoke: Any, event: dict[str, Any], ids: list[str]) -> set[str]:
    try:
        return failed_ids(invoke(event), ids)
    except Exception as error:  # noqa: BLE001 - as Lambda: the whole batch comes again
        print(f"RAISED {type(error).__name__}: {error}", flush=True)
        return set(ids)
