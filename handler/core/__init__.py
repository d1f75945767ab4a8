"""The loop and what it needs: no vendor, no environment."""
