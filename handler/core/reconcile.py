"""The loop: drive one key to equality, whatever happened to it, in whichever order events tell it."""

from __future__ import annotations

from collections.abc import Callable

from handler.core import mapping
from handler.core.copying import Copying
from handler.core.decide import Action, Decision, decide
from handler.core.errors import IN_PARTS, Moved, Refused, Unavailable
from handler.core.model import SMALL, Generation, Original, Replica
from handler.core.route import Outcome, Route
from handler.core.task import CopyTask

TURNS = 48
"""Looks at one key before it is left to a later delivery: it is being written faster than it can be copied."""


def reconcile(  # noqa: PLR0913 - all but two by keyword: what a delivery tells
    route: Route,
    key: str,
    *,
    guess_absent: bool = False,
    redelivered: bool = False,
    task: CopyTask | None = None,
    has_time: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Make the replica of `key` equal to its original, and return only after a last look has shown it to be.

    Each attempt knows the destination's state first, then asks for the source's, so the source is at least as new as
    what made the replica. It writes on the condition of the generation it knows. A lost race or an unknown outcome
    of its own is the same `Moved`: look again.

    Args:
        route: both sides and the rules.
        key: the source's key.
        guess_absent: begin as if the destination had been seen empty (design: the fast path). A wrong guess costs a
            refused write, never a wrong one.
        redelivered: the event was delivered before, and may have left staged parts behind.
        task: one part of a large copy, which is all that is to be done; nothing once the object is in another state.
        has_time: asked before each attempt; False when there is no time left for another.

    Raises:
        Refused, Unavailable, Corrupt: as the adapters do. Nothing is half done: the key can be tried again.
        Unavailable: with the code `IN_PARTS` where others are copying it, or time ran out.
    """
    loop = _Loop(route, key, Copying(route, key, task, has_time, redelivered=redelivered))
    if guess_absent and not route.dry_run and has_time():
        loop.copy_at_once(Replica())
    for _ in range(TURNS):
        if not has_time():
            raise Unavailable(f"no time is left to make {key!r} equal", code="OutOfTime")
        if decision := loop.attempt():
            return loop.outcome(decision)
    raise Unavailable(f"{key!r} changed {TURNS} times while it was copied", code="KeyTooHot")


class _Loop:
    """One key's attempts: what is known of both sides, and what was done so far."""

    def __init__(self, route: Route, key: str, copying: Copying) -> None:
        self.route, self.key, self.copying = route, key, copying
        self.replica: Replica | None = None
        """What is at the destination; None: to be looked at."""
        self.original: Original | None = None
        self.decision: Decision | None = None
        """What was decided when a GET found the original; None: nothing yet."""
        self.patched: Generation | None = None
        """What this loop's own patch left; a store may normalise what it is given."""
        self.actions: list[Action] = []
        self.lost, self.bytes, self.check = False, 0, ""
        """Whether the last attempt lost a race; the bytes that were written, and the check that they passed."""

    def attempt(self) -> Decision | None:
        """Look at both sides and act on what they show; return the decision by which nothing is left to do, if any."""
        if self.replica is None:
            self.replica = self.route.destination.head(self.copying.name)
            if self.lost and not self.copying.task and not self.copy_at_once(self.replica):
                return None
        self.original = self.route.source.head(self.key)
        decision = self.decide(self.original, self.replica)
        if decision.action is Action.DEFER:
            self.defer()
        if decision.action in {Action.NOTHING, Action.DEFER}:
            self.replica = None
            return decision if self.copying.sweep(self.original) else None
        try:
            self.replica = self.act(decision, self.original, self.replica)
        except Moved:
            self.replica, self.lost = None, True
        return decision if Action.HAND_OVER in self.actions else None

    def copy_at_once(self, replica: Replica) -> bool:
        """Copy whatever one GET finds over `replica`; return False if that was lost.

        So a new object needs no look before, and a hot key's state is not gone by the time it is read.
        """
        self.lost = False
        try:
            with self.route.source.open(self.key) as body:
                if body.size <= SMALL:
                    decision = self.decision = decide(self.key, body.original, replica, self.route.rules)
                    if decision.action is Action.PUT:
                        copied = self.copying.put(body, decision.stamp, expect=replica.generation)
                        self.replica = self.did(Action.PUT, *copied)
        except (Moved, Refused):
            self.replica = None  # the guess was wrong, or it may be: what holds is for the attempts to find
            return False
        return True

    def decide(self, original: Original | None, replica: Replica) -> Decision:
        """Return what to do about what a look found."""
        if not self.copying.is_current(original):
            return Decision(Action.NOTHING, "superseded: the part is of an older state", self.route.rules[0])
        rules, shared = self.route.rules, self.route.is_name_shared
        decision = decide(self.key, original, replica, rules, is_name_shared=shared, before=self.decision)
        decision = decision.without_spelling(replica) if self.patched == replica.generation else decision
        return decision.held_back(dry_run=self.route.dry_run, deferred=self.route.defer_delete is not None)

    def act(self, decision: Decision, original: Original | None, replica: Replica) -> Replica:
        """Do what was decided, on the condition of the generation that was looked at; return what there is then.

        Raises:
            Moved: somebody else changed either side since: look again.
            Unavailable: others go on with the copy, and the event is kept until it finds the copy equal.
        """
        destination, name, expect = self.route.destination, self.copying.name, replica.generation
        if original is None:
            destination.delete(name, expect=expect)
            return self.did(decision.action, Replica())
        if decision.action is Action.PATCH:
            check = mapping.standing_check(original, replica)
            patched = destination.patch(name, mapping.checked(decision.stamp, check, replica), expect=expect)
            self.patched = patched.generation
            return self.did(Action.PATCH, patched, check)
        if copied := self.copying.copy(original, decision, expect=expect):
            return self.did(Action.PUT, *copied)
        if self.copying.task is None:
            raise Unavailable(f"{self.key!r} is being copied in parts", code=IN_PARTS)
        return self.did(Action.HAND_OVER, replica)

    def did(self, action: Action, after: Replica, check: str = "", size: int = 0) -> Replica:
        """Note an action, the check that the bytes passed, and their number; return what the action left."""
        self.actions.append(action)
        self.bytes, self.check = self.bytes + size, check or self.check
        return after

    def defer(self) -> None:
        """Send the delete to the deletes queue, once. The event is done with then: that message looks again."""
        if self.route.defer_delete and Action.DEFER not in self.actions:
            self.route.defer_delete(self.key)
            self.actions.append(Action.DEFER)

    def outcome(self, decision: Decision) -> Outcome:
        """Return what came of it."""
        what, actions = self.original, tuple(self.actions)
        return Outcome(decision.rule, actions, decision.why, self.copying.name, what, self.bytes, self.check)
