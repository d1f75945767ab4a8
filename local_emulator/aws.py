"""Amazon's side: moto's server on loopback with the source buckets and all queues."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, Self

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from local_emulator import moto_fixes
from local_emulator.context import REGION
from local_emulator.poller import Queue

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

    from local_emulator.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


class Aws:
    """S3 and SQS while the `with` block lasts."""

    s3: S3Client
    sqs: SQSClient
    url: str
    queue: Queue
    dead_letter_queue: Queue
    deletes_queue: Queue
    held_deletes_queue: Queue

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        port = free_port(settings.s3_port, "S3 and SQS")
        self._server = ThreadedMotoServer(ip_address=LOOPBACK, port=port, verbose=False)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
        self._stack.enter_context(moto_fixes.applied())
        self._server.start()
        self._stack.callback(self._server.stop)
        _, port = self._server.get_host_and_port()
        self.url = f"http://{LOOPBACK}:{port}"
        # moto counts chunked checksums wrong, and parses them in quadratic time
        config = Config(request_checksum_calculation="when_required", max_pool_connections=50)
        self.s3 = boto3.client("s3", region_name=REGION, endpoint_url=self.url, config=config)
        self.sqs = boto3.client("sqs", region_name=REGION, endpoint_url=self.url, config=config)
        self._create_queues()
        for bucket in self._settings.source_buckets:
            self._create_bucket(bucket)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _create_queues(self) -> None:
        self.dead_letter_queue = self._create_queue("replication-dead-letters", {})
        redrive = {"deadLetterTargetArn": self.dead_letter_queue.arn, "maxReceiveCount": self._settings.max_receives}
        served: dict[QueueAttributeNameType, str] = {
            "RedrivePolicy": json.dumps(redrive),
            "VisibilityTimeout": str(self._settings.visibility),
        }
        self.queue = self._create_queue("replication-events", served)
        delay = str(self._settings.deletes_delay)
        self.deletes_queue = self._create_queue("replication-deletes", {**served, "DelaySeconds": delay})
        self.held_deletes_queue = self._create_queue("replication-held-deletes", {})

    def _create_queue(self, name: str, attributes: dict[QueueAttributeNameType, str]) -> Queue:
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return Queue(url, answer["Attributes"]["QueueArn"])

    def _create_bucket(self, bucket: str) -> None:
        self.s3.create_bucket(Bucket=bucket)
        if self._settings.versioned:
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def waiting(self, *queues: Queue) -> int:
        """Return how many messages of the queues are not done."""
        names: list[Literal["ApproximateNumberOfMessages"]] = [
            f"ApproximateNumberOfMessages{kind}"  # type: ignore[misc] # the stubs know whole names only
            for kind in ("", "NotVisible", "Delayed")
        ]
        asked = [self.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names) for queue in queues]
        return sum(int(count) for answer in asked for count in answer["Attributes"].values())

    def wire(self) -> None:
        """Send what happens in the source buckets to the events queue from now on."""
        for bucket in self._settings.source_buckets:
            self.s3.put_bucket_notification_configuration(
                Bucket=bucket,
                NotificationConfiguration={
                    "QueueConfigurations": [
                        {
                            "Id": "replication",
                            "QueueArn": self.queue.arn,
                            "Events": [
                                "s3:ObjectCreated:*",
                                "s3:ObjectRemoved:*",
                                "s3:ObjectTagging:*",
                                "s3:ObjectRestore:Completed",
                                "s3:LifecycleExpiration:*",
                                "s3:LifecycleTransition",
                            ],
                        }
                    ]
                },
            )


def free_port(port: int, what: str) -> int:
    """Return a port if it can be had, or else 0 for any, and say so."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        log.warning("the port %d for %s cannot be had (%s): a free one is taken", port, what, error.strerror)
        return 0
    return port
