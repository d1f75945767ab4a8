"""A built function under AWS's Runtime Interface Emulator, which ships with aws-sam-cli: no Docker, no account."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / ".aws-sam/runtime"
ARTIFACT = ROOT / ".aws-sam/desk/ReplicatorFunction"
_REPORT = re.compile(r"REPORT .*?Init Duration: (?P<init>[0-9.]+) ms\s+Duration: (?P<run>[0-9.]+) ms")


def missing() -> str | None:
    """Why it cannot run here."""
    if platform.system() != "Linux":
        return "the Runtime Interface Emulator is a Linux program"
    if not (ARTIFACT / ".complete").exists() or not (RUNTIME / ".ready").exists():
        return "nothing is built: make build"
    sources = [*(ROOT / "handler").rglob("*.py"), ROOT / "handler/requirements.txt", ROOT / "handler/Makefile"]
    if max(file.stat().st_mtime for file in sources) > (ARTIFACT / ".complete").stat().st_mtime:
        return "what is built is older than handler/: make build"
    return None


class Start(NamedTuple):
    """Milliseconds of the start and the first invocation: as the emulator reports them, and of the processor alone."""

    waited: float
    processor: float


class Rie:
    """One function instance, started by its first invocation. Takes one request at a time.

    Args:
        artifact: what is deployed, unpacked.
        handler: its entry.
        variables: the function's environment, beside what the runtime sets.
    """

    def __init__(
        self,
        artifact: Path = ARTIFACT,
        handler: str = "handler.app.lambda_handler",
        variables: dict[str, str] | None = None,
        timeout: int = 30,
    ) -> None:
        self._port, api = _free_port(), _free_port()
        self._command = [
            str(RUNTIME / "aws-lambda-rie"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
            *("--runtime-api-address", f"127.0.0.1:{api}"),
            *(str((RUNTIME / "python").resolve()), "-m", "awslambdaric", handler),
        ]
        self._cwd = artifact
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{artifact}:{RUNTIME}",
            "PYTHONDONTWRITEBYTECODE": "1",  # /var/task cannot be written to either
            "LAMBDA_TASK_ROOT": str(artifact),
            "AWS_LAMBDA_FUNCTION_NAME": "replicator",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
            **(variables or {}),
        }
        self.output: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.02)
        self.__exit__(None, None, None)
        raise RuntimeError("the emulator did not start:\n" + "".join(self.output))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        self.output.extend(self._process.stdout)

    def invoke(self, event: Any) -> Any:
        """Return the handler's answer; an error of its is an object with `errorMessage`."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        request = urllib.request.Request(url, data=json.dumps(event).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)

    def started(self) -> Start:
        """What the first invocation took, once it is reported."""
        for _ in range(100):
            if found := _REPORT.search("".join(self.output)):
                return Start(float(found["init"]) + float(found["run"]), self._processor())
            time.sleep(0.02)
        raise RuntimeError("no report:\n" + "".join(self.output))

    def _processor(self) -> float:
        times = [child.cpu_times() for child in psutil.Process(self._process.pid).children(recursive=True)]
        return 1000 * sum(each.user + each.system for each in times)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
