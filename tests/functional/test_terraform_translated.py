"""What docs/terraform/aws is compared with is what SAM makes of the template's functions, by SAM's own translator."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.functional.sam import Translator, needs_sam
from tests.unit.cfn import REQUIRED, RESOURCES, Stack
from tests.unit.terraform_as_cfn import _canonical, _flat, of_template
from tests.unit.test_terraform import EVERYTHING_STACK

CASES = [{}, EVERYTHING_STACK]
FUNCTIONS = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::Serverless::Function"]
NAMED = {
    "ScheduleExpression": "Schedule",
    "EventSourceArn": "Queue",
    "Targets": "Target",
    "TracingConfig.Mode": "Tracing",
}
LEFT_OUT = {
    "Code.S3Bucket|Code.S3Key|CodeUri": "given in the test",
    r"Tags\..*": "SAM's own",
    r"Events\.\w+\.Target\.Id": "made up",
    r"Events\.\w+\.Target\.Rule": "the rule has its target in it",
    r"EventInvokeConfig\.DestinationConfig\.OnFailure\.Type": "SAM's word for what the ARN says",
    r"DeploymentPreference\..*|AutoPublish\w+": "what these make is compared",
    r"LoggingConfig\.LogFormat": "Lambda's default",
    r"Recursion\.FunctionName": "a resource of its own in Terraform alone",
    r"EventInvokeConfig\.Qualifier:\$LATEST": "Lambda's default",
}

pytestmark = [needs_sam, pytest.mark.xdist_group("sam")]


def _place(kind: str, name: str, function: str) -> str:
    """Return where among a function's properties the comparison has what SAM made."""
    event = name.removeprefix(function)
    return {
        "AWS::Lambda::Function": "",
        "AWS::Lambda::Alias": "Alias.",
        "AWS::Lambda::EventInvokeConfig": "EventInvokeConfig.",
        "AWS::Lambda::EventSourceMapping": f"Events.{event}.",
        "AWS::Events::Rule": f"Events.{event}.",
        "AWS::Lambda::Permission": f"Events.{event.removesuffix('Permission')}.Permission.",
    }[kind]


def _translated(expanded: dict[str, Any], stack: Stack, function: str) -> dict[str, str]:
    """Return what SAM made of a function, spelt as the comparison spells it."""
    found = {}
    for name, resource in expanded["Resources"].items():
        kind = resource["Type"]
        is_own = name.startswith(function) and (name == function or name not in RESOURCES)
        is_made = "Condition" not in resource or stack.holds(resource["Condition"])
        if not is_own or not is_made or kind == "AWS::Lambda::Version":
            continue
        for path, value in _flat(_canonical(stack.value(resource["Properties"]))):
            spelt = "Recursion.RecursiveLoop" if path == "RecursiveLoop" else path
            if kind in {"AWS::Lambda::EventSourceMapping", "AWS::Lambda::EventInvokeConfig"}:
                spelt = re.sub("^FunctionName$", "Function", spelt)
            spelt = re.sub("|".join(map(re.escape, NAMED)), lambda part: NAMED[part[0]], spelt)
            told = re.sub(r"(\w+Function)Version[0-9a-f]{10}\.Version", r"\1.version", value)
            told = re.sub(r"(\w+Function)Version[0-9a-f]{10}", r"\1.Version", told)
            told = re.sub(r"(\w+Function)Aliaslive", r"\1.Alias", told)
            if spelt == "Qualifier" and told == "live":
                told = f"{function}.Alias"
            found[_place(kind, name, function) + spelt] = told
    return found


def _kept(properties: dict[str, str]) -> dict[str, str]:
    out = re.compile("|".join(LEFT_OUT))
    return {
        path: value
        for path, value in properties.items()
        if not out.fullmatch(path) and not out.fullmatch(f"{path}:{value}") and value != "{}"
    }


@pytest.fixture(scope="module")
def translated(sam: Translator) -> list[dict[str, Any]]:
    """The template as SAM expands it, for each case."""
    return sam("expand", [REQUIRED | case for case in CASES])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", range(len(CASES)), ids=["defaults", "everything"])
def test_what_the_module_is_compared_with_is_what_sam_makes(
    translated: list[dict[str, Any]], case: int, function: str
) -> None:
    stack = Stack(**CASES[case])
    compared = of_template(stack).get(function, {})
    made = _translated(translated[case], stack, function) if compared else {}
    assert _kept(compared) == _kept(made)
    assert compared or RESOURCES[function]["Condition"]
