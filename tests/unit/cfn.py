"""Reads template.yaml without SAM: its short forms as the long ones, and values worked out for given parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # its stubs would be one more thing to pin

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "template.yaml").read_text()
_PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "replicator",
}
_ALWAYS = {"Fn::Equals": ["", ""]}
NOTHING = object()
"""What AWS::NoValue leaves."""


class _Loader(yaml.CSafeLoader):  # type: ignore[misc] # for want of its stubs
    pass


def _intrinsic(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in {"Ref", "Condition"} else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def parsed(text: str) -> dict[str, Any]:
    """Return a template's document."""
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - our own file, by a safe loader
    return document


TEMPLATE = parsed(TEXT)
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
REQUIRED = {
    "SourceBucketName": "dummy",
    "DestinationBucketName": "copies",
    "GcpWorkloadIdentityProvider": "projects/1234/locations/global/workloadIdentityPools/aws-pool/providers/aws-1",
}
"""Parameters without a default."""


class Stack:
    """The template's values for some parameters; the rest take their defaults."""

    def __init__(self, **parameters: str) -> None:
        defaults = {name: str(parameter.get("Default", "")) for name, parameter in PARAMETERS.items()}
        self._values = defaults | REQUIRED | parameters | _PSEUDO

    def value(self, node: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case for each of the intrinsic functions
        """Work a value out: a resource is its logical id, an attribute `Id.Attribute`."""
        match node:
            case {"Ref": "AWS::NoValue"}:
                return NOTHING
            case {"Ref": str(name)}:
                return self._values.get(name, name)
            case {"Fn::GetAtt": [*names]}:
                return ".".join(names)
            case {"Fn::If": [condition, yes, no]}:
                return self.value(yes if self.holds(condition) else no)
            case {"Fn::FindInMap": [name, *keys]}:
                found = TEMPLATE["Mappings"][name]
                for key in keys:
                    found = found[self.value(key)]
                return found
            case {"Fn::Split": [separator, text]}:
                return self.value(text).split(separator)
            case {"Fn::Join": [separator, items]}:
                return str(separator).join(self.value(items))
            case {"Fn::Select": [index, items]}:
                return self.value(items)[index]
            case {"Fn::Sub": str(text)}:
                return self._substitute(text, {})
            case {"Fn::Sub": [text, names]}:
                return self._substitute(text, {name: self.value(value) for name, value in names.items()})
            case dict():
                worked = {name: self.value(value) for name, value in node.items()}
                return {name: value for name, value in worked.items() if value is not NOTHING}
            case list():
                return [value for item in node if (value := self.value(item)) is not NOTHING]
        return node

    def holds(self, condition: str) -> bool:
        """Whether a condition is true."""
        return self._test(TEMPLATE["Conditions"][condition])

    def _test(self, node: Any) -> bool:
        match node:
            case {"Fn::Equals": [one, two]}:
                return bool(self.value(one) == self.value(two))
            case {"Fn::Or": [*any_of]}:
                return any(self._test(inner) for inner in any_of)
            case {"Fn::And": [*all_of]}:
                return all(self._test(inner) for inner in all_of)
            case {"Fn::Not": [inner]}:
                return not self._test(inner)
        raise AssertionError(f"an unknown condition: {node}")

    def refusals(self) -> list[str]:
        """What CloudFormation says of the parameters by the template's rules."""
        applying = [each for each in TEMPLATE["Rules"].values() if self._test(each.get("RuleCondition", _ALWAYS))]
        assertions = [assertion for rule in applying for assertion in rule["Assertions"]]
        return [each["AssertDescription"] for each in assertions if not self._test(each["Assert"])]

    def _substitute(self, text: str, names: Mapping[str, str]) -> str:
        return re.sub(r"\$\{([^}!]+)\}", lambda found: str({**self._values, **names}.get(found[1], found[1])), text)

    def resource(self, name: str) -> dict[str, Any]:
        """A resource's properties, worked out."""
        found: dict[str, Any] = self.value(RESOURCES[name]["Properties"])
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """All resources of a type that are made."""
        return {
            name: self.resource(name)
            for name, resource in RESOURCES.items()
            if resource["Type"] == kind and ("Condition" not in resource or self.holds(resource["Condition"]))
        }

    def variables(self, function: str) -> dict[str, str]:
        """The environment of a function."""
        common = self.value(TEMPLATE["Globals"]["Function"]["Environment"]["Variables"])
        own = self.resource(function).get("Environment", {}).get("Variables", {})
        return {name: str(value) for name, value in {**common, **own}.items()}


def statements(properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a role or a queue's policy says."""
    for document in (
        [properties["PolicyDocument"]]
        if "PolicyDocument" in properties
        else [policy["PolicyDocument"] for policy in properties["Policies"]]
    ):
        yield from document["Statement"]


def listed(value: Any) -> list[Any]:
    """A list of one or more."""
    return value if isinstance(value, list) else [value]


def walk(node: Any, see: Callable[[Any], None]) -> None:
    """See every node."""
    see(node)
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        walk(item, see)
