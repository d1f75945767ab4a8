"""Every interleaving of a small history, or a random walk through a large one, checked at every step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from handler.model import ABSENT, Generation
from tests.proof.world import ACKNOWLEDGED, FAILED, FOREIGN, KEY, Call, Copy, History, Knowledge, Seen


class World(NamedTuple):
    """One state of everything; the budgets say what may still go wrong."""

    changes: int
    objects: tuple[tuple[str, Copy], ...]
    """At the destination, by name."""
    workers: tuple[int, ...]
    generations: int
    duplicates: int
    crashes: int
    losses: int

    def at(self, name: str) -> Copy | None:
        """What is at a name."""
        return next((copy for found, copy in self.objects if found == name), None)

    def having(self, **changed: Copy | None) -> World:
        """The same with other objects; None removes one."""
        kept = {name: copy for name, copy in self.objects if name not in changed}
        added = {name: copy for name, copy in changed.items() if copy is not None}
        return self._replace(objects=tuple(sorted({**kept, **added}.items())))


class Step(NamedTuple):
    """Something that happens, in words, and the world after it."""

    what: str
    world: World


class BrokenError(Exception):
    """An invariant does not hold; `steps` is how it came to that."""

    def __init__(self, invariant: str, history: str, steps: tuple[str, ...] = ()) -> None:
        self.invariant, self.history, self.steps = invariant, history, steps
        super().__init__("\n".join([f"{invariant}, in the history {history!r}:", *(f"  {step}" for step in steps)]))


@dataclass
class Explorer:
    """Explores one history.

    Args:
        history: what happens at the source, and the loop that follows it.
        duplicates, crashes, losses: how many deliveries come twice, workers die, answers are lost.
        at_once: how many workers there are.
    """

    history: History
    duplicates: int = 1
    crashes: int = 1
    losses: int = 0
    at_once: int = 3
    states: int = field(default=0, init=False)
    ends: int = field(default=0, init=False)
    fired: dict[str, int] = field(default_factory=dict, init=False)

    def begin(self) -> World:
        """Return the world before anything happened."""
        foreign = ((KEY, Copy(self.history.foreign, FOREIGN, Generation(1, 1))),) if self.history.foreign else ()
        return World(0, foreign, (), 1, self.duplicates, self.crashes, self.losses)

    def exhaust(self) -> None:
        """Look at every state that can be reached, once.

        Raises:
            BrokenError: with the steps that lead there.
        """
        start = self.begin()
        came: dict[World, tuple[World, str] | None] = {start: None}
        ahead = [start]
        while ahead:
            world = ahead.pop()
            ended = True
            try:
                for step in self.steps(world):
                    ended = False
                    if step.world not in came:
                        came[step.world] = (world, step.what)
                        ahead.append(step.world)
                if ended:
                    self.check_end(world)
            except BrokenError as broken:
                raise BrokenError(broken.invariant, self.history.name, (*_trace(came, world), *broken.steps)) from None
        self.states = len(came)

    def walk(self, seed: int) -> int:
        """Take one random way to an end, and return its length.

        Raises:
            BrokenError: with the steps; the same seed takes them again.
        """
        chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
        world, taken = self.begin(), []
        try:
            while steps := list(self.steps(world)):
                step = chance.choice(steps)
                taken.append(step.what)
                world = step.world
            self.check_end(world)
        except BrokenError as broken:
            name = f"{self.history.name}, seed {seed}"
            raise BrokenError(broken.invariant, name, (*taken, *broken.steps)) from None
        self.states += len(taken)
        return len(taken)

    def steps(self, world: World) -> Iterator[Step]:
        """Everything that can happen next."""
        if world.changes < len(self.history.changes):
            number = world.changes + 1
            after = world._replace(changes=number)
            begun = self.history.worker(number, first=True)
            yield Step(f"source: {self.history.changes[number - 1]} (state {number})", self._with(after, begun))
        if world.duplicates:
            for begun in {self.history.worker(number, first=True) for number in range(1, world.changes + 1)}:
                after = world._replace(duplicates=world.duplicates - 1)
                yield self._fault("duplicate", "an event comes twice", self._with(after, begun))
        for place, worker in enumerate(world.workers):
            if place and worker == world.workers[place - 1]:
                continue  # its twin's steps are the same
            others = world._replace(workers=world.workers[:place] + world.workers[place + 1 :])
            yield from self._worker_steps(others, worker)

    def _worker_steps(self, others: World, worker: int) -> Iterator[Step]:
        """What one worker can do, in the world of all the others; it begins only where there is room for it."""
        known = self.history.known
        if not known[worker].seen and sum(bool(known[other].seen) for other in others.workers) >= self.at_once:
            return
        if self._waits(worker) and not all(self._waits(other) for other in others.workers):
            return
        call = self.history.calls[worker]
        if others.crashes and self.history.known[worker].seen:
            again = self._with(others._replace(crashes=others.crashes - 1), self._again(worker))
            yield self._fault("crash", f"worker {worker} dies, its event comes again", again)
        after, seen = self._apply(others, call, worker)
        went_on = self._with(after, self.history.learn(worker, seen))
        yield Step(f"worker {worker}: {_words(call)} -> {_answer(seen)}", went_on)
        if others.losses and call.port in {"put", "patch", "delete", "compose", "send"} and not seen.failed:
            own_retry = {"compose": "missing", "send": "unavailable"}.get(call.port, "moved")
            for way in dict.fromkeys(("unavailable", own_retry)):  # the client gives up, or meets what it did
                lost = self._with(after._replace(losses=after.losses - 1), self.history.learn(worker, Seen(failed=way)))
                yield self._fault(f"lost answer, {way}", f"worker {worker}: {_words(call)} -> answer lost, {way}", lost)

    def _waits(self, worker: int) -> bool:
        """Whether it is an event that was handed over as parts: hidden for so long that their workers come first."""
        known = self.history.known[worker]
        return self.history.queue and known.again and known.part is None and not known.seen

    def _again(self, worker: int) -> int:
        """The same delivery, made again."""
        return self.history.place(Knowledge(guess=False, again=True, part=self.history.known[worker].part))

    def _with(self, world: World, *workers: int) -> World:
        """The world with more workers; one that is done is gone, one that failed begins again."""
        going = list(world.workers)
        for worker in workers:
            call = self.history.calls[worker]
            if call == FAILED:
                going.append(self._again(worker))
            elif call != ACKNOWLEDGED:
                going.append(worker)
        return world._replace(workers=tuple(sorted(going)))

    def _fault(self, kind: str, what: str, world: World) -> Step:
        self.fired[kind] = self.fired.get(kind, 0) + 1
        return Step(what, world)

    def _apply(  # noqa: PLR0911 - a table, one row a port call
        self, world: World, call: Call, worker: int
    ) -> tuple[World, Seen]:
        """Let a port call happen: the world after it and what the worker sees."""
        match call.port:
            case "source.head":
                return world, Seen(state=world.changes)
            case "destination.head":
                return world, Seen(copy=world.at(call.name))
            case "list":
                return world, Seen(listed=tuple(pair for pair in world.objects if _is_listed(pair[0], call)))
            case "open":
                return world, self._opened(world, call)
            case "send":
                return self._with(
                    world, *(self.history.place(Knowledge(guess=False, part=p)) for p in call.sent)
                ), Seen()
        if call.expect is None:
            raise BrokenError("a write without a condition", self.history.name, (_words(call),))
        copy = world.at(call.name)
        if call.expect not in {copy.generation if copy else ABSENT, ANY}:
            return world, Seen(failed="moved")
        if call.port == "delete":
            return self._deleted(world, call, worker), Seen()
        if call.port == "compose" and not all(world.at(part) for part in call.parts):
            return world, Seen(failed="missing")
        return self._written(world, call)

    def _opened(self, world: World, call: Call) -> Seen:
        """A pinned read has its state or none; an unpinned one has the current."""
        now = self.history.states[world.changes].original
        if call.at is None:
            return Seen(state=world.changes) if now else Seen(failed="moved")
        wanted = self.history.states[call.at].original
        if wanted is None:
            raise BrokenError("a read of a state that never was", self.history.name, (_words(call),))
        if self.history.versioned or (now is not None and now.same_state(wanted)):
            return Seen(state=call.at)
        return Seen(failed="moved")

    def _deleted(self, world: World, call: Call, worker: int) -> World:
        copy = world.at(call.name)
        if copy is None:
            raise BrokenError("a delete of nothing", self.history.name, ("delete",))
        if copy.stamped == FOREIGN:
            raise BrokenError("an object of somebody else's was deleted", self.history.name, ("delete",))
        looked = max((seen.state for seen in self.history.known[worker].seen if seen.state is not None), default=0)
        if looked < copy.stamped:
            raise BrokenError("an older state deleted a newer copy", self.history.name, ("delete",))
        return world.having(**{call.name: None})

    def _written(self, world: World, call: Call) -> tuple[World, Seen]:
        was, state = world.at(call.name), self.history.states[max(call.stamped, 0)]
        if call.port == "patch":
            if was is None:
                raise BrokenError("a patch of nothing", self.history.name, (_words(call),))
            generation = was.generation._replace(metageneration=was.generation.metageneration + 1)
            written = Copy(was.content, call.stamped, generation)
        else:
            content = "".join(copy.content for part in call.parts if (copy := world.at(part))) or call.content
            written = Copy(content, call.stamped, Generation(world.generations + 1, 1))
            world = world._replace(generations=world.generations + 1)
        if call.stamped >= 0 and written.content != state.content:
            raise BrokenError("a copy mixes two states", self.history.name, (_words(call),))
        if was is not None and call.stamped < was.stamped:
            raise BrokenError("an older state replaced a newer copy", self.history.name, (_words(call),))
        gone: dict[str, Copy | None] = dict.fromkeys(call.parts)
        return world.having(**gone, **{call.name: written}), Seen(copy=written)

    def check_end(self, world: World) -> None:
        """Check what must hold once the source is quiet and every event is acknowledged."""
        self.ends += 1
        final, copy = self.history.states[-1], world.at(KEY)
        if left := [name for name, _ in world.objects if name != KEY]:
            raise BrokenError("a staged part is left that nothing needs", self.history.name, tuple(left))
        if final.original is None:
            if copy is not None and copy.stamped >= 0:
                raise BrokenError("a copy is left of what was deleted", self.history.name)
            if copy is None and self.history.foreign and not any(s.original for s in self.history.states):
                raise BrokenError("an object of somebody else's is gone", self.history.name)
        elif copy is None:
            raise BrokenError("the end is not equal: there is no copy", self.history.name)
        elif (copy.content, copy.stamped) != (final.content, len(self.history.states) - 1):
            raise BrokenError("the end is not equal: the copy is of an older state", self.history.name)


ANY = Generation(-1, -1)
"""What a deliberate fault puts where no condition is: it is always met."""


def _is_listed(name: str, call: Call) -> bool:
    start, stop = call.bounds
    return name.startswith(call.name) and name >= start and (not stop or name < stop)


def _trace(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    steps: list[str] = []
    while (before := came[world]) is not None:
        world, what = before
        steps.append(what)
    return tuple(reversed(steps))


def _words(call: Call) -> str:
    details = [
        *([call.name] if call.name not in {"", KEY} else []),
        *([repr(call.content)] if call.content else []),
        *([f"state {call.stamped}"] if call.stamped >= 0 else []),
        *([f"at state {call.at}"] if call.at is not None else []),
        *([f"if at {tuple(call.expect)}"] if call.expect else []),
    ]
    return " ".join([call.port, *details])


def _answer(seen: Seen) -> str:
    if seen.failed:
        return seen.failed
    if seen.copy:
        return f"{seen.copy.content!r} of state {seen.copy.stamped} at {tuple(seen.copy.generation)}"
    return "ok" if seen.state is None else f"state {seen.state}"
