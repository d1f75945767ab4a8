"""Histories of one key: whatever happens in between, the end is right, and it costs no more calls than it must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from handler.core.decide import DRY_RUN, Action
from handler.core.errors import Corrupt, Moved, Refused, ReplicationError, Unavailable
from handler.core.model import SMALL, Generation, Headers, Replica, Rule, Stamp
from handler.core.plan import STAGING
from handler.core.ports import Reader
from handler.core.reconcile import TURNS, reconcile
from handler.core.route import Outcome, Route
from tests.fakes import Faults, MemoryDestination, MemorySource, crc32c, reader

RULE = Rule(id="r", source="src", destination="gs://dst", destination_prefix="copies/")


class World:
    """Both sides of one key, its user, and what goes wrong between them."""

    def __init__(self, faults: Faults, *, versioned: bool = False) -> None:
        self.source = MemorySource(versioned=versioned)
        self.destination = MemoryDestination()
        self.faults = faults
        self.rules = (RULE,)
        self.dry_run = False

    def reconcile(self, *, guess_absent: bool = False, has_time: Callable[[], bool] = lambda: True) -> Outcome:
        route = Route(
            source=self.faults.source(self.source),
            destination=self.faults.destination(self.destination),
            rules=self.rules,
            dry_run=self.dry_run,
        )
        return reconcile(route, "k", guess_absent=guess_absent, has_time=has_time)

    def equal(self, data: bytes | None) -> bool:
        if data is None:
            return not self.destination.head("copies/k").exists
        return self.destination.data("copies/k") == data


@pytest.fixture(params=["unversioned", "versioned"])
def world(request: pytest.FixtureRequest, faults: Faults) -> World:
    return World(faults, versioned=request.param == "versioned")


# --- what somebody else does to a copy


def _patched(world: World, change: Callable[[Stamp], Stamp]) -> None:
    """Change a copy's metadata as somebody else would."""
    copy = world.destination.head("copies/k")
    world.destination.patch("copies/k", change(copy.stamp), expect=copy.generation)


def _replaced(world: World, data: bytes) -> None:
    """Replace a copy's bytes as somebody else would, its metadata kept."""
    copy = world.destination.head("copies/k")
    world.destination.put("copies/k", reader(data), copy.stamp, expect=copy.generation)


@pytest.mark.parametrize(
    "change",
    [
        lambda stamp: replace(stamp, headers=Headers(content_type="text/html")),
        lambda stamp: replace(stamp, headers=stamp.headers._replace(cache_control="no-store")),
        lambda stamp: replace(stamp, metadata={**stamp.metadata, "owner": "somebody else"}),
        lambda stamp: replace(stamp, metadata={**stamp.metadata, "more": ""}),
        lambda stamp: replace(
            stamp, metadata={name: value for name, value in stamp.metadata.items() if name != "owner"}
        ),
    ],
    ids=["content type", "cache control", "user metadata", "one entry more", "one entry less"],
)
def test_metadata_that_somebody_changed_at_the_destination_are_healed(
    world: World, change: Callable[[Stamp], Stamp]
) -> None:
    world.source.put("k", b"data", headers=Headers(content_type="text/csv"), user_metadata={"owner": "me"})
    world.reconcile()
    before = world.destination.head("copies/k").stamp
    _patched(world, change)
    assert world.reconcile().actions == (Action.PATCH,)
    assert world.destination.head("copies/k").stamp == before
    assert world.reconcile().actions == ()


@pytest.mark.parametrize("md5", [True, False], ids=["MD5 ETag", "no checksum at S3"])
def test_bytes_of_the_same_size_that_somebody_put_at_the_destination_are_replaced(world: World, *, md5: bool) -> None:
    world.source.put("k", b"data", **({} if md5 else {"md5": None, "etag": "0123-2"}))
    world.reconcile()
    _replaced(world, b"atad")
    assert world.reconcile().actions == (Action.PUT,)
    assert world.equal(b"data")


def test_a_store_that_writes_a_header_in_its_own_way_costs_one_patch_and_no_more(world: World) -> None:
    class Normalising(MemoryDestination):
        """Writes types in lower case."""

        def _store(self, key: str, data: bytes, stamp: Stamp) -> Replica:
            return super()._store(key, data, _lower(stamp))

        def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
            return super().patch(key, _lower(stamp), expect=expect)

    world.destination = Normalising()
    world.source.put("k", b"data", headers=Headers(content_type="Text/CSV"))
    outcome = world.reconcile()
    assert (outcome.actions, outcome.equal) == ((Action.PUT, Action.PATCH), True)
    assert world.destination.head("copies/k").stamp.headers.content_type == "text/csv"


