"""Deliberate faults in the loop: a check that does not catch each of them proves nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from handler import composing, parts, plan, reconcile, staging
from tests.proof.explore import BrokenError
from tests.proof.histories import in_parts, large_in_parts, quick, thorough
from tests.proof.world import Reconcile

WALKS = 200
"""Random walks with each fault, where the exploration of small histories does not show it."""
_ANY = "type(expect)(-1, -1)"


@dataclass(frozen=True)
class Mutant:
    """One fault: what it is, and how it is written into a module of the handler's."""

    fault: str
    old: str
    new: str
    module: ModuleType = reconcile
    of_parts: bool = False
    """Whether it shows in large objects, which are then explored first."""
    slow: bool = False
    """Whether it takes longer to show than the suite has."""

    def reconcile(self) -> Reconcile:
        """Return the loop with the fault in it: each module anew, on those before it."""
        made: list[ModuleType] = []
        for module in (plan, staging, composing, parts, reconcile):
            copy = self._copied(module)
            own = {name: value for before in made for name, value in vars(before).items() if _is_of(value, before)}
            vars(copy).update({name: value for name, value in own.items() if name in vars(copy)})
            made.append(copy)
        found: Reconcile = made[-1].reconcile
        return found

    def _copied(self, module: ModuleType) -> ModuleType:
        text = Path(module.__file__ or "").read_text()
        if module is self.module:
            if text.count(self.old) != 1:
                raise ValueError(
                    f"the fault {self.fault!r} no longer fits: {self.old!r} stands {text.count(self.old)} times"
                )
            text = text.replace(self.old, self.new)
        copy = ModuleType(f"mutant of {module.__name__}")
        sys.modules[copy.__name__] = copy  # dataclasses look their module up
        exec(compile(text, copy.__name__, "exec"), copy.__dict__)  # noqa: S102 - our own text
        return copy


def _is_of(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


MUTANTS = (
    Mutant("acknowledges without the last look", "        return self._is_handed_over()\n", "        return True\n"),
    Mutant(
        "acknowledges the fast path without the last look",
        "        loop.try_absent(announced)\n",
        "        loop.try_absent(announced)\n"
        "        if loop.actions:\n"
        "            loop.decision = Decision(Action.NOTHING, '', route.rules[0])\n"
        "            return loop.outcome()\n",
    ),
    Mutant(
        "takes a failed condition for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Moved:\n            return True\n        return",
    ),
    Mutant(
        "takes a lost answer for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Unavailable:\n            return True\n"
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
    ),
    Mutant(
        "puts without a condition",
        "self._put(body, decision.stamp, expect)",
        f"self._put(body, decision.stamp, {_ANY})",
        slow=True,
    ),
    Mutant(
        "deletes without a condition",
        "destination.delete(self.name, expect=expect)",
        f"destination.delete(self.name, expect={_ANY})",
    ),
    Mutant(
        "patches without a condition",
        "destination.patch(self.name, stamp, expect=expect)",
        f"destination.patch(self.name, stamp, expect={_ANY})",
    ),
    Mutant("reads whatever state there is", "open(self.key, at=original)", "open(self.key)", slow=True),
    Mutant(
        "asks the source before the destination",
        "        if self.replica is None:\n"
        "            self.replica = self.route.destination.head(self.name)\n"
        "            if",
        "        if self.replica is None:\n"
        "            self.original = self.route.source.head(self.key)\n"
        "            self.replica = self.route.destination.head(self.name)\n"
        "            self.decision = self._decide(self.original, self.replica)\n"
        "            try:\n"
        "                self.replica = self._act(self.decision, self.original, self.replica)\n"
        "            except Moved:\n"
        "                self.replica = None\n"
        "            return self._is_handed_over()\n"
        "            if",
        slow=True,
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
    Mutant("deletes what is not its own", "if not mapping.is_ours(replica, rules[0], key):", "if False:"),
    Mutant("takes existence for equality", "if mapping.is_equal(original, replica, stamp):", "if replica.exists:"),
    Mutant(
        "takes equal bytes for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if mapping.has_same_bytes(original, replica, stamp):",
        slow=True,
    ),
    Mutant(
        "patches where bytes differ",
        "if mapping.has_same_bytes(original, replica, stamp) and",
        "if replica.exists and",
        slow=True,
    ),
    Mutant("never deletes", "return Decision(Action.DELETE,", "return Decision(Action.NOTHING,"),
    Mutant(
        "acknowledges an event as soon as its parts are handed over",
        "        if self.part is None:\n            raise Unavailable(",
        "        if self.part is None:\n            return True\n            raise Unavailable(",
        of_parts=True,
    ),
    Mutant(
        "leaves staged parts behind",
        "sweep(self.route.destination, self._unneeded(self.staged), self.go_on)",
        "pass",
        of_parts=True,
    ),
    Mutant(
        "composes without a condition",
        "[piece.name for piece in pieces], stamp, expect=expect)",
        f"[piece.name for piece in pieces], stamp, expect={_ANY})",
        composing,
        of_parts=True,
    ),
    Mutant(
        "names parts alike for every state",
        "_digest(repr(whole.state))",
        "_digest(whole.name)",
        plan,
        of_parts=True,
    ),
)


def caught(mutant: Mutant) -> BrokenError | None:
    """Return how the exploration catches the fault, None where it does not."""
    loop = mutant.reconcile()
    try:
        for explorers in (in_parts, quick) if mutant.of_parts else (quick, in_parts):
            for explorer in explorers(loop):
                explorer.exhaust()
        for explorer in large_in_parts(loop):
            for seed in range(WALKS):
                explorer.walk(seed)
        for explorer in thorough(loop):
            explorer.exhaust()
    except BrokenError as broken:
        return broken
    return None
