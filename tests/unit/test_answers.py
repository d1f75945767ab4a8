"""What S3 Batch Operations is told of a task, which a job's report shows to whoever started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from handler.answers import LONGEST, task_result
from handler.app import Service
from handler.config import load
from handler.core.batch import Replicator, Work
from handler.core.errors import Refused, Unavailable
from handler.core.model import Headers, Stamp
from handler.core.task import Change
from tests.fakes import MemoryDestination, MemorySource
from tests.unit.test_app import Clock


class Task:
    """One key, the two sides, and the rules between them."""

    def __init__(self) -> None:
        self.source, self.copies = MemorySource(), MemoryDestination()
        self.key = "k"
        self.fields: dict[str, Any] = {}
        self.dry_run = False

    def result(self) -> dict[str, str]:
        """Work on the key, and return what its job is told."""
        rules = '[{"ID": "r", "Source": {"Bucket": "s"}, "Destination": {"Bucket": "gs://copies/to"}, %s}]'
        status = '"Status": "Enabled"'
        settings = load({"REPLICATION_RULES": rules % ", ".join([status, *self.fields.values()])})
        replicator = Replicator(
            settings.by_source,
            source=lambda _bucket, _tags: self.source,
            destination=lambda _location: self.copies,
            concurrency=1,
            dry_run=self.dry_run,
        )
        change = Change(bucket="s", key=self.key, event="BatchOperations")
        (result,) = replicator.replicate([Work(bucket="s", key=self.key, changes=(change,))])
        replicator.close()
        return task_result(result.errors, result.outcomes)


def _put(task: Task) -> None:
    task.source.put("k", b"Sample data\n")


def _equal(task: Task) -> None:
    _put(task)
    task.result()


def _changed(task: Task) -> None:
    _equal(task)
    task.source.put("k", b"Sample data\n", headers=Headers(cache_control="no-store"))


def _gone(task: Task) -> None:
    _equal(task)
    task.source.delete("k")


def _kept(task: Task) -> None:
    _gone(task)
    task.fields["deletes"] = '"DeleteMarkerReplication": {"Status": "Disabled"}'


def _uncovered(task: Task) -> None:
    _put(task)
    task.fields["filter"] = '"Filter": {"Prefix": "in/"}'


def _excluded(task: Task) -> None:
    _put(task)
    task.fields["filter"] = '"Filter": {"Tag": {"Key": "copy", "Value": "yes"}}'


def _dry(before: Callable[[Task], None]) -> Callable[[Task], None]:
    def prepare(task: Task) -> None:
        before(task)
        task.dry_run = True

    return prepare


DRY = "Nothing done, as this is a dry run. It would"


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (_put, "Copied, 12 bytes: gs://copies/to/k"),
        (_equal, "Equal already: gs://copies/to/k"),
        (_changed, "Metadata changed, as the bytes were equal: gs://copies/to/k"),
        (_gone, "Deleted, as the source has no such object: gs://copies/to/k"),
        (lambda _: None, "Nothing done (neither side has it): gs://copies/to/k"),
        (_kept, "Nothing done (the rule 'r' does not replicate deletes: kept): gs://copies/to/k"),
        (_uncovered, "Nothing done: no enabled rule covers this key"),
        (_excluded, "Nothing done (excluded by 'r': the tags are not those asked for): gs://copies/to/k"),
        (_dry(_put), f"{DRY} copy (no replica): gs://copies/to/k"),
        (
            _dry(_changed),
            f"{DRY} change the metadata (the bytes are equal, the metadata is not): gs://copies/to/k",
        ),
        (_dry(_gone), f"{DRY} delete (no original): gs://copies/to/k"),
        (_dry(_equal), "Equal already: gs://copies/to/k"),
    ],
    ids=[
        *("copied", "equal", "patched", "deleted", "on neither side", "kept", "not covered", "excluded by tags"),
        *("dry put", "dry patch", "dry delete", "dry equal"),
    ],
)
def test_a_task_says_what_happened(prepare: Callable[[Task], None], said: str) -> None:
    task = Task()
    prepare(task)
    assert task.result() == {"resultCode": "Succeeded", "resultString": said}


def test_an_object_that_is_not_ours_is_said_to_be_kept() -> None:
    task = Task()
    _gone(task)
    copy = task.copies.head("to/k")
    task.copies.patch("to/k", Stamp(custom_time=copy.stamp.custom_time), expect=copy.generation)
    said = "Nothing done (not this replicator's copy of that key: kept): gs://copies/to/k"
    assert task.result() == {"resultCode": "Succeeded", "resultString": said}


def test_each_copy_of_a_key_is_told_of() -> None:
    settings = load(
        {
            "REPLICATION_RULES": '[{"ID": "a", "Source": {"Bucket": "s"}, "Destination": {"Bucket": "gs://one"}},'
            '{"ID": "b", "Source": {"Bucket": "s"}, "Destination": {"Bucket": "gs://two"}}]'
        }
    )
    source, copies = MemorySource(), {"gs://one": MemoryDestination(), "gs://two": MemoryDestination()}
    source.put("k", b"1")
    replicator = Replicator(
        settings.by_source, source=lambda *_: source, destination=lambda place: copies[place], concurrency=1
    )
    (result,) = replicator.replicate([Work(bucket="s", key="k", changes=(Change(bucket="s", key="k", event="x"),))])
    replicator.close()
    assert task_result((), result.outcomes)["resultString"] == "Copied, 1 byte: gs://one/k; Copied, 1 byte: gs://two/k"


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("away", code="X"), "TemporaryFailure"), (Refused("no", code="X"), "PermanentFailure")],
)
def test_a_failure_says_its_reason(error: Unavailable | Refused, code: str) -> None:
    assert task_result([error], ()) == {"resultCode": code, "resultString": f"X: {error}"}


def test_what_is_said_is_no_longer_than_s3_takes() -> None:
    task = Task()
    task.key = "k" * 1021
    task.source.put(task.key, b"1")
    said = task.result()["resultString"]
    assert len(said) == LONGEST == 1024
    assert said.startswith("Copied, 1 byte: gs://copies/to/kkk")
    assert len(task_result([Refused("x" * 2000, code="X")], ())["resultString"]) == LONGEST


def test_a_job_is_told_by_the_handler() -> None:
    service = Service(
        load(
            {
                "REPLICATION_RULES": '[{"ID": "r", "Source": {"Bucket": "s"}, "Filter": {"Prefix": "in/"},'
                '"Destination": {"Bucket": "gs://copies"}}]'
            }
        )
    )
    service.deadline.begin(Clock())
    task = {"taskId": "t", "s3Key": "out/k", "s3Bucket": "s"}
    event = {"invocationSchemaVersion": "2.0", "invocationId": "i", "job": {"id": "j"}, "tasks": [task]}
    (result,) = service.handle(event)["results"]
    service.close()
    said = "Nothing done: no enabled rule covers this key"
    assert result == {"taskId": "t", "resultCode": "Succeeded", "resultString": said}
