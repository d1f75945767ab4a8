"""The brake on mass deletes: what waits, what is held, released or dropped, and that nothing else is deleted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from handler import deletes
from handler.adapters import queue
from handler.adapters.queue import MessageQueue
from handler.deletes import HeldDeletes, Queues
from handler.verify import main as verify
from local_emulator.gcs import GcsServer
from local_emulator.poller import sqs_event
from tests.functional.rig import Clock, Rig, Told, message, record, rig_on
from tests.functional.test_rules import rule
from tests.unit.cfn import TEMPLATE

if TYPE_CHECKING:
    from handler.app import Service

LIMIT = 3
MANY = [f"data/{number}" for number in range(2 * LIMIT + 2)]


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask no queue for longer than it takes: moto has one server, which a short poll asks too."""
    monkeypatch.setattr(queue, "LONG_POLL", 0)


class Lane:
    """One source, its copies, and the queues that a delete goes through. Nothing waits: the queues have no delay."""

    def __init__(self, rig: Rig, limit: int = LIMIT) -> None:
        self.rig = rig
        self.source, self.copies = rig.bucket(), rig.copies()
        self.queues = Queues(rig.queue(), rig.queue(), rig.queue())
        self.limit = limit
        self.told: list[Told] = []

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DELETES_QUEUE_URL": self.queues.deletes,
            "HELD_DELETES_QUEUE_URL": self.queues.held,
            "DELETES_LIMIT": str(self.limit),
        }

    @property
    def rule(self) -> dict[str, Any]:
        return rule("all", self.source, f"gs://{self.copies.name}")

    def instance(self, **environment: str) -> Service:
        """Start another instance of the function, which remembers nothing."""
        return self.rig.service(self.rule, **{**self.environment, **environment})

    def put(self, *keys: str) -> None:
        for key in keys:
            self.rig.s3.put_object(Bucket=self.source, Key=key, Body=b"data")
        self.tell("ObjectCreated:Put", *keys)

    def remove(self, *keys: str, told: bool = True) -> None:
        for key in keys:
            self.rig.s3.delete_object(Bucket=self.source, Key=key)
        if told:
            self.tell("ObjectRemoved:Delete", *keys)

    def tell(self, event: str, *keys: str, service: Service | None = None) -> Told:
        """Deliver S3's events of these keys."""
        events = [message(key, record(self.source, key, event)) for key in keys]
        told = self.rig.handle(service or self.instance(), *events)
        self.told.append(told)
        return told

    def waiting(self) -> Sequence[Mapping[str, Any]]:
        """Receive up to ten deletes that wait, as Lambda hands them over."""
        told = self.rig.sqs.get_queue_attributes(QueueUrl=self.queues.deletes, AttributeNames=["QueueArn"])
        batch = self.rig.sqs.receive_message(
            QueueUrl=self.queues.deletes, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages", [])
        records: Sequence[Mapping[str, Any]] = sqs_event(batch, told["Attributes"]["QueueArn"])["Records"]
        return records

    def carry_out(self, batch: Sequence[Mapping[str, Any]], service: Service) -> Told:
        """Invoke the function with what waits, and acknowledge what it does not name as failed."""
        told = self.rig.handle(service, *batch)
        for each in batch:
            if each["messageId"] not in told.failed():
                self.rig.sqs.delete_message(QueueUrl=self.queues.deletes, ReceiptHandle=each["receiptHandle"])
        self.told.append(told)
        return told

    def drain(self, service: Service | None = None) -> None:
        """Carry out what waits, each batch by another instance unless one is given."""
        while batch := self.waiting():
            self.carry_out(batch, service or self.instance())

    def drain_events(self) -> None:
        """Carry out what was released."""
        while batch := self.rig.sqs.receive_message(QueueUrl=self.queues.events, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            told = self.rig.handle(self.instance(), *sqs_event(batch, "arn:aws:sqs:us-east-1:1:events")["Records"])
            assert not told.failed()
            for each in batch:
                self.rig.sqs.delete_message(QueueUrl=self.queues.events, ReceiptHandle=each["ReceiptHandle"])

    def names(self) -> list[str]:
        """The copies there are, as Google's client lists them."""
        return sorted(blob.name for blob in self.copies.list_blobs())

    def held_deletes(self, now: float = math.inf) -> HeldDeletes:
        return HeldDeletes(self.rig.sqs, self.queues, clock=lambda: now, wait=0)

    def held(self) -> int:
        return self.held_deletes().counts()[0]

    def measured(self, name: str) -> float:
        return sum(told.measured(name) for told in self.told)


@pytest.fixture
def lane(rig: Rig) -> Lane:
    return Lane(rig)


@pytest.fixture
def emptied(lane: Lane) -> Lane:
    """A source that somebody emptied, and all deletes held."""
    lane.put(*MANY)
    lane.remove(*MANY)
    lane.drain()
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


def test_release_carries_out_what_the_source_still_has_not(emptied: Lane) -> None:
    emptied.rig.s3.put_object(Bucket=emptied.source, Key=MANY[0], Body=b"data")  # its event is still on its way
    assert sum(emptied.held_deletes().release()) == len(MANY)
    assert emptied.held() == 0
    emptied.drain_events()
    assert emptied.names() == MANY[:1]


def test_what_is_held_after_release_began_is_not_released(emptied: Lane) -> None:
    held = emptied.held_deletes(now=0.0)
    assert sum(held.release()) == 0
    emptied.drain_events()
    assert emptied.names() == MANY
    assert len(emptied.waiting()) == len(MANY), "they wait again, and the brake decides on them anew"


def test_drop_forgets_them_and_the_copies_stay(emptied: Lane) -> None:
    assert sum(emptied.held_deletes().drop()) == len(MANY)
    assert emptied.held() == 0
    assert emptied.names() == MANY
    emptied.remove(MANY[0])
    emptied.drain()
    assert emptied.names() == MANY[1:], "the brake is off again"


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
    assert verify(["--mend"]) == 0
    assert "sent to the deletes queue" in capsys.readouterr().out
    assert lane.names() == ["k"]
    lane.drain()
    assert lane.names() == []


@pytest.fixture
def shell(emptied: Lane, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An operator's shell; the arguments that name the queues."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", emptied.rig.moto)
    return [f"--{name}-queue={url}" for name, url in emptied.queues._asdict().items()]


def test_the_command_lists_releases_and_says_what_it_did(
    emptied: Lane, shell: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert deletes.main(["list", *shell]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{len(MANY)} deletes are held."
    assert sorted(said[1:]) == [f"    0.0 h  s3://{emptied.source}/{key}" for key in MANY]
    emptied.put("late")
    emptied.remove("late")
    assert deletes.main(["drop", *shell]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{len(MANY)} deletes were dropped. Their copies stay")
    assert said[1].startswith("Deletes that wait for the brake")
    assert said[1].endswith(": about 1.")


def test_to_list_them_hides_none_from_the_brake(emptied: Lane) -> None:
    assert {change.key for change, _ in emptied.held_deletes().some()} == set(MANY)
    emptied.put("late")
    emptied.remove("late")
    emptied.drain()
    assert "late" in emptied.names()


def test_the_command_finds_the_queues_of_a_stack(
    emptied: Lane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudFormation's answer is written down here: moto's server makes no stack without AWS's own tools."""
    outputs = [
        {"OutputKey": output, "OutputValue": getattr(emptied.queues, name)} for name, output in deletes._OUTPUTS.items()
    ]
    formation = boto3.client("cloudformation")
    with Stubber(formation) as stub:
        clients = {"cloudformation": formation, "sqs": emptied.rig.sqs}
        monkeypatch.setattr(boto3, "client", clients.__getitem__)
        for told, code, said in (
            (outputs, 0, f"{len(MANY)} deletes are held."),
            (outputs[:2], 2, "the stack s has no output HeldDeletesQueueUrl"),
        ):
            stack = {"StackName": "s", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE", "Outputs": told}
            stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "s"})
            assert deletes.main(["list", "--stack", "s"]) == code
            assert said in "".join(capsys.readouterr())


def test_the_command_says_which_queue_it_was_not_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert deletes.main(["list", "--held-queue", "https://sqs/held"]) == 2
    assert "give --stack, or else --events-queue, --deletes-queue too" in capsys.readouterr().err


def test_each_output_that_the_command_reads_is_the_templates() -> None:
    assert set(deletes._OUTPUTS.values()) <= set(TEMPLATE["Outputs"])
