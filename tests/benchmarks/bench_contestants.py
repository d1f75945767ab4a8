"""Who takes part in `make bench`, and how each is told to copy: as its own documents advise, with equal concurrency."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, quote_plus

from local_emulator.environment import isolate
from tests.benchmarks.bench_measure import Failed, Meter, Session
from tests.benchmarks.bench_servers import SOURCE, TARGET, VENV, Clouds, Workload

BATCH = 10
"""Messages of one invocation, as template.yaml has it."""
FUNCTION = (sys.executable, "-m", "tests.benchmarks.bench_function")
FLOOR, OURS = "curl", "ours"
Item = tuple[str, int]
"""Key and size."""
Event = Callable[[], None]
"""One that has come, as text: to call it is to copy what it tells of."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be copied, between which servers, and who measures."""

    clouds: Clouds
    workload: Workload
    meter: Meter
    concurrency: int
    scratch: Path
    """An empty folder."""

    @property
    def items(self) -> list[Item]:
        """All there is to copy."""
        return [(key, self.workload.size) for key in self.workload.names()]


class Contestant(Protocol):
    """One way to copy."""

    @property
    def name(self) -> str:
        """As it stands in the table."""

    @property
    def note(self) -> str:
        """How it is run."""

    def missing(self) -> str:
        """Say what is not installed, "" where nothing is missing."""

    def copy(self, task: Task) -> None:
        """Copy everything. Raises `Failed`."""

    def events(self, task: Task) -> AbstractContextManager[Callable[[Item], Event]]:
        """Be ready for events: return what makes the event of a single object."""


def environment() -> dict[str, str]:
    """Return what every contestant's environment begins with: no accounts, no proxies."""
    result = dict(os.environ)
    isolate(result)
    return {**result, "PYTHONUNBUFFERED": "1", "RCLONE_CONFIG": os.devnull}


@dataclass(frozen=True)
class Ours:
    """The handler in one instance of the function: batches of ten one after the other, all ten keys at once."""

    name: str = OURS
    note: str = "handler.app.lambda_handler in one process, SQS batches of 10, one invocation at a time"

    def missing(self) -> str:
        """It is here."""
        return ""

    def copy(self, task: Task) -> None:
        """Hand it one batch of ten after the other."""
        with self.events(task) as event_of:
            for start in range(0, len(task.items), BATCH):
                event_of(*task.items[start : start + BATCH])()

    @contextmanager
    def events(self, task: Task) -> Iterator[Callable[..., Event]]:
        """Hand it single events."""
        told = function_environment(task.clouds.s3, task.clouds.gcs)
        session = Session(task.meter, FUNCTION, {**told, "CONCURRENCY": str(task.concurrency)}, task.scratch / "errors")
        yield lambda *items: partial(_invoke, session, json.dumps(sqs_event(items)))
        session.end()


def function_environment(s3: str, gcs: str) -> dict[str, str]:
    """Return what the function is told of the two clouds."""
    rule = {"ID": "bench", "Source": {"Bucket": SOURCE}, "Destination": {"Bucket": f"gs://{TARGET}"}}
    return {
        "REPLICATION_RULES": json.dumps([rule]),
        "AWS_ENDPOINT_URL_S3": s3,
        "STORAGE_EMULATOR_HOST": gcs,
        "POWERTOOLS_SERVICE_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
    }


def sqs_event(items: Sequence[Item]) -> dict[str, object]:
    """Return the event of a batch of messages, each S3's notification of one new object."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": "1"},
                "body": notification(*item),
            }
            for number, item in enumerate(items)
        ]
    }


def notification(key: str, size: int) -> str:
    """Return what S3 sends of one new object."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-11-22T10:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": SOURCE}, "object": {"key": quote_plus(key, safe="/"), "size": size}},
    }
    return json.dumps({"Records": [record]})


def _invoke(session: Session, event: str) -> None:
    answer = json.loads(session.tell(event))
    if answer != {"batchItemFailures": []}:
        raise Failed(f"the handler answered {answer}: {session.last_words()}")


@dataclass(frozen=True)
class Script:
    """A peer's script (tests/benchmarks/peers), one process for all there is to copy."""

    name: str
    note: str
    module: str

    def missing(self) -> str:
        """Whether its environment is there."""
        return "" if (VENV / "python").exists() else "make .venv-bench/.ready"

    def copy(self, task: Task) -> None:
        """Hand it all keys at once."""
        session = self._session(task)
        session.tell(json.dumps(task.items))
        session.end()

    @contextmanager
    def events(self, task: Task) -> Iterator[Callable[[Item], Event]]:
        """Hand it single keys."""
        session = self._session(task)
        yield lambda item: partial(_tell, session, json.dumps([item]))
        session.end()

    def _session(self, task: Task) -> Session:
        command = [str(VENV / "python"), "-m", f"tests.benchmarks.peers.{self.module}"]
        variables = {
            "BENCH_S3": task.clouds.s3,
            "BENCH_GCS": task.clouds.gcs,
            "BENCH_SOURCE": SOURCE,
            "BENCH_TARGET": TARGET,
            "BENCH_CONCURRENCY": str(task.concurrency),
        }
        return Session(task.meter, command, variables, task.scratch / "errors")


