"""What the loop is asked to work on: a hint that a key changed, or a part of a large copy that was handed over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from handler.core.model import Original, Rule, S3Part, Span, State


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeCopy:
    """One state of an object on its way to one name, in parts."""

    bucket: str
    key: str
    destination: str
    """The rule's: `gs://bucket`."""
    name: str
    """The copy's."""
    state: State
    check: str = ""
    """By which of S3's checksums the copy is verified: "CRC32C of spans", "SHA256 of parts", or "" for none."""
    plan: str = ""
    """Names the cut into S3's parts; "" where the object is verified as a whole, or not at all."""
    assumed: bool = False
    """Whether the sizes of S3's parts follow from the first, the last and the number of all; see `Original`."""

    @classmethod
    def of(cls, original: Original, rule: Rule, name: str) -> LargeCopy:
        """Return the copy of an object by a rule; how it is verified is for its plan to say."""
        return cls(bucket=rule.source, key=original.key, destination=rule.destination, name=name, state=original.state)


class CopyTask(NamedTuple):
    """The bytes of a large copy that one message asks for."""

    copy: LargeCopy
    span: Span
    parts: tuple[S3Part, ...] = ()
    """The parts of S3's upload that the span overlaps, for a check of parts."""
    offset: int = 0
    """The byte at which the first of `parts` begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A hint that a key changed. Nothing in it is believed but the bucket and the key."""

    bucket: str
    key: str
    event: str
    """The event's name, for the log: "ObjectCreated:Put"."""
    time: datetime | None = None
    size: int | None = None
    """Bytes, for a created object, where the event says so."""
    task: CopyTask | None = None
    """Set where it is no change but a part of a large copy that another invocation handed over."""
    may_delete: bool = False
    """True of a message of the deletes queue: if the source has no such object, the copy is deleted now."""
    released: bool = False
    """True if an operator released that message: the brake does not hold it."""

    @property
    def target(self) -> tuple[str, str, CopyTask | None]:
        """Return what is to be worked on: changes of one target are one piece of work."""
        return self.bucket, self.key, self.task
