"""What docs/terraform/aws calls what template.yaml makes, for the two to be compared."""

from __future__ import annotations

ADDRESSES: dict[str, tuple[str, str]] = {
    "aws_cloudwatch_event_rule.canary[dummy]": ("CanaryFunction", "Events.Run."),
    "aws_cloudwatch_event_rule.check[dummy]": ("CheckFunction", "Events.Hourly."),
    "aws_cloudwatch_event_rule.source[dummy]": ("EventRule", ""),
    "aws_cloudwatch_event_target.canary[dummy]": ("CanaryFunction", "Events.Run.Target."),
    "aws_cloudwatch_event_target.check[dummy]": ("CheckFunction", "Events.Hourly.Target."),
    "aws_cloudwatch_event_target.source[dummy]": ("EventRule", "Target."),
    "aws_cloudwatch_log_group.replicator": ("ReplicatorLogs", ""),
    "aws_cloudwatch_query_definition.query[cost by bytes]": ("CostQuery", ""),
    "aws_cloudwatch_query_definition.query[failures by code and key]": ("FailuresQuery", ""),
    "aws_cloudwatch_query_definition.query[one key]": ("KeyQuery", ""),
    "aws_cloudwatch_query_definition.query[slowest copies]": ("SlowestQuery", ""),
    "aws_iam_role.backfill[0]": ("BackfillRole", ""),
    "aws_iam_role.canary[dummy]": ("CanaryRole", ""),
    "aws_iam_role.replicator": ("ReplicatorRole", ""),
    "aws_iam_role_policy.backfill[0]": ("BackfillRole", "Policy."),
    "aws_iam_role_policy.canary[dummy]": ("CanaryRole", "Policy."),
    "aws_iam_role_policy.check": ("CheckPolicy", "Policy."),
    "aws_iam_role_policy.replicate": ("ReplicatorRole", "Policy."),
    "aws_lambda_alias.parts": ("PartsFunction", "Alias."),
    "aws_lambda_alias.replicator": ("ReplicatorFunction", "Alias."),
    "aws_lambda_event_source_mapping.deletes": ("ReplicatorFunction", "Events.Deletes."),
    "aws_lambda_event_source_mapping.events": ("ReplicatorFunction", "Events.Queue."),
    "aws_lambda_event_source_mapping.parts": ("PartsFunction", "Events.Queue."),
    "aws_lambda_function.canary[dummy]": ("CanaryFunction", ""),
    "aws_lambda_function.check[dummy]": ("CheckFunction", ""),
    "aws_lambda_function.parts": ("PartsFunction", ""),
    "aws_lambda_function.replicator": ("ReplicatorFunction", ""),
    "aws_lambda_function_event_invoke_config.canary[dummy]": ("CanaryFunction", "EventInvokeConfig."),
    "aws_lambda_function_event_invoke_config.check[dummy]": ("CheckFunction", "EventInvokeConfig."),
    "aws_lambda_function_event_invoke_config.parts": ("PartsFunction", "EventInvokeConfig."),
    "aws_lambda_function_event_invoke_config.replicator": ("ReplicatorFunction", "EventInvokeConfig."),
    "aws_lambda_function_recursion_config.parts": ("PartsFunction", "Recursion."),
    "aws_lambda_function_url.replicator[0]": ("ReplicatorFunctionUrl", ""),
    "aws_lambda_permission.canary[dummy]": ("CanaryFunction", "Events.Run.Permission."),
    "aws_lambda_permission.check[dummy]": ("CheckFunction", "Events.Hourly.Permission."),
    "aws_s3_bucket_notification.source[dummy]": ("BucketNotification", ""),
    "aws_sqs_queue.dead_letters": ("DeadLetterQueue", ""),
    "aws_sqs_queue.deletes": ("DeletesQueue", ""),
    "aws_sqs_queue.events": ("EventsQueue", ""),
    "aws_sqs_queue.held_deletes": ("HeldDeletesQueue", ""),
    "aws_sqs_queue.parts": ("PartsQueue", ""),
    "aws_sqs_queue.parts_dead_letters": ("PartsDeadLetterQueue", ""),
    "aws_sqs_queue_policy.dead_letters": ("DeadLetterQueuePolicy", ""),
    "aws_sqs_queue_policy.events": ("EventsQueuePolicy", ""),
    "aws_sqs_queue_policy.inner[deletes]": ("InnerQueuesPolicy", "DeletesQueue."),
    "aws_sqs_queue_policy.inner[held_deletes]": ("InnerQueuesPolicy", "HeldDeletesQueue."),
    "aws_sqs_queue_policy.inner[parts]": ("InnerQueuesPolicy", "PartsQueue."),
    "aws_sqs_queue_policy.inner[parts_dead_letters]": ("InnerQueuesPolicy", "PartsDeadLetterQueue."),
}
"""The template's resource that each of the module's belongs to, and where in it. Alarms have the same names in both."""

