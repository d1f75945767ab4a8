"""Coverage-guided fuzzing of everything that reads what others wrote; tests.proof.fuzz runs it in its own process."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["handler.events", "handler.rest", "handler.config", "urllib.parse"]):
    from tests.proof import fuzz

import contextlib
import json


def one(data: bytes) -> None:
    """Feed one input to the subject that its first byte names."""
    text = data[1:].decode(errors="replace")
    match data[:1]:
        case b"e":
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(text)
                fuzz.law_event(event)
                fuzz.law_neighbour(event)
        case b"r":
            fuzz.law_rules(text)
        case b"b":
            fuzz.law_body(text)
        case _:
            fuzz.law_event(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
