"""Puts docs/terraform/aws and template.yaml into one form, to be compared: resource, path of a property, value.

The names are the template's. What SAM makes of a function's Events, alias and EventInvokeConfig is under the function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from tests.unit import cfn
from tests.unit.cfn import Stack
from tests.unit.terraform_names import ADDRESSES, MADE, RENAMED, TOLD

Form = dict[str, dict[str, str]]


def of_module(resources: Mapping[str, Mapping[str, Any]]) -> Form:
    """Return the module's resources, made for one source bucket named dummy."""
    form: Form = {}
    for address, body in resources.items():
        kind = address.partition(".")[0]
        name, place = _place(address)
        for path, value in _flat(_canonical(_spelt(_told(body)))):
            for pattern, replacement in RENAMED.get(kind, []):
                path = re.sub(pattern, replacement, path)  # noqa: PLW2901 - one after the other
            form.setdefault(name, {})[place + path] = value
    notification = form["BucketNotification"]
    notification["Delivery"] = "EventBridge" if notification["Delivery"] == "true" else "Direct"
    for side in {"Prefix", "Suffix"} & notification.keys():
        notification[side] = unquote_plus(notification[side])
    return {
        name: {path: value for path, value in given.items() if not _is_default(path, value)}
        for name, given in form.items()
    }


def of_template(stack: Stack) -> Form:
    """Return the template's resources that are made."""
    form: Form = {}
    for name, resource in cfn.RESOURCES.items():
        if "Condition" in resource and not stack.holds(resource["Condition"]):
            continue
        given = stack.resource(name)
        match resource["Type"]:
            case "AWS::Serverless::Function":
                given = _function(name, stack.value(cfn.TEMPLATE["Globals"]["Function"]), given)
            case "Custom::BucketNotification":
                kept = ["Bucket", "Delivery"]  # what it does: handler/tools/notifications.py
                kept += (
                    ["ConfigurationId", "QueueArn", "Events", "Prefix", "Suffix"]
                    if given["Delivery"] == "Direct"
                    else []
                )
                given = {field: given[field] for field in kept if given[field] != ""}
            case "AWS::IAM::Role":
                (policy,) = given.pop("Policies")
                given = {**given, "Policy": {**policy, "Roles": name}}
            case "AWS::IAM::Policy":
                given = {"Policy": given}
            case "AWS::Events::Rule":
                (target,) = given.pop("Targets")
                given = {**given, "Target": {**target, "Rule": name}}
            case "AWS::SQS::QueuePolicy" if len(given["Queues"]) > 1:
                given = {queue: {**given, "Queues": queue} for queue in given["Queues"]}
        form[name] = dict(_flat(_canonical(given)))
    return form


def differences(module: Form, template: Form, exceptions: Mapping[str, str]) -> list[str]:
    """Return what is not the same, except where a pattern for resource and path says so."""
    excepted = re.compile("|".join(exceptions))
    found = []
    for name in sorted(module.keys() | template.keys()):
        ours, theirs = module.get(name), template.get(name)
        if excepted.fullmatch(name):
            continue
        if ours is None or theirs is None:
            found.append(f"{name} is only in the {'template' if ours is None else 'module'}")
            continue
        found += [
            f"{name}.{path}: {ours.get(path)} in the module, {theirs.get(path)} in the template"
            for path in sorted(ours.keys() | theirs.keys())
            if ours.get(path) != theirs.get(path) and not excepted.fullmatch(f"{name}.{path}")
        ]
    return found


def _is_default(path: str, value: str) -> bool:
    """Return True for what the template does not say, as it means the same."""
    return (path.rpartition(".")[2], value) in {("ReturnData", "true"), ("ReservedConcurrentExecutions", "-1")}


def _place(address: str) -> tuple[str, str]:
    if address.startswith("aws_cloudwatch_metric_alarm.alarm[replicator-"):
        words = address.partition("[replicator-")[2].removesuffix("]").split("-")
        return "".join(word.title() for word in words) + "Alarm", ""
    return ADDRESSES[address]


def _told(value: Any) -> Any:
    """Say by the template's names what the module refers to."""
    if isinstance(value, str):
        for kind, attribute, told in TOLD:
            pattern = rf"({kind}\.\w+(?:\[[\w ]+\])?)\.(?:{attribute})(?!\w)"
            value = re.sub(pattern, _logical, value).replace("\0", told)
        return value
    if isinstance(value, Mapping):
        return {name: _told(each) for name, each in value.items()}
    return [_told(each) for each in value] if isinstance(value, list) else value


def _logical(found: re.Match[str]) -> str:
    return (MADE.get(found[1]) or ADDRESSES[found[1]][0]) + "\0"


def _spelt(block: Mapping[str, Any]) -> dict[str, Any]:
    """Spell the names of attributes and blocks as the template does; what is a map has names of its own."""
    return {
        "".join(word.title() for word in name.split("_")): [_spelt(each) for each in value]
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
        else value
        for name, value in block.items()
    }


def _function(name: str, common: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function with what SAM makes of it: https://github.com/aws/serverless-application-model."""
    variables = {**common["Environment"]["Variables"], **given.get("Environment", {}).get("Variables", {})}
    logging = {"LogFormat": "Text", **given["LoggingConfig"]}
    made = {**common, **given, "Environment": {"Variables": variables}, "LoggingConfig": logging}
    runs = f"{name}.Alias" if "AutoPublishAlias" in given else name
    if runs != name:
        made["Alias"] = {
            "Name": made.pop("AutoPublishAlias"),
            "FunctionName": name,
            "FunctionVersion": f"{name}.version",
        }
    if "EventInvokeConfig" in given:
        made["EventInvokeConfig"] = {**given["EventInvokeConfig"], "Function": name}
        made["EventInvokeConfig"] |= {"Qualifier": runs} if runs != name else {}
    if "RecursiveLoop" in given:
        made["Recursion"] = {"RecursiveLoop": made.pop("RecursiveLoop"), "FunctionName": name}
    made["Events"] = {}
    for event, source in given.get("Events", {}).items():
        made["Events"][event] = {**source["Properties"]}
        if source["Type"] == "SQS":
            made["Events"][event] |= {"Function": runs}
        else:
            rule = f"{name}{event}"
            permission = {"Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com"}
            permission |= {"FunctionName": name, "SourceArn": f"{rule}.Arn"}
            made["Events"][event] |= {"Target": {"Arn": f"{name}.Arn", "Rule": rule}, "Permission": permission}
    return made


def _canonical(value: Any) -> Any:  # noqa: PLR0911 - a case for each shape
    """Return documents read, a list of one as that one, and other lists in no order or by what names their items."""
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str() if value[:1] in {"{", "["}:
            try:
                return _canonical(json.loads(value))
            except ValueError:
                return value
        case Mapping():
            return {name: _canonical(each) for name, each in value.items()}
        case [{"Name": _, "Value": _}, *_]:
            return {each["Name"]: _canonical(each["Value"]) for each in value}
        case [item]:
            return _canonical(item)
        case [{"Sid": _} | {"Id": _}, *_]:
            return {each.get("Sid") or each["Id"]: _canonical(each) for each in value}
        case list():
            return " ".join(sorted(map(str, map(_canonical, value))))
    return " ".join(str(value).split())


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else name)
    else:
        yield path, value
