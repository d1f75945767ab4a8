"""The emulator as a process of its own, for the demo and the end-to-end tests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local_emulator.settings import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT = 60.0
STOP_LIMIT = 10.0
"""Seconds."""


class EmulatorProcess:
    """`python -m local_emulator`, from its READY line to the end of the `with` block."""

    ready: dict[str, Any]
    """What the READY line says."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._lines: deque[str] = deque(maxlen=10_000)
        self._answered = threading.Event()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "local_emulator", *self._arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="emulator-output", daemon=True)
        self._reader.start()
        try:
            self.ready = self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def output(self) -> Sequence[str]:
        """Return the last lines of what it printed on either stream."""
        return list(self._lines)

    def stop(self) -> int:
        """End it by SIGTERM, by force where that does not help, and return its exit code."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()
        return self.process.returncode

    def _await_ready(self) -> dict[str, Any]:
        self._answered.wait(START_LIMIT)
        for line in self.output():
            if line.startswith("READY "):
                ready: dict[str, Any] = json.loads(line.removeprefix("READY "))
                return ready
        raise StartError("\n".join(["the emulator did not start:", *self.output()]))

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.append(line.rstrip("\n"))
            if line.startswith("READY "):
                self._answered.set()
        self._answered.set()
