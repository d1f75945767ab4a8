"""Rewrites an object to another storage class or KMS key, in as many calls as GCS needs; it may outlive an invocation.

GCS answers each call with a token, by which the next call continues for up to a week. If the time ends first, the
token is stored as a small object in staging, and the next invocation continues from there.
https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress

from handler.adapters.gcs.errors import translated
from handler.adapters.gcs.objects import JsonObjects, Resource
from handler.adapters.gcs.resources import replica_of, writable_fields
from handler.core.errors import Moved, NotFound, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, LONG_REWRITE, Generation, Stamp
from handler.core.plan import staging_of

STEP = LONG_REWRITE
"""Bytes that GCS rewrites in one call at most, a multiple of 1 MiB. GCS answers a call once they are copied."""
SOON = 1.0
"""Seconds after which the next invocation may continue."""
_TOKEN_REFUSED = {"DstRequestInvalid", "DstSessionGone"}
"""Codes for a token that is invalid (400) or a week old (410)."""


class Rewrite:
    """One rewrite of an object onto itself.

    Args:
        objects: the bucket's objects.
        key: the object's name.
        stamp: all that the object is to carry. Every call brings the same.
        expect: the object's generation. Every call and the stored token depend on it.
        size: bytes of the object; up to `STEP` a single call does, and no stored token is looked for.
        time_left: seconds until the work must be done.
    """

    def __init__(  # noqa: PLR0913 - all but four by keyword
        self,
        objects: JsonObjects,
        key: str,
        stamp: Stamp,
        expect: Generation,
        *,
        size: int,
        time_left: Callable[[], float],
    ) -> None:
        self._objects, self._key, self._expect = objects, key, expect
        self._fields, self._kms_key = writable_fields(stamp), stamp.kms_key
        self._is_long = size > STEP
        self._time_left = time_left
        state = json.dumps([self._fields, expect], sort_keys=True)
        self._stored_at = f"{staging_of(key)}rewrite-{hashlib.sha256(state.encode()).hexdigest()[:24]}"
        self._stored = ABSENT

    def run(self) -> Resource:
        """Rewrite to the end, and return the object's resource.

        Raises:
            Moved: the object is at another generation.
            Unavailable: the time ended first, or GCS did not answer. The token is stored.
        """
        token = self._stored_token() if self._is_long else ""
        while True:
            began = time.monotonic()
            try:
                answer = self._step(token)
            except Moved:
                self._forget()
                raise
            except (Refused, Unavailable) as error:
                if self._stored == ABSENT or error.code not in _TOKEN_REFUSED:
                    self._store(token)
                    raise
                self._forget()
                token = ""
                continue
            if not (token := answer.get("rewriteToken") or ""):
                self._forget()
                resource: Resource = answer["resource"]
                return resource
            if self._time_left() <= 2 * (time.monotonic() - began):
                self._store(token)
                done, total = answer.get("totalBytesRewritten"), answer.get("objectSize")
                message = f"cannot finish rewriting {self._key!r} in this invocation: {done} of {total} bytes are done"
                raise Unavailable(message, code="InRewrite", wait=SOON)

    def _step(self, token: str) -> Resource:
        with translated(f"rewrite {self._key!r}"):
            return self._objects.rewrite(self._key, self._fields, self._expect, limit=STEP, token=token)

    def _stored_token(self) -> str:
        with suppress(NotFound), translated(f"read {self._stored_at!r}"):
            token, self._stored = self._objects.read(self._stored_at)
            return token.decode()
        return ""

    def _store(self, token: str) -> None:
        """Store the token, if there is one. Where that fails, the next invocation repeats some calls."""
        fields = {"name": self._stored_at, "contentType": "text/plain"}
        fields |= {"kmsKeyName": self._kms_key} if self._kms_key else {}
        with suppress(ReplicationError), translated(f"write {self._stored_at!r}"):
            if token:
                self._stored = replica_of(self._objects.insert(fields, token.encode(), self._stored)).generation

    def _forget(self) -> None:
        """Delete the stored token, if there is one."""
        if self._stored != ABSENT:
            with suppress(Moved, NotFound), translated(f"delete {self._stored_at!r}"):
                self._objects.delete(self._stored_at, self._stored)
            self._stored = ABSENT
