"""Every interleaving of a small history, or a random walk through a large one, checked at every step."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from handler.core.model import Generation, Stamp
from tests.proof import invariants
from tests.proof.invariants import BrokenError, Invariant
from tests.proof.steps import Steps, World
from tests.proof.world import Copy


@dataclass
class Explorer(Steps):
    """Explores one history; the arguments are those of `Steps`."""

    states: int = field(default=0, init=False)
    ends: int = field(default=0, init=False)

    def begin(self) -> World:
        """Return the world before anything happened."""
        foreign = tuple(
            (name, Copy(content, self.history.carried(self.history.stored(Stamp(metadata=metadata))), Generation(1, 1)))
            for name, content, metadata in sorted(self.history.foreign)
        )
        return World(0, foreign, (), 1, self.duplicates, self.crashes, self.losses, self.cuts, self.history.third)

    def exhaust(self, *, shortest: bool = False) -> None:
        """Look at every state that can be reached, once.

        Args:
            shortest: look at what is near first, so that the steps that are raised are the fewest. That takes longer.

        Raises:
            BrokenError: with the steps that lead there.
        """
        start = self.begin()
        came: dict[World, tuple[World, str] | None] = {start: None}
        ahead = deque([start])
        while ahead:
            world = ahead.popleft() if shortest else ahead.pop()
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
        if not self.ends and not self.writes:
            raise BrokenError(Invariant.NEVER_ENDS, self.history.name)

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

    def check_end(self, world: World) -> None:
        """Check what must hold once the source is quiet and every event is acknowledged."""
        self.ends += 1
        invariants.check_end(self.history, dict(world.objects))


def _trace(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    steps: list[str] = []
    while (before := came[world]) is not None:
        world, what = before
        steps.append(what)
    return tuple(reversed(steps))
