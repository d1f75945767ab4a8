"""What must hold, said without the handler's code: which rule speaks of what, and what equal means."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from handler.core.model import Original, Rule, Stamp
from tests.proof.history import History
from tests.proof.world import FOREIGN, PROVENANCE, STAGED, Copy

UNKNOWN = "?"
"""The rule of a copy that does not say by which it was made."""


class Invariant(StrEnum):
    """Each by a name that a deliberate fault can be held to."""

    UNCONDITIONAL = "a write without a condition"
    NOTHING_THERE = "a delete or patch of nothing"
    NEVER_WAS = "a read of a state that never was"
    TIME_GOES_BACK = "a patch sets customTime back, which GCS refuses"
    MIXED = "a copy has the bytes of one state and the attributes of another, or of none"
    NOT_ASKED_FOR = "an object was copied that no rule asks for"
    WENT_BACK = "an older state replaced a newer copy"
    DELETED_NEWER = "an older state deleted a newer copy"
    DELETED_FOREIGN = "an object of somebody else's was deleted"
    DELETED_LIVE = "a copy was deleted whose key is live"
    DELETED_OTHERS = "a copy was deleted by an event of another key"
    DELETED_KEPT = "a copy was deleted whose rule does not replicate deletes"
    NO_END = "the copy is written without end"
    NEVER_ENDS = "no order of events comes to an end"
    LEFT = "a copy is left of what was deleted"
    PART_LEFT = "a staged part is left that nothing needs"
    MISSING = "the end is not equal: there is no copy"
    BYTES = "the end is not equal: the bytes differ"
    ATTRIBUTES = "the end is not equal: the attributes differ"


class BrokenError(Exception):
    """An invariant does not hold; `steps` is how it came to that."""

    def __init__(self, invariant: Invariant, history: str, steps: tuple[str, ...] = ()) -> None:
        self.invariant, self.history, self.steps = invariant, history, steps
        super().__init__("\n".join([f"{invariant}, in the history {history!r}:", *(f"  {step}" for step in steps)]))


# --- routes


def routes(rules: tuple[Rule, ...], key: str) -> dict[str, list[Rule]]:
    """Return the rules that cover a key by the name that each gives its copy, the highest priority first."""
    found: dict[str, list[Rule]] = {}
    for rule in sorted(rules, key=lambda rule: -rule.priority):
        if key.startswith(rule.prefix):
            renamed = key if rule.replace_prefix is None else rule.replace_prefix + key.removeprefix(rule.prefix)
            name = f"{rule.destination.removeprefix('gs://')}/{rule.destination_prefix}{renamed}"
            found.setdefault(name, []).append(rule)
    return found


def asked_for(rules: list[Rule], original: Original) -> Rule | None:
    """Return the rule that an object is copied by: the first whose tags it has."""
    return next((rule for rule in rules if all(original.tags.get(name) == of for name, of in rule.tags.items())), None)


def deletes(rules: list[Rule], made_by: str) -> bool:
    """Whether a copy goes with its object: as the rule says that made it; where that is gone, as all others say."""
    return all(rule.deletes for rule in [rule for rule in rules if rule.id == made_by] or rules)


# --- equality


def attributes(stamp: Stamp) -> tuple[object, ...]:
    """Return what a copy carries that is the object's: all but the replicator's own notes and the class."""
    metadata = {name: value for name, value in stamp.metadata.items() if not name.startswith(PROVENANCE)}
    return stamp.headers, metadata, stamp.custom_time


def wanted(history: History, original: Original, rule: Rule) -> Stamp:
    """Return what a copy of an object must carry by a rule, as the destination has it then."""
    tags: Mapping[str, str] = original.tags if rule.replicate_tags else {}
    metadata = {**original.user_metadata, **{f"s3-tag-{name}": value for name, value in tags.items()}}
    kind = rule.storage_classes.get(original.storage_class, rule.storage_classes.get("*"))
    stamp = Stamp(headers=original.headers, metadata=metadata, custom_time=original.last_modified, storage_class=kind)
    return history.stored(stamp)


# --- the checks


def check_deletion(history: History, changes: int, name: str, copy: Copy | None, by: tuple[str, int]) -> None:
    """Check a delete of a copy.

    Args:
        history: in which it happens.
        changes: how many there were at the source.
        name: the copy's.
        copy: what is deleted.
        by: the key of the event that it is deleted for, and the state of it that was seen last.
    """

    def broken(invariant: Invariant) -> BrokenError:
        return BrokenError(invariant, history.name, (f"delete {name}",))

    if copy is None:
        raise broken(Invariant.NOTHING_THERE)
    if copy.state == STAGED:
        return
    if copy.state == FOREIGN:
        raise broken(Invariant.DELETED_FOREIGN)
    key, looked = by
    if key != copy.key:
        live = history.states[history.version(copy.key, changes)].original
        raise broken(Invariant.DELETED_LIVE if live else Invariant.DELETED_OTHERS)
    if history.states[looked].original:
        raise broken(Invariant.DELETED_LIVE)
    if looked < copy.state:
        raise broken(Invariant.DELETED_NEWER)
    rules = routes(history.rules[history.ruleset(changes)], key)[name]
    if not deletes(rules, copy.rule):
        raise broken(Invariant.DELETED_KEPT)


def check_copy(history: History, was: Copy | None, copy: Copy, name: str, rules: int) -> Copy:
    """Check what was written for a key, and return it with the rule that asks for it."""
    state = history.states[copy.state]

    def broken(invariant: Invariant) -> BrokenError:
        return BrokenError(invariant, history.name, (f"{name}: {copy.content!r} of state {copy.state}",))

    rule = asked_for(routes(history.rules[rules], copy.key)[name], state.original) if state.original else None
    if rule is None or state.original is None:
        raise broken(Invariant.NOT_ASKED_FOR)
    right = copy.content == state.content
    if not right or attributes(history.stamp(copy.carried)) != attributes(wanted(history, state.original, rule)):
        raise broken(Invariant.MIXED)
    if was is not None and was.key == copy.key and copy.state < was.state:
        raise broken(Invariant.WENT_BACK)
    return copy._replace(rule=rule.id)


def check_end(history: History, objects: Mapping[str, Copy]) -> None:
    """Check what must hold once the source is quiet and every event is acknowledged."""
    if left := [name for name, copy in objects.items() if copy.state == STAGED]:
        raise BrokenError(Invariant.PART_LEFT, history.name, tuple(left))
    owners: dict[str, list[str]] = {}
    rules = history.rules[history.ruleset(len(history.changes))]
    for key in {state.key for state in history.states if state.original}:
        for name in routes(rules, key):
            owners.setdefault(name, []).append(key)
    for name, keys in owners.items():
        if len(keys) == 1:  # of keys with one name, equality is not defined
            _check_pair(history, keys[0], name, objects.get(name), routes(rules, keys[0])[name])


def _check_pair(history: History, key: str, name: str, copy: Copy | None, rules: list[Rule]) -> None:
    state = history.states[history.version(key, len(history.changes))]

    def broken(invariant: Invariant) -> BrokenError:
        return BrokenError(invariant, history.name, (f"end: {name}",))

    if state.original is None:
        replaced = copy is not None and copy.state >= 0 and copy.content != history.states[copy.state].content
        if copy is not None and copy.key == key and copy.rule != UNKNOWN and not replaced and deletes(rules, copy.rule):
            raise broken(Invariant.LEFT)
        return
    rule = asked_for(rules, state.original)
    if rule is None:
        return
    if copy is None:
        raise broken(Invariant.MISSING)
    if copy.content != state.content:
        raise broken(Invariant.BYTES)
    has, must = history.stamp(copy.carried), wanted(history, state.original, rule)
    of_class = rule.storage_classes and "class" not in history.third
    if attributes(has) != attributes(must) or (of_class and has.storage_class != must.storage_class):
        raise broken(Invariant.ATTRIBUTES)


def check_patch(history: History, was: Copy | None, stamp: Stamp, name: str) -> Copy:
    """Check that there is something to patch, and that GCS would take it; return what is there."""
    if was is None:
        raise BrokenError(Invariant.NOTHING_THERE, history.name, (f"patch {name}",))
    before = history.stamp(was.carried).custom_time
    if before is not None and (stamp.custom_time is None or stamp.custom_time < before):
        raise BrokenError(Invariant.TIME_GOES_BACK, history.name, (f"patch {name}",))
    return was
