"""The source: Amazon S3."""
