"""The deployment of `virtual.py` with each port call as an event of its own, so that invocations run into each other.

In `virtual.py` an invocation is computed at one moment. Here each key's work is a task, which sleeps in virtual time
for as long as each request takes. Meanwhile the source changes, other invocations work on the same keys, and an
invocation may crash or reach its timeout. A seed repeats a run.

Simplified: a new instance after a crash starts in no time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from handler.core.breaker import Side
from local_emulator.poller import failed_ids
from tests.proof.tasks import Group, KilledError, Tasks
from tests.proof.virtual import Deployment, Instance, _record
from tests.proof.virtual_ports import Clouds
from tests.proof.virtual_sqs import Clock, Message, Shape


class _Time(Clock):
    """The clock of a deployment whose work are tasks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tasks = Tasks(self)
        self._request = shape.request
        self._random = random.Random(f"{shape.seed} requests")  # noqa: S311 - to be repeatable

    def now(self, key: str | None = None) -> float:
        return self.base

    def spend(self, key: str, seconds: float) -> None:
        """Take so long; a request that is answered takes at most so long."""
        self.tasks.sleep(seconds if seconds > self._request else seconds * self._random.uniform(0.1, 1.0))

    def left(self) -> float:
        return self.tasks.current.group.ends - self.base


class _Clouds(Clouds):
    """Clouds whose troubles may end an invocation, too."""

    def __init__(self, shape: Shape, clock: Clock) -> None:
        super().__init__(shape, clock)
        assert isinstance(clock, _Time)
        self._tasks = clock.tasks

    def meet(self, side: Side, bucket: str, key: str) -> None:
        """See `Clouds.meet`; a crash takes the whole invocation, and what hangs does so until the timeout."""
        for trouble in self.troubles:
            if trouble.kind in {"crash", "hang"} and trouble.hits(side, bucket, key, self._clock.base):
                trouble.met += 1
                if trouble.kind == "hang":
                    self._tasks.sleep(inf)
                self._tasks.kill(self._tasks.current.group)
                raise KilledError
        super().meet(side, bucket, key)


class _SideBySide:
    """The replicator's thread pool."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return self._tasks.all_of([partial(work, item) for item in items])


class Interleaved(Deployment):
    """A deployment in which work takes time while other things happen. See the module."""

    clouds_of = _Clouds

    def __init__(self, shape: Shape, rules: Sequence[Mapping[str, Any]]) -> None:
        time = _Time(shape)
        self.tasks = time.tasks
        self.crashes = 0
        self.raised: list[BaseException] = []
        """What the function raised: each time its whole batch comes again."""
        super().__init__(shape, rules, time)
        for number in range(shape.instances):
            self._replace(number)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        self.tasks.at(moment, action)

    def _replace(self, number: int) -> None:
        """Start an instance, that knows nothing."""
        self._instances[number] = instance = Instance(self, self._settings)
        instance.service.replicator._threads = _SideBySide(self.tasks)  # type: ignore[assignment] # as far as it is used

    def _next_moment(self) -> float:
        if self._idle and self.queue.waiting:
            return self.clock.base
        return min(self.tasks.next_moment(), self.queue.next_expiry())

    def _happen(self) -> None:
        while self.tasks.next_moment() <= self.clock.base:
            self.tasks.step()
        self.queue.show()
        while self._idle and self.queue.waiting:
            if batch := self.queue.receive():
                self._invoke(self._idle.pop(0), batch)

    def _invoke(self, number: int, batch: Sequence[Message]) -> None:
        self.invocations += 1
        began = self.clock.base
        group = Group(ends=began + self.shape.timeout)

        def ended() -> None:
            self.busy += self.clock.base - began
            self._idle.append(number)
            if group.killed:
                self.crashes += 1
                self._replace(number)
            elif work.error:
                self.raised.append(work.error)

        work = self.tasks.start(partial(self._work, number, batch, group), group, ended)
        self.at(group.ends, lambda: None if work.done else self.tasks.kill(group))

    def _work(self, number: int, batch: Sequence[Message], group: Group) -> None:
        service = self._instances[number].service
        service.deadline.begin(self.clock)
        answer = service.handle({"Records": [_record(message) for message in batch]})
        failed = failed_ids(answer, [str(message.id) for message in batch])
        self.tasks.sleep(self.shape.overhead)
        for message in batch:
            if str(message.id) not in failed:
                self.queue.delete(message)

    def close(self) -> None:
        """End what still runs."""
        self.tasks.close()
