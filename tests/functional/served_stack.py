"""Serves moto with the stack deployed in it, for commands of docs/operations.md; run in aws-sam-cli's environment.

Prints the server's URL, and serves until it is ended. Each function has two versions, and its alias names the second.
"""

import json
import sys
import threading
from pathlib import Path

from tests.functional.expand_template import CODE, expand, made, versions  # isort: skip # it sets the environment

import boto3
from moto import mock_aws
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer
from samcli.yamlhelper import yaml_parse  # type: ignore[import-not-found] # of another environment


def deploy(stack: str, parameters: dict[str, str]) -> None:
    """Make the stack, and each function's versions and alias, which moto does not make of a template.

    Every parameter is given, as `make deploy` does: moto keeps no default for an update to use again.
    """
    s3, functions, cloud_formation = boto3.client("s3"), boto3.client("lambda"), boto3.client("cloudformation")
    for bucket in (CODE, parameters["SourceBucketName"]):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=CODE, Key="function.zip", Body=b"PK\5\6" + bytes(18))
    defaults = yaml_parse(Path("template.yaml").read_text())["Parameters"]
    parameters = {name: str(each.get("Default", "")) for name, each in defaults.items()} | parameters
    expanded = expand(Path("template.yaml"), parameters)
    for name in [name for name, each in expanded["Resources"].items() if "Condition" in each]:
        del expanded["Resources"][name]  # moto cannot describe a resource where it has not made another
        for output in [key for key, each in expanded["Outputs"].items() if name in json.dumps(each)]:
            del expanded["Outputs"][output]
    cloud_formation.create_stack(
        StackName=stack,
        TemplateBody=json.dumps(made(expanded, parameters)),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    for of in versions(expanded):
        found = cloud_formation.describe_stack_resource(StackName=stack, LogicalResourceId=of)
        name = found["StackResourceDetail"]["PhysicalResourceId"]
        for version in (b"1", b"2"):
            archive = b"PK\5\6" + bytes(16) + b"\1\0" + version  # a comment is all that differs
            functions.update_function_code(FunctionName=name, ZipFile=archive)
            last = functions.publish_version(FunctionName=name)["Version"]
        functions.create_alias(FunctionName=name, Name="live", FunctionVersion=last)


def main() -> None:
    """Take the stack's name and its parameters as JSON from the command line."""
    default_user_config["lambda"] = {"use_docker": False}  # made, never run
    with mock_aws():
        deploy(sys.argv[1], json.loads(sys.argv[2]))
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        print(f"http://{host}:{port}", flush=True)  # noqa: T201 - what whoever started this waits for
        threading.Event().wait()


if __name__ == "__main__":
    main()
