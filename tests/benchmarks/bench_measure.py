"""What whole processes take: seconds, CPU of all their threads and children, and memory at its peak."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.benchmarks.shim import ROOT

_EVERY = 0.02
"""Seconds between two looks at the memory."""
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_TOLD = 2000


class Failed(Exception):
    """A contestant did not do what it was to do; the message is what it said."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run took."""

    wall: float
    """Seconds, from the first process's start to the last one's end."""
    cpu: float
    """Seconds, user and system, of all processes."""
    peak: int
    """Bytes: the most that all processes which lived at one time had ever had, as seen 50 times a second."""
    start: float
    """Seconds of `wall` until the process said it was ready; 0 where none says so."""
    start_cpu: float
    """What of `cpu` it had used by then."""


class Meter:
    """Starts processes and measures them until the `with` block ends; what has not ended by then is killed.

    Args:
        environment: theirs.
        limit: seconds after which what still runs is killed.
    """

    usage: Usage

    def __init__(self, environment: Mapping[str, str], limit: float = 1800.0) -> None:
        self._environment = environment
        self._limit = limit
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._late = False
        self._cpu = 0.0
        self._peak = 0
        self._ready = self._ready_cpu = 0.0

    def __enter__(self) -> Self:
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall = time.monotonic() - self._began
        self._kill()
        for process in list(self._running.values()):
            self.wait(process)
        self._ended.set()
        self._watcher.join()
        self.usage = Usage(wall=wall, cpu=self._cpu, peak=self._peak, start=self._ready, start_cpu=self._ready_cpu)
        if self._late:
            raise Failed(f"killed after {self._limit:g} s") from error

    def ready(self, process: subprocess.Popen[str]) -> None:
        """Note that a process has started up."""
        self._ready = max(self._ready, time.monotonic() - self._began)
        self._ready_cpu += cpu_of(process.pid)

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None, **pipes: Any
    ) -> subprocess.Popen[str]:
        """Start a process, in a group of its own."""
        process: subprocess.Popen[str] = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env={**self._environment, **(environment or {})},
            text=True,
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **pipes},
        )
        with self._lock:
            self._running[process.pid] = process
        return process

    def wait(self, process: subprocess.Popen[str]) -> int:
        """Wait for a process that `start` returned, and count what it and the children that it waited for took."""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            del self._running[process.pid]
            self._cpu += used.ru_utime + used.ru_stime
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()
        return process.returncode

    def run(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Run a process to its end.

        Raises:
            Failed: with what it said.
        """
        process = self.start(arguments, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = process.stdout.read() if process.stdout else ""
        if status := self.wait(process):
            raise Failed(f"{Path(arguments[0]).name} ended with {status}: {said[-_TOLD:].strip()}")

    def _watch(self) -> None:
        until = time.monotonic() + self._limit
        while not self._ended.wait(_EVERY):
            with self._lock:
                roots = list(self._running)
            self._peak = max(self._peak, sum(_high_water(pid) for root in roots for pid in _tree(root)))
            if time.monotonic() > until:
                self._late = True
                self._kill()

    def _kill(self) -> None:
        with self._lock:
            for process in self._running.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class Session:
    """A process that says READY, and answers each line it is told by one that begins with DONE."""

    def __init__(self, meter: Meter, arguments: Sequence[str], environment: Mapping[str, str], errors: Path) -> None:
        self._meter = meter
        self._errors = errors
        with errors.open("w") as file:
            self.process = meter.start(
                arguments, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file
            )
        self._hear("READY")
        meter.ready(self.process)

    def tell(self, line: str) -> str:
        """Tell it something; return what it answered once it was done."""
        if self.process.stdin is None:
            raise AssertionError("a pipe was asked for")
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise self._failed() from error
        return self._hear("DONE")

    def end(self) -> None:
        """End its input, and wait for its end."""
        if self.process.stdin:
            self.process.stdin.close()
        if self._meter.wait(self.process):
            raise self._failed()

    def _hear(self, word: str) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith(word):
            raise self._failed(line)
        return line.removeprefix(word).strip()

    def last_words(self) -> str:
        """Return the end of what it said on standard error."""
        return self._errors.read_text(errors="replace")[-_TOLD:].strip()

    def _failed(self, line: str = "") -> Failed:
        time.sleep(0.2)  # it may be about to say why
        ended = "" if self.process.returncode is None else f"it ended with {self.process.returncode}: "
        return Failed(ended + (line + self.last_words()).strip())


def cpu_of(pid: int) -> float:
    """Return the CPU seconds a living process has used so far, those of its children included."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _high_water(pid: int) -> int:
    """Return the most memory that a process ever had."""
    with suppress(OSError):
        if found := _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) << 10
    return 0
