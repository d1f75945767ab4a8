# How events come from the source buckets. The buckets themselves are the caller's.

locals {
  events = [
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectTagging:*",
    "s3:ObjectRestore:Completed",
    "s3:LifecycleExpiration:*", # ObjectRemoved does not include it
    "s3:LifecycleTransition",   # another storage class, which a rule's map may give the copy too
  ]
  # What each bucket's owner sets, in the shape of `aws s3api put-bucket-notification-configuration`.
  notifications = {
    for bucket, source in local.sources : bucket => source.by_eventbridge ? jsonencode({ EventBridgeConfiguration = {} }) : jsonencode({
      QueueConfigurations = [{
        Id       = source.name
        QueueArn = aws_sqs_queue.events.arn
        Events   = local.events
        Filter = { Key = { FilterRules = [
          for name, value in { prefix = source.filter_prefix, suffix = source.filter_suffix } : { Name = name, Value = value } if value != ""
        ] } }
      }]
    })
  }
}

# It replaces ALL notifications of the bucket: see `manage_notifications`.
resource "aws_s3_bucket_notification" "source" {
  for_each    = { for bucket, source in local.sources : bucket => source if var.manage_notifications && source.is_own }
  bucket      = each.key
  eventbridge = each.value.by_eventbridge
  dynamic "queue" {
    for_each = each.value.by_eventbridge ? [] : [each.value]
    content {
      id            = queue.value.name
      queue_arn     = aws_sqs_queue.events.arn
      events        = local.events
      filter_prefix = queue.value.filter_prefix == "" ? null : queue.value.filter_prefix
      filter_suffix = queue.value.filter_suffix == "" ? null : queue.value.filter_suffix
    }
  }
  depends_on = [aws_sqs_queue_policy.events] # S3 sends the queue a test event, and refuses one it cannot send to
}

resource "aws_cloudwatch_event_rule" "source" {
  for_each    = { for bucket, source in local.sources : bucket => source if source.by_eventbridge }
  name        = "${var.name}-EventRule-${substr(sha1(each.key), 0, 12)}"
  description = "Events of ${each.key} to the replicator's queue"
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    account     = [each.value.owner]
    detail-type = ["Object Created", "Object Deleted", "Object Tags Added", "Object Tags Deleted", "Object Restore Completed", "Object Storage Class Changed"]
    detail = merge(
      { bucket = { name = [each.key] } },
      { for wildcard in ["${each.value.prefix}*${each.value.suffix}"] : "object" => { key = [{ wildcard = wildcard }] } if wildcard != "*" }
    )
  })
}

resource "aws_cloudwatch_event_target" "source" {
  for_each  = aws_cloudwatch_event_rule.source
  rule      = each.value.name
  target_id = "events-queue"
  arn       = aws_sqs_queue.events.arn
  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
}
