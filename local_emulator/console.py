"""Turns the handler's log, which is JSON for machines, into at most one line for a person per outcome."""

from __future__ import annotations

import io
import json
import threading
from typing import Any, TextIO

LOUD = {"WARNING", "ERROR", "CRITICAL"}
NOTHING = "nothing"
"""The outcome of an event that found both sides equal, or of one in a dry run."""
DRY_RUN = "dry run"
RECENT = 3600
"""Seconds; an event file's events are older than that, and their age tells nothing."""


class Console(io.TextIOBase):
    """Stands in for standard output while the handler runs. `verbose` passes its lines on as they are."""

    def __init__(self, out: TextIO, *, verbose: bool) -> None:
        super().__init__()
        self._out = out
        self._verbose = verbose
        self._rest = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str, /) -> int:
        """Pass on what is worth a line."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                shown = line if self._verbose else summary(line)
                if shown:
                    self._out.write(f"{shown}\n")
            self._out.flush()
        return len(text)

    def say(self, text: str) -> None:
        """Print what the emulator itself has to say."""
        with self._lock:
            self._out.write(f"{text}\n")
            self._out.flush()


def summary(line: str) -> str:
    """Return the line for a person, "" where there is nothing to tell."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    outcome = record.get("outcome")
    why = str(record.get("why", ""))
    if outcome == NOTHING and why.startswith(DRY_RUN):
        return printable(f"  {DRY_RUN:<7} {record.get('key', '')}{why.removeprefix(DRY_RUN)}")
    if outcome == NOTHING or not (outcome or record.get("level") in LOUD):
        return ""
    return printable(_sentence(record, str(outcome or record["level"].lower())))


def printable(text: str) -> str:
    """Return the text with what a terminal would obey escaped, as it may stand in a key."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _sentence(record: dict[str, Any], word: str) -> str:
    if record.get("level") in LOUD:
        detail = " ".join(str(record[name]) for name in ("message", "detail") if record.get(name))
        return f"  {word:<7} {record.get('key', '')}: {detail}" if "key" in record else f"  {word:<7} {detail}"
    seconds = record.get("seconds_since_event")
    lag = f"  {seconds * 1000:.0f} ms after the event" if seconds is not None and seconds < RECENT else ""
    return f"  {word:<7} {record.get('key', '')}  {record.get('bytes', 0):,} bytes{lag}"
