"""The changes of the liveness mode: every kind of them, and a queue that hears of them late, twice and out of order.

The events come in bursts, once a second, so that invocations have batches of ten; or at any time, so that several
invocations work on a key at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

from tests.proof.interleaved import Interleaved
from tests.proof.reader import NUMBER, Change, Reader

RULES: list[dict[str, Any]] = [
    {"ID": "first", "Source": {"Bucket": "first"}, "Destination": {"Bucket": "gs://one"}},
    {
        "ID": "second",
        "Source": {"Bucket": "second"},
        "Destination": {"Bucket": "gs://two", "Tags": {"Status": "Enabled"}},
    },
    {"ID": "both", "Source": {"Bucket": "both"}, "Destination": {"Bucket": "gs://one/both"}, "Priority": 2},
    {
        "ID": "both-too",
        "Source": {"Bucket": "both"},
        "Destination": {"Bucket": "gs://two/both", "Tags": {"Status": "Enabled"}},
        "Priority": 1,
    },
]
"""Two buckets with a destination each, and one whose every key has a copy at both."""
BUCKETS = ("first", "second", "both")


@dataclass(kw_only=True)
class Load:
    """Changes of the source, and how the queue hears of them."""

    deployment: Interleaved
    reader: Reader
    seed: int
    keys: int = 40
    bursts: bool = True
    hot: int = 4
    """Keys of each bucket that have every other change."""
    late: float = 20.0
    """Seconds that three of ten events are late at most."""
    again: float = 60.0
    """Seconds after which three of ten events come a second time at most."""

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} load")  # noqa: S311 - to be repeatable
        self.changes = 0
        self._alive: dict[tuple[str, str], bytes] = {}

    def plan(self, begins: float, ends: float, rate: float) -> None:
        """Change something at so many moments a second."""
        moment = begins
        while (moment := moment + self._random.expovariate(rate)) < ends:
            self.deployment.at(moment, self._change)

    def burst(self, moment: float, keys: int = 10) -> None:
        """Put so many objects at one moment, and tell of them at once: a batch."""
        for number in range(keys):
            self.deployment.at(moment, partial(self._burst_of_one, f"key-{number}"))

    def _burst_of_one(self, key: str) -> None:
        data, now = key.encode(), self.deployment.clock.base
        self.changes += 1
        self._alive["first", key] = data
        self.deployment.sources["first"].put(key, data, user_metadata={NUMBER: str(self.changes)})
        self.reader.changed("first", key, Change(self.changes, data, told=now))
        self.deployment.tell("first", key, "ObjectCreated:Put", len(data))

    def _change(self) -> None:
        bucket = self._random.choice(BUCKETS)
        key = f"key-{self._random.randrange(min(self.hot, self.keys) if self._random.random() < 0.5 else self.keys)}"
        what = self._random.choices(("put", "delete", "copy", "tag"), (45, 20, 20, 15))[0]
        self.changes += 1
        data, source = self._alive.get((bucket, key)), self.deployment.sources[bucket]
        metadata = {NUMBER: str(self.changes)}
        event, size = "ObjectRemoved:Delete", None
        if what == "delete":
            source.delete(key)
            data = None
        elif data is None or what == "put":
            data = f"{bucket}/{key} {self.changes}".encode()
            source.put(key, data, user_metadata=metadata)
            event, size = "ObjectCreated:Put", len(data)
        elif what == "copy":
            source.copy(key, user_metadata=metadata)
            event, size = "ObjectCreated:Copy", len(data)
        else:
            source.tag(key, metadata)
            event = "ObjectTagging:Put"
        self._alive.pop((bucket, key), None)
        if data is not None:
            self._alive[bucket, key] = data
        told = self._tell(partial(self.deployment.tell, bucket, key, event, size))
        change = Change(self.changes, data, only_tags=event == "ObjectTagging:Put", told=told)
        self.reader.changed(bucket, key, change)

    def _tell(self, tell: Callable[[], None]) -> float:
        """Let the queue hear of a change, and return when."""
        now, chance = self.deployment.clock.base, self._random
        told = self._moment(now + chance.uniform(0.05, self.late if chance.random() < 0.3 else 0.5))
        self.deployment.at(told, tell)
        if chance.random() < 0.3:
            self.deployment.at(self._moment(told + chance.uniform(0.0, self.again)), tell)
        return told

    def _moment(self, moment: float) -> float:
        return ceil(moment) if self.bursts else moment
