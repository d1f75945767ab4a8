"""How a large object is cut: into spans, which are the same whoever asks, and those into parts, as time allows."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from handler.core.model import MIB, Original, S3Part, Span, Stamp
from handler.core.partials import Layout, PartialChecksum, can_merge, is_of_parts, most_parts
from handler.core.task import CopyTask, LargeCopy

STAGING = ".s3-replica-parts/"
"""Where parts lie. What no finished copy swept, an age rule of the bucket's lifecycle does."""
SPAN = 32 * MIB
"""Bytes of a span, up to objects of 32 GiB; above, a multiple of it."""
_SPANS = 1024
"""Into how many spans an object is cut, where S3's own parts ask for no more."""
_PART, _BLOCK = "0/", "1/"
"""Parts of a span, and whole spans, apart: so that the latter can be listed without the former."""


@dataclass(frozen=True)
class Plan:
    """The cut of one state of an object, and the names of what is staged for it.

    Names sort by where their bytes begin, so that a span's parts can be listed alone.

    Args:
        copy: which state of which object goes where, and how it is verified.
        tasks: a task for each span that is known here: for all, or for the one of a message.
        stored: how the bytes of all staged objects are stored. GCS composes objects of one class only, so the class is
            part of their names; it may change while the state does not.
    """

    copy: LargeCopy
    tasks: tuple[CopyTask, ...]
    stored: Stamp = Stamp()

    @classmethod
    def of(cls, copy: LargeCopy, original: Original, check: str, span: int, stored: Stamp) -> Plan:
        """Return the plan of the whole of an object, whose S3 parts are known by now."""
        cut = cut_name(check, original.parts)
        copy = replace(copy, check=check, plan=cut, assumed=bool(cut) and original.parts_assumed)
        return cls(copy, tuple(_tasks(copy, original.parts, span_size(original.size, span))), stored)

    @cached_property
    def prefix(self) -> str:
        """Return what the names of all that is staged by this plan begin with."""
        return state_prefix(self.copy) + (f"{self.copy.plan}/" if self.copy.plan else "")

    @property
    def blocks(self) -> str:
        """Return the name from which on whole spans are listed, and the marker."""
        return self.prefix + _BLOCK

    @property
    def marker(self) -> str:
        """Return the name of the object that says that all spans were handed over."""
        return f"{self.prefix}sent{self._tail}"

    @property
    def exact(self) -> str:
        """Return the name of the object that says that S3's parts are not of one size."""
        return f"{state_prefix(self.copy)}exact"

    def parts_of(self, span: Span) -> tuple[str, str]:
        """Return between which names the parts of a span lie."""
        return f"{self.prefix}{_PART}{span.start:012x}", f"{self.prefix}{_PART}{span.stop:012x}"

    def part(self, span: Span, of: CopyTask) -> str:
        """Return the name of the part that has these bytes: whoever puts it again, and whenever, puts the same."""
        return self.block(span) if span == of.span else f"{self.prefix}{_PART}{_run(span)}{self._tail}"

    def block(self, span: Span) -> str:
        """Return the name of a whole span."""
        return f"{self.prefix}{_BLOCK}{_run(span)}{self._tail}"

    def union(self, run: Span, *, of_blocks: bool) -> str:
        """Return the name of what some parts or blocks are composed into, where there are more than 32."""
        return f"{self.prefix}{_BLOCK if of_blocks else _PART}{_run(run).replace('-', '_')}{self._tail}"

    def start_of(self, name: str) -> int | None:
        """Return where a part, a block or a union begins; None where the name is none's, or of another class."""
        match = re.fullmatch(rf"[01]/([0-9a-f]{{12}})[-_][0-9a-f]+{self._tail}", name.removeprefix(self.prefix))
        return int(match[1], 16) if match else None

    @property
    def _tail(self) -> str:
        return f"-{self.stored.storage_class}" if self.stored.storage_class else ""


class StagedPart(NamedTuple):
    """A part, a block or a union that is staged."""

    start: int
    size: int
    name: str
    checksums: tuple[PartialChecksum, ...] = ()
    """By S3's algorithm; empty where there is none, or where a union has been verified."""
    crc32c: str | None = None
    """Of its own bytes, as the destination has it; None where the listing does not say."""
    verified: str = ""
    """Of a union: by which check the whole was verified, and the whole's CRC32C, before it was made."""

    @property
    def span(self) -> Span:
        """Return which bytes it has."""
        return Span(self.start, self.start + self.size)


