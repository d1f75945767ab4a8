"""A side is away for a minute, a day, a week: nothing is lost or given up, and the drain afterwards ends by itself.

    python -m tests.proof.outages

The real handler runs in virtual time (`virtual.py`). The minute is simulated at full scale: 50 events a second, 20
instances, batches of ten. The longer outages are scaled down by a factor, so that they end in seconds: events, messages
in flight and capacity are divided by it. Two instances that take one message at a time stand for the 20. The times are
not scaled: neither the outage, nor the delays, nor the breaker, nor the 30 s that an adapter tries a side that is away.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from handler.backoff import LONGEST, delay
from handler.core.breaker import LONGEST_OPEN, OPENS_AFTER, Side
from tests.proof.virtual import Deployment, Shape, Trouble, steady

RULES = [{"ID": "all", "Source": {"Bucket": "originals"}, "Destination": {"Bucket": "gs://copies"}}]
BEFORE = 60.0
"""Seconds of calm before the outage."""
LAG = 10.0
"""Seconds under which the oldest event is, when all is well."""
DAY = 24 * 3600.0
_FULL = Shape()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One outage."""

    name: str
    seconds: float
    sides: tuple[Side, ...] = (Side.DESTINATION,)
    rate: float = 50.0
    """Events a second, before scaling."""
    scale: float = 1.0
    begins: float = 0.0
    """When the first event comes."""
    after: float = 300.0
    """Seconds that events go on to come once the backlog can be gone."""

    @property
    def shape(self) -> Shape:
        """The deployment, scaled: its capacity, in messages a second, is the full one's by `scale`."""
        if self.scale == 1:
            return _FULL
        instances = 2
        stretch = self.scale * instances / (_FULL.instances * _FULL.batch)
        return Shape(
            instances=instances,
            batch=1,
            request=_FULL.request * stretch,
            overhead=_FULL.overhead * stretch,
            in_flight=round(_FULL.in_flight / self.scale),
        )

    @property
    def bound(self) -> float:
        """Seconds after the outage by which the lag is under `LAG` again.

        The sum of: the time that the circuit is open once more, if a probe failed just before the end; the delay of
        what failed last; the backlog by the capacity that the new events leave.
        """
        circuit = min(LONGEST_OPEN, self.seconds / 4) + _FULL.patience
        delays = min(LONGEST, (self.seconds + circuit) / 2)
        backlog = self.rate * (self.seconds + circuit + delays)
        return circuit + delays + backlog / (capacity(_FULL, requests=5) - self.rate) + LAG


@dataclass(kw_only=True)
class Report:
    """What came of a scenario."""

    scenario: Scenario
    events: int = 0
    receives: int = 0
    """During the outage."""
    billed: float = 0.0
    """Seconds of invocations during the outage."""
    asked: int = 0
    """Calls to the side that was away: each is an adapter's whole patience."""
    most: int = 0
    """Receives of one message, in all."""
    backlog: int = 0
    """At the end of the outage."""
    lag_back: float = 0.0
    """Seconds after the outage from which on no event was older than `LAG`."""
    drain: float = 0.0
    """Messages a second, from the end of the outage until the lag was back."""
    given_up: int = 0
    """Messages in the dead-letter queue, by whichever way."""
    lost: int = 0
    """Messages that the queue dropped."""
    took: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        of, scale = self.scenario, self.scenario.scale
        instances, receives = of.shape.instances, self.receives * scale
        busy = 100 * self.billed / of.seconds / instances
        return f"""\
  {of.name}, {of.rate:g} events a second: {self.events * scale:,.0f} events, {self.events:,} simulated
    while it lasts: {receives:,.0f} receives, {receives / of.seconds:,.3g} a second, in \
{receives / _FULL.batch:,.0f} to {receives:,.0f} invocations
      {self.asked / instances:,.0f} calls to what is away by each instance; {busy:.0f} % of the instances' time
    afterwards: backlog {self.backlog * scale:,.0f}, drained at {self.drain * scale:,.0f} a second
      no event older than {LAG:.0f} s from {self.lag_back:,.0f} s on (bound {of.bound:,.0f})
    in the end: {self.given_up} dead letters, {self.lost} lost, at most {self.most} receives of a message \
({self.took:.0f} s)"""


def capacity(shape: Shape, *, requests: int) -> float:
    """Messages a second that a deployment copies, by so many requests each, a batch side by side.

    A new object takes 3 requests. One whose event was delivered before takes 5: nothing is guessed of its copy.
    """
    return shape.instances * shape.batch / (requests * shape.request + shape.overhead)


