# Google's side of docs/deploy.md: trust in one AWS role, without a key, and what that role may do with one bucket.
#
#   terraform init && terraform apply -var project=... -var bucket=... -var aws_account_id=... -var aws_role=...

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

variable "project" {
  description = "The Google Cloud project of the bucket."
  type        = string
}

variable "bucket" {
  description = "The destination bucket."
  type        = string
}

variable "location" {
  description = "Where to make the bucket, for instance us-east4. Empty for a bucket that exists."
  type        = string
  default     = ""
}

variable "aws_account_id" {
  description = "The AWS account of the stack."
  type        = string
}

variable "aws_role" {
  description = "The name of the stack's role: STACK-REGION, for instance replicator-us-east-1."
  type        = string
}

variable "pool" {
  description = "The id of the workload identity pool."
  type        = string
  default     = "aws-replicator"
}

provider "google" {
  project = var.project
}

locals {
  assumed_role = "arn:aws:sts::${var.aws_account_id}:assumed-role/${var.aws_role}"
}

resource "google_project_service" "needed" {
  for_each           = toset(["iam.googleapis.com", "sts.googleapis.com", "storage.googleapis.com"])
  service            = each.value
  disable_on_destroy = false
}

resource "google_iam_workload_identity_pool" "aws" {
  workload_identity_pool_id = var.pool
  display_name              = "S3 replicator"
  depends_on                = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "aws" {
  #checkov:skip=CKV_GCP_125: It is about GitHub's tokens; this trusts AWS, and the condition below one role of it
  workload_identity_pool_id          = google_iam_workload_identity_pool.aws.workload_identity_pool_id
  workload_identity_pool_provider_id = "aws-account"
  # This role only: nothing else of the account gets as much as a token.
  attribute_condition = "assertion.arn.startsWith('${local.assumed_role}/')"
  attribute_mapping = {
    "google.subject"     = "assertion.arn"
    "attribute.aws_role" = "assertion.arn.extract('{account_arn}assumed-role/') + 'assumed-role/' + assertion.arn.extract('assumed-role/{role_name}/')"
  }
  aws {
    account_id = var.aws_account_id
  }
}

resource "google_storage_bucket" "destination" {
  #checkov:skip=CKV_GCP_62: Access logs need a second bucket, which is for the project to decide
  #checkov:skip=CKV_GCP_78: The source's versions are at S3; soft delete is on by default here
  count                       = var.location == "" ? 0 : 1
  name                        = var.bucket
  location                    = var.location
  uniform_bucket_level_access = true # identities from AWS need it
  public_access_prevention    = "enforced"

  # Parts of large objects, left by states that were overwritten while they were copied.
  lifecycle_rule {
    action { type = "Delete" }
    condition {
      age            = 7
      matches_prefix = [".s3-replica-parts/"]
    }
  }

  lifecycle { prevent_destroy = true } # it holds the user's data
}

# Create, read, change, list and delete objects of this bucket; nothing on the bucket itself.
resource "google_storage_bucket_iam_member" "replicator" {
  bucket = var.location == "" ? var.bucket : google_storage_bucket.destination[0].name
  role   = "roles/storage.objectUser"
  member = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.aws.name}/attribute.aws_role/${local.assumed_role}"
}

# Read the bucket's own settings, which `python -m handler.tools.check` looks at.
resource "google_storage_bucket_iam_member" "check" {
  bucket = google_storage_bucket_iam_member.replicator.bucket
  role   = "roles/storage.legacyBucketReader"
  member = google_storage_bucket_iam_member.replicator.member
}

output "gcp_workload_identity_provider" {
  description = "The stack's parameter GcpWorkloadIdentityProvider."
  value       = google_iam_workload_identity_pool_provider.aws.name
}
