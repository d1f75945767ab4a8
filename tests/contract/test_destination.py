"""What `Destination` and `Composer` promise, proved on every adapter and every fake alike."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.core.decide import Action
from handler.core.errors import Corrupt, Moved, NotFound, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, KIB, MIB, SMALL, Generation, Headers, Replica, Rule, Stamp
from handler.core.ports import Composer, Destination, Reader
from handler.core.reconcile import reconcile
from handler.core.route import Route
from tests.contract.rigs import Rig
from tests.fakes import (
    BadReader,
    Faults,
    MemorySource,
    breaks,
    crc32c,
    ends_early,
    lies,
    md5,
    original_of,
    reader,
    too_long,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
STAMP = Stamp(
    headers=Headers(
        content_type="text/csv; charset=utf-8",
        content_encoding="gzip",
        content_disposition='attachment; filename="naïve.csv"',
        content_language="de",
        cache_control="max-age=60",
    ),
    metadata={"owner": "Zoë Ångström", "emoji": "🗂 日本", "empty": "", "s3-replica-etag": "abc"},
    custom_time=NOON,
)
OTHER = Stamp(headers=Headers(content_type="image/png"), metadata={"owner": "Bo"}, custom_time=NOON)
RULE = Rule(id="r", source="source", destination="any")

AWKWARD = [
    "plain.txt",
    "a",
    "a/b",
    "dir/",
    "dir/x",
    "//",
    "/lead",
    "x//y",
    "x/y",
    "Case",
    "case",
    "CASE",
    "%2F",
    "%252F",
    "%",
    "50%/off",
    "one+two",
    "one two",
    " lead and trail ",
    "tab\there",
    "bell\x07",
    "nul\x00",
    "delete\x7f",
    "next line\x85",
    ".hidden",
    ".../x",
    "./x",
    "../up",
    "up/../up",
    "up/./up",
    "naïve",
    "nai\u0308ve",
    "日本/語",
    "🗂",
    "back\\slash",
    "quote\"'`",
    "?query&a=b#fragment",
    "*[glob]?",
    "{b}/o/{c}",
    "con",
    "nul.txt",
    ".replicator",
    ".replicator/tmp/x",
    ".replicator/aside/a%2fb",
    ".REPLICATOR/x",
    "%2ereplicator",
    "long/" + "n" * 300 + "/" + "m" * 300,
    "w" * 1024,
    "ü" * 512,
    "日" * 341 + "x",
    "\x01" * 1024,
    "s/" * 512,
]
UNSTORABLE = [".", "..", "line\nbreak", "carriage\rreturn", ".well-known/acme-challenge/token"]


def put(
    destination: Destination, key: str, data: bytes, *, expect: Generation = ABSENT, stamp: Stamp = STAMP
) -> Replica:
    return destination.put(key, reader(data, key), stamp, expect=expect)


def stale(replica: Replica) -> Generation:
    return Generation(replica.generation.number + 1, 1)


# --- what is there


def test_absence_is_a_value(rig: Rig) -> None:
    absent = rig.destination.head("nothing/here")
    assert absent == Replica()
    assert not absent.exists


@pytest.mark.parametrize("data", [b"", b"x", b"Sample data\n", bytes(range(256)) * 4 * KIB])
def test_what_is_put_is_there_whole_and_described(rig: Rig, data: bytes) -> None:
    put(rig.destination, "k", data)
    found = rig.destination.head("k")
    assert (found.size, found.crc32c, found.exists) == (len(data), crc32c(data), True)
    assert found.md5 in {None, md5(data)}
    assert rig.read("k") == data


def test_put_answers_what_head_then_sees(rig: Rig) -> None:
    answered = put(rig.destination, "k", b"data")
    assert answered == rig.destination.head("k")


def test_a_put_that_is_asked_to_records_the_checksum_of_its_bytes_among_the_metadata(rig: Rig) -> None:
    put(rig.destination, "k", b"data", stamp=replace(STAMP, crc32c_name="sum"))
    assert rig.destination.head("k").stamp.metadata == {**STAMP.metadata, "sum": crc32c(b"data")}


@pytest.mark.parametrize("stamp", [STAMP, Stamp(), OTHER])
def test_everything_beside_the_bytes_comes_back(rig: Rig, stamp: Stamp) -> None:
    put(rig.destination, "k", b"data", stamp=stamp)
    found = rig.destination.head("k").stamp
    wanted = stamp.headers
    if wanted.content_type is None:  # a destination may have a default
        wanted = wanted._replace(content_type=found.headers.content_type)
    assert found.headers == wanted
    assert dict(found.metadata) == dict(stamp.metadata)
    assert found.custom_time == stamp.custom_time


def test_a_new_body_takes_nothing_over_from_the_old_one(rig: Rig) -> None:
    first = put(rig.destination, "k", b"old", stamp=STAMP)
    put(rig.destination, "k", b"newer", stamp=OTHER, expect=first.generation)
    found = rig.destination.head("k")
    assert (found.size, dict(found.stamp.metadata)) == (5, dict(OTHER.metadata))
    assert found.stamp.headers == OTHER.headers
    assert rig.read("k") == b"newer"


def test_a_reader_may_hand_out_less_than_it_is_asked_for(rig: Rig) -> None:
    data = bytes(range(251)) * 40
    rig.destination.put("k", reader(data, at_most=7), STAMP, expect=ABSENT)
    assert rig.read("k") == data


def test_a_large_body_arrives_whole(rig: Rig) -> None:
    data = bytes(range(256)) * (36 * KIB) + b"no multiple of anything"
    assert len(data) > 8 * MIB
    replica = put(rig.destination, "large", data)
    assert (replica.size, replica.crc32c) == (len(data), crc32c(data))
    assert rig.read("large") == data


# --- names


def test_awkward_names_survive_and_stay_apart(rig: Rig) -> None:
    names = [name for name in AWKWARD if name not in rig.forbidden]
    replicas = {name: put(rig.destination, name, name.encode()) for name in names}
    for name in names:
        assert rig.read(name) == name.encode(), f"{name!r} was touched by another"
        assert rig.destination.head(name) == replicas[name]
    for name in names:
        rig.destination.delete(name, expect=replicas[name].generation)
        assert not rig.destination.head(name).exists
    assert not [name for name in names if rig.destination.head(name).exists]


@pytest.mark.parametrize(
    "names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a"), ("a", "a/b/c"), ("a/", "a"), ("a", "a/"), ("a/", "a//")]
)
@pytest.mark.parametrize("first_away", [False, True], ids=["second away", "first away"])
def test_a_name_beside_one_below_it_lives_in_either_order(
    rig: Rig, names: tuple[str, str], *, first_away: bool
) -> None:
    first, second = names
    replicas = {name: put(rig.destination, name, name.encode()) for name in names}
    away, stays = (first, second) if first_away else (second, first)
    rig.destination.delete(away, expect=replicas[away].generation)
    assert rig.destination.head(stays) == replicas[stays]
    assert rig.read(stays) == stays.encode()
    put(rig.destination, stays, b"over", expect=replicas[stays].generation)
    put(rig.destination, away, b"again")
    assert (rig.read(away), rig.read(stays)) == (b"again", b"over")


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_name_is_stored_whole_or_refused(rig: Rig, name: str) -> None:
    assert not rig.destination.head(name).exists
    if name in rig.forbidden:
        with pytest.raises(Refused):
            put(rig.destination, name, b"x")
        assert not rig.destination.head(name).exists
    else:
        put(rig.destination, name, b"x")
        assert rig.read(name) == b"x"


# --- conditions


@pytest.mark.parametrize("expect", [ABSENT, None], ids=["absent", "stale"])
def test_a_put_on_another_generation_is_moved_and_changes_nothing(rig: Rig, expect: Generation | None) -> None:
    there = put(rig.destination, "k", b"there")
    with pytest.raises(Moved):
        put(rig.destination, "k", b"rival", expect=stale(there) if expect is None else expect, stamp=OTHER)
    assert rig.destination.head("k") == there
    assert rig.read("k") == b"there"


def test_a_put_on_a_generation_where_nothing_is_is_moved(rig: Rig) -> None:
    with pytest.raises(Moved):
        put(rig.destination, "k", b"x", expect=Generation(1234567, 1))
    assert not rig.destination.head("k").exists


def test_a_generation_that_was_overwritten_is_stale(rig: Rig) -> None:
    first = put(rig.destination, "k", b"1")
    second = put(rig.destination, "k", b"2", expect=first.generation)
    with pytest.raises(Moved):
        put(rig.destination, "k", b"3", expect=first.generation)
    with pytest.raises(Moved):
        rig.destination.patch("k", OTHER, expect=first.generation)
    with pytest.raises(Moved):
        rig.destination.delete("k", expect=first.generation)
    assert rig.destination.head("k") == second


@pytest.mark.parametrize("verb", ["patch", "delete"])
@pytest.mark.parametrize("expect", [ABSENT, Generation(7, 1)], ids=["absent", "a generation"])
def test_changing_what_is_not_there_is_moved(rig: Rig, verb: str, expect: Generation) -> None:
    with pytest.raises(Moved):
        _change(rig.destination, verb, expect)
    assert not rig.destination.head("k").exists


@pytest.mark.parametrize("verb", ["patch", "delete"])
@pytest.mark.parametrize("expect", [ABSENT, None], ids=["absent", "stale"])
def test_changing_another_generation_is_moved_and_changes_nothing(
    rig: Rig, verb: str, expect: Generation | None
) -> None:
    there = put(rig.destination, "k", b"there")
    with pytest.raises(Moved):
        _change(rig.destination, verb, stale(there) if expect is None else expect)
    assert rig.destination.head("k") == there
    assert rig.read("k") == b"there"


@pytest.mark.parametrize("verb", ["patch", "delete", "put", "put large", "compose"])
def test_changing_another_metageneration_is_moved(rig: Rig, verb: str) -> None:
    """The state that was seen is older than what somebody patched."""
    there = put(rig.destination, "k", b"there")
    patched = rig.destination.patch("k", OTHER, expect=there.generation)
    if verb == "compose" and rig.composer:
        names = _parts(rig.composer, b"a", b"b")
        with pytest.raises(Moved):
            rig.composer.compose("k", names, STAMP, expect=there.generation)
    elif verb.startswith("put"):
        with pytest.raises(Moved):
            put(rig.destination, "k", b"older" if verb == "put" else bytes(SMALL + 1), expect=there.generation)
    elif verb != "compose":
        with pytest.raises(Moved):
            _change(rig.destination, verb, there.generation)
    assert rig.destination.head("k") == patched


def _change(destination: Destination, verb: str, expect: Generation) -> None:
    if verb == "patch":
        destination.patch("k", OTHER, expect=expect)
    else:
        destination.delete("k", expect=expect)


def test_generations_grow_and_never_repeat(rig: Rig) -> None:
    seen: list[int] = []
    expect = ABSENT
    for turn in range(6):
        replica = put(rig.destination, "k", b"the same", expect=expect)
        seen.append(replica.generation.number)
        expect = replica.generation
        if turn % 2:
            rig.destination.delete("k", expect=expect)
            expect = ABSENT
    assert seen == sorted(set(seen))
    assert min(seen) > ABSENT.number


def test_a_deleted_name_is_absent_and_can_be_put_again(rig: Rig) -> None:
    there = put(rig.destination, "dir/sub/k", b"1")
    rig.destination.delete("dir/sub/k", expect=there.generation)
    assert rig.destination.head("dir/sub/k") == Replica()
    with pytest.raises(Moved):
        rig.destination.delete("dir/sub/k", expect=there.generation)
    put(rig.destination, "dir/sub/k", b"2")
    assert rig.read("dir/sub/k") == b"2"


# --- patch


def test_a_patch_replaces_everything_but_the_bytes(rig: Rig) -> None:
    was = put(rig.destination, "k", b"data", stamp=STAMP)
    answered = rig.destination.patch("k", OTHER, expect=was.generation)
    found = rig.destination.head("k")
    assert answered == found
    assert (found.size, found.crc32c, found.md5) == (was.size, was.crc32c, was.md5)
    assert found.generation == (was.generation.number, was.generation.metageneration + 1)
    assert found.stamp.headers == OTHER.headers
    assert dict(found.stamp.metadata) == dict(OTHER.metadata)
    assert rig.read("k") == b"data"


def test_a_patched_object_can_be_put_and_deleted_by_its_new_generation(rig: Rig) -> None:
    was = put(rig.destination, "k", b"data")
    patched = rig.destination.patch("k", OTHER, expect=was.generation)
    newer = put(rig.destination, "k", b"newer", expect=patched.generation)
    assert newer.generation.metageneration == 1
    rig.destination.delete("k", expect=newer.generation)
    assert not rig.destination.head("k").exists


# --- bodies that are not what they should be

BROKEN: Sequence[tuple[str, Callable[[bytes], Reader], type[ReplicationError]]] = [
    ("breaks half-way", breaks, Unavailable),
    ("breaks at once", lambda data: breaks(data, after=0), Unavailable),
    ("moves half-way", lambda data: breaks(data, Moved("another state")), Moved),
    ("is corrupt half-way", lambda data: breaks(data, Corrupt("wrong bytes")), Corrupt),
    ("ends early", ends_early, Corrupt),
    ("gives nothing", lambda data: ends_early(data, len(data)), Corrupt),
    ("is too long", too_long, Corrupt),
    ("is much too long", lambda data: too_long(data, data), Corrupt),
    ("lies", lies, Corrupt),
]


@pytest.mark.parametrize(("body", "error"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
@pytest.mark.parametrize("older", [None, b"older copy"], ids=["where nothing was", "over an older copy"])
@pytest.mark.parametrize("size", [64, 9 * MIB + 5], ids=["small", "large"])
def test_a_bad_body_leaves_what_was_there(
    rig: Rig, body: Callable[[bytes], Reader], error: type[ReplicationError], older: bytes | None, size: int
) -> None:
    before = put(rig.destination, "k", older) if older else Replica()
    littered = rig.litter()
    with pytest.raises(error):
        rig.destination.put("k", body(b"0123456789abcdef" * (size // 16) + b"end"), OTHER, expect=before.generation)
    assert rig.destination.head("k") == before
    assert older is None or rig.read("k") == older
    assert rig.litter() == littered


def test_an_empty_body_that_is_not_empty_is_refused(rig: Rig) -> None:
    with pytest.raises(Corrupt):
        rig.destination.put("k", too_long(b""), STAMP, expect=ABSENT)
    assert not rig.destination.head("k").exists


class _OfTheReader(BaseException):
    """No error of ours or of anybody's library."""


