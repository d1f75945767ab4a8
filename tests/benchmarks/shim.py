"""The GCS shim as a process of its own, which can be killed and started anew, and the memory a process ever took."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


class Shim:
    """`python -m local_emulator.gcs` over a folder that is one bucket; its address outlives it."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.folder = folder
        self.bucket = bucket
        self.url = ""
        self._port = "0"

    def start(self) -> None:
        """Start it; returns when it answers."""
        arguments = ("--folder", str(self.folder), "--bucket", self.bucket, "--port", self._port)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local_emulator.gcs", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout is None:
            raise AssertionError("its output was asked for")
        line = self.process.stdout.readline()
        if not line.startswith("READY "):
            raise RuntimeError(f"the shim did not start: {line!r}, exit code {self.process.wait()}")
        self.url = json.loads(line.removeprefix("READY "))["gcs"]
        self._port = self.url.rpartition(":")[2]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal."""
        self.process.send_signal(how)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end()


def peak(pid: int | str = "self") -> int:
    """Return the most memory, in bytes, that a process ever had, as far as the system says: else what it has now.

    Not by getrusage: its ru_maxrss begins with the size of the process that started this one.
    """
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) << 10 if found else psutil.Process(None if pid == "self" else int(pid)).memory_info().rss
