"""The short form of `make prove`: the real loop under every interleaving of small histories, and faults in it."""

from __future__ import annotations

import pytest

from tests.proof.explore import Explorer
from tests.proof.faults import LOOP
from tests.proof.faults_of_routes import ROUTES
from tests.proof.histories import large, quick
from tests.proof.invariants import BrokenError, Invariant
from tests.proof.mutants import Mutant, caught
from tests.proof.routes import DIMENSIONS, limits
from tests.proof.world import REAL

MUTANTS = (*LOOP, *ROUTES)
OF_ROUTES = [each for dimension in DIMENSIONS for each in dimension(REAL) if not each.history.queue]
"""What is handed over to a queue takes longer than all the rest, and is for `make prove`."""


@pytest.mark.parametrize("explorer", list(quick(REAL)), ids=lambda explorer: explorer.history.name)
def test_every_interleaving_ends_equal(explorer: Explorer) -> None:
    explorer.exhaust()
    assert explorer.ends > 0
    budgets = {"duplicate": explorer.duplicates, "crash": explorer.crashes, "lost answer, unavailable": explorer.losses}
    dead = not any(state.original for state in explorer.history.states)  # nothing is ever written
    assert [kind for kind, budget in budgets.items() if budget and not explorer.fired.get(kind)] == (
        ["lost answer, unavailable"] if dead else []
    )


@pytest.mark.parametrize("explorer", OF_ROUTES, ids=lambda each: each.history.name)
def test_routes_end_equal_and_delete_nothing_that_is_live(explorer: Explorer) -> None:
    explorer.exhaust()
    assert explorer.ends > 0 or explorer.writes
    assert all(explorer.fired.get(f"third party: {deed}") for deed in explorer.history.third)
    assert not explorer.cuts or explorer.fired.get("rewrite cut off")


@pytest.mark.parametrize(("explorer", "invariant"), list(limits(REAL)), ids=("rule gone", "not recorded"))
def test_what_is_said_not_to_hold_does_not_hold(explorer: Explorer, invariant: Invariant) -> None:
    """Once it does, its history belongs into a dimension, and docs/proof.md is to say so."""
    with pytest.raises(BrokenError) as broken:
        explorer.exhaust()
    assert broken.value.invariant == invariant


@pytest.mark.parametrize("explorer", list(large(REAL)), ids=lambda explorer: explorer.history.name[-30:])
def test_random_walks_through_long_histories_end_equal(explorer: Explorer) -> None:
    lengths = [explorer.walk(seed) for seed in range(20)]
    assert max(lengths) > 100


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not (m.of_parts or m.slow)], ids=lambda mutant: mutant.fault)
def test_a_deliberate_fault_is_caught(mutant: Mutant) -> None:
    """Those of the fan-out and what takes longer are for `make prove`."""
    broken = caught(mutant)
    assert broken is not None, f"a loop that {mutant.fault} passes the exploration"
    assert broken.invariant == mutant.invariant


def test_a_fault_shows_a_history_that_replays_it() -> None:
    broken = caught(MUTANTS[0])
    assert broken is not None
    assert any("source:" in step for step in broken.steps)
    assert any("worker" in step for step in broken.steps)


def test_a_walk_with_the_same_seed_goes_the_same_way() -> None:
    mutant = next(mutant for mutant in MUTANTS if "existence" in mutant.fault).code()

    def first_failure() -> tuple[str, ...]:
        for seed in range(200):
            try:
                next(large(mutant)).walk(seed)
            except BrokenError as broken:
                return broken.steps
        raise AssertionError("no walk caught the fault")

    assert first_failure() == first_failure()
