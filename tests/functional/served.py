"""Starts served_stack.py in aws-sam-cli's environment, with moto's CloudFormation and the aws command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.functional.rie import ROOT
from tests.unit.cfn import REQUIRED

SAM_BIN = ROOT / ".venv-sam/bin"


@contextmanager
def served(source: str) -> Iterator[str]:
    """Serve moto with the stack `replicator` in it, and yield its URL."""
    parameters = json.dumps(REQUIRED | {"SourceBucketName": source})
    program: list[str | Path] = [SAM_BIN / "python", "-m", "tests.functional.served_stack", "replicator", parameters]
    with subprocess.Popen(
        program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, "the stack was not made"
        yield url
        assert server.stdin is not None
        server.stdin.close()
