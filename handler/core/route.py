"""What the loop is given for one key, and what it tells of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from handler.core.decide import EQUAL, Action
from handler.core.model import Original, Rule
from handler.core.parts import Parts
from handler.core.ports import Destination, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From one source to one destination: the rules that share both, the highest priority first."""

    source: Source
    destination: Destination
    rules: tuple[Rule, ...]
    is_name_shared: bool = False
    """Whether any rule gives the copy's name to another key of the source as well."""
    parts: Parts | None = None
    """How large objects are copied; None: in one stream like all others."""
    dry_run: bool = False
    """Whether to look, and change nothing."""
    defer_delete: Callable[[str], None] | None = None
    """Sends the delete of a key's copies to the deletes queue; None: deletes are carried out at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What it took to make one key equal."""

    rule: Rule
    actions: tuple[Action, ...]
    """What was done, in order; empty where the replica was equal already."""
    why: str
    """What the last look found."""
    name: str
    """The copy's name at the destination."""
    original: Original | None
    bytes: int = 0
    """Body bytes written."""
    check: str = ""
    """By which checksum what was written is known to be what S3 holds; "none" where S3 keeps none that can be."""

    @property
    def equal(self) -> bool:
        """Return True if there is a copy, and it is equal."""
        return self.why == EQUAL

    @property
    def changed(self) -> bool:
        """Return True if anything was changed at the destination."""
        return any(action is not Action.DEFER for action in self.actions)

    @property
    def done(self) -> str:
        """Return one word for the log: the last action, or the put that a patch completed."""
        actions = self.actions
        while len(actions) > 1 and actions[-1] is Action.PATCH:
            actions = actions[:-1]
        return actions[-1].value if actions else Action.NOTHING.value
