"""Circuit breakers, one for each side and bucket: while a side is down, its keys fail at once and cost it no request.

A circuit opens after several different keys have failed one after the other for a reason of the side. It is open for a
time that grows with the outage. Then one key is let through as a probe: its success closes the circuit, its failure
opens it anew. The state is the process's own; every function instance finds out for itself.

A single key that keeps failing opens no circuit. It fails at once for `REST` times as long as its failure took:
otherwise each of its events would hold an instance while the side is tried, and a key with many events all instances.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from handler.core.errors import ReplicationError, Unavailable

OPENS_AFTER = 5
"""Different keys that fail without any success between them."""
SHORTEST_OPEN, LONGEST_OPEN = 1.0, 60.0
"""Seconds that a circuit is open before a probe; between them a quarter of the outage so far."""

REST = 3
"""How often as long as it took to fail a key is left alone: it has a quarter of an instance's time at most."""
REMEMBERED = 1000
"""Failing keys that a circuit knows; some 200 KB."""

_OF_ONE_KEY = {
    *("SrcKeyTooHot", "SrcUnsettled", "DstConflict", "DstSessionGone", "DstStalled"),
    *("SrcSlowDown", "DstThrottled"),  # a side that answers so is up; GCS limits each name too
    "DstUnknown",  # an exception that nobody foresaw, as one key's odd metadata may raise it
}


class Side(StrEnum):
    """Which of the two object stores."""

    SOURCE = "source"
    DESTINATION = "destination"


_Target = tuple[str, str]
"""A source bucket and a key of it."""
_PREFIX = {Side.SOURCE: "Src", Side.DESTINATION: "Dst"}
"""What the codes of a side's errors begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """A circuit opened or closed."""

    side: Side
    bucket: str
    opened: bool
    seconds: float = 0.0
    """How long the circuit was open, where it closed."""
    error: ReplicationError | None = None
    """The last failure, where it opened."""


class CircuitOpen(Unavailable):
    """A side is down. The key was not tried, and the side was not asked."""

    def __init__(self, side: Side, bucket: str) -> None:
        super().__init__(f"the {side} {bucket} is down: the key was not tried")
        self.side, self.bucket = side, bucket


class KeyFails(Unavailable):
    """A key failed a moment ago. It was not tried again, and no side was asked."""

    def __init__(self, side: Side, bucket: str, key: str) -> None:
        super().__init__(f"{key!r} failed a moment ago at the {side} {bucket}: it was not tried again")
        self.side = side


def side_of(error: ReplicationError) -> Side | None:
    """Return the side at which a key failed, None if that was neither's trouble."""
    if isinstance(error, CircuitOpen | KeyFails):
        return error.side
    return next((side for side in Side if error.code.startswith(_PREFIX[side])), None)


def is_of_side(error: ReplicationError, side: Side) -> bool:
    """Return True if the error means that the whole side may be down, rather than one key's trouble."""
    code = error.code
    if not isinstance(error, Unavailable) or not code.startswith(_PREFIX[side]) or code in _OF_ONE_KEY:
        return False
    rest = code[3:]
    if rest.isdecimal():
        return rest.startswith("5")
    return not rest.startswith("KMS")  # an object's key, which other objects do not share


