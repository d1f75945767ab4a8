# What invokes the functions: aliases, queues, schedules, the REST endpoint.

resource "aws_lambda_alias" "replicator" {
  name             = "live" # handler/tools/running.py reads it
  function_name    = aws_lambda_function.replicator.function_name
  function_version = aws_lambda_function.replicator.version
}

resource "aws_lambda_alias" "parts" {
  name             = "live"
  function_name    = aws_lambda_function.parts.function_name
  function_version = aws_lambda_function.parts.version
}

resource "aws_lambda_event_source_mapping" "events" {
  event_source_arn        = aws_sqs_queue.events.arn
  function_name           = aws_lambda_alias.replicator.arn
  enabled                 = var.replication == "Running"
  batch_size              = 10                          # the most there is without waiting for a batch to fill
  function_response_types = ["ReportBatchItemFailures"] # one event that fails does not bring back the others
  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
  depends_on = [aws_iam_role_policy.replicate] # Lambda tries the role at once
}

resource "aws_lambda_event_source_mapping" "deletes" {
  event_source_arn        = aws_sqs_queue.deletes.arn
  function_name           = aws_lambda_alias.replicator.arn
  enabled                 = var.replication == "Running"
  batch_size              = 100 # an invocation looks for held deletes for a second (handler/brake.py), so few are better
  function_response_types = ["ReportBatchItemFailures"]

  maximum_batching_window_in_seconds = 1 # the least there is for more than 10
  scaling_config {
    maximum_concurrency = 2 # the least there is, as deletes have time
  }
  depends_on = [aws_iam_role_policy.replicate]
}

resource "aws_lambda_event_source_mapping" "parts" {
  event_source_arn        = aws_sqs_queue.parts.arn
  function_name           = aws_lambda_alias.parts.arn
  enabled                 = var.replication == "Running"
  batch_size              = 1 # a span takes seconds, and the processor's whole attention
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
  depends_on = [aws_iam_role_policy.replicate]
}

# For whoever invokes it asynchronously: SNS, EventBridge, `aws lambda invoke`.
resource "aws_lambda_function_event_invoke_config" "replicator" {
  function_name                = aws_lambda_function.replicator.function_name
  qualifier                    = aws_lambda_alias.replicator.name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600
  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }
  depends_on = [aws_iam_role_policy.replicate]
}

resource "aws_lambda_function_event_invoke_config" "parts" {
  function_name                = aws_lambda_function.parts.function_name
  qualifier                    = aws_lambda_alias.parts.name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600
  destination_config {
    on_failure {
      destination = aws_sqs_queue.parts_dead_letters.arn
    }
  }
  depends_on = [aws_iam_role_policy.replicate]
}

resource "aws_lambda_function_event_invoke_config" "check" {
  for_each               = aws_lambda_function.check
  function_name          = each.value.function_name
  maximum_retry_attempts = 0 # the next hour's check is the second try
  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }
  depends_on = [aws_iam_role_policy.replicate]
}

resource "aws_lambda_function_event_invoke_config" "canary" {
  for_each               = aws_lambda_function.canary
  function_name          = each.value.function_name
  maximum_retry_attempts = 0 # the next run is the second try
}

resource "aws_cloudwatch_event_rule" "check" {
  for_each            = aws_lambda_function.check
  name                = "${each.value.function_name}-hourly"
  schedule_expression = "rate(1 hour)"
}

resource "aws_cloudwatch_event_target" "check" {
  for_each = aws_lambda_function.check
  rule     = aws_cloudwatch_event_rule.check[each.key].name
  arn      = each.value.arn
}

resource "aws_lambda_permission" "check" {
  for_each      = aws_lambda_function.check
  function_name = each.value.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.check[each.key].arn
}

resource "aws_cloudwatch_event_rule" "canary" {
  for_each            = aws_lambda_function.canary
  name                = "${each.value.function_name}-run"
  schedule_expression = "rate(${var.canary_minutes} minutes)"
}

resource "aws_cloudwatch_event_target" "canary" {
  for_each = aws_lambda_function.canary
  rule     = aws_cloudwatch_event_rule.canary[each.key].name
  arn      = each.value.arn
}

resource "aws_lambda_permission" "canary" {
  for_each      = aws_lambda_function.canary
  function_name = each.value.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.canary[each.key].arn
}

resource "aws_lambda_function_url" "replicator" {
  count              = var.rest_endpoint ? 1 : 0 # a service control policy that forbids URLs would fail the apply
  function_name      = aws_lambda_function.replicator.function_name
  qualifier          = aws_lambda_alias.replicator.name
  authorization_type = "AWS_IAM"
  invoke_mode        = "BUFFERED"
}

resource "aws_cloudwatch_log_group" "replicator" {
  #checkov:skip=CKV_AWS_158: Encrypted by CloudWatch's own key; a customer's key is a variable
  #checkov:skip=CKV_AWS_338: Retention is a variable; object stores hold the state, logs only tell of it
  name              = "/aws/lambda/${var.name}-replicator"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
