"""The heart: drive one key to equality, whatever happened to it, in whichever order that is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum

from handler.core import mapping
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import SMALL, CopyTask, Generation, Original, Replica, Rule, Stamp
from handler.core.parts import Parts
from handler.core.plan import STAGING, staging_of, state_prefix
from handler.core.ports import Composer, Destination, Reader, Source
from handler.core.readers import check_of
from handler.core.staging import leftovers, sweep

DRY_RUN = "dry run: would "
"""What the reason begins with where only a dry run keeps the loop from acting."""
IN_PARTS = "InParts"
"""Code of what is no error but not done either: the event is kept until a look shows the copy made of parts."""
EQUAL = "equal"
"""Why nothing is left to do, in the common case."""
TURNS = 48
"""Looks at one key before it is left to a later delivery: it is being written faster than it can be copied."""


class Action(StrEnum):
    """What one look at both sides asks for."""

    NOTHING = "nothing"
    PUT = "put"
    PATCH = "patch"
    DELETE = "delete"
    HAND_OVER = "hand over"
    """Never decided on: a put whose parts others are to finish."""
    DEFER = "defer delete"
    """Never decided on: a delete that was sent to the deletes queue."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, why, and by which rule; what to write with it, where something is written."""

    action: Action
    why: str
    rule: Rule
    stamp: Stamp = Stamp()


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


@dataclass(frozen=True, slots=True, kw_only=True)
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
        """Whether there is a copy, and it is equal."""
        return self.why == EQUAL

    @property
    def changed(self) -> bool:
        """Whether anything was changed at the destination."""
        return any(action is not Action.DEFER for action in self.actions)

    @property
    def done(self) -> str:
        """One word for the log: the last action, or the put that a patch completed."""
        actions = self.actions
        while len(actions) > 1 and actions[-1] is Action.PATCH:
            actions = actions[:-1]
        return actions[-1].value if actions else Action.NOTHING.value


