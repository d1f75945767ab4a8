"""One resumable upload session, driven by us: Google's own client loses data or truth in cases we must survive.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import google_crc32c

from handler.adapters.gcs.client import Client
from handler.adapters.gcs.errors import of_response, translate, translated
from handler.adapters.retry import TRANSIENT, Attempts
from handler.adapters.transport import Answer
from handler.core.errors import ReplicationError, Unavailable
from handler.core.model import MIB
from handler.core.ports import Reader
from handler.core.readers import pieces

CHUNK = 8 * MIB
"""Bytes sent at once, a multiple of the 256 KiB that GCS asks for; also what is held in memory."""

_WHAT = "resumable upload"
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
                self._require_time()
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
        """Send one piece; return the resource once the object is whole.

        A try that fails is followed by the question how much GCS has. The question has the checksum too: where all
        bytes are there, it may be what makes an object of them.
        """
        attempts = Attempts(self._time_left, self._sleep)
        checksum = {"x-goog-hash": f"crc32c={crc32c}"} if crc32c else {}
        kept, sent, asks = 0, 0, False
        while True:
            data = b"" if asks else piece[sent:] if sent else piece
            answer, failure = self._put(data, _range(offset + sent, len(data), self._size) | checksum, attempts)
            if answer is not None and answer.status in {200, 201}:
                with translated(_WHAT):
                    resource: Mapping[str, Any] = answer.json()
                    return resource
            if answer is not None and answer.status == 308:
                persisted = _persisted(answer) - offset
                if persisted < 0:
                    raise Unavailable(f"GCS lost bytes before {offset} that it had persisted", code="DstSessionGone")
                if persisted == len(piece) and crc32c is None:
                    return None
                if persisted > kept:
                    attempts.got_on()
                kept = persisted
                sent = min(persisted, len(piece) - (crc32c is not None))  # the last byte goes again with the checksum
                if asks:  # what it costs to ask, the failed try before has paid for
                    self._require_time()
                    asks = False
                    continue
            asks = failure is not None
            if not attempts.again(answer.headers.get("retry-after") if answer else None):
                self._require_time()
                raise failure or Unavailable(f"GCS takes no more bytes after {offset + sent}", code="DstStalled")

    def _put(
        self, data: bytes, headers: Mapping[str, str], attempts: Attempts
    ) -> tuple[Answer | None, ReplicationError | None]:
        """Return the answer, if any, and what is wrong with it if that may pass; raise what will not."""
        try:
            answer = self._client.send("PUT", self._address, data, headers, attempts.silence())
        except Exception as error:  # noqa: BLE001 - total by design: what is not known may pass
            return None, translate(error, _WHAT)
        if answer.status == 308:
            return answer, None
        if answer.status in {200, 201}:
            try:
                answer.json()
            except ValueError as error:  # cut on its way: the session says again what it made
                return None, translate(error, _WHAT)
            return answer, None
        if answer.status in TRANSIENT:
            return answer, of_response(answer, _WHAT)
        if answer.status in {404, 410}:
            raise Unavailable(f"{_WHAT}: GCS no longer knows the session", code="DstSessionGone")
        raise of_response(answer, _WHAT)

    def _require_time(self) -> None:
        if self._time_left() <= 0:
            raise Unavailable("no time is left for the upload", code="OutOfTime")

    def _cancel(self) -> None:
        """Give the session up, so that its bytes are not kept for a week; if that fails too, the week it is."""
        with contextlib.suppress(Exception):
            self._client.send("DELETE", self._address, None, {}, Attempts(self._time_left).silence())


def _range(start: int, length: int, size: int) -> dict[str, str]:
    """Say which bytes are sent, or ask how many there are where none is."""
    return {"Content-Range": f"bytes {start}-{start + length - 1}/{size}" if length else f"bytes */{size}"}


def _persisted(answer: Answer) -> int:
    """How many bytes a 308 says are persisted; without a Range it is none."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0