GCS, S3 = Side.DESTINATION, Side.SOURCE
QUIET = Scenario(name="GCS away for 13 days and 22 h", seconds=13.92 * DAY, rate=2e-6, begins=BEFORE + 1, after=0.0)
"""Two or three events, one of them as old as the outage."""
SHORT = (
    Scenario(name="GCS away for 60 s", seconds=60, scale=10, after=60),
    Scenario(name="S3 away for 60 s", seconds=60, sides=(S3,), scale=10, after=60),
    Scenario(name="GCS away for 2 h", seconds=2 * 3600, scale=500),
)
FULL = (
    Scenario(name="GCS away for 7 days", seconds=7 * DAY, scale=1500),
    Scenario(name="GCS away for 24 h", seconds=DAY, scale=400),
    Scenario(name="S3 away for 24 h", seconds=DAY, sides=(S3,), scale=500),
    Scenario(name="both away for 24 h", seconds=DAY, sides=(S3, GCS), scale=500),
    Scenario(name="GCS away for 60 s", seconds=60, after=120),
    Scenario(name="S3 away for 60 s", seconds=60, sides=(S3,), after=120),
    QUIET,
)


def simulate(scenario: Scenario) -> Report:
    """Let an outage pass, and look at what it left."""
    began = time.monotonic()
    report = Report(scenario=scenario)
    deployment = Deployment(scenario.shape, RULES)
    ends = BEFORE + scenario.seconds
    troubles = [Trouble(side=side, begins=BEFORE, ends=ends) for side in scenario.sides]
    deployment.troubles += troubles
    quiet = ends + scenario.bound + scenario.after
    deployment.expect(steady("originals", scenario.rate / scenario.scale, quiet, scenario.begins))
    deployment.run(BEFORE)
    received, billed = deployment.queue.received, deployment.busy
    deployment.run(ends)
    report.receives = deployment.queue.received - received
    report.billed = deployment.busy - billed
    report.backlog = deployment.queue.left
    report.asked = sum(trouble.met for trouble in troubles)
    deployment.run(quiet)
    deployment.run(quiet + 2 * LONGEST)
    report.events = len(deployment.queue.messages)
    report.most = max(message.receives for message in deployment.queue.messages)
    report.lag_back = max(0.0, (deployment.lag_over(LAG) or 0.0) - ends)
    report.drain = _settled(deployment, ends, ends + report.lag_back) / max(1.0, report.lag_back)
    report.given_up = len(deployment.queue.dead) + len(deployment.queue.parked)
    report.lost = len(deployment.queue.lost)
    report.faults = list(_faults(deployment, report))
    report.took = time.monotonic() - began
    return report


def _settled(deployment: Deployment, begins: float, ends: float) -> int:
    return sum(begins < (message.settled or 0.0) <= ends for message in deployment.queue.messages)


def _faults(deployment: Deployment, report: Report) -> Sequence[str]:
    """Say what should not be."""
    queue, scenario = deployment.queue, report.scenario
    probes = scenario.shape.instances * (2 * OPENS_AFTER * scenario.shape.batch + scenario.seconds / LONGEST_OPEN)
    found = {
        f"{report.given_up} given up": report.given_up,
        f"{report.lost} lost": report.lost,
        f"{queue.left} left in the queue": queue.left,
        f"not equal: {deployment.differences()[:3]}": bool(deployment.differences()),
        f"{report.asked} calls to what was away, more than {probes:.0f}": report.asked > probes,
        f"{report.receives} receives, more than {most_receives(scenario):.0f}": report.receives
        > most_receives(scenario),
        f"lag back after {report.lag_back:.0f} s": report.lag_back > scenario.bound,
    }
    return [what for what, wrong in found.items() if wrong]


def most_receives(scenario: Scenario) -> float:
    """Receives that an outage can cost: of what comes, by its age, and of no more than can be in flight at once."""
    ages, age = [], 0.0
    while age < scenario.seconds:
        ages.append(age)
        age += delay(len(ages), age, lambda: 1.0)
    rate = scenario.rate / scenario.scale
    by_age = sum(1 + rate * (scenario.seconds - age) for age in ages)
    return by_age + rate * BEFORE


def run(scenarios: Sequence[Scenario] = FULL, workers: int = 2) -> int:
    """Simulate all, print what came of each, and return the number of faults."""
    faults = 0
    with ProcessPoolExecutor(workers) as pool:
        for report in pool.map(simulate, scenarios):
            print(report, flush=True)
            for fault in report.faults:
                print(f"DIVERGENCE: {report.scenario.name}: {fault}")
            faults += len(report.faults)
    print(f"outages: {len(scenarios)} simulated, {faults} divergences")
    return faults


if __name__ == "__main__":
    sys.exit(1 if run() else 0)
