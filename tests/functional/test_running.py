"""A deployment's parameters are what the alias runs, and the check speaks of that; in moto, as far as it goes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.core.config import default_user_config

from handler import config
from handler.tools import check
from handler.tools.rows import Row
from handler.tools.running import ALIAS, of_alias, variables_of
from tests.functional.sam import SAM_PYTHON, needs_sam
from tests.unit.cfn import REQUIRED, ROOT

FUNCTIONS = ("ReplicatorFunction", "PartsFunction")
CHANGED = {"ReplicateDeletes": "Disabled", "DryRun": "true", "MemorySize": "512"}
CURRENT = "version 2 with the current configuration"
RULES = json.dumps([{"ID": "x", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}])


def texts_of(function: dict[str, Any]) -> dict[str, str]:
    """What Lambda hands over, all of it as text; moto leaves numbers as they are."""
    return {name: str(value) for name, value in function["Environment"]["Variables"].items()}


@needs_sam
@pytest.mark.xdist_group("sam")
def test_a_second_deployments_parameters_are_what_the_aliases_run() -> None:
    deployments = json.dumps([REQUIRED, REQUIRED | CHANGED, REQUIRED | CHANGED | {"LogRetentionDays": "7"}])
    ended = subprocess.run(
        [SAM_PYTHON, "-m", "tests.functional.upgrade_stack", deployments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    after = json.loads(ended.stdout)
    for function in FUNCTIONS:
        first, second, third = (config.load(texts_of(each[function])) for each in after)
        assert (first.dry_run, first.rules[0].deletes) == (False, True)
        assert (second.dry_run, second.rules[0].deletes) == (True, False)
        assert second == third
        assert [each[function]["MemorySize"] for each in after] == [1024, 512, 512]
        assert [each[function]["Version"] for each in after] == ["1", "2", "2"]


@pytest.fixture(scope="module")
def functions(s3_url: str) -> Iterator[Any]:
    """Two functions as they are after a deployment and a second one with another configuration."""
    client: Any = boto3.client("lambda", endpoint_url=s3_url)
    iam = boto3.client("iam", endpoint_url=s3_url)
    role = iam.create_role(RoleName="runs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(default_user_config, "lambda", {"use_docker": False})  # made, never run
        for name in FUNCTIONS:
            _deploy_twice(client, name, role)
        yield client
        for name in FUNCTIONS:
            client.delete_function(FunctionName=name)
        iam.delete_role(RoleName="runs")


def _deploy_twice(client: Any, name: str, role: str) -> None:
    of_both = {"FunctionName": name, "Runtime": "python3.13", "Role": role, "Handler": "handler.app"}
    before = {"REPLICATION_RULES": RULES, "DRY_RUN": "false"}
    after = {"MemorySize": 512, "Environment": {"Variables": before | {"DRY_RUN": "true"}}}
    client.create_function(**of_both, Code={"ZipFile": b"PK\5\6" + bytes(18)}, Environment={"Variables": before})
    client.publish_version(FunctionName=name)
    client.update_function_configuration(**of_both, **after)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name=ALIAS, FunctionVersion="2")


def deployed(*names: str) -> tuple[config.Settings, list[Row]]:
    """What the check finds, whose own variables are of another deployment."""
    arns = " ".join(f"arn:aws:lambda:us-east-1:123456789012:function:{name}:2" for name in names)
    return check._deployed(config.load({"REPLICATION_RULES": RULES, "VERSIONS": arns}))


@pytest.fixture
def loopback(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds moto."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)


@pytest.mark.usefixtures("functions", "loopback")
def test_the_check_reads_what_the_alias_runs_and_says_which_version() -> None:
    settings, rows = deployed(*FUNCTIONS)
    assert rows == [Row("ok", f"{name}:live", "runs", CURRENT) for name in FUNCTIONS]
    assert settings.dry_run


@pytest.mark.usefixtures("loopback")
def test_the_check_fails_where_the_alias_runs_an_older_configuration(functions: Any) -> None:
    """As after a roll back, and after each deployment before a changed parameter made a new version."""
    functions.update_alias(FunctionName=FUNCTIONS[0], Name=ALIAS, FunctionVersion="1")
    try:
        settings, rows = deployed(*FUNCTIONS)
    finally:
        functions.update_alias(FunctionName=FUNCTIONS[0], Name=ALIAS, FunctionVersion="2")
    assert [row.result for row in rows] == ["FAILED", "ok"]
    assert rows[0].detail == "version 1: deploy again, as it lacks the current MemorySize, DRY_RUN"
    assert not settings.dry_run, "the permissions must be tried with what runs"


def test_a_gradual_deployment_under_way_is_said(functions: Any) -> None:
    weights: Any = {"AdditionalVersionWeights": {"1": 0.1}}
    functions.update_alias(FunctionName=FUNCTIONS[1], Name=ALIAS, RoutingConfig=weights)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{FUNCTIONS[1]}:2"
    assert str(of_alias(functions, arn)) == f"{CURRENT}, version 1 for 10%"


@pytest.mark.usefixtures("loopback")
def test_an_alias_that_is_not_there_fails_and_the_rest_is_tried_by_the_checks_own_variables() -> None:
    settings, rows = deployed("gone")
    assert [(row.result, row.where, row.subject) for row in rows] == [("FAILED", "gone:live", "lambda:GetAlias")]
    assert not settings.dry_run


def test_outside_of_lambda_there_is_no_alias_to_speak_of() -> None:
    settings = config.load({"REPLICATION_RULES": RULES})
    assert check._deployed(settings) == (settings, [])


def test_variables_that_cannot_be_decrypted_are_said_to_be_so() -> None:
    refused = {"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": "no kms:Decrypt"}}}
    with pytest.raises(PermissionError, match="no kms:Decrypt"):
        variables_of(refused)
