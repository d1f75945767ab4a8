# How events come from the source buckets. The buckets themselves are the caller's.

variable "sources" {
  description = <<-EOT
    The source buckets, in this region, by name:
    owner: the account that owns the bucket; null for this account.
    prefix, suffix: replicate only keys that begin so; have S3 tell only of keys that end so. As keys have them, not encoded.
    kms_key_arn: the KMS key of the bucket's objects, where they are encrypted by SSE-KMS.
    event_delivery: Direct, or EventBridge where another notification of the same events and keys is in the way.
    label: what names of this bucket's resources have after `name`. One bucket may have none; each further one needs its own.
  EOT
  type = map(object({
    owner          = optional(string)
    prefix         = optional(string, "")
    suffix         = optional(string, "")
    kms_key_arn    = optional(string)
    event_delivery = optional(string, "Direct")
    label          = optional(string, "")
  }))
  validation {
    condition     = length(var.sources) > 0
    error_message = "sources must name at least one bucket."
  }
  validation {
    condition     = length(distinct([for source in var.sources : source.label])) == length(var.sources)
    error_message = "Each of several sources needs a label of its own, as names of functions and alarms are made of it."
  }
  validation {
    condition     = alltrue([for source in var.sources : can(regex("^[a-z0-9]{0,4}$", source.label))])
    error_message = "A label must have at most 4 lower-case letters and digits, as Google takes 127 bytes of the function's ARN."
  }
  validation {
    condition     = alltrue([for source in var.sources : source.owner == null || can(regex("^[0-9]{12}$", source.owner))])
    error_message = "An owner must be an account's 12 digits, or null."
  }
  validation {
    condition     = alltrue([for source in var.sources : contains(["Direct", "EventBridge"], source.event_delivery)])
    error_message = "An event_delivery must be Direct or EventBridge."
  }
}

variable "manage_notifications" {
  description = <<-EOT
    Whether the module owns ALL notifications of the source buckets of this account: aws_s3_bucket_notification replaces
    what a bucket has, which the plan does not show. false: the output `notifications` says what to add to each bucket.
  EOT
  type        = bool
}

locals {
  events = [
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectTagging:*",
    "s3:ObjectRestore:Completed",
    "s3:LifecycleExpiration:*", # ObjectRemoved does not include it
    "s3:LifecycleTransition",   # another storage class, which a rule's map may give the copy too
  ]
  filters = {
    for bucket, source in local.sources : bucket => [
      for name, value in { prefix = source.filter_prefix, suffix = source.filter_suffix } : { Name = name, Value = value } if value != ""
    ]
  }
  # What each bucket's owner sets, in the shape of `aws s3api put-bucket-notification-configuration`.
  notifications = {
    for bucket, source in local.sources : bucket => source.by_eventbridge ? jsonencode({ EventBridgeConfiguration = {} }) : jsonencode({
      QueueConfigurations = [merge(
        { Id = source.name, QueueArn = aws_sqs_queue.events.arn, Events = local.events },
        { for rules in [local.filters[bucket]] : "Filter" => { Key = { FilterRules = rules } } if length(rules) > 0 },
      )]
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
    detail-type = ["Object Created", "Object Deleted", "Object Tags Added", "Object Tags Deleted", "Object Restore Completed", "Object Retention Updated", "Object Storage Class Changed"]
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
