"""Objects too large for one stream: cut into spans, copied side by side into part objects, then composed.

Nothing is remembered but the parts themselves, under a staging prefix of the destination, named by the state of the
object that they are of. So every step can be lost, repeated, or done by two at once: a part is put where none is,
whoever finds all of them there composes them on the condition of the destination's generation, and composing consumes
them. 1,024 parts at most, in a tree of 32 (https://cloud.google.com/storage/docs/composite-objects): up to 5 TiB.

Memory: as many pieces as streams, and what a piece takes on its way (a chunk of an upload session is 8 MiB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from handler.errors import Corrupt, Moved, NotFound, Unavailable
from handler.model import ABSENT, GIB, MIB, Generation, Original, Part, Replica, Span, Stamp
from handler.ports import Composer, Destination, Source
from handler.transfer import MERGED, HashedReader, merge

STAGING = ".s3-replica-parts/"
"""Where parts lie. What no finished copy swept, an age rule of the bucket's lifecycle does."""
LARGE = 128 * MIB
"""Bytes from which on an object is copied in parts."""
HUGE = GIB
"""Bytes from which on its parts are left to other invocations, where there is a queue for them."""
SPAN = 32 * MIB
"""Bytes of a part, up to objects of 32 GiB; above, a multiple of it."""
FAN = 32
"""Objects that one compose takes."""

_CHECK = "s3-replica-part-check"


