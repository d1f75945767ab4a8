"""docs/terraform/aws is template.yaml in Terraform: both are worked out and compared, property by property."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit import cfn
from tests.unit.cfn import PARAMETERS, Stack
from tests.unit.terraform import Module
from tests.unit.terraform_as_cfn import Form, differences, of_module, of_template

EXCEPTIONS = {
    # resources
    "SourceBucketGuard": "Terraform shows in its plan what another bucket means",
    "BucketNotification(Function|Role|Logs)": "of the custom resource; Terraform's own resource takes its place",
    # properties
    r"\w+Function\.(CodeUri|Filename|SourceCodeHash)": "SAM zips a folder, Terraform takes the zip",
    r"\w+Function\.(AutoPublishAliasAllProperties|Publish)": "both publish each change",
    r"\w+Function\.Environment\.Variables\.DEPLOYED_PARAMETERS": "read by nobody; SAM publishes by it",
    r"\w+Function\.DeploymentPreference\.\w+": "CodeDeploy's: the module shifts the alias at once, as the default does",
    r"\w+Function\.EventInvokeConfig\.DestinationConfig\.OnFailure\.Type": "SAM's word for what the ARN says",
    r"\w+Function\.Events\.\w+\.Name": "CloudFormation makes names up, Terraform does not",
    r"(BackfillRole|CanaryRole)\.RoleName|EventRule\.Name": "the same",
    r"ReplicatorFunctionUrl\.FunctionName": "of the alias, whose ARN the template gives",
}
"""Resources and properties that are in one of both only, each with its reason. No other may be."""
NOT_MADE = {
    "SourceBucket": "CreateSourceBucket",
    "SourceBucketPolicy": "CreateSourceBucket",
    "DeploymentRole": "DeploymentPreference",
    "HookFunction": "DeploymentPreference",
    "ReplicationDashboard": "Dashboard",
    "UrlPermission": "InvokerPrincipal",
    "UrlInvokePermission": "InvokerPrincipal",
}
"""The template's resources that the module never makes, each with the parameter that asks for it."""
NOT_IN_THE_MODULE = {
    "CreateSourceBucket": "a bucket is a resource of the caller's",
    "DeploymentPreference": "CodeDeploy's resources would be as many again",
    "Dashboard": "it is of one source bucket",
    "InvokerPrincipal": "the provider says InvokedViaFunctionUrl from 6.29 on only",
}
"""Parameters that the module does not have."""
PER_SOURCE = {
    "SourceBucketName",
    "SourceBucketOwner",
    "SourcePrefix",
    "SourceSuffix",
    "SourceKmsKeyArn",
    "EventDelivery",
}
CALLED = {
    "DestinationBucketName": "destination_bucket",
    "ReplicationRules": "rules",
}
"""Parameters whose variables have shorter names."""
OWN_KEY = "arn:aws:kms:us-east-1:123456789012:key/own"
SOURCE_KEY = "arn:aws:kms:us-east-1:123456789012:key/source"
EVERYTHING_STACK = {
    "SourcePrefix": "in/",
    "SourceSuffix": ".csv",
    "SourceKmsKeyArn": SOURCE_KEY,
    "EventDelivery": "EventBridge",
    "DestinationPrefix": "there",
    "ReplicateDeletes": "Disabled",
    "ReplicateTags": "Enabled",
    "GcpServiceAccount": "copier@project.iam.gserviceaccount.com",
    "Replication": "Paused",
    "BackfillBucket": "manifests",
    "DeletesLimit": "0",
    "DryRun": "true",
    "LogLevel": "DEBUG",
    "LogRetentionDays": "7",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "LatencyObjectiveSeconds": "600",
    "EgressAlarmGigabytes": "500",
    "CanaryMinutes": "30",
    "Architecture": "x86_64",
    "MemorySize": "2048",
    "TimeoutSeconds": "300",
    "MaximumConcurrency": "7",
    "ReservedConcurrency": "50",
    "BandwidthLimit": "2000000",
    "VpcSubnetIds": "subnet-0a,subnet-0b",
    "VpcSecurityGroupIds": "sg-0c",
    "KmsKeyArn": OWN_KEY,
}
"""Each parameter that the module has too, with another value than its default."""


