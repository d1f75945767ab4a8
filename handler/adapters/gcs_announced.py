"""An insert whose head leaves before its bytes are there, so that GCS is ready for them once they are.

The size of the whole body is told first, so the resource is followed by as many spaces as make it what was told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handler.adapters.gcs_client import Client
from handler.adapters.gcs_errors import TRANSIENT
from handler.adapters.gcs_resources import boundary, multipart
from handler.adapters.http import Answer, Begun
from handler.adapters.http_connection import Broken
from handler.model import KIB, Replica, Stamp
from handler.ports import Reader

LEAD = 2 * KIB
"""Bytes for the resource and what frames it. What needs more is sent anew: most need half."""
_ANEW = frozenset({401, 411, *TRANSIENT})


class AnnouncedPut:
    """See `handler.ports.Announced`.

    Args:
        put: puts a body with this insert, or by another where this one comes to nothing.
        insert: None where GCS could not be told.
    """

    def __init__(
        self, put: Callable[[Reader, Stamp, AnnouncedInsert | None], Replica], insert: AnnouncedInsert | None
    ) -> None:
        self._put = put
        self._insert = insert

    def put(self, body: Reader, stamp: Stamp) -> Replica:
        """Store the reader's bytes; see `Destination.put`."""
        return self._put(body, stamp, self._insert)

    def close(self) -> None:
        """Put nothing, if nothing was put: GCS drops what has no body."""
        if self._insert:
            self._insert.close()


class AnnouncedInsert:
    """The request; its body is yet to come.

    Args:
        client: sends it.
        path: with the query.
        size: bytes of the media.
        timeout: seconds of silence.

    Raises: as `Client.send` does.
    """

    def __init__(self, client: Client, path: str, size: int, timeout: float) -> None:
        self._boundary = boundary()
        self._size = len(self._body({}, None, b"")) + size
        kind = f"multipart/related; boundary={self._boundary}"
        self._begun: Begun | None = client.begin("POST", path, self._size, kind, timeout)

    def answer(self, resource: Mapping[str, Any], content_type: str | None, data: bytes) -> Answer | None:
        """Return what GCS says to the whole of it; None where it is to be sent anew.

        That is where the size is not the one that was told, or another try may help. Raises nothing.
        """
        begun, self._begun = self._begun, None
        body = self._body(resource, content_type, data)
        if begun is None:
            return None
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
        """Give it up, if it was not sent."""
        if self._begun is not None:
            self._begun.close()
            self._begun = None

    def _body(self, resource: Mapping[str, Any], content_type: str | None, data: bytes) -> bytes:
        return multipart(resource, content_type, data, self._boundary, lead=LEAD)
