"""The operator's commands, and the functions of the stack that watch over the replicator."""
