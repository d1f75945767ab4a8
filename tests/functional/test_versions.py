"""A changed parameter reaches what runs: SAM's own translation publishes a version where it changes one, and only then.

Lambda's alias runs a version. Without a new version the parameter has no effect. Lambda refuses a new version that is
equal to the last one ("A version for this Lambda function exists"), and the stack is rolled back.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.functional.sam import Translator, needs_sam
from tests.unit.cfn import PARAMETERS, REQUIRED, RESOURCES, TEMPLATE, Stack

FUNCTIONS = ("ReplicatorFunction", "PartsFunction")
VERSIONED = {"Architectures", "Description", "Environment", "Handler", "KmsKeyArn", "LoggingConfig", "MemorySize"}
VERSIONED |= {"Role", "Runtime", "SnapStart", "Timeout", "Tracing", "VpcConfig"}
UNVERSIONED = {"AutoPublishAlias", "AutoPublishAliasAllProperties", "CodeUri", "DeploymentPreference", "FunctionName"}
UNVERSIONED |= {"EventInvokeConfig", "Events", "FunctionUrlConfig", "RecursiveLoop", "ReservedConcurrentExecutions"}
"""Of the function, its alias or its triggers: they hold at once."""
RULES = json.dumps([{"ID": "x", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://other"}}])
KEY = "arn:aws:kms:us-east-1:123456789012:key/"
CHANGED = {
    "SourceBucketName": "another",
    "SourceBucketOwner": "123456789012",  # the stack's own account, which is the default
    "SourcePrefix": 'a b/"',
    "SourceSuffix": ".csv",
    "SourceKmsKeyArn": f"{KEY}source",
    "DestinationBucketName": "others",
    "DestinationPrefix": "in",
    "ReplicationRules": RULES.replace("other", "third"),
    "GcpWorkloadIdentityProvider": REQUIRED["GcpWorkloadIdentityProvider"].replace("aws-1", "aws-2"),
    "GcpServiceAccount": "copier@project.iam.gserviceaccount.com",
    "InvokerPrincipal": "123456789012",
    "BackfillBucket": "manifests",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "BandwidthLimit": "1048576",
    "KmsKeyArn": f"{KEY}own",
    "VpcSubnetIds": "subnet-0a,subnet-0b",
    "VpcSecurityGroupIds": "sg-0c",
}
"""Another value of each parameter that is text; of the others one is worked out."""
DEFAULTS = {name: str(each["Default"]) for name, each in PARAMETERS.items() if "Default" in each}
BASES: dict[str, dict[str, str]] = {
    "defaults": {},
    "rules": {"ReplicationRules": RULES},
    "gradual": {"DeploymentPreference": "Canary10Percent5Minutes"},
    "vpc": {"VpcSubnetIds": "subnet-0c", "VpcSecurityGroupIds": "sg-0d"},
}


def changed(base: str, name: str) -> dict[str, str]:
    """The parameters of a base, with another value of one of them."""
    before = str({**REQUIRED, **BASES[base]}.get(name, PARAMETERS[name].get("Default", "")))
    allowed = [str(value) for value in PARAMETERS[name].get("AllowedValues", []) if str(value) != before]
    value = allowed[-1] if allowed else CHANGED.get(name)
    if value is None:
        assert PARAMETERS[name]["Type"] == "Number", f"give another value of {name} in CHANGED"
        value = str(int(before) + 1)
    return {**BASES[base], name: value}


CASES = [(base, name) for base in BASES for name in PARAMETERS if not Stack(**changed(base, name)).refusals()]


@pytest.fixture(scope="module")
def published(sam: Translator) -> dict[str, dict[str, str]]:
    """The logical ids of both versions, by the parameters as JSON. One process translates all of them."""
    given = [REQUIRED | parameters for parameters in [*BASES.values(), DEFAULTS, *(changed(*case) for case in CASES)]]
    return {json.dumps(parameters): ids for parameters, ids in zip(given, sam("versions", given), strict=True)}


def configuration(function: str, parameters: dict[str, str]) -> dict[str, Any]:
    """What Lambda keeps of a function in a version of it."""
    stack = Stack(**parameters)
    common = stack.value(TEMPLATE["Globals"]["Function"])
    own = stack.resource(function)
    assert set(own) | set(common) <= VERSIONED | UNVERSIONED, "say whether the property belongs to a version"
    merged = {**common, **own, "Environment": stack.variables(function)}
    return {name: value for name, value in merged.items() if name in VERSIONED}


@needs_sam
@pytest.mark.xdist_group("sam")
@pytest.mark.parametrize(("base", "name"), CASES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_parameter_makes_a_new_version_exactly_where_it_changes_one(
    published: dict[str, dict[str, str]], function: str, base: str, name: str
) -> None:
    after = changed(base, name)
    ids = [published[json.dumps(REQUIRED | parameters)][function] for parameters in (BASES[base], after)]
    changes = configuration(function, BASES[base]) != configuration(function, after)
    if changes:
        assert ids[0] != ids[1], f"{name} has no effect on what runs: list it in Globals, at Tracing"
    else:
        assert ids[0] == ids[1], f"{name} changes nothing that Lambda could publish: take it out of Globals, at Tracing"


@needs_sam
@pytest.mark.xdist_group("sam")
def test_a_default_that_is_given_makes_no_new_version(published: dict[str, dict[str, str]]) -> None:
    """CloudFormation gives texts: sam's second deployment gives each value that the stack has, its first none."""
    assert published[json.dumps(REQUIRED)] == published[json.dumps(REQUIRED | DEFAULTS)]


def test_every_parameter_is_changed_in_some_case() -> None:
    assert {name for _, name in CASES} == set(PARAMETERS)


def test_both_functions_have_a_version_and_an_alias() -> None:
    made = {name for name, each in RESOURCES.items() if "AutoPublishAlias" in each.get("Properties", {})}
    assert made == set(FUNCTIONS)
    for name in made:
        assert RESOURCES[name]["Properties"]["AutoPublishAliasAllProperties"] is True
    assert {name for name in PARAMETERS if changes_what_runs(name)} >= {"DryRun", "ReplicateDeletes", "MemorySize"}


def changes_what_runs(name: str) -> bool:
    """Return True if the other value of a parameter changes the replicator's version."""
    return configuration(FUNCTIONS[0], {}) != configuration(FUNCTIONS[0], changed("defaults", name))
