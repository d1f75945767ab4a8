"""The one retry policy for both clouds: a try is short, what may be sent twice is sent again, within the time left.

Only requests that may be sent twice belong here: reads, writes that carry a generation condition, and requests that
leave nothing visible behind. A second write may meet, as a 412, what the first did before its answer was lost; that is
`Moved`, as for a rival's write.

The worst case of one request, in seconds, where `L` is the time left and the server is silent or answers errors:

    min(L, PATIENCE) + 2 * LEAST

A try may be silent twice, while it connects and while it is answered, so it bears half of what is left at each, at most
`SILENCE` and at least `LEAST`. No try begins later than `min(L, PATIENCE)` after the first. A request that needs a new
token adds 2 * LEAST for itself. One that boto3 sends adds CONNECT + SILENCE, as its client knows no deadline. On top
come the time in which bytes flow, which is not silence, and the time in which a host's name is looked up.
https://cloud.google.com/storage/docs/retry-strategy
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
SILENCE = 8.0
"""Seconds without a byte, after which a try is given up."""
LEAST = 1.0
"""Seconds of silence that every try bears, even where no time is left."""
CONNECT = 5.0
"""Seconds in which a connection must be made, at all addresses of a host together, TLS included."""
PATIENCE = 30.0
"""Seconds after its first try in which a request may be tried again."""
TRIES = 6
"""Tries in a row that come to nothing, after which a request has failed."""
LONGEST_PAUSE = 8.0
"""Seconds; pauses are drawn between 0 and 1, 2, 4 and then 8 seconds ("full jitter")."""


class Broken(OSError):
    """No answer came, or not all of it: the connection could not be made, broke, fell silent, or spoke no HTTP."""


class Answer(Protocol):
    """What the policy reads of an HTTP answer."""

    @property
    def status(self) -> int:
        """HTTP's status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Values by lower-case name."""


_Answer = TypeVar("_Answer", bound=Answer)


class Attempts:
    """The tries of one request.

    Args:
        time_left: seconds until the work must be done.
        sleep: waits that many seconds.
        silence: seconds without a byte that a try bears at most, where that is not `SILENCE`.
        clock: seconds of working time, for `PATIENCE`.
    """

    def __init__(
        self,
        time_left: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        *,
        silence: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._time_left = time_left
        self._sleep = sleep
        self._silence = SILENCE if silence is None else silence
        self._clock = clock
        self._began = clock()
        self._failed = 0

    def silence(self) -> float:
        """Return the seconds of silence that the next try bears."""
        return max(LEAST, min(self._silence, self._left() / 2))

    def again(self, retry_after: str | None = None) -> bool:
        """Wait, and return True if the request is to be tried again; return False at once if it is not.

        Args:
            retry_after: the failed answer's header of that name. Its seconds come on top of the pause.
        """
        self._failed += 1
        pause = 0.0
        if self._failed:
            ceiling = min(2.0 ** (self._failed - 1), LONGEST_PAUSE)
            pause = random.uniform(0, ceiling) + _seconds(retry_after)  # noqa: S311 - jitter
        if self._failed >= TRIES or pause >= self._left():
            return False
        if pause:
            self._sleep(pause)
        return True

    def got_on(self) -> None:
        """Begin to count anew, as the last try brought something; the next follows it without a pause."""
        self._failed = -1
        self._began = self._clock()

    def _left(self) -> float:
        return min(self._time_left(), PATIENCE - (self._clock() - self._began))


def answered(send: Callable[[float], _Answer], attempts: Attempts) -> _Answer:
    """Return the answer of the last try: the first whose status is not transient, or where none is to follow.

    Args:
        send: sends the request, bearing that many seconds of silence.
        attempts: the request's, of which none was made yet.

    Raises:
        Broken: no answer came to the last try.
        Exception: whatever else `send` raises, at once.
    """
    while True:
        try:
            answer = send(attempts.silence())
        except Broken:
            if not attempts.again():
                raise
        else:
            if answer.status not in TRANSIENT or not attempts.again(answer.headers.get("retry-after")):
                return answer


def _seconds(retry_after: str | None) -> float:
    """Read a Retry-After, a number or a date; 0 where there is none that can be read.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
