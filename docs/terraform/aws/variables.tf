# The variables are template.yaml's parameters, under the same names in Terraform's spelling, with the same defaults.
# Those that belong to one source bucket are fields of `sources` (sources.tf).

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
  validation {
    condition     = contains(["Enabled", "Disabled"], var.replicate_deletes)
    error_message = "replicate_deletes must be Enabled or Disabled."
  }
}

variable "replicate_tags" {
  description = "Enabled or Disabled: whether object tags become metadata of the copy."
  type        = string
  default     = "Disabled"
  validation {
    condition     = contains(["Enabled", "Disabled"], var.replicate_tags)
    error_message = "replicate_tags must be Enabled or Disabled."
  }
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
  validation {
    condition     = contains(["Running", "Paused"], var.replication)
    error_message = "replication must be Running or Paused."
  }
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
  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level must be DEBUG, INFO, WARNING or ERROR."
  }
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
  validation {
    condition     = contains([0, 10, 15, 30, 60], var.canary_minutes)
    error_message = "canary_minutes must be 0, 10, 15, 30 or 60."
  }
}

variable "architecture" {
  description = "The processor that the package was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
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
  validation {
    condition     = contains([60, 120, 300, 900], var.timeout_seconds)
    error_message = "timeout_seconds must be 60, 120, 300 or 900."
  }
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
