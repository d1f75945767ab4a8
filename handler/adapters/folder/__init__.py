"""The destination: a folder."""
