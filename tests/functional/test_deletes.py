"""`python -m handler.tools.deletes`: what is released or dropped of held deletes, and what an operator is told."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber

from handler.adapters import queue
from handler.tools import deletes
from local_emulator.gcs import GcsServer
from tests.functional.lane import MANY, Lane
from tests.functional.rig import Rig, rig_on
from tests.unit.cfn import TEMPLATE


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask no queue for longer than it takes: moto has one server, which a short poll asks too."""
    monkeypatch.setattr(queue, "LONG_POLL", 0)


@pytest.fixture
def emptied(rig: Rig) -> Lane:
    """A source that somebody emptied, and all deletes held."""
    lane = Lane(rig)
    lane.empty()
    return lane


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
    assert said[1] == "Deletes that wait for the brake's decision: about 1."


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
