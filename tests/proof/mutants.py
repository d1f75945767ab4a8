"""How a deliberate fault is written into the code, and how the exploration catches it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import ModuleType

from handler.core import attempt, batch, composing, copying, decide, mapping, parts, plan, reconcile, route, staging
from tests.proof.histories import in_parts, large_in_parts, quick, thorough
from tests.proof.invariants import BrokenError, Invariant
from tests.proof.routes import Family
from tests.proof.world import Code

WALKS = 200
"""Random walks with each fault, where the exploration of small histories does not show it."""
MODULES = (plan, mapping, staging, composing, attempt, parts, decide, route, copying, reconcile, batch)
"""What faults are written into, each after those that it imports."""


@dataclass(frozen=True)
class Mutant:
    """One fault: what it is, and how it is written into a module of the handler's."""

    fault: str
    old: str
    new: str
    module: ModuleType = reconcile
    _: KW_ONLY
    invariant: Invariant
    """What it breaks: another that catches it fails the run."""
    families: tuple[Family, ...] = ()
    """Where it shows; none: in the histories of one key."""
    of_parts: bool = False
    """Whether it shows in large objects, which are then explored first."""
    slow: bool = False
    """Whether it takes longer to show than the suite has."""

    def code(self) -> Code:
        """Return the code with the fault in it: each module anew, on those before it."""
        made: dict[ModuleType, ModuleType] = {}
        for module in MODULES:
            copy = self._copied(module)
            for name, value in list(vars(copy).items()):
                vars(copy)[name] = _anew(value, made)
            made[module] = copy
        return Code(made[batch].Replicator, made[parts].Parts, made[mapping])

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


def _anew(value: object, made: Mapping[ModuleType, ModuleType]) -> object:
    """Return what stands for a module's import in the copies: a module, or what one of them defines."""
    if isinstance(value, ModuleType):
        return made.get(value, value)
    of = next((module for module in made if getattr(value, "__module__", None) == module.__name__), None)
    return getattr(made[of], getattr(value, "__name__", ""), value) if of else value


def caught(mutant: Mutant) -> BrokenError | None:
    """Return how the exploration catches the fault, None where it does not."""
    code = mutant.code()
    try:
        for family in mutant.families or ((in_parts, quick) if mutant.of_parts else (quick, in_parts)):
            for explorer in family(code):
                explorer.exhaust()
        if mutant.families:
            return None
        for explorer in large_in_parts(code):
            for seed in range(WALKS):
                explorer.walk(seed)
        for explorer in thorough(code):
            explorer.exhaust()
    except BrokenError as broken:
        return broken
    return None