def decide(
    key: str, original: Original | None, replica: Replica, rules: tuple[Rule, ...], *, is_name_shared: bool = False
) -> Decision:
    """Say what makes the replica equal to the original. Pure.

    Args:
        key: the source's.
        original: its state, None where there is no object.
        replica: the destination's state.
        rules: those that cover the key and share the destination, the highest priority first; not empty.
        is_name_shared: whether a rule gives the copy's name to another key as well.

    Raises:
        Refused: the object cannot be replicated as it is.
    """
    if original is None:
        return _decide_removal(key, replica, rules, is_name_shared=is_name_shared)
    rule = next((rule for rule in rules if rule.matches(original)), None)
    if rule is None:
        names = " and ".join(repr(rule.id) for rule in rules)
        return Decision(Action.NOTHING, f"excluded by {names}: the tags are not those asked for", rules[0])
    stamp = mapping.stamp_of(original, rule)
    if mapping.is_equal(original, replica, stamp):
        return Decision(Action.NOTHING, EQUAL, rule, stamp)
    if mapping.has_same_bytes(original, replica, stamp) and not mapping.is_earlier(stamp, replica.stamp):
        # A customTime that would go back is refused: https://cloud.google.com/storage/docs/metadata#custom-time
        return Decision(
            Action.PATCH,
            "the bytes are equal, the metadata is not",
            rule,
            mapping.before_rewrite(original, replica, stamp),
        )
    if original.archived:
        raise Refused(
            f"{original.key!r} is archived ({original.storage_class}): restore it, and its event replicates it",
            code="SrcObjectArchived",
        )
    return Decision(Action.PUT, "the bytes differ" if replica.exists else "no replica", rule, stamp)


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

    Each turn knows the destination's state first, then asks for the source's, so the source is at least as new as
    what made the replica; it writes on the condition of the generation it knows. A lost race or an unknown outcome
    of its own is the same `Moved`: look again.

    Args:
        route: both sides and the rules.
        key: the source's key.
        guess_absent: begin as if the destination had been seen empty (design: the fast path). A wrong guess costs a
            refused write, never a wrong one.
        redelivered: the event was delivered before, and may have left staged parts behind.
        task: one part of a large copy, which is all that is to be done; nothing once the object is in another state.
        has_time: asked before each turn; False when there is no time left for another.

    Raises:
        Refused, Unavailable, Corrupt: as the adapters do. Nothing is half done: the key can be tried again.
        Unavailable: with the code `IN_PARTS` where others are copying it, or time ran out.
    """
    loop = _Loop(route, key, task, has_time, redelivered=redelivered)
    if loop.name.startswith(STAGING):
        raise Refused(f"{loop.name!r}: names that begin with {STAGING!r} are for parts", code="DstKeyInvalid")
    if guess_absent and not route.dry_run and has_time():
        loop.try_at_once(Replica())
    for _ in range(TURNS):
        if not has_time():
            raise Unavailable(f"no time is left to make {key!r} equal", code="OutOfTime")
        if loop.turn():
            return loop.outcome()
    raise Unavailable(f"{key!r} changed {TURNS} times while it was copied", code="KeyTooHot")


class _Loop:
    """One key's turns: what is known of the destination, and what was done so far."""

    def __init__(
        self, route: Route, key: str, task: CopyTask | None, has_time: Callable[[], bool], *, redelivered: bool
    ) -> None:
        self.route = route
        self.key = key
        self.task = task
        self.has_time = has_time
        self.name = route.rules[0].destination_key(key)
        self.replica: Replica | None = None
        self.original: Original | None = None
        self.decision: Decision | None = None
        self.actions: list[Action] = []
        self.bytes = 0
        self.check = ""
        self.in_parts = task is not None
        self.redelivered = redelivered
        self.lost = False
        self.patched: Replica | None = None
        """What this loop's own patch left; a store may normalise what it is given."""
        self.staged: Mapping[str, Replica] | None = None
        """What was listed of staged parts, once nothing else was left to do."""

    def try_at_once(self, replica: Replica) -> bool:
        """Put the object over `replica`, looked at and read by one GET; False where that was lost."""
        try:
            with self.route.source.open(self.key) as body:
                if body.size > SMALL:
                    return True
                decision = decide(self.key, body.original, replica, self.route.rules)
                if decision.action is Action.PUT:
                    self.replica = self._put(body, decision.stamp, replica.generation)
        except (Moved, Refused):
            self.replica = None  # the guess was wrong, or it may be: what holds is for the turns to find
            return False
        return True

    def turn(self) -> bool:
        """Look once and act on it; True where nothing is left to do, or nothing that is this loop's."""
        if self.replica is None:
            self.replica = self.route.destination.head(self.name)
            if self.lost and self.task is None:  # a hot key: the next state that is looked at may be gone as well
                self.lost = False
                if not self.try_at_once(self.replica):
                    return False
        self.original = self.route.source.head(self.key)
        self.decision = self._decide(self.original, self.replica)
        if self.decision.action is Action.PATCH and self._is_normalised(self.replica, self.decision.stamp):
            self.decision = Decision(Action.NOTHING, EQUAL, self.decision.rule)
        if self.route.dry_run:
            self.decision = _only_said(self.decision)
            return True
        if self.decision.action is Action.DELETE and self.route.defer_delete:
            self._defer(self.route.defer_delete)
            return self._is_swept()
        if self.decision.action is Action.NOTHING:
            return self._is_swept()
        self.staged = None
        try:
            self.replica = self._act(self.decision, self.original, self.replica)
        except Moved:
            self.replica, self.lost = None, True
        return self._is_handed_over()

    def _defer(self, defer_delete: Callable[[str], None]) -> None:
        """Send the delete to the deletes queue, once. The event is done with then: that message looks again."""
        if Action.DEFER not in self.actions:
            defer_delete(self.key)
            self.actions.append(Action.DEFER)

    def _is_normalised(self, replica: Replica, stamp: Stamp) -> bool:
        """Return True if the replica differs only in how the store writes what this loop has just patched."""
        is_own = self.patched is not None and self.patched.generation == replica.generation
        return is_own and mapping.provenance(replica.stamp.metadata) == mapping.provenance(stamp.metadata)

    def _is_swept(self) -> bool:
        """Remove staged parts that nothing needs. Return False where both sides are to be looked at once more before.

        Parts are listed, then the source is looked at, then they are removed. So they are of the state that the look
        found, which needs none, or of an older one.
        """
        if self.staged is None:
            self.staged = self._listed()
            if self.staged:
                self.replica = None
                return False
        sweep(self.route.destination, self._unneeded(self.staged), self.has_time)
        return True

    def _is_handed_over(self) -> bool:
        """Return True if others go on with the copy, and this part's message is done with.

        Raises:
            Unavailable: they go on, and the event is kept until it finds the copy equal.
        """
        if Action.HAND_OVER not in self.actions:
            return False
        if self.task is None:
            raise Unavailable(f"{self.key!r} is being copied in parts", code=IN_PARTS)
        return True

    def _decide(self, original: Original | None, replica: Replica) -> Decision:
        if self.task is not None and (original is None or not self.task.is_of(original)):
            return Decision(Action.NOTHING, "superseded: the part is of an older state", self.route.rules[0])
        rules, is_shared = self.route.rules, self.route.is_name_shared
        return decide(self.key, original, replica, rules, is_name_shared=is_shared)

    def _listed(self) -> Mapping[str, Replica]:
        """List what is staged for this name, if there may be anything; a part's worker whose state is over, its own."""
        destination, parts = self.route.destination, self.route.parts
        if not parts or not isinstance(destination, Composer):
            return {}
        earlier = self.redelivered and (self.original is None or parts.may_have_taken(self.original))
        if not (self.in_parts or earlier):
            return {}
        if self.task is not None and not (self.original and self.task.is_of(self.original)):
            return leftovers(destination, self.task)
        return destination.list(staging_of(self.name))

    def _unneeded(self, staged: Mapping[str, Replica]) -> Mapping[str, Replica]:
        """Of the staged parts, those to sweep once nothing is left to do.

        Only a part's worker whose own state is over may see parts of a newer one.
        """
        if self.task is None or (self.original and self.task.is_of(self.original)):
            return staged
        prefix = state_prefix(self.task)
        return {name: replica for name, replica in staged.items() if name.startswith(prefix)}

    def _act(self, decision: Decision, original: Original | None, replica: Replica) -> Replica:
        destination, expect = self.route.destination, replica.generation
        match decision.action:
            case Action.DELETE:
                destination.delete(self.name, expect=expect)
                replica = Replica()
            case Action.PATCH if original is not None:
                self.check = mapping.standing_check(original, replica)
                stamp = mapping.recorded(mapping.with_check(decision.stamp, self.check), replica)
                replica = destination.patch(self.name, stamp, expect=expect)
                self.patched = replica
            case Action.PUT if original is not None:
                return self._copy(original, decision, expect)
        self.actions.append(decision.action)
        return replica

    def _copy(self, original: Original, decision: Decision, expect: Generation) -> Replica:
        destination, parts = self.route.destination, self.route.parts
        if parts and parts.take(original, redelivered=self.redelivered) and isinstance(destination, Composer):
            return self._copy_in_parts(parts, destination, original, decision, expect)
        measured = parts.rate.measured(original.size) if parts and original.size > SMALL else nullcontext()
        with self.route.source.open(self.key, at=original) as body, measured:
            return self._put(body, decision.stamp, expect)

    def _copy_in_parts(
        self, parts: Parts, destination: Composer, original: Original, decision: Decision, expect: Generation
    ) -> Replica:
        self.in_parts = True
        work = self.task or CopyTask.of(original, decision.rule, self.name)
        job = parts.job(
            self.route.source, destination, original, work, decision.stamp.of_bytes, redelivered=self.redelivered
        )

        def stamp(check: str) -> Stamp:
            return mapping.recorded(mapping.with_check(decision.stamp, check))

        copied = parts.put(job, work, stamp, expect=expect, has_time=self.has_time)
        if copied is None:
            self.actions.append(Action.HAND_OVER)
            return Replica()
        self.actions.append(Action.PUT)
        self.check = copied.check
        self.bytes += original.size
        return copied.replica

    def _put(self, body: Reader, stamp: Stamp, expect: Generation) -> Replica:
        check = check_of(body.original)
        self.check = check.name if check else "none"
        stamp = mapping.recorded(mapping.with_check(stamp, self.check))
        replica = self.route.destination.put(self.name, body, stamp, expect=expect)
        self.actions.append(Action.PUT)
        self.bytes += body.size
        return replica

    def outcome(self) -> Outcome:
        """What came of it."""
        if self.decision is None:
            raise AssertionError("an outcome is asked for only after a turn")
        return Outcome(
            rule=self.decision.rule,
            actions=tuple(self.actions),
            why=self.decision.why,
            name=self.name,
            original=self.original,
            bytes=self.bytes,
            check=self.check,
        )


