# What the functions may do. The role's name is fixed because Google's side names it too.

locals {
  write_canary   = ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:DeleteObjectVersion"]
  canaries       = { for bucket, source in local.sources : bucket => source if var.canary_minutes > 0 }
  versioned      = ["${local.functions}-replicator", "${local.functions}-replicator:*", "${local.functions}-parts", "${local.functions}-parts:*"]
  lambda_assumes = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }] })
  write_logs = {
    Sid      = "WriteLogs" # their own log group only
    Effect   = "Allow"
    Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    Resource = "${aws_cloudwatch_log_group.replicator.arn}:*"
  }
  # The functions' variables, where they are encrypted by the customer's key: no service in between.
  read_variables = !local.has_key ? null : {
    Sid       = "ReadVariables"
    Effect    = "Allow"
    Action    = "kms:Decrypt"
    Resource  = var.kms_key_arn
    Condition = { StringLike = { "kms:EncryptionContext:aws:lambda:FunctionArn" = "${local.functions}-*" } }
  }
  lambda_itself = { Null = { "lambda:SourceFunctionArn" = "true" } }

  replicate = [
    # Bytes, metadata and tags of the objects that are replicated, also of a certain version.
    {
      Sid      = "ReadObjects"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectVersionTagging", "s3:GetObjectRetention", "s3:GetObjectLegalHold"]
      Resource = [for source in local.sources : "${source.arn}/${source.prefix}*"]
    },
    # Without it a missing object is answered by 403 instead of 404, and a delete could not be told from a denial.
    { Sid = "TellMissingFromDenied", Effect = "Allow", Action = "s3:ListBucket", Resource = [for source in local.sources : source.arn] },
    # What Lambda's pollers do in the function's name; the function itself says when what failed comes again.
    {
      Sid      = "TakeMessages"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"]
      Resource = [aws_sqs_queue.events.arn, aws_sqs_queue.parts.arn, aws_sqs_queue.deletes.arn]
    },
    # Whether deletes are held, and how many; how many wait, the statement above allows to ask.
    { Sid = "LookForHeldDeletes", Effect = "Allow", Action = ["sqs:GetQueueAttributes", "sqs:ReceiveMessage"], Resource = aws_sqs_queue.held_deletes.arn },
    # The spans of huge objects; deletes, waiting or held; messages that can never succeed; direct invocations that failed.
    {
      Sid      = "SendMessages"
      Effect   = "Allow"
      Action   = "sqs:SendMessage"
      Resource = [aws_sqs_queue.parts.arn, aws_sqs_queue.deletes.arn, aws_sqs_queue.held_deletes.arn, aws_sqs_queue.dead_letters.arn, aws_sqs_queue.parts_dead_letters.arn]
    },
    # What the aliases run, which is what the check tries.
    { Sid = "ReadVersions", Effect = "Allow", Action = ["lambda:GetAlias", "lambda:GetFunctionConfiguration"], Resource = local.versioned },
    local.write_logs,
    # Messages in queues that are encrypted by the customer's key.
    !local.has_key ? null : {
      Sid       = "UseQueueKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = var.kms_key_arn
      Condition = { StringEquals = { "kms:ViaService" = "sqs.${local.region}.amazonaws.com" } }
    },
    local.read_variables,
    # Objects encrypted by SSE-KMS, through S3 only.
    length(local.source_keys) == 0 ? null : {
      Sid       = "DecryptObjects"
      Effect    = "Allow"
      Action    = "kms:Decrypt"
      Resource  = local.source_keys
      Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } }
    },
    # Lambda's interfaces in the subnets: AWS names these actions, and no narrower resource (EC2 takes Describe on all
    # only). Lambda asks for them, never the functions' code, which has a source ARN.
    !local.has_vpc ? null : {
      Sid       = "UseNetworkInterfaces"
      Effect    = "Allow"
      Action    = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
      Resource  = "arn:${local.partition}:ec2:${local.region}:${local.account}:*/*"
      Condition = local.lambda_itself
    },
    !local.has_vpc ? null : { Sid = "SeeNetworkInterfaces", Effect = "Allow", Action = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"], Resource = "*", Condition = local.lambda_itself },
  ]

  check = [
    # Whether another tool took our notification away.
    { Sid = "ReadNotifications", Effect = "Allow", Action = "s3:GetBucketNotification", Resource = [for source in local.sources : source.arn] },
    # Whether the functions still take messages.
    {
      Sid      = "ReadMappings"
      Effect   = "Allow"
      Action   = "lambda:GetEventSourceMapping"
      Resource = [for mapping in [aws_lambda_event_source_mapping.events, aws_lambda_event_source_mapping.parts, aws_lambda_event_source_mapping.deletes] : "arn:${local.partition}:lambda:${local.region}:${local.account}:event-source-mapping:${mapping.uuid}"]
    },
    # Whether EventBridge still sends, and what the canaries' alarms say.
    {
      Sid    = "ReadRuleAndAlarm"
      Effect = "Allow"
      Action = ["events:DescribeRule", "events:ListTargetsByRule", "cloudwatch:DescribeAlarms"]
      Resource = concat(
        ["arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}-EventRule-*"],
        [for source in local.sources : "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${source.name}-canary"],
      )
    },
  ]
}

