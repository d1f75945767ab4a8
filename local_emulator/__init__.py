"""Both clouds on one machine: what the replicator meets when it is deployed, on loopback and in one process."""
