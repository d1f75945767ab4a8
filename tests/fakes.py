"""Stand-ins for both clouds under the same contracts as the real adapters, and readers that misbehave."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import google_crc32c

from handler.core.checksums import composite_of
from handler.core.errors import Moved, NotFound, Refused, Unavailable
from handler.core.model import KIB, Generation, Headers, Lock, Original, Replica, S3Part, Span, Stamp
from handler.core.ports import Composer, Destination, Reader, Source
from handler.core.rate import RateEstimate
from handler.core.readers import CheckedReader, even_chunks

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def crc32c(data: bytes) -> str:
    """Base64 as S3 and GCS write it."""
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def md5(data: bytes) -> str:
    """Base64, as GCS writes it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def checksum(algorithm: str, data: bytes) -> str:
    """Base64, by any of S3's algorithms; "ETAG" is made of MD5s."""
    return composite_of(algorithm, [base64.b64encode(data).decode()])


def original_of(data: bytes, key: str = "key", **fields: object) -> Original:
    """Describe an object of these bytes as S3 would, a plain one in an unversioned bucket."""
    plain = Original(
        key=key,
        size=len(data),
        etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        last_modified=BEGINNING,
        md5=md5(data),
    )
    return replace(plain, **fields)  # type: ignore[arg-type] # a test names what it changes


class EvenRate(RateEstimate):
    """Cuts parts of one length, as many as there are turns for, however fast they were."""

    def __init__(self, length: int) -> None:
        super().__init__(shortest=1)
        self._length = length

    def length(self, most: int) -> int:
        return min(most, self._length)

    def fits(self, size: int) -> bool:
        return True


# --- readers


def reader(data: bytes, key: str = "key", *, span: Span | None = None, at_most: int | None = None) -> CheckedReader:
    """Read these bytes without a fault, `at_most` so many at a time."""
    part = data if span is None else data[span.start : span.stop]
    return CheckedReader(_Dribble(part, at_most or len(part) or 1), original_of(data, key), span)


class _Dribble:
    def __init__(self, data: bytes, at_most: int) -> None:
        self._stream = io.BytesIO(data)
        self._at_most = at_most

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(self._at_most if size < 0 else min(size, self._at_most))


class BadReader:
    """Announces the bytes of `announced`, hands out `given`, and then raises `error` if there is one."""

    def __init__(self, announced: bytes, given: bytes, error: BaseException | None = None) -> None:
        self.original = original_of(announced)
        self.size = len(announced)
        self._stream = io.BytesIO(given)
        self._error = error

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if not data and size != 0 and self._error is not None:
            raise self._error
        return data


def breaks(data: bytes, error: BaseException | None = None, *, after: int | None = None) -> BadReader:
    """Break half-way, or after so many bytes."""
    cut = len(data) // 2 if after is None else after
    return BadReader(data, data[:cut], error or Unavailable("the bytes stopped coming"))


def ends_early(data: bytes, by: int = 1) -> BadReader:
    """End without an error before the announced size."""
    return BadReader(data, data[:-by])


def too_long(data: bytes, by: bytes = b"!") -> BadReader:
    """Go on after the announced size."""
    return BadReader(data, data + by)


def lies(data: bytes) -> CheckedReader:
    """Give as many bytes as announced, one of them wrong: a checksum shows it."""
    wrong = bytes([data[0] ^ 1]) + data[1:]
    return CheckedReader(io.BytesIO(wrong), original_of(data))


# --- the source


@dataclass(frozen=True)
class _State:
    original: Original
    data: bytes


class MemorySource:
    """One bucket in memory; see `Source`. A test is its user by `put`, `copy`, `tag`, `archive`, `delete`.

    `requests` counts what S3 would be asked: "HEAD" and "GET".
    """

    def __init__(self, *, versioned: bool = False) -> None:
        self.versioned = versioned
        self.requests: Counter[str] = Counter()
        self._states: dict[str, list[_State | None]] = {}
        self._parts: dict[str, tuple[tuple[S3Part, ...], bool]] = {}
        self.read = 0
        """Bytes that were asked for."""
        self.flips: list[int] = []
        """Bytes of objects that arrive wrong the next time that they are read, by their offsets."""
        self._moments = 0
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, **fields: object) -> Original:
        with self._lock:
            self._moments += 1
            fields = {
                "last_modified": BEGINNING + timedelta(seconds=self._moments),
                "version_id": f"v{self._moments}" if self.versioned else None,
            } | fields
            state = _State(original_of(data, key, **fields), data)
            self._states.setdefault(key, []).append(state)
            return state.original

    def copy(self, key: str, **fields: object) -> Original:
        """Copy the object onto itself with other metadata: a new state with the old ETag."""
        state = self._current(key)
        if state is None:
            raise AssertionError(f"a test copies {key!r}, which is not there")
        kept = {"headers": state.original.headers, "user_metadata": state.original.user_metadata}
        return self.put(key, state.data, **(kept | fields))

    def tag(self, key: str, tags: Mapping[str, str]) -> Original:
        """Change the tags, which is no new state."""
        return self._change(key, tags=dict(tags))

    def transition(self, key: str, storage_class: str) -> Original:
        """Move the object to another class, as a lifecycle rule does, which is no new state."""
        return self._change(key, storage_class=storage_class)

    def archive(self, key: str, storage_class: str = "GLACIER") -> Original:
        """Move the object to where only a restore makes it readable."""
        return self._change(key, storage_class=storage_class, archived=True)

    def delete(self, key: str) -> None:
        with self._lock:
            self._states.setdefault(key, []).append(None)

    def head(self, key: str) -> Original | None:
        self.requests["HEAD"] += 1
        state = self._current(key)
        return state.original if state else None

    def put_parts(self, key: str, parts: Sequence[bytes], algorithm: str, *, known: bool = True) -> Original:
        """Upload in parts, of which S3 keeps checksums of that algorithm, or MD5s only ("ETAG").

        Args:
            known: S3 tells the size and checksum of each part; else the first and the last one's size only.
        """
        values = [checksum(algorithm, part) for part in parts]
        original = self.put(
            key,
            b"".join(parts),
            md5=None,
            etag=f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}",
            composites={algorithm: composite_of(algorithm, values)},
        )
        told = values if known else [""] * len(parts)
        self._parts[original.etag] = tuple(map(S3Part, map(len, parts), told)), known
        return original

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        parts, known = self._parts.get(original.etag, ((), True))
        self.requests["PARTS"] += 1 if known or not exact else len(parts)
        first = parts[0].size if parts else 0
        if known or exact or len(parts) <= 3 or first * (len(parts) - 1) + parts[-1].size != original.size:
            return replace(original, parts=parts)
        alike = (*[S3Part(first)] * (len(parts) - 1), parts[-1])
        return replace(original, parts=alike, parts_assumed=True)

    @contextmanager
    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Iterator[CheckedReader]:
        self.requests["GET"] += 1
        state = self._current(key) if at is None or at.version_id is None else self._version(key, at.version_id)
        if state is None or (at is not None and at.state != state.original.state):
            raise Moved(f"{key!r} is no longer in that state")
        whole = span or Span(0, len(state.data))
        self.read += whole.size
        data = bytearray(state.data[whole.start : whole.stop])
        for byte in [byte for byte in self.flips if whole.start <= byte < whole.stop]:
            self.flips.remove(byte)
            data[byte - whole.start] ^= 1
        original = at or state.original
        original = self.parts(original) if span is None and original.composites else original
        yield CheckedReader(io.BytesIO(bytes(data)), original, span)

    def _current(self, key: str) -> _State | None:
        with self._lock:
            return self._states.get(key, [None])[-1]

    def _version(self, key: str, version_id: str) -> _State | None:
        with self._lock:
            states = (state for state in self._states.get(key, []) if state)
            return next((state for state in states if state.original.version_id == version_id), None)

    def _change(self, key: str, **fields: object) -> Original:
        state = self._current(key)
        if state is None:
            raise AssertionError(f"a test changes {key!r}, which is not there")
        changed = replace(state.original, **fields)  # type: ignore[arg-type] # as in original_of
        with self._lock:
            self._states[key][-1] = _State(changed, state.data)
        return changed


# --- the destination


@dataclass(frozen=True)
class _Object:
    replica: Replica
    data: bytes


class MemoryDestination:
    """One bucket in memory, with GCS's rules; see `Composer`. Its generations never repeat.

    Args:
        clock: returns seconds. A second change of a name within one second is then `Unavailable`, as GCS answers 429.
        cmek: behave as a bucket with a customer-managed key: its listings carry no checksums.
    """

    def __init__(self, clock: Callable[[], float] | None = None, *, cmek: bool = False) -> None:
        self._clock, self._cmek = clock, cmek
        self._changed: dict[str, float] = {}
        self.lists: list[int] = []
        """How many objects each listing had."""
        self._objects: dict[str, _Object] = {}
        self._generations = 0
        self._lock = threading.Lock()

    def head(self, key: str) -> Replica:
        with self._lock:
            return self._replica(key)

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        data = b"".join(even_chunks(body, 64 * KIB))
        with self._lock:
            self._expect(key, expect)
            self._require_unlocked(key)
            self._limit(key)
            return self._store(key, data, stamp)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        with self._lock:
            was = self._expect(key, expect, present=True)
            before, after = was.stamp.custom_time, stamp.custom_time
            generation = was.generation._replace(metageneration=was.generation.metageneration + 1)
            if was.stamp.is_rewritten_for(stamp):  # a rewrite, which makes a new generation
                self._require_unlocked(key)
                self._generations += 1
                generation = Generation(self._generations, 1)
            elif before is not None and (after is None or after < before):
                raise Refused(f"{key!r}: customTime cannot go back")
            self._limit(key)
            if stamp.lock and was.stamp.lock and stamp.lock._replace(hold=None).is_met_by(was.stamp.lock):
                stamp = replace(stamp, lock=Lock(hold=stamp.lock.hold))
            replica = replace(was, generation=generation, stamp=stamp.over(was.stamp))
            self._objects[key] = _Object(replica, self._objects[key].data)
            return replica

    def delete(self, key: str, *, expect: Generation) -> None:
        with self._lock:
            self._expect(key, expect, present=True)
            self._require_unlocked(key)
            self._limit(key)
            del self._objects[key]

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        if not 1 <= len(parts) <= 32:
            raise ValueError(f"{len(parts)} parts: GCS composes 1 to 32")
        with self._lock:
            missing = [part for part in parts if part not in self._objects]
            if missing:
                raise NotFound(f"no part {missing[0]!r}")
            if len({self._objects[part].replica.stamp.storage_class for part in parts}) > 1:
                raise Refused("the parts are of several storage classes")
            self._expect(key, expect)
            self._require_unlocked(key)
            self._limit(key)
            composed = self._store(key, b"".join(self._objects[part].data for part in parts), stamp)
            without_md5 = replace(composed, md5=None)
            for part in set(parts) - {key}:
                del self._objects[part]
            self._objects[key] = _Object(without_md5, self._objects[key].data)
            return without_md5

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        with self._lock:
            found = {
                key: replace(stored.replica, crc32c=None, md5=None) if self._cmek else stored.replica
                for key, stored in sorted(self._objects.items())
                if key.startswith(prefix) and key >= start and (not stop or key < stop)
            }
            self.lists.append(len(found))
            return found

    def _require_unlocked(self, key: str) -> None:
        lock = self._replica(key).stamp.lock or Lock()
        if lock.hold:
            raise Refused(f"{key!r} is held", code="DstObjectHeld")
        if lock.until and lock.until > datetime.now(UTC):
            raise Refused(f"{key!r} is retained until {lock.until}", code="DstObjectRetained")

    def lifecycle(self, key: str, storage_class: str) -> None:
        """Move an object to another class as the bucket's own rule does: the metageneration grows, and nobody asked."""
        with self._lock:
            was = self._objects[key]
            generation = was.replica.generation._replace(metageneration=was.replica.generation.metageneration + 1)
            stamp = replace(was.replica.stamp, storage_class=storage_class)
            self._objects[key] = _Object(replace(was.replica, generation=generation, stamp=stamp), was.data)

    def foreign(self, key: str, data: bytes) -> Replica:
        """Put an object as another tool would: without provenance, and asking nobody."""
        with self._lock:
            return self._store(key, data, Stamp(headers=Headers(content_type="application/octet-stream")))

    def data(self, key: str) -> bytes:
        """The stored bytes."""
        with self._lock:
            return self._objects[key].data

    def keys(self) -> set[str]:
        """All names that are taken."""
        with self._lock:
            return set(self._objects)

    def _replica(self, key: str) -> Replica:
        return self._objects[key].replica if key in self._objects else Replica()

    def _expect(self, key: str, expect: Generation, *, present: bool = False) -> Replica:
        replica = self._replica(key)
        if replica.generation != expect or (present and not replica.exists):
            raise Moved(f"{key!r} is at {replica.generation}, not at {expect}")
        return replica

    def _limit(self, key: str) -> None:
        if self._clock is None:
            return
        now = self._clock()
        if now - self._changed.get(key, now - 1) < 1:
            raise Unavailable(f"{key!r} was changed within the last second", code="DstThrottled")
        self._changed[key] = now

    def _store(self, key: str, data: bytes, stamp: Stamp) -> Replica:
        self._generations += 1
        replica = Replica(
            generation=Generation(self._generations, 1),
            size=len(data),
            crc32c=crc32c(data),
            md5=md5(data),
            stamp=replace(
                stamp.recording(crc32c(data)),
                metadata=dict(stamp.recording(crc32c(data)).metadata),
                storage_class=stamp.storage_class or "STANDARD",
            ),
        )
        self._objects[key] = _Object(replica, data)
        return replica


