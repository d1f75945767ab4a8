"""The limit of deletes: by count and by share, of one source bucket and of all."""

from __future__ import annotations

import math
from contextlib import closing

import pytest

from handler.tools.held import Copy, Held


def held(**by_bucket: int) -> Held:
    found = Held()
    for bucket, count in by_bucket.items():
        for number in range(count):
            found.add(Copy(bucket, f"k{number}", "gs://b", f"k{number}"))
    return found


@pytest.mark.parametrize(
    ("deletes", "copies", "is_within"),
    [
        (0, 0, True),
        (10, 10, True),
        (1000, 1000, True),
        (1001, 10_010, True),
        (1001, 10_009, False),
        (1001, 1001, False),
    ],
)
def test_more_than_a_thousand_and_more_than_a_tenth_are_too_many(deletes: int, copies: int, *, is_within: bool) -> None:
    with closing(held(a=deletes)) as found:
        assert (found.excess({"a": copies}) == "") is is_within


@pytest.mark.parametrize(("allowed", "is_within"), [(0, False), (1000, False), (1001, True), (math.inf, True)])
def test_an_allowance_replaces_the_limit(allowed: float, *, is_within: bool) -> None:
    with closing(held(a=1001)) as found:
        assert (found.excess({"a": 1001}, allowed) == "") is is_within


def test_a_bucket_that_is_emptied_is_found_among_many() -> None:
    with closing(held(a=1001)) as found:
        said = found.excess({"a": 1001, "b": 1_000_000})
        assert said == "1,001 of 1,001 copies of s3://a would be deleted, more than 1,000 and more than 10 %"


def test_many_buckets_that_lose_a_little_are_found_together() -> None:
    with closing(held(a=600, b=600)) as found:
        said = found.excess({"a": 1000, "b": 1000})
        assert said == "1,200 of 2,000 copies would be deleted, more than 1,000 and more than 10 %"


def test_what_is_held_is_kept_in_order_beyond_memory_too() -> None:
    odd = [Copy("b", key, "gs://b", key) for key in ("\n", "\u2028", '"', "\x00", "\U0001f600")]
    many = [Copy("b", "k" * 1000 + str(number), "gs://b", "n" * 1000) for number in range(1000)]
    with closing(Held()) as found:
        for copy in odd + many:
            found.add(copy)
        assert len(found) == 1005
        assert list(found) == odd + many
        assert list(found) == odd + many