@pytest.mark.parametrize(
    "error",
    [
        Moved("m"),
        Unavailable("u", code="SrcUnreachable", wait=3.0),
        Corrupt("c"),
        Refused("r"),
        RuntimeError("a bug of the reader"),
        ConnectionResetError(104, "the reader's network"),
        PermissionError(13, "the reader's disk"),
        KeyboardInterrupt(),
        _OfTheReader(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_reader_raises_arrives_as_it_is(rig: Rig, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        rig.destination.put("k", breaks(b"0123456789", error), STAMP, expect=ABSENT)
    assert caught.value is error
    assert not rig.destination.head("k").exists


def test_a_bad_body_can_be_tried_again_on_the_same_generation(rig: Rig) -> None:
    with pytest.raises(Unavailable):
        rig.destination.put("k", breaks(b"0123456789"), STAMP, expect=ABSENT)
    put(rig.destination, "k", b"0123456789")
    assert rig.read("k") == b"0123456789"


# --- rivals


ROUNDS = 401
"""Of each race, of threads and of processes."""
AGAIN = 10
"""In every so many rounds the loser tries again."""


def _race(open_: Callable[[], Destination], start: Callable[[], object], name: bytes) -> list[int]:
    """Put in each round on the generation that all rivals see; return the rounds that were won."""
    destination = open_()
    won = []
    for number in range(ROUNDS):
        key = f"race/{number}"
        start()
        try:
            destination.put(key, reader(name * 16, key), Stamp(metadata={"by": name.decode()}), expect=ABSENT)
        except Moved:
            if number % AGAIN == 0:  # the loser looks again, and wins on what it sees
                seen = destination.head(key)
                assert dict(seen.stamp.metadata) != {"by": name.decode()}
                destination.put(key, reader(name * 4, key), Stamp(), expect=seen.generation)
        else:
            won.append(number)
    return won


def test_of_two_threads_on_one_generation_exactly_one_wins(rig: Rig) -> None:
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        rivals = [threads.submit(_race, lambda: rig.destination, barrier.wait, name) for name in (b"left", b"right")]
        left, right = (rival.result() for rival in rivals)
    _check_the_race(rig, left, right)


def _race_in_process(open_: Callable[[], Destination], name: bytes) -> list[int]:
    return _race(open_, _start_together, name)


def _start_together() -> None:
    _BARRIER.wait(30)


def _remember(barrier: threading.Barrier) -> None:
    global _BARRIER  # noqa: PLW0603 - a barrier reaches a pool's process only by its initializer
    _BARRIER = barrier


_BARRIER: threading.Barrier = threading.Barrier(1)


def test_of_two_processes_on_one_generation_exactly_one_wins(rig: Rig) -> None:
    if rig.opener is None:
        return  # one process is all that can open it
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    with spawn.Pool(2, _remember, (barrier,)) as pool:
        rivals = [pool.apply_async(_race_in_process, (rig.opener, name)) for name in (b"left", b"right")]
        left, right = (rival.get(100) for rival in rivals)
    _check_the_race(rig, left, right)


def _check_the_race(rig: Rig, left: Sequence[int], right: Sequence[int]) -> None:
    assert sorted([*left, *right]) == list(range(ROUNDS))
    for number in range(ROUNDS):
        winner, loser = (b"left", b"right") if number in left else (b"right", b"left")
        assert rig.read(f"race/{number}") == (loser * 4 if number % AGAIN == 0 else winner * 16)
    assert not rig.litter()


def test_of_two_deletes_exactly_one_succeeds(rig: Rig) -> None:
    barrier = threading.Barrier(2)

    def delete(key: str, expect: Generation) -> bool:
        barrier.wait()
        try:
            rig.destination.delete(key, expect=expect)
        except Moved:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        for number in range(40):
            key = f"dir{number}/k"
            there = put(rig.destination, key, b"x")
            rivals = [threads.submit(delete, key, there.generation) for _ in range(2)]
            assert sorted(rival.result() for rival in rivals) == [False, True]


def test_neighbours_come_and_go_without_harm_to_each_other(rig: Rig) -> None:
    """The folder of one key may vanish just as another's copy is to go into it."""

    def come_and_go(name: str) -> None:
        for _ in range(40):
            there = put(rig.destination, name, name.encode())
            assert rig.read(name) == name.encode()
            rig.destination.delete(name, expect=there.generation)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(come_and_go, name) for name in ("d/e/1", "d/e/2", "d/e/f/3", "d/e")]:
            done.result()


# --- the loop on top


def test_a_412_after_a_lost_success_is_recognised_as_success(rig: Rig, faults: Faults) -> None:
    source = MemorySource()
    source.put("k", b"data")
    faults.at("destination.put", lost=True)
    route = Route(source=source, destination=_answers_moved_after_loss(faults, rig.destination), rules=(RULE,))
    outcome = reconcile(route, "k")
    assert outcome.why == "equal"
    assert rig.read("k") == b"data"
    assert faults.calls.count("destination.put") == 1


def _answers_moved_after_loss(faults: Faults, destination: Destination) -> Destination:
    """As a client that repeats a request whose answer was lost, and is told 412."""
    faulty = faults.destination(destination)

    class Repeating:
        head, patch, delete = faulty.head, faulty.patch, faulty.delete

        def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
            try:
                return faulty.put(key, body, stamp, expect=expect)
            except Unavailable:
                return destination.put(key, reader(b"data", key), stamp, expect=expect)

    return Repeating()


@pytest.mark.parametrize("verb", ["put", "delete", "patch"])
def test_a_write_whose_answer_is_lost_is_found_done_by_the_next_delivery(rig: Rig, faults: Faults, verb: str) -> None:
    source = MemorySource()
    route = Route(source=source, destination=faults.destination(rig.destination), rules=(RULE,))
    source.put("k", b"data")
    if verb != "put":
        reconcile(route, "k")
    if verb == "delete":
        source.delete("k")
    elif verb == "patch":
        source.copy("k", user_metadata={"new": "yes"})
    nth = faults.calls.count(f"destination.{verb}") + 1
    faults.at(f"destination.{verb}", nth, lost=True)
    with pytest.raises(Unavailable):
        reconcile(route, "k")
    assert reconcile(route, "k").actions == ()
    assert rig.destination.head("k").exists == (verb != "delete")


def test_a_foreign_object_has_no_provenance_and_is_adopted_without_moving_a_byte(rig: Rig, faults: Faults) -> None:
    source = MemorySource()
    source.put("k", b"data")
    rig.foreign("k", b"data")
    there = rig.destination.head("k")
    assert not [name for name in there.stamp.metadata if name.startswith("s3-replica-")]
    route = Route(source=source, destination=faults.destination(rig.destination), rules=(RULE,))
    assert reconcile(route, "k").actions == (Action.PATCH,)
    assert faults.calls.count("destination.put") == 0
    found = rig.destination.head("k")
    assert (found.generation.number, rig.read("k")) == (there.generation.number, b"data")
    assert reconcile(route, "k").actions == ()


def test_a_foreign_object_of_other_bytes_is_replaced_but_never_deleted(rig: Rig) -> None:
    source = MemorySource()
    rig.foreign("k", b"theirs")
    route = Route(source=source, destination=rig.destination, rules=(RULE,))
    assert reconcile(route, "k").actions == ()
    assert rig.read("k") == b"theirs"
    source.put("k", b"ours")
    assert reconcile(route, "k").actions == (Action.PUT,)
    assert rig.read("k") == b"ours"
    source.delete("k")
    assert reconcile(route, "k").actions == (Action.DELETE,)
    assert not rig.destination.head("k").exists


def test_a_foreign_object_that_changes_is_at_another_generation(rig: Rig) -> None:
    rig.foreign("k", b"one")
    first = rig.destination.head("k")
    rig.foreign("k", b"three")
    with pytest.raises(Moved):
        put(rig.destination, "k", b"ours", expect=first.generation)
    assert rig.read("k") == b"three"


# --- compose


@pytest.fixture
def composer(rig: Rig) -> Composer | None:
    return rig.composer


def _parts(composer: Composer, *bodies: bytes) -> list[str]:
    names = [f"staging/{number}" for number in range(len(bodies))]
    for name, data in zip(names, bodies, strict=True):
        put(composer, name, data, stamp=Stamp())
    return names


@pytest.mark.parametrize("count", [1, 2, 32])
def test_composed_parts_are_one_object_in_their_order(rig: Rig, composer: Composer | None, count: int) -> None:
    if composer is None:
        return  # a Destination that is no Composer
    bodies = [bytes([65 + number]) * (number + 1) for number in range(count)]
    names = _parts(composer, *bodies)
    replica = composer.compose("whole", names, STAMP, expect=ABSENT)
    assert rig.read("whole") == b"".join(bodies)
    assert (replica.size, replica.crc32c, replica.md5) == (sum(map(len, bodies)), crc32c(b"".join(bodies)), None)
    assert replica == composer.head("whole")
    assert dict(replica.stamp.metadata) == dict(STAMP.metadata)
    assert not [name for name in names if composer.head(name).exists], "the parts are gone"


def test_a_compose_on_another_generation_is_moved_and_changes_nothing(rig: Rig, composer: Composer | None) -> None:
    if composer is None:
        return
    names = _parts(composer, b"a", b"b")
    there = put(composer, "whole", b"there")
    for expect in (ABSENT, stale(there)):
        with pytest.raises(Moved):
            composer.compose("whole", names, STAMP, expect=expect)
    assert (composer.head("whole"), rig.read("whole")) == (there, b"there")
    assert all(composer.head(name).exists for name in names), "the parts are kept for who looks again"
    composer.compose("whole", names, STAMP, expect=there.generation)
    assert rig.read("whole") == b"ab"


def test_a_compose_of_a_part_that_is_not_there_is_not_found(rig: Rig, composer: Composer | None) -> None:
    if composer is None:
        return
    names = _parts(composer, b"a")
    with pytest.raises(NotFound):
        composer.compose("whole", [*names, "staging/none"], STAMP, expect=ABSENT)
    assert not composer.head("whole").exists


def test_a_list_is_of_all_names_that_begin_so(rig: Rig, composer: Composer | None) -> None:
    if composer is None:
        return
    assert dict(composer.list("staging/")) == {}
    names = ["staging/1", "staging/10", "staging/2/3", "staging", "staging-old/1", "Staging/1", "staging/naïve +%2F"]
    replicas = {name: put(composer, name, name.encode()) for name in names}
    for prefix in ("staging/", "staging/1", "staging", "S", "nothing", ""):
        assert composer.list(prefix) == {name: replicas[name] for name in names if name.startswith(prefix)}
    for start, stop in [("", "staging/2"), ("staging/10", ""), ("staging/10", "staging/2/4"), ("z", ""), ("S", "b")]:
        assert list(composer.list("staging/", start=start, stop=stop)) == [
            name
            for name in sorted(names)
            if name.startswith("staging/") and name >= start and (not stop or name < stop)
        ]


# --- spans


def test_a_span_of_an_object_is_a_body_like_any_other(rig: Rig) -> None:
    whole = original_of(b"0123456789")
    part = BadReader(b"3456", b"3456")
    part.original = replace(whole)
    rig.destination.put("staging/1", part, Stamp(), expect=ABSENT)
    assert rig.read("staging/1") == b"3456"