class Circuits:
    """The circuits of all sides and buckets. All threads share them.

    Args:
        clock: seconds of wall clock, which go on while a function instance is frozen.
        switched: told of every circuit that opens or closes.
        chance: a random number from 0 to 1.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        switched: Callable[[Switched], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._switched, self._chance = clock, switched, chance
        self._circuits: dict[tuple[Side, str], _Circuit] = {}

    @contextmanager
    def attempt(self, source: str, destination: str, key: str) -> Iterator[None]:
        """Let work on a key happen, and learn from how it ends.

        Raises:
            CircuitOpen: a side is known to be down; nothing was tried.
            KeyFails: the key failed a moment ago; nothing was tried.
        """
        circuits = self._of(Side.SOURCE, source), self._of(Side.DESTINATION, destination)
        target, attempt, began = (source, key), object(), self._clock()
        try:
            for circuit in circuits:
                circuit.admit(attempt, target)
            yield
        except (CircuitOpen, KeyFails):
            raise
        except ReplicationError as error:
            for circuit in circuits:
                if is_of_side(error, circuit.side):
                    circuit.failed(attempt, target, error, took=self._clock() - began)
            raise
        else:
            for circuit in circuits:
                circuit.succeeded(target)
        finally:
            for circuit in circuits:
                if circuit.probe is attempt:
                    circuit.release(attempt)

    def _of(self, side: Side, bucket: str) -> _Circuit:
        target = side, bucket
        if target not in self._circuits:
            made = _Circuit(side, bucket, self._clock, self._open_for, self._switched)
            self._circuits.setdefault(target, made)
        return self._circuits[target]

    def _open_for(self, outage: float) -> float:
        """Return the seconds until the next probe; jitter keeps the instances' probes apart."""
        longest = min(LONGEST_OPEN, max(SHORTEST_OPEN, outage / 4))
        return longest * (1 - self._chance() / 2)


class _Circuit:
    """One side and bucket."""

    def __init__(
        self,
        side: Side,
        bucket: str,
        clock: Callable[[], float],
        open_for: Callable[[float], float],
        switched: Callable[[Switched], None],
    ) -> None:
        self.side, self.bucket = side, bucket
        self._clock, self._open_for, self._switched = clock, open_for, switched
        self._lock = threading.Lock()
        self._failing: set[_Target] = set()
        """Keys that failed since the last success, while the circuit is closed."""
        self._resting: dict[_Target, tuple[float, float]] = {}
        """Keys that fail while others do not: from when until when each is left alone."""
        self._opened: float | None = None
        """When the circuit opened; None: it is closed."""
        self._looked = self._until = 0.0
        """From when until when no probe is let through."""
        self.probe: object = None

    def admit(self, attempt: object, target: _Target) -> None:
        """Let an attempt through if the circuit is closed and the key does not rest, or as the one probe."""
        with self._lock:
            now = self._clock()  # a clock that was set back keeps nothing waiting
            if self._opened is None:
                since, until = self._resting.get(target, (now, now))
                if since <= now < until:
                    raise KeyFails(self.side, self.bucket, target[1])
                return
            if self._looked <= now < self._until or self.probe is not None:
                raise CircuitOpen(self.side, self.bucket)
            self.probe = attempt

    def succeeded(self, target: _Target) -> None:
        """Close the circuit."""
        if self._opened is None and not self._failing and not self._resting:
            return  # the common case takes no lock
        with self._lock:
            self._failing.clear()
            self._resting.pop(target, None)
            opened, self._opened = self._opened, None
        if opened is not None:
            seconds = self._clock() - opened
            self._switched(Switched(side=self.side, bucket=self.bucket, opened=False, seconds=seconds))

    def failed(self, attempt: object, target: _Target, error: ReplicationError, *, took: float) -> None:
        """Count a failure of the side; open the circuit after enough of them, or after a probe's."""
        with self._lock:
            now = self._clock()
            if self._opened is not None:
                if attempt is self.probe:
                    self._looked, self._until = now, now + self._open_for(now - self._opened)
                return
            self._failing.add(target)
            self._rest(target, now, now + REST * took)
            if len(self._failing) < OPENS_AFTER:
                return
            self._failing.clear()
            self._resting.clear()  # it is not the keys
            self._opened = self._looked = now
            self._until = now + self._open_for(0.0)
        self._switched(Switched(side=self.side, bucket=self.bucket, opened=True, error=error))

    def _rest(self, target: _Target, now: float, until: float) -> None:
        """Leave a key alone; forget the one that failed longest ago if there are too many."""
        self._resting.pop(target, None)
        if len(self._resting) >= REMEMBERED:
            del self._resting[next(iter(self._resting))]
        self._resting[target] = now, until

    def release(self, attempt: object) -> None:
        """Let another attempt be the probe, if this one was."""
        with self._lock:
            if self.probe is attempt:
                self.probe = None
