"""Large objects in parts: cut alike by everybody, resumed, handed over, composed once, verified as a whole."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anycrc
import pytest

from handler.core.composing import FAN, compose
from handler.core.decide import EQUAL, Action
from handler.core.errors import IN_PARTS, Corrupt, Moved, Unavailable
from handler.core.model import ABSENT, GIB, MIB, TIB, Original, Replica, Rule, S3Part, Span, Stamp
from handler.core.parts import HUGE, LARGE, Parts
from handler.core.plan import SPAN, STAGING, Plan
from handler.core.rate import RateEstimate
from handler.core.reconcile import reconcile
from handler.core.route import Outcome, Route
from handler.core.staging import Staging
from handler.core.task import CopyTask, LargeCopy
from handler.events import Trigger, parse
from handler.messages import part_message
from tests.fakes import EvenRate, Faults, MemoryDestination, MemorySource, crc32c, original_of

RULE = Rule(id="r", source="src", destination="gs://dst")
DATA = bytes(range(256)) * 5 + b"tail"


def crc64nvme(data: bytes) -> str:
    return base64.b64encode(anycrc.Model("CRC64-NVME").calc(data).to_bytes(8, "big")).decode()


CHECKSUMS = {"CRC32C": crc32c, "CRC64NVME": crc64nvme}


@pytest.fixture(scope="module")
def threads() -> Executor:
    return ThreadPoolExecutor(4)


class Bench:
    """Both sides, objects of over 1,000 bytes large, parts of 100 bytes, and a queue of handed-over parts."""

    def __init__(
        self, threads: Executor, faults: Faults | None = None, *, span: int = 100, length: int = 1 << 30
    ) -> None:
        self.source = MemorySource()
        self.destination = MemoryDestination()
        self.sent: list[CopyTask] = []
        self.rate: RateEstimate = EvenRate(length)
        self.rule = RULE
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._threads, self._span, self._faults = threads, span, faults or Faults()

    def put(self, data: bytes = DATA, algorithm: str = "CRC64NVME") -> None:
        self.source.put("k", data, checksums={algorithm: CHECKSUMS[algorithm](data)})

    def run(
        self, task: CopyTask | None = None, *, queue: bool = False, spans: int = 1 << 30, redelivered: bool = False
    ) -> Outcome:
        """Reconcile with time for so many spans and turns."""
        left = iter(range(spans))
        parts = Parts(
            self._threads,
            large=1000,
            huge=1000 if queue else TIB,
            span=self._span,
            send=self.sent.extend if queue else None,
            rate=self.rate,
            now=lambda: self.now,
        )
        route = Route(
            source=self._faults.source(self.source),
            destination=self._faults.composer(self.destination),
            rules=(self.rule,),
            parts=parts,
        )
        return reconcile(route, "k", task=task, redelivered=redelivered, has_time=lambda: next(left, None) is not None)

    def run_all(self) -> Iterator[Outcome]:
        """Deliver all messages, then the event."""
        while self.sent:
            self.run(self.sent.pop(), queue=True)
        yield self.run(queue=True, redelivered=True)

    def only_the_copy(self, data: bytes = DATA) -> bool:
        return self.destination.keys() == {"k"} and self.destination.data("k") == data


@pytest.mark.parametrize("algorithm", CHECKSUMS)
@pytest.mark.parametrize("span", [100, 20, 2000])
def test_a_large_object_is_copied_in_parts_and_none_is_left(threads: Executor, algorithm: str, span: int) -> None:
    bench = Bench(threads, span=span)
    bench.put(algorithm=algorithm)
    outcome = bench.run()
    assert outcome.actions == (Action.PUT,)
    assert outcome.check == f"{algorithm} of spans"
    assert outcome.bytes == len(DATA)
    assert bench.only_the_copy()
    assert bench.run().actions == ()


def test_all_that_is_staged_is_under_the_rules_key(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(threads, span=100)
    bench.rule = replace(RULE, kms_key="the key")
    bench.source.put("k", DATA, checksums={"CRC64NVME": crc64nvme(DATA)}, composites={})
    written: list[str | None] = []

    def watching(write: Callable[..., Replica]) -> Callable[..., Replica]:
        def watched(*args: Any, **how: Any) -> Replica:
            replica = write(*args, **how)
            written.append(replica.stamp.kms_key)
            return replica

        return watched

    for verb in ("put", "patch", "compose"):
        monkeypatch.setattr(bench.destination, verb, watching(getattr(bench.destination, verb)))
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    assert [outcome.equal for outcome in bench.run_all()] == [True]
    assert len(written) > 10
    assert set(written) == {"the key"}


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_parts_that_do_not_add_up_are_corrupt_and_swept(threads: Executor, algorithm: str) -> None:
    bench = Bench(threads)
    bench.source.put("k", DATA, checksums={algorithm: CHECKSUMS[algorithm](DATA + b"!")})
    with pytest.raises(Corrupt, match="add up"):
        bench.run()
    assert bench.destination.keys() == set()


def test_a_composition_that_is_not_its_parts_is_taken_back(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(threads)
    bench.put()
    compose = bench.destination.compose
    monkeypatch.setattr(
        bench.destination, "compose", lambda key, parts, *rest, **how: compose(key, parts[::-1], *rest, **how)
    )
    with pytest.raises(Corrupt, match="composed to"):
        bench.run()
    assert not bench.destination.head("k").exists
    monkeypatch.undo()
    assert bench.run(redelivered=True).actions == (Action.PUT,)
    assert bench.only_the_copy()


def test_a_part_that_is_put_over_another_has_its_bytes(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One instance lists between another's put of a part and its checksum, and cuts shorter; a third one composes."""
    source, destination = MemorySource(), MemoryDestination()
    original = source.put("k", DATA, checksums={"CRC64NVME": crc64nvme(DATA)})
    whole = Span(0, len(DATA))

    def staging(length: int) -> Staging:
        parts = Parts(threads, large=100, huge=100, span=2 * len(DATA), rate=EvenRate(length))
        return parts.staging(source, destination, original, LargeCopy.of(original, RULE, "k"), Stamp())

    first, second, third = staging(100), staging(50), staging(100)
    (task,) = first.plan.tasks
    task = task._replace(span=Span(0, 2 * len(DATA)))  # so that no part is all of it
    unchecked: dict[str, Replica] = {}
    patch = destination.patch

    def listed_before(*args: Any, **how: Any) -> Replica:
        if not unchecked:
            unchecked.update(destination.list(first.plan.prefix))
        return patch(*args, **how)

    monkeypatch.setattr(destination, "patch", listed_before)
    assert len(list(first.copy(task, whole, {}, lambda _: True))) == 13
    found = third.all()
    assert found.gaps == []
    once = iter([True])
    list(second.copy(task, whole, unchecked, lambda _: next(once, False)))
    compose(third, found.parts, lambda _: Stamp(), ABSENT)
    assert destination.data("k") == DATA


