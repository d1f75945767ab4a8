"""The one retry policy for both clouds: each try is short, and requests that may be sent twice are sent again.

Such requests are reads, writes on a generation condition, and requests that leave nothing visible. A repeated write may
find its own first effect and fail with 412. That is `Moved`, as after a rival's write.

The longest time of one request, in seconds, where `L` is the time left:

    min(L, PATIENCE) + 2 * LEAST

A try may be silent twice, while it connects and while it waits for the answer. Each silence takes at most half of
what is left, at most `SILENCE` and at least `LEAST`. No try begins later than `min(L, PATIENCE)` after the first. A new
token adds 2 * LEAST, a request by boto3 CONNECT + SILENCE, as its client knows no deadline. The time in which bytes
flow comes on top, and so does the look-up of a host's name.
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
"""Seconds without a byte after which a try is given up."""
LEAST = 1.0
"""Seconds of silence that every try is allowed, even if no time is left."""
CONNECT = 5.0
"""Seconds in which a connection must be made: all addresses of the host, and TLS."""
PATIENCE = 30.0
"""Seconds after the first try in which a request may be repeated."""
TRIES = 6
"""Failed tries in a row after which a request has failed."""
LONGEST_PAUSE = 8.0
"""Seconds; pauses are drawn between 0 and 1, 2, 4 and then 8 seconds ("full jitter")."""


class Broken(OSError):
    """The answer did not arrive whole: the connection failed, broke, fell silent, or did not speak HTTP."""


class Answer(Protocol):
    """The part of an HTTP answer that the policy reads."""

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
        silence: seconds without a byte after which a try is given up; None for `SILENCE`.
        clock: seconds that only grow.
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
        """Return the seconds of silence that the next try is allowed."""
        return max(LEAST, min(self._silence, self._left() / 2))

    def again(self, retry_after: str | None = None) -> bool:
        """Wait and return True if the request is to be repeated; else return False at once.

        Args:
            retry_after: the failed answer's header of that name; its seconds are added to the pause.
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
        """Count from zero, as the last try made progress. The next try follows without a pause."""
        self._failed = -1
        self._began = self._clock()

    def _left(self) -> float:
        return min(self._time_left(), PATIENCE - (self._clock() - self._began))


def answered(send: Callable[[float], _Answer], attempts: Attempts) -> _Answer:
    """Return the first answer whose status is not transient, or the answer of the last try.

    Args:
        send: sends the request, allowing that many seconds of silence.
        attempts: the request's tries, none of which was made yet.

    Raises:
        Broken: the last try brought no answer.
        Exception: any other error of `send`, at once.
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
    """Return the seconds of a Retry-After, a number or a date; 0 if it is missing or malformed.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
