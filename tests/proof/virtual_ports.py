"""Both clouds in memory, behind the handler's ports, in virtual time and in trouble. See `virtual.py`."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Literal

from handler.core.breaker import Side
from handler.core.errors import Refused, ReplicationError, Unavailable
from handler.core.model import Generation, Original, Replica, Span, Stamp
from handler.core.ports import Destination, Reader, Source
from handler.wiring import MARGIN
from tests.fakes import MemoryDestination, MemorySource
from tests.proof.virtual_sqs import Clock, Shape


@dataclass(kw_only=True)
class Trouble:
    """A fault of a side from one virtual moment to another; of one bucket, of one key, or of all where not said."""

    side: Side
    bucket: str | None = None
    """A source bucket, or a rule's destination, as `gs://copies`."""
    key: str | None = None
    """At the destination: the copy's name."""
    begins: float = 0.0
    ends: float = inf
    kind: Literal["away", "refused", "crash", "hang"] = "away"
    """`refused` is an answer. `crash` and `hang` are the function's, and for `interleaved.py`."""
    code: str = ""
    """The error's; by default that of a side which is away."""
    met: int = 0
    """How many calls met it."""

    def hits(self, side: Side, bucket: str, key: str, now: float) -> bool:
        """Return True if a call at that moment meets it."""
        same = self.side is side and self.bucket in {None, bucket} and self.key in {None, key}
        return same and self.begins <= now < self.ends

    def error(self) -> ReplicationError:
        """Return what the adapter raises: once its patience is over, or at once if it is refused."""
        if self.kind == "refused":
            return Refused("denied", code=self.code or "AccessDenied")
        return Unavailable("away", code=self.code or ("SrcUnreachable" if self.side is Side.SOURCE else "Dst503"))


class Clouds:
    """All buckets of both sides, made when they are first named."""

    def __init__(self, shape: Shape, clock: Clock) -> None:
        self._shape, self._clock = shape, clock
        self.sources: dict[str, MemorySource] = defaultdict(MemorySource)
        self.destinations: dict[str, MemoryDestination] = defaultdict(MemoryDestination)
        self.troubles: list[Trouble] = []
        self.calls: Counter[Side] = Counter()
        """Calls of either side's port, whether or not they met a trouble."""

    def source(self, bucket: str) -> Source:
        """Return the port of a source bucket."""
        return _SourceInTrouble(self, bucket)

    def destination(self, location: str) -> Destination:
        """Return the port of a destination, as `gs://copies`."""
        return _DestinationInTrouble(self, location)

    def meet(self, side: Side, bucket: str, key: str) -> None:
        """Let a call of a port take its time, and fail where a trouble is met that outlasts the adapter's patience."""
        self.calls[side] += 1
        began = self._clock.now(key)
        patience = min(self._shape.patience, max(0.0, self._clock.left() - MARGIN))
        for trouble in self.troubles:
            if trouble.hits(side, bucket, key, began):
                trouble.met += 1
                if trouble.kind == "refused":
                    self._clock.spend(key, self._shape.request)
                    raise trouble.error()
                self._clock.spend(key, min(patience, trouble.ends - began))
                if trouble.ends - began >= patience:
                    raise trouble.error()
        self._clock.spend(key, self._shape.request)


class _SourceInTrouble:
    def __init__(self, clouds: Clouds, bucket: str) -> None:
        self._clouds, self._bucket = clouds, bucket
        self._source = clouds.sources[bucket]

    def head(self, key: str) -> Original | None:
        self._clouds.meet(Side.SOURCE, self._bucket, key)
        return self._source.head(key)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        self._clouds.meet(Side.SOURCE, self._bucket, original.key)
        return self._source.parts(original, exact=exact)

    @contextlib.contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        self._clouds.meet(Side.SOURCE, self._bucket, key)
        with self._source.open(key, at=at, span=span) as body:
            yield body


class _DestinationInTrouble:
    def __init__(self, clouds: Clouds, location: str) -> None:
        self._clouds, self._location = clouds, location
        self._destination = clouds.destinations[location]

    def head(self, key: str) -> Replica:
        self._meet(key)
        return self._destination.head(key)

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        self._meet(key)
        return self._destination.put(key, body, stamp, expect=expect)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        self._meet(key)
        return self._destination.patch(key, stamp, expect=expect)

    def delete(self, key: str, *, expect: Generation) -> None:
        self._meet(key)
        self._destination.delete(key, expect=expect)

    def _meet(self, key: str) -> None:
        self._clouds.meet(Side.DESTINATION, self._location, key)