@dataclass(frozen=True)
class Plan:
    """How one state of an object is cut: the same whoever asks.

    Args:
        whole: the copy, and the state that it is of.
        span: bytes of a part; a multiple of it where there would be more than 1,024.
    """

    whole: Part
    span: int = SPAN

    @cached_property
    def prefix(self) -> str:
        """What the names of all parts of this state begin with."""
        return f"{staging_of(self.whole.name)}{_digest(repr(self.whole.state))}/"

    @cached_property
    def size(self) -> int:
        """Bytes in every part but the last."""
        return self.span * max(1, -(-self.whole.size // (self.span * FAN * FAN)))

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.whole.size // self.size)

    def bounds(self, index: int) -> Span:
        """Where a part begins and ends."""
        return Span(index * self.size, min((index + 1) * self.size, self.whole.size))

    def part(self, index: int) -> str:
        """A part's name."""
        return f"{self.prefix}{index:04}"

    def group(self, index: int) -> str:
        """The name of what 32 parts are composed into, where there are more than that."""
        return f"{self.prefix}group-{index:02}"

    def members(self, group: int) -> range:
        """The parts of a group."""
        return range(group * FAN, min((group + 1) * FAN, self.count))


def staging_of(name: str) -> str:
    """Return what the names of all parts for a copy begin with, of whatever state."""
    return f"{STAGING}{_digest(name)}/"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One large copy: from where, to where, and how it is cut."""

    source: Source
    destination: Composer
    original: Original
    plan: Plan

    @property
    def algorithm(self) -> str | None:
        """The checksum by which S3 vouches for the whole and which those of the spans add up to."""
        return next((name for name in MERGED if name in self.original.checksums), None)

    def staged(self) -> dict[str, Replica]:
        """What there is of the plan, by name; a part whose checksum was not written down is not."""
        found = self.destination.list(self.plan.prefix)
        return {name: replica for name, replica in found.items() if self.check(replica) is not None}

    def missing(self, staged: Mapping[str, Replica]) -> list[int]:
        """The parts that are in staging neither themselves nor in their group."""
        plan = self.plan
        return [
            index
            for index in range(plan.count)
            if plan.part(index) not in staged and plan.group(index // FAN) not in staged
        ]

    def copy(self, index: int, storage_class: str | None) -> None:
        """Copy one span into its part, unless it is there.

        Raises:
            Moved: the source is no longer in the plan's state.
        """
        plan, name = self.plan, self.plan.part(index)
        before = self.destination.head(name)
        if before.exists and self.check(before) is not None:
            return
        with self.source.open(self.original.key, at=self.original, span=plan.bounds(index)) as body:
            reader = HashedReader(body, self.algorithm)
            stamp = Stamp(storage_class=storage_class)
            try:
                part = self.destination.put(name, reader, stamp, expect=before.generation)
                if self.algorithm not in {None, "CRC32C"}:
                    checked = replace(stamp, metadata={_CHECK: reader.checksum})
                    self.destination.patch(name, checked, expect=part.generation)
            except Moved:
                if not self.destination.head(name).exists and not self._has_group(index):
                    raise

    def _has_group(self, index: int) -> bool:
        return self.plan.count > FAN and self.destination.head(self.plan.group(index // FAN)).exists

    def check(self, replica: Replica) -> str | None:
        """A part's share of the whole's checksum, "" where the whole has none that can be shared, None if unknown."""
        if self.algorithm is None:
            return ""
        return replica.crc32c if self.algorithm == "CRC32C" else replica.stamp.metadata.get(_CHECK)

    def compose(self, stamp: Stamp, expect: Generation) -> Replica:
        """Join what is staged, all of it, and verify the whole.

        Raises:
            Moved: the destination is at another generation, or another is just composing.
            Corrupt: the parts are not what S3 holds; they are gone.
        """
        plan = self.plan
        if plan.count <= FAN:
            return self._join(plan.whole.name, [plan.part(index) for index in range(plan.count)], stamp, expect)
        groups = range(-(-plan.count // FAN))
        for group in groups:
            if not self._has_group(group * FAN):
                members = [plan.part(index) for index in plan.members(group)]
                self._join(plan.group(group), members, Stamp(storage_class=stamp.storage_class), ABSENT)
        return self._join(plan.whole.name, [plan.group(group) for group in groups], stamp, expect)

    def _join(self, name: str, parts: Sequence[str], stamp: Stamp, expect: Generation) -> Replica:
        staged = self.destination.list(self.plan.prefix)
        if not set(parts) <= staged.keys():
            raise Moved(f"{name!r}: parts are gone, another is composing them")
        shares = [(self.check(staged[part]) or "", staged[part].size) for part in parts]
        checksum = merge(self.algorithm, shares) if self.algorithm else ""
        if name == self.plan.whole.name:
            self._verify(checksum, staged)
        elif self.algorithm != "CRC32C":
            stamp = replace(stamp, metadata={_CHECK: checksum})
        try:
            return self.destination.compose(name, parts, stamp, expect=expect)
        except NotFound as error:
            raise Moved(f"{name!r}: parts are gone, another is composing them") from error

    def _verify(self, checksum: str, staged: Mapping[str, Replica]) -> None:
        expected = self.original.checksums[self.algorithm] if self.algorithm else ""
        if checksum != expected:
            sweep(self.destination, staged)
            raise Corrupt(
                f"{self.plan.whole.name!r}: its parts' {self.algorithm} add up to {checksum}, S3 holds {expected}"
            )


def sweep(destination: Destination, staged: Mapping[str, Replica]) -> None:
    """Remove parts that nothing needs any more; one that changed since it was listed is somebody's."""
    for name, replica in staged.items():
        with suppress(Moved):
            destination.delete(name, expect=replica.generation)


class Parts:
    """Copies large objects in parts: side by side in this process, or by messages to others.

    Args:
        threads: copies so many spans at once.
        large: bytes from which on an object is copied in parts.
        huge: bytes from which on its parts become messages at once, rather than when time runs out.
        span: bytes of a part.
        send: hands parts to the queue; None where there is none.
    """

    def __init__(
        self,
        threads: Executor,
        *,
        large: int = LARGE,
        huge: int = HUGE,
        span: int = SPAN,
        send: Callable[[Sequence[Part]], None] | None = None,
    ) -> None:
        self._threads = threads
        self._large = large
        self._huge = huge
        self._span = span
        self._send = send

    def take(self, original: Original) -> bool:
        """Whether an object is copied in parts: it is large and its parts can be verified, or it is huge."""
        verifiable = any(name in original.checksums for name in MERGED)
        return original.size >= (self._large if verifiable else self._huge)

    def plan(self, whole: Part) -> Plan:
        """Return how a copy is cut."""
        return Plan(whole, self._span)

    def put(
        self, job: Job, work: Part, stamp: Stamp, *, expect: Generation, go_on: Callable[[], bool]
    ) -> Replica | None:
        """Bring a copy on: copy what is missing, or hand it over; compose where all is there.

        Args:
            job: the copy.
            work: says which part is this invocation's own; with the index None, it is the whole.
            stamp: what the copy carries.
            expect: the destination's generation.
            go_on: False when there is no time for another span.

        Returns:
            The replica, or None where others are to finish it.

        Raises:
            Unavailable: time ran out, and there is no queue to hand the rest over. What was copied remains.
        """
        missing = job.missing(job.staged())
        if missing and work.index is None and self._send and job.original.size >= self._huge:
            self._send([work.at(index) for index in missing])
            return None
        mine = missing if work.index is None else [index for index in missing if index == work.index]
        late = self._copy(job, mine, stamp.storage_class, go_on)
        if late and self._send:
            self._send([work.at(index) for index in late])
            return None
        if late:
            raise Unavailable(f"no time is left for {len(late)} of {job.plan.count} parts", code="OutOfTime")
        if mine:
            missing = job.missing(job.staged())
        return None if missing else job.compose(stamp, expect)

    def _copy(
        self, job: Job, indices: Iterable[int], storage_class: str | None, go_on: Callable[[], bool]
    ) -> list[int]:
        """Copy parts side by side; return those that there was no time to begin."""

        def one(index: int) -> int | None:
            if not go_on():
                return index
            job.copy(index, storage_class)
            return None

        return [index for index in self._threads.map(one, indices) if index is not None]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