def variable_of(parameter: str) -> str:
    """Return the module's name for a parameter."""
    spelt = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in parameter).lstrip("_")
    return CALLED.get(parameter, spelt)


def variables_of(parameters: dict[str, str]) -> dict[str, Any]:
    """Return the module's variables that say the same as a stack's parameters."""
    given: dict[str, Any] = {variable_of(name): text for name, text in parameters.items() if name not in PER_SOURCE}
    for name, value in given.items():
        if name in {"vpc_subnet_ids", "vpc_security_group_ids"}:
            given[name] = value.split(",")
        elif value in {"true", "false"} or value.lstrip("-").isdigit():
            given[name] = json.loads(value)
    fields = {variable_of(name).removeprefix("source_"): parameters[name] for name in PER_SOURCE & parameters.keys()}
    return given | {"sources": {"dummy": fields}}


EVERYTHING = variables_of(EVERYTHING_STACK)
RULES = json.dumps([{"ID": "x", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://other/there"}}])
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "defaults": ({}, {}),
    "everything": (EVERYTHING, EVERYTHING_STACK),
    "rules": ({"rules": RULES, "destination_bucket": None}, {"ReplicationRules": RULES}),
}
"""The module's variables, and the stack's parameters that say the same."""


def forms() -> dict[str, tuple[Form, Form]]:
    """Return what the module and the template make in each case."""
    return {
        case: (of_module(Module(**variables).resources()), of_template(Stack(**parameters)))
        for case, (variables, parameters) in CASES.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_the_module_makes_what_the_template_makes(case: str) -> None:
    module, template = forms()[case]
    found = differences(module, template, EXCEPTIONS)
    assert not found, "\n".join(found)
    assert sum(map(len, module.values())) > 300  # properties: neither side was read as nothing


def test_every_resource_of_the_template_is_compared() -> None:
    made = {name for _, template in forms().values() for name in template}
    assert cfn.RESOURCES.keys() - made == NOT_MADE.keys()
    assert set(NOT_MADE.values()) == NOT_IN_THE_MODULE.keys()


def test_each_exception_is_needed() -> None:
    pairs = forms().values()
    for pattern in EXCEPTIONS:
        others = {each: reason for each, reason in EXCEPTIONS.items() if each != pattern}
        assert any(differences(module, template, others) for module, template in pairs), pattern


def test_each_parameter_is_a_variable_with_the_same_default() -> None:
    module = Module()
    for name, parameter in PARAMETERS.items():
        if name in NOT_IN_THE_MODULE or name in PER_SOURCE or "Default" not in parameter:
            continue
        default, theirs = module.default(variable_of(name)), str(parameter["Default"])
        assert (json.dumps(default) if isinstance(default, bool | int) else default or "") == theirs, name
    others = {"name", "package", "sources", "manage_notifications", "rest_endpoint"}
    shared = {variable_of(name) for name in PARAMETERS if name not in {*NOT_IN_THE_MODULE, *PER_SOURCE}}
    assert module.variables.keys() == others | shared
    given = PARAMETERS.keys() - NOT_IN_THE_MODULE.keys() - {"SourceBucketOwner", "ReplicationRules"}
    assert EVERYTHING_STACK.keys() == given - cfn.REQUIRED.keys()  # a new parameter has its place in this test


@pytest.mark.parametrize(
    "name",
    [
        "Architecture",
        "CanaryMinutes",
        "LogLevel",
        "ReplicateDeletes",
        "ReplicateTags",
        "Replication",
        "TimeoutSeconds",
    ],
)
def test_a_variable_takes_the_values_that_the_parameter_takes(name: str) -> None:
    variable = variable_of(name)
    for allowed in map(str, PARAMETERS[name]["AllowedValues"]):
        given: dict[str, Any] = {variable: int(allowed) if allowed.isdigit() else allowed}
        assert Module(**given).faults() == []
    given = {variable: 7 if isinstance(given[variable], int) else "else"}
    (fault,) = Module(**given).faults()
    assert fault.startswith(f"{variable} must be")
