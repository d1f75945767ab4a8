"""Which copies no rule makes any more, which of them may be removed, and where they are looked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.core.model import Generation, Replica, Rule, Stamp
from handler.tools.orphans import gaps, verdict

GONE = "no rule makes this copy"


def rule(id_: str = "r", **fields: Any) -> Rule:
    return Rule(**{"id": id_, "source": "s", "destination": "gs://g"} | fields)


def copy(rule: str | None = "r", key: str | None = None, bucket: str | None = "s") -> Replica:
    """A copy that names these; None: it does not."""
    named = {"bucket": bucket, "rule": rule, "key": key}
    metadata = {f"s3-replica-{name}": value for name, value in named.items() if value is not None}
    return Replica(generation=Generation(1, 1), stamp=Stamp(metadata=metadata))


@pytest.mark.parametrize(
    ("rules", "name", "replica"),
    [
        ([rule()], "k", copy()),
        ([rule()], "k", copy(rule="renamed")),
        ([rule(prefix="a/")], "a/k", copy()),
        ([rule(tags={"a": "b"})], "k", copy()),
        ([rule(deletes=False)], "k", copy()),
        ([rule(destination_prefix="to/")], "to/k", copy(key="k")),
        ([rule(prefix="a/", replace_prefix="b/")], "b/k", copy(key="a/k")),
        ([rule(prefix="a/"), rule("q", prefix="b/")], "b/k", copy()),
        ([rule(enabled=False), rule("q")], "k", copy()),
        ([rule()], "k", copy(bucket=None)),
        ([rule()], "k", copy(bucket="other")),
        ([rule()], "k", Replica()),
        ([rule(destination_prefix="to/")], "to/k", copy(rule=None)),
    ],
    ids=[
        *("plain", "renamed rule", "prefix", "tags", "no deletes", "destination prefix", "replaced prefix"),
        *("another rule", "disabled beside enabled", "foreign", "another source", "nothing", "names neither"),
    ],
)
def test_nothing_is_said_of_a_copy_that_a_rule_makes_or_that_is_not_ours(
    rules: list[Rule], name: str, replica: Replica
) -> None:
    assert verdict(rules, "gs://g", name, replica) is None


@pytest.mark.parametrize(
    ("rules", "name", "replica", "key"),
    [
        ([rule(prefix="a/")], "b/k", copy(), "b/k"),
        ([rule(destination_prefix="new/")], "old/k", copy(key="k"), "k"),
        ([rule(destination_prefix="new/")], "k", copy(), "k"),
        ([rule(destination="gs://other")], "k", copy(), "k"),
        ([rule(destination_prefix="to/")], "to/k", copy(), "to/k"),
        ([rule(prefix="a/", replace_prefix="b/")], "b/k", copy(), "b/k"),
        ([rule(prefix="a/", replace_prefix="b/")], "b/k", copy(key="c/k"), "c/k"),
        ([rule(prefix="a/"), rule("q", prefix="b/", deletes=False)], "c/k", copy(), "c/k"),
        ([rule(prefix="a/")], "b/k", copy(rule="gone"), "b/k"),
        ([rule(prefix="a/")], "b/k", copy(rule=None), "b/k"),
        ([rule(prefix="a/"), rule("gone", source="t", deletes=False)], "b/k", copy(rule="gone"), "b/k"),
    ],
)
def test_a_copy_that_no_rule_makes_is_an_orphan(rules: list[Rule], name: str, replica: Replica, key: str) -> None:
    found = verdict(rules, "gs://g", name, replica)
    assert found
    assert (found.key, found.is_orphan, found.why) == (key, True, GONE)


@pytest.mark.parametrize(
    ("rules", "name", "replica", "why"),
    [
        ([rule(enabled=False)], "k", copy(), "'r' is disabled"),
        ([rule(enabled=False, prefix="a/")], "b/k", copy(), "'r' is disabled"),
        ([rule(enabled=False)], "k", copy(rule="renamed"), "'r' is disabled"),
        ([rule(enabled=False, destination_prefix="to/")], "to/k", copy(rule=None), "'r' is disabled"),
        ([rule(prefix="a/"), rule("off", enabled=False, prefix="b/")], "b/k", copy(), "'off' is disabled"),
        ([rule(prefix="a/", deletes=False)], "b/k", copy(), "'r' does not replicate deletes"),
        ([rule(prefix="a/"), rule("q", deletes=False, prefix="c/")], "b/k", copy(rule="gone"), "'q' does not"),
        ([rule(prefix="a/", deletes=False)], "b/k", copy(rule=None), "'r' does not replicate deletes"),
    ],
)
def test_a_copy_of_a_rule_that_is_disabled_or_keeps_what_is_deleted_is_kept(
    rules: list[Rule], name: str, replica: Replica, why: str
) -> None:
    found = verdict(rules, "gs://g", name, replica)
    assert found
    assert not found.is_orphan
    assert why in found.why
    assert found.why.endswith(": kept")


@pytest.mark.parametrize(
    ("prefixes", "found"),
    [
        ([], [("", "")]),
        ([""], []),
        (["", "a"], []),
        (["b/"], [("", "b/"), ("b0", "")]),
        (["b", "a"], [("", "a"), ("c", "")]),
        (["a/", "a/b/", "c"], [("", "a/"), ("a0", "c"), ("d", "")]),
        (["\ud7ff"], [("", "\ud7ff"), ("\ue000", "")]),
        (["\U0010ffff"], [("", "\U0010ffff")]),
        (["a\U0010ffff"], [("", "a\U0010ffff"), ("b", "")]),
    ],
)
def test_the_gaps_between_prefixes(prefixes: list[str], found: list[tuple[str, str]]) -> None:
    assert list(gaps(prefixes)) == found


TEXT = st.text(st.sampled_from("ab/\u00fc\ud7ff\ue000\U0010fffe\U0010ffff"), max_size=4)


@given(st.lists(TEXT, max_size=5), TEXT)
def test_each_name_begins_with_a_prefix_or_is_in_one_gap(prefixes: list[str], name: str) -> None:
    found = [(start, end) for start, end in gaps(prefixes) if start <= name and (not end or name < end)]
    assert len(found) == (not name.startswith(tuple(prefixes)))
