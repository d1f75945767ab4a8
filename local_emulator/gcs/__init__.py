"""Google Cloud Storage over a folder: an HTTP server that real GCS clients can trust."""

from local_emulator.gcs.server import GcsServer

__all__ = ["GcsServer"]
