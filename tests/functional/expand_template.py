"""Expands template.yaml by SAM's own translator and makes its resources in moto; run in aws-sam-cli's environment.

Its arguments are the template, a JSON list of parameters, and `expand`, `versions` or `deploy`. It prints a JSON list:
the expanded templates, the logical ids of the functions' versions, or the templates with what their stacks came to.
"""

import json
import os
import pickle
import sys
from functools import cache
from pathlib import Path
from typing import Any

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "false",
}

import boto3
from moto import mock_aws
from moto.core.config import default_user_config
from samcli.yamlhelper import yaml_parse  # type: ignore[import-not-found] # of another environment
from samtranslator.parser.parser import Parser  # type: ignore[import-not-found] # of another environment
from samtranslator.translator.translator import Translator  # type: ignore[import-not-found] # of another environment

CODE = "code"
UNMADE = {
    "AWS::Lambda::EventInvokeConfig": "moto does not know it",
    "AWS::Lambda::Url": "moto does not know it in templates",
    "AWS::Lambda::Alias": "moto does not know it in templates; what names one gets the function",
    "AWS::Lambda::Permission": "moto wants an action and a principal it knows",
    "Custom::BucketNotification": "moto would run its function in Docker; the test calls it instead",
    "Custom::SourceBucket": "moto would run its function in Docker",
    "AWS::CloudWatch::Dashboard": "moto does not know it in templates",
    "AWS::Logs::QueryDefinition": "moto does not know it in templates",
    "AWS::S3::BucketPolicy": "moto does not know it in templates",
    "AWS::CloudWatch::Alarm": "moto knows none that is made of expressions",
    "AWS::SQS::QueuePolicy": "moto takes it and applies nothing",
    "AWS::CodeDeploy::Application": "moto does not know it in templates",
    "AWS::CodeDeploy::DeploymentGroup": "moto does not know it in templates",
    "AWS::Lambda::Version": "moto does not know it in templates",
}


def parsed(text: str) -> dict[str, Any]:
    """Return the template as a document of its own."""
    template: dict[str, Any] = pickle.loads(_pickled(text))  # noqa: S301 - our own
    return template


@cache
def _pickled(text: str) -> bytes:
    """YAML takes most of the time that a translation takes, and SAM changes the document."""
    return pickle.dumps(yaml_parse(text))


def versions(expanded: dict[str, Any]) -> dict[str, str]:
    """Return the logical id of each function's version."""
    return {
        each["Properties"]["FunctionName"]["Ref"]: name
        for name, each in expanded["Resources"].items()
        if each["Type"] == "AWS::Lambda::Version"
    }


def expand(path: Path, parameters: dict[str, str]) -> dict[str, Any]:
    """Return the template as CloudFormation sees it, its conditions and references left in."""
    template = parsed(path.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": CODE, "Key": "function.zip"}
    expanded: dict[str, Any] = Translator({}, Parser()).translate(template, dict(parameters))
    return json.loads(json.dumps(expanded))  # type: ignore[no-any-return]


def _mapped(node: Any, template: dict[str, Any], parameters: dict[str, str]) -> Any:
    """Look up what is in mappings, as moto takes numbers for keys, which are text; and make do without aliases."""
    if isinstance(node, list):
        return [_mapped(item, template, parameters) for item in node]
    if not isinstance(node, dict):
        return node
    named = template["Resources"].get(str(node.get("Ref")), {})
    if named.get("Type") in {"AWS::Lambda::Alias", "AWS::Lambda::Version"}:
        return named["Properties"]["FunctionName"]
    if "Fn::FindInMap" in node:
        name, key, second = node["Fn::FindInMap"]
        value = parameters.get(key["Ref"], str(template["Parameters"][key["Ref"]].get("Default")))
        return template["Mappings"][name][value][second]
    return {name: _mapped(value, template, parameters) for name, value in node.items()}


def made(expanded: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Return what moto can make of the template."""
    resources = {name: each for name, each in expanded["Resources"].items() if each["Type"] not in UNMADE}
    for each in resources.values():
        if each.get("DependsOn") == "SourceBucketGuard":
            del each["DependsOn"]
    outputs = {
        name: each
        for name, each in expanded["Outputs"].items()
        if not any(
            f'"{left}"' in json.dumps(each) or f"{{{left}" in json.dumps(each)
            for left in set(expanded["Resources"]) - set(resources)
        )
    }
    template: dict[str, Any] = _mapped(expanded | {"Resources": resources, "Outputs": outputs}, expanded, parameters)
    return template


def deploy(expanded: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Make the resources that moto knows, with what is attached to them told again."""
    template = made(expanded, parameters)
    default_user_config["lambda"] = {"use_docker": False}  # made, never run
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=CODE)
        s3.put_object(Bucket=CODE, Key="function.zip", Body=b"PK\5\6" + bytes(18))
        cloud_formation = boto3.client("cloudformation")
        cloud_formation.create_stack(
            StackName="replicator",
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack = cloud_formation.describe_stacks(StackName="replicator")["Stacks"][0]
        there = cloud_formation.describe_stack_resources(StackName="replicator")["StackResources"]
        there = [each for each in there if each.get("PhysicalResourceId")]  # moto lists empty ones too
        queues = boto3.client("sqs")
        attributes = {}
        for resource in there:
            if resource["ResourceType"] == "AWS::SQS::Queue":
                answer = queues.get_queue_attributes(QueueUrl=resource["PhysicalResourceId"], AttributeNames=["All"])
                attributes[resource["LogicalResourceId"]] = answer["Attributes"]
        functions = boto3.client("lambda")
        return {
            "status": stack["StackStatus"],
            "outputs": {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
            "resources": {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in there},
            "queues": attributes,
            "mappings": functions.list_event_source_mappings()["EventSourceMappings"],
            "buckets": [each["Name"] for each in s3.list_buckets()["Buckets"]],
        }


def main() -> None:
    """Read parameters as JSON from the command line."""
    _, path, given, what = sys.argv
    results: list[dict[str, Any]] = []
    for parameters in json.loads(given):
        expanded = expand(Path(path), parameters)
        match what:
            case "versions":
                results.append(versions(expanded))
            case "deploy":
                deployed = deploy(expanded, parameters)
                results.append({"expanded": expanded, "unmade": UNMADE, "deployed": deployed})
            case _:
                results.append(expanded)
    json.dump(results, sys.stdout, default=str)


if __name__ == "__main__":
    main()
