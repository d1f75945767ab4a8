"""One run of a scenario of the liveness mode, and the invariants that must hold.

A fault begins at `BEGINS` and lasts, while the source changes. What the fault does not touch must end equal in time.
Once it ends, all must. Then the source changes once more, and all must be as if there had been no fault.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from handler.core.breaker import Side
from tests.proof.interleaved import Interleaved
from tests.proof.liveness_load import RULES, Load
from tests.proof.liveness_scenarios import Scenario
from tests.proof.reader import Copy, Reader, Watched
from tests.proof.virtual import Message

BEGINS = 30.0
"""When the fault begins."""

STEP_BACK = "a reader saw a step back"
LATE = "a healthy copy was not equal in time"
LATE_AFTER = "a copy was not equal in time once the fault had ended"
AGAIN = "a message of healthy keys came more often than it should"
RECEIVED = "a message that fails was received too often"
ASKED = "what is broken was asked too often"
GIVEN_UP = "what was given up is not what is refused"
RAISED = "the function raised"
NOT_EQUAL = "the end is not equal"


@dataclass(kw_only=True)
class Report:
    """What came of a scenario."""

    scenario: Scenario
    changes: int = 0
    messages: int = 0
    receives: int = 0
    crashes: int = 0
    looks: int = 0
    came_back: list[float] = field(default_factory=list)
    met: int = 0
    most_met: float = 0.0
    healthy: list[float] = field(default_factory=list)
    """Seconds until each copy that the fault does not touch was equal, while it lasted."""
    parked: int = 0
    recovered: float = 0.0
    """Seconds after the fault until everything was equal."""
    after: list[float] = field(default_factory=list)
    """Seconds until each copy was equal, of the changes after that."""
    took: float = 0.0
    broken: dict[str, str] = field(default_factory=dict)
    """Invariants, each with what broke it first."""

    def __str__(self) -> str:
        of = self.scenario
        return f"""\
  {of.name}: {self.changes:,} changes, {self.messages:,} messages, {self.receives:,} receives, {self.crashes} crashes, \
{self.looks:,} writes seen; \
what was deleted came back {len(self.came_back)} times for {max(self.came_back, default=0):.2f} s at most
    copies it does not touch: equal after {_spread(self.healthy)} (bound {of.others:.1f} s)
    calls to what is broken: {self.met:,} (bound {self.most_met:,.0f}); dead letters {self.parked}
    once it ended: all equal after {self.recovered:,.0f} s (bound {of.recovery:,.0f} s), then {_spread(self.after)} \
