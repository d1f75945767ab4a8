"""What a copy may carry beside headers and metadata, by every destination: an encryption key, contexts, a lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from handler.core.errors import Refused
from handler.core.model import ABSENT, SMALL, Lock, Replica, Stamp
from tests.contract.rigs import Rig
from tests.fakes import reader

PLAIN = Stamp(metadata={"a": "b"}, custom_time=datetime(2026, 3, 1, 12, tzinfo=UTC))
KEY, OTHER_KEY = (f"projects/p/locations/us/keyRings/r/cryptoKeys/{name}" for name in ("one", "two"))
KEYED = replace(PLAIN, kms_key=KEY)


def put(rig: Rig, stamp: Stamp, data: bytes = b"data") -> Replica:
    return rig.destination.put("k", reader(data), stamp, expect=rig.destination.head("k").generation)


@pytest.mark.parametrize("size", [0, 4, SMALL + 1])
def test_a_copy_is_under_the_key_that_it_was_put_with(rig: Rig, size: int) -> None:
    assert put(rig, KEYED, bytes(size)).stamp.kms_key == KEY
    assert rig.destination.head("k").stamp.kms_key == KEY
    assert put(rig, PLAIN, b"new").stamp.kms_key is None


def test_a_patch_brings_a_copy_under_another_key(rig: Rig) -> None:
    was = put(rig, PLAIN)
    for key in (KEY, OTHER_KEY):
        now = rig.destination.patch("k", replace(PLAIN, kms_key=key, metadata={"c": key}), expect=was.generation)
        assert now == rig.destination.head("k")
        assert now.generation > was.generation
        assert (now.stamp.kms_key, dict(now.stamp.metadata), rig.read("k")) == (key, {"c": key}, b"data")
        was = now


def test_a_patch_that_names_no_key_changes_none(rig: Rig) -> None:
    was = put(rig, KEYED)
    now = rig.destination.patch("k", replace(PLAIN, metadata={"c": "d"}), expect=was.generation)
    assert (now.stamp.kms_key, now.generation.number) == (KEY, was.generation.number)


def test_what_is_composed_is_under_the_key_that_it_was_composed_with(rig: Rig) -> None:
    if rig.composer is None:
        return  # a Destination that is no Composer
    for key in (KEY, None):
        put(rig, PLAIN)
        assert (
            rig.composer.compose(f"whole {key}", ["k"], replace(PLAIN, kms_key=key), expect=ABSENT).stamp.kms_key == key
        )


# --- contexts


TAGGED = replace(PLAIN, contexts={"team": "red", "Größe: x=y + z": "1"})


def contexts(replica: Replica) -> dict[str, str]:
    return dict(replica.stamp.contexts or {})


@pytest.mark.parametrize("size", [4, SMALL + 1])
def test_contexts_come_back_and_go_with_another_body(rig: Rig, size: int) -> None:
    put(rig, TAGGED, bytes(size))
    assert contexts(rig.destination.head("k")) == TAGGED.contexts
    assert contexts(put(rig, PLAIN, b"new")) == {}


def test_a_patch_replaces_contexts_and_keeps_those_it_does_not_name_none_of(rig: Rig) -> None:
    was = put(rig, TAGGED)
    for named, found in (
        ({"team": "blue", "a": "b"}, {"team": "blue", "a": "b"}),
        (None, {"team": "blue", "a": "b"}),
        ({}, {}),
    ):
        now = rig.destination.patch("k", replace(PLAIN, contexts=named), expect=was.generation)
        assert contexts(now) == contexts(rig.destination.head("k")) == found
        assert dict(now.stamp.metadata) == dict(PLAIN.metadata)
        was = now


def test_contexts_outlive_a_change_of_class_that_does_not_name_them(rig: Rig) -> None:
    was = put(rig, TAGGED)
    now = rig.destination.patch("k", replace(PLAIN, storage_class="COLDLINE"), expect=was.generation)
    assert contexts(now) == TAGGED.contexts


def test_a_composed_object_and_a_listing_have_contexts(rig: Rig) -> None:
    if rig.composer is None:
        return
    put(rig, PLAIN)
    assert contexts(rig.composer.compose("whole", ["k"], TAGGED, expect=ABSENT)) == TAGGED.contexts
    assert contexts(rig.composer.list("whole")["whole"]) == TAGGED.contexts


# --- locks


SOON = datetime.now(UTC).replace(microsecond=123000) + timedelta(hours=1)
LATER = SOON + timedelta(hours=1)
HELD, FREE = Lock(hold=True), Lock(hold=False)
UNLOCKED, LONGER, LOCKED = Lock("Unlocked", SOON), Lock("Unlocked", LATER), Lock("Locked", SOON)


def lock(replica: Replica) -> tuple[str, datetime | None, bool]:
    found = replica.stamp.lock or Lock()
    return found.mode, found.until, bool(found.hold)


@pytest.mark.parametrize("size", [4, SMALL + 1])
@pytest.mark.parametrize("wanted", [HELD, UNLOCKED, LOCKED, LOCKED._replace(hold=True), FREE, Lock()])
def test_a_lock_comes_back(rig: Rig, wanted: Lock, size: int) -> None:
    if rig.locks == "none":
        return
    put(rig, replace(PLAIN, lock=wanted), bytes(size))
    assert lock(rig.destination.head("k")) == (wanted.mode, wanted.until, bool(wanted.hold))


@pytest.mark.parametrize(
    "steps",
    [
        [(HELD, HELD), (Lock(), HELD), (None, HELD), (UNLOCKED, UNLOCKED._replace(hold=True)), (FREE, UNLOCKED)],
        [(UNLOCKED, UNLOCKED), (LONGER, LONGER), (UNLOCKED, UNLOCKED), (LOCKED, LOCKED), (Lock(), LOCKED)],
        [(LOCKED, LOCKED), (Lock("Locked", LATER), Lock("Locked", LATER)), (HELD, Lock("Locked", LATER, True))],
    ],
    ids=["holds", "unlocked", "locked"],
)
def test_a_patch_changes_of_a_lock_what_it_names(rig: Rig, steps: list[tuple[Lock | None, Lock]]) -> None:
    if rig.locks == "none":
        return
    was = put(rig, PLAIN)
    for named, wanted in steps:
        was = rig.destination.patch("k", replace(PLAIN, lock=named), expect=was.generation)
        assert lock(was) == lock(rig.destination.head("k")) == (wanted.mode, wanted.until, bool(wanted.hold))


@pytest.mark.parametrize("wanted", [HELD, UNLOCKED, LOCKED])
def test_what_is_locked_is_neither_replaced_nor_deleted_and_may_get_other_metadata(rig: Rig, wanted: Lock) -> None:
    if rig.locks != "enforced":
        return
    was = put(rig, replace(PLAIN, lock=wanted))
    changes: list[Callable[[], object]] = [
        lambda: rig.destination.delete("k", expect=was.generation),
        lambda: put(rig, PLAIN, b"new"),
        lambda: put(rig, PLAIN, bytes(SMALL + 1)),
        lambda: rig.destination.patch("k", replace(PLAIN, kms_key=KEY), expect=was.generation),
    ]
    if rig.composer:
        part = rig.composer.put("part", reader(b"part"), PLAIN, expect=ABSENT)
        changes.append(lambda: rig.composer and rig.composer.compose("k", ["part"], PLAIN, expect=was.generation))
        assert part.exists
    for change in changes:
        with pytest.raises(Refused) as caught:
            change()
        assert caught.value.code == ("DstObjectHeld" if wanted.hold else "DstObjectRetained")
    assert (rig.destination.head("k"), rig.read("k")) == (was, b"data")
    patched = rig.destination.patch("k", replace(PLAIN, metadata={"c": "d"}), expect=was.generation)
    assert (dict(patched.stamp.metadata), lock(patched)) == ({"c": "d"}, lock(was))


def test_a_locked_retention_is_not_shortened(rig: Rig) -> None:
    if rig.locks != "enforced":
        return
    was = put(rig, replace(PLAIN, lock=Lock("Locked", LATER)))
    now = rig.destination.patch("k", replace(PLAIN, lock=LOCKED), expect=was.generation)
    assert lock(now) == ("Locked", LATER, False), "which counts as met: nothing could change it"
