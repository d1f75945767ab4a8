"""One resumable upload session. Both clients of GCS use it, as Google's own loses data in cases that happen.

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
from handler.core.readers import even_chunks

CHUNK = 8 * MIB
"""Bytes of one request, a multiple of 256 KiB as GCS requires; as many are held in memory."""

_WHAT = "resumable upload"
_RANGE = re.compile(r"bytes=0-(\d+)")


class ResumableSession:
    """An upload of one body. The object appears with its last byte, whole, or never.

    Args:
        client: sends the requests, with its credentials.
        address: the session's URL.
        size: bytes of the body.
        time_left: seconds until the work must be done.
        sleep: waits that many seconds before a request is repeated.
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
        """Send the whole body; return the object's resource, and the CRC32C of the bytes.

        After any failure the session is cancelled. Memory: one chunk, besides what the reader holds.

        Raises:
            Moved: the session's precondition failed at the end.
            Exception: the reader's own errors.
        """
        checksum, offset, crc32c, resource = google_crc32c.Checksum(), 0, "", None
        try:
            for piece in even_chunks(body, CHUNK):
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
            raise Unavailable(f"cannot finish the {_WHAT}: GCS made no object", code="DstSessionGone")
        return resource, crc32c

    def _send(self, piece: bytes, offset: int, crc32c: str | None) -> Mapping[str, Any] | None:
        """Send one piece; return the object's resource after the last one.

        After a failed try the session is asked how many bytes GCS has. This request carries the checksum too, because
        it completes the upload if GCS has all bytes.
        """
        attempts = Attempts(self._time_left, self._sleep)
        checksum = {"x-goog-hash": f"crc32c={crc32c}"} if crc32c else {}
        retained, sent, asks = 0, 0, False
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
                    raise Unavailable(f"{_WHAT}: GCS lost bytes before {offset}", code="DstSessionGone")
                if persisted == len(piece) and crc32c is None:
                    return None
                if persisted > retained:
                    attempts.got_on()
                retained = persisted
                sent = min(persisted, len(piece) - (crc32c is not None))  # the checksum goes with at least one byte
                if asks:  # the failed try before was counted already
                    self._require_time()
                    asks = False
                    continue
            asks = failure is not None
            if not attempts.again(answer.headers.get("retry-after") if answer else None):
                self._require_time()
                raise failure or Unavailable(f"{_WHAT}: GCS stores no byte after {offset + sent}", code="DstStalled")

    def _put(
        self, data: bytes, headers: Mapping[str, str], attempts: Attempts
    ) -> tuple[Answer | None, ReplicationError | None]:
        """Return the answer, if there is one, and its error if that is transient. Raise any other error."""
        try:
            answer = self._client.send("PUT", self._address, data, headers, attempts.silence())
        except Exception as error:  # noqa: BLE001 - total by design: an unknown error may be transient
            return None, translate(error, _WHAT)
        if answer.status == 308:
            return answer, None
        if answer.status in {200, 201}:
            try:
                answer.json()
            except ValueError as error:  # cut short: the session repeats its answer when asked
                return None, translate(error, _WHAT)
            return answer, None
        if answer.status in TRANSIENT:
            return answer, of_response(answer, _WHAT)
        if answer.status in {404, 410}:
            raise Unavailable(f"cannot continue the {_WHAT}: GCS no longer knows the session", code="DstSessionGone")
        raise of_response(answer, _WHAT)

    def _require_time(self) -> None:
        if self._time_left() <= 0:
            raise Unavailable(f"cannot finish the {_WHAT}: no time is left", code="OutOfTime")

    def _cancel(self) -> None:
        """Cancel the session, else GCS keeps its bytes for a week."""
        with contextlib.suppress(Exception):
            self._client.send("DELETE", self._address, None, {}, Attempts(self._time_left).silence())


def _range(start: int, length: int, size: int) -> dict[str, str]:
    """Return the header that says which bytes are sent, or asks how many GCS has if none are."""
    return {"Content-Range": f"bytes {start}-{start + length - 1}/{size}" if length else f"bytes */{size}"}


def _persisted(answer: Answer) -> int:
    """Return the number of persisted bytes that a 308 reports; a 308 without a Range reports none."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0
