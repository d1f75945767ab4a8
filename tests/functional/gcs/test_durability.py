"""What outlives a restart, a SIGKILL at any moment, and a body far larger than the memory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from local_emulator.gcs import GcsServer
from tests.functional.gcs.conftest import QUANTUM, Api

KILLS = int(os.environ.get("GCS_KILLS", "5"))
ROOT = Path(__file__).resolve().parents[3]
LIMIT = 64 << 20


@contextmanager
def _program(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Api]]:
    command = [sys.executable, "-m", "local_emulator.gcs", "--folder", str(folder), "--bucket", "only"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process,
        requests.Session() as session,
    ):
        try:
            assert process.stdout is not None
            word, _, said = process.stdout.readline().partition(" ")
            assert word == "READY"
            yield process, Api(json.loads(said)["gcs"], "only", session)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with _program(tmp_path) as (process, api):
        api.insert("k", b"x")
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
    assert (tmp_path / "k").read_bytes() == b"x"


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with requests.Session() as session:
        with GcsServer(tmp_path, bucket="only") as server:
            api = Api(server.url, "only", session)
            for name in ("a", "a/b", "//", "../up"):
                api.multipart(
                    {"name": name, "metadata": {"n": name}, "customTime": "2026-01-01T00:00:00Z"}, name.encode()
                )
            before = {name: api.resource(name) for name in api.names()}
            upload = api.begin("k").removeprefix(server.url)
            api.send(server.url + upload, bytes(QUANTUM), f"0-{QUANTUM - 1}/*")
        with GcsServer(tmp_path, bucket="only") as server:
            api = Api(server.url, "only", session)
            changing = {"selfLink", "mediaLink"}
            for name, resource in before.items():
                after = api.resource(name)
                assert {k: v for k, v in after.items() if k not in changing} == {
                    k: v for k, v in resource.items() if k not in changing
                }
                assert api.media(name).content == name.encode()
            newest = max(int(resource["generation"]) for resource in before.values())
            assert int(api.insert("new").json()["generation"]) > newest
            answer = api.send(server.url + upload, b"end", f"{QUANTUM}-{QUANTUM + 2}/{QUANTUM + 3}")
            md5 = hashlib.md5(bytes(QUANTUM) + b"end", usedforsecurity=False).digest()
            assert answer.json()["md5Hash"] == base64.b64encode(md5).decode()


def _body(number: int) -> bytes:
    """Bytes whose first line tells the rest: half of two of them is neither."""
    size = 10 + number * 7919 % 900_000
    return (b"%d\n" % number) + bytes([number % 251]) * size


def _whole(data: bytes) -> bool:
    return data == _body(int(data.partition(b"\n")[0]))


def _write_until_killed(api: Api, kind: str, acknowledged: dict[str, int], number: int) -> None:
    """Overwrite and delete in a circle; remember what was acknowledged."""
    with requests.Session() as session:
        own = Api(api.url, api.bucket, session)
        try:
            while True:
                number += 1
                name = f"{kind}/{number % 3}"
                data = _body(number)
                acknowledged.pop(name, None)
                if kind == "resumable":
                    upload = own.begin(name)
                    half = len(data) // QUANTUM * QUANTUM
                    if half:
                        own.send(upload, data[:half], f"0-{half - 1}/*")
                    answer = own.send(upload, data[half:], f"{half}-{len(data) - 1}/{len(data)}")
                elif kind == "deleted" and number % 2:
                    answer = own.object("DELETE", name)
                else:
                    answer = own.insert(name, data)
                if answer.status_code == 200:
                    acknowledged[name] = number
        except requests.RequestException:
            return


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_object_whole(tmp_path: Path) -> None:
    """`GCS_KILLS=200` kills more often."""
    chance = random.Random(7)  # noqa: S311 - it picks moments, not secrets
    acknowledged: dict[str, dict[str, int]] = {kind: {} for kind in ("media", "resumable", "deleted")}
    for round_ in range(KILLS):
        with _program(tmp_path) as (process, api):
            for path in [path for path in tmp_path.rglob("*") if path.is_file() and ".gcs" not in path.parts]:
                assert _whole(path.read_bytes()), path
            names = api.names()
            for name in names:
                data = api.media(name).content
                assert _whole(data), name
                assert (tmp_path / name).read_bytes() == data
            for kind, numbers in acknowledged.items():
                for name, number in numbers.items():
                    assert int(api.media(name).content.partition(b"\n")[0]) == number, (kind, name)
            threads = [
                threading.Thread(target=_write_until_killed, args=(api, kind, numbers, round_ * 1000))
                for kind, numbers in acknowledged.items()
            ]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.01, 0.25))  # the kill comes at a random moment: there is nothing to wait for
            process.kill()
            for thread in threads:
                thread.join()
    with _program(tmp_path) as (_, api):
        objects = api.names()
        blobs = [path for path in (tmp_path / ".gcs" / "blobs").rglob("*") if path.is_file()]
        assert len(objects) <= len(blobs)


def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    data = os.urandom(4 * QUANTUM + 5)
    with _program(tmp_path) as (process, api):
        upload = api.begin("k", ifGenerationMatch="0").removeprefix(api.url)
        api.send(api.url + upload, data[: 2 * QUANTUM], f"0-{2 * QUANTUM - 1}/{len(data)}")
        process.kill()
    with _program(tmp_path) as (_, api):
        asked = api.send(api.url + upload, b"", f"*/{len(data)}")
        assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{2 * QUANTUM - 1}")
        answer = api.send(api.url + upload, data[2 * QUANTUM :], f"{2 * QUANTUM}-{len(data) - 1}/{len(data)}")
        assert (answer.status_code, api.media("k").content == data) == (200, True)


def _pieces(size: int, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    block = bytes(1 << 20)
    yield before
    for _ in range(size >> 20):
        yield block
    yield after


def _upload(api: Api, kind: str, size: int) -> requests.Response:
    where = f"/upload/storage/v1/b/only/o?uploadType={kind}&name={kind}"
    if kind == "media":
        return api.call("POST", where, data=_pieces(size), timeout=600)
    if kind == "multipart":
        head, tail = b"--f\r\n\r\n{}\r\n--f\r\n\r\n", b"\r\n--f--"
        headers = {"Content-Type": "multipart/related; boundary=f"}
        return api.call("POST", where, data=_pieces(size, head, tail), headers=headers, timeout=600)
    if kind == "xml":
        return api.call("PUT", "/only/xml", data=_pieces(size), timeout=600)
    return api.call("PUT", api.begin(kind), data=_pieces(size), timeout=600)


def _memory_of_an_upload(folder: Path, kind: str, size: int) -> int:
    with _program(folder) as (process, api):
        assert _upload(api, kind, size).status_code == 200
        with api.media(kind, stream=True, timeout=600) as answer:
            assert sum(map(len, answer.iter_content(1 << 20))) == size
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(peak.split()[1]) << 10
        return psutil.Process(process.pid).memory_info().rss


@pytest.mark.parametrize("kind", ["media", "multipart", "resumable", "xml"])
def test_a_large_body_needs_little_memory(tmp_path: Path, kind: str) -> None:
    assert _memory_of_an_upload(tmp_path, kind, 96 << 20) < LIMIT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["media", "multipart", "resumable"])
def test_five_gibibytes_need_little_memory(tmp_path: Path, kind: str) -> None:
    """Run it with `pytest -m slow tests/functional/gcs`."""
    assert _memory_of_an_upload(tmp_path, kind, 5 << 30) < LIMIT
    (tmp_path / kind).unlink()
