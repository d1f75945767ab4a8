"""How fast the last streams were, and so how many bytes there is time for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.core.errors import Moved
from handler.core.model import KIB, MIB

SHORTEST = 4 * MIB
"""Bytes that a part has at least, but for the rest of a span or of an S3 part."""
_SLOW, _FAIR = 256 * KIB, 4 * MIB
"""Bytes a second taken for granted before any were measured: of one of several streams, and of a single one."""
_ALL, _AGAIN = MIB, MIB
"""The same: of all streams together, which is the least bandwidth limit; of one after a delivery that failed."""
_MARGIN = 1.25
"""How much more time is asked for than the measured rate needs."""
_REMEMBERED = 8
"""Measurements that are remembered: two of each stream, and time enough to forget one that was an accident."""


class RateEstimate:
    """Estimates how many bytes there is time for, by the slowest of the last measured streams.

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

    def length(self, most: int) -> int:
        """Return the bytes of the next part, of several that are copied at once; at most so many."""
        length = max(self._shortest, self._possible(_SLOW))
        return most if most < length + self._shortest and self.fits(most) else min(most, length)

    def fits(self, size: int) -> bool:
        """Return True if one of several streams can move so many bytes in the time that is left, or nobody knows."""
        rate = self._rate(0.0)
        return not rate or size * _MARGIN <= max(0.0, self._left()) * rate

    def streams(self, most: int) -> int:
        """Return how many streams can each move a shortest part in the time that is left; at least one."""
        share = max(0.0, self._left()) * self._rate(_ALL / most) / (self._shortest * _MARGIN)
        return max(1, int(most * min(1.0, share)))

    def reach(self, *, redelivered: bool) -> int:
        """Return the bytes that one stream can move in all the time that is left."""
        return int(max(0.0, self._left()) * self._rate(_AGAIN if redelivered else _FAIR) / _MARGIN)

    def allows(self, size: int, *, redelivered: bool) -> bool:
        """Return True if so many bytes can go in one stream; after a failed delivery, a slower one is assumed."""
        return size <= self._possible(_SLOW if redelivered else _FAIR)

    def _possible(self, otherwise: int) -> int:
        """Return the bytes that one stream moves in half of the time that is left."""
        return int(max(0.0, self._left()) / 2 * self._rate(otherwise))

    def _rate(self, otherwise: float) -> float:
        return min(tuple(self._rates), default=otherwise)  # a copy: other threads add to it

    @contextmanager
    def measured(self, size: int) -> Iterator[None]:
        """Measure what is done inside; a failure counts as that slow. Few bytes show only the delay, and do not count.

        A `Moved` does not count either: another writer was first, and nothing was copied.
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
