"""The GCS server over a folder, met as its clients meet it: over HTTP."""
