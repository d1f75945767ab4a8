# Names are explicit so that a dead-letter queue can name the queues it serves, which name it in turn.

locals {
  fourteen_days = 1209600 # the longest there is
  visibility    = 6 * var.timeout_seconds
  tls_only = {
    Sid       = "TlsOnly" # a denial, hence for everybody and everything
    Effect    = "Deny"
    Principal = "*"
    Action    = "sqs:*"
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
  own_rules = { ArnLike = { "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}-EventRule-*" } }
}

resource "aws_sqs_queue" "events" {
  name                       = "${var.name}-events"
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.fourteen_days
  receive_wait_time_seconds  = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 1000 # the most there is; the function's delays (handler/backoff.py) never use it up
  })
  kms_master_key_id       = var.kms_key_arn
  sqs_managed_sse_enabled = local.has_key ? null : true
}

# Deletes wait here, so that its length shows how many there are (handler/brake.py).
resource "aws_sqs_queue" "deletes" {
  name                       = "${var.name}-deletes"
  delay_seconds              = 300 # SQS's counts are right after one minute
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.fourteen_days
  receive_wait_time_seconds  = 20
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letters.arn, maxReceiveCount = 1000 })
  kms_master_key_id          = var.kms_key_arn
  sqs_managed_sse_enabled    = local.has_key ? null : true
}

# No function takes from it, only an operator (python -m handler.tools.deletes).
resource "aws_sqs_queue" "held_deletes" {
  name                      = "${var.name}-held-deletes"
  message_retention_seconds = local.fourteen_days
  kms_master_key_id         = var.kms_key_arn
  sqs_managed_sse_enabled   = local.has_key ? null : true
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  message_retention_seconds = local.fourteen_days
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.queues}-events", "${local.queues}-deletes"]
  })
  kms_master_key_id       = var.kms_key_arn
  sqs_managed_sse_enabled = local.has_key ? null : true
}

resource "aws_sqs_queue" "parts" {
  name                       = "${var.name}-parts"
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.fourteen_days
  receive_wait_time_seconds  = 20
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.parts_dead_letters.arn, maxReceiveCount = 1000 })
  kms_master_key_id          = var.kms_key_arn
  sqs_managed_sse_enabled    = local.has_key ? null : true
}

# Of its own, so that a redrive knows where messages belong that were parked by the function.
resource "aws_sqs_queue" "parts_dead_letters" {
  name                      = "${var.name}-parts-dead-letters"
  message_retention_seconds = local.fourteen_days
  redrive_allow_policy      = jsonencode({ redrivePermission = "byQueue", sourceQueueArns = ["${local.queues}-parts"] })
  kms_master_key_id         = var.kms_key_arn
  sqs_managed_sse_enabled   = local.has_key ? null : true
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.url
  policy = jsonencode({
    Version = "2012-10-17"
    # Both ways of delivery, for these buckets and rules only: while one takes the other's place both deliver.
    Statement = concat(
      [{
        Sid       = "EventBridgeSends"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.events.arn
        Condition = local.own_rules
      }],
      # One statement for each owner, as a bucket's name alone can change hands. SQS takes 10 conditions in a policy.
      [for owner in distinct([for source in local.sources : source.owner]) : {
        Sid       = owner == local.account ? "SourceBucketSends" : "SourceBucketSends${owner}"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.events.arn
        Condition = {
          ArnEquals    = { "aws:SourceArn" = [for source in local.sources : source.arn if source.owner == owner] }
          StringEquals = { "aws:SourceAccount" = owner }
        }
      }],
      [merge(local.tls_only, { Resource = aws_sqs_queue.events.arn })],
    )
  })
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "EventBridgeSends" # events that EventBridge could not deliver in a day
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.dead_letters.arn
        Condition = local.own_rules
      },
      merge(local.tls_only, { Resource = aws_sqs_queue.dead_letters.arn }),
    ]
  })
}

# Of the queues that the function alone sends to.
resource "aws_sqs_queue_policy" "inner" {
  for_each = {
    parts              = aws_sqs_queue.parts
    parts_dead_letters = aws_sqs_queue.parts_dead_letters
    deletes            = aws_sqs_queue.deletes
    held_deletes       = aws_sqs_queue.held_deletes
  }
  queue_url = each.value.url
  policy    = jsonencode({ Version = "2012-10-17", Statement = [merge(local.tls_only, { Resource = "*" })] }) # it speaks of that queue only
}
