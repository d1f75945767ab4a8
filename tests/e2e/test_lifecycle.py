"""Starting with good and bad options, and ending at a signal, whatever is going on."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local_emulator.__main__ import main
from local_emulator.process import ROOT
from tests.e2e.support import Desk, eventually

END = 2.0
"""Seconds in which the emulator must be gone after a signal."""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_emulator", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def end_by(desk: Desk, number: signal.Signals) -> float:
    """Send the signal and return the seconds until the process is gone."""
    assert psutil.Process(desk.emulator.process.pid).children(recursive=True) == []
    begun = time.monotonic()
    desk.emulator.process.send_signal(number)
    assert desk.emulator.process.wait(10) == 0
    return time.monotonic() - begun


@pytest.mark.parametrize(("number", "target"), [(signal.SIGINT, "gcs"), (signal.SIGTERM, "folder")])
def test_a_signal_ends_it_in_time(start: Callable[..., Desk], number: signal.Signals, target: str) -> None:
    desk = start("--target", target)
    for folder in (desk.source, desk.destination):
        assert folder.is_dir()
        assert f"made the folder {folder}" in desk.told()
    assert end_by(desk, number) < END
    assert "Traceback" not in desk.told()
    for name in ("rest", "s3"):
        socket.create_server(("127.0.0.1", int(desk.ready[name].rpartition(":")[2]))).close()


def test_a_signal_ends_it_in_time_while_it_works(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder", "--verbose")
    for number in range(20):
        (desk.source / f"{number}.bin").write_bytes(os.urandom(10 * 1024 * 1024))
    desk.await_equal("0.bin")
    assert end_by(desk, signal.SIGTERM) < END


@pytest.mark.parametrize(("more", "code"), [(("--port", "0"), 0), (("invoke", "events/s3-put.json"), 130)])
def test_a_signal_ends_it_silently_while_the_source_is_loaded(tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/large.bin").touch()
    os.truncate(tmp_path / "s/large.bin", 4 << 30)
    folders = ("--source", str(tmp_path / "s"), "--destination", str(tmp_path / "d"))
    with subprocess.Popen(
        [sys.executable, "-m", "local_emulator", *folders, *more], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as loading:
        assert loading.stderr
        assert loading.stderr.readline() == "local_emulator: loading 1 files, 4,096 MiB, into S3\n"
        told = psutil.Process(loading.pid)
        before = told.io_counters().read_chars
        eventually(lambda: told.io_counters().read_chars > before + (64 << 20), "parts are sent")
        loading.send_signal(signal.SIGINT)
        assert loading.wait(END) == code
        assert loading.stderr.read() == ""


def test_a_second_signal_does_no_harm(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    for _ in range(3):
        desk.emulator.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert desk.emulator.process.wait(END) == 0


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command("--source", str(tmp_path / "s"), "--destination", str(tmp_path / "d"), "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"local_emulator: cannot listen on 127.0.0.1:{port}: Address already in use (--port 0 takes a free one)"
    ]
    assert ended.stdout == ""


def test_a_destination_in_use_is_one_clear_line(start: Callable[..., Desk]) -> None:
    desk = start()
    folders = ("--source", str(desk.source), "--destination", str(desk.destination))
    for more in (("--port", "0"), ("invoke", "events/s3-put.json")):
        ended = command(*folders, *more)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == (
            f"local_emulator: another emulator uses the destination {desk.destination}: "
            "end it, or give another one by --destination\n"
        )


def test_an_address_of_another_machine_is_one_clear_line(tmp_path: Path) -> None:
    folders = ("--source", str(tmp_path / "s"), "--destination", str(tmp_path / "d"))
    ended = command(*folders, "--host", "192.0.2.1", "--port", "0")
    assert ended.returncode == 1
    assert ended.stderr == "local_emulator: cannot listen on 192.0.2.1:0: Cannot assign requested address\n"


def test_a_destination_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/.gcs").write_bytes(b"in the way")
    ended = command("--source", str(tmp_path / "s"), "--destination", str(tmp_path / "d"), "--port", "0")
    assert ended.returncode == 1
    assert ended.stderr == f"local_emulator: the GCS server did not start: {tmp_path}/d/.gcs is not a folder\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "{tmp}/a", "--destination", "{tmp}/a/b"], "must not lie inside one another"),
        (["--source", "{tmp}/a/b", "--destination", "{tmp}/a"], "must not lie inside one another"),
        (["--source", "{tmp}/a", "--destination", "{tmp}/a"], "must not lie inside one another"),
        (["--source", "{tmp}/file", "--destination", "{tmp}/a"], "is not a folder"),
        (["--source", "{tmp}/s", "--destination", "{tmp}/file/x", "--port", "0"], "/file/x cannot be made: Not a dir"),
        (["--source", "{tmp}/file/x", "--destination", "{tmp}/d", "--port", "0"], "/file/x cannot be made: Not a dir"),
        (["--bucket", "No_Bucket"], "--bucket: 'No_Bucket' is not a bucket name of S3"),
        (["--bucket", "a..b", "--target", "folder"], "--bucket: 'a..b' is not a bucket name of S3"),
        (["--bucket", "192.168.0.1"], "--bucket: '192.168.0.1' is not a bucket name of S3"),
        (["--bucket", "my-google"], "--bucket: 'my-google' is not a bucket name of GCS"),
        (["--port", "70000"], "is not a port"),
        (["--visibility", "0"], "is less than 1"),
        (["--visibility", "43201"], "43201 is more than 43200"),
        (["--target", "azure"], "invalid choice"),
        (["--rules", "{tmp}/none.json"], "No such file"),
        (["--rules", "{tmp}/file"], "not JSON"),
        (["--rules", "{tmp}/object.json"], "a JSON list of rules was expected"),
        (["--rules", "{tmp}/lacking.json"], "rule 1 lacks"),
        (["--rules", "{tmp}/short.json"], "short.json: rule 2: 'a' is not a bucket name of S3"),
        (["--rules", "{tmp}/nowhere.json"], "nowhere.json: rule 1: '' is not a bucket name of GCS"),
        (["--rules", "{tmp}/good.json", "--bucket", "zzz"], "--bucket zzz is no rule's Source.Bucket in "),
        (["--rules", "{tmp}/good.json", "--target", "folder"], "--target does nothing beside --rules"),
        (["invoke", "{tmp}/list.json", "--port", "0"], "unrecognized arguments: --port 0"),
        (["invoke", "{tmp}/none.json"], "No such file"),
        (["invoke", "{tmp}/file"], "not JSON"),
        (["invoke", "{tmp}/list.json"], "an event is a JSON object"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """In this process: to start one takes a second."""
    (tmp_path / "file").write_bytes(b"not json")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "lacking.json").write_text('[{"Source": {"Bucket": "dummy"}}]')
    good, short, nowhere = (
        {"Source": {"Bucket": source}, "Destination": {"Bucket": url}}
        for source, url in (("abc", "gs://abc"), ("a", "gs://abc"), ("abc", "gs://"))
    )
    (tmp_path / "good.json").write_text(json.dumps([good]))
    (tmp_path / "short.json").write_text(json.dumps([good, short]))
    (tmp_path / "nowhere.json").write_text(json.dumps([nowhere]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("local_emulator"), "handlers", [])
        try:
            code: object = main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
        except SystemExit as ended:  # argparse's own
            code = ended.code
    assert code == 2
    told = capsys.readouterr()
    assert "/file/x" not in told.out
    assert message in told.err.splitlines()[-1]


def test_rules_that_the_handler_refuses_end_the_start_with_every_fault(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(
        json.dumps(
            [{"Source": {"Bucket": "dummy"}, "Destination": {"Bucket": tmp_path.as_uri()}, "Priority": "x", "Typo": 1}]
        )
    )
    ended = command(
        *("--rules", str(tmp_path / "rules.json"), "--port", "0"),
        *("--source", str(tmp_path / "s"), "--destination", str(tmp_path / "d")),
    )
    assert ended.returncode == 1
    assert "Priority" in ended.stderr
    assert "Typo" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_rules_of_ones_own_are_followed(start: Callable[..., Desk], tmp_path: Path) -> None:
    rules = [
        {
            "ID": name,
            "Source": {"Bucket": "mine"},
            "Destination": {"Bucket": url},
            "Filter": {"Prefix": f"{name}/"},
        }
        for name, url in (("logs", "gs://log-copies/from-s3"), ("data", "gs://data-copies"))
    ]
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    desk = start("--rules", str(tmp_path / "rules.json"))
    assert desk.ready["bucket"] == "mine"
    for key in ("logs/1.log", "data/2.csv"):
        (desk.source / key).parent.mkdir()
        (desk.source / key).write_bytes(key.encode())
    for copy in ("log-copies/from-s3/logs/1.log", "data-copies/data/2.csv"):
        desk.await_there(copy)


def test_what_the_banner_says_can_be_typed(start: Callable[..., Desk], tmp_path: Path) -> None:
    desk = start("--host", "0.0.0.0")  # noqa: S104 - what is tested
    assert desk.ready["rest"].startswith("http://127.0.0.1:")
    (desk.source / "new.txt").write_bytes(b"new")
    desk.await_equal("new.txt")
    (line,) = (line for line in desk.emulator.output() if "STORAGE_EMULATOR_HOST=" in line)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # no activated .venv
    typed = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "new.txt" in typed.stdout, typed.stderr


def test_a_dry_run_shows_what_it_would_do(start: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    desk = start()
    eventually(lambda: "Ctrl-C ends it." in desk.told(), "the banner")
    assert f"A dry run (DRY_RUN): what would be done is shown here, and {desk.destination} is left" in desk.told()
    (desk.source / "new.txt").write_bytes(b"new")
    eventually(lambda: "  dry run new.txt: would " in desk.told(), "a line for what would be done")
    assert not (desk.destination / "new.txt").exists()


def test_help_shows_examples() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    assert "python -m local_emulator invoke events/s3-put.json" in shown.stdout


def test_help_of_a_command_lists_what_does_something_there() -> None:
    shown = command("invoke", "--help").stdout
    assert "--destination" in shown
    for option in ("--host", "--port", "--max-receives", "--visibility", "--concurrency"):
        assert option not in shown
    assert "as above" not in command("demo", "--help").stdout
