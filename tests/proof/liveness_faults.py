"""Faults planted in the handler, each of which the liveness mode must catch by the invariant that is named here."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from handler import app, backoff
from handler.core import batch, breaker, reconcile
from tests.proof import liveness_run
from tests.proof.liveness_run import Report, simulate
from tests.proof.liveness_scenarios import FULL


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One fault: a function's text is replaced, and the function compiled anew in its module."""

    fault: str
    module: ModuleType
    function: str
    """Its name in the module that calls it; with its class, if it is a method."""
    old: str
    new: str
    scenario: str
    """The name of the scenario that catches it."""
    invariant: str

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the handler have the fault."""
        *owners, name = self.function.split(".")
        owner = getattr(self.module, owners[0]) if owners else self.module
        real = getattr(owner, name)
        text = textwrap.dedent(inspect.getsource(real))
        if text.count(self.old) != 1:
            raise ValueError(
                f"the fault {self.fault!r} no longer fits: {self.old!r} stands {text.count(self.old)} times"
            )
        made: dict[str, object] = {}
        code = compile(f"from __future__ import annotations\n{text.replace(self.old, self.new)}", self.fault, "exec")
        exec(code, real.__globals__, made)  # noqa: S102 - our own text
        setattr(owner, name, made[name])
        try:
            yield
        finally:
            setattr(owner, name, real)

    def simulate(self) -> Report:
        """Let the scenario happen with the fault."""
        with self.in_place():
            return simulate(next(each for each in FULL if each.name == self.scenario))


PLANTED = (
    Planted(
        fault="never lets a probe through an open circuit",
        module=breaker,
        function="_Circuit.admit",
        old="if self._looked <= now < self._until or self.probe is not None:",
        new="if True:",
        scenario="GCS is away for a minute",
        invariant=liveness_run.LATE_AFTER,
    ),
    Planted(
        fault="never closes a circuit",
        module=breaker,
        function="_Circuit.succeeded",
        old="opened, self._opened = self._opened, None",
        new="opened = None",
        scenario="GCS is away for a minute",
        invariant=liveness_run.LATE_AFTER,
    ),
    Planted(
        fault="opens a circuit for one bad key",
        module=breaker,
        function="_Circuit.failed",
        old="if len(self._failing) < OPENS_AFTER:",
        new="if False:",
        scenario="a key of the source fails",
        invariant=liveness_run.AGAIN,
    ),
    Planted(
        fault="has one circuit for all buckets of a side",
        module=breaker,
        function="Circuits._of",
        old="target = side, bucket",
        new="target = side, ''",
        scenario="a bucket of the destination is away",
        invariant=liveness_run.LATE,
    ),
    Planted(
        fault="probes every second, however long an outage lasts",
        module=breaker,
        function="Circuits._open_for",
        old="longest = min(LONGEST_OPEN, max(SHORTEST_OPEN, outage / 4))",
        new="longest = SHORTEST_OPEN",
        scenario="a bucket is away, of two instances",
        invariant=liveness_run.ASKED,
    ),
    Planted(
        fault="has no circuits",
        module=breaker,
        function="is_of_side",
        old="code = error.code",
        new="return False",
        scenario="S3 is away, two instances",
        invariant=liveness_run.ASKED,
    ),
    Planted(
        fault="tries a failing key for each of its events",
        module=breaker,
        function="_Circuit._rest",
        old="self._resting[target] = now, until",
        new="pass",
        scenario="a hot key fails",
        invariant=liveness_run.LATE,
    ),
    Planted(
        fault="takes keys of one name in two buckets for one that fails",
        module=breaker,
        function="Circuits.attempt",
        old="(source, key), object()",
        new="('', key), object()",
        scenario="a key's copy fails",
        invariant=liveness_run.AGAIN,
    ),
    Planted(
        fault="fails a batch for one bad key",
        module=app,
        function="Service.handle",
        old="if not self._is_settled(*pair)]",
        new="if not self._is_settled(*pair)]\n"
        "    failed = list(zip(deliveries, verdicts, strict=True)) if failed else []",
        scenario="a key of a batch fails",
        invariant=liveness_run.AGAIN,
    ),
    Planted(
        fault="lets one key's error out of its thread",
        module=batch,
        function="Replicator._one",
        old="errors.append(error)",
        new="raise",
        scenario="a key of a batch fails",
        invariant=liveness_run.AGAIN,
    ),
    Planted(
        fault="gives up after an hour",
        module=backoff,
        function="is_last_call",
        old="age >= RETENTION - LAST_CALL",
        new="age >= 1800",
        scenario="a key of a batch fails",
        invariant=liveness_run.GIVEN_UP,
    ),
    Planted(
        fault="gives up after ten receives",
        module=app,
        function="final_reason",
        old="if not backoff.is_last_call(_age(delivery, now)):",
        new="if delivery.receives < 10:",
        scenario="a key of a batch fails",
        invariant=liveness_run.GIVEN_UP,
    ),
    Planted(
        fault="tries again after the same delay for ever",
        module=backoff,
        function="delay",
        old="longest = min(LONGEST, 2.0 ** min(receives, 32))",
        new="longest = 2.0",
        scenario="a key of a batch fails",
        invariant=liveness_run.RECEIVED,
    ),
    Planted(
        fault="counts failures by instance rather than by message",
        module=app,
        function="Service._postpone",
        old="self._set_delays(delays(failed, self._clock()))",
        new="self.failures = vars(self).get('failures', 0) + len(failed)\n"
        "    seconds = min(1350, 2 ** min(self.failures, 32))\n"
        "    self._set_delays(each._replace(seconds=seconds) for each in delays(failed, self._clock()))",
        scenario="GCS is away for a minute",
        invariant=liveness_run.LATE_AFTER,
    ),
    Planted(
        fault="lets a batch that crashed come again together",
        module=app,
        function="set_apart",
        old="and delivery.receives > 1:",
        new="and False:",
        scenario="a key crashes its batch",
        invariant=liveness_run.LATE,
    ),
    Planted(
        fault="acknowledges what failed",
        module=app,
        function="Service._is_settled",
        old="if not reason or not self._dead_letters:\n        return False",
        new="if not reason or not self._dead_letters:\n        return True",
        scenario="a key of a batch fails",
        invariant=liveness_run.LATE_AFTER,
    ),
    Planted(
        fault="asks the source before the destination",
        module=reconcile,
        function="_Loop.attempt",
        old="    if self.replica is None:\n        self.replica = self.route.destination.head(self.copying.name)\n",
        new="    if self.replica is None:\n"
        "        self.original = self.route.source.head(self.key)\n"
        "        self.replica = self.route.destination.head(self.copying.name)\n"
        "        decision = self.decide(self.original, self.replica)\n"
        "        try:\n"
        "            if decision.action is not Action.NOTHING:\n"
        "                self.replica = self.act(decision, self.original, self.replica)\n"
        "        except Moved:\n"
        "            self.replica = None\n"
        "        return None\n",
        scenario="a race for a few keys",
        invariant=liveness_run.STEP_BACK,
    ),
    Planted(
        fault="deletes without a condition",
        module=reconcile,
        function="_Loop.act",
        old="destination.delete(name, expect=expect)",
        new="destination.delete(name, expect=type('Any', (Generation,), {'__ne__': lambda *_: False})(0, 0))",
        scenario="a race for a few keys",
        invariant=liveness_run.STEP_BACK,
    ),
)
