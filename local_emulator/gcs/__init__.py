"""Google Cloud Storage over a folder: an HTTP server that real GCS clients can trust."""

from local_emulator.gcs.http.running import GcsServer

__all__ = ["GcsServer"]
