"""template.yaml as SAM's own translator expands it, in aws-sam-cli's environment: once a run, for all workers."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.functional.rie import ROOT

SAM_PYTHON = ROOT / ".venv-sam/bin/python"
needs_sam = pytest.mark.skipif(not SAM_PYTHON.exists(), reason="there is no .venv-sam: make check-template")


class Translator:
    """Asks expand_template.py, and keeps its answers in a folder that the workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, what: str, parameters: Sequence[Mapping[str, str]]) -> list[Any]:
        """Return for each set of parameters what expand_template.py makes of it."""
        given = json.dumps(parameters)
        answer = self._folder / f"sam-{hashlib.sha256(f'{what} {given}'.encode()).hexdigest()[:16]}.json"
        with answer.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not answer.exists():
                answer.write_text(_asked(what, given))
        documents: list[Any] = json.loads(answer.read_text())
        return documents


def _asked(what: str, given: str) -> str:
    command = [str(SAM_PYTHON), "-m", "tests.functional.expand_template", "template.yaml", given, what]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout
