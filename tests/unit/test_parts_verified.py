"""What is copied in parts is what S3 holds: a flipped byte is Corrupt, by each checksum and whatever S3's parts are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from handler.core.checksums import COMPOSITES
from handler.core.decide import EQUAL, Action
from handler.core.errors import IN_PARTS, Corrupt, Unavailable
from handler.core.model import MIB, Rule, Stamp
from handler.core.parts import Parts
from handler.core.rate import RateEstimate
from handler.core.reconcile import reconcile
from handler.core.route import Outcome, Route
from handler.core.task import CopyTask, LargeCopy
from handler.events import parse
from handler.messages import part_message
from tests.fakes import EvenRate, MemoryDestination, MemorySource, checksum, original_of

RULE = Rule(id="r", source="src", destination="gs://dst")
DATA = bytes(range(256)) * 5 + b"tail"
ALIKE, UNEVEN = (200,) * 6 + (84,), (500, 3, 281, 100, 400)
LAYOUTS = {"parts of one size": ALIKE, "uneven parts": UNEVEN, "one part": (1284,)}


def cut(sizes: tuple[int, ...]) -> list[bytes]:
    stops = list(itertools.accumulate(sizes))
    return [DATA[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]


@pytest.fixture(scope="module")
def threads() -> Executor:
    return ThreadPoolExecutor(4)


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.core.reconcile.SMALL", 0)  # the objects here stand for large ones


class Copying:
    """Both sides, spans of 256 bytes, and a queue whose messages are JSON."""

    def __init__(self, threads: Executor, *, queue: bool, cmek: bool = False) -> None:
        self.source, self.destination = MemorySource(), MemoryDestination(cmek=cmek)
        self.rate: RateEstimate = EvenRate(90)
        self.queue: list[str] = []
        self._threads, self._is_queue = threads, queue

    def run(self, message: str = "", *, redelivered: bool = False) -> Outcome:
        task = parse(json.loads(message)).deliveries[0].changes[0].task if message else None
        parts = Parts(
            self._threads,
            large=1000,
            huge=1000,
            span=256,
            send=self._send if self._is_queue else None,
            rate=self.rate,
        )
        route = Route(source=self.source, destination=self.destination, rules=(RULE,), parts=parts)
        return reconcile(route, "k", task=task, redelivered=redelivered)

    def _send(self, parts: Sequence[CopyTask]) -> None:
        self.queue += [part_message(part) for part in parts]

    def finish(self, *, most: int = 200) -> Iterator[Outcome]:
        """Deliver the event and all messages until all are done; yield each outcome."""
        event, redelivered = True, False
        for _ in range(most):
            if self.queue:
                message = self.queue.pop(0)
                try:
                    yield self.run(message, redelivered=redelivered)
                except Unavailable:
                    self.queue.append(message)
                except Corrupt:
                    self.queue.append(message)
                    raise
                continue
            if not event:
                return
            try:
                yield self.run(redelivered=redelivered)
                event = False
            except Unavailable as error:
                if error.code != IN_PARTS:
                    raise
            redelivered = True
        raise AssertionError("it does not come to an end")

    def is_equal(self) -> bool:
        return self.destination.keys() == {"k"} and self.destination.data("k") == DATA


BOTH = pytest.mark.parametrize("queue", [False, True], ids=["alone", "handed over"])
KNOWN = pytest.mark.parametrize("known", [False, True], ids=["ends known", "parts known"])


@BOTH
@KNOWN
@pytest.mark.parametrize("cmek", [False, True], ids=["", "listings without checksums"])
@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("algorithm", COMPOSITES)
def test_an_upload_is_verified_by_its_parts(
    threads: Executor, algorithm: str, sizes: tuple[int, ...], *, queue: bool, known: bool, cmek: bool
) -> None:
    copying = Copying(threads, queue=queue, cmek=cmek)
    copying.source.put_parts("k", cut(sizes), algorithm, known=known)
    done = [outcome for outcome in copying.finish() if Action.PUT in outcome.actions]
    assert [outcome.check for outcome in done] == [f"{algorithm} of parts"]
    assert copying.destination.head("k").stamp.metadata["s3-replica-check"] == f"{algorithm} of parts"
    assert copying.is_equal()


@BOTH
@KNOWN
@pytest.mark.parametrize("byte", [0, 199, 503, 700, 1283])
@pytest.mark.parametrize("sizes", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA256", "ETAG"])
def test_a_flipped_byte_is_corrupt_and_the_next_delivery_makes_it_good(
    threads: Executor, algorithm: str, sizes: tuple[int, ...], byte: int, *, queue: bool, known: bool
) -> None:
    copying = Copying(threads, queue=queue)
    copying.source.put_parts("k", cut(sizes), algorithm, known=known)
    copying.source.flips.append(byte)
    with pytest.raises(Corrupt):
        list(copying.finish())
    assert copying.source.flips == []
    assert not copying.destination.head("k").exists, "wrong bytes are visible"
    for outcome in copying.finish():
        assert outcome.check != "none"
    assert copying.is_equal()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_wrong_s3_part_costs_no_other(algorithm: str) -> None:
    copying = Copying(ThreadPoolExecutor(1), queue=False)
    copying.source.put_parts("k", cut(ALIKE), algorithm)
    copying.source.flips.append(450)
    with pytest.raises(Corrupt):
        copying.run()
    staged = sum(copying.destination.head(name).size for name in sorted(copying.destination.keys()))
    assert staged >= 200
    copying.source.read = 0
    copying.run(redelivered=True)
    assert copying.is_equal()
    assert copying.source.read == len(DATA) - staged


@BOTH
@pytest.mark.parametrize("algorithm", ["CRC32", "ETAG"])
def test_parts_that_only_look_alike_end_equal_once_every_boundary_is_known(
    threads: Executor, algorithm: str, *, queue: bool
) -> None:
    copying = Copying(threads, queue=queue)
    sizes = (200, 150, 250, 200, 200, 200, 84)
    copying.source.put_parts("k", cut(sizes), algorithm, known=False)
    done = [outcome for outcome in copying.finish() if Action.PUT in outcome.actions]
    assert [outcome.check for outcome in done] == [f"{algorithm} of parts"]
    assert copying.is_equal()


class Unreachable(EvenRate):
    """Too slow for any whole S3 part."""

    def reach(self, *, redelivered: bool) -> int:
        return 100


@BOTH
@pytest.mark.parametrize(("algorithm", "check"), [("SHA256", "none"), ("ETAG", "none"), ("CRC32", "CRC32 of parts")])
def test_an_s3_part_longer_than_an_invocation_is_verified_by_crcs_alone(
    threads: Executor, algorithm: str, check: str, *, queue: bool
) -> None:
    copying = Copying(threads, queue=queue)
    copying.rate = Unreachable(90)
    copying.source.put_parts("k", cut(ALIKE), algorithm)
    done = [outcome for outcome in copying.finish() if Action.PUT in outcome.actions]
    assert [outcome.check for outcome in done] == [check]
    assert copying.is_equal()


def test_a_fragment_is_in_no_whole_parts_way(threads: Executor) -> None:
    """A slow instance leaves fragments of an S3 part; a faster one reads the part whole, and so verifies it."""
    copying = Copying(threads, queue=False)
    copying.source.put_parts("k", cut(ALIKE), "SHA256")
    copying.rate = Unreachable(90)
    copying.source.delete("k")
    original = copying.source.put_parts("k", cut(ALIKE), "SHA256")
    parts = Parts(copying._threads, large=1000, span=256, rate=copying.rate)
    large = LargeCopy.of(original, RULE, "k")
    staging = parts.staging(copying.source, copying.destination, original, large, Stamp())
    for task in staging.plan.tasks[:2]:
        list(staging.copy(task, task.span, {}, lambda _: True))
    copying.rate = EvenRate(90)
    assert copying.run(redelivered=True).check == "SHA256 of parts"
    assert copying.is_equal()


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME"])
@BOTH
def test_a_listing_without_checksums_costs_a_look_at_each_part(
    threads: Executor, algorithm: str, *, queue: bool
) -> None:
    """As in a bucket with a customer-managed key; what is composed is verified all the same."""
    copying = Copying(threads, queue=queue, cmek=True)
    copying.source.put("k", DATA, checksums={algorithm: checksum(algorithm, DATA)}, md5=None)
    assert [outcome.why for outcome in copying.finish()][-1] == EQUAL
    assert copying.is_equal()
    copying.source.flips.append(7)
    copying.source.put("k", DATA[::-1], checksums={algorithm: checksum(algorithm, DATA[::-1])}, md5=None)
    with pytest.raises(Corrupt):
        list(copying.finish())


def test_crcs_of_parts_are_large_from_where_crcs_of_the_whole_are(threads: Executor) -> None:
    parts = Parts(threads)
    size = 128 * MIB
    assert parts.takes(original_of(b"", size=size, md5=None, composites={"CRC32": "AAAAAA=="}))
    assert not parts.takes(original_of(b"", size=size, md5=None, composites={"SHA256": "x", "ETAG": "x"}))
