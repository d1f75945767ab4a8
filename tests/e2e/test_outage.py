"""An outage as it happens: the GCS server is killed under load, stays away, and comes back. Nobody has to do anything.

`make outage` runs the long form: 60 seconds.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support import Desk, eventually, sqs_of

ROOT = Path(__file__).parents[2]
BACK = 60.0
"""Seconds after the outage within which everything is equal."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def gcs_server(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A GCS server in a process of its own, from its READY line on; killed in the end, without warning."""
    command = [sys.executable, "-m", "local_emulator.gcs"]
    command += ["--folder", str(folder), "--bucket", "dummy", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert json.loads(line.removeprefix("READY "))["gcs"] == f"http://127.0.0.1:{port}"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


class Load:
    """Writes, overwrites and removes files at a steady rate, until it is told to end."""

    def __init__(self, folder: Path, rate: float) -> None:
        self._folder, self._rate = folder, rate
        self._ended = threading.Event()
        self._random = random.Random(1)  # noqa: S311 - to be repeatable
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.files: dict[str, bytes | None] = {}
        """What each file holds; None: it was removed."""

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(1 / self._rate):
            self._change(f"file-{len(self.files)}.txt", b"new")
            there = [name for name, data in self.files.items() if data is not None]
            if self._random.random() < 0.3:
                self._change(self._random.choice(there), b"%d" % self._random.getrandbits(64))
            if self._random.random() < 0.1:
                gone = self._random.choice(there)
                (self._folder / gone).unlink()
                self.files[gone] = None

    def _change(self, name: str, data: bytes) -> None:
        (self._folder / name).write_bytes(data)
        self.files[name] = data


def wrong(load: Load, copies: Path) -> list[str]:
    """The files whose copies are not equal, by the bytes on the disk."""

    def copy(name: str) -> bytes | None:
        try:
            return (copies / name).read_bytes()
        except FileNotFoundError:
            return None

    return [name for name, data in load.files.items() if copy(name) != data]


def left(desk: Desk, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = sqs_of(desk).get_queue_attributes(QueueUrl=desk.ready[queue], AttributeNames=names)["Attributes"]  # type: ignore[arg-type] # names of attributes
    return sum(map(int, told.values()))


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        pytest.param(4.0, 10.0, id="4 s"),
        pytest.param(60.0, 5.0, id="60 s", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_an_outage_of_gcs_needs_no_human(
    start: Callable[..., Desk], tmp_path: Path, seconds: float, rate: float
) -> None:
    copies, port = tmp_path / "destination_gcs", free_port()
    copies.mkdir()
    with gcs_server(copies, port) as server:
        desk = start("--gcs", f"http://127.0.0.1:{port}")
        load = Load(desk.source, rate)
        load.begin()
        eventually(lambda: len(load.files) > 10 and len(list(copies.glob("*.txt"))) > 5, "copies under load")
        server.send_signal(signal.SIGKILL)
        server.wait()
    killed, before = time.monotonic(), len(load.files)
    eventually(lambda: time.monotonic() > killed + seconds, "the outage's end", seconds + 1)
    assert len(load.files) > before + seconds * rate / 3, "changes during the outage"
    assert wrong(load, copies)
    if seconds > 30:
        assert "opened the circuit of the destination gs://dummy" in "\n".join(desk.emulator.output())
    with gcs_server(copies, port):
        back, then = time.monotonic(), len(load.files)
        eventually(lambda: len(load.files) > then + rate, "changes after the outage")
        load.end()
        eventually(lambda: not wrong(load, copies), f"all equal in {desk.told()}", BACK)
        took = time.monotonic() - back
        eventually(lambda: not left(desk, "queue"), "an empty queue")
        assert left(desk, "dead_letter_queue") == 0
    sys.stdout.write(f"{seconds:.0f} s away, {len(load.files)} files: all equal {took:.1f} s after it was back\n")
    assert took < BACK
