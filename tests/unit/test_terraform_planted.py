"""A value that is changed in docs/terraform/aws or in template.yaml is found: the comparison cannot pass by mistake."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit import cfn
from tests.unit.cfn import Stack
from tests.unit.terraform import TEXTS, Module
from tests.unit.terraform_as_cfn import Form, differences, of_module, of_template
from tests.unit.test_terraform import CASES, EVERYTHING, EVERYTHING_STACK, EXCEPTIONS, NOT_MADE

PLANTED_IN_THE_MODULE = [
    ("queues.tf", "6 * var.timeout_seconds", "5 * var.timeout_seconds"),
    ("queues.tf", "fourteen_days = 1209600", "fourteen_days = 1209599"),
    ("queues.tf", "delay_seconds              = 300", "delay_seconds              = 0"),
    ("queues.tf", "maxReceiveCount     = 1000", "maxReceiveCount     = 100"),
    ("queues.tf", '["${local.queues}-events", "${local.queues}-deletes"]', '["${local.queues}-events"]'),
    ("queues.tf", 'StringEquals = { "aws:SourceAccount" = owner }', "StringEquals = {}"),
    ("queues.tf", "rule/${var.name}-EventRule-*", "rule/*"),
    ("queues.tf", 'Effect    = "Deny"', 'Effect    = "Allow"'),
    ("queues.tf", "kms_master_key_id       = var.kms_key_arn", ""),
    ("sources.tf", '"s3:LifecycleTransition",', ""),
    ("sources.tf", "account     = [each.value.owner]", "account     = []"),
    ("sources.tf", "maximum_retry_attempts       = 185", "maximum_retry_attempts       = 18"),
    (
        "functions.tf",
        'handler = "handler.tools.canary.lambda_handler"',
        'handler = "handler.tools.check.lambda_handler"',
    ),
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
    ("roles.tf", 'Sid = "LookForHeldDeletes"', 'Sid = "CountDeletes"'),
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
NOT_COMPARED = {
    r"BucketNotification\.(ServiceToken|ServiceTimeout|Revision|Account|Rule)\b.*": "the custom resource's own",
    r"BucketNotification\.Bucket\.Fn::If\.1\.Ref: SourceBucket": "CreateSourceBucket",
    r"\w+Function\.(CodeUri|AutoPublishAliasAllProperties|DeploymentPreference)\b.*": "an exception",
    r"\w+Function\.EventInvokeConfig\.DestinationConfig\.OnFailure\.Type: SQS": "an exception",
    r"\w+\.Environment\.Variables\.DEPLOYED_PARAMETERS\b.*": "an exception",
    r"Globals\.Tracing\.Fn::Select\.1\..*": "SAM publishes by it",
    r"\w+Function\.Events\.\w+\.Type: Schedule": "it is not SQS",
    r"\w+Function\.VpcConfig\.Fn::If\.1\.SecurityGroupIds\.Fn::Split\.0: ,": "a list of one",
    r"ReplicatorRole\.Policies\.0\.PolicyDocument\.Statement\.1[23]\..*": "of DeploymentPreference",
    r".*\.Fn::If\.1\.Ref: SourceBucketOwner": "test_terraform_sources.py has owners",
    r".*\.Fn::If\.2(\.Ref: AWS::NoValue|: )": "the side of a condition that is never so where the resource is made",
}
"""Values of the template that may change without a difference, each with its reason."""


def squeezed(text: str) -> str:
    """Return the text with the formatter's columns taken out."""
    return re.sub(r"(?<=\S) +=", " =", text)


@pytest.mark.parametrize(("file", "old", "new"), PLANTED_IN_THE_MODULE)
def test_a_value_that_is_changed_in_the_module_is_found(file: str, old: str, new: str) -> None:
    text, old = squeezed(TEXTS[file]), squeezed(old)
    assert old in text
    module = Module({**TEXTS, file: text.replace(old, squeezed(new), 1)}, **EVERYTHING)
    assert differences(of_module(module.resources()), of_template(Stack(**EVERYTHING_STACK)), EXCEPTIONS)


def test_each_value_that_is_changed_in_the_template_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        (of_module(Module(**variables).resources()), Stack(**parameters)) for variables, parameters in CASES.values()
    ]
    template = copy.deepcopy(cfn.TEMPLATE)
    monkeypatch.setattr(cfn, "TEMPLATE", template)
    nodes = [(name, name, each["Properties"]) for name, each in template["Resources"].items()]
    nodes = [each for each in nodes if each[0] not in NOT_MADE and not re.fullmatch("|".join(EXCEPTIONS), each[0])]
    changed, unseen = 0, []
    for name, place, properties in [*nodes, ("ReplicatorFunction", "Globals", template["Globals"]["Function"])]:
        monkeypatch.setattr(cfn, "RESOURCES", {name: template["Resources"][name]})
        assert not is_seen(name, pairs)
        for node, key, path in leaves(properties, place):
            value = node[key]
            node[key] = value + 1 if isinstance(value, int) else f"zz{value}"
            changed += 1
            unseen += [] if is_seen(name, pairs) else [f"{path}: {value}"]
            node[key] = value
    assert [path for path in unseen if not re.fullmatch("|".join(NOT_COMPARED), path)] == []
    assert [each for each in NOT_COMPARED if not any(re.fullmatch(each, path) for path in unseen)] == []
    assert changed > 800


def is_seen(name: str, pairs: list[tuple[Form, Stack]]) -> bool:
    """Return True if the only resource that the template has by now differs from the module's."""
    for module, stack in pairs:
        try:
            template = of_template(stack)
        except (AttributeError, LookupError, TypeError, ValueError):  # it cannot be worked out any more
            return True
        ours = {name: module[name]} if name in module and template else {}
        if differences(ours, template, EXCEPTIONS):
            return True
    return False


def leaves(node: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield where each value of a resource is, once, as an anchor may be in several places."""
    seen = set()
    waiting = [(node, path)]
    while waiting:
        inner, place = waiting.pop()
        if id(inner) not in seen:
            seen.add(id(inner))
            for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
                if isinstance(value, dict | list):
                    waiting.append((value, f"{place}.{key}"))
                else:
                    yield inner, key, f"{place}.{key}"


def test_a_new_resource_of_the_template_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cfn, "RESOURCES", cfn.RESOURCES | {"AnotherQueue": {"Type": "AWS::SQS::Queue", "Properties": {}}}
    )
    found = differences(of_module(Module().resources()), of_template(Stack()), EXCEPTIONS)
    assert found == ["AnotherQueue is only in the template"]