def _lower(stamp: Stamp) -> Stamp:
    return replace(stamp, headers=stamp.headers._replace(content_type=(stamp.headers.content_type or "").lower()))


def test_a_destination_that_cannot_record_the_checksum_with_the_bytes_is_patched_to(world: World) -> None:
    class LaterOnly(MemoryDestination):
        """Knows the checksum only once all is written, as an upload session does."""

        def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
            return super().put(key, body, replace(stamp, crc32c_name=""), expect=expect)

    world.destination = LaterOnly()
    world.source.put("k", b"data", md5=None)
    assert world.reconcile(guess_absent=True).actions == (Action.PUT, Action.PATCH)
    assert world.destination.head("copies/k").stamp.metadata["s3-replica-crc32c"] == crc32c(b"data")
    world.source.put("k", b"with an MD5, which tells as much")
    assert world.reconcile().actions == (Action.PUT,)


# --- what it costs


def _calls(world: World) -> dict[str, int]:
    return dict(Counter(world.faults.calls))


def test_a_new_small_object_costs_one_get_one_insert_and_one_head(world: World) -> None:
    world.source.put("k", b"data")
    outcome = world.reconcile(guess_absent=True)
    assert (outcome.actions, outcome.bytes, outcome.name) == ((Action.PUT,), 4, "copies/k")
    assert world.faults.calls == ["source.open", "destination.put", "source.head"]
    assert world.source.requests == {"GET": 1, "HEAD": 1}


