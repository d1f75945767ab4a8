"""What a write is about, and GCS's limit of one change a second of one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import NONE, Conditions
from local_emulator.gcs.model.resources import Bucket
from local_emulator.gcs.store.database import Transaction


@dataclass(frozen=True)
class Target:
    """The name that a call is about, and what must hold of it."""

    bucket: str
    name: str
    conditions: Conditions = NONE
    generation: int | None = None


class WriteRateLimit:
    """GCS's limit of one change a second of one name, metadata included; used by the committer's thread only.

    A bucket with the label `one-write-a-second: true` has it, or (`always`) every bucket.
    """

    LABEL = "one-write-a-second"

    def __init__(self, *, always: bool) -> None:
        self._always = always
        self._last: dict[tuple[str, str], float] = {}

    def check(self, tx: Transaction, target: Target, bucket: Bucket, *, asked: bool) -> None:
        """Refuse a second change within a second, and remember this one; `asked` is for this one request."""
        if not (asked or self._always or bucket.attributes.get("labels", {}).get(self.LABEL) == "true"):
            return
        key = target.bucket, target.name
        if 0 <= tx.now - self._last.get(key, -10.0) < 1.0:
            raise errors.too_fast(target.bucket, target.name)
        if len(self._last) > 100_000:
            self._last = {key: moment for key, moment in self._last.items() if tx.now - moment < 1.0}
        self._last[key] = tx.now


Limit = Callable[[Transaction, Target, Bucket], None]
"""`WriteRateLimit.check` as one request meets it."""
