"""Runs the commands of a deployment: each is printed first, and asked for where it changes something."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


class StoppedError(Exception):
    """A step failed or was declined; the message says why, and what to do."""


@dataclass
class Shell:
    """Runs commands in one environment, and keeps what was done for the report.

    Attributes:
        dry: print every command, and run none.
        yes: ask for nothing.
        pause: seconds between two looks at what takes time.
    """

    environment: Mapping[str, str]
    dry: bool = False
    yes: bool = False
    pause: float = 5.0
    answer: Callable[[str], str] = input
    done: list[str] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line at once."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print what was done or kept, and keep it for the report."""
        self.say(f"  {text}")
        self.done.append(text)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step; a failure names it."""
        self.say(f"\n== {name}")
        started = time.monotonic()
        try:
            yield
        except StoppedError as error:
            raise StoppedError(f"Stopped at the step {name!r}. {error}") from error
        finally:
            self.steps.append((name, time.monotonic() - started))

    def read(self, *command: str, absent: tuple[str, ...] = (), quiet: bool = False) -> str | None:
        """Run a command that changes nothing.

        Returns:
            its output; None in a dry run, or if it fails with one of the texts in `absent`.
        """
        if not quiet:
            self._print(command)
        if self.dry:
            return None
        ended = self._run(command, capture=True)
        if ended.returncode == 0:
            return ended.stdout
        if any(text in ended.stderr for text in absent):
            return None
        raise StoppedError(_failure(command, ended.returncode, ended.stdout + ended.stderr))

    def change(self, *command: str, asks_itself: bool = False, advice: str = "") -> None:
        """Run a command that changes something, once it was agreed to."""
        self._print(command)
        if self.dry:
            return
        if not self.yes and not asks_itself:
            self.agree("Run it?")
        ended = self._run(command, capture=False)
        if ended.returncode:
            raise StoppedError(_failure(command, ended.returncode, advice))

    def agree(self, question: str) -> None:
        """Ask, unless everything was agreed to."""
        if self.yes or self.dry:
            return
        try:
            said = self.answer(f"  {question} [y/N] ")
        except EOFError:
            said = "no one is there to ask; YES=1 agrees to everything"
        if said.strip().lower() not in {"y", "yes"}:
            raise StoppedError(f"Not agreed to: {said.strip() or 'no'}.")

    def _print(self, command: tuple[str, ...]) -> None:
        self.say(f"$ {shlex.join(command)}")

    def _run(self, command: tuple[str, ...], *, capture: bool) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE if capture else None
        return subprocess.run(  # noqa: S603 - a list of words, no shell
            command, env=dict(self.environment), stdout=pipe, stderr=pipe, text=True, check=False
        )


def _failure(command: tuple[str, ...], code: int, detail: str) -> str:
    said = detail.strip()[-1500:]
    return f"This command ended with code {code}:\n  {shlex.join(command)}" + (f"\n{said}" if said else "")
