"""Reads docs/terraform/aws without Terraform: its resources and outputs, worked out for given variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.unit.hcl import Expressions, Names, Reference, attributes, blocks, kind, parsed, parts, word

FOLDER = Path(__file__).parents[2] / "docs" / "terraform" / "aws"
TEXTS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.tf"))}
REQUIRED: dict[str, Any] = {
    "package": "replicator.zip",
    "sources": {"dummy": {}},
    "destination_bucket": "copies",
    "manage_notifications": True,
    "gcp_workload_identity_provider": "projects/1234/locations/global/workloadIdentityPools/aws-pool/providers/aws-1",
}
"""What most tests give."""
_DATA = {
    "aws_caller_identity": {"current": {"account_id": "123456789012"}},
    "aws_partition": {"current": {"partition": "aws"}},
    "aws_region": {"current": {"id": "us-east-1"}},
}
_META = {"for_each", "count", "depends_on", "lifecycle"}


class Module:
    """The module's values for some variables; the rest take their defaults."""

    def __init__(self, texts: Mapping[str, str] = TEXTS, **variables: Any) -> None:
        self._expressions = Expressions(self._name)
        self._locals: dict[str, Any] = {}
        self._resources: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._known: dict[str, Any] = {}
        self._made: dict[str, dict[str, Names]] = {}
        self.variables: dict[str, Any] = {}
        pieces = [piece for text in texts.values() for piece in re.split(r"(?<=^}\n)", text, flags=re.MULTILINE)]
        for piece in pieces:  # each is parsed once, however many modules the tests make of it
            for labels, body in blocks(parsed(piece)):
                self._declare(labels, body)
        given = REQUIRED | variables
        assert given.keys() <= self.variables.keys(), "an unknown variable"
        self._values: dict[str, Any] = {}
        for name, body in self.variables.items():
            value = given[name] if name in given else self.default(name)
            self._values[name] = self._typed(attributes(body)["type"], value)

    def _declare(self, labels: list[str], body: Any) -> None:
        match labels:
            case ["locals"]:
                self._locals |= attributes(body)
            case ["variable", name]:
                self.variables[name] = body
            case ["output", name]:
                self._outputs[name] = attributes(body)["value"]
            case ["resource", kind_, name]:
                self._resources[f"{kind_}.{name}"] = body
            case _:
                assert labels[0] in {"terraform", "data"}, labels

    def default(self, variable: str) -> Any:
        """Return a variable's default."""
        return self._expressions.value(attributes(self.variables[variable])["default"], {})

    def output(self, name: str) -> Any:
        """Return an output's value."""
        return self._expressions.value(self._outputs[name], {})

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return all resources that are made, by address."""
        return {
            address: self._body(self._resources[name], names)
            for name in self._resources
            for address, names in self._instances(name).items()
        }

    def faults(self) -> list[str]:
        """Return what Terraform says against the variables."""
        outer = [*self.variables.values()]
        outer += [
            inner for body in self._resources.values() for labels, inner in blocks(body) if labels == ["lifecycle"]
        ]
        checks = [
            inner for body in outer for labels, inner in blocks(body) if labels in (["validation"], ["precondition"])
        ]
        return [
            self._expressions.value(attributes(check)["error_message"], {})
            for check in checks
            if not self._expressions.value(attributes(check)["condition"], {})
        ]

    def _name(self, name: str) -> Any:
        match name:
            case "var":
                return self._values
            case "local":
                return _Lazy(self.local)
            case "data":
                return _DATA
        return _Lazy(lambda short: self._reference(f"{name}.{short}"))

    def local(self, name: str) -> Any:
        """Return a local value."""
        if name not in self._known:
            self._known[name] = self._expressions.value(self._locals[name], {})
        return self._known[name]

    def _instances(self, name: str) -> dict[str, Names]:
        if name not in self._made:
            self._made[name] = dict(self._each(name))
        return self._made[name]

    def _each(self, name: str) -> Iterator[tuple[str, Names]]:
        given = attributes(self._resources[name])
        if "count" in given:
            for index in range(self._expressions.value(given["count"], {})):
                yield f"{name}[{index}]", {}
        elif "for_each" in given:
            for key, value in self._expressions.value(given["for_each"], {}).items():
                yield f"{name}[{key}]", {"each": {"key": key, "value": value}}
        else:
            yield name, {}

    def _reference(self, name: str) -> Any:
        given = attributes(self._resources[name])
        if "count" in given:
            return [Reference(address) for address in self._instances(name)]
        if "for_each" in given:
            return {names["each"]["key"]: Reference(address) for address, names in self._instances(name).items()}
        return Reference(name)

    def _body(self, body: Any, names: Names) -> dict[str, Any]:
        found = {
            name: value
            for name, node in attributes(body).items()
            if name not in _META and (value := self._expressions.value(node, names)) is not None
        }
        for labels, inner in blocks(body):
            if labels[0] not in _META:
                made = self._dynamic(labels[1], inner, names) if labels[0] == "dynamic" else [self._body(inner, names)]
                found.setdefault(labels[-1], []).extend(made)
        return {name: value for name, value in found.items() if value != []}

    def _dynamic(self, label: str, body: Any, names: Names) -> Iterator[dict[str, Any]]:
        items = self._expressions.value(attributes(body)["for_each"], names)
        ((_, content),) = blocks(body)
        for key, value in items.items() if isinstance(items, dict) else enumerate(items):
            yield self._body(content, {**names, label: {"key": key, "value": value}})

    def _typed(self, node: Any, value: Any) -> Any:
        """Add the defaults of optional fields."""
        while kind(node) == "ExprTerm":
            (node,) = parts(node)
        if kind(node) != "FunctionCall":
            return value
        name, arguments = word(parts(node)[0]), parts(parts(node)[1])
        if name == "map":
            return {key: self._typed(arguments[0], item) for key, item in value.items()}
        if name != "object":
            return value
        (fields,) = parts(arguments[0])
        defaults = {}
        for field, optional in map(parts, parts(fields)):
            (call,) = parts(optional)
            _, *rest = parts(parts(call)[1])
            defaults[self._expressions.key(field, {})] = self._expressions.value(rest[0], {}) if rest else None
        assert value.keys() <= defaults.keys(), f"unknown fields: {value.keys() - defaults.keys()}"
        return defaults | value


class _Lazy(dict[str, Any]):
    """Values that are worked out when they are asked for."""

    def __init__(self, work: Callable[[str], Any]) -> None:
        super().__init__()
        self._work = work

    def __missing__(self, name: str) -> Any:
        return self._work(name)
