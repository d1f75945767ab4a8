"""The bench's meter, on processes whose use is known."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.bench_measure import Failed, Meter, Session

MIB = 1 << 20
BUSY = "import time\nwhile time.process_time() < 0.3: pass"
ECHO = "import sys\nprint('READY', flush=True)\nfor line in sys.stdin: print('DONE', line.strip()[::-1], flush=True)"


def test_cpu_is_that_of_the_process_and_of_its_children() -> None:
    twice = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\n{BUSY}"
    with Meter(os.environ) as meter:
        meter.run([sys.executable, "-c", twice])
    assert meter.usage.cpu >= 0.6
    assert meter.usage.wall > 0


def test_memory_is_of_all_that_live_at_one_time() -> None:
    holds = f"import sys\nheld = bytearray({64 * MIB})\nprint('READY', flush=True)\nsys.stdin.read()"
    with Meter(os.environ) as meter:
        sessions = [Session(meter, [sys.executable, "-c", holds], {}, Path(os.devnull)) for _ in range(2)]
        until = time.monotonic() + 60
        while meter._peak <= 128 * MIB and time.monotonic() < until:  # it looks now and then
            time.sleep(0.01)
        for session in sessions:
            session.end()
    assert 128 * MIB < meter.usage.peak < 400 * MIB


def test_a_session_answers_each_line(tmp_path: Path) -> None:
    with Meter(os.environ) as meter:
        session = Session(meter, [sys.executable, "-c", ECHO], {}, tmp_path / "errors")
        assert session.tell("abc") == "cba"
        session.end()
    assert 0 < meter.usage.start <= meter.usage.wall


def test_what_a_process_that_fails_said_is_told(tmp_path: Path) -> None:
    fails = "import sys\nsys.exit('no such bucket')"
    with Meter(os.environ) as meter:
        with pytest.raises(Failed, match="no such bucket"):
            meter.run([sys.executable, "-c", fails])
        with pytest.raises(Failed, match="no such bucket"):
            Session(meter, [sys.executable, "-c", fails], {}, tmp_path / "errors")


def test_what_still_runs_at_the_end_is_killed(tmp_path: Path) -> None:
    with Meter(os.environ) as meter:
        session = Session(meter, [sys.executable, "-c", ECHO], {}, tmp_path / "errors")
    assert session.process.returncode == -9


def test_what_takes_too_long_is_killed_and_told() -> None:
    with pytest.raises(Failed, match=r"killed after 0\.1 s"), Meter(os.environ, limit=0.1) as meter:
        meter.run([sys.executable, "-c", "import time\ntime.sleep(60)"])