def _tell(session: Session, items: str) -> None:
    session.tell(items)


@dataclass(frozen=True)
class Rclone:
    """One process for a whole prefix, or one for each event."""

    name: str = "rclone"
    note: str = "one rclone copy of the prefix, one copyto for each event; no look at the destination"

    def missing(self) -> str:
        """Whether it is there."""
        return "" if shutil.which(str(VENV / "rclone")) else "make .venv-bench/.ready"

    def copy(self, task: Task) -> None:
        """Run it over the prefix."""
        prefix = task.workload.prefix
        task.meter.run(_rclone(task, "copy", prefix, prefix, "--s3-no-head-object"))

    @contextmanager
    def events(self, task: Task) -> Iterator[Callable[[Item], Event]]:
        """Run it for each event."""
        yield lambda item: partial(task.meter.run, _rclone(task, "copyto", item[0], item[0]))


@dataclass(frozen=True)
class Curl:
    """The floor: two requests an object on connections that are kept, unsigned, without a condition or a check."""

    name: str = FLOOR
    note: str = (
        "one curl for all GETs into files in memory, then one for all POSTs; one large object: a pipe between two"
    )

    def missing(self) -> str:
        """Whether it is there."""
        return "" if shutil.which("curl") else "curl is not installed"

    def copy(self, task: Task) -> None:
        """Get all, then put all; a single object goes through a pipe."""
        if len(task.items) == 1:
            self._pipe(task, task.items[0][0])
            return
        gets, posts = task.scratch / "gets", task.scratch / "posts"
        files = {key: task.scratch / key.replace("/", "_") for key, _ in task.items}
        gets.write_text("".join(f'url = "{_get(task, key)}"\noutput = "{file}"\n' for key, file in files.items()))
        posts.write_text(
            'request = "POST"\nheader = "Expect:"\nheader = "Content-Type: application/octet-stream"\n'
            + "".join(
                f'url = "{_post(task, key)}"\nupload-file = "{file}"\noutput = "{os.devnull}"\n'
                for key, file in files.items()
            )
        )
        for config in (gets, posts):
            task.meter.run([*_CURL, "-Z", "--parallel-max", str(task.concurrency), "-K", str(config)])

    @contextmanager
    def events(self, task: Task) -> Iterator[Callable[[Item], Event]]:
        """Run the pipe for each event."""
        yield lambda item: partial(self._pipe, task, item[0])

    def _pipe(self, task: Task, key: str) -> None:
        get = task.meter.start([*_CURL, _get(task, key)], stdout=subprocess.PIPE)
        headers = ("-H", "Expect:", "-H", "Content-Type: application/octet-stream")
        post = task.meter.start(
            [*_CURL, "-X", "POST", *headers, "-T", "-", _post(task, key)], stdin=get.stdout, stdout=subprocess.DEVNULL
        )
        if get.stdout:
            get.stdout.close()
        statuses = task.meter.wait(get), task.meter.wait(post)
        if any(statuses):
            raise Failed(f"curl ended with {statuses}")


_CURL = ("curl", "-q", "--silent", "--show-error", "--fail")


def _get(task: Task, key: str) -> str:
    return f"{task.clouds.s3}/{SOURCE}/{quote(key)}"


def _post(task: Task, key: str) -> str:
    return f"{task.clouds.gcs}/upload/storage/v1/b/{TARGET}/o?uploadType=media&name={quote(key, safe='')}"


def _rclone(task: Task, verb: str, source: str, target: str, *more: str) -> list[str]:
    """Tuned: no look for buckets, none at the destination before the write."""
    return [
        str(VENV / "rclone"),
        verb,
        f":s3:{SOURCE}/{source}",
        f":gcs:{TARGET}/{target}",
        *("--s3-provider", "Other", "--s3-endpoint", task.clouds.s3, "--s3-region", "us-east-1"),
        *("--s3-access-key-id", "local", "--s3-secret-access-key", "local", "--s3-no-check-bucket"),
        *("--gcs-endpoint", f"{task.clouds.gcs}/storage/v1/", "--gcs-anonymous", "--gcs-no-check-bucket"),
        *("--gcs-bucket-policy-only", "--no-check-dest", "--no-traverse", "--use-server-modtime"),
        *("--transfers", str(task.concurrency), "--checkers", str(task.concurrency)),
        *("--multi-thread-streams", str(task.concurrency), "--retries", "1", "--stats", "0"),
        *more,
    ]


CONTESTANTS: Mapping[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Curl(),
        Ours(),
        Rclone(),
        Script("boto3 loop", "get_object, then upload_from_file, in ten threads", "plain"),
        Script(
            "obstore", "get_async into put_async, ten at once; large ones multipart, ten parts at once", "with_obstore"
        ),
        Script("OpenDAL", "read and write, large ones as files with concurrent=10, in ten threads", "with_opendal"),
    )
}
