"""One huge object by fan-out: its spans are messages, and so many instances of the function take them as Lambda's do.

Every instance has a relay of its own, so that each has the rate of one; two cores cannot show 8 x 75 MB/s, so the rate
is lower here, and what is measured is what more instances gain.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from moto.server import ThreadedMotoServer

from local_emulator import moto_fixes
from local_emulator.poller import failed_ids, sqs_event
from tests.benchmarks import bench_contestants as contestants
from tests.benchmarks.bench_measure import Failed, Meter, Session
from tests.benchmarks.bench_servers import GCS, S3, Clouds, Workload, copies
from tests.benchmarks.relay import Relay
from tests.benchmarks.shim import MIB

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

THRESHOLD = 128 * MIB
"""The least FAN_OUT_THRESHOLD there is: what is copied here is huge."""
DELIVERIES = 5
"""Of the event, and of what failed; maxReceiveCount."""
_VISIBILITY = 900


@contextmanager
def message_queue() -> Iterator[tuple[SQSClient, str]]:
    """Run an SQS queue in this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
    with moto_fixes.applied():
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        _, port = server.get_host_and_port()
        client = boto3.client(
            "sqs",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
        )
        try:
            attributes = {"VisibilityTimeout": str(_VISIBILITY)}
            yield client, client.create_queue(QueueName="parts", Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type] # names of attributes
        finally:
            client.close()
            server.stop()


@dataclass
class Mapping:
    """An event source mapping with batches of one: it gives each message to an instance that is idle."""

    sqs: SQSClient
    url: str
    instances: Sequence[Session]
    idle: queue.Queue[Session] = field(default_factory=queue.Queue)
    again: dict[str, str] = field(default_factory=dict)
    """The last receipt handles of messages that were reported as failed, by id; none of those that an instance has now.

    Among them is the event itself: it has to come again, to see the end.
    """
    errors: list[BaseException] = field(default_factory=list)
    invocations: int = 0
    ended: float = 0.0
    """When the last one ended."""

    def __post_init__(self) -> None:
        for session in self.instances:
            self.idle.put(session)

    def drain(self) -> None:
        """Feed the instances until no message is left but what failed, and none is worked on."""
        threads: list[threading.Thread] = []
        while True:
            session = self.idle.get()
            batch = self._receive()
            while not batch and any(thread.is_alive() for thread in threads):
                batch = self._receive(wait=1)  # what works now may send more
            if not batch or self.errors:
                self.idle.put(session)
                break
            threads.append(threading.Thread(target=self._invoke, args=(session, batch), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def redeliver(self) -> None:
        """Let what failed come again now; in AWS that is when its visibility timeout is over."""
        for handle in self.again.values():
            self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0)
        self.again.clear()

    def _receive(self, wait: int = 0) -> list[MessageTypeDef]:
        return self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=1, WaitTimeSeconds=wait, AttributeNames=["All"]
        ).get("Messages", [])

    def _invoke(self, session: Session, batch: list[MessageTypeDef]) -> None:
        try:
            self.invocations += 1
            self.again.pop(batch[0]["MessageId"], None)
            answer: Any = json.loads(session.tell(json.dumps(sqs_event(batch, "arn:aws:sqs:us-east-1:1:parts"))))
            if failed_ids(answer, [message["MessageId"] for message in batch]):
                self.again[batch[0]["MessageId"]] = batch[0]["ReceiptHandle"]
            else:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=batch[0]["ReceiptHandle"])
        except Exception as error:  # noqa: BLE001 - `drain` raises it
            self.errors.append(error)
        finally:
            self.ended = time.monotonic()
            self.idle.put(session)


def fan_out(meter: Meter, clouds: Clouds, workload: Workload, scratch: Path) -> tuple[float, int]:
    """Copy by as many instances as there are relays; return the seconds from the event on, and the invocations.

    Raises:
        Failed: it is not whole when all has been delivered so often.
    """
    with ExitStack() as stack:
        sqs, url = stack.enter_context(message_queue())
        sessions = [_instance(meter, relay, url, scratch / f"errors-{n}") for n, relay in enumerate(clouds.relays)]
        (key,) = workload.names()
        mapping = Mapping(sqs, url, sessions)
        began = time.monotonic()
        sqs.send_message(QueueUrl=url, MessageBody=contestants.notification(key, workload.size))
        took: float | None = None
        for _ in range(DELIVERIES):
            mapping.drain()
            if took is None and key in copies(clouds.direct):
                took = mapping.ended - began
            if took is not None and not mapping.again:
                break
            mapping.redeliver()
        for session in sessions:
            session.end()
        if took is None or mapping.again:
            raise Failed(f"not settled after {DELIVERIES} deliveries: {sessions[0].last_words()}")
        return took, mapping.invocations


def _instance(meter: Meter, relay: Relay, queue_url: str, errors: Path) -> Session:
    variables = {
        **contestants.function_environment(relay.urls[S3], relay.urls[GCS]),
        "AWS_ENDPOINT_URL_SQS": "http://" + urlsplit(queue_url).netloc,
        "PARTS_QUEUE_URL": queue_url,
        "FAN_OUT_THRESHOLD": str(THRESHOLD),
    }
    return Session(meter, contestants.FUNCTION, variables, errors)
