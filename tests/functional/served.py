"""Starts served_stack.py in aws-sam-cli's environment, with moto's CloudFormation and the aws command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.functional.rie import ROOT
from tests.unit.cfn import REQUIRED

SAM_BIN = ROOT / ".venv-sam/bin"
CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(asked)
    sys.exit(server.recv(1)[0])
"""
"""Stands for `aws` on a PATH: hands its words, environment and open files to aws_server.py."""


def _run(module: str, *arguments: str) -> subprocess.Popen[str]:
    program: list[str | Path] = [SAM_BIN / "python", "-m", module, *arguments]
    return subprocess.Popen(
        program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@contextmanager
def _running(module: str, *arguments: str) -> Iterator[str]:
    """Run a program until the context ends, and yield its first line."""
    with _run(module, *arguments) as program:
        assert program.stdout is not None
        first = program.stdout.readline().strip()
        assert first, f"{module} did not start"
        try:
            yield first
        finally:
            program.terminate()


@contextmanager
def aws_command() -> Iterator[Path]:
    """Yield a program that is the real aws command line, started once for all its commands."""
    with tempfile.TemporaryDirectory(prefix="aws", dir="/tmp") as folder:
        client, socket = Path(folder, "aws"), Path(folder, "aws.sock")
        client.write_text(f"#!{sys.executable} -SE\n" + CLIENT.format(path=str(socket)))
        client.chmod(0o755)
        with _running("tests.functional.aws_server", str(socket)):
            yield client


@contextmanager
def served(source: str) -> Iterator[str]:
    """Serve moto with the stack `replicator` in it, and yield its URL."""
    parameters = json.dumps(REQUIRED | {"SourceBucketName": source})
    with _running("tests.functional.served_stack", "replicator", parameters) as url:
        yield url
