"""An insert whose head leaves before its bytes are there, so that GCS is ready for them once they are.

The size of the whole body is told first, so the resource is followed by as many spaces as make it what was told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handler.adapters.gcs_client import Client
from handler.adapters.gcs_resources import boundary, multipart
from handler.adapters.http import Answer, Begun
from handler.adapters.http_connection import Broken
from handler.adapters.retry import TRANSIENT
from handler.model import KIB, Replica, Stamp
from handler.ports import Reader

LEAD = 2 * KIB
"""Bytes for the resource and what frames it. What needs more is sent anew: most need half."""
_ANEW = frozenset({401, 411, *TRANSIENT})


class AnnouncedPut:
    """See `handler.ports.Announced`.

    Args:
        put: puts a body by `answer`, or by an ordinary insert where that comes to nothing.
        size: bytes of the media.
    """

    def __init__(self, put: Callable[[Reader, Stamp, AnnouncedPut], Replica], size: int) -> None:
        self._put = put
        self._boundary = boundary()
        empty, self._kind = self._body({}, None, b"")
        self._size = len(empty) + size
        self._begun: Begun | None = None

    def tell(self, client: Client, path: str, timeout: float) -> None:
        """Send the head of the insert. Raises: as `Client.send` does; then nothing was told."""
        self._begun = client.begin("POST", path, self._size, self._kind, timeout)

    def put(self, body: Reader, stamp: Stamp) -> Replica:
        """Store the reader's bytes; see `Destination.put`."""
        return self._put(body, stamp, self)

    def answer(self, resource: Mapping[str, Any], content_type: str | None, data: bytes) -> Answer | None:
        """Return what GCS says to the whole of it; None where it is to be sent anew.

        That is where GCS was not told, the size is another one, or another try may help. Raises nothing.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        body, _ = self._body(resource, content_type, data)
        if len(body) != self._size:
            begun.close()
            return None
        try:
            answer = begun.answer(body)
            answer.data  # noqa: B018 - it keeps what it reads
        except Broken:
            return None
        return None if answer.status in _ANEW else answer

    def close(self) -> None:
        """Put nothing, if nothing was put: GCS drops what has no body."""
        if self._begun is not None:
            self._begun.close()
            self._begun = None

    def _body(self, resource: Mapping[str, Any], content_type: str | None, data: bytes) -> tuple[bytes, str]:
        return multipart(resource, content_type, data, self._boundary, lead=LEAD)
