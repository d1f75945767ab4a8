"""A small world in which the real loop runs one port call at a time, so that every interleaving can be looked at.

A worker is the real `reconcile` over scripted ports. It is a function of what its port calls have answered so far: it
is run again from the start with those answers, and stopped at the first call that has none. So a state of the world is
a plain value (how far the source is, what the destination holds, what each worker has seen), states can be compared,
and each is looked at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from handler import mapping
from handler.errors import Moved, NotFound, ReplicationError, Unavailable
from handler.model import Generation, Original, Part, Replica, Rule, Span, Stamp
from handler.pace import Pace
from handler.parts import Parts
from handler.ports import Reader
from handler.reconcile import Outcome, Route
from handler.transfer import CheckedReader, pieces
from tests.fakes import EvenPace, crc32c, md5

KEY = "key"
RULE = Rule(id="rule", source="bucket", destination="gs://copy", replicate_tags=True)
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

FOREIGN, STAGED = -1, -2
Reconcile = Callable[..., Outcome]
"""The loop's entry, real or with a deliberate fault in it."""


@dataclass(frozen=True)
class State:
    """What the source holds after some change: None is a delete."""

    original: Original | None
    content: str = ""


class Copy(NamedTuple):
    """An object at the destination: which bytes, the stamp of which source state, at which generation."""

    content: str
    stamped: int
    """`FOREIGN` for somebody else's, `STAGED` for a part of a large copy."""
    generation: Generation


class Call(NamedTuple):
    """A port call that a worker is about to make."""

    port: str
    name: str = ""
    content: str = ""
    stamped: int = FOREIGN
    expect: Generation | None = None
    at: int | None = None
    parts: tuple[str, ...] = ()
    sent: tuple[Part, ...] = ()
    bounds: tuple[str, str] = ("", "")
    """Of the names that are listed."""


class Seen(NamedTuple):
    """What a port call answered: a state's number, a copy, or how it failed."""

    state: int | None = None
    copy: Copy | None = None
    listed: tuple[tuple[str, Copy], ...] = ()
    failed: str = ""


class Knowledge(NamedTuple):
    """What one delivery of an event knows: how it began, and what its port calls answered since."""

    guess: bool
    again: bool = False
    part: Part | None = None
    seen: tuple[Seen, ...] = ()


class _PauseError(BaseException):
    """Stops the loop at a call that has no answer yet; not an Exception, so nothing in the loop can catch it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


ACKNOWLEDGED, FAILED = Call("acknowledged"), Call("failed")


@dataclass
class History:
    """What happens to one key at the source, and the loop that is to follow it.

    Args:
        name: for people.
        changes: "put A" (bytes A), "copy" (same bytes, new metadata), "tag", "delete", in order.
        versioned: whether old states can still be read.
        foreign: bytes that somebody else put at the destination before.
        reconcile: the loop.
        span: bytes of a part, for objects copied in parts; 0 for none.
        queue: whether parts are handed over rather than copied by whoever begins.
        hurried: whether later deliveries have time for parts of one byte only, so that two cut differently.
        keyed: whether the destination has a customer-managed key, so that its listings carry no checksums.
    """

    name: str
    changes: tuple[str, ...]
    reconcile: Reconcile
    versioned: bool = False
    foreign: str = ""
    span: int = 0
    queue: bool = False
    hurried: bool = False
    keyed: bool = False
    states: list[State] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [State(None)]
        for number, change in enumerate(self.changes, 1):
            self.states.append(self._after(change, number))
        self._stamps = {
            _identity(mapping.stamp_of(state.original, RULE)): number
            for number, state in enumerate(self.states)
            if state.original
        }
        self.known: list[Knowledge] = []
        """Every knowledge that came up; a worker is an index of it."""
        self.calls: list[Call] = []
        """What the real loop does next with each knowledge."""
        self._places: dict[Knowledge, int] = {}

    def worker(self, event: int, *, first: bool) -> int:
        """Return a worker that begins on an event, delivered for the first time or again."""
        small = self.changes[event - 1].startswith("put") and not self.span
        return self.place(Knowledge(first and small, again=not first))

    def place(self, knowledge: Knowledge) -> int:
        """Return the index of a knowledge, asking the loop what it does next where it is new."""
        place = self._places.get(knowledge)
        if place is None:
            place = self._places[knowledge] = len(self.known)
            self.known.append(knowledge)
            self.calls.append(self._run(knowledge))
        return place

    def learn(self, worker: int, seen: Seen) -> int:
        """Return the worker once it has seen one answer more."""
        before = self.known[worker]
        return self.place(before._replace(seen=(*before.seen, seen)))

    def _run(self, knowledge: Knowledge) -> Call:
        script = _Script(self, knowledge.seen)
        route = Route(
            source=_Source(script),
            destination=_Destination(script),
            rules=(RULE,),
            parts=self._parts(script, hurried=self.hurried and knowledge.again),
        )
        try:
            self.reconcile(route, KEY, guess_absent=knowledge.guess, again=knowledge.again, part=knowledge.part)
        except _PauseError as pause:
            return pause.call
        except ReplicationError:
            return FAILED
        return ACKNOWLEDGED

    def _parts(self, script: _Script, *, hurried: bool) -> Parts | None:
        if not self.span:
            return None

        def send(parts: Sequence[Part]) -> None:
            script.answer(Call("send", sent=tuple(parts)))

        huge = 1 if self.queue else 1 << 40
        make: type[Parts] = getattr(self.reconcile, "__globals__", {}).get("Parts", Parts)  # a deliberate fault's own
        pace = EvenPace(1) if hurried else Pace()
        return make(_Inline(), large=1, huge=huge, span=self.span, send=send if self.queue else None, pace=pace)

    def replica(self, copy: Copy | None) -> Replica:
        """The copy as `head` gives it."""
        if copy is None:
            return Replica()
        original = self.states[copy.stamped].original if copy.stamped >= 0 else None
        return Replica(
            generation=copy.generation,
            size=len(copy.content),
            crc32c=crc32c(copy.content.encode()),
            md5=md5(copy.content.encode()),
            stamp=mapping.stamp_of(original, RULE) if original else Stamp(),
        )

    def stamped(self, stamp: Stamp) -> int:
        """The number of the source state that a stamp is of; a part's has none."""
        identity = _identity(stamp)
        is_staged = all(name.startswith(f"{mapping.PROVENANCE}part-") for name, _ in identity)
        return STAGED if is_staged else self._stamps[identity]

    def _after(self, change: str, number: int) -> State:
        if change == "delete":
            return State(None)
        before = self.states[-1]
        content = change.removeprefix("put ") if change.startswith("put ") else before.content
        moment = _BEGINNING + timedelta(seconds=number)
        tags = {"t": str(number)} if change == "tag" else {}
        version = f"v{number}" if self.versioned else None
        if change == "tag" and before.original:  # changes neither ETag nor LastModified
            moment, version = before.original.last_modified, before.original.version_id
        meta = before.original.user_metadata if change == "tag" and before.original else {"m": str(number)}
        digest = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
        original = Original(
            key=KEY,
            size=len(content),
            etag=digest,
            last_modified=moment,
            version_id=version,
            user_metadata=meta,
            tags=tags,
            md5=md5(content.encode()),
            checksums={"CRC32C": crc32c(content.encode())} if self.span else {},
        )
        return State(original, content)


