"""docs/terraform/aws is template.yaml in Terraform: both are worked out and compared, property by property."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit import cfn
from tests.unit.cfn import PARAMETERS, Stack
from tests.unit.terraform import TEXTS, Module
from tests.unit.terraform_as_cfn import differences, of_module, of_template

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
    "InvokerPrincipal": "the provider cannot say InvokedViaFunctionUrl",
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
BOTH = pytest.mark.parametrize(
    ("variables", "parameters"), [({}, {}), (EVERYTHING, EVERYTHING_STACK)], ids=["defaults", "everything"]
)


@BOTH
def test_the_module_makes_what_the_template_makes(variables: dict[str, Any], parameters: dict[str, str]) -> None:
    module, template = of_module(Module(**variables).resources()), of_template(Stack(**parameters))
    found = differences(module, template, EXCEPTIONS)
    assert not found, "\n".join(found)
    assert sum(map(len, module.values())) > 300  # properties: neither side was read as nothing


def test_every_resource_of_the_template_is_compared() -> None:
    made = {name for parameters in ({}, EVERYTHING_STACK) for name in of_template(Stack(**parameters))}
    assert cfn.RESOURCES.keys() - made == NOT_MADE.keys()
    assert set(NOT_MADE.values()) == NOT_IN_THE_MODULE.keys()


def test_each_exception_is_needed() -> None:
    pairs = [
        (of_module(Module(**variables).resources()), of_template(Stack(**parameters)))
        for variables, parameters in [({}, {}), (EVERYTHING, EVERYTHING_STACK)]
    ]
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


PLANTED_IN_THE_MODULE = [
    ("queues.tf", "6 * var.timeout_seconds", "5 * var.timeout_seconds"),
    ("queues.tf", "fourteen_days = 1209600", "fourteen_days = 1209599"),
    ("queues.tf", "delay_seconds              = 300", "delay_seconds              = 0"),
    ("queues.tf", "maxReceiveCount     = 1000", "maxReceiveCount     = 100"),
    ("queues.tf", '["${local.queues}-events", "${local.queues}-deletes"]', '["${local.queues}-events"]'),
    ("queues.tf", 'StringEquals = { "aws:SourceAccount" = source.owner }', "StringEquals = {}"),
    ("queues.tf", "rule/${var.name}-EventRule-*", "rule/*"),
    ("queues.tf", 'Effect    = "Deny"', 'Effect    = "Allow"'),
    ("queues.tf", "kms_master_key_id       = var.kms_key_arn", ""),
    ("sources.tf", '"s3:LifecycleTransition",', ""),
    ("sources.tf", "account     = [each.value.owner]", "account     = []"),
    ("sources.tf", "maximum_retry_attempts       = 185", "maximum_retry_attempts       = 18"),
    ("functions.tf", 'handler = "handler.canary.lambda_handler"', 'handler = "handler.check.lambda_handler"'),
    ("functions.tf", 'runtime  = "python3.13"', 'runtime  = "python3.12"'),
    ("functions.tf", "timeout = 60", "timeout = 61"),
    ("functions.tf", 'recursive_loop = "Allow"', 'recursive_loop = "Terminate"'),
    ("functions.tf", "aws_sqs_queue.parts_dead_letters.url", "aws_sqs_queue.dead_letters.url"),
    ("main.tf", "DELETES_LIMIT          = tostring(var.deletes_limit)", ""),
    ("main.tf", "sts.googleapis.com", "iam.googleapis.com"),
    ("main.tf", "aws_lambda_event_source_mapping.deletes.uuid", "aws_lambda_event_source_mapping.events.uuid"),
    ("main.tf", "Status = var.replicate_deletes", 'Status = "Enabled"'),
    ("triggers.tf", "maximum_concurrency = 2", "maximum_concurrency = 20"),
    ("triggers.tf", '["ReportBatchItemFailures"]', "[]"),
    ("triggers.tf", 'var.replication == "Running"', "true"),
    ("triggers.tf", "function_name = aws_lambda_alias.parts.arn", "function_name = aws_lambda_function.parts.arn"),
    ("triggers.tf", "rate(1 hour)", "rate(2 hours)"),
    ("triggers.tf", 'authorization_type = "AWS_IAM"', 'authorization_type = "NONE"'),
    ("triggers.tf", "destination = aws_sqs_queue.dead_letters.arn", "destination = aws_sqs_queue.events.arn"),
    ("roles.tf", '"s3:GetObjectVersion", ', ""),
    ("roles.tf", "${source.arn}/${source.prefix}*", "${source.arn}/*"),
    ("roles.tf", "kms:ViaService", "kms:CallerAccount"),
    ("roles.tf", 'Sid = "CountHeldDeletes"', 'Sid = "CountDeletes"'),
    ("roles.tf", "role   = aws_iam_role.replicator.name", "role   = aws_iam_role.backfill[0].name"),
    ("roles.tf", "lambda.amazonaws.com", "ec2.amazonaws.com"),
    ("alarms.tf", "DIFF(FILL(events, 0))", "DIFF(FILL(parts, 0))"),
    ("alarms.tf", "threshold = 0\n", "threshold = 1\n"),
    ("alarms.tf", "period = 86400", "period = 3600"),
    ("alarms.tf", 'missing = "breaching"', ""),
    ("alarms.tf", "periods = 20", "periods = 2"),
    ("alarms.tf", 'Side = "destination"', 'Side = "source"'),
    ("alarms.tf", "ok_actions = local.notify", ""),
    ("queries.tf", "limit 200", "limit 100"),
]
PLANTED_IN_THE_TEMPLATE = [
    ("DelaySeconds: 300", "DelaySeconds: 0"),
    ("maxReceiveCount: 1000 #", "maxReceiveCount: 999 #"),
    ("Runtime: python3.13", "Runtime: python3.14"),
    ("Action: [s3:GetObject, s3:GetObjectVersion, s3:GetObjectTagging,", "Action: [s3:GetObject, s3:GetObjectTagging,"),
    ("Condition: *OwnRule", "Condition: {}"),
    ("DELETES_LIMIT: !Ref DeletesLimit", "DELETES_LIMIT: 5"),
    ("DRY_RUN: !Ref DryRun", 'DRY_RUN: !Ref DryRun\n        ANOTHER: "1"'),
    ("ScalingConfig: { MaximumConcurrency: 2 }", "ScalingConfig: { MaximumConcurrency: 3 }"),
    ("EvaluationPeriods: 30", "EvaluationPeriods: 31"),
    ("TreatMissingData: breaching", "TreatMissingData: notBreaching"),
    ("Threshold: !Ref EgressAlarmGigabytes", "Threshold: 1"),
    ("Schedule: rate(1 hour)", "Schedule: rate(2 hours)"),
    ("limit 200", "limit 300"),
    (
        "  DeadLetterQueuePolicy:\n",
        "  AnotherQueue: { Type: AWS::SQS::Queue, Properties: {} }\n\n  DeadLetterQueuePolicy:\n",
    ),
]


def squeezed(text: str) -> str:
    """Return the text with the formatter's columns taken out."""
    return re.sub(r"(?<=\S) +=", " =", text)


@pytest.mark.parametrize(("file", "old", "new"), PLANTED_IN_THE_MODULE)
def test_a_value_that_is_changed_in_the_module_is_found(file: str, old: str, new: str) -> None:
    text, old = squeezed(TEXTS[file]), squeezed(old)
    assert old in text
    module = Module({**TEXTS, file: text.replace(old, squeezed(new), 1)}, **EVERYTHING)
    assert differences(of_module(module.resources()), of_template(Stack(**EVERYTHING_STACK)), EXCEPTIONS)


@pytest.mark.parametrize(("old", "new"), PLANTED_IN_THE_TEMPLATE)
def test_a_value_that_is_changed_in_the_template_is_found(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert old in cfn.TEXT
    changed = cfn.parsed(cfn.TEXT.replace(old, new, 1))
    monkeypatch.setattr(cfn, "TEMPLATE", changed)
    monkeypatch.setattr(cfn, "RESOURCES", changed["Resources"])
    module = of_module(Module(**EVERYTHING).resources())
    assert differences(module, of_template(Stack(**EVERYTHING_STACK)), EXCEPTIONS)
