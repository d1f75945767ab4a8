"""A change of storage class, which GCS makes in as many calls as it takes, and which outlives an invocation.

GCS answers each call with a token, by which the next call continues for up to a week. If the time ends first, the
token is stored as a small object in staging, and the next invocation continues from there.
https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from handler.adapters.gcs.resources import resource_of
from handler.core.errors import Moved, NotFound, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, LONG_REWRITE, Generation, Stamp
from handler.core.plan import staging_of

STEP = LONG_REWRITE
"""Bytes that GCS rewrites in one call at most, a multiple of 1 MiB. A call's answer comes only once they are copied."""
SOON = 1.0
"""Seconds after which the next invocation may continue."""


class Objects(Protocol):
    """What a rewrite asks of its bucket, each by one request; the names are object names."""

    def rewrite_step(self, key: str, stamp: Stamp, expect: Generation, limit: int, token: str) -> Any:
        """Rewrite up to `limit` bytes of an object onto itself; return GCS's answer. An empty token begins anew."""

    def read_text(self, key: str) -> tuple[str, Generation]:
        """Return a small object's text. Raises NotFound."""

    def put_text(self, key: str, text: str, *, expect: Generation, kms_key: str | None) -> Generation:
        """Store a small object."""

    def delete(self, key: str, *, expect: Generation) -> None:
        """Delete an object."""


class Rewrite:
    """One change of an object's storage class or key, and of its metadata.

    Args:
        objects: the bucket.
        key: the object's name.
        stamp: what it is to carry. Every call must bring the same.
        expect: the object's generation. Every call and the stored token hold it.
        size: bytes of the object; one of up to `STEP` needs a single call, and no token is looked for.
        time_left: seconds until the work must be done.
        clock: seconds that only grow.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        objects: Objects,
        key: str,
        stamp: Stamp,
        expect: Generation,
        size: int,
        time_left: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects, self._key, self._stamp, self._expect = objects, key, stamp, expect
        self._is_long = size > STEP
        self._time_left, self._clock = time_left, clock
        state = json.dumps([resource_of(stamp), stamp.kms_key, expect], sort_keys=True)
        self._stored_at = f"{staging_of(key)}rewrite-{hashlib.sha256(state.encode()).hexdigest()[:24]}"
        self._stored = ABSENT

    def run(self) -> Mapping[str, Any]:
        """Rewrite to the end, and return the object's resource.

        Raises:
            Moved: the object is at another generation.
            Unavailable: the time ended first, or GCS did not answer. The token is stored.
        """
        token = self._stored_token() if self._is_long else ""
        while True:
            began = self._clock()
            try:
                answer = self._objects.rewrite_step(self._key, self._stamp, self._expect, STEP, token)
            except Moved:
                self._forget()
                raise
            except (Refused, Unavailable) as error:
                if self._stored == ABSENT or not _is_of_token(error):
                    self._keep(token)
                    raise
                self._forget()
                token = ""
                continue
            if not (token := answer.get("rewriteToken", "")):
                self._forget()
                resource: Mapping[str, Any] = answer["resource"]
                return resource
            if self._time_left() <= 2 * (self._clock() - began):
                self._keep(token)
                done, total = answer.get("totalBytesRewritten"), answer.get("objectSize")
                message = f"cannot finish rewriting {self._key!r} in this invocation: {done} of {total} bytes are done"
                raise Unavailable(message, code="InRewrite", wait=SOON)

    def _stored_token(self) -> str:
        with suppress(NotFound):
            token, self._stored = self._objects.read_text(self._stored_at)
            return token
        return ""

    def _keep(self, token: str) -> None:
        """Store the token, if there is one. Where that fails, or another invocation stored its own, less is saved."""
        with suppress(ReplicationError):
            if token:
                key, expect = self._stamp.kms_key, self._stored
                self._stored = self._objects.put_text(self._stored_at, token, expect=expect, kms_key=key)

    def _forget(self) -> None:
        """Remove the stored token, which has done its work or has none to do."""
        if self._stored != ABSENT:
            with suppress(Moved):
                self._objects.delete(self._stored_at, expect=self._stored)
            self._stored = ABSENT


def _is_of_token(error: ReplicationError) -> bool:
    """Return True if GCS may have refused the token: it is invalid (400) or a week old (410)."""
    return error.code in {"DstRequestInvalid", "DstSessionGone"}
