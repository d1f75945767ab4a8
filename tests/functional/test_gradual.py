"""Gradual deployment by SAM's own translation: the check is asked first, an alarm ends it, AllAtOnce has none of it."""

from __future__ import annotations

import graphlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.sam import Translator, needs_sam
from tests.unit.cfn import PARAMETERS, REQUIRED, Stack, statements

FUNCTIONS = ("ReplicatorFunction", "PartsFunction")
WAYS = PARAMETERS["DeploymentPreference"]["AllowedValues"]

pytestmark = [needs_sam, pytest.mark.xdist_group("sam")]


@pytest.fixture(scope="module")
def translated(sam: Translator) -> dict[str, dict[str, Any]]:
    """The resources by the way of deployment."""
    expanded = sam("expand", [REQUIRED | {"DeploymentPreference": way} for way in WAYS])
    return {way: each["Resources"] for way, each in zip(WAYS, expanded, strict=True)}


def test_all_at_once_is_the_default_and_needs_nothing_of_code_deploy(translated: dict[str, dict[str, Any]]) -> None:
    assert PARAMETERS["DeploymentPreference"]["Default"] == "AllAtOnce"
    resources = translated["AllAtOnce"]
    assert not [name for name, each in resources.items() if each["Type"].startswith("AWS::CodeDeploy")]
    assert not [name for name, each in resources.items() if "UpdatePolicy" in each]
    assert "DeploymentRole" not in Stack().of_type("AWS::IAM::Role")
    assert "codedeploy" not in json.dumps(Stack().resource("ReplicatorRole"))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "AllAtOnce"])
def test_a_gradual_deployment_asks_the_check_first_and_ends_on_an_alarm(
    translated: dict[str, dict[str, Any]], way: str
) -> None:
    resources = translated[way]
    for function in FUNCTIONS:
        group = resources[f"{function}DeploymentGroup"]["Properties"]
        assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": way}
        alarms = [each["Name"]["Ref"] for each in group["AlarmConfiguration"]["Alarms"]]
        assert "ErrorsAlarm" in alarms
        assert {resources[alarm]["Type"] for alarm in alarms} <= {"AWS::CloudWatch::Alarm"}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["ServiceRoleArn"]["Fn::If"][1] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}
        policy = resources[f"{function}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert policy["BeforeAllowTrafficHook"]["Fn::If"][:2] == ["IsGradual", {"Ref": "HookFunction"}]
        assert policy["DeploymentGroupName"] == {"Ref": f"{function}DeploymentGroup"}


@pytest.mark.parametrize("way", WAYS)
def test_no_resource_waits_for_itself(translated: dict[str, dict[str, Any]], way: str) -> None:
    """The alias asks the hook, which names the versions, which the alias runs."""
    resources = translated[way]
    waits = {name: {other for other in named_in(each) if other in resources} for name, each in resources.items()}
    assert ("HookFunction" in waits["ReplicatorFunctionAliaslive"]) == (way != "AllAtOnce")
    graphlib.TopologicalSorter(waits).prepare()


def named_in(node: Any) -> Iterator[str]:
    """Yield each name that a node refers to."""
    match node:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), *_]}:
            yield from (found.split(".")[0] for found in re.findall(r"\$\{([^}!]+)\}", text))
    if isinstance(node, dict) and "DependsOn" in node:
        yield from [node["DependsOn"]] if isinstance(node["DependsOn"], str) else node["DependsOn"]
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from named_in(item)


def test_code_deploy_may_shift_these_aliases_and_the_check_may_answer() -> None:
    stack = Stack(DeploymentPreference="Canary10Percent5Minutes")
    own = "arn:aws:lambda:us-east-1:123456789012:function:replicator"
    versioned = [f"{own}-{name}{of}" for name in ("replicator", "parts") for of in ("", ":*")]
    deploying = {each["Sid"]: each for each in statements(stack.resource("DeploymentRole"))}
    assert deploying["ShiftAliases"]["Resource"] == versioned
    assert deploying["InvokeHook"]["Resource"] == f"{own}-hook"
    checking = {each["Sid"]: each for each in statements(stack.resource("ReplicatorRole"))}
    assert checking["AnswerCodeDeploy"]["Action"] == "codedeploy:PutLifecycleEventHookExecutionStatus"
    assert checking["StartVersions"]["Resource"] == versioned
