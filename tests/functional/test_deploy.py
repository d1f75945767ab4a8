"""`make deploy` and `make undeploy`, between programs that stand for aws, sam, gcloud and terraform."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deploy import stack
from deploy.google import STAGING as STAGING_RULE

from handler.core.plan import STAGING
from tests.conftest import s3_client
from tests.functional.deploy_desk import DEPLOYED, POOL, STEPS, Desk
from tests.functional.rie import ROOT
from tests.functional.served import SAM_BIN, aws_command, served

if TYPE_CHECKING:
    pass

TERRAFORM = (ROOT / "docs/terraform/main.tf").read_text()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_fresh_run_makes_everything_in_order(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("deploy", "--yes") == 0
    assert list(dict.fromkeys(desk.called(*STEPS))) == STEPS
    state = desk.state
    assert f"{POOL}/providers/aws-account" in state.pop("parameters")
    assert "Written by make deploy" in state.pop("copy")
    assert state == DEPLOYED
    output = capsys.readouterr().out
    printed = [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("$ ")]
    for call in desk.calls:
        assert shlex.split(call)[1:] in [line[1:] for line in printed], f"{call} was not printed"
    assert re.search(r"[0-9.]+ s  Stack", output)


def test_a_second_run_keeps_what_exists(desk: Desk) -> None:
    desk.state = DEPLOYED
    assert desk.run("deploy", "--yes") == 0
    changing = [call for call in desk.calls if call.startswith("gcloud") and " --quiet" in call]
    assert changing == []
    kept = {name: value for name, value in desk.state.items() if name not in {"copy", "parameters"}}
    assert kept == DEPLOYED | {"stack": "UPDATE_COMPLETE"}


@pytest.mark.parametrize("failing", STEPS)
def test_a_step_that_fails_stops_the_rest_and_says_why(
    desk: Desk, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.folder / "fail").write_text(failing)
    assert desk.run("deploy", "--yes") == 1
    called = list(dict.fromkeys(desk.called(*STEPS)))
    assert called[: STEPS.index(failing) + 1] == STEPS[: STEPS.index(failing) + 1]
    assert set(called) == set(STEPS[: STEPS.index(failing) + 1])
    error = capsys.readouterr().err
    assert "ended with code 3" in error
    assert "Run make deploy again" in error


@pytest.mark.parametrize(("said", "code"), [(["y"], 0), (["n"], 1)])
def test_a_stack_whose_creation_failed_is_deleted_only_if_agreed_to(
    desk: Desk, said: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.state = DEPLOYED | {"stack": "ROLLBACK_COMPLETE"}
    assert desk.run("deploy", said=["y", *said, *"yyyy"]) == code
    output = capsys.readouterr().out
    assert "EventsQueue: it had a reason" in output
    assert any("Delete what is left of it" in question for question in desk.asked)
    assert bool(desk.called("aws cloudformation delete-stack")) == bool(desk.called("sam deploy")) == (code == 0)


@pytest.mark.parametrize(
    ("status", "advice"),
    [("UPDATE_IN_PROGRESS", "Wait"), ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback")],
)
def test_a_stack_that_cannot_be_updated_now_is_left_alone(
    desk: Desk, status: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.state = desk.state | {"stack": status}
    assert desk.run("deploy", "--yes") == 1
    assert not desk.called("sam")
    assert advice in capsys.readouterr().err


def test_nothing_is_changed_that_was_not_agreed_to(desk: Desk) -> None:
    assert desk.run("deploy", said=["y", "n"]) == 1
    assert [call.split()[0] for call in desk.calls if "--quiet" in call or call.startswith(("make", "sam"))] == ["make"]


def test_a_dry_run_prints_every_command_and_runs_none(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.without("gcloud")
    assert desk.run("deploy", "--dry") == 0
    assert desk.run("undeploy", "--dry") == 0
    assert desk.calls == []
    output = capsys.readouterr().out
    for step in (*STEPS, "sam delete", "gcloud iam workload-identity-pools delete"):
        assert f"$ {step}".replace("$ check", f"$ {stack._PYTHON} -m handler.tools.check") in output


def test_undeploying_keeps_both_buckets_and_deploying_takes_the_pool_back(desk: Desk) -> None:
    desk.state = DEPLOYED
    assert desk.run("undeploy", said=["n"]) == 1
    assert desk.state["stack"] == "CREATE_COMPLETE"
    assert desk.run("undeploy", "--yes") == 0
    state = desk.state
    assert "stack" not in state
    assert state["bucket"] == DEPLOYED["bucket"]
    assert state["pool"]["state"] == state["provider"]["state"] == "DELETED"
    assert state["bindings"] == []
    assert desk.run("undeploy", "--yes") == 0
    assert not desk.called("sam")
    assert desk.run("deploy", "--yes") == 0
    assert desk.called("gcloud iam workload-identity-pools undelete")
    assert desk.called("gcloud iam workload-identity-pools providers undelete")
    assert desk.state["pool"]["state"] == desk.state["provider"]["state"] == "ACTIVE"


def test_two_stacks_share_a_pool_and_one_leaves_the_other_its_trust(desk: Desk) -> None:
    alone = DEPLOYED["provider"]["attributeCondition"]
    desk.state = {name: value for name, value in DEPLOYED.items() if name != "stack"}
    assert desk.run("deploy", "--yes", STACK="second") == 0
    condition = desk.state["provider"]["attributeCondition"]
    assert condition == f"{alone} || {alone.replace('/replicator-', '/second-')}"
    assert desk.run("undeploy", "--yes", STACK="second") == 0
    assert desk.state["provider"]["attributeCondition"] == alone
    assert desk.state["pool"]["state"] == "ACTIVE"


def test_a_buckets_own_lifecycle_rules_are_kept(desk: Desk) -> None:
    uniform = {"uniformBucketLevelAccess": {"enabled": True}}
    old = {"action": {"type": "Delete"}, "condition": {"age": 365}}
    desk.state = desk.state | {"bucket": {"iamConfiguration": uniform, "lifecycle": {"rule": [old]}}}
    assert desk.run("deploy", "--yes") == 0
    rules = desk.state["bucket"]["lifecycle"]["rule"]
    assert rules[0] == old
    assert [rule["condition"].get("matchesPrefix") for rule in rules] == [None, [STAGING]]


def test_terraform_takes_the_place_of_gcloud(desk: Desk) -> None:
    desk.without("gcloud")
    assert desk.run("deploy", "--yes", GOOGLE="terraform") == 0
    [apply] = [call for call in desk.calls if "terraform" in call and " apply " in call]
    given = set(re.findall(r"-var=(\w+)=", apply))
    assert given == set(re.findall(r'^variable "(\w+)"', TERRAFORM, re.MULTILINE))
    assert "projects/42/" in desk.state["parameters"]
    assert desk.run("undeploy", "--yes", GOOGLE="terraform") == 0
    [destroy] = [call for call in desk.calls if " destroy " in call]
    for target in re.findall(r"-target=(\w+)\.(\w+)", destroy):
        assert f'resource "{target[0]}" "{target[1]}"' in TERRAFORM
    assert "google_storage_bucket.destination" not in destroy


def test_google_s_side_is_the_same_by_gcloud_and_by_terraform(desk: Desk) -> None:
    assert STAGING_RULE == STAGING
    assert f'matches_prefix = ["{STAGING}"]' in TERRAFORM
    assert desk.run("deploy", "--yes") == 0
    [create] = [call for call in desk.calls if " create-aws " in call]
    for piece in ("assertion.arn.extract('{account_arn}assumed-role/') + 'assumed-role/'", "aws-account"):
        assert piece in " ".join(shlex.split(create))
        assert piece in TERRAFORM
    for binding in desk.state["bindings"]:
        assert binding["role"] in TERRAFORM


@pytest.mark.parametrize(("denials", "code"), [(1, 0), (2, 1)])
def test_permissions_are_waited_for_but_not_for_ever(
    desk: Desk, denials: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.state = DEPLOYED | {"denials": denials}
    assert desk.run("deploy", "--yes") == code
    assert ("MISSING  gs://my-copies/  storage.objects.create" in capsys.readouterr().err) == bool(code)


@pytest.mark.runbook
@pytest.mark.skipif(not (SAM_BIN / "aws").exists(), reason="there is no .venv-sam: make check-template")
def test_the_aws_command_line_is_understood(desk: Desk) -> None:
    desk.state = {"mirrors": True, "stack": "CREATE_COMPLETE"}
    with served("my-source") as url, aws_command() as aws:
        desk.with_real(aws)
        s3 = s3_client(url)
        s3.put_bucket_versioning(Bucket="my-source", VersioningConfiguration={"Status": "Enabled"})
        given = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        assert desk.run("deploy", "--yes", **given) == 0
        assert not s3.list_object_versions(Bucket="my-source").get("Versions")
        assert not s3.list_object_versions(Bucket="my-source").get("DeleteMarkers")
        assert desk.run("deploy", "--yes", **given, SOURCE="not-there") == 1
