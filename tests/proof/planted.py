"""Deliberate faults that the exploration cannot see, each written into a copy of the project and held to one test.

They are in what has no place in the small world: what a request says, what a command does, how much is left to do.
A fault is caught if its test fails, by the message that it is to fail by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COPIED = ("handler", "local_emulator", "tests", "events", "pyproject.toml", "template.yaml", "README.md", "docs")


@dataclass(frozen=True)
class Planted:
    """A fault in one file."""

    fault: str
    path: str
    """Of the file, below `handler/`."""
    old: str
    new: str
    test: str
    """The test that must fail, as pytest names it."""
    shows: str
    """What its failure says: the invariant that is broken."""

    def write(self, root: Path) -> None:
        """Write the fault into the project at `root`."""
        file = root / "handler" / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            count = text.count(self.old)
            raise ValueError(f"the fault {self.fault!r} no longer fits: {self.old!r} stands {count} times")
        file.write_text(text.replace(self.old, self.new))


PLANTED = (
    Planted(
        "does not say who must own the source bucket",
        "adapters/s3.py",
        '({"ExpectedBucketOwner": owner} if owner else {})',
        "{}",
        "tests/functional/test_bucket_owner.py::test_no_event_deletes_a_copy_once_the_bucket_is_somebody_elses",
        "AssertionError",
    ),
    Planted(
        "deletes all that verify found, however many",
        "held.py",
        "return deletes > FEW and 100 * deletes > PERCENT * copies",
        "return False",
        "tests/functional/test_verify.py::test_too_many_deletes_are_named_and_held_back",
        "AssertionError",
    ),
    Planted(
        "begins a long rewrite anew in each invocation",
        "adapters/gcs_rewrite.py",
        'token = self._stored_token() if self._is_long else ""',
        'token = ""',
        "tests/functional/test_gcs_rewrite.py::test_the_next_invocation_continues_where_the_time_ended",
        "AssertionError",
    ),
)


def caught(planted: Planted) -> str:
    """Return how the test fails on a copy of the project that has the fault, "" where it does not fail by what it says.

    Raises:
        ValueError: the fault no longer fits, or the test could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        root = Path(place)
        for name in _COPIED:
            _copy(ROOT / name, root / name)
        planted.write(root)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", planted.test]
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise ValueError(f"{planted.test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = done.returncode == 1 and "FAILED" in done.stdout and planted.shows in done.stdout
    return planted.test.rpartition("::")[2] if failed else ""


def _copy(what: Path, to: Path) -> None:
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__", "performance.*"))
    else:
        shutil.copy(what, to)
