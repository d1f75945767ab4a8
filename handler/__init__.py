"""The replicator: all that is deployed to Lambda."""
