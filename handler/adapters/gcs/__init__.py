"""The destination: Google Cloud Storage."""
