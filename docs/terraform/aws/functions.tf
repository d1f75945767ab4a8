# The functions, and what invokes them.

locals {
  runtime  = "python3.13"
  versions = "${aws_lambda_function.replicator.qualified_arn} ${aws_lambda_function.parts.qualified_arn}"
  # What watches a bucket has the rules of that bucket alone, as all variables of a function share 4 KB.
  canary_variables = {
    for bucket, wiring in local.wiring : bucket => merge(local.variables, {
      REPLICATION_RULES = jsonencode([for rule in local.rules : rule if rule.Source.Bucket == bucket])
      WIRING            = jsonencode(wiring)
    })
  }
  check_variables = { for bucket, variables in local.canary_variables : bucket => merge(variables, { VERSIONS = local.versions }) }
}

resource "aws_lambda_function" "replicator" {
  #checkov:skip=CKV_AWS_50: No tracing: the log has one line for each object, and X-Ray would cost $5.00 per million traces
  #checkov:skip=CKV_AWS_115: Concurrency is limited at the queues; reserved_concurrency is a variable, as new accounts have only 10 to give
  #checkov:skip=CKV_AWS_116: Queues redrive to dead-letter queues, and direct invocations have an on-failure destination
  #checkov:skip=CKV_AWS_117: It speaks to S3, SQS and Google over TLS only; a VPC is a variable, as it costs endpoints and a private path
  #checkov:skip=CKV_AWS_173: Its variables hold no secret; a customer's key is a variable
  #checkov:skip=CKV_AWS_272: Code signing needs a signing profile, which is for the account to decide
  function_name                  = "${var.name}-replicator"
  description                    = "Replicates objects from S3 to GCS on events, by REST and for S3 Batch Operations"
  filename                       = var.package
  source_code_hash               = filebase64sha256(var.package)
  handler                        = "handler.app.lambda_handler"
  runtime                        = local.runtime
  architectures                  = [var.architecture]
  role                           = aws_iam_role.replicator.arn
  memory_size                    = var.memory_size
  timeout                        = var.timeout_seconds
  publish                        = true # the alias runs a version; what runs goes on to its end
  reserved_concurrent_executions = var.reserved_concurrency
  kms_key_arn                    = var.kms_key_arn
  environment {
    variables = local.variables
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.replicator.name
  }
  tracing_config {
    mode = "PassThrough"
  }
  dynamic "vpc_config" {
    for_each = local.has_vpc ? [1] : []
    content {
      subnet_ids         = var.vpc_subnet_ids
      security_group_ids = var.vpc_security_group_ids
    }
  }
  depends_on = [aws_iam_role_policy.replicate] # Lambda asks for its network interfaces at once
  lifecycle {
    precondition {
      condition     = var.rules != null || var.destination_bucket != null
      error_message = "Give destination_bucket, or rules."
    }
    precondition {
      condition     = alltrue([for rule in local.rules : contains(keys(var.sources), rule.Source.Bucket)])
      error_message = "A rule's Source.Bucket is not one of sources."
    }
    precondition {
      condition     = alltrue([for source in local.sources : source.is_own || !source.by_eventbridge])
      error_message = "EventBridge delivers the events of another account's bucket to that account: event_delivery must be Direct there."
    }
    precondition {
      # As Lambda measures them, with their quotes escaped. The other variables are not known before the queues are there.
      condition     = length(jsonencode(local.variables.REPLICATION_RULES)) <= 2800
      error_message = "The rules are longer than 2,800 characters: all variables of a function share 4 KB. Make a second module (docs/terraform/README.md)."
    }
    precondition {
      condition     = (length(var.vpc_subnet_ids) > 0) == (length(var.vpc_security_group_ids) > 0)
      error_message = "Give both of vpc_subnet_ids and vpc_security_group_ids, or neither."
    }
  }
}

