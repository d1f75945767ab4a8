"""The brake on mass deletes: what waits, what is held, released or dropped, and that nothing else is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from handler import config
from handler.adapters import queue
from handler.adapters.queue import MessageQueue
from handler.tools.rows import Row
from handler.tools.safeguards import of_brake
from handler.tools.verify import main as verify
from local_emulator.gcs import GcsServer
from tests.functional.lane import LIMIT, MANY, Lane
from tests.functional.rig import Clock, Rig, rig_on
from tests.unit.alarms import MINUTE, Alarm, Metrics, states
from tests.unit.cfn import Stack

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask no queue for longer than it takes: moto has one server, which a short poll asks too."""
    monkeypatch.setattr(queue, "LONG_POLL", 0)


@pytest.fixture
def lane(rig: Rig) -> Lane:
    return Lane(rig)


@pytest.fixture
def emptied(lane: Lane) -> Lane:
    """A source that somebody emptied, and all deletes held."""
    lane.empty()
    return lane


def test_a_delete_waits_and_is_carried_out_then(lane: Lane) -> None:
    lane.put("k")
    lane.remove("k")
    told = lane.told[-1]
    assert told.line("k")["outcome"] == "defer delete"
    assert told.measured("OperationsReplicated") == 0, "nothing was done yet"
    assert lane.names() == ["k"]
    lane.drain()
    assert lane.names() == []
    assert lane.told[-1].line("k")["outcome"] == "delete"
    assert lane.held() == 0


def test_a_key_that_the_source_has_again_is_not_deleted(lane: Lane) -> None:
    lane.put("k")
    lane.remove("k")
    lane.put("k")
    lane.drain()
    assert lane.names() == ["k"]


def test_deletes_up_to_the_limit_are_carried_out(lane: Lane) -> None:
    lane.put(*MANY)
    lane.remove(*MANY[:LIMIT])
    lane.drain()
    assert lane.names() == MANY[LIMIT:]


def test_none_of_too_many_deletes_is_carried_out(emptied: Lane) -> None:
    assert emptied.names() == MANY
    assert emptied.held() == len(MANY)
    assert emptied.measured("DeletesHeld") == len(MANY)
    assert {told.line(MANY[0])["outcome"] for told in emptied.told if told.measured("DeletesHeld")} == {"held"}


def test_one_alarm_rings_while_deletes_are_held(emptied: Lane) -> None:
    """The template's own alarm, over what SQS counts, minute by minute."""
    name, metrics = "HeldDeletesAlarm", Metrics()
    alarm = Alarm(Stack().resource(name))

    def sampled(minute: int) -> None:
        attribute: QueueAttributeNameType = "ApproximateNumberOfMessages"
        told = emptied.rig.sqs.get_queue_attributes(QueueUrl=emptied.queues.held, AttributeNames=[attribute])
        metrics.add(
            minute * MINUTE,
            namespace="AWS/SQS",
            name="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": "HeldDeletesQueue.QueueName"},
            values=[float(told["Attributes"][attribute])],
        )

    for minute in (0, 1):
        sampled(minute)
    assert states({name: alarm}, metrics, 2) == {name: [1]}
    sum(emptied.held_deletes().release())
    for minute in (2, 3):
        sampled(minute)
    assert states({name: alarm}, metrics, 4) == {name: [1, 3]}, "it rings no longer"


