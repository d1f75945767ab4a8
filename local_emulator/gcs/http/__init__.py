"""GCS's two APIs over HTTP: requests find their call, their planned fault and their answer."""
