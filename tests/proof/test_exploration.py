"""The short form of `make prove`: the real loop under every interleaving of small histories, and faults in it."""

from __future__ import annotations

import pytest

from handler.reconcile import reconcile
from tests.proof.explore import BrokenError, Explorer
from tests.proof.histories import large, quick
from tests.proof.mutants import MUTANTS, Mutant, caught


@pytest.mark.parametrize("explorer", list(quick(reconcile)), ids=lambda explorer: explorer.history.name)
def test_every_interleaving_ends_equal(explorer: Explorer) -> None:
    explorer.exhaust()
    assert explorer.ends > 0
    budgets = {"duplicate": explorer.duplicates, "crash": explorer.crashes, "lost answer, unavailable": explorer.losses}
    dead = not any(state.original for state in explorer.history.states)  # nothing is ever written
    assert [kind for kind, budget in budgets.items() if budget and not explorer.fired.get(kind)] == (
        ["lost answer, unavailable"] if dead else []
    )


@pytest.mark.parametrize("explorer", list(large(reconcile)), ids=lambda explorer: explorer.history.name[-30:])
def test_random_walks_through_long_histories_end_equal(explorer: Explorer) -> None:
    lengths = [explorer.walk(seed) for seed in range(20)]
    assert max(lengths) > 100


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not (m.of_parts or m.slow)], ids=lambda mutant: mutant.fault)
def test_a_deliberate_fault_is_caught(mutant: Mutant) -> None:
    """Those of the fan-out and what takes longer are for `make prove`."""
    broken = caught(mutant)
    assert broken is not None, f"a loop that {mutant.fault} passes the exploration"
    assert broken.invariant


def test_a_fault_shows_a_history_that_replays_it() -> None:
    broken = caught(MUTANTS[0])
    assert broken is not None
    assert any("source:" in step for step in broken.steps)
    assert any("worker" in step for step in broken.steps)


def test_a_walk_with_the_same_seed_goes_the_same_way() -> None:
    mutant = next(mutant for mutant in MUTANTS if "existence" in mutant.fault).reconcile()

    def first_failure() -> tuple[str, ...]:
        for seed in range(200):
            try:
                next(large(mutant)).walk(seed)
            except BrokenError as broken:
                return broken.steps
        raise AssertionError("no walk caught the fault")

    assert first_failure() == first_failure()