resource "aws_iam_role" "replicator" {
  name               = "${var.name}-${local.region}"
  assume_role_policy = local.lambda_assumes
}

resource "aws_iam_role_policy" "replicate" {
  name   = "replicate"
  role   = aws_iam_role.replicator.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [for statement in local.replicate : statement if statement != null] })
}

# Apart, as it names what takes messages for functions that have the role.
resource "aws_iam_role_policy" "check" {
  name   = "check"
  role   = aws_iam_role.replicator.name
  policy = jsonencode({ Version = "2012-10-17", Statement = local.check })
  lifecycle {
    precondition {
      condition     = length(jsonencode(local.replicate)) + length(jsonencode(local.check)) <= 10000
      error_message = "The role's policies are longer than IAM allows, 10,240 characters in all. Make a second module (docs/terraform/README.md)."
    }
  }
}

# The only roles that write to a source.
resource "aws_iam_role" "canary" {
  for_each           = local.canaries
  name               = "${each.value.name}-canary-${local.region}"
  assume_role_policy = local.lambda_assumes
}

resource "aws_iam_role_policy" "canary" {
  for_each = local.canaries
  name     = "canary"
  role     = aws_iam_role.canary[each.key].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for statement in [
      # Its own object, which comes and goes.
      { Sid = "WriteCanary", Effect = "Allow", Action = local.write_canary, Resource = "${each.value.arn}/${each.value.prefix}.replicator-canary/*" },
      # The versions of that object, so that it leaves none behind.
      { Sid = "ListCanary", Effect = "Allow", Action = "s3:ListBucketVersions", Resource = each.value.arn, Condition = { StringLike = { "s3:prefix" = "${each.value.prefix}.replicator-canary/*" } } },
      # What the copy lacks, by the replicator's role.
      { Sid = "AskCheck", Effect = "Allow", Action = "lambda:InvokeFunction", Resource = aws_lambda_function.check[each.key].arn },
      local.write_logs,
      local.read_variables,
      # Its object, where the bucket encrypts by SSE-KMS.
      each.value.kms_key_arn == null ? null : { Sid = "EncryptCanary", Effect = "Allow", Action = "kms:GenerateDataKey", Resource = each.value.kms_key_arn, Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } } },
    ] : statement if statement != null]
  })
}

resource "aws_iam_role" "backfill" {
  count = var.backfill_bucket == null ? 0 : 1
  name  = "${var.name}-backfill-${local.region}"
  # Without a condition: AWS documents none for this service, and a job of another account cannot be given a role of this
  # one (iam:PassRole).
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Principal = { Service = "batchoperations.s3.amazonaws.com" }, Action = "sts:AssumeRole" }] })
}

resource "aws_iam_role_policy" "backfill" {
  count = var.backfill_bucket == null ? 0 : 1
  name  = "backfill"
  role  = aws_iam_role.backfill[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # The replicator, once for each object in the manifest.
      { Sid = "InvokeReplicator", Effect = "Allow", Action = "lambda:InvokeFunction", Resource = aws_lambda_alias.replicator.arn },
      # The list of objects; a list that S3 makes itself, and the report on what failed.
      { Sid = "ReadManifest", Effect = "Allow", Action = ["s3:GetObject", "s3:GetObjectVersion"], Resource = "arn:${local.partition}:s3:::${var.backfill_bucket}/*" },
      { Sid = "WriteManifestAndReport", Effect = "Allow", Action = "s3:PutObject", Resource = "arn:${local.partition}:s3:::${var.backfill_bucket}/*" },
      # What S3 asks for before it makes that list of a source bucket.
      { Sid = "GenerateManifest", Effect = "Allow", Action = "s3:PutInventoryConfiguration", Resource = [for source in local.sources : source.arn] },
    ]
  })
}