({self.took:.1f} s)"""


def _spread(lags: Sequence[float]) -> str:
    return f"{median(lags):.2f} s, at most {max(lags):.2f} s" if lags else "-"


class Run:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        random.seed(scenario.seed)  # the handler's jitter
        self.scenario = scenario
        self.report = Report(scenario=scenario)
        self.world = world = Interleaved(scenario.shape, RULES)
        self.reader = Reader(world.rules, lambda: world.clock.base)
        for location in {rule.destination for rule in world.rules}:
            world.destinations[location] = Watched(location, self.reader)
        self.load = Load(
            deployment=world, reader=self.reader, seed=scenario.seed, keys=scenario.keys, bursts=scenario.bursts
        )
        self.ends = BEGINS + scenario.seconds
        if scenario.fault:
            world.troubles.append(replace(scenario.fault, begins=BEGINS, ends=self.ends))

    def run(self) -> Report:
        """Let it happen."""
        began, report, world = time.monotonic(), self.report, self.world
        if self.scenario.load:
            self.load.plan(0.0, self.scenario.load, self.scenario.rate)
        else:
            self.load.burst(BEGINS + 1.0)
        world.run(self.ends)
        self._while_it_lasted()
        self._redrive()
        world.run(self.ends + self.scenario.recovery)
        self._recovered()
        again = world.clock.base
        self.load.plan(again, again + 30.0, self.scenario.rate)
        world.run(again + 30.0 + self.load.late + self.load.again + 60.0)
        self._in_the_end(again)
        report.messages, report.receives = len(world.queue.messages), world.queue.received
        report.came_back = self.reader.came_back
        report.changes, report.crashes, report.looks = self.load.changes, world.crashes, self.reader.looks
        world.close()
        report.took = time.monotonic() - began
        return report

    def _is_touched(self, copy: Copy) -> bool:
        """Return True if the fault is in the way of this copy."""
        return any(
            trouble.hits(Side.SOURCE, copy.bucket, copy.key, BEGINS)
            or trouble.hits(Side.DESTINATION, copy.destination, copy.name, BEGINS)
            for trouble in self.world.troubles
        )

    def _touched(self, message_body: str) -> bool:
        """Return True if the fault is in the way of any copy that a message is about."""
        s3 = json.loads(message_body)["Records"][0]["s3"]
        return any(self._is_touched(copy) for _, copy in self.reader.copies(s3["bucket"]["name"], s3["object"]["key"]))

    def _break(self, invariant: str, what: object) -> None:
        self.report.broken.setdefault(invariant, str(what)[:300])

    def _while_it_lasted(self) -> None:
        scenario, report, queue = self.scenario, self.report, self.world.queue
        lags = [(lag, copy) for copy, lag, _ in self.reader.lags if not self._is_touched(copy)]
        report.healthy = [lag for lag, _ in lags]
        for late in [(lag, copy) for lag, copy in lags if lag > scenario.others]:
            self._break(LATE, late)
        for copy in self.reader.unequal():
            if not self._is_touched(copy):
                self._break(LATE, f"never: {copy}")
        about = [message for message in queue.messages if self._touched(message.body)]
        report.met = sum(trouble.met for trouble in self.world.troubles)
        report.most_met = scenario.asked(len(about))
        if report.met > report.most_met:
            self._break(ASKED, f"{report.met} calls, more than {report.most_met:.0f}")
        for message in about:
            if message.receives > scenario.receives:
                self._break(RECEIVED, f"{message.receives} times, more than {scenario.receives:.0f}: {message.body}")
        for message in self._came_again(set(map(id, about))):
            self._break(AGAIN, f"{message.receives} receives of {message.body}")

    def _came_again(self, about: set[int]) -> Iterator[Message]:
        """Yield healthy messages that came again, though nothing but their own keys can have failed."""
        fault = self.scenario.fault
        if fault is None or fault.kind in {"away", "refused"}:
            yield from (each for each in self.world.queue.messages if id(each) not in about and each.receives > 1)

    def _redrive(self) -> None:
        """Look through the dead letters, and send them again, as an operator does."""
        queue = self.world.queue
        refused = self.scenario.fault is not None and self.scenario.fault.kind == "refused"
        for reason, body in queue.parked:
            if not (refused and self._touched(body)):
                self._break(GIVEN_UP, f"{reason}: {body}")
        for message in queue.dead + queue.lost:
            self._break(GIVEN_UP, message)
        if refused and not queue.parked:
            self._break(GIVEN_UP, "nothing is parked")
        self.report.parked = len(queue.parked)
        for _, body in queue.parked:
            queue.send(body)
        queue.parked.clear()

    def _recovered(self) -> None:
        moments = [moment for _, _, moment in self.reader.lags if moment > self.ends]
        self.report.recovered = max(moments, default=self.ends) - self.ends
        for copy in self.reader.unequal():
            self._break(LATE_AFTER, copy)
        if self.world.queue.left:
            self._break(LATE_AFTER, f"{self.world.queue.left} messages are left")

    def _in_the_end(self, again: float) -> None:
        self.report.after = [lag for _, lag, moment in self.reader.lags if moment > again]
        if max(self.report.after) > self.scenario.own:
            self._break(LATE_AFTER, f"{max(self.report.after):.2f} s of a change when all was well again")
        for back in self.reader.steps_back:
            self._break(STEP_BACK, back)
        if max(self.reader.came_back, default=0.0) > self.scenario.own:
            self._break(STEP_BACK, f"a deleted state was back for {max(self.reader.came_back):.2f} s")
        for error in self.world.raised:
            self._break(RAISED, repr(error))
        for copy in [*self.reader.unequal(), *self.world.differences()]:
            self._break(NOT_EQUAL, copy)
        if self.world.queue.left or self.world.queue.parked:
            self._break(NOT_EQUAL, f"{self.world.queue.left} messages are left, {self.world.queue.parked[:2]} parked")


def simulate(scenario: Scenario) -> Report:
    """Let a scenario happen, and look at what came of it."""
    return Run(scenario).run()
