"""The composition root: which adapter serves which side, for the Lambda entry and for the tools alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from handler import config, messages, observe
from handler.adapters import retry
from handler.adapters.queue import MessageQueue
from handler.adapters.s3.client import S3Requests
from handler.adapters.s3.source import S3Source
from handler.adapters.transport import IDLE_MAX
from handler.brake import Brake
from handler.core.batch import Replicator
from handler.core.breaker import Circuits
from handler.core.parts import Parts
from handler.core.ports import Destination, Source
from handler.core.rate import RateEstimate
from handler.core.task import CopyTask
from handler.core.throttle import ThrottledSource, TokenBucket

if TYPE_CHECKING:
    from handler.adapters.gcs.objects import JsonObjects

MARGIN = 5.0
"""Seconds before the deadline at which nothing new is begun."""


class Context(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is ended."""


class Deadline:
    """The end of the invocation that began last."""

    def __init__(self) -> None:
        self._context: Context | None = None

    def begin(self, context: Context) -> None:
        """Note a new invocation."""
        self._context = context

    def left(self) -> float:
        """Seconds for work that is to be finished, `MARGIN` kept back."""
        return self._context.get_remaining_time_in_millis() / 1000 - MARGIN if self._context else 0.0

    def is_ahead(self) -> bool:
        """Whether there is time left at all."""
        return self.left() > 0


class Wiring:
    """The assembled replicator: its adapters and clients, kept across invocations.

    Args:
        settings: the configuration.
        clock: seconds since 1970.
    """

    def __init__(self, settings: config.Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self.deadline = Deadline()
        self._clients: dict[str, Any] = {}
        self._used: dict[str, float] = {}
        self._lock = Lock()
        self._s3 = S3Requests(
            partial(self.aws, "s3"),
            connections=settings.concurrency + settings.streams,
            time_left=self.deadline.left,
        )
        self._bucket = settings.bandwidth and TokenBucket(settings.bandwidth, left=self.deadline.left)
        self.brake = self._new_brake()
        self.replicator = Replicator(
            settings.by_source,
            source=self._source,
            destination=self._destination,
            concurrency=settings.concurrency,
            parts=Parts(
                ThreadPoolExecutor(settings.streams, "part"),
                huge=settings.huge,
                send=self.part_sender(),
                rate=RateEstimate(self.deadline.left),
            ),
            dry_run=settings.dry_run,
            circuits=Circuits(clock=clock, switched=observe.switched),
            defer_delete=self.brake.defer if self.brake else None,
        )

    def _queue(self, url: str, what: str) -> MessageQueue:
        return MessageQueue(partial(self.aws, "sqs"), url, what)

    def _new_brake(self) -> Brake | None:
        waiting, held, limit = (
            self._settings.deletes_queue,
            self._settings.held_deletes_queue,
            self._settings.deletes_limit,
        )
        if not (waiting and held and limit):
            return None
        return Brake(self._queue(waiting, "deletes"), self._queue(held, "deletes"), limit)

    def part_sender(self) -> Callable[[Sequence[CopyTask]], None] | None:
        """Return what sends the messages of parts; None where there is no queue for them."""
        if not self._settings.parts_queue:
            return None
        queue = self._queue(self._settings.parts_queue, "parts")
        return lambda parts: queue.send([messages.part_message(part) for part in parts])

    def aws(self, service: str) -> Any:
        """Return the one boto3 client of a service, made when it is first needed: most invocations need none.

        boto3 would use connections of any age, so those that idled for over `IDLE_MAX` seconds are closed.
        """
        with self._lock:  # boto3 makes one at a time
            now = self._clock()
            idle, self._used[service] = now - self._used.get(service, now), now
            if service in self._clients and not 0 <= idle <= IDLE_MAX:
                self._clients[service].close()  # a botocore client connects anew
            if service not in self._clients:
                import boto3  # a cold start's largest part, for rare requests
                from botocore.config import Config

                # What S3Requests asks of S3, it tries again itself.
                how = Config(
                    max_pool_connections=self._settings.concurrency + 2,
                    retries={"mode": "standard", "total_max_attempts": 1 if service == "s3" else 3},
                    connect_timeout=retry.CONNECT,
                    read_timeout=retry.SILENCE,
                    tcp_keepalive=True,
                )
                self._clients[service] = boto3.client(service, config=how)  # type: ignore[call-overload] # by name
            return self._clients[service]

    def _source(self, bucket: str, with_tags: bool) -> Source:  # noqa: FBT001 - the shape of Replicator's factory
        source = S3Source(
            self._s3,
            bucket,
            owner=self._settings.owner_of(bucket),
            with_tags=with_tags,
        )
        return ThrottledSource(source, self._bucket) if self._bucket else source

    def _destination(self, location: str) -> Destination:
        scheme, _, place = location.partition("://")
        if scheme == "file":
            from handler.adapters.folder.destination import FolderDestination  # each only where a rule asks for it

            return FolderDestination(Path(place))
        from handler.adapters.gcs.destination import GcsDestination

        return GcsDestination(self.gcs(), place, objects=self._gcs_objects(), time_left=self.deadline.left)

    def _gcs_objects(self) -> type[JsonObjects]:
        """Return the class that makes the requests to GCS, as GCS_CLIENT says."""
        if self._settings.gcs_client == "google-cloud-storage":
            from handler.adapters.gcs.official import OfficialObjects  # not in every zip, and slow to import

            return OfficialObjects
        from handler.adapters.gcs.objects import JsonObjects

        return JsonObjects

    def gcs(self) -> Any:
        """Return the one client of GCS, whose token all threads share."""
        with self._lock:
            if "gcs" not in self._clients:
                from handler.adapters.gcs.client import connect

                connections = self._settings.concurrency + self._settings.streams
                self._clients["gcs"] = connect(
                    self._settings.gcp_credentials, connections=connections, time_left=self.deadline.left
                )
            return self._clients["gcs"]

    def close(self) -> None:
        """Close every connection, which Lambda never does."""
        for client in self._clients.values():
            client.close()
        self._s3.close()
        self.replicator.close()
