"""Deploys the stack with its Google side, and removes both: `make deploy`, `make undeploy` (docs/deploy.md)."""
