"""The scenarios of the liveness mode: a fault that lasts, and the bounds in which everything else ends equal.

The bounds are formulas of the deployment's shape and of the handler's constants.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log

from handler import backoff
from handler.core import breaker
from handler.core.breaker import Side
from tests.proof.virtual import Shape, Trouble

BACKLOG = 10.0
"""Seconds of the backlog's own work once a fault has ended."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One fault, or none."""

    name: str
    fault: Trouble | None = None
    """Which; a run has one of its own."""
    shape: Shape = field(default_factory=Shape)
    seconds: float = 3600.0
    """How long the fault lasts."""
    load: float = 120.0
    """How long the source changes. 0: ten keys, a batch, are put at one moment, and nothing happens after."""
    rate: float = 10.0
    """Changes a second."""
    keys: int = 40
    """Of each bucket."""
    bursts: bool = True
    """Whether the events come in batches."""
    seed: int = 1

    @property
    def own(self) -> float:
        """Seconds of a key's own work: a guess, and three turns after lost races, of five requests each."""
        return (3 + 3 * 5) * self.shape.request + self.shape.overhead

    @property
    def others(self) -> float:
        """Seconds in which a copy that the fault does not touch is equal.

        A key's other copy waits until the adapter gives up at the one that fails. A bucket that is away is found out by
        `OPENS_AFTER` keys, one after the other at worst, in each instance. A crash costs the batch its visibility
        timeout. At its second delivery each message gets a time of its own; by chance it meets the bad one again.
        """
        shape, fault = self.shape, self.fault
        if fault is None or fault.kind == "refused":
            return self.own
        if fault.kind in {"crash", "hang"}:
            return shape.visibility + 2 * (shape.timeout + backoff.AFTERMATH + backoff.APART) + self.own
        if fault.key:
            return shape.patience + self.own
        return (breaker.OPENS_AFTER + 1) * shape.patience + self.own

    @property
    def recovery(self) -> float:
        """Seconds after the fault in which all is equal: an open circuit or a key's rest, a probe, a delay, a backlog.

        What is refused is sent again by an operator once the fault is over.
        """
        shape, kind = self.shape, self.fault.kind if self.fault else "refused"
        rest = max(breaker.LONGEST_OPEN, breaker.REST * shape.patience)
        waits = rest + shape.patience + min(backoff.LONGEST, self.seconds / 2)
        return {"away": waits, "refused": 0.0}.get(kind, shape.visibility) + BACKLOG + self.own

    def asked(self, messages: int) -> float:
        """Return how many calls may meet the fault at most.

        A bucket: in each instance, a batch that finds out, and probes that take the adapter's patience. A side: three
        buckets. A key: a quarter of each instance's time, for each of two copies.
        """
        shape, fault = self.shape, self.fault
        if fault is None:
            return 0
        if fault.kind in {"crash", "hang"}:
            return messages * (1 + self.seconds / shape.timeout)
        patience = shape.patience
        if fault.key is None:
            early, later = 4 * breaker.LONGEST_OPEN / patience, self.seconds / (patience + breaker.LONGEST_OPEN / 2)
            found_out = shape.batch + breaker.OPENS_AFTER
            return shape.instances * (1 if fault.bucket else 3) * (found_out + early + later)
        if fault.kind == "refused":
            return messages * 2
        return 2 * min(shape.instances * (1 + self.seconds / ((1 + breaker.REST) * patience)), messages * self.receives)

    @property
    def receives(self) -> float:
        """How often a message that always fails is received: once a crash, or each time it is a quarter older."""
        if self.fault and self.fault.kind in {"crash", "hang"}:
            return 1 + self.seconds / backoff.AFTERMATH
        return log(backoff.LONGEST, 1.25) + 1 + self.seconds / (backoff.LONGEST - backoff.SPREAD)


GCS, S3 = Side.DESTINATION, Side.SOURCE
FULL = (
    Scenario(name="no fault", seconds=300),
    Scenario(name="a race for a few keys", seconds=200, load=60, rate=40, keys=2, bursts=False),
    Scenario(name="a key's copy fails", fault=Trouble(side=GCS, bucket="gs://one", key="both/key-3")),
    Scenario(name="a hot key fails", fault=Trouble(side=S3, bucket="both", key="key-3"), load=300),
    Scenario(name="a key of the source fails", fault=Trouble(side=S3, bucket="both", key="key-30")),
    Scenario(name="a key's copy is refused", fault=Trouble(side=GCS, bucket="gs://one", key="key-3", kind="refused")),
    Scenario(
        name="a bucket is away, of two instances", fault=Trouble(side=S3, bucket="first"), shape=Shape(instances=2)
    ),
    Scenario(name="a bucket of the source is denied", fault=Trouble(side=S3, bucket="first", kind="refused")),
    Scenario(name="a bucket of the destination is away", fault=Trouble(side=GCS, bucket="gs://one")),
    Scenario(name="S3 is away, two instances", fault=Trouble(side=S3), shape=Shape(instances=2), load=60),
    Scenario(name="GCS is away", fault=Trouble(side=GCS), load=60),
    Scenario(name="GCS is away for a minute", fault=Trouble(side=GCS), seconds=60),
    Scenario(name="a key crashes the function", fault=Trouble(side=S3, bucket="first", key="key-30", kind="crash")),
    Scenario(name="a key hangs", fault=Trouble(side=S3, bucket="first", key="key-30", kind="hang")),
    Scenario(name="a key crashes its batch", fault=Trouble(side=S3, bucket="first", key="key-3", kind="crash"), load=0),
    Scenario(
        name="a key makes its batch hang", fault=Trouble(side=S3, bucket="first", key="key-3", kind="hang"), load=0
    ),
    Scenario(name="a key of a batch fails", fault=Trouble(side=S3, bucket="first", key="key-3"), load=0),
)


SHORT = tuple(
    replace(each, seconds=min(each.seconds, 1800.0), load=min(each.load, 30.0))
    for each in FULL
    if each.name not in {"GCS is away", "a bucket of the destination is away", "a bucket of the source is denied"}
)
