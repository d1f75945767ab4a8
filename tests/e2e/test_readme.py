"""Every command in README.md is run: here, or by the test named beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local_emulator.settings import read_rules
from tests.e2e.support import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
ELSEWHERE = {
    "make demo": "python -m local_emulator demo: tests/e2e/test_demo.py, and .ci/run",
    "make test": "python -m pytest: this run, and .ci/run",
    "make check": "ruff, mypy and import-linter, by .ci/run",
    "make build": "tests/functional/test_deployment.py runs what it makes",
    "make check-template": "the same, for the template",
    "make sam-local": "the same by Runtime Interface Emulator, without Docker",
    "make prove": "python -m tests.proof: its short forms in tests/proof/",
}
SEED = [
    "mkdir source_s3 destination_gcs",
    'echo "Sample data" > source_s3/source-file.csv',
]
EMULATOR = ".venv/bin/python -m local_emulator"
CURL = (
    'curl -X POST http://127.0.0.1:8000/v1/replicate/ -H "Content-Type: application/json" '
    """-d '{"s3_bucket": "dummy", "s3_key": "source-file.csv"}'"""
)
THEN = ["echo new > source_s3/x.txt", "cat destination_gcs/x.txt", "rm source_s3/x.txt"]
INVOKE = ".venv/bin/python -m local_emulator invoke events/s3-put.json --destination destination_invoke"


def test_every_command_of_the_readme_is_known_here() -> None:
    assert set(COMMANDS) == {*ELSEWHERE, *SEED, EMULATOR, CURL, *THEN, INVOKE}


@pytest.mark.parametrize("command", ELSEWHERE)
def test_a_make_command_of_the_readme_has_its_target(command: str) -> None:
    target = command.removeprefix("make ")
    makefiles = (ROOT / "Makefile").read_text() + (ROOT / "build.mk").read_text()
    assert re.search(rf"^{target}: .*## ", makefiles, re.MULTILINE), ELSEWHERE[command]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's curl is not on this machine")
def test_the_readmes_commands_do_what_it_says(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])  # the README's 8000 may be taken on a desk
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def shell(command: str) -> str:
        typed = command.replace(".venv/bin/python", sys.executable).replace(":8000", f":{port}")
        done = subprocess.run(
            ["sh", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    for command in SEED:
        shell(command)
    (tmp_path / "events").symlink_to(ROOT / "events")
    emulator = subprocess.Popen(
        [sys.executable, "-m", "local_emulator", "--port", port],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert emulator.stdout is not None
        ready = next(line for line in emulator.stdout if line.startswith("READY "))
        assert "gcs" in json.loads(ready.removeprefix("READY "))
        assert json.loads(shell(CURL)) == {"status": "Success"}
        assert json.loads(shell(CURL)) == {"status": "Already Exists"}
        copy = tmp_path / "destination_gcs" / "x.txt"
        shell(THEN[0])
        eventually(copy.exists, "the new file's copy")
        assert shell(THEN[1]) == "new\n"
        shell(THEN[2])
        eventually(lambda: not copy.exists(), "the copy's removal")
        json.loads(shell(INVOKE))
    finally:
        emulator.send_signal(signal.SIGTERM)
        emulator.communicate(timeout=30)
    assert emulator.returncode == 0


def test_the_configuration_table_names_every_variable_that_is_read() -> None:
    read = set(re.findall(r'environment\.get\("([A-Z_]+)"', (ROOT / "handler" / "config.py").read_text()))
    assert read
    assert read <= set(re.findall(r"`([A-Z_]+)`", CONFIGURATION))


def test_the_rules_of_the_documents_are_rules(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", CONFIGURATION, re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.json").write_text(example)
    assert read_rules(tmp_path / "rules.json") == json.loads(example)


def test_every_file_that_the_documents_link_is_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "events" / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links {target}"