def _only_said(decision: Decision) -> Decision:
    """What a dry run makes of a decision."""
    if decision.action is Action.NOTHING:
        return decision
    return Decision(Action.NOTHING, f"{DRY_RUN}{decision.action}: {decision.why}", decision.rule)


def _decide_removal(key: str, replica: Replica, rules: tuple[Rule, ...], *, is_name_shared: bool) -> Decision:
    """Decide what becomes of the copy of a key that the source no longer has.

    The rule that made the copy decides. If no rule has that ID any more, each rule that shares the name must agree.
    A copy that names no rule was made by a release that did not name keys either: it may be of another key.
    """
    if not replica.exists:
        return Decision(Action.NOTHING, "neither side has it", rules[0])
    if not mapping.is_ours(replica, rules[0], key):
        return Decision(Action.NOTHING, "not this replicator's copy of that key: kept", rules[0])
    if is_name_shared and mapping.made_by(replica) is None:
        return Decision(
            Action.NOTHING, "it may be another key's copy, as it names neither key nor rule: kept", rules[0]
        )
    deciding = [rule for rule in rules if rule.id == mapping.made_by(replica)] or rules
    keeping = next((rule for rule in deciding if not rule.deletes), None)
    if keeping:
        return Decision(Action.NOTHING, f"the rule {keeping.id!r} does not replicate deletes: kept", keeping)
    return Decision(Action.DELETE, "no original", deciding[0])