def test_the_check_says_whether_deletes_are_held(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", lane.rig.moto)

    def row() -> Row:
        return of_brake(config.load({"REPLICATION_RULES": json.dumps([lane.rule]), **lane.environment}))

    assert (row().result, row().detail) == ("ok", f"on, over {LIMIT} deletes; 0 wait")
    lane.put(*MANY)
    lane.remove(*MANY)
    lane.drain()
    assert (row().result, row().detail.partition(":")[0]) == ("WRONG", f"about {len(MANY)} deletes are held")
    monkeypatch.setattr(MessageQueue, "count", lambda _: 0)
    assert row().result == "WRONG", "counts lag"
    lane.limit = 0
    assert (row().result, row().detail.partition(":")[0]) == ("ok", "off")


def test_deletes_are_held_until_no_held_delete_is_left(emptied: Lane) -> None:
    """The last of a mass delete would be under the limit by themselves; so is what comes later."""
    emptied.put("late")
    emptied.remove("late")
    emptied.drain()
    assert emptied.names() == sorted([*MANY, "late"])
    assert emptied.held() == len(MANY) + 1


def test_an_instance_that_is_told_of_no_held_delete_holds_what_comes_while_there_are_some(
    emptied: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS's counts are right only after a minute: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html."""
    emptied.put("late")
    emptied.remove("late")
    monkeypatch.setattr(MessageQueue, "count", lambda _: 0)
    emptied.drain()
    assert "late" in emptied.names()


def test_a_delete_is_carried_out_after_the_last_held_one_is_gone_though_some_are_counted_still(
    emptied: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    sum(emptied.held_deletes().drop())
    emptied.remove(MANY[0])
    count = MessageQueue.count
    monkeypatch.setattr(MessageQueue, "count", lambda queue: 1 if queue._url == emptied.queues.held else count(queue))
    emptied.drain()
    assert emptied.names() == MANY[1:]


def test_copies_go_on_while_deletes_are_held(emptied: Lane) -> None:
    emptied.put("new")
    assert "new" in emptied.names()


def test_an_instance_that_dies_before_it_acknowledges_loses_no_delete(lane: Lane) -> None:
    lane.put(*MANY)
    lane.remove(*MANY)
    lane.rig.handle(lane.instance(), *lane.waiting())  # it is killed here: nothing is acknowledged
    assert lane.held() == len(MANY)
    assert sum(lane.held_deletes().release()) == len(MANY)
    lane.drain_events()
    assert lane.names() == []


def test_a_delete_that_comes_twice_is_carried_out_once(lane: Lane) -> None:
    lane.put("k", "other")
    lane.remove("k")
    lane.tell("ObjectRemoved:Delete", "k")
    lane.drain()
    assert lane.names() == ["other"]


def test_nothing_is_deleted_while_the_queues_cannot_be_counted(lane: Lane) -> None:
    lane.put("k")
    lane.remove("k")
    batch = lane.waiting()
    told = lane.carry_out(batch, lane.instance(HELD_DELETES_QUEUE_URL=f"{lane.queues.held}-gone"))
    assert told.failed() == [batch[0]["messageId"]]
    assert lane.names() == ["k"]


def test_an_event_whose_delete_cannot_be_sent_comes_again(lane: Lane) -> None:
    lane.put("k")
    lane.rig.s3.delete_object(Bucket=lane.source, Key="k")
    service = lane.instance(DELETES_QUEUE_URL=f"{lane.queues.deletes}-gone")
    assert lane.tell("ObjectRemoved:Delete", "k", service=service).failed() == ["k"]
    assert lane.names() == ["k"]


def test_a_limit_of_zero_carries_deletes_out_at_once_and_what_waits_too(rig: Rig) -> None:
    lane = Lane(rig)
    lane.put(*MANY, "k")
    lane.remove(*MANY)
    lane.limit = 0
    lane.remove("k")
    assert lane.names() == MANY
    lane.drain()
    assert lane.names() == []


def test_batch_operations_say_where_the_delete_is(lane: Lane) -> None:
    lane.put("k")
    lane.remove("k", told=False)
    service = lane.instance()
    service.deadline.begin(Clock())
    task = {"taskId": "t", "s3Key": "k", "s3VersionId": None, "s3Bucket": lane.source}
    answer = service.handle({"invocationSchemaVersion": "2.0", "invocationId": "i", "job": {}, "tasks": [task]})
    (result,) = answer["results"]
    assert result["resultCode"] == "Succeeded"
    assert result["resultString"].startswith(
        "Delete sent to the deletes queue, as the source has no such object: gs://"
    )
    assert lane.names() == ["k"]


def test_verify_sends_deletes_to_the_same_queue(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lane.put("k")
    lane.remove("k", told=False)
    for name, value in lane.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REPLICATION_RULES", json.dumps([lane.rule]))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", lane.rig.front.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", lane.rig.moto)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", lane.rig.gcs_url)
    assert verify(["--repair"]) == 0
    assert "sent to the deletes queue" in capsys.readouterr().out
    assert lane.names() == ["k"]
    lane.drain()
    assert lane.names() == []
