output "role_arn" {
  description = "The functions' role. Its name is docs/terraform/main.tf's aws_role."
  value       = aws_iam_role.replicator.arn
}

output "gcp_principal" {
  description = "Grant this the role on the GCS bucket (or roles/iam.workloadIdentityUser on the service account)."
  value       = "principalSet://iam.googleapis.com/${split("/providers/", var.gcp_workload_identity_provider)[0]}/attribute.aws_role/arn:${local.partition}:sts::${local.account}:assumed-role/${aws_iam_role.replicator.name}"
}

output "function_alias" {
  description = "Invoke this; S3 Batch Operations take it too."
  value       = aws_lambda_alias.replicator.arn
}

output "rest_endpoint" {
  description = "POST here, signed by IAM (docs/deploy.md). null without one."
  value       = one([for url in aws_lambda_function_url.replicator : "${url.function_url}v1/replicate/"])
}

output "backfill_role_arn" {
  description = "For S3 Batch Operations. null without backfill_bucket."
  value       = one(aws_iam_role.backfill[*].arn)
}

output "check_function_names" {
  description = "Of each bucket: checks the deployment (python -m handler.tools.check --function NAME)."
  value       = { for bucket, function in aws_lambda_function.check : bucket => function.function_name }
}

output "queue_urls" {
  description = "Where events and deletes wait, where deletes are held, and where messages are that were given up."
  value = {
    events             = aws_sqs_queue.events.url
    deletes            = aws_sqs_queue.deletes.url
    held_deletes       = aws_sqs_queue.held_deletes.url
    dead_letters       = aws_sqs_queue.dead_letters.url
    parts_dead_letters = aws_sqs_queue.parts_dead_letters.url
  }
}

output "notifications" {
  description = "Of each bucket whose notification the module does not make: what its owner adds to those it has."
  value       = { for bucket, source in local.sources : bucket => local.notifications[bucket] if !(var.manage_notifications && source.is_own) }
}

output "bucket_policies" {
  description = "Of each bucket of another account: statements that its owner adds to the bucket's policy."
  value = {
    for bucket, source in local.sources : bucket => jsonencode([
      for statement in [
        { Sid = "ReadObjects", Principal = aws_iam_role.replicator.arn, Action = local.replicate[0].Action, Resource = "${source.arn}/${source.prefix}*" },
        { Sid = "ReadBucket", Principal = aws_iam_role.replicator.arn, Action = ["s3:ListBucket", "s3:GetBucketNotification"], Resource = source.arn },
        var.canary_minutes == 0 ? null : { Sid = "WriteCanary", Principal = aws_iam_role.canary[bucket].arn, Action = local.write_canary, Resource = "${source.arn}/${source.prefix}.replicator-canary/*" },
        var.canary_minutes == 0 ? null : { Sid = "ListCanary", Principal = aws_iam_role.canary[bucket].arn, Action = ["s3:ListBucketVersions"], Resource = source.arn },
        var.backfill_bucket == null ? null : { Sid = "GenerateManifest", Principal = aws_iam_role.backfill[0].arn, Action = ["s3:PutInventoryConfiguration"], Resource = source.arn },
      ] : merge(statement, { Effect = "Allow", Principal = { AWS = statement.Principal } }) if statement != null
    ]) if !source.is_own
  }
}
