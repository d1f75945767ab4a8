"""Deploys template.yaml and updates it, as CloudFormation would, in moto; run in aws-sam-cli's environment.

Its argument is a JSON list of parameters, one deployment each. Prints a JSON list: what the aliases run after each.
Moto's CloudFormation knows neither versions nor aliases: a version is published here where its logical id is new, and
the alias follows it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.functional.expand_template import CODE, expand, made, versions  # isort: skip # it sets the environment

import boto3
from moto import mock_aws
from moto.core.config import default_user_config

ALIAS = "live"
STACK = "upgraded"


def _publish(functions: Any, ids: dict[str, str], before: dict[str, str], names: dict[str, str]) -> None:
    """Do what CloudFormation does with AWS::Lambda::Version and AWS::Lambda::Alias."""
    for function, logical_id in ids.items():
        if logical_id == before.get(function):
            continue
        name = names[function]
        version = functions.publish_version(FunctionName=name)["Version"]
        change = functions.update_alias if before else functions.create_alias
        change(FunctionName=name, Name=ALIAS, FunctionVersion=version)


def _deploy(deployments: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    s3, functions, cloud_formation = boto3.client("s3"), boto3.client("lambda"), boto3.client("cloudformation")
    s3.create_bucket(Bucket=CODE)
    s3.put_object(Bucket=CODE, Key="function.zip", Body=b"PK\5\6" + bytes(18))
    before: dict[str, str] = {}
    names: dict[str, str] = {}  # moto lists empty ones too
    for parameters in deployments:
        expanded = expand(Path("template.yaml"), parameters)
        for name in [name for name, each in expanded["Resources"].items() if "Condition" in each]:
            del expanded["Resources"][name]  # of the options, none here; moto would update what it has not made
        change = cloud_formation.update_stack if before else cloud_formation.create_stack
        change(
            StackName=STACK,
            TemplateBody=json.dumps(made(expanded, parameters)),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        resources = cloud_formation.describe_stack_resources(StackName=STACK)["StackResources"]
        there = (each for each in resources if each.get("PhysicalResourceId"))
        names |= {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in there}
        ids = versions(expanded)
        _publish(functions, ids, before, names)
        before = ids
        yield {of: functions.get_function_configuration(FunctionName=names[of], Qualifier=ALIAS) for of in ids}


def main() -> None:
    """Deploy each in turn, and tell what the aliases run after each."""
    default_user_config["lambda"] = {"use_docker": False}  # made, never run
    with mock_aws():
        json.dump(list(_deploy(json.loads(sys.argv[1]))), sys.stdout, default=str)


if __name__ == "__main__":
    main()
