"""One resumable upload session, driven by us: Google's own client loses data or truth in cases we must survive.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import base64
import contextlib
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import google_crc32c

from handler.adapters.gcs_client import Client
from handler.adapters.gcs_errors import TRANSIENT, of_response, translate, translated
from handler.adapters.http import Answer
from handler.errors import ReplicationError, Unavailable
from handler.model import KIB, MIB
from handler.ports import Reader
from handler.transfer import pieces

CHUNK = 8 * MIB
"""Bytes sent at once, a multiple of the 256 KiB that GCS asks for; also what is held in memory."""
TRIES = 6
"""Requests in a row without a byte getting on."""

_QUANTUM = 256 * KIB
_RANGE = re.compile(r"bytes=0-(\d+)")


class ResumableSession:
    """An upload of one body. Nothing is visible before its last byte; then all of it is, or nothing ever.

    Args:
        client: sends the requests, with its credentials.
        address: the session's own URL.
        size: of the body, in bytes.
        time_left: seconds that there are; no waiting goes beyond them.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        size: int,
        *,
        time_left: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._address = address
        self._size = size
        self._time_left = time_left
        self._sleep = sleep

    def send(self, body: Reader) -> tuple[Mapping[str, Any], str]:
        """Send the whole body; return the object's resource, and the CRC32C of what was sent.

        Where that fails the session is given up. Memory: one chunk, besides what the reader holds.

        Raises:
            Moved: the condition that the session was opened with failed at its end.
            Whatever the reader raises.
        """
        checksum, offset, crc32c, resource = google_crc32c.Checksum(), 0, "", None
        try:
            for piece in pieces(body, CHUNK):
                self._wait(0)
                checksum.update(piece)
                crc32c = base64.b64encode(checksum.digest()).decode()
                last = offset + len(piece) == self._size
                resource = self._send(piece, offset, crc32c if last else None)
                offset += len(piece)
                del piece  # before the next is read
        except BaseException:
            self._cancel()
            raise
        if resource is None:
            raise Unavailable("the upload session ended without an object", code="DstSessionGone")
        return resource, crc32c

    def _send(self, piece: bytes, offset: int, crc32c: str | None) -> Mapping[str, Any] | None:
        """Send one piece, however often it takes; return the resource once the object is whole."""
        sent, fruitless = 0, 0
        while True:
            answer, failure = self._try(piece, offset + sent, sent, crc32c)
            if answer is not None and answer.status in {200, 201}:
                with translated("resumable upload"):
                    resource: Mapping[str, Any] = answer.json()
                    return resource
            if answer is not None and answer.status == 308:
                persisted = _persisted(answer) - offset
                if persisted < 0:
                    raise Unavailable(f"GCS lost bytes before {offset} that it had persisted", code="DstSessionGone")
                if persisted == len(piece) and crc32c is None:
                    return None
                fruitless = 0 if persisted > sent else fruitless + 1
                sent = min(persisted, len(piece) - (crc32c is not None))  # the last byte goes again with the checksum
            else:
                fruitless += 1
            if fruitless >= TRIES:
                raise failure or Unavailable(f"GCS takes no more bytes after {offset + sent}", code="DstStalled")
            self._wait(fruitless)

    def _try(
        self, piece: bytes, start: int, skip: int, crc32c: str | None
    ) -> tuple[Answer | None, ReplicationError | None]:
        """Put the rest of a piece; where that fails, ask the session what it has. The error is for when all do.

        The question has the checksum too: where all bytes are there, it may be what makes an object of them.
        """
        end = start + len(piece) - skip
        checksum = {"x-goog-hash": f"crc32c={crc32c}"} if crc32c else {}
        whole = {"Content-Range": f"bytes {start}-{end - 1}/{self._size}"}
        answer, failure = self._put(piece[skip:] if skip else piece, whole | checksum)
        if failure is None:
            return answer, None
        self._wait(0)
        answer, still = self._put(b"", {"Content-Range": f"bytes */{self._size}"} | checksum)
        return answer, still or failure

    def _put(self, data: bytes, headers: Mapping[str, str]) -> tuple[Answer | None, ReplicationError | None]:
        """Return the answer, or what may pass; raise what will not."""
        what = "resumable upload"
        try:
            answer = self._client.send("PUT", self._address, data, headers, max(1.0, min(60.0, self._time_left())))
        except Exception as error:  # noqa: BLE001 - total by design: what is not known may pass
            return None, translate(error, what)
        if answer.status in {200, 201, 308}:
            return answer, None
        if answer.status in TRANSIENT:
            return None, of_response(answer, what)
        if answer.status in {404, 410}:
            raise Unavailable(f"{what}: GCS no longer knows the session", code="DstSessionGone")
        raise of_response(answer, what)

    def _wait(self, fruitless: int) -> None:
        pause = random.uniform(0, min(2.0**fruitless / 4, 8.0)) if fruitless else 0.0  # noqa: S311 - jitter
        if self._time_left() <= pause:
            raise Unavailable("no time is left for the upload", code="OutOfTime")
        if pause:
            self._sleep(pause)

    def _cancel(self) -> None:
        """Give the session up, so that its bytes are not kept for a week; if that fails too, the week it is."""
        with contextlib.suppress(Exception):
            self._client.send("DELETE", self._address, None, {}, 5.0)


def _persisted(answer: Answer) -> int:
    """How many bytes a 308 says are persisted; without a Range it is none."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0
