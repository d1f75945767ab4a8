"""What a copy may carry beside headers and metadata, by every destination: an encryption key, contexts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.model import ABSENT, SMALL, Replica, Stamp
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
