# The alarms, with the reasons in template.yaml and docs/operations.md. Those of a bucket are made for each.

locals {
  ours = "CrossCloudReplicator"
  sqs = {
    events       = aws_sqs_queue.events.name
    parts        = aws_sqs_queue.parts.name
    deletes      = aws_sqs_queue.deletes.name
    held         = aws_sqs_queue.held_deletes.name
    letters      = aws_sqs_queue.dead_letters.name
    part_letters = aws_sqs_queue.parts_dead_letters.name
  }
  new_letters = "MAX([MIN([DIFF(FILL(events, 0)), DIFF(FILL(events, 0) + FILL(events_taken, 0))]), MIN([DIFF(FILL(parts, 0)), DIFF(FILL(parts, 0) + FILL(parts_taken, 0))])])"
  functions_metrics = {
    replicator = { FunctionName = aws_lambda_function.replicator.function_name }
    parts      = { FunctionName = aws_lambda_function.parts.function_name }
  }
  outnumbered = "IF(FILL(failing, 0) > FILL(copied, 0) + FILL(deleted, 0), FILL(oldest, 0), 0)"

  # An expression over metrics, or one metric.
  shared_alarms = {
    dead-letters = {
      text       = "Events were given up. docs/operations.md, \"Dead letters\""
      expression = { id = "letters", label = "New dead letters", text = local.new_letters }
      metrics = {
        events       = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.sqs.letters }, period = 60, stat = "Average" }
        events_taken = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", dimensions = { QueueName = local.sqs.letters }, period = 60, stat = "Average" }
        parts        = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.sqs.part_letters }, period = 60, stat = "Average" }
        parts_taken  = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", dimensions = { QueueName = local.sqs.part_letters }, period = 60, stat = "Average" }
      }
      threshold  = 0
      periods    = 20
      datapoints = 1
    }
    held-deletes = {
      text      = "Deletes are held, as too many came at once. docs/operations.md, \"Held deletes\""
      metric    = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.sqs.held }, period = 60, stat = "Maximum" }
      threshold = 0
      periods   = 1
    }
    errors = {
      text       = "The functions themselves fail. docs/operations.md, \"Errors\""
      expression = { id = "errors", label = "Errors", text = "FILL(replicator, 0) + FILL(parts, 0)" }
      metrics    = { for id, dimensions in local.functions_metrics : id => { namespace = "AWS/Lambda", name = "Errors", dimensions = dimensions, period = 300, stat = "Sum" } }
      threshold  = 0
      periods    = 6
      datapoints = 2
    }
    throttles = {
      text       = "The account has no concurrency left for the functions. docs/operations.md, \"Throttles\""
      expression = { id = "throttles", label = "Throttles", text = "FILL(replicator, 0) + FILL(parts, 0)" }
      metrics    = { for id, dimensions in local.functions_metrics : id => { namespace = "AWS/Lambda", name = "Throttles", dimensions = dimensions, period = 300, stat = "Sum" } }
      threshold  = 0
      periods    = 3
      datapoints = 2
    }
  }

  bucket_alarms = { for bucket, source in local.sources : bucket => {
    oldest-change = {
      text       = "A change waits too long for its copy. docs/operations.md, \"Oldest change\""
      expression = { id = "oldest", label = "Age of the oldest change without a copy, s", text = "MAX([FILL(failing, 0), FILL(events, 0), FILL(parts, 0), FILL(deletes, 0) - 300])" }
      metrics = {
        failing = { namespace = local.ours, name = "OldestPendingSeconds", dimensions = { SourceBucket = bucket }, period = 60, stat = "Maximum" }
        events  = { namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = local.sqs.events }, period = 60, stat = "Maximum" }
        parts   = { namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = local.sqs.parts }, period = 60, stat = "Maximum" }
        deletes = { namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = local.sqs.deletes }, period = 60, stat = "Maximum" }
      }
      threshold  = var.latency_objective_seconds
      periods    = 30
      datapoints = 1
    }
    source = {
      text       = "S3 fails more keys than are copied. docs/operations.md, \"Source or destination\""
      expression = { id = "late", label = "Age of the oldest change that S3 fails, s", text = local.outnumbered }
      metrics = {
        oldest  = { namespace = local.ours, name = "OldestPendingSeconds", dimensions = { SourceBucket = bucket, Side = "source" }, period = 60, stat = "Maximum" }
        failing = { namespace = local.ours, name = "OperationsPendingReplication", dimensions = { SourceBucket = bucket, Side = "source" }, period = 60, stat = "Sum" }
        copied  = { namespace = local.ours, name = "OperationsReplicated", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" }
        deleted = { namespace = local.ours, name = "OperationsDeleted", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" }
      }
      threshold  = var.latency_objective_seconds
      periods    = 30
      datapoints = 1
    }
    destination = {
      text       = "GCS fails more keys than are copied. docs/operations.md, \"Source or destination\""
      expression = { id = "late", label = "Age of the oldest change that GCS fails, s", text = local.outnumbered }
      metrics = {
        oldest  = { namespace = local.ours, name = "OldestPendingSeconds", dimensions = { SourceBucket = bucket, Side = "destination" }, period = 60, stat = "Maximum" }
        failing = { namespace = local.ours, name = "OperationsPendingReplication", dimensions = { SourceBucket = bucket, Side = "destination" }, period = 60, stat = "Sum" }
        copied  = { namespace = local.ours, name = "OperationsReplicated", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" }
        deleted = { namespace = local.ours, name = "OperationsDeleted", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" }
      }
      threshold  = var.latency_objective_seconds
      periods    = 30
      datapoints = 1
    }
    failures = {
      text       = "Objects could not be replicated, for good. docs/operations.md, \"Failures\""
      metric     = { namespace = local.ours, name = "OperationsFailedReplication", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" }
      threshold  = 0
      periods    = 5
      datapoints = 1
    }
    deletes = {
      text       = "Copies are deleted so fast that the brake would hold them. docs/operations.md, \"Deletes\""
      expression = { id = "rate", label = "Deletes in five minutes at this rate", text = "deletes * 5" } # as deletes_limit counts them
      metrics    = { deletes = { namespace = local.ours, name = "OperationsDeleted", dimensions = { SourceBucket = bucket }, period = 60, stat = "Sum" } }
      threshold  = var.deletes_limit == 0 ? 1000 : var.deletes_limit # without a brake, its default
      periods    = 5
      datapoints = 1
    }
    egress = {
      text       = "More bytes left AWS in 24 hours than was expected. docs/operations.md, \"Egress\""
      expression = { id = "gigabytes", label = "GB in 24 hours", text = "bytes / 1000000000" }
      metrics    = { bytes = { namespace = local.ours, name = "BytesReplicated", dimensions = { SourceBucket = bucket }, period = 86400, stat = "Sum" } }
      threshold  = var.egress_alarm_gigabytes
      periods    = 1
    }
    check = {
      text      = "The hourly check found a fault. docs/operations.md, \"Check and canary\""
      metric    = { namespace = local.ours, name = "CheckFaults", dimensions = { SourceBucket = bucket }, period = 3600, stat = "Maximum" }
      threshold = 0 # a check that fails itself is a dead letter
      periods   = 1
    }
    canary = {
      text       = "The canary failed twice, or did not run. docs/operations.md, \"Check and canary\""
      expression = { id = "canary", label = "Steps of the canary that failed", text = "FILL(failed, 1)" } # a run that does not take place counts as one that fails
      metrics    = { failed = { namespace = local.ours, name = "CanaryFailures", dimensions = { SourceBucket = bucket }, period = 60 * var.canary_minutes, stat = "Maximum" } }
      threshold  = 0
      periods    = 2
      missing    = "breaching"
    }
  } }

  wanted_alarms = merge(
    { for name, alarm in local.shared_alarms : "${var.name}-${name}" => alarm },
    [for bucket, alarms in local.bucket_alarms : {
      for name, alarm in alarms : "${local.sources[bucket].name}-${name}" => alarm
      if(name != "egress" || var.egress_alarm_gigabytes > 0) && (name != "canary" || var.canary_minutes > 0)
    }]...
  )
  notify = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each          = local.wanted_alarms
  alarm_name        = each.key
  alarm_description = each.value.text
  namespace         = try(each.value.metric.namespace, null)
  metric_name       = try(each.value.metric.name, null)
  dimensions        = try(each.value.metric.dimensions, null)
  statistic         = try(each.value.metric.stat, null)
  period            = try(each.value.metric.period, null)
  dynamic "metric_query" {
    for_each = [for expression in [try(each.value.expression, null)] : expression if expression != null]
    content {
      id          = metric_query.value.id
      label       = metric_query.value.label
      expression  = metric_query.value.text
      return_data = true
    }
  }
  dynamic "metric_query" {
    for_each = try(each.value.metrics, {})
    content {
      id          = metric_query.key
      return_data = false
      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        period      = metric_query.value.period
        stat        = metric_query.value.stat
      }
    }
  }
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = try(each.value.datapoints, null)
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = local.notify
  ok_actions          = local.notify
}
