"""`make prove`: the claim of docs/proof.md, checked on the real code."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.proof import fuzz, liveness, outage_faults, outages, planted, storm, storm_fanout
from tests.proof.explore import Explorer
from tests.proof.faults import LOOP
from tests.proof.faults_of_routes import ROUTES
from tests.proof.histories import in_parts, large, large_in_parts, thorough
from tests.proof.invariants import BrokenError
from tests.proof.mutants import caught
from tests.proof.planted import PLANTED
from tests.proof.routes import DIMENSIONS, Family, deep
from tests.proof.world import REAL

WALKS = 500
MUTANTS = (*LOOP, *ROUTES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove, print what was looked at, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the storm and of the made-up input (default: 1)")
    parser.add_argument(
        "--only", choices=("exploration", "outages", "liveness", "storm", "fuzz"), help="one part of the proof"
    )
    parser.add_argument("--objects", type=int, default=storm.FULL.objects, help="in the storm (default: %(default)s)")
    parser.add_argument("--kills", type=int, help="let the storm be of so many SIGKILLs only, all judged (make kills)")
    parser.add_argument("--fan-out-kills", type=int, help="let it be of one huge object (make fanout-kills)")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    divergences = 0
    if chosen.only in {None, "exploration"}:
        with ProcessPoolExecutor(chosen.workers) as pool:
            divergences += _explore(pool) + _walk(pool) + _mutate(pool) + _plant(pool)
    if chosen.only in {None, "outages"}:
        divergences += outages.run(workers=chosen.workers) + outage_faults.run(chosen.workers)
    if chosen.only in {None, "liveness"}:
        divergences += liveness.run(workers=chosen.workers)
    if chosen.only in {None, "storm"}:
        divergences += _storm(chosen)
    if chosen.only in {None, "fuzz"}:
        divergences += fuzz.run(chosen.seed)
    print(f"proof: {divergences} divergences, {time.monotonic() - began:.0f} s")
    return 1 if divergences else 0


def _storm(chosen: argparse.Namespace) -> int:
    """Let the storm pass, or the one that is asked for in its place."""
    if chosen.fan_out_kills:
        return storm_fanout.storm(chosen.fan_out_kills, chosen.seed)
    scale = storm.of_kills(chosen.kills) if chosen.kills else storm.scaled(chosen.objects)
    return storm.run(scale, chosen.seed)


def _exhaustive() -> list[tuple[str, Explorer]]:
    """All that is explored exhaustively, each with its dimension."""
    families: dict[str, Family] = {"one key": thorough, "in parts": in_parts}
    families |= {family.__name__.replace("_", " "): deep(family) for family in DIMENSIONS}
    return [(name, explorer) for name, family in families.items() for explorer in family(REAL)]


def _long() -> list[Explorer]:
    return [*large(REAL), *large_in_parts(REAL)]


def _explore(pool: ProcessPoolExecutor) -> int:
    explorers = _exhaustive()
    divergences = 0
    fired: Counter[str] = Counter()
    histories: Counter[str] = Counter()
    states: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    found = pool.map(_explore_one, range(len(explorers)))
    for (dimension, _), (name, seen, ended, faults, broken) in zip(explorers, found, strict=True):
        histories[dimension] += 1
        states[dimension] += seen
        ends[dimension] += ended
        fired.update(faults)
        print(f"  {seen:>9,} states  {dimension}: {name}", flush=True)
        divergences += _say(broken)
    for dimension, count in histories.items():
        print(f"  {dimension}: {count} histories, {states[dimension]:,} states, {ends[dimension]:,} ends")
    summary = f"{len(explorers)} histories, {states.total():,} distinct states, {ends.total():,} ends"
    print(f"explored exhaustively: {summary}, {divergences} divergences")
    print("  faults fired: " + ", ".join(f"{kind} {number:,}" for kind, number in sorted(fired.items())))
    return divergences


def _explore_one(number: int) -> tuple[str, int, int, dict[str, int], str]:
    explorer = _exhaustive()[number][1]
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
    for mutant, invariant in zip(MUTANTS, pool.map(_invariant, range(len(MUTANTS))), strict=True):
        right = invariant == mutant.invariant
        verdict = "caught" if right else f"NOT CAUGHT by {mutant.invariant!r} but by" if invariant else "MISSED"
        print(f"  {verdict}: code that {mutant.fault}: {invariant or 'nothing shows it'}", flush=True)
        missed += not right
    print(f"deliberate faults: {len(MUTANTS) - missed} of {len(MUTANTS)} caught, each by the invariant that it names")
    return missed


def _invariant(number: int) -> str:
    broken = caught(MUTANTS[number])
    return broken.invariant if broken else ""


def _plant(pool: ProcessPoolExecutor) -> int:
    missed = 0
    for fault, test in zip(PLANTED, pool.map(planted.caught, PLANTED), strict=True):
        print(f"  {'caught' if test else 'MISSED'}: code that {fault.fault}: {test or fault.test}", flush=True)
        missed += not test
    print(f"deliberate faults held to one test each: {len(PLANTED) - missed} of {len(PLANTED)} caught")
    return missed


def _say(broken: str) -> int:
    if broken:
        print(f"DIVERGENCE: {broken}")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
