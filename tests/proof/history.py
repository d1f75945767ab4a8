"""What happens to some keys at the source, and what the real code does next with whatever it has seen of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from handler.core.model import Headers, Original, Replica, Rule, Stamp
from tests.fakes import crc32c, md5
from tests.proof.scripted import run
from tests.proof.world import KEY, MARK, REAL, RULE, Call, Code, Copy, Knowledge, Seen, State

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


Foreign = tuple[str, str, Mapping[str, str]]
"""Somebody else's object: name, bytes, metadata."""


@dataclass
class History:
    """What happens to some keys at the source, and the code that is to follow it.

    Args:
        name: for people.
        changes: in order, each "what" (of `KEY`) or "key: what". What is "put A" (bytes A) or "put A marked" (with the
            tag `MARK`), "copy" (same bytes, new metadata), "tag", "mark", "unmark", "delete"; or "rules": the next
            rule set is deployed, and every key is verified.
        code: what follows it.
        rules: the rule sets.
        versioned: whether old states can still be read.
        checksums: whether S3 keeps an MD5 of the bytes as the ETag.
        foreign: objects that somebody else put at the destination before: name, bytes, metadata.
        third: what a third party does to copies once at any time, as `third_party.DEEDS` has it.
        records: whether the destination knows the bytes' CRC32C before it writes the metadata, as GCS does for what one
            request brings, and not for an upload session.
        rewrites: whether every change of storage class is a rewrite that may outlive an invocation.
        normalises: whether the destination stores Content-Type in lower case.
        span: bytes of a part, for objects copied in parts; 0 for none.
        queue: whether parts are handed over rather than copied by whoever begins.
        hurried: whether later deliveries have time for parts of one byte only, so that two cut differently.
        keyed: whether the destination has a customer-managed key, so that its listings carry no checksums.
    """

    name: str
    changes: tuple[str, ...]
    code: Code = REAL
    rules: tuple[tuple[Rule, ...], ...] = ((RULE,),)
    versioned: bool = False
    checksums: bool = True
    foreign: tuple[Foreign, ...] = ()
    third: tuple[str, ...] = ()
    records: bool = True
    rewrites: bool = False
    normalises: bool = False
    span: int = 0
    queue: bool = False
    hurried: bool = False
    keyed: bool = False
    states: list[State] = field(init=False)
    """The state that each change makes, of its key; before the first there is no object."""

    def __post_init__(self) -> None:
        self.states = [State("")]
        for number, change in enumerate(self.changes, 1):
            self.states.append(self._after(change, number))
        self.keys = tuple(sorted({state.key for state in self.states if state.key}))
        self.known: list[Knowledge] = []
        """Every knowledge that came up; a worker is an index of it."""
        self.calls: list[Call] = []
        """What the real code does next with each knowledge."""
        self._places: dict[Knowledge, int] = {}
        self._learnt: dict[tuple[int, Seen], int] = {}
        self._stamps: list[Stamp] = []
        self._numbers: dict[object, int] = {}

    # --- the source

    def version(self, key: str, changes: int) -> int:
        """Return the number of the state that a key is in after so many changes, 0 where it never was."""
        return next((number for number in range(changes, 0, -1) if self.states[number].key == key), 0)

    def ruleset(self, changes: int) -> int:
        """Return which rule set holds after so many changes."""
        return self.changes[:changes].count("rules")

    def _after(self, change: str, number: int) -> State:
        key, told, what = change.rpartition(": ")
        key = key if told else KEY
        if change == "rules":
            return State("")
        before = self.states[self.version(key, number - 1)]
        if what == "delete":
            return State(key)
        word, _, rest = what.partition(" ")
        content, _, marked = rest.partition(" ") if word == "put" else (before.content, "", "")
        if word not in {"put", "copy"}:  # changes neither ETag nor LastModified
            if before.original is None:
                raise ValueError(f"{self.name}: {change!r} of what is not there")
            tagged = {"mark": MARK, "unmark": {}, "tag": {"t": str(number)}}[word]
            return replace(before, original=replace(before.original, tags=tagged))
        tags = before.original.tags if word == "copy" and before.original else MARK if marked else {}
        digest = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
        original = Original(
            key=key,
            size=len(content),
            etag=digest if self.checksums else f"{digest}-2",
            last_modified=_BEGINNING + timedelta(seconds=number),
            version_id=f"v{number}" if self.versioned else None,
            headers=Headers(content_type=f"Text/{number}", cache_control=f"max-age={number}"),
            user_metadata={"m": str(number)},
            tags=tags,
            md5=md5(content.encode()) if self.checksums else None,
            checksums={"CRC32C": crc32c(content.encode())} if self.span else {},
        )
        return State(key, original, content)

    # --- the workers

    def worker(self, event: int, rules: int, *, first: bool) -> int:
        """Return a worker that begins on the event of a change, delivered for the first time or again."""
        what = self.changes[event - 1].rpartition(": ")[2]
        created = first and what.startswith("put") and not self.span
        return self.place(Knowledge(self.states[event].key, created, rules, redelivered=not first))

    def place(self, knowledge: Knowledge) -> int:
        """Return the index of a knowledge, asking the code what it does next where it is new."""
        place = self._places.get(knowledge)
        if place is None:
            place = self._places[knowledge] = len(self.known)
            self.known.append(knowledge)
            self.calls.append(run(self, knowledge))
        return place

    def learn(self, worker: int, seen: Seen) -> int:
        """Return the worker once it has seen one answer more."""
        place = self._learnt.get((worker, seen))
        if place is None:
            before = self.known[worker]
            place = self._learnt[worker, seen] = self.place(before._replace(seen=(*before.seen, seen)))
        return place

    # --- the destination

    def carried(self, stamp: Stamp) -> int:
        """Return the number of a stamp."""
        identity = (stamp.headers, *sorted(stamp.metadata.items()), stamp.custom_time, stamp.storage_class)
        number = self._numbers.get(identity)
        if number is None:
            number = self._numbers[identity] = len(self._stamps)
            self._stamps.append(stamp)
        return number

    def stamp(self, number: int) -> Stamp:
        """Return the stamp of a number."""
        return self._stamps[number]

    def stored(self, stamp: Stamp, before: Stamp = Stamp()) -> Stamp:
        """Return what the destination makes of a stamp: without a class, it is the bucket's or stays as it was."""
        kind = stamp.headers.content_type
        headers = stamp.headers._replace(content_type=kind.lower()) if kind and self.normalises else stamp.headers
        kept = stamp.storage_class or before.storage_class or "STANDARD"
        return replace(stamp, headers=headers, storage_class=kept, crc32c_name="")

    def replica(self, copy: Copy | None) -> Replica:
        """Return a copy as `head` gives it."""
        if copy is None:
            return Replica()
        return Replica(
            generation=copy.generation,
            size=len(copy.content),
            crc32c=crc32c(copy.content.encode()),
            md5=md5(copy.content.encode()),
            stamp=self.stamp(copy.carried),
        )
