"""Buckets and objects in a folder: durable, with one commit point."""
