"""How a large object is cut: the same whoever asks, into parts as long as there is time for."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from handler.errors import Moved
from handler.model import KIB, MIB, Part, Span

STAGING = ".s3-replica-parts/"
"""Where parts lie. What no finished copy swept, an age rule of the bucket's lifecycle does."""
SPAN = 32 * MIB
"""Bytes that one message asks for, up to objects of 32 GiB; above, a multiple of it."""
SHORTEST = 256 * KIB
"""Bytes that a part has at least, but for the last of a span."""
_SPANS = 1024
"""Into how many spans an object is cut at most."""
_SLOW, _FAIR = 256 * KIB, 4 * MIB
"""Bytes a second taken for granted before any were measured: of one of several streams, and of a single one."""
_REMEMBERED = 8
"""Measurements that are remembered: two of each stream, and time enough to forget one that was an accident."""


class Pace:
    """How fast one stream was of late, at its slowest, and so how much there is time for.

    Args:
        left: seconds until the work must be done.
        clock: seconds that only grow.
        shortest: bytes of a part, however little time is left.
    """

    def __init__(
        self,
        left: Callable[[], float] = lambda: 600.0,
        clock: Callable[[], float] = time.monotonic,
        shortest: int = SHORTEST,
    ) -> None:
        self._left = left
        self._clock = clock
        self._shortest = shortest
        self._rates: deque[float] = deque(maxlen=_REMEMBERED)

    def length(self) -> int:
        """Bytes of the next part, of several that are copied at once."""
        return max(self._shortest, self._possible(_SLOW))

    def allows(self, size: int, *, again: bool) -> bool:
        """Whether so many bytes can go in one stream; after a delivery that failed, less is taken for granted."""
        return size <= self._possible(_SLOW if again else _FAIR)

    def _possible(self, otherwise: int) -> int:
        """Bytes that one stream moves in half of the time that is left."""
        rate = min(tuple(self._rates), default=otherwise)  # a copy: other threads add to it
        return int(max(0.0, self._left()) / 2 * rate)

    @contextmanager
    def measured(self, size: int) -> Iterator[None]:
        """Learn from what is done inside; where that fails it was no faster. A few bytes tell of the delay only.

        Where another was first, nothing was done.
        """
        began = self._clock()
        done = True
        try:
            yield
        except Moved:
            done = False
            raise
        finally:
            if done and size >= self._shortest:
                self._rates.append(size / max(1e-6, self._clock() - began))


@dataclass(frozen=True)
class Plan:
    """How one state of an object is cut: the same whoever asks.

    Args:
        whole: the copy, and the state that it is of.
        span: bytes of a span; a multiple of it where there would be more than 1,024.
        storage_class: of all parts, as GCS composes those of one only. It may change while the state does not.
    """

    whole: Part
    span: int = SPAN
    storage_class: str | None = None

    @cached_property
    def prefix(self) -> str:
        """What the names of all parts of this state begin with."""
        return f"{staging_of(self.whole.name)}{_digest(repr(self.whole.state))}/"

    @cached_property
    def size(self) -> int:
        """Bytes in every span but the last."""
        return self.span * max(1, -(-self.whole.size // (self.span * _SPANS)))

    @property
    def count(self) -> int:
        """How many spans there are."""
        return -(-self.whole.size // self.size)

    def within(self, index: int, gaps: Sequence[Span]) -> list[Span]:
        """What of the gaps lies in a span."""
        first, last = index * self.size, (index + 1) * self.size
        cut = [Span(max(gap.start, first), min(gap.stop, last)) for gap in gaps]
        return [gap for gap in cut if gap.start < gap.stop]

    def part(self, span: Span) -> str:
        """The name of the part that has these bytes: whoever puts it again, and whenever, puts the same."""
        return f"{self.prefix}{span.start:012x}-{span.size:x}{self._tail}"

    def union(self, parts: Sequence[Piece]) -> str:
        """The name of what some parts are composed into, where there are more than 32. No part has it."""
        return f"{self.prefix}{parts[0].start:012x}_{sum(part.size for part in parts):x}{self._tail}"

    def start_of(self, name: str) -> int | None:
        """Where a part or a union of some begins; None where the name is neither's, or of another class."""
        match = re.fullmatch(rf"([0-9a-f]{{12}})[-_][0-9a-f]+{self._tail}", name.removeprefix(self.prefix))
        return int(match[1], 16) if match else None

    @property
    def _tail(self) -> str:
        return f"-{self.storage_class}" if self.storage_class else ""


class Piece(NamedTuple):
    """A part that is staged: where it begins, and its share of the whole's checksum."""

    start: int
    size: int
    name: str
    share: str
    crc32c: str | None = None
    """Of its own bytes, as the destination has it."""


def staging_of(name: str) -> str:
    """Return what the names of all parts for a copy begin with, of whatever state."""
    return f"{STAGING}{_digest(name)}/"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
