"""The values of a small world in which the real replicator runs one port call at a time, for every interleaving.

A worker is the real `Replicator` over scripted ports, working on one event. It is a function of what its port calls
have answered so far: it is run again from the start with those answers, and stopped at the first call that has none.
So a state of the world is a plain value (how far the source is, what the destinations hold, what each worker has
seen), states can be compared, and each is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from handler.core import mapping
from handler.core.batch import Replicator, Work
from handler.core.model import Generation, Original, Rule
from handler.core.parts import Parts
from handler.core.task import Change, CopyTask

BUCKET, KEY = "bucket", "key"
RULE = Rule(id="rule", source=BUCKET, destination="gs://copy", replicate_tags=True)
MARK = {"tier": "gold"}
"""The tag that rules may ask for."""
PROVENANCE = "s3-replica-"
"""Prefix of the metadata by which the replicator knows its copies; no original has it."""
FOREIGN, STAGED = -1, -2


@dataclass(frozen=True)
class Code:
    """What is explored: the project's code, or the same with a deliberate fault in it."""

    replicator: type[Replicator] = Replicator
    parts: type[Parts] = Parts
    mapping: ModuleType = mapping


REAL = Code()


@dataclass(frozen=True)
class State:
    """What the source holds at a key after some change: no original after a delete."""

    key: str
    original: Original | None = None
    content: str = ""


class Copy(NamedTuple):
    """An object at a destination: its bytes, what it carries, and, for the checks alone, whose work it is."""

    content: str
    carried: int
    """Headers, metadata, customTime and class as the destination has them: a number that `History.stamp` knows."""
    generation: Generation
    key: str = ""
    """The key that it was made for; "" for somebody else's object."""
    rule: str = ""
    """The ID of the rule by which it was made, or last patched."""
    state: int = FOREIGN
    """The source state that it was made of; `STAGED` for a part of a large copy."""


class Call(NamedTuple):
    """A port call that a worker is about to make."""

    port: str
    name: str = ""
    content: str = ""
    carried: int = 0
    expect: Generation | None = None
    at: int | None = None
    parts: tuple[str, ...] = ()
    sent: tuple[CopyTask, ...] = ()
    bounds: tuple[str, str] = ("", "")
    """Of the names that are listed."""


class Seen(NamedTuple):
    """What a port call answered: a state's number, a copy, or how it failed."""

    state: int | None = None
    copy: Copy | None = None
    listed: tuple[tuple[str, Copy], ...] = ()
    failed: str = ""


class Knowledge(NamedTuple):
    """What one delivery of an event knows: what it was told, and what its port calls answered since."""

    key: str
    created: bool = False
    """Whether it was told of a new object, small enough to guess its copy absent."""
    rules: int = 0
    """Which of the history's rule sets it goes by."""
    redelivered: bool = False
    task: CopyTask | None = None
    seen: tuple[Seen, ...] = ()

    @property
    def looked(self) -> int:
        """Return the number of the source state that it saw last, 0 before any."""
        return next((seen.state for seen in reversed(self.seen) if seen.state is not None), 0)

    def work(self) -> Work:
        """Return what the replicator is told."""
        event, size = ("ObjectCreated:Put", 1) if self.created else ("Verify", None)
        change = Change(bucket=BUCKET, key=self.key, event=event, size=size, task=self.task)
        return Work(bucket=BUCKET, key=self.key, changes=(change,), redelivered=self.redelivered)


ACKNOWLEDGED, FAILED = Call("acknowledged"), Call("failed")
