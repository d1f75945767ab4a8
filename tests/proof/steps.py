"""What can happen next: a change at the source, a third party's deed, a worker's next port call, or a fault of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from handler.core.model import ABSENT, Generation, Stamp
from handler.core.plan import STAGING
from tests.proof import invariants
from tests.proof.history import History
from tests.proof.invariants import BrokenError, Invariant
from tests.proof.third_party import DEEDS
from tests.proof.world import ACKNOWLEDGED, FAILED, STAGED, Call, Copy, Knowledge, Seen


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
    cuts: int
    third: tuple[str, ...]
    """What the third party has not done yet."""

    def at(self, name: str) -> Copy | None:
        """What is at a name."""
        return next((copy for found, copy in self.objects if found == name), None)

    def having(self, changed: dict[str, Copy | None]) -> World:
        """The same with other objects; None removes one."""
        kept = {name: copy for name, copy in self.objects if name not in changed}
        added = {name: copy for name, copy in changed.items() if copy is not None}
        return self._replace(objects=tuple(sorted({**kept, **added}.items())))


class Step(NamedTuple):
    """Something that happens, in words, and the world after it."""

    what: str
    world: World


@dataclass
class Steps:
    """What can happen next in a world.

    Args:
        history: what happens at the source, and the code that follows it.
        duplicates, crashes, losses: how many deliveries come twice, workers die, answers are lost.
        cuts: how many changes of storage class are cut off: the time ends before the rewrite does.
        at_once: how many workers there are.
        writes: after how many writes a way is left, where keys that share a name overwrite each other; 0: never.
    """

    history: History
    duplicates: int = 1
    crashes: int = 1
    losses: int = 0
    cuts: int = 0
    at_once: int = 3
    writes: int = 0
    fired: dict[str, int] = field(default_factory=dict, init=False)
    """How often each kind of fault happened."""

    def steps(self, world: World) -> Iterator[Step]:
        """Everything that can happen next."""
        if self.writes and world.generations > self.writes:
            return
        yield from self._changes(world)
        yield from self._deeds(world)
        for place, worker in enumerate(world.workers):
            if place and worker == world.workers[place - 1]:
                continue  # its twin's steps are the same
            others = world._replace(workers=world.workers[:place] + world.workers[place + 1 :])
            yield from self._worker_steps(others, worker)

    def _changes(self, world: World) -> Iterator[Step]:
        """The next change at the source, and events that come once more."""
        history, number = self.history, world.changes + 1
        after = world._replace(changes=number)
        if number > len(history.changes):
            pass
        elif history.changes[number - 1] != "rules":
            begun = history.worker(number, history.ruleset(number), first=True)
            yield Step(f"source: {history.changes[number - 1]} (state {number})", self._with(after, begun))
        elif not world.workers:  # what is under way by the old rules is let finish
            begun_all = [self._hint(after, key) for key in history.keys]
            yield Step("other rules are deployed, every key is verified", self._with(after, *begun_all))
        if world.duplicates:
            rules = history.ruleset(world.changes)
            told = [at for at in range(1, number) if history.states[at].key]
            for begun in {history.worker(at, rules, first=True) for at in told}:
                again = world._replace(duplicates=world.duplicates - 1)
                yield self._fault("duplicate", "an event comes twice", self._with(again, begun))

    def _deeds(self, world: World) -> Iterator[Step]:
        """What a third party can do to a copy; the key's next event, or a verify, comes after it."""
        for deed in world.third:
            for name, copy in world.objects:
                if copy.state < 0:
                    continue
                left = tuple(other for other in world.third if other != deed)
                changed = DEEDS[deed](self.history, copy, world.generations + 1)
                after = world.having({name: changed})._replace(third=left, generations=world.generations + 1)
                what = f"third party: {deed} of {name}, and {copy.key} is verified"
                yield self._fault(f"third party: {deed}", what, self._with(after, self._hint(after, copy.key)))

    def _hint(self, world: World, key: str) -> int:
        """A worker that is told of a key, and of nothing else."""
        return self.history.place(Knowledge(key, rules=self.history.ruleset(world.changes)))

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
        does = f"worker {worker} for {known[worker].key}: {_words(call)}"
        yield Step(f"{does} -> {_answer(call, seen)}", went_on)
        if others.cuts and self._is_rewrite(others, call) and not seen.failed:
            cut = self.history.learn(worker, Seen(failed="unavailable"))
            after = others._replace(cuts=others.cuts - 1)
            yield self._fault("rewrite cut off", f"{does} -> no time is left for the rewrite", self._with(after, cut))
            return
        if others.losses and call.port in {"put", "patch", "delete", "compose", "send"} and not seen.failed:
            own_retry = {"compose": "missing", "send": "unavailable"}.get(call.port, "moved")
            for way in dict.fromkeys(("unavailable", own_retry)):  # the client gives up, or meets what it did
                lost = self._with(after._replace(losses=after.losses - 1), self.history.learn(worker, Seen(failed=way)))
                yield self._fault(f"lost answer, {way}", f"{does} -> answer lost, {way}", lost)

    def _is_rewrite(self, world: World, call: Call) -> bool:
        """Whether a call changes a copy's storage class, which is a new generation of it."""
        was, kind = (
            world.at(call.name),
            self.history.stamp(call.carried).storage_class if call.port == "patch" else None,
        )
        return was is not None and kind not in {None, self.history.stamp(was.carried).storage_class}

    def _waits(self, worker: int) -> bool:
        """Whether it is an event that was handed over as parts: hidden for so long that their workers come first."""
        known = self.history.known[worker]
        return self.history.queue and known.redelivered and known.task is None and not known.seen

    def _again(self, worker: int) -> int:
        """The same delivery, made again."""
        before = self.history.known[worker]
        return self.history.place(Knowledge(before.key, rules=before.rules, redelivered=True, task=before.task))

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
        known = self.history.known[worker]
        match call.port:
            case "source.head":
                return world, Seen(state=self.history.version(known.key, world.changes))
            case "destination.head":
                return world, Seen(copy=world.at(call.name))
            case "list":
                return world, Seen(listed=tuple(pair for pair in world.objects if _is_listed(pair[0], call)))
            case "open":
                return world, self._opened(world, call, known.key)
            case "send":
                sent = [Knowledge(known.key, rules=known.rules, task=task) for task in call.sent]
                return self._with(world, *map(self.history.place, sent)), Seen()
        if call.expect is None:
            raise BrokenError(Invariant.UNCONDITIONAL, self.history.name, (_words(call),))
        copy = world.at(call.name)
        if not _is_met(call.expect, copy.generation if copy else ABSENT):
            return world, Seen(failed="moved")
        if call.port == "delete":
            by = known.key, known.looked
            invariants.check_deletion(self.history, world.changes, call.name, copy, by)
            return world.having({call.name: None}), Seen()
        if call.port == "compose" and not all(world.at(part) for part in call.parts):
            return world, Seen(failed="missing")
        return self._written(world, call, known)

    def _opened(self, world: World, call: Call, key: str) -> Seen:
        """A pinned read has its state or none; an unpinned one has the current."""
        number = self.history.version(key, world.changes)
        now = self.history.states[number].original
        if call.at is None:
            return Seen(state=number) if now else Seen(failed="moved")
        wanted = self.history.states[call.at].original
        if wanted is None:
            raise BrokenError(Invariant.NEVER_WAS, self.history.name, (_words(call),))
        if self.history.versioned or (now is not None and now.state == wanted.state):
            return Seen(state=call.at)
        return Seen(failed="moved")

    def _written(self, world: World, call: Call, known: Knowledge) -> tuple[World, Seen]:
        history, was = self.history, world.at(call.name)
        stamp = history.stamp(call.carried)
        staged = call.name.partition("/")[2].startswith(STAGING)
        if call.port == "patch":
            there = invariants.check_patch(history, was, stamp, call.name)
            content, before = there.content, history.stamp(there.carried)
            generation = there.generation._replace(metageneration=there.generation.metageneration + 1)
            if self._is_rewrite(world, call):
                generation = Generation(world.generations + 1, 1)
                world = world._replace(generations=world.generations + 1)
        else:
            content = "".join(copy.content for part in call.parts if (copy := world.at(part))) or call.content
            before, generation = Stamp(), Generation(world.generations + 1, 1)
            world = world._replace(generations=world.generations + 1)
        if generation.metageneration > self._most or generation.number > 10 * self._most:
            raise BrokenError(Invariant.NO_END, history.name, (_words(call),))
        carried = history.carried(history.stored(stamp, before))
        copy = Copy(content, carried, generation, known.key, "", STAGED if staged else known.looked)
        if not staged:
            copy = invariants.check_copy(history, was, copy, call.name, known.rules)
        return world.having({**dict.fromkeys(call.parts), call.name: copy}), Seen(copy=copy)

    @property
    def _most(self) -> int:
        """A bound on the patches of one copy: two for whatever happens. The bound on all writes is ten times that."""
        happens = len(self.history.changes) + len(self.history.third) + self.duplicates + self.crashes + self.losses
        return 2 * (happens + 2)


ANY = Generation(-1, -1)
"""What a deliberate fault puts where no condition is: it is always met, and so is each -1 of one."""


def _is_met(expect: Generation, generation: Generation) -> bool:
    return all(one in {other, -1} for one, other in zip(expect, generation, strict=True))


def _is_listed(name: str, call: Call) -> bool:
    start, stop = call.bounds
    return name.startswith(call.name) and name >= start and (not stop or name < stop)


def _words(call: Call) -> str:
    details = [
        *([call.name] if call.port not in {"open", "source.head"} else []),
        *([repr(call.content)] if call.content else []),
        *([f"at state {call.at}"] if call.at is not None else []),
        *([f"if at {tuple(call.expect)}"] if call.expect else []),
    ]
    return " ".join([call.port, *details])


def _answer(call: Call, seen: Seen) -> str:
    if seen.failed:
        return seen.failed
    if seen.copy:
        return f"{seen.copy.content!r} of state {seen.copy.state} at {tuple(seen.copy.generation)}"
    if call.port == "destination.head":
        return "nothing"
    return "ok" if seen.state is None else f"state {seen.state}"
