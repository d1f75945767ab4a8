"""A value that is changed in docs/terraform/aws or in template.yaml is found: the comparison cannot pass by mistake."""

from __future__ import annotations

import re

import pytest

from tests.unit import cfn
from tests.unit.cfn import Stack
from tests.unit.terraform import TEXTS, Module
from tests.unit.terraform_as_cfn import differences, of_module, of_template
from tests.unit.test_terraform import EVERYTHING, EVERYTHING_STACK, EXCEPTIONS

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
