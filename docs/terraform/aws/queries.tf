# Saved queries of CloudWatch Logs Insights.

locals {
  queries = {
    "failures by code and key" = <<-EOT
      filter outcome = "failed" or message = "parked"
      | stats count(*) as times, latest(@timestamp) as last by code, bucket, key, objects.0
      | sort times desc | limit 200
    EOT
    "one key"                  = <<-EOT
      fields @timestamp, message, outcome, code, why, detail, actions.0, events.0, seconds_since_event, bytes, rule, destination
      | filter key = "PUT/THE/KEY/HERE" or objects.0 like "PUT/THE/KEY/HERE"
      | sort @timestamp asc | limit 1000
    EOT
    "slowest copies"           = <<-EOT
      fields @timestamp, seconds_since_event, bytes, bucket, key, events.0, rule
      | filter outcome = "put"
      | sort seconds_since_event desc | limit 100
    EOT
    "cost by bytes"            = <<-EOT
      filter bytes > 0
      | parse key /^(?<folder>[^\/]*\/)/
      | stats sum(bytes) / 1000000000 as gigabytes, count(*) as copies by rule, folder
      | sort gigabytes desc | limit 100
    EOT
  }
}

resource "aws_cloudwatch_query_definition" "query" {
  for_each        = local.queries
  name            = "${var.name}/${each.key}"
  log_group_names = [aws_cloudwatch_log_group.replicator.name]
  query_string    = trimspace(each.value)
}
