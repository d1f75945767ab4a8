"""`make prove`: the claim of docs/proof.md, checked on the real code."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from handler.reconcile import reconcile
from tests.proof import fuzz, outage_faults, outages, storm
from tests.proof.explore import BrokenError, Explorer
from tests.proof.histories import in_parts, large, large_in_parts, thorough
from tests.proof.mutants import MUTANTS, caught

WALKS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove, print what was looked at, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the storm and of the made-up input (default: 1)")
    parser.add_argument("--only", choices=("exploration", "outages", "storm", "fuzz"), help="one part of the proof")
    parser.add_argument("--objects", type=int, default=storm.FULL.objects, help="in the storm (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    divergences = 0
    if chosen.only in {None, "exploration"}:
        with ProcessPoolExecutor(chosen.workers) as pool:
            divergences += _explore(pool) + _walk(pool) + _mutate(pool)
    if chosen.only in {None, "outages"}:
        divergences += outages.run(workers=chosen.workers) + outage_faults.run(chosen.workers)
    if chosen.only in {None, "storm"}:
        divergences += storm.run(storm.scaled(chosen.objects), chosen.seed)
    if chosen.only in {None, "fuzz"}:
        divergences += fuzz.run(chosen.seed)
    print(f"proof: {divergences} divergences, {time.monotonic() - began:.0f} s")
    return 1 if divergences else 0


def _exhaustive() -> list[Explorer]:
    return [*thorough(reconcile), *in_parts(reconcile)]


def _long() -> list[Explorer]:
    return [*large(reconcile), *large_in_parts(reconcile)]


def _explore(pool: ProcessPoolExecutor) -> int:
    count = len(_exhaustive())
    states = ends = divergences = 0
    fired: Counter[str] = Counter()
    for name, seen, ended, faults, broken in pool.map(_explore_one, range(count)):
        states, ends = states + seen, ends + ended
        fired.update(faults)
        print(f"  {seen:>9,} states  {name}", flush=True)
        divergences += _say(broken)
    summary = f"{count} histories, {states:,} distinct states, {ends:,} ends, {divergences} divergences"
    print(f"explored exhaustively: {summary}")
    print("  faults fired: " + ", ".join(f"{kind} {number:,}" for kind, number in sorted(fired.items())))
    return divergences


def _explore_one(number: int) -> tuple[str, int, int, dict[str, int], str]:
    explorer = _exhaustive()[number]
    budgets = f"{explorer.duplicates} duplicate, {explorer.crashes} crash, {explorer.losses} lost answer"
    broken = ""
    try:
        explorer.exhaust()
    except BrokenError as error:
        broken = str(error)
    return f"{explorer.history.name}; {budgets}", explorer.states, explorer.ends, explorer.fired, broken


def _walk(pool: ProcessPoolExecutor) -> int:
    count = len(_long())
    steps = divergences = 0
    for taken, broken in pool.map(_walk_one, range(count)):
        steps += taken
        divergences += sum(map(_say, broken))
    print(f"walked at random: {count} long histories, {WALKS:,} seeds each, {steps:,} steps, {divergences} divergences")
    return divergences


def _walk_one(number: int) -> tuple[int, list[str]]:
    explorer = _long()[number]
    steps, broken = 0, []
    for seed in range(WALKS):
        try:
            steps += explorer.walk(seed)
        except BrokenError as error:
            broken.append(str(error))
    return steps, broken


def _mutate(pool: ProcessPoolExecutor) -> int:
    missed = 0
    for mutant, broken in zip(MUTANTS, pool.map(_invariant, range(len(MUTANTS))), strict=True):
        verdict, shown = ("caught", broken) if broken else ("MISSED", "nothing shows it")
        print(f"  {verdict}: a loop that {mutant.fault}: {shown}", flush=True)
        missed += not broken
    print(f"deliberate faults: {len(MUTANTS) - missed} of {len(MUTANTS)} caught")
    return missed


def _invariant(number: int) -> str:
    broken = caught(MUTANTS[number])
    return broken.invariant if broken else ""


def _say(broken: str) -> int:
    if broken:
        print(f"DIVERGENCE: {broken}")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
