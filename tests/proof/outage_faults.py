"""Deliberate faults in what makes an outage need no human: the simulation must see each of them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest

from handler import app, backoff
from handler.core import breaker
from tests.proof.outages import DAY, QUIET, SHORT, Scenario, simulate

HOURS = SHORT[-1]
FORTNIGHT = replace(QUIET, name="GCS away for 15 days", seconds=15 * DAY)


@dataclass(frozen=True)
class Planted:
    """One fault: what it is, what it replaces, the outage in which it shows, and how."""

    fault: str
    where: object
    name: str
    by: Any
    scenario: Scenario
    shows: str
    """What the report says then."""


def _nothing(*_: object, **__: object) -> None:
    return None


FAULTS = (
    Planted("waits out the visibility timeout", app.Service, "_postpone", _nothing, QUIET, "given up"),
    Planted("tries again after half a minute, for ever", backoff, "LONGEST", 30, QUIET, "given up"),
    Planted("has jitter of a half, always", backoff, "SPREAD", 10**9, QUIET, "given up"),
    Planted("lets the queue drop what is old", backoff, "is_last_call", lambda _: False, FORTNIGHT, "lost"),
    Planted("asks a side that is down", breaker.Circuits, "attempt", lambda *_: nullcontext(), HOURS, "calls to what"),
    Planted("sends no probe", breaker.Circuits, "_open_for", lambda *_: 1e9, HOURS, "left in the queue"),
)


def shown(planted: Planted) -> list[str]:
    """Return what the simulation says of a fault; empty where it sees nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted.where, planted.name, planted.by)
        report = simulate(planted.scenario)
    return [fault for fault in report.faults if planted.shows in fault]


def run(workers: int = 2) -> int:
    """Simulate each fault, say whether it was caught and by what, and return how many were not."""
    missed = 0
    with ProcessPoolExecutor(workers) as pool:
        for planted, faults in zip(FAULTS, pool.map(_shown, range(len(FAULTS))), strict=True):
            verdict, why = ("caught", faults[0]) if faults else ("MISSED", "nothing shows it")
            print(f"  {verdict}: a handler that {planted.fault}: {planted.scenario.name}: {why}", flush=True)
            missed += not faults
    print(f"deliberate faults in outages: {len(FAULTS) - missed} of {len(FAULTS)} caught")
    return missed


def _shown(number: int) -> list[str]:
    return shown(FAULTS[number])
