"""Tasks in virtual time: threads of which one runs at a time, so that a run can be repeated.

A task sleeps until the clock is at a later moment. The tasks of a group can be killed together, wherever they are.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from tests.proof.virtual_sqs import Clock


class KilledError(BaseException):
    """Ends a task of an invocation that was killed; not an Exception, so that nothing in the handler can catch it."""


@dataclass(eq=False)
class Group:
    """The tasks that end together: an invocation's."""

    ends: float = inf
    tasks: list[Task] = field(default_factory=list)
    killed: bool = False


@dataclass(eq=False)
class Task:
    """Work that takes virtual time."""

    work: Callable[[], Any]
    group: Group
    then: Callable[[], None]
    """What happens at its end, however it ends."""
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    pauses: int = 0
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class Tasks:
    """Runs tasks in virtual time, one at a time.

    Args:
        clock: whose `base` is the time; whoever calls `step` moves it on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._turn = threading.Semaphore(0)
        self._running: set[Task] = set()
        self.current: Task
        """The task that runs."""

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def next_moment(self) -> float:
        """Return when the next thing happens."""
        return self._due[0][0] if self._due else inf

    def step(self) -> None:
        """Let the next thing happen."""
        heapq.heappop(self._due)[2]()

    def start(self, work: Callable[[], Any], group: Group, then: Callable[[], None] = lambda: None) -> Task:
        """Begin a task now."""
        task = Task(work, group, then)
        group.tasks.append(task)
        self._running.add(task)
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        self._wake(task)
        return task

    def sleep(self, seconds: float) -> None:
        """Let the current task wait."""
        task = self.current
        if seconds < inf:
            self.at(self._clock.base + seconds, partial(self._resume, task, task.pauses + 1))
        self._pause(task)

    def all_of(self, works: Iterable[Callable[[], Any]]) -> list[Any]:
        """Run tasks side by side, and return their results."""
        parent, left = self.current, [0]

        def ended() -> None:
            left[0] -= 1
            if not left[0]:
                self._wake(parent)

        children = [self.start(work, parent.group, ended) for work in works]
        left[0] = len(children)
        if children:
            self._pause(parent)
        for error in filter(None, (child.error for child in children)):
            raise error
        return [child.result for child in children]

    def kill(self, group: Group) -> None:
        """End all tasks of a group where they are."""
        group.killed = True
        for task in group.tasks:
            if not task.done:
                self._wake(task)

    def close(self) -> None:
        """End all tasks."""
        self._due.clear()
        for task in list(self._running):
            task.group.killed = True
            self._resume(task, task.pauses)

    def _wake(self, task: Task) -> None:
        """Resume a task that pauses, now."""
        self.at(self._clock.base, partial(self._resume, task, task.pauses))

    def _resume(self, task: Task, pause: int) -> None:
        if task.done or task.pauses != pause:
            return  # it was woken already
        self.current = task
        task.go.release()
        self._turn.acquire()
        if _has_ended(task):
            self._running.discard(task)
            task.then()

    def _pause(self, task: Task) -> None:
        task.pauses += 1
        self._turn.release()
        task.go.acquire()
        if task.group.killed:
            raise KilledError

    def _run(self, task: Task) -> None:
        task.go.acquire()
        try:
            if not task.group.killed:
                task.result = task.work()
        except BaseException as error:  # noqa: BLE001 - it is the parent's
            task.error = error
        task.done = True
        self._turn.release()


def _has_ended(task: Task) -> bool:
    """Return True if the task's own thread has ended it meanwhile, which no checker of types can know."""
    return task.done
