"""`demo`: files are dropped, changed and removed, and every copy is compared with its original."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from local_emulator.process import EmulatorProcess
from local_emulator.settings import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
BIG = 64 * MIB
POLL = 0.005
"""Seconds between two looks at the destination."""
STEP_LIMIT = 60.0
ANSWER_LIMIT = 10.0
"""Seconds for one step, and for one answer."""
TAIL = 30
"""Lines of the emulator's output that a failure shows."""

Check = Callable[[], str]
"""Says what differs from what should be; "" where nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens, and what must come of it."""

    key: str
    event: str
    act: Callable[[], None]
    check: Check
    outcome: str
    size: int = 0


class Row(NamedTuple):
    """A step's line in the table."""

    key: str
    event: str
    outcome: str
    size: str
    milliseconds: str


def demo(*, target: str, keep: bool, limit: float) -> int:
    """Run the demo in a temporary folder and return 0, or 1 where something differed or time ran out."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind then either
    folder = Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    for name in ("source_s3", "destination_gcs", "made_before"):
        (folder / name).mkdir()
    try:
        with EmulatorProcess(
            *("--source", str(folder / "source_s3"), "--destination", str(folder / "destination_gcs")),
            *("--port", "0", "--target", target),
        ) as emulator:
            wrong = _play(Scene(folder, emulator.ready), time.monotonic() + limit)
        if wrong:
            print("\nthe emulator's last lines:", *emulator.output()[-TAIL:], sep="\n  ")
        return 1 if wrong else 0
    except StartError as error:
        print(error)
        return 1
    finally:
        if keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def _play(scene: Scene, deadline: float) -> int:
    """Take every step, print the table, and return how many went wrong."""
    steps = list(scene.steps())
    begun = time.monotonic()
    print(f"{scene.source}  ->  S3  ->  handler  ->  {scene.destination}\n", flush=True)
    results = [_take(step, min(deadline, time.monotonic() + STEP_LIMIT)) for step in steps]
    seconds = time.monotonic() - begun
    rows = [row for row, _ in results]
    widths = [max(map(len, column)) for column in zip(Row("key", "event", "outcome", "size", "ms"), *rows, strict=True)]
    for row in (Row("key", "event", "outcome", "size", "ms"), *rows):
        left = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
        print(left, row.size.rjust(widths[3]), row.milliseconds.rjust(widths[4]), sep="  ")
    right = sum(ok for _, ok in results)
    moved = sum(step.size for step in steps) / MIB
    print(f"\ndemo: {right} of {len(steps)} replicated and equal, {moved:.1f} MiB in {seconds:.1f} s", flush=True)
    return len(steps) - right


def _take(step: Step, deadline: float) -> tuple[Row, bool]:
    """Do it, and look at the destination until it is as it should be."""
    begun = time.monotonic()
    step.act()
    while (difference := step.check()) and time.monotonic() < deadline:
        time.sleep(POLL)
    milliseconds = f"{(time.monotonic() - begun) * 1000:.0f}"
    outcome = f"WRONG: {difference}" if difference else step.outcome
    return Row(step.key, step.event, outcome, f"{step.size:,}", milliseconds), not difference


class Scene:
    """The folders, the endpoints, and what is done with them."""

    def __init__(self, folder: Path, ready: dict[str, str | None]) -> None:
        self.source = folder / "source_s3"
        self.destination = folder / "destination_gcs"
        self._before = folder / "made_before"
        self._ready = ready

    def steps(self) -> Iterator[Step]:
        """Yield the whole play, in order."""
        report, moved = "reports/2026/11/totals.json", "archive/totals.json"
        yield self._put("source-file.csv", b"id,name\n1,sample data\n", "new")
        yield self._put(report, b'{"total": 3}\n', "new, nested")
        yield self._put("Grüße & Maße + Straße.csv", "Straße;1\n".encode(), "new, odd name")
        yield self._put("empty.txt", b"", "new, empty")
        yield self._put("big.bin", os.urandom(BIG), "new, 64 MiB")
        yield self._put("source-file.csv", b"id,name\n1,other data\n2,more\n", "overwrite")
        yield self._rename(report, moved, b'{"total": 3}\n')
        yield self._delete("empty.txt")
        yield self._post("source-file.csv", "replay by POST", '{"status": "Already Exists"}', "already exists")
        yield self._foreign("theirs.txt", b"put here by somebody else\n")

    def _put(self, key: str, body: bytes, event: str) -> Step:
        made = self._before / f"{event} {key}".replace("/", "_")
        made.write_bytes(body)

        def act() -> None:
            (self.source / key).parent.mkdir(parents=True, exist_ok=True)
            made.replace(self.source / key)  # whole at once, so that the time counts from here

        return Step(
            key=key, event=event, act=act, check=lambda: self._differs(key, body), outcome="equal", size=len(body)
        )

    def _rename(self, key: str, new: str, body: bytes) -> Step:
        def act() -> None:
            (self.source / new).parent.mkdir(parents=True, exist_ok=True)
            (self.source / key).rename(self.source / new)

        def check() -> str:
            return self._differs(new, body) or self._is_there(key)

        return Step(key=new, event="rename", act=act, check=check, outcome="equal, old name gone", size=len(body))

    def _delete(self, key: str) -> Step:
        return Step(
            key=key,
            event="delete",
            act=(self.source / key).unlink,
            check=lambda: self._is_there(key),
            outcome="gone",
        )

    def _post(self, key: str, event: str, expected: str, outcome: str) -> Step:
        return Step(key=key, event=event, act=lambda: None, check=lambda: self._answers(key, expected), outcome=outcome)

    def _foreign(self, key: str, body: bytes) -> Step:
        """A copy without an original, not made by the replicator: it is asked to look, and must leave it alone."""

        def act() -> None:
            (self.destination / key).write_bytes(body)

        def check() -> str:
            answer = self._answers(key, '{"error": "Source file not found"}')
            return answer or ("" if self._bytes(key) == body else "it was touched")

        return Step(
            key=key,
            event="foreign copy",
            act=act,
            check=check,
            outcome="kept",
            size=len(body),
        )

    def _differs(self, key: str, body: bytes) -> str:
        copy = self._bytes(key, len(body))
        if copy is None:
            return "no copy, or one of another size"
        if copy != body:
            return "other bytes"
        expected = mimetypes.guess_type(key)[0]
        stored = self._content_type(key) if self._ready["gcs"] else expected
        return "" if stored == expected else f"content type {stored}, not {expected}"

    def _is_there(self, key: str) -> str:
        return "still there" if (self.destination / key).exists() else ""

    def _bytes(self, key: str, size: int | None = None) -> bytes | None:
        """The copy's bytes; None where there is none, or not of that size."""
        path = self.destination / key
        try:
            return path.read_bytes() if size is None or path.stat().st_size == size else None
        except FileNotFoundError:
            return None

    def _content_type(self, key: str) -> str | None:
        text = _ask(f"{self._ready['gcs']}/storage/v1/b/{self._ready['bucket']}/o/{quote(key, safe='')}")
        with contextlib.suppress(ValueError):
            return str(json.loads(text).get("contentType"))
        return None

    def _answers(self, key: str, expected: str) -> str:
        body = json.dumps({"s3_bucket": self._ready["bucket"], "s3_key": key})
        text = _ask(f"{self._ready['rest']}/v1/replicate/", body)
        return "" if text == expected else f"the answer was {text}"


def _ask(url: str, body: str | None = None) -> str:
    """Return what a server of the emulator's says, whatever its status, or why it says nothing."""
    request = urllib.request.Request(  # noqa: S310 - the emulator's own URL
        url, data=body.encode() if body else None, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT) as answer:  # noqa: S310 - the emulator's own URL
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError as error:
        return f"no answer: {error}"
