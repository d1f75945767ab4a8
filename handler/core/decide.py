"""What makes a replica equal to its original, decided from one look at both sides. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from handler.core import mapping
from handler.core.errors import Refused
from handler.core.model import Original, Replica, Rule, Stamp

DRY_RUN = "dry run: would "
"""What the reason begins with where only a dry run keeps the loop from acting."""
EQUAL = "equal"
"""Why nothing is left to do, in the common case."""


class Action(StrEnum):
    """What one look at both sides asks for."""

    NOTHING = "nothing"
    PUT = "put"
    PATCH = "patch"
    DELETE = "delete"
    HAND_OVER = "hand over"
    """A put whose parts others are to finish. `decide` does not return it."""
    DEFER = "defer delete"
    """A delete that is sent to the deletes queue. `decide` does not return it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, why, and by which rule; what to write with it, where something is written."""

    action: Action
    why: str
    rule: Rule
    stamp: Stamp = Stamp()
    original: Original | None = None
    """The state that the stamp is of, if it is all that a copy of it carries."""

    def without_spelling(self, replica: Replica) -> Decision:
        """Return what is left of a patch that made this replica: nothing, if only the store's spelling differs."""
        ours, wanted = mapping.provenance(replica.stamp.metadata), mapping.provenance(self.stamp.metadata)
        if self.action is not Action.PATCH or ours != wanted:
            return self
        return Decision(Action.NOTHING, EQUAL, self.rule)

    def held_back(self, *, dry_run: bool, deferred: bool) -> Decision:
        """Return what may be done at once: nothing in a dry run, and no delete that the deletes queue takes."""
        if dry_run and self.action is not Action.NOTHING:
            return Decision(Action.NOTHING, f"{DRY_RUN}{self.action}: {self.why}", self.rule)
        return replace(self, action=Action.DEFER) if deferred and self.action is Action.DELETE else self


def decide(  # noqa: PLR0913 - two by keyword
    key: str,
    original: Original | None,
    replica: Replica,
    rules: tuple[Rule, ...],
    *,
    is_name_shared: bool = False,
    before: Decision | None = None,
) -> Decision:
    """Return what makes the replica equal to the original. Pure.

    Args:
        key: the source's.
        original: its state, None where there is no object.
        replica: the destination's state.
        rules: those that cover the key and share the destination, the highest priority first; not empty.
        is_name_shared: whether a rule gives the copy's name to another key as well.
        before: what was decided before; its rule and stamp are right still if it was of the same original.

    Raises:
        Refused: the object cannot be replicated as it is.
    """
    if original is None:
        return _decide_removal(key, replica, rules, is_name_shared=is_name_shared)
    if before and before.original == original:
        rule, stamp = before.rule, before.stamp
    elif matching := next((rule for rule in rules if rule.matches(original)), None):
        rule, stamp = matching, mapping.stamp_of(original, matching)
    else:
        names = " and ".join(repr(rule.id) for rule in rules)
        return Decision(Action.NOTHING, f"excluded by {names}: the tags are not those asked for", rules[0])
    if is_there := replica.exists:
        if mapping.is_equal(original, replica, stamp):
            return Decision(Action.NOTHING, EQUAL, rule, stamp, original)
        if mapping.has_same_bytes(original, replica, stamp) and not mapping.is_earlier(stamp, replica.stamp):
            # A customTime that would go back is refused: https://cloud.google.com/storage/docs/metadata#custom-time
            patch = mapping.before_rewrite(original, replica, stamp)
            return Decision(Action.PATCH, "the bytes are equal, the metadata is not", rule, patch)
    if original.archived:
        raise Refused(
            f"{original.key!r} is archived ({original.storage_class}): restore it, and its event replicates it",
            code="SrcObjectArchived",
        )
    return Decision(Action.PUT, "the bytes differ" if is_there else "no replica", rule, stamp, original)


def _decide_removal(key: str, replica: Replica, rules: tuple[Rule, ...], *, is_name_shared: bool) -> Decision:
    """Return what becomes of the copy of a key that the source no longer has.

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