class _Script:
    """Answers port calls from a list, and pauses the loop where it ends."""

    def __init__(self, history: History, answers: Sequence[Seen]) -> None:
        self.history = history
        self._answers = iter(answers)

    def answer(self, call: Call) -> Seen:
        answer = next(self._answers, None)
        if answer is None:
            raise _PauseError(call)
        if answer.failed == "moved":
            raise Moved("scripted")
        if answer.failed == "missing":
            raise NotFound("scripted")
        if answer.failed:
            raise Unavailable("scripted")
        return answer


class _Source:
    def __init__(self, script: _Script) -> None:
        self._script = script

    def head(self, key: str) -> Original | None:
        return self._state(Call("source.head")).original

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        return original

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        state = self._state(Call("open", at=None if at is None else self._number(at)))
        if state.original is None:
            raise AssertionError("the world opened an absent object")
        content = state.content.encode() if span is None else state.content.encode()[span.start : span.stop]
        yield CheckedReader(io.BytesIO(content), at or state.original, span)

    def _state(self, call: Call) -> State:
        return self._script.history.states[self._script.answer(call).state or 0]

    def _number(self, original: Original) -> int:
        return [state.original for state in self._script.history.states].index(original)


class _Destination:
    def __init__(self, script: _Script) -> None:
        self._script = script

    def head(self, key: str) -> Replica:
        return self._replica(Call("destination.head", key))

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        content = b"".join(pieces(body, 1024)).decode()
        return self._replica(Call("put", key, content, self._script.history.stamped(stamp), expect))

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        return self._replica(Call("patch", key, "", self._script.history.stamped(stamp), expect))

    def delete(self, key: str, *, expect: Generation) -> None:
        self._script.answer(Call("delete", key, expect=expect))

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        stamped = self._script.history.stamped(stamp)
        return self._replica(Call("compose", key, stamped=stamped, expect=expect, parts=tuple(parts)))

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        listed = self._script.answer(Call("list", prefix, bounds=(start, stop))).listed
        history = self._script.history
        found = {name: history.replica(copy) for name, copy in listed}
        if not history.keyed:
            return found
        return {name: replace(replica, crc32c=None, md5=None) for name, replica in found.items()}

    def _replica(self, call: Call) -> Replica:
        return self._script.history.replica(self._script.answer(call).copy)


class _Inline(Executor):
    """Runs what it is given at once, so that the order of port calls is one."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*arguments, **keywords))
        return future


def _identity(stamp: Stamp) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mapping.provenance(stamp.metadata).items()))