def test_a_new_object_without_the_guess_costs_two_looks(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    assert world.faults.calls == ["destination.head", "source.head", "source.open", "destination.put", "source.head"]


def test_a_duplicate_costs_one_look(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.faults.calls.clear()
    outcome = world.reconcile()
    assert (outcome.actions, outcome.done, outcome.bytes) == ((), "nothing", 0)
    assert world.faults.calls == ["destination.head", "source.head"]


def test_a_duplicate_of_a_created_event_costs_one_refused_write(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.faults.calls.clear()
    assert world.reconcile(guess_absent=True).actions == ()
    assert world.faults.calls == ["source.open", "destination.put", "destination.head", "source.head"]


def test_a_delete_costs_one_delete_and_two_looks_at_the_source(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.delete("k")
    world.faults.calls.clear()
    assert world.reconcile().actions == (Action.DELETE,)
    assert world.faults.calls == ["destination.head", "source.head", "destination.delete", "source.head"]
    assert world.equal(None)


def test_a_change_of_metadata_moves_no_byte(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.copy("k", headers=Headers(content_type="text/csv"))
    world.faults.calls.clear()
    outcome = world.reconcile()
    assert (outcome.actions, outcome.bytes) == ((Action.PATCH,), 0)
    assert world.faults.calls == ["destination.head", "source.head", "destination.patch", "source.head"]
    assert world.destination.head("copies/k").stamp.headers.content_type == "text/csv"


def test_a_large_object_is_not_guessed(world: World) -> None:
    world.source.put("k", bytes(SMALL + 1))
    world.reconcile(guess_absent=True)
    assert world.faults.calls[:3] == ["source.open", "destination.head", "source.head"]


# --- the guess


@pytest.mark.parametrize("there", [None, b"data", b"older", b"foreign"])
@pytest.mark.parametrize("now", [b"data", None])
def test_a_guess_right_or_wrong_ends_as_without_it(world: World, there: bytes | None, now: bytes | None) -> None:
    if there == b"foreign":
        world.destination.foreign("copies/k", there)
    elif there is not None:
        world.source.put("k", there)
        world.reconcile()
    if now is not None:
        world.source.put("k", now)
    else:
        world.source.delete("k")
    world.reconcile(guess_absent=True)
    if now is None and there == b"foreign":
        assert world.equal(b"foreign")
    else:
        assert world.equal(now)


def test_a_guess_that_is_refused_is_left_to_the_turns(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.archive("k")
    assert world.reconcile(guess_absent=True).actions == ()


@pytest.mark.parametrize("error", [Unavailable("u"), Corrupt("c")])
def test_a_guess_that_breaks_ends_the_try(world: World, faults: Faults, error: ReplicationError) -> None:
    world.source.put("k", b"data")
    faults.at("destination.put", raises=error)
    with pytest.raises(type(error)):
        world.reconcile(guess_absent=True)


# --- the last look


def _newer(world: World) -> None:
    world.source.put("k", b"newer")


@pytest.mark.parametrize("guess", [True, False], ids=["guessed", "looked"])
@pytest.mark.parametrize("call", ["source.open", "destination.put"])
def test_a_change_during_the_copy_is_caught_by_the_last_look(
    world: World, faults: Faults, call: str, *, guess: bool
) -> None:
    world.source.put("k", b"data")
    faults.at(call, then=lambda: _newer(world))
    world.reconcile(guess_absent=guess)
    assert world.equal(b"newer")


@pytest.mark.parametrize("guess", [True, False], ids=["guessed", "looked"])
def test_a_change_after_the_copy_is_caught_by_the_last_look(world: World, faults: Faults, *, guess: bool) -> None:
    world.source.put("k", b"data")
    faults.at("source.head", 1 if guess else 2, then=lambda: _newer(world))
    outcome = world.reconcile(guess_absent=guess)
    assert world.equal(b"newer")
    assert outcome.actions == (Action.PUT, Action.PUT)
    assert outcome.bytes == 9


def test_a_copy_never_mixes_the_bytes_of_one_state_with_the_metadata_of_another(world: World, faults: Faults) -> None:
    world.source.put("k", b"data", user_metadata={"of": "data"})
    faults.at("source.open", then=lambda: world.source.put("k", b"newer", user_metadata={"of": "newer"}))
    mixed: list[str] = []

    def note() -> None:
        if (there := world.destination.head("copies/k")).exists:
            of = there.stamp.metadata["of"].encode()
            mixed.extend([of.decode()] if world.destination.data("copies/k") != of else [])

    faults.at("source.head", 2, then=note)
    world.reconcile()
    note()
    assert mixed == []
    assert world.equal(b"newer")


@pytest.mark.parametrize("guess", [True, False], ids=["guessed", "looked"])
def test_a_delete_during_the_copy_is_caught_by_the_last_look(world: World, faults: Faults, *, guess: bool) -> None:
    world.source.put("k", b"data")
    faults.at("destination.put", then=lambda: world.source.delete("k"))
    assert world.reconcile(guess_absent=guess).actions == (Action.PUT, Action.DELETE)
    assert world.equal(None)


def test_a_put_during_the_delete_is_caught_by_the_last_look(world: World, faults: Faults) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.delete("k")
    faults.at("destination.delete", then=lambda: _newer(world))
    assert world.reconcile().actions == (Action.DELETE, Action.PUT)
    assert world.equal(b"newer")


def test_put_delete_put_looks_to_a_slow_writer_as_if_nothing_had_happened(world: World, faults: Faults) -> None:
    """Absent is generation 0 before and after: the condition holds, and only the last look finds the stale copy."""
    world.source.put("k", b"first")

    def rivals() -> None:
        other = World(Faults(), versioned=world.source.versioned)
        other.source, other.destination = world.source, world.destination
        other.reconcile()
        world.source.delete("k")
        other.reconcile()

    faults.at("destination.put", then=rivals)
    world.reconcile(guess_absent=True)
    assert world.equal(None)


@pytest.mark.parametrize(
    ("call", "nth"), [("source.head", 1), ("source.open", 1), ("destination.put", 1), ("source.head", 2)]
)
def test_a_rival_that_finishes_first_leaves_nothing_to_undo(world: World, faults: Faults, call: str, nth: int) -> None:
    world.source.put("k", b"data")

    def rival() -> None:
        _newer(world)
        other = World(Faults())
        other.source, other.destination = world.source, world.destination
        other.reconcile()

    faults.at(call, nth, then=rival)
    world.reconcile()
    assert world.equal(b"newer")


# --- moved


@pytest.mark.parametrize("call", ["source.open", "destination.put"])
@pytest.mark.parametrize("guess", [True, False], ids=["guessed", "looked"])
def test_moved_at_any_point_of_a_copy_means_look_again(world: World, faults: Faults, call: str, *, guess: bool) -> None:
    world.source.put("k", b"data")
    faults.at(call, raises=Moved("another"))
    assert world.reconcile(guess_absent=guess).actions == (Action.PUT,)
    assert world.equal(b"data")
    assert "destination.head" in faults.calls


def test_moved_at_a_patch_means_look_again(world: World, faults: Faults) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.copy("k", user_metadata={"a": "b"})
    faults.at("destination.patch", raises=Moved("another"))
    assert world.reconcile().actions == (Action.PATCH,)


def test_moved_at_a_delete_means_look_again(world: World, faults: Faults) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.source.delete("k")
    faults.at("destination.delete", raises=Moved("another"))
    assert world.reconcile().actions == (Action.DELETE,)


def test_a_foreign_writer_in_between_is_looked_at_and_replaced(world: World, faults: Faults) -> None:
    world.source.put("k", b"data")
    faults.at("destination.put", then=lambda: world.destination.foreign("copies/k", b"theirs"))
    world.reconcile(guess_absent=True)
    assert world.equal(b"data")


def test_a_key_that_never_rests_is_left_to_a_later_delivery(world: World, faults: Faults) -> None:
    world.source.put("k", b"0")
    for turn in range(1, TURNS + 1):
        faults.at("destination.put", turn, raises=Moved(f"{turn}"))
    with pytest.raises(Unavailable) as caught:
        world.reconcile()
    assert caught.value.code == "KeyTooHot"
    assert faults.calls.count("destination.put") == TURNS
    assert world.reconcile().actions == (Action.PUT,)


def test_a_key_that_rests_at_last_is_made_equal(world: World, faults: Faults) -> None:
    world.source.put("k", b"0")
    for turn in range(1, TURNS - 1):
        faults.at("destination.put", turn, then=lambda turn=turn: world.source.put("k", f"{turn}".encode()))  # type: ignore[misc] # a default binds it
    world.reconcile()
    assert world.equal(f"{TURNS - 2}".encode())


def test_a_delete_leaves_the_copy_of_another_key_with_that_name(world: World) -> None:
    """A move between two prefixes that become one, of which the old key's deletion is told last."""
    rules = {at: replace(RULE, id=at, prefix=f"{at}/", replace_prefix="one/") for at in "ab"}

    def run(at: str) -> Outcome:
        route = Route(source=world.source, destination=world.destination, rules=(rules[at],))
        return reconcile(route, f"{at}/k")

    world.source.put("a/k", b"data")
    run("a")
    world.source.put("b/k", b"data")
    world.source.delete("a/k")
    assert run("b").equal
    assert run("a").why.startswith("not this replicator's copy")
    assert world.destination.data("copies/one/k") == b"data"
    world.source.delete("b/k")
    assert run("b").actions == (Action.DELETE,)


def test_a_name_among_those_of_parts_is_refused(world: World) -> None:
    """Else it would be swept with them."""
    rule = replace(RULE, destination_prefix=STAGING)
    world.source.put("k", b"data")
    with pytest.raises(Refused) as caught:
        reconcile(Route(source=world.source, destination=world.destination, rules=(rule,)), "k")
    assert caught.value.code == "DstKeyInvalid"


# --- no time, and what an adapter raises


@pytest.mark.parametrize("turns", [0, 1])
def test_no_time_left_is_unavailable_and_nothing_half_done(world: World, turns: int) -> None:
    world.source.put("k", b"data")
    left = iter([True] * turns)
    with pytest.raises(Unavailable) as caught:
        world.reconcile(has_time=lambda: next(left, False))
    assert caught.value.code == "OutOfTime"
    assert world.equal(b"data" if turns else None)
    world.reconcile()
    assert world.equal(b"data")


POINTS = ["destination.head", "source.head", "source.open", "destination.put"]


@pytest.mark.parametrize("call", POINTS)
@pytest.mark.parametrize("error", [Unavailable("u"), Refused("r"), Corrupt("c"), RuntimeError("a bug")])
def test_what_an_adapter_raises_arrives_and_the_key_can_be_tried_again(
    world: World, faults: Faults, call: str, error: Exception
) -> None:
    world.source.put("k", b"data")
    faults.at(call, raises=error)
    with pytest.raises(type(error)) as caught:
        world.reconcile()
    assert caught.value is error
    assert world.equal(None)
    world.reconcile()
    assert world.equal(b"data")


def test_no_rule_that_matches_leaves_the_destination_alone(world: World) -> None:
    world.rules = (replace(RULE, tags={"copy": "yes"}),)
    world.source.put("k", b"data")
    outcome = world.reconcile(guess_absent=True)
    assert outcome.actions == ()
    assert "excluded" in outcome.why
    assert world.equal(None)
    world.source.tag("k", {"copy": "yes"})
    assert world.reconcile().actions == (Action.PUT,)


# --- a dry run


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(world: World) -> None:
    def said() -> str:
        outcome = world.reconcile(guess_absent=True)
        assert outcome.actions == ()
        assert not outcome.equal
        return outcome.why.removeprefix(DRY_RUN)

    world.dry_run = True
    world.source.put("k", b"data")
    assert said() == "put: no replica"
    assert world.equal(None)
    world.dry_run = False
    world.reconcile()
    world.dry_run = True
    world.source.delete("k")
    assert said() == "delete: no original"
    assert world.equal(b"data")


def test_a_dry_run_tells_what_is_equal_and_what_would_be_refused(world: World) -> None:
    world.source.put("k", b"data")
    world.reconcile()
    world.dry_run = True
    assert world.reconcile().equal
    world.source.put("k", b"other", archived=True, storage_class="GLACIER")
    with pytest.raises(Refused):
        world.reconcile()
