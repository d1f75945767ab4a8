# AWS's side of the replicator: template.yaml in Terraform, for one source bucket or several (docs/terraform/README.md).

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  functions = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}"
  queues    = "arn:${local.partition}:sqs:${local.region}:${local.account}:${var.name}"
  has_key   = var.kms_key_arn != null
  has_vpc   = length(var.vpc_subnet_ids) > 0

  # What is made of each source bucket. S3 wants a filter URL-encoded, except for these characters.
  sources = {
    for bucket, source in var.sources : bucket => {
      label          = source.label
      name           = source.label == "" ? var.name : "${var.name}-${source.label}"
      rule           = source.label == "" ? "replicate" : "replicate-${source.label}"
      arn            = "arn:${local.partition}:s3:::${bucket}"
      owner          = coalesce(source.owner, local.account)
      is_own         = coalesce(source.owner, local.account) == local.account
      prefix         = source.prefix
      suffix         = source.suffix
      kms_key_arn    = source.kms_key_arn
      by_eventbridge = source.event_delivery == "EventBridge"
      delivery       = source.event_delivery
      filter_prefix  = replace(replace(replace(replace(urlencode(source.prefix), "%2F", "/"), "%21", "!"), "%28", "("), "%29", ")")
      filter_suffix  = replace(replace(replace(replace(urlencode(source.suffix), "%2F", "/"), "%21", "!"), "%28", "("), "%29", ")")
    }
  }
  source_keys = distinct([for source in local.sources : source.kms_key_arn if source.kms_key_arn != null])

  given_rules = var.rules == null ? [] : jsondecode(var.rules)
  made_rules = [
    for bucket, source in local.sources : {
      ID                      = source.rule
      Source                  = { Bucket = bucket }
      Filter                  = { Prefix = source.prefix }
      DeleteMarkerReplication = { Status = var.replicate_deletes }
      Destination = {
        Bucket = "gs://${coalesce(var.destination_bucket, "MISSING")}/${var.destination_prefix}"
        Tags   = { Status = var.replicate_tags }
      }
    }
  ]
  # A bucket of another account must be that account's in every read: a name alone can change hands.
  rules = [
    for rule in concat(local.given_rules, [for made in local.made_rules : made if var.rules == null]) :
    merge(rule, {
      Source = merge(rule.Source, { for key, owner in { Account = try(local.sources[rule.Source.Bucket].owner, local.account) } : key => owner if owner != local.account })
    })
  ]

  # No secret: Google takes the function's own AWS role for proof of who it is.
  credentials = merge(
    {
      type               = "external_account"
      audience           = "//iam.googleapis.com/${var.gcp_workload_identity_provider}"
      subject_token_type = "urn:ietf:params:aws:token-type:aws4_request"
      token_url          = "https://sts.googleapis.com/v1/token"
    },
    { for account in [var.gcp_service_account] : "service_account_impersonation_url" => "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${account}:generateAccessToken" if account != null }
  )

  # Of every function; Lambda takes 4,096 bytes in all.
  variables = {
    REPLICATION_RULES      = jsonencode(local.rules)
    GCP_CREDENTIALS        = jsonencode(local.credentials)
    SOURCE_BUCKET_OWNER    = local.account
    DEAD_LETTER_QUEUE_URL  = aws_sqs_queue.dead_letters.url
    PARTS_QUEUE_URL        = aws_sqs_queue.parts.url
    DELETES_QUEUE_URL      = aws_sqs_queue.deletes.url
    HELD_DELETES_QUEUE_URL = aws_sqs_queue.held_deletes.url
    DELETES_LIMIT          = tostring(var.deletes_limit)
    BANDWIDTH_LIMIT        = var.bandwidth_limit == null ? "" : tostring(var.bandwidth_limit)
    DRY_RUN                = tostring(var.dry_run)
    POWERTOOLS_LOG_LEVEL   = var.log_level
  }

  # Of each bucket: what the module made, for the check to compare with what is there.
  wiring = {
    for bucket, source in local.sources : bucket => {
      ConfigurationId = source.name
      Bucket          = bucket
      Prefix          = source.prefix
      Suffix          = source.suffix
      Delivery        = source.delivery
      Rule            = source.by_eventbridge ? aws_cloudwatch_event_rule.source[bucket].name : ""
      Events          = local.events
      QueueArn        = aws_sqs_queue.events.arn
      Replication     = var.replication
      CanaryMinutes   = var.canary_minutes
      Mappings = {
        events  = aws_lambda_event_source_mapping.events.uuid
        parts   = aws_lambda_event_source_mapping.parts.uuid
        deletes = aws_lambda_event_source_mapping.deletes.uuid
      }
    }
  }
}
