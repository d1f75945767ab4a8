"""The canary's object on its whole way: from S3 by moto's events and the handler to the local GCS server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handler.core.decide import EQUAL
from handler.tools import canary
from local_emulator import moto_fixes
from tests.functional.conftest import Bucket
from tests.functional.rig import Clock
from tests.functional.stack import Deployed, deployed
from tests.functional.test_check import rings
from tests.unit.cfn import Stack

KEY = ".replicator-canary/object"


@pytest.fixture
def stack(s3_url: str, bucket: str, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    with moto_fixes.applied():
        yield from deployed(s3_url, monkeypatch, bucket, gcs_bucket)


def versions(stack: Deployed) -> int:
    listed = stack.s3.list_object_versions(Bucket=stack.bucket)
    return len(listed.get("Versions", [])) + len(listed.get("DeleteMarkers", []))


def failed(steps: list[canary.Step]) -> list[str]:
    return [step.name for step in steps if step.detail]


def gone(stack: Deployed) -> bool:
    return stack.copies.names() == set() and versions(stack) == 0


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
def test_each_step_is_seen_and_nothing_is_left(stack: Deployed, *, versioned: bool) -> None:
    if versioned:
        stack.s3.put_bucket_versioning(Bucket=stack.bucket, VersioningConfiguration={"Status": "Enabled"})
    seen: list[Any] = []

    def look(key: str) -> dict[str, Any]:
        assert key == KEY
        answer = canary.look(key, Clock())
        if answer["found"] == [EQUAL]:
            resource = stack.copies.resource(key)
            seen.append((stack.copies.data(key), "replicator-canary" in json.dumps(resource["metadata"])))
        return answer

    steps = stack.canary(look=look).run(is_scheduled=True)
    assert [(step.name, step.detail) for step in steps] == [("put", ""), ("overwrite", ""), ("tag", ""), ("delete", "")]
    assert all(step.seconds for step in steps), "each was waited for"
    (put, _), (overwritten, before), (tagged, after) = seen
    assert len({put, overwritten}) == 2
    assert overwritten == tagged
    assert (before, after) == (False, True)
    assert gone(stack)


def test_tags_that_no_rule_copies_are_not_waited_for(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.set(monkeypatch, Destination={"Bucket": f"gs://{stack.copies.name}"})
    assert [step.name for step in stack.canary().run(is_scheduled=True)] == ["put", "overwrite", "delete"]


def test_an_object_gets_the_tags_that_a_rule_asks_for(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.set(monkeypatch, Filter={"Tag": {"Key": "team", "Value": "a b"}}, Priority=1)
    steps = stack.canary().run(is_scheduled=True)
    assert [step.name for step in steps] == ["put", "overwrite", "tag", "delete"]
    assert failed(steps) == []


def test_a_key_that_no_rule_covers_is_a_failure(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.set(monkeypatch, Filter={"Prefix": "table/"})
    (step,) = stack.canary().run(is_scheduled=True)
    assert "SourcePrefix" in step.detail
    assert versions(stack) == 0


def test_copies_that_outlive_their_originals_are_no_failure(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.set(monkeypatch, DeleteMarkerReplication={"Status": "Disabled"})
    for _ in range(2):
        assert failed(stack.canary().run(is_scheduled=True)) == []
    assert stack.copies.names() == {KEY}, "one, however many runs"


def invoke(stack: Deployed, patch: pytest.MonkeyPatch, *, event: str = canary.SCHEDULE, seconds: float = 60.0) -> None:
    """Invoke the function; the check function is this process, and what there is to deliver comes before each look."""

    def ask(function: str, payload: Any) -> dict[str, Any]:
        assert function == f"{stack.wiring['ConfigurationId']}-check"
        stack.deliver()
        return canary.look(payload["look"], Clock())

    patch.setattr(canary, "ask", ask)
    canary.lambda_handler({"source": event}, Clock(seconds))


def alarm_of(stack: Deployed) -> dict[str, Any]:
    return Stack(SourceBucketName=stack.bucket, CanaryMinutes="10").resource("CanaryAlarm")


def test_a_sound_stack_measures_each_step_and_rings_nothing(
    stack: Deployed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    invoke(stack, monkeypatch)
    out = capfd.readouterr().out
    measured = [json.loads(line) for line in out.splitlines()]
    assert {line["Step"] for line in measured if "CanaryLatency" in line} == {"put", "overwrite", "tag", "delete"}
    assert not rings(alarm_of(stack), out)
    assert gone(stack)


def test_a_mapping_that_is_off_rings_and_the_next_run_cleans_up(
    stack: Deployed,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stack.functions.update_event_source_mapping(UUID=stack.mapping, Enabled=False)
    invoke(stack, monkeypatch, seconds=0)
    assert rings(alarm_of(stack), capfd.readouterr().out)
    assert [vars(record)["step"] for record in caplog.records if record.levelname == "ERROR"] == ["put"]
    assert versions(stack) == 0, "it cleans up after a failure too"
    stack.functions.update_event_source_mapping(UUID=stack.mapping, Enabled=True)
    invoke(stack, monkeypatch)
    assert not rings(alarm_of(stack), capfd.readouterr().out)
    assert gone(stack)


def test_a_broken_replication_fails_within_the_time_that_is_left(stack: Deployed) -> None:
    stack.functions.update_event_source_mapping(UUID=stack.mapping, Enabled=False)
    steps = stack.canary(seconds=90).run(is_scheduled=True)
    assert failed(steps) == ["put"], "neither was written, so the rest was not tried, and nothing is to be deleted"
    assert "no replica" in steps[0].detail
    assert 90 <= stack.now < 100


def test_a_look_that_fails_is_tried_again(stack: Deployed) -> None:
    answers: Iterator[Callable[[str], Any]] = iter([_throttled])

    def look(key: str) -> Any:
        return next(answers, lambda key: canary.look(key, Clock()))(key)

    assert failed(stack.canary(look=look).run(is_scheduled=True)) == []


def _throttled(_: str) -> Any:
    raise ClientError({"Error": {"Code": "TooManyRequestsException"}}, "Invoke")


# --- deletes that have a delay


def test_a_delayed_delete_is_judged_by_the_next_run(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = stack.delay_deletes(monkeypatch)
    steps = ["delete", "put", "overwrite", "tag"]
    assert [step.name for step in stack.canary().run(is_scheduled=True)] == steps
    stack.deliver()
    assert stack.copies.names() == {KEY}, "its delete waits"
    failing = stack.canary().run(is_scheduled=True)
    assert failed(failing) == ["delete"], "nothing has deleted it by now"
    assert [step.name for step in failing] == steps, "the rest is tried all the same"
    stack.deliver()
    stack.deliver(waiting)
    assert gone(stack)
    assert failed(stack.canary().run(is_scheduled=True)) == []


def test_a_limit_of_zero_lets_no_delete_wait(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.delay_deletes(monkeypatch)
    monkeypatch.setenv("DELETES_LIMIT", "0")
    assert [step.name for step in stack.canary().run(is_scheduled=True)][-1] == "delete"
    assert gone(stack)


def test_a_run_by_hand_judges_no_delete_that_may_still_wait(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.delay_deletes(monkeypatch)
    stack.canary().run(is_scheduled=True)
    assert failed(stack.canary().run(is_scheduled=False)) == []


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
@pytest.mark.parametrize("delayed", [False, True], ids=["", "delayed"])
def test_what_a_crashed_run_left_is_gone_after_the_next(
    stack: Deployed, monkeypatch: pytest.MonkeyPatch, *, versioned: bool, delayed: bool
) -> None:
    if versioned:
        stack.s3.put_bucket_versioning(Bucket=stack.bucket, VersioningConfiguration={"Status": "Enabled"})
    waiting = stack.delay_deletes(monkeypatch) if delayed else ""
    crashed = stack.canary(look=_crashed)
    with pytest.raises(KeyboardInterrupt):
        crashed.run(is_scheduled=False)
    stack.deliver()
    assert (versions(stack), stack.copies.names()) == (1, {KEY})
    assert failed(stack.canary().run(is_scheduled=True)) == []
    stack.deliver()
    stack.deliver(waiting)
    assert gone(stack)


def _crashed(_: str) -> Any:
    raise KeyboardInterrupt


def test_another_object_under_its_prefix_stays(stack: Deployed) -> None:
    for key in (f"{KEY}s", ".replicator-canary/mine"):
        stack.s3.put_object(Bucket=stack.bucket, Key=key)
    stack.canary().run(is_scheduled=True)
    assert versions(stack) == 2