# --- faults


@dataclass
class _Fault:
    call: str
    nth: int
    raises: BaseException | None
    lost: bool
    then: Callable[[], object] | None
    fired: bool = False


@dataclass
class Faults:
    """Plans what goes wrong, wraps the ports it is to happen at, and records every call.

    A call is named by port and method: "source.head", "source.open", "destination.put". `check` fails the test if a
    planned fault never fired: a test that passes because nothing went wrong shows nothing.
    """

    calls: list[str] = field(default_factory=list)
    _planned: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(
        self,
        call: str,
        nth: int = 1,
        *,
        raises: BaseException | None = None,
        lost: bool = False,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Plan a fault at the nth such call.

        Args:
            call: for instance "destination.put".
            nth: counted from 1.
            raises: what the call raises in place of taking effect.
            lost: the call takes effect, and its answer is lost on the way: it raises Unavailable.
            then: what somebody else does just before the call takes effect.
        """
        self._planned.append(_Fault(call, nth, raises, lost, then))

    def source(self, source: Source) -> Source:
        """The same source, but for what is planned."""
        return _FaultySource(self, source)

    def destination(self, destination: Destination) -> Destination:
        """The same destination, but for what is planned."""
        return _FaultyDestination(self, destination)

    def composer(self, composer: Composer) -> Composer:
        """The same composer, but for what is planned."""
        return _FaultyComposer(self, composer)

    def check(self) -> None:
        """Fail if a planned fault never fired."""
        unfired = [f"{fault.call} no. {fault.nth}" for fault in self._planned if not fault.fired]
        assert not unfired, f"planned faults that never fired: {', '.join(unfired)}; calls: {self.calls}"

    @contextmanager
    def around(self, call: str) -> Iterator[None]:
        """Let a call happen as planned."""
        with self._lock:
            self.calls.append(call)
            nth = self.calls.count(call)
            faults = [fault for fault in self._planned if (fault.call, fault.nth) == (call, nth)]
            for fault in faults:
                fault.fired = True
        for fault in faults:
            if fault.then is not None:
                fault.then()
            if fault.raises is not None:
                raise fault.raises
        yield
        if any(fault.lost for fault in faults):
            raise Unavailable(f"the answer to {call} was lost")


class _FaultySource:
    def __init__(self, faults: Faults, source: Source) -> None:
        self._faults = faults
        self._source = source

    def head(self, key: str) -> Original | None:
        with self._faults.around("source.head"):
            return self._source.head(key)

    def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> AbstractContextManager[Reader]:
        with self._faults.around("source.open"):
            return self._opened(key, at, span)

    def parts(self, original: Original, *, exact: bool = False) -> Original:
        with self._faults.around("source.parts"):
            return self._source.parts(original, exact=exact)

    @contextmanager
    def _opened(self, key: str, at: Original | None, span: Span | None) -> Iterator[Reader]:
        with self._source.open(key, at=at, span=span) as body:
            yield body


class _FaultyDestination:
    def __init__(self, faults: Faults, destination: Destination) -> None:
        self._faults = faults
        self._destination = destination

    def head(self, key: str) -> Replica:
        with self._faults.around("destination.head"):
            return self._destination.head(key)

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        with self._faults.around("destination.put"):
            return self._destination.put(key, body, stamp, expect=expect)

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        with self._faults.around("destination.patch"):
            return self._destination.patch(key, stamp, expect=expect)

    def delete(self, key: str, *, expect: Generation) -> None:
        with self._faults.around("destination.delete"):
            self._destination.delete(key, expect=expect)


class _FaultyComposer(_FaultyDestination):
    def __init__(self, faults: Faults, composer: Composer) -> None:
        super().__init__(faults, composer)
        self._composer = composer

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        with self._faults.around("destination.compose"):
            return self._composer.compose(key, parts, stamp, expect=expect)

    def list(self, prefix: str, *, start: str = "", stop: str = "") -> Mapping[str, Replica]:
        with self._faults.around("destination.list"):
            return self._composer.list(prefix, start=start, stop=stop)
