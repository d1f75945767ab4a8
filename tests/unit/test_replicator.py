"""Many keys at once: coalesced, side by side, and each one's trouble its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.core.batch import Replicator, Result, Work, coalesce
from handler.core.decide import Action
from handler.core.errors import Refused, Unavailable
from handler.core.model import SMALL, Rule
from handler.core.ports import Destination, Source
from handler.core.task import Change
from tests.fakes import Faults, MemoryDestination, MemorySource

RULE = Rule(id="one", source="src", destination="gs://one")


def change(key: str = "k", event: str = "ObjectCreated:Put", size: int | None = 4, bucket: str = "src") -> Change:
    return Change(bucket=bucket, key=key, event=event, size=size, time=datetime(2026, 1, 1, tzinfo=UTC))


def work(key: str = "k", *changes: Change, redelivered: bool = False, bucket: str = "src") -> Work:
    return Work(bucket=bucket, key=key, changes=changes or (change(key, bucket=bucket),), redelivered=redelivered)


class World:
    """Sources and destinations by name, made when first asked for."""

    def __init__(self, *rules: Rule) -> None:
        self.faults = Faults()
        self.sources: dict[str, MemorySource] = {}
        self.destinations: dict[str, MemoryDestination] = {}
        self.broken: set[str] = set()
        self.asked_for_tags: list[bool] = []
        by_source: dict[str, Sequence[Rule]] = {}
        for rule in sorted(rules, key=lambda rule: -rule.priority):
            by_source[rule.source] = [*by_source.get(rule.source, []), rule]
        self.replicator = Replicator(by_source, source=self._source, destination=self._destination, concurrency=8)

    def source(self, name: str = "src") -> MemorySource:
        return self.sources.setdefault(name, MemorySource())

    def destination(self, name: str = "gs://one") -> MemoryDestination:
        return self.destinations.setdefault(name, MemoryDestination())

    def _source(self, name: str, with_tags: bool) -> Source:  # noqa: FBT001 - the shape of Replicator's factory
        self.asked_for_tags.append(with_tags)
        return self.faults.source(self.source(name))

    def _destination(self, name: str) -> Destination:
        if name in self.broken:
            raise Refused(f"{name} cannot be opened", code="DstBucketNotFound")
        return self.faults.destination(self.destination(name))

    def replicate(self, *works: Work) -> list[Result]:
        return self.replicator.replicate(works)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(RULE)
    yield made
    made.faults.check()


def test_every_key_is_made_equal_and_has_its_result(world: World) -> None:
    keys = [f"k{number}" for number in range(50)]
    for key in keys:
        world.source().put(key, key.encode())
    results = world.replicate(*(work(key) for key in keys))
    assert [result.work.key for result in results] == keys
    assert all(result.outcomes[0].actions == (Action.PUT,) for result in results)
    assert {key: world.destination().data(key) for key in keys} == {key: key.encode() for key in keys}


PLAIN_B = Rule(id="plain", source="src", destination="gs://one", prefix="b/")
BELOW = Rule(id="below", source="src", destination="gs://one", destination_prefix="archive/")
INTO_B = Rule(id="into b", source="src", destination="gs://one", prefix="a/", replace_prefix="b/")


@pytest.mark.parametrize(
    ("rules", "live", "told"),
    [
        ((RULE, BELOW), "x", "archive/x"),
        ((PLAIN_B, INTO_B), "b/x", "a/x"),
        ((INTO_B, PLAIN_B), "a/x", "b/x"),
    ],
    ids=["a prefix before the key", "a replaced prefix", "a replaced prefix, the other way"],
)
@pytest.mark.parametrize("event", ["ObjectRemoved:Delete", "BatchOperations", "REST"])
def test_a_delete_of_a_key_that_never_was_deletes_no_live_copy(
    rules: tuple[Rule, ...], live: str, told: str, event: str
) -> None:
    world = World(*rules)
    world.source().put(live, b"live")
    world.replicate(work(live))
    before = world.destination().keys()
    (result,) = world.replicate(work(told, change(told, event, None)))
    assert not result.errors
    assert world.destination().keys() == before
    world.source().delete(live)
    world.replicate(work(live, change(live, "ObjectRemoved:Delete", None)))
    assert world.destination().keys() == set()


def test_a_copy_that_names_neither_key_nor_rule_is_kept_if_it_may_be_of_another_key() -> None:
    """Copies of releases before 0.2 are so, until an event of theirs patches them."""
    world = World(RULE, BELOW)
    world.source().put("x", b"live")
    world.replicate(work("x"))
    _forget_names(world.destination(), "archive/x")
    world.replicate(work("archive/x", change("archive/x", "ObjectRemoved:Delete", None)))
    assert world.destination().keys() == {"x", "archive/x"}

    world = World(RULE)
    world.source().put("x", b"live")
    world.replicate(work("x"))
    _forget_names(world.destination(), "x")
    world.source().delete("x")
    world.replicate(work("x", change("x", "ObjectRemoved:Delete", None)))
    assert world.destination().keys() == set(), "no other key can have that name"


def _forget_names(destination: MemoryDestination, name: str) -> None:
    copy = destination.head(name)
    kept = {entry: value for entry, value in copy.stamp.metadata.items() if not entry.endswith(("-key", "-rule"))}
    destination.patch(name, replace(copy.stamp, metadata=kept), expect=copy.generation)


@pytest.mark.parametrize(
    ("rule", "name", "key"),
    [
        (RULE, "x", "x"),
        (PLAIN_B, "b/x", "b/x"),
        (PLAIN_B, "x", None),
        (BELOW, "archive/x", "x"),
        (BELOW, "x", None),
        (INTO_B, "b/x", "a/x"),
        (INTO_B, "a/x", None),
        (replace(INTO_B, replace_prefix=""), "x", "a/x"),
    ],
)
def test_a_name_tells_the_key_that_a_rule_gives_it_to(rule: Rule, name: str, key: str | None) -> None:
    assert rule.key_of(name) == key
    assert key is None or rule.destination_key(key) == name


@pytest.mark.parametrize("keeping", [True, False], ids=["the rule of the copy keeps", "the rule of the copy deletes"])
def test_the_rule_that_made_a_copy_decides_whether_it_is_deleted(*, keeping: bool) -> None:
    tagged = replace(RULE, id="tagged", priority=9, tags={"team": "red"}, deletes=keeping)
    world = World(tagged, replace(RULE, id="rest", deletes=not keeping))
    world.source().put("k", b"untagged")
    world.replicate(work())
    world.source().delete("k")
    world.replicate(work("k", change("k", "ObjectRemoved:Delete", None)))
    assert world.destination().keys() == ({"k"} if keeping else set())


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_keys_are_as_good_as_many(world: World, count: int) -> None:
    assert len(world.replicate(*(work(f"k{number}") for number in range(count)))) == count


def test_keys_are_worked_on_side_by_side(world: World) -> None:
    """Each waits for all others: one after the other, the barrier would break."""
    together = threading.Barrier(8, timeout=30)
    for number in range(8):
        world.source().put(f"k{number}", b"x")
        world.faults.at("source.open", number + 1, then=together.wait)
    assert not [result for result in world.replicate(*(work(f"k{n}") for n in range(8))) if result.errors]


def test_one_bad_key_costs_only_itself(world: World) -> None:
    for key in ("a", "bad", "z"):
        world.source().put(key, b"x", user_metadata={"s3-expires": "mine"} if key == "bad" else {})
    good, bad, also_good = world.replicate(work("a"), work("bad"), work("z"))
    assert not good.errors
    assert not also_good.errors
    assert (bad.outcomes, [error.code for error in bad.errors], bad.retryable) == ((), ["SrcMetadataReserved"], False)
    assert world.destination().keys() == {"a", "z"}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("k"), AssertionError(), RecursionError()])
def test_an_exception_nobody_foresaw_is_retried_and_keeps_its_cause(world: World, error: Exception) -> None:
    world.source().put("k", b"x")
    world.faults.at("destination.put", raises=error)
    (result,) = world.replicate(work())
    (seen,) = result.errors
    assert (seen.code, seen.retryable, seen.__cause__) == ("Unforeseen", True, error)
    assert type(error).__name__ in str(seen)


def test_a_bucket_without_a_rule_is_refused(world: World) -> None:
    (result,) = world.replicate(work(bucket="another"))
    assert [error.code for error in result.errors] == ["SrcBucketReplicationConfigMissing"]
    assert not result.retryable
    assert world.replicator.allows("src")
    assert not world.replicator.allows("another")


def test_no_time_left_is_unavailable_for_each_key(world: World) -> None:
    results = world.replicator.replicate([work("a"), work("b")], has_time=lambda: False)
    assert [error.code for result in results for error in result.errors] == ["OutOfTime", "OutOfTime"]


# --- rules

TWO = replace(RULE, id="two", destination="gs://two")


def test_an_object_goes_to_each_of_its_destinations() -> None:
    world = World(RULE, TWO, replace(RULE, id="below", destination_prefix="below/"))
    world.source().put("k", b"x")
    (result,) = world.replicate(work())
    assert sorted(outcome.rule.id for outcome in result.outcomes) == ["below", "one", "two"]
    assert world.destination("gs://one").keys() == {"k", "below/k"}
    assert world.destination("gs://two").keys() == {"k"}


@pytest.mark.parametrize("nth", [1, 2])
def test_one_destination_that_fails_does_not_keep_it_from_the_others(nth: int) -> None:
    world = World(RULE, TWO)
    world.source().put("k", b"x")
    world.faults.at("destination.put", nth, raises=Unavailable("away"))
    (result,) = world.replicate(work())
    assert len(result.outcomes) == len(result.errors) == 1
    world.faults.check()


@pytest.mark.parametrize("broken", ["gs://one", "gs://two"])
def test_one_destination_that_cannot_be_opened_does_not_keep_it_from_the_others(broken: str) -> None:
    world = World(RULE, TWO)
    world.broken = {broken}
    world.source().put("k", b"x")
    (result,) = world.replicate(work())
    assert [error.code for error in result.errors] == ["DstBucketNotFound"]
    assert len(result.outcomes) == 1


def test_a_key_that_no_rule_covers_has_no_outcome_and_no_error() -> None:
    world = World(replace(RULE, prefix="in/"))
    (result,) = world.replicate(work("out/k"))
    assert (result.outcomes, result.errors) == ((), ())


@pytest.mark.parametrize(
    ("tags", "storage_class"),
    [
        ({"team": "red", "tier": "1"}, "ARCHIVE"),
        ({"team": "red"}, "COLDLINE"),
        ({"tier": "1"}, "ARCHIVE"),
        ({}, "STANDARD"),
    ],
)
def test_rules_that_share_a_name_compete_by_priority(tags: dict[str, str], storage_class: str) -> None:
    world = World(
        RULE,
        replace(RULE, id="red", priority=1, tags={"team": "red"}, storage_classes={"*": "COLDLINE"}),
        replace(RULE, id="tier", priority=2, tags={"tier": "1"}, storage_classes={"*": "ARCHIVE"}),
    )
    world.source().put("k", b"x", tags=tags)
    (result,) = world.replicate(work())
    assert len(result.outcomes) == 1
    assert world.destination().head("k").stamp.storage_class == storage_class


def test_rules_of_different_names_do_not_compete() -> None:
    world = World(
        replace(RULE, id="in", prefix="in/", priority=2),
        replace(RULE, id="moved", prefix="in/", replace_prefix="out/", priority=1),
    )
    world.source().put("in/k", b"x")
    world.replicate(work("in/k"))
    assert world.destination().keys() == {"in/k", "out/k"}


@pytest.mark.parametrize(
    ("rule", "asked"),
    [(RULE, False), (replace(RULE, tags={"a": "b"}), True), (replace(RULE, replicate_tags=True), True)],
    ids=["none", "filter", "replicated"],
)
def test_tags_are_asked_for_only_where_a_rule_needs_them(rule: Rule, *, asked: bool) -> None:
    world = World(rule)
    world.replicate(work())
    assert world.asked_for_tags == [asked]


def test_adapters_are_made_once_and_kept(world: World) -> None:
    for _ in range(3):
        world.replicate(work())
    assert len(world.asked_for_tags) == 1


# --- coalescing


def test_an_event_that_comes_twice_finds_the_copy_and_sends_no_byte(world: World) -> None:
    world.source().put("k", b"data")
    world.replicate(work())
    world.faults.calls.clear()
    world.replicate(work())
    assert world.faults.calls == ["destination.head", "source.head"]


def test_what_is_guessed_absent_is_not_begun_without_time(world: World) -> None:
    for number in range(20):
        world.source().put(f"{number}", b"data")
    results = world.replicator.replicate([work(f"{number}") for number in range(20)], has_time=lambda: False)
    assert {error.code for result in results for error in result.errors} == {"OutOfTime"}
    assert world.faults.calls == []


def test_what_was_deleted_is_guessed_absent_again(world: World) -> None:
    world.source().put("k", b"data")
    world.replicate(work())
    world.source().delete("k")
    world.replicate(work("k", change(event="ObjectRemoved:Delete")))
    world.source().put("k", b"data")
    world.faults.calls.clear()
    world.replicate(work())
    assert world.faults.calls == ["source.open", "destination.put", "source.head"]


def test_what_is_remembered_has_its_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.core.batch.REMEMBERED", 10)
    for number in range(25):
        world.source().put(f"{number}", b"data")
    world.replicate(*(work(f"{number}") for number in range(25)))
    assert len(world.replicator._present) <= 10


def test_changes_of_one_key_are_one_piece_of_work() -> None:
    told = [(change("b"), False), (change("a"), False), (change("b", "ObjectRemoved:Delete", None), True)]
    told.append((change("b", bucket="other"), False))
    assert {(item.bucket, item.key): (len(item.changes), item.redelivered) for item in coalesce(told)} == {
        ("src", "a"): (1, False),
        ("src", "b"): (2, True),
        ("other", "b"): (1, False),
    }


def test_coalesced_changes_keep_their_order() -> None:
    told = [(change(event=f"ObjectCreated:{number}"), False) for number in range(9)]
    (item,) = coalesce(told)
    assert [told.event[-1] for told in item.changes] == list("012345678")


@pytest.mark.parametrize(
    ("item", "guess"),
    [
        (work(), True),
        (work("k", change(size=SMALL)), True),
        (work("k", change(size=0)), True),
        (work("k", change(event="Object Created")), True),
        (work("k", change(size=SMALL + 1)), False),
        (work("k", change(size=None)), False),
        (work("k", change(event="ObjectRemoved:Delete")), False),
        (work("k", change(event="ObjectTagging:Put")), False),
        (work("k", change(event="REST")), False),
        (work("k", change(), change()), False),
        (work(redelivered=True), False),
    ],
)
def test_a_replica_is_guessed_absent_only_at_the_first_word_of_a_small_new_object(item: Work, *, guess: bool) -> None:
    assert item.guess_absent is guess


def test_a_piece_of_work_is_as_large_as_its_last_event_says() -> None:
    assert [work("k", change(size=1), change(size=9)).size, work("k", change(size=None)).size] == [9, 0]