def coverage(parts: Sequence[StagedPart], span: Span) -> tuple[list[StagedPart], list[Span]]:
    """Return the parts that follow each other in a span, the longest from each byte on, and the gaps between them."""
    longest: dict[int, StagedPart] = {}
    for part in sorted(parts, key=lambda part: part.size, reverse=True):
        longest.setdefault(part.start, part)
    starts = sorted(longest)
    chain: list[StagedPart] = []
    gaps: list[Span] = []
    at = span.start
    while at < span.stop:
        if (found := longest.get(at)) and found.span.stop <= span.stop:
            chain.append(found)
            at = found.span.stop
        else:
            following = bisect.bisect(starts, at)
            stop = min(span.stop, starts[following] if following < len(starts) else span.stop)
            gaps.append(Span(at, stop))
            at = stop
    return chain, gaps


def overlap(gaps: Sequence[Span], span: Span) -> list[Span]:
    """Return what of the gaps lies in a span."""
    cut = [Span(max(gap.start, span.start), min(gap.stop, span.stop)) for gap in gaps]
    return [gap for gap in cut if gap.start < gap.stop]


def layout_of(task: CopyTask) -> Layout:
    """Return where S3's parts lie in a span; the whole object counts as one where the check is of the whole."""
    return Layout(task.parts, task.offset) if is_of_parts(task.copy.check) else layout_of_whole(task.copy)


def layout_of_whole(copy: LargeCopy) -> Layout:
    """Return the layout of an object that counts as one S3 part."""
    return Layout((S3Part(copy.state.size),), 0)


def divide(gap: Span, count: int, of: CopyTask, *, shortest: int) -> list[Span]:
    """Return a gap cut into at most `count` spans, at S3's boundaries where these are near or the check asks for it."""
    size, check = gap.size, of.copy.check
    count = max(1, min(count, size // shortest))
    cuts = [gap.start + size * at // count for at in range(1, count)]
    if is_of_parts(check):
        inner, reach = layout_of(of).within(gap), size // count // 2 if can_merge(check) else size
        cuts = [_snapped(cut, inner, reach, gap.start) for cut in cuts]
    bounds = sorted({gap.start, *cuts, gap.stop})
    return [Span(start, stop) for start, stop in itertools.pairwise(bounds)]


def _snapped(cut: int, bounds: Sequence[int], reach: int, otherwise: int) -> int:
    """Return the boundary nearest to a cut, or the cut itself where none is within reach."""
    near = min(bounds, key=lambda bound: abs(bound - cut), default=otherwise)
    return near if abs(near - cut) <= reach else cut


def _tasks(copy: LargeCopy, parts: Sequence[S3Part], size: int) -> Iterator[CopyTask]:
    """Yield all spans. One has whole S3 parts, unless the checks of its fragments can be merged."""
    whole = copy.state.size
    if not is_of_parts(copy.check):
        for start in range(0, whole, size):
            yield CopyTask(copy, Span(start, min(whole, start + size)))
        return
    most, taken = most_parts(copy.check), list[S3Part]()
    start = stop = offset = 0
    for part in parts:
        taken.append(part)
        stop += part.size
        while can_merge(copy.check) and stop - start >= 2 * size:  # an S3 part that is longer than a span
            yield CopyTask(copy, Span(start, start + size), tuple(taken), offset)
            start += size
            taken, offset = [part], stop - part.size
        if stop - start >= size or len(taken) >= most or stop == whole:
            yield CopyTask(copy, Span(start, stop), tuple(taken), offset)
            taken, start, offset = [], stop, stop


def state_prefix(copy: LargeCopy) -> str:
    """Return what the names of all that is staged for a state begin with."""
    return f"{staging_of(copy.name)}{_digest(repr(tuple(copy.state)))}/"


def staging_of(name: str) -> str:
    """Return what the names of all parts for a copy begin with, of whatever state."""
    return f"{STAGING}{_digest(name)}/"


def span_size(size: int, span: int) -> int:
    """Return the bytes of each span of an object: a multiple of `span`, by which spans are at most 1,024."""
    return span * max(1, -(-size // (span * _SPANS)))


def cut_name(check: str, parts: Sequence[S3Part]) -> str:
    """Return a name of the cut into S3's parts, "" where the check is not of these."""
    return _digest(repr([check, [tuple(part) for part in parts]])) if is_of_parts(check) else ""


def _run(span: Span) -> str:
    return f"{span.start:012x}-{span.size:x}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
