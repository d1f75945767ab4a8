"""Deliberate faults in the loop: a check that does not catch each of them proves nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from handler import reconcile as real
from tests.proof.explore import BrokenError
from tests.proof.histories import quick, thorough
from tests.proof.world import Reconcile

_ANY = "type(expect)(-1, -1)"


@dataclass(frozen=True)
class Mutant:
    """One fault: what it is, and how it is written into handler/reconcile.py."""

    fault: str
    old: str
    new: str

    def reconcile(self) -> Reconcile:
        """Return the loop with the fault in it."""
        source = Path(real.__file__).read_text()
        if source.count(self.old) != 1:
            raise ValueError(
                f"the fault {self.fault!r} no longer fits: {self.old!r} stands {source.count(self.old)} times"
            )
        module = ModuleType("mutant")
        sys.modules["mutant"] = module  # dataclasses look their module up
        exec(compile(source.replace(self.old, self.new), "mutant", "exec"), module.__dict__)  # noqa: S102 - our own text
        found: Reconcile = module.reconcile
        return found


MUTANTS = (
    Mutant("acknowledges without the last look", "        return self._is_handed_over()\n", "        return True\n"),
    Mutant(
        "acknowledges the fast path without the last look",
        "        loop.try_absent()\n",
        "        loop.try_absent()\n"
        "        if loop.actions:\n"
        "            loop.decision = Decision(Action.NOTHING, '', route.rules[0])\n"
        "            return loop.outcome()\n",
    ),
    Mutant(
        "takes a failed condition for success",
        "        except Moved:\n            self.replica = None\n        return",
        "        except Moved:\n            return True\n        return",
    ),
    Mutant(
        "takes a lost answer for success",
        "        except Moved:\n            self.replica = None\n        return",
        "        except Unavailable:\n            return True\n"
        "        except Moved:\n            self.replica = None\n        return",
    ),
    Mutant(
        "puts without a condition",
        "self._put(body, decision.stamp, expect)",
        f"self._put(body, decision.stamp, {_ANY})",
    ),
    Mutant(
        "deletes without a condition",
        "destination.delete(self.name, expect=expect)",
        f"destination.delete(self.name, expect={_ANY})",
    ),
    Mutant(
        "patches without a condition",
        "mapping.with_check(decision.stamp, self.check), expect=expect)",
        f"mapping.with_check(decision.stamp, self.check), expect={_ANY})",
    ),
    Mutant("reads whatever state there is", "open(self.key, at=original)", "open(self.key)"),
    Mutant(
        "asks the source before the destination",
        "        if self.replica is None:\n"
        "            self.replica = self.route.destination.head(self.name)\n"
        "        staged = self._staged()\n"
        "        self.original = self.route.source.head(self.key)\n",
        "        staged = self._staged()\n"
        "        self.original = self.route.source.head(self.key)\n"
        "        if self.replica is None:\n"
        "            self.replica = self.route.destination.head(self.name)\n",
    ),
    Mutant(
        "asks the source only once",
        "self.original = self.route.source.head(self.key)",
        "self.original = self.original or self.route.source.head(self.key)",
    ),
    Mutant(
        "believes a wrong guess",
        "self.replica = None  # the guess was wrong",
        "self.replica = Replica()  # the guess was wrong",
    ),
    Mutant("deletes what is not its own", "if not mapping.is_ours(replica, rule):", "if False:"),
    Mutant("takes existence for equality", "if mapping.is_equal(original, replica, stamp):", "if replica.exists:"),
    Mutant(
        "takes equal bytes for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if mapping.has_same_bytes(original, replica, stamp):",
    ),
    Mutant(
        "patches where bytes differ",
        "if mapping.has_same_bytes(original, replica, stamp) and",
        "if replica.exists and",
    ),
    Mutant("never deletes", "return Decision(Action.DELETE,", "return Decision(Action.NOTHING,"),
)


def caught(mutant: Mutant) -> BrokenError | None:
    """Return how the exploration catches the fault, None where it does not."""
    reconcile = mutant.reconcile()
    try:
        for explorers in (quick, thorough):
            for explorer in explorers(reconcile):
                explorer.exhaust()
    except BrokenError as broken:
        return broken
    return None
