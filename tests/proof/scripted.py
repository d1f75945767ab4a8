"""The real replicator over ports that answer from a list: it stops at the first call that has no answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from handler.core.errors import Moved, NotFound, Unavailable
from handler.core.model import LONG_REWRITE, Generation, Original, Replica, Span, Stamp
from handler.core.parts import Parts
from handler.core.ports import Reader
from handler.core.rate import RateEstimate
from handler.core.readers import CheckedReader, even_chunks
from handler.core.task import CopyTask
from tests.fakes import EvenRate, crc32c
from tests.proof.world import ACKNOWLEDGED, BUCKET, FAILED, Call, Knowledge, Seen, State

if TYPE_CHECKING:
    from tests.proof.history import History


class _PauseError(BaseException):
    """Stops the code at a call that has no answer yet; not an Exception, so nothing in it can catch it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


def run(history: History, knowledge: Knowledge) -> Call:
    """Return what the code does next that knows this much."""
    script = _Script(history, knowledge.seen)
    replicator = history.code.replicator(
        {BUCKET: sorted(history.rules[knowledge.rules], key=lambda rule: -rule.priority)},
        source=lambda _, with_tags: _Source(script, with_tags=with_tags),
        destination=lambda location: _Destination(script, location),
        concurrency=1,
        parts=_parts(history, script, hurried=history.hurried and knowledge.redelivered),
    )
    longest = 0 if history.rewrites else LONG_REWRITE
    with closing(replicator), patch.object(history.code.mapping, "LONG_REWRITE", longest):
        try:
            result = replicator.replicate([knowledge.work()])[0]
        except _PauseError as pause:
            return pause.call
    for error in result.errors:
        if error.code == "Unforeseen" or not error.retryable:
            raise error.__cause__ or error
    return FAILED if result.errors else ACKNOWLEDGED


def _parts(history: History, script: _Script, *, hurried: bool) -> Parts | None:
    if not history.span:
        return None

    def send(parts: Sequence[CopyTask]) -> None:
        script.answer(Call("send", sent=tuple(parts)))

    huge = 1 if history.queue else 1 << 40
    rate = EvenRate(1) if hurried else RateEstimate()
    queue = send if history.queue else None
    return history.code.parts(_Inline(), large=1, huge=huge, span=history.span, send=queue, rate=rate)


class _Script:
    """Answers port calls from a list, and stops the code where it ends."""

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
    """The bucket, as far as it is asked for: tags are a request of their own in S3."""

    def __init__(self, script: _Script, *, with_tags: bool) -> None:
        self._script, self._with_tags = script, with_tags

    def head(self, key: str) -> Original | None:
        return self._shown(self._state(Call("source.head", key)))

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        del exact  # the world's objects are of one part
        return original

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[Reader]:
        state = self._state(Call("open", key, at=None if at is None else self._number(at)))
        original = at or self._shown(state)
        if original is None:
            raise AssertionError("the world opened an absent object")
        content = state.content.encode() if span is None else state.content.encode()[span.start : span.stop]
        yield CheckedReader(io.BytesIO(content), original, span)

    def _state(self, call: Call) -> State:
        return self._script.history.states[self._script.answer(call).state or 0]

    def _shown(self, state: State) -> Original | None:
        original = state.original
        return original if original is None or self._with_tags else replace(original, tags={})

    def _number(self, original: Original) -> int:
        return [self._shown(state) for state in self._script.history.states].index(original)


class _Destination:
    """One location; the world's names begin with it."""

    def __init__(self, script: _Script, location: str) -> None:
        self._script, self._location = script, location.removeprefix("gs://") + "/"

    def head(self, key: str) -> Replica:
        return self._replica(Call("destination.head", self._location + key))

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        content = b"".join(even_chunks(body, 1024)).decode()
        if self._script.history.records:
            stamp = stamp.recording(crc32c(content.encode()))
        return self._replica(Call("put", self._location + key, content, self._carried(stamp), expect))

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        return self._replica(Call("patch", self._location + key, "", self._carried(stamp), expect))

    def delete(self, key: str, *, expect: Generation) -> None:
        self._script.answer(Call("delete", self._location + key, expect=expect))

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        names = tuple(self._location + part for part in parts)
        return self._replica(
            Call("compose", self._location + key, carried=self._carried(stamp), expect=expect, parts=names)
        )

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        bounds = self._location + start if start else "", self._location + stop if stop else ""
        listed = self._script.answer(Call("list", self._location + prefix, bounds=bounds)).listed
        history = self._script.history
        found = {name.removeprefix(self._location): history.replica(copy) for name, copy in listed}
        if not history.keyed:
            return found
        return {name: replace(replica, crc32c=None, md5=None) for name, replica in found.items()}

    def _carried(self, stamp: Stamp) -> int:
        return self._script.history.carried(stamp)

    def _replica(self, call: Call) -> Replica:
        return self._script.history.replica(self._script.answer(call).copy)


class _Inline(Executor):
    """Runs what it is given at once, so that the order of port calls is one."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*arguments, **keywords))
        return future