MADE = {
    "aws_cloudwatch_event_rule.canary[dummy]": "CanaryFunctionRun",
    "aws_cloudwatch_event_rule.check[dummy]": "CheckFunctionHourly",
    "aws_lambda_event_source_mapping.deletes": "ReplicatorFunctionDeletes",
    "aws_lambda_event_source_mapping.events": "ReplicatorFunctionQueue",
    "aws_lambda_event_source_mapping.parts": "PartsFunctionQueue",
}
"""What SAM calls what it makes of a function's Events."""
TOLD = [
    ("aws_lambda_alias", "arn|name", ".Alias"),
    ("aws_sqs_queue", "name", ".QueueName"),
    ("aws_cloudwatch_log_group", r"arn:\*", ".Arn"),
    ("aws_lambda_function", "qualified_arn", ".Version"),
    ("aws_lambda_function", "version", ".version"),
    (r"aws_\w+", "arn", ".Arn"),
    (r"aws_\w+", "name|url|function_name|uuid", ""),
]
"""What an attribute of the module's is in the template, after its resource's name there."""
RENAMED: dict[str, list[tuple[str, str]]] = {
    "aws_cloudwatch_event_rule": [("^ScheduleExpression", "Schedule")],
    "aws_cloudwatch_event_target": [("^TargetId", "Id")],
    "aws_cloudwatch_log_group": [("^Name", "LogGroupName")],
    "aws_cloudwatch_metric_alarm": [
        ("^OkActions", "OKActions"),
        ("^MetricQuery", "Metrics"),
        (r"\.Metric\.(Period|Stat)$", r".MetricStat.\1"),
        (r"\.Metric\.", ".MetricStat.Metric."),
    ],
    "aws_iam_role": [("^Name", "RoleName"), ("^AssumeRolePolicy", "AssumeRolePolicyDocument")],
    "aws_iam_role_policy": [(r"^Policy\b", "PolicyDocument"), ("^Name", "PolicyName"), ("^Role", "Roles")],
    "aws_lambda_event_source_mapping": [("^EventSourceArn", "Queue"), ("^FunctionName", "Function")],
    "aws_lambda_function": [(r"^TracingConfig\.Mode", "Tracing")],
    "aws_lambda_function_event_invoke_config": [("^FunctionName", "Function")],
    "aws_lambda_function_url": [("^AuthorizationType", "AuthType"), ("^Qualifier", "TargetFunctionArn")],
    "aws_s3_bucket_notification": [
        ("^Eventbridge", "Delivery"),
        (r"^Queue\.Id", "ConfigurationId"),
        (r"^Queue\.(Filter)?", ""),
    ],
    "aws_sqs_queue": [
        ("^Name", "QueueName"),
        ("^VisibilityTimeoutSeconds", "VisibilityTimeout"),
        ("^MessageRetentionSeconds", "MessageRetentionPeriod"),
        ("^ReceiveWait", "ReceiveMessageWait"),
    ],
    "aws_sqs_queue_policy": [(r"^Policy\b", "PolicyDocument"), ("^QueueUrl", "Queues")],
}
"""Paths that are others in the template, beside their spelling."""