# The same code, apart so that the spans of a huge object do not take the place of small ones.
resource "aws_lambda_function" "parts" {
  #checkov:skip=CKV_AWS_50: No tracing: the log has one line for each object, and X-Ray would cost $5.00 per million traces
  #checkov:skip=CKV_AWS_115: Concurrency is limited at the queues; reserved_concurrency is a variable, as new accounts have only 10 to give
  #checkov:skip=CKV_AWS_116: Queues redrive to dead-letter queues, and direct invocations have an on-failure destination
  #checkov:skip=CKV_AWS_117: It speaks to S3, SQS and Google over TLS only; a VPC is a variable, as it costs endpoints and a private path
  #checkov:skip=CKV_AWS_173: Its variables hold no secret; a customer's key is a variable
  #checkov:skip=CKV_AWS_272: Code signing needs a signing profile, which is for the account to decide
  function_name    = "${var.name}-parts"
  description      = "Copies the spans of huge objects side by side"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  handler          = "handler.app.lambda_handler"
  runtime          = local.runtime
  architectures    = [var.architecture]
  role             = aws_iam_role.replicator.arn
  memory_size      = var.memory_size
  timeout          = var.timeout_seconds
  publish          = true # the alias runs a version; what runs goes on to its end
  kms_key_arn      = var.kms_key_arn
  environment {
    variables = merge(local.variables, { DEAD_LETTER_QUEUE_URL = aws_sqs_queue.parts_dead_letters.url })
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.replicator.name
  }
  tracing_config {
    mode = "PassThrough"
  }
  dynamic "vpc_config" {
    for_each = local.has_vpc ? [1] : []
    content {
      subnet_ids         = var.vpc_subnet_ids
      security_group_ids = var.vpc_security_group_ids
    }
  }
  depends_on = [aws_iam_role_policy.replicate] # Lambda asks for its network interfaces at once
}

# A span's message is sent again only after progress: its chain ends (handler/core/parts.py).
resource "aws_lambda_function_recursion_config" "parts" {
  function_name  = aws_lambda_function.parts.function_name
  recursive_loop = "Allow"
}

# For each bucket, with the replicator's own role, and the variables of the version that its alias runs.
resource "aws_lambda_function" "check" {
  #checkov:skip=CKV_AWS_50: No tracing: the log has one line for each object, and X-Ray would cost $5.00 per million traces
  #checkov:skip=CKV_AWS_115: Concurrency is limited at the queues; reserved_concurrency is a variable, as new accounts have only 10 to give
  #checkov:skip=CKV_AWS_116: Queues redrive to dead-letter queues, and direct invocations have an on-failure destination
  #checkov:skip=CKV_AWS_117: It speaks to S3, SQS and Google over TLS only; a VPC is a variable, as it costs endpoints and a private path
  #checkov:skip=CKV_AWS_173: Its variables hold no secret; a customer's key is a variable
  #checkov:skip=CKV_AWS_272: Code signing needs a signing profile, which is for the account to decide
  for_each         = local.sources
  function_name    = "${each.value.name}-check"
  description      = "Checks permissions, the way of events and safeguards, and says what is missing or wrong"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  handler          = "handler.tools.check.lambda_handler"
  runtime          = local.runtime
  architectures    = [var.architecture]
  role             = aws_iam_role.replicator.arn
  memory_size      = 512
  timeout          = 60
  kms_key_arn      = var.kms_key_arn
  environment {
    variables = local.check_variables[each.key]
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.replicator.name
  }
  tracing_config {
    mode = "PassThrough"
  }
  dynamic "vpc_config" {
    for_each = local.has_vpc ? [1] : []
    content {
      subnet_ids         = var.vpc_subnet_ids
      security_group_ids = var.vpc_security_group_ids
    }
  }
  depends_on = [aws_iam_role_policy.replicate] # Lambda asks for its network interfaces at once
  lifecycle {
    precondition {
      condition     = alltrue([for variables in local.check_variables : length(jsonencode(variables)) <= 4096])
      error_message = "The check's variables are longer than Lambda's 4,096 characters. Make a second module (docs/terraform/README.md)."
    }
  }
}

resource "aws_lambda_function" "canary" {
  #checkov:skip=CKV_AWS_50: No tracing: the log has one line for each object, and X-Ray would cost $5.00 per million traces
  #checkov:skip=CKV_AWS_115: Concurrency is limited at the queues; reserved_concurrency is a variable, as new accounts have only 10 to give
  #checkov:skip=CKV_AWS_116: Queues redrive to dead-letter queues, and direct invocations have an on-failure destination
  #checkov:skip=CKV_AWS_117: It speaks to S3, SQS and Google over TLS only; a VPC is a variable, as it costs endpoints and a private path
  #checkov:skip=CKV_AWS_173: Its variables hold no secret; a customer's key is a variable
  #checkov:skip=CKV_AWS_272: Code signing needs a signing profile, which is for the account to decide
  for_each         = local.canaries
  function_name    = "${each.value.name}-canary"
  description      = "Puts, overwrites, tags and deletes an object of its own, and measures when its copy shows it"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  handler          = "handler.tools.canary.lambda_handler"
  runtime          = local.runtime
  architectures    = [var.architecture]
  role             = aws_iam_role.canary[each.key].arn
  memory_size      = 256
  timeout          = 300 # it waits for copies
  kms_key_arn      = var.kms_key_arn
  environment {
    variables = local.canary_variables[each.key]
  }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.replicator.name
  }
  tracing_config {
    mode = "PassThrough"
  }
}
