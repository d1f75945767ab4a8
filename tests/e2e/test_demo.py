"""`demo`, as `make demo` runs it, and that it does not call wrong right."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from local_emulator import demo
from local_emulator.demo import Step
from tests.e2e.test_lifecycle import command


def test_the_demo_ends_well() -> None:
    ended = command("demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    closing = ended.stdout.splitlines()[-1]
    assert re.fullmatch(r"demo: 10 of 10 replicated and equal, 64\.0 MiB in \d+\.\d s", closing)
    assert ended.stderr == ""


def test_what_differs_is_said_when_the_time_is_over() -> None:
    step = Step(key="a.txt", event="new", act=lambda: None, check=lambda: "other bytes", outcome="equal", size=3)
    row, right = demo._take(step, time.monotonic() + 0.05)
    assert not right
    assert row[:4] == ("a.txt", "new", "WRONG: other bytes", "3")


def test_a_copy_is_compared_byte_by_byte_and_by_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = demo.Scene(tmp_path, {"gcs": "http://127.0.0.1:9", "rest": None, "bucket": "dummy"})
    scene.destination.mkdir()
    assert "no copy" in scene._differs("a.csv", b"abc")
    (scene.destination / "a.csv").write_bytes(b"abd")
    assert scene._differs("a.csv", b"abc") == "other bytes"
    (scene.destination / "a.csv").write_bytes(b"abc")
    monkeypatch.setattr(demo, "_ask", lambda url: '{"contentType": "text/plain"}')
    assert scene._differs("a.csv", b"abc") == "content type text/plain, not text/csv"
    monkeypatch.setattr(demo, "_ask", lambda url: '{"contentType": "text/csv"}')
    assert scene._differs("a.csv", b"abc") == ""
