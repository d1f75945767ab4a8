"""A fault that lasts on one key, bucket or side: everything else ends equal in time, and all does once it ends.

    python -m tests.proof.liveness

The real handler runs in virtual time (`interleaved.py`) while keys of three buckets change (`liveness_load.py`) and a
reader looks at the destination all along (`reader.py`). `liveness_scenarios.py` has the faults and the bounds,
`liveness_run.py` the invariants, `liveness_faults.py` what is planted to see that they are looked after.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.proof.liveness_faults import PLANTED
from tests.proof.liveness_run import Report, simulate
from tests.proof.liveness_scenarios import FULL, Scenario


def run(scenarios: Sequence[Scenario] = FULL, workers: int = 2) -> int:
    """Simulate all, print what came of each, and return the number of broken invariants."""
    divergences = missed = 0
    with ProcessPoolExecutor(workers) as pool:
        for report in pool.map(simulate, scenarios):
            print(report, flush=True)
            for invariant, what in report.broken.items():
                print(f"DIVERGENCE: {report.scenario.name}: {invariant}: {what}")
            divergences += len(report.broken)
        for planted, report in zip(PLANTED, pool.map(_simulate_planted, range(len(PLANTED))), strict=True):
            is_caught = planted.invariant in report.broken
            verdict, shown = ("caught", planted.invariant) if is_caught else ("MISSED", "nothing shows it")
            print(f"  {verdict}: a handler that {planted.fault}: {shown}", flush=True)
            missed += not is_caught
    caught = f"{len(PLANTED) - missed} of {len(PLANTED)} planted faults caught"
    print(f"liveness: {len(scenarios)} scenarios, {divergences} divergences; {caught}")
    return divergences + missed


def _simulate_planted(number: int) -> Report:
    return PLANTED[number].simulate()


if __name__ == "__main__":
    sys.exit(1 if run() else 0)
