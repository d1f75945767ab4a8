# The variables are template.yaml's parameters, under the same names in Terraform's spelling, with the same defaults.
# Those that belong to one source bucket are fields of `sources`.

variable "name" {
  description = "What every name begins with, as the name of a stack does. Each module of one account and region needs its own."
  type        = string
  default     = "replicator"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,29}$", var.name))
    error_message = "name must have at most 30 lower-case letters, digits and hyphens: Google takes 127 bytes of the function's ARN, which has it twice."
  }
}

variable "package" {
  description = "The zip file of .aws-sam/build/ReplicatorFunction, which `make build` makes (docs/terraform/README.md)."
  type        = string
}

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
    what a bucket has. false: the output `notifications` says what to add to each bucket.
  EOT
  type        = bool
  default     = true
}

variable "destination_bucket" {
  description = "The GCS bucket to replicate to, where `rules` is null."
  type        = string
  default     = null
}

variable "destination_prefix" {
  description = "What comes before each name in the destination, without slashes at its ends."
  type        = string
  default     = ""
}

variable "replicate_deletes" {
  description = "Enabled or Disabled: whether an object deleted at the source is deleted at the destination too."
  type        = string
  default     = "Enabled"
}

variable "replicate_tags" {
  description = "Enabled or Disabled: whether object tags become metadata of the copy."
  type        = string
  default     = "Disabled"
}

variable "rules" {
  description = <<-EOT
    Instead of one rule for each source made of the variables above: a JSON list of rules (README.md). Each
    Source.Bucket must be one of `sources`, whose owner the module adds as Source.Account.
  EOT
  type        = string
  default     = null
}

variable "gcp_workload_identity_provider" {
  description = "The AWS provider of a workload identity pool: projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
  type        = string
}

variable "gcp_service_account" {
  description = "A service account to impersonate. null to have the bucket grant the pool's principal itself."
  type        = string
  default     = null
}

variable "replication" {
  description = "Running or Paused: events wait in their queues, for fourteen days at the most."
  type        = string
  default     = "Running"
}

variable "rest_endpoint" {
  description = "Whether there is a function URL, for callers of this account whose identity policies allow it."
  type        = bool
  default     = true
}

variable "backfill_bucket" {
  description = "The bucket for manifests and reports of S3 Batch Operations. null makes no role for that."
  type        = string
  default     = null
}

variable "deletes_limit" {
  description = "Deletes that may wait at once; if more come within five minutes, deletes are held until you release them. 0 carries deletes out at once."
  type        = number
  default     = 1000
}

variable "dry_run" {
  description = "Only log what would be done."
  type        = bool
  default     = false
}

variable "log_level" {
  description = "What the functions log: DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30
}

variable "alarm_topic_arn" {
  description = "The SNS topic that alarms go to. null makes alarms that only change colour."
  type        = string
  default     = null
}

variable "latency_objective_seconds" {
  description = "Alarm when a change has had no copy for longer."
  type        = number
  default     = 300
}

variable "egress_alarm_gigabytes" {
  description = "Alarm when more than so many GB (10^9 bytes) of one bucket were copied in 24 hours. 0 for no alarm."
  type        = number
  default     = 0
}

variable "canary_minutes" {
  description = "Minutes between runs of each bucket's canary: 0 for none, 10, 15, 30 or 60."
  type        = number
  default     = 0
}

variable "architecture" {
  description = "The processor that the package was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"
}

variable "memory_size" {
  description = "MB for each function instance."
  type        = number
  default     = 1024
}

variable "timeout_seconds" {
  description = "The functions' timeout. The queues' visibility timeout is six times as long."
  type        = number
  default     = 120
}

variable "maximum_concurrency" {
  description = "Function instances that the events queue may use, and as many again that the spans of huge objects may."
  type        = number
  default     = 20
}

variable "reserved_concurrency" {
  description = "Concurrency kept for the replicator alone, and its limit for all triggers together. -1 for none."
  type        = number
  default     = -1
}

variable "bandwidth_limit" {
  description = "Bytes a second that one function instance reads at most, from 1048576. null for none."
  type        = number
  default     = null
}

variable "vpc_subnet_ids" {
  description = "Subnets for the functions, with a private path to S3, SQS and Google (docs/deploy.md). Empty for no VPC."
  type        = list(string)
  default     = []
}

variable "vpc_security_group_ids" {
  description = "Security groups for the functions in those subnets."
  type        = list(string)
  default     = []
}

variable "kms_key_arn" {
  description = "A KMS key for queues, logs and the functions' variables. null for keys that AWS owns."
  type        = string
  default     = null
}
