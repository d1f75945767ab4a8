"""A reader who looks at the destination all along: at every write, what it sees must be no older than what it saw.

The source numbers the changes of each key, and each copy shows which change it is of. A delete is a state too. After a
state has been seen, the reader may see it again or a newer one, and no copy only where the source has had a delete
since. Everything else is a step back.

One kind of it cannot be prevented, and is counted apart: a deleted state that comes back for a moment. GCS has no
generation for a name without an object. So a put on the condition that there is none succeeds after others have put
and deleted the same state meanwhile. The last look of the one that put it deletes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from handler.core.model import Generation, Replica, Rule, Stamp
from handler.core.ports import Reader as Body
from handler.core.tags import TAG
from tests.fakes import MemoryDestination

NUMBER = "number"
"""The user metadata that says which change an object is of; a tag of this name does, where the tags changed since."""


class Change(NamedTuple):
    """What happened to a key at the source."""

    number: int
    data: bytes | None
    """None: it was deleted."""
    only_tags: bool = False
    told: float = 0.0
    """When the queue hears of it first."""


class Copy(NamedTuple):
    """Where a key's copy is."""

    bucket: str
    key: str
    destination: str
    name: str


@dataclass
class _Seen:
    """What the reader knows of a copy."""

    newest: int = 0
    """The newest state that it saw: the change's number, for a delete the first that can have been it."""
    number: int = 0
    """The copy's, 0 where there is none."""
    came_back: float | None = None
    """Since when a state is there that had been deleted."""
    waits: Change | None = None
    """The latest change, until the copy is equal."""


@dataclass
class Reader:
    """Sees every write.

    Args:
        rules: no name may be the copy of two keys.
        clock: the time.
    """

    rules: Sequence[Rule]
    clock: Callable[[], float]
    steps_back: list[str] = field(default_factory=list)
    came_back: list[float] = field(default_factory=list)
    """Seconds for which each state was there that had been deleted."""
    looks: int = 0
    lags: list[tuple[Copy, float, float]] = field(default_factory=list)
    """Copy, seconds from its last change's event until it was equal, and when that was."""
    _changes: dict[Copy, list[Change]] = field(default_factory=dict)
    _seen: dict[Copy, _Seen] = field(default_factory=dict)
    _by_name: dict[tuple[str, str], Copy] = field(default_factory=dict)

    def copies(self, bucket: str, key: str) -> Iterator[tuple[Rule, Copy]]:
        """Yield the copies that a key has."""
        for rule in self.rules:
            if rule.source == bucket and rule.covers(key):
                yield rule, Copy(bucket, key, rule.destination, rule.destination_key(key))

    def changed(self, bucket: str, key: str, change: Change) -> None:
        """Hear of a change at the source."""
        for rule, copy in self.copies(bucket, key):
            if change.only_tags and not rule.replicate_tags:
                continue
            self._changes.setdefault(copy, []).append(change)
            self._seen.setdefault(copy, _Seen()).waits = change
            self._by_name[copy.destination, copy.name] = copy
            self._compare(copy)

    def sees(self, destination: str, name: str, replica: Replica, data: bytes) -> None:
        """Look at a name after a write."""
        self.looks += 1
        copy = self._by_name[destination, name]
        seen, changes = self._seen[copy], self._changes[copy]
        if replica.exists:
            number = _number(replica)
            state = next((change for change in changes if change.number == number), None)
            if state is None or (state.data is not None and state.data != data):
                self._complain(copy, f"bytes that are not of change {number}")
            if number < seen.number:
                self._complain(copy, f"change {number} over change {seen.number}")
            self._note(seen, number, is_back=number < seen.newest)
        else:
            deletes = [change.number for change in changes if change.data is None and change.number > seen.number]
            if not deletes:
                self._complain(copy, f"a delete of change {seen.number}, which the source has not deleted")
            self._note(seen, max([seen.newest, *deletes[:1]]), is_back=False)
        seen.number = number if replica.exists else 0
        self._compare(copy)

    def _note(self, seen: _Seen, number: int, *, is_back: bool) -> None:
        """Note what is newest, and how long a state was there that had been deleted."""
        now = self.clock()
        if is_back:
            seen.came_back = now if seen.came_back is None else seen.came_back
            return
        seen.newest = number
        if seen.came_back is not None:
            self.came_back.append(now - seen.came_back)
            seen.came_back = None

    def unequal(self) -> list[Copy]:
        """Return the copies that are not equal to their originals."""
        return [copy for copy, seen in self._seen.items() if seen.waits]

    def _complain(self, copy: Copy, what: str) -> None:
        self.steps_back.append(f"{self.clock():.2f} s: {copy.destination}/{copy.name}: {what}")

    def _compare(self, copy: Copy) -> None:
        seen = self._seen[copy]
        if seen.waits is None:
            return
        if seen.number == (0 if seen.waits.data is None else seen.waits.number):
            now = self.clock()
            self.lags.append((copy, max(0.0, now - seen.waits.told), now))
            seen.waits = None


def _number(replica: Replica) -> int:
    metadata = replica.stamp.metadata
    return max(int(metadata.get(NUMBER, 0)), int(metadata.get(TAG + NUMBER, 0)))


class Watched(MemoryDestination):
    """A destination whose every write the reader sees."""

    def __init__(self, location: str, reader: Reader) -> None:
        super().__init__()
        self._location, self._reader = location, reader

    def put(self, key: str, body: Body, stamp: Stamp, *, expect: Generation) -> Replica:
        replica = super().put(key, body, stamp, expect=expect)
        self._show(key)
        return replica

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        replica = super().patch(key, stamp, expect=expect)
        self._show(key)
        return replica

    def delete(self, key: str, *, expect: Generation) -> None:
        super().delete(key, expect=expect)
        self._show(key)

    def _show(self, key: str) -> None:
        replica = self.head(key)
        self._reader.sees(self._location, key, replica, self.data(key) if replica.exists else b"")
