"""Lifecycle rules of a bucket, which act when a test says so, and not by themselves.

https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.store import versions, writes
from local_emulator.gcs.store.database import OBJECT, Op, stored

if TYPE_CHECKING:
    from local_emulator.gcs.model.resources import Bucket, Stored
    from local_emulator.gcs.store.database import Transaction

Rule = dict[str, Any]
COLDNESS = {"NEARLINE": 1, "COLDLINE": 2, "ARCHIVE": 3}
"""Rules move objects to colder classes only; every other class counts as 0."""


@dataclass(frozen=True)
class Candidate:
    """A live or noncurrent generation that a rule looks at."""

    stored: Stored
    newer: int
    """Newer generations of the same name."""
    now: datetime

    def is_days_after(self, field: str, days: Any) -> bool:
        """Return True if so many days have passed since the time in `field`."""
        text = self.stored.attributes.get(field)
        return text is not None and self.now - attributes.moment(text, field) >= timedelta(days=days)

    def is_before(self, field: str, day: Any) -> bool:
        """Return True if the time in `field` is before midnight (UTC) of that day."""
        text = self.stored.attributes.get(field)
        return text is not None and attributes.moment(text, field).date() < date.fromisoformat(day)


CONDITIONS: dict[str, tuple[str, Callable[[Candidate, Any], bool]]] = {
    "age": ("number", lambda one, days: one.is_days_after("timeCreated", days)),
    "createdBefore": ("date", lambda one, day: one.is_before("timeCreated", day)),
    "customTimeBefore": ("date", lambda one, day: one.is_before("customTime", day)),
    "daysSinceCustomTime": ("number", lambda one, days: one.is_days_after("customTime", days)),
    "daysSinceNoncurrentTime": ("number", lambda one, days: one.is_days_after("timeDeleted", days)),
    "isLive": ("flag", lambda one, flag: one.stored.live is flag),
    "matchesPrefix": ("texts", lambda one, texts: one.stored.name.startswith(tuple(texts))),
    "matchesStorageClass": ("texts", lambda one, texts: one.stored.attributes["storageClass"] in texts),
    "matchesSuffix": ("texts", lambda one, texts: one.stored.name.endswith(tuple(texts))),
    "noncurrentTimeBefore": ("date", lambda one, day: one.is_before("timeDeleted", day)),
    "numNewerVersions": ("number", lambda one, count: one.newer >= count),
}


def checked(value: Any) -> attributes.Attributes:
    """Return a bucket's lifecycle configuration.

    Raises:
        GcsError: it is none, or asks for an action or a condition that is not implemented.
    """
    rules = value.get("rule", []) if isinstance(value, dict) else None
    if not isinstance(rules, list):
        raise errors.invalid("Invalid value for lifecycle: its rule is a list.")
    for rule in rules:
        action, condition = (rule.get("action"), rule.get("condition")) if isinstance(rule, dict) else (None, None)
        if not isinstance(action, dict) or not isinstance(condition, dict) or not condition:
            raise errors.invalid("A lifecycle rule has an action and at least one condition.")
        _check_action(action)
        for name, wanted in condition.items():
            if name not in CONDITIONS:
                raise errors.not_implemented(f"the lifecycle condition {name}")
            if not _is_of_kind(CONDITIONS[name][0], wanted):
                raise errors.invalid(f"Invalid value for the lifecycle condition {name}: {wanted!r}")
    return {"rule": rules}


def _check_action(action: dict[str, Any]) -> None:
    if action.get("type") not in {"Delete", "SetStorageClass"}:
        raise errors.not_implemented(f"the lifecycle action {action.get('type')}")
    if action["type"] == "SetStorageClass" and action.get("storageClass") not in attributes.STORAGE_CLASSES:
        raise errors.invalid(f"Invalid storage class: '{action.get('storageClass')}'")


def _is_of_kind(kind: str, value: Any) -> bool:
    match kind:
        case "flag":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "texts":
            return isinstance(value, list) and all(isinstance(text, str) for text in value)
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def act(bucket: str, now: datetime) -> Op[list[dict[str, str]]]:
    """Take the due action, at most one, on each live and noncurrent generation of a bucket. Nobody is limited by it."""

    def op(tx: Transaction) -> list[dict[str, str]]:
        owner = writes.bucket_of(tx, bucket)
        done = []
        for one in _candidates(tx, bucket, now):
            action = _due(owner.attributes.get("lifecycle", {}).get("rule", []), one)
            if action and _take(tx, owner, one.stored, action):
                shown = {"name": one.stored.name, "generation": str(one.stored.generation), "action": action["type"]}
                done.append(shown)
        return done

    return op


def _candidates(tx: Transaction, bucket: str, now: datetime) -> list[Candidate]:
    query = (
        f"SELECT {OBJECT} FROM objects WHERE bucket = ? "  # noqa: S608 - constant column names
        f"UNION ALL SELECT {OBJECT} FROM retained WHERE bucket = ? AND ends IS NULL ORDER BY name, generation DESC"
    )
    found: list[Candidate] = []
    for row in tx.connection.execute(query, (bucket, bucket)).fetchall():
        one = stored(row)
        is_older = bool(found) and found[-1].stored.name == one.name
        found.append(Candidate(one, found[-1].newer + 1 if is_older else 0, now))
    return found


def _due(rules: list[Rule], one: Candidate) -> dict[str, Any] | None:
    """Return the action to take: Delete before SetStorageClass, and of these the one to the coldest class."""
    due = [
        rule["action"]
        for rule in rules
        if all(CONDITIONS[name][1](one, wanted) for name, wanted in rule["condition"].items())
    ]
    return max(due, key=lambda action: (action["type"] == "Delete", _coldness(action)), default=None)


def _coldness(resource: dict[str, Any]) -> int:
    return COLDNESS.get(resource.get("storageClass", ""), 0)


def _take(tx: Transaction, bucket: Bucket, old: Stored, action: dict[str, Any]) -> bool:
    """Take an action, unless it changes nothing or a hold or retention forbids it; return True if it was taken."""
    if action["type"] == "SetStorageClass":
        if _coldness(action) <= _coldness(old.attributes):
            return False
        moment = attributes.now()
        times = {"updated": moment, "timeStorageClassUpdated": moment}
        writes.changed(tx, old, old.attributes | {"storageClass": action["storageClass"]} | times)
        return True
    try:
        writes.check_unprotected(old, bucket, permanently=not versions.enabled(bucket))
    except errors.GcsError:
        return False  # it is tried again when the rules act next
    writes.remove(tx, old, bucket, permanently=not versions.enabled(bucket))
    return True