def test_what_time_ran_out_for_is_gone_on_with_by_the_next_delivery(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    with pytest.raises(Unavailable) as caught:
        bench.run(spans=6)
    assert caught.value.code == "OutOfTime"
    staged = len(bench.destination.keys())
    assert 0 < staged < 13
    gets = bench.source.requests["GET"]
    assert bench.run(redelivered=True).actions == (Action.PUT,)
    assert bench.source.requests["GET"] - gets == 13 - staged, "a part that was there was read again"
    assert bench.only_the_copy()


def test_no_copy_outlives_the_invocation_in_which_another_failed(threads: Executor) -> None:
    """It would put a part when nobody looks for it any more."""
    under_way, over = threading.Event(), threading.Event()
    outlived = []

    class Uneven(MemorySource):
        def open(self, key: str, *, at: Original | None = None, span: Span | None = None) -> Any:
            if span == Span(100, 200):
                under_way.set()
                outlived.append(over.wait(0.1))
            elif span == Span(0, 100):
                assert under_way.wait(10)
                raise Unavailable("no more", code="OutOfTime")
            return super().open(key, at=at, span=span)

    bench = Bench(threads)
    bench.source = Uneven()
    bench.put()
    with pytest.raises(Unavailable):
        bench.run()
    over.set()
    assert outlived == [False]


@pytest.mark.parametrize(("spans", "gets"), [(1, 2), (2, 4), (3, 3)])
def test_few_spans_have_more_streams_than_one_each(threads: Executor, spans: int, gets: int) -> None:
    bench = Bench(threads, span=32 * MIB)
    data = bytes(spans * 32 * MIB)
    bench.put(data, "CRC32C")
    bench.run()
    assert bench.only_the_copy(data)
    assert bench.source.requests["GET"] == gets


def test_a_message_is_done_with_once_its_rest_is_on_the_queue_anew(threads: Executor) -> None:
    """Else each delivery that is too short makes two messages of one."""
    bench = Bench(threads, span=300)
    bench.rate = EvenRate(10)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    message = bench.sent[0]
    for _ in range(5):
        bench.sent.clear()
        assert bench.run(message, queue=True, spans=2).actions == (Action.HAND_OVER,)
        assert bench.sent == [message]


def test_a_message_that_copied_nothing_fails_instead_of_being_sent_again(threads: Executor) -> None:
    """Else a chain of messages goes on for ever without a byte."""
    bench = Bench(threads, span=300, length=10)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    message = bench.sent[0]
    bench.sent.clear()
    with pytest.raises(Unavailable) as caught:
        bench.run(message, queue=True, spans=1)
    assert caught.value.code == "OutOfTime"
    assert bench.sent == []


def test_an_event_that_comes_again_sends_its_spans_again_only_after_a_day(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    for later, sent in ((0, 13), (0, 0), (23, 0), (2, 13)):
        bench.sent.clear()
        bench.now += timedelta(hours=later)
        with pytest.raises(Unavailable) as caught:
            bench.run(queue=True, redelivered=True)
        assert caught.value.code == IN_PARTS
        assert len(bench.sent) == sent
    for part in bench.run_all():
        assert part.why == EQUAL
    assert bench.only_the_copy()


def test_a_worker_lists_the_parts_of_its_own_span_only(threads: Executor) -> None:
    bench = Bench(threads, span=300, length=10)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    for message in list(bench.sent):  # a few parts of each
        bench.run(message, queue=True, spans=8)
    assert len(bench.destination.keys()) > 25
    bench.destination.lists.clear()
    bench.run(bench.sent[-1], queue=True, spans=3)
    assert max(bench.destination.lists) < 10


def test_parts_are_of_one_storage_class_though_the_originals_changes(threads: Executor) -> None:
    """A lifecycle rule of S3's moves an object to another class, and it stays in the same state."""
    bench = Bench(threads)
    bench.rule = replace(RULE, storage_classes={"STANDARD": "STANDARD", "STANDARD_IA": "NEARLINE"})
    bench.put(algorithm="CRC32C")
    with pytest.raises(Unavailable):
        bench.run(spans=6)
    bench.source.transition("k", "STANDARD_IA")
    assert bench.run(redelivered=True).actions == (Action.PUT,)
    assert bench.only_the_copy()
    assert bench.destination.head("k").stamp.storage_class == "NEARLINE"


def test_a_part_without_its_checksum_is_in_no_unions_way(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 bytes, of which the next delivery makes 32 that have two each."""
    monkeypatch.setattr("handler.core.reconcile.SMALL", 50)
    faults = Faults()
    bench = Bench(threads, faults, span=1 << 20)
    bench.rate = EvenRate(64)
    bench.put()
    faults.at("destination.patch", 1, raises=Unavailable("503"))
    with pytest.raises(Unavailable):
        bench.run(spans=2)
    bench.rate = EvenRate(2)
    assert bench.run(redelivered=True).actions == (Action.PUT,)
    assert bench.only_the_copy()


def test_nothing_is_joined_once_time_is_over(threads: Executor) -> None:
    faults = Faults()
    bench = Bench(threads, faults, span=8)
    bench.put()
    with pytest.raises(Unavailable, match="no time is left to join"):
        bench.run(spans=1 + -(-len(DATA) // 8))
    assert "destination.compose" not in faults.calls
    assert bench.run(redelivered=True).actions == (Action.PUT,)
    assert bench.only_the_copy()


def test_a_part_that_another_put_first_tells_nothing_of_the_rate() -> None:
    seconds = iter([0.0, 0.1])
    rate = RateEstimate(lambda: 600.0, lambda: next(seconds), shortest=1)
    before = rate.length(1 << 40)
    with pytest.raises(Moved), rate.measured(1 << 30):
        raise Moved("taken")
    assert rate.length(1 << 40) == before


def test_a_huge_object_is_handed_over_and_its_event_kept_until_the_copy_is_there(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    with pytest.raises(Unavailable) as caught:
        bench.run(queue=True)
    assert caught.value.code == IN_PARTS
    assert [part.span for part in bench.sent] == [Span(at, min(at + 100, len(DATA))) for at in range(0, len(DATA), 100)]
    for part in [*reversed(bench.sent), *bench.sent[:3]]:
        bench.run(part, queue=True)
    assert bench.only_the_copy()
    assert bench.run(queue=True, redelivered=True).actions == ()


def test_time_that_runs_out_hands_the_rest_over_where_there_is_a_queue(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    sent: list[CopyTask] = []
    parts = Parts(threads, large=1000, huge=TIB, span=100, send=sent.extend)
    route = Route(source=bench.source, destination=bench.destination, rules=(RULE,), parts=parts)
    left = iter(range(4))
    with pytest.raises(Unavailable) as caught:
        reconcile(route, "k", has_time=lambda: next(left, None) is not None)
    assert caught.value.code == IN_PARTS
    staged = bench.destination.keys()
    marked = {name for name in staged if name.endswith("/sent")}
    assert len(marked) == 1, "a later delivery of the event sends them no more"
    assert len(sent) + len(staged - marked) == 13
    for part in sent:
        bench.run(part, queue=True)
    assert bench.only_the_copy()


def test_a_newer_state_stops_the_old_parts_and_theirs_are_swept(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    old = list(bench.sent)
    bench.run(old[0], queue=True)
    bench.put(DATA[::-1])
    gets = bench.source.requests["GET"]
    outcome = bench.run(old[1], queue=True)
    assert outcome.why.startswith("superseded")
    assert bench.source.requests["GET"] == gets
    assert bench.destination.keys() == set(), "parts of a state that is over are left"
    bench.run()
    assert bench.only_the_copy(DATA[::-1])


def test_a_superseded_part_does_not_touch_the_newer_states_parts(threads: Executor) -> None:
    bench = Bench(threads)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    old, older = bench.sent[0], bench.destination.keys()
    bench.put(DATA[::-1])
    bench.sent.clear()
    with pytest.raises(Unavailable):
        bench.run(queue=True)
    bench.run(bench.sent[0], queue=True)
    newer = bench.destination.keys() - older
    assert len(newer) == 2, "a span, and the marker"
    bench.run(old, queue=True)
    assert bench.destination.keys() == newer


@pytest.mark.parametrize("call", ["destination.put", "destination.compose", "destination.patch"])
def test_a_lost_answer_in_the_middle_is_made_good_by_the_next_delivery(
    threads: Executor, faults: Faults, call: str
) -> None:
    bench = Bench(threads, faults)
    bench.put()
    faults.at(call, lost=True)
    with pytest.raises(Unavailable):
        bench.run()
    bench.run(redelivered=True)
    assert bench.only_the_copy()


def test_a_source_that_changes_while_parts_are_copied_ends_in_the_new_state(threads: Executor, faults: Faults) -> None:
    bench = Bench(threads, faults)
    bench.put()
    faults.at("source.open", 3, then=lambda: bench.put(DATA[::-1]))
    bench.run()
    assert bench.only_the_copy(DATA[::-1])


def test_two_that_copy_the_same_object_at_once_end_equal(threads: Executor, faults: Faults) -> None:
    bench, rival = Bench(threads, faults), Bench(threads)
    bench.put()
    rival.source, rival.destination = bench.source, bench.destination
    faults.at("destination.compose", then=rival.run)
    assert bench.run().why == "equal"
    assert bench.only_the_copy()


def test_the_cut_is_the_same_for_everybody_and_covers_the_whole() -> None:
    for size in (LARGE, HUGE + 1, 32 * GIB, 32 * GIB + 1, 5 * TIB):
        original = original_of(b"", size=size, checksums={"CRC32C": "AAAAAA=="})
        plan = Plan.of(LargeCopy.of(original, RULE, "k"), original, "CRC32C of spans", SPAN, Stamp())
        assert 1 <= len(plan.tasks) <= FAN * FAN
        bounds = [task.span for task in plan.tasks]
        assert bounds[0].start == 0
        assert bounds[-1].stop == size
        assert all(left.stop == right.start for left, right in itertools.pairwise(bounds))
        assert {span.size % SPAN for span in bounds[:-1]} == {0}
        assert plan.part(Span(0, 1), plan.tasks[0]).startswith(STAGING)


TASK = CopyTask(
    replace(
        LargeCopy.of(original_of(DATA, version_id="v1"), RULE, "copies/k"),
        check="SHA256 of parts",
        plan="p",
        assumed=True,
    ),
    Span(100, 200),
    (S3Part(60, "x"), S3Part(80)),
    offset=90,
)
FIELDS = json.loads(part_message(TASK))["replicatePart"]


def test_a_part_travels_through_a_queue_unchanged() -> None:
    message = {"eventSource": "aws:sqs", "messageId": "1", "body": part_message(TASK)}
    batch = parse({"Records": [message]})
    assert batch.trigger is Trigger.QUEUE
    assert [change.task for change in batch.deliveries[0].changes] == [TASK]


def test_the_message_of_a_part_is_what_deployed_stacks_send() -> None:
    """Messages of the release before are on their way while this one is deployed."""
    assert {
        "bucket": "src",
        "key": "key",
        "destination": "gs://dst",
        "name": "copies/k",
        "etag": TASK.copy.state.etag,
        "version_id": "v1",
        "last_modified": TASK.copy.state.last_modified,
        "size": len(DATA),
        "span": [100, 200],
        "check": "SHA256 of parts",
        "plan": "p",
        "parts": [[60, "x"], [80, ""]],
        "offset": 90,
        "assumed": True,
    } == FIELDS


SPANS: list[Any] = [None, [3, 3], [-1, 3], [1], "ab"]
S3_PARTS: list[Any] = [[1], [[1, 2]], [[0, ""]], {}, None]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"span": [0, 1]},
        {name: value for name, value in FIELDS.items() if name != "version_id"},
        FIELDS | {"more": 1},
        *(FIELDS | {name: []} for name in ("version_id", "name", "size", "plan", "assumed")),
        *(FIELDS | {"span": span} for span in SPANS),
        *(FIELDS | {"parts": parts} for parts in S3_PARTS),
        3,
    ],
)
def test_a_message_that_is_no_part_is_a_fault(fields: object) -> None:
    body = json.dumps({"replicatePart": fields})
    batch = parse({"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": body}]})
    assert batch.deliveries[0].faults


def test_an_unverifiable_object_goes_in_one_stream_until_it_is_huge() -> None:
    parts = Parts(ThreadPoolExecutor(1))
    assert not parts.takes(original_of(b"", size=LARGE))
    assert parts.takes(original_of(b"", size=LARGE, checksums={"CRC32": "AAAAAA=="}))
    assert parts.takes(original_of(b"", size=HUGE))


def test_moved_is_what_a_vanished_source_is_to_a_part(threads: Executor, faults: Faults) -> None:
    bench = Bench(threads, faults)
    bench.put()
    faults.at("source.open", 1, raises=Moved("gone"))
    assert bench.run().why == "equal"


class Clock:
    """Time that passes only where it is told to, and is over at 20 seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def left(self) -> float:
        return 20.0 - self.now


def test_a_part_is_as_long_as_there_is_time_for() -> None:
    clock = Clock()
    rate = RateEstimate(clock.left, clock, shortest=10)
    with rate.measured(100):
        clock.now = 10.0
    assert rate.length(1 << 40) == 50, "half of what 10 s are enough for"
    assert rate.allows(50, redelivered=True)
    assert not rate.allows(51, redelivered=False)
    clock.now = 25.0
    assert rate.length(1 << 40) == 10


def test_a_short_part_tells_nothing_of_the_rate() -> None:
    """Else the last bytes of one object would have the next one cut as finely as can be."""
    clock = Clock()
    rate = RateEstimate(clock.left, clock, shortest=10)
    with rate.measured(100):
        clock.now = 1.0
    with rate.measured(9):
        clock.now = 2.0
    assert rate.length(1 << 40) == 900


def test_a_failure_is_remembered_as_no_faster_than_it_was() -> None:
    clock = Clock()
    rate = RateEstimate(clock.left, clock, shortest=1)

    def stall() -> None:
        with rate.measured(100):
            clock.now = 10.0
            raise Unavailable("stalled", code="DstStalled")

    with pytest.raises(Unavailable):
        stall()
    assert rate.length(1 << 40) == 50


def test_an_object_that_there_is_no_time_to_stream_goes_in_parts(threads: Executor) -> None:
    clock = Clock()
    parts = Parts(threads, rate=RateEstimate(clock.left, clock))
    assert not parts.takes(original_of(b"", size=30 << 20))
    assert parts.takes(original_of(b"", size=30 << 20), redelivered=True), "a delivery failed: it may be too slow"
    clock.now = 19.0
    assert parts.takes(original_of(b"", size=30 << 20))


def test_parts_of_any_length_make_one_whole(threads: Executor, faults: Faults) -> None:
    """One delivery cuts coarsely and stops, the next finely, a rival in the middle of it in its own way."""
    bench, rival = Bench(threads, faults, span=300), Bench(threads, span=300)
    bench.put()
    with pytest.raises(Unavailable):
        bench.run(spans=3)
    bench.rate, rival.rate = EvenRate(7), EvenRate(50)
    rival.source, rival.destination = bench.source, bench.destination
    faults.at("source.open", 9, then=rival.run)
    assert bench.run(redelivered=True).why == "equal"
    assert bench.only_the_copy()
