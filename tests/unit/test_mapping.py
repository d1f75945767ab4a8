"""What of an original its replica carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from handler.core.errors import Refused
from handler.core.mapping import (
    EXPIRES,
    PROVENANCE,
    RESERVED,
    checked,
    is_ours,
    provenance,
    stamp_of,
    standing_check,
)
from handler.core.model import Generation, Headers, Original, Replica, Rule, Stamp
from handler.core.tags import TAG
from tests.fakes import BEGINNING, crc32c, original_of

RULE = Rule(id="r", source="src", destination="gs://dst")
ORIGINAL = original_of(b"data", user_metadata={"owner": "Zoë"}, headers=Headers(content_type="text/csv"))
TO_CONTEXTS = replace(RULE, replicate_tags=True, tags_as_contexts=True)
TAGS = {"team": "red", "naïve key": "a=b&c"}


def test_a_stamp_carries_headers_metadata_time_and_provenance() -> None:
    stamp = stamp_of(replace(ORIGINAL, version_id="v1"), RULE)
    assert stamp.headers == Headers(content_type="text/csv")
    assert stamp.custom_time == BEGINNING
    assert stamp.storage_class is None
    digest = stamp.metadata[PROVENANCE + "digest"]
    assert dict(stamp.metadata) == {
        "owner": "Zoë",
        PROVENANCE + "bucket": "src",
        PROVENANCE + "rule": "r",
        PROVENANCE + "etag": ORIGINAL.etag,
        PROVENANCE + "size": "4",
        PROVENANCE + "last-modified": "2026-01-01T00:00:00+00:00",
        PROVENANCE + "version-id": "v1",
        PROVENANCE + "digest": digest,
    }


def test_an_unversioned_object_has_no_version_in_its_provenance() -> None:
    assert PROVENANCE + "version-id" not in stamp_of(ORIGINAL, RULE).metadata


def test_a_moment_is_written_in_utc_whatever_zone_it_came_in() -> None:
    elsewhere = replace(ORIGINAL, last_modified=BEGINNING.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert stamp_of(elsewhere, RULE).metadata == stamp_of(ORIGINAL, RULE).metadata


@pytest.mark.parametrize(
    ("encoding", "kept"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("aws-chunked", None),
        ("AWS-Chunked", None),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("aws-chunked, gzip , br", "gzip, br"),
        (",", None),
    ],
)
def test_aws_chunked_was_of_the_upload_and_not_of_the_object(encoding: str | None, kept: str | None) -> None:
    original = replace(ORIGINAL, headers=Headers(content_encoding=encoding))
    assert stamp_of(original, RULE).headers.content_encoding == kept


@pytest.mark.parametrize(
    "change",
    [
        *({"headers": Headers(content_type="text/csv")._replace(**{name: "other"})} for name in Headers._fields),
        {"headers": Headers()},
        {"user_metadata": {"owner": "Zoe"}},
        {"user_metadata": {"owner": "Zoë", "more": ""}},
        {"user_metadata": {}},
        {"expires": "Thu, 01 Jan 2099 00:00:00 GMT"},
        {"last_modified": BEGINNING + timedelta(microseconds=1)},
        {"etag": "other"},
        {"size": 5},
        {"version_id": "v1"},
        {"tags": {"team": "blue", "naïve key": "a=b&c"}},
        {"tags": {}},
        {"storage_class": "GLACIER_IR"},
    ],
    ids=str,
)
def test_the_provenance_changes_with_each_attribute(change: dict[str, Any]) -> None:
    rule = replace(RULE, replicate_tags=True, storage_classes={"GLACIER_IR": "COLDLINE", "*": "STANDARD"})
    before = replace(ORIGINAL, tags=TAGS)
    after = replace(before, **change)
    assert provenance(stamp_of(after, rule).metadata) != provenance(stamp_of(before, rule).metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"team": "blue"}},
        {"storage_class": "GLACIER_IR"},
        {"archived": True},
        {"checksums": {"SHA1": "x"}},
        {"md5": None},
    ],
    ids=str,
)
def test_the_provenance_does_not_change_with_what_is_not_replicated(change: dict[str, Any]) -> None:
    after = replace(ORIGINAL, **change)
    assert provenance(stamp_of(after, RULE).metadata) == provenance(stamp_of(ORIGINAL, RULE).metadata)


def test_attributes_cannot_be_shifted_from_one_into_another() -> None:
    one = replace(ORIGINAL, user_metadata={"a": "b", "c": "d"})
    two = replace(ORIGINAL, user_metadata={"a": 'b", "c": "d'})
    three = replace(ORIGINAL, headers=Headers(content_encoding="text/csv"))
    digests = {stamp_of(original, RULE).metadata[PROVENANCE + "digest"] for original in (one, two, three, ORIGINAL)}
    assert len(digests) == 4


@pytest.mark.parametrize("name", [*RESERVED, PROVENANCE + "etag", TAG + "team"])
def test_names_that_replicas_use_themselves_are_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        stamp_of(replace(ORIGINAL, user_metadata={"fine": "1", name: "2"}), RULE)
    assert caught.value.code == "SrcMetadataReserved"
    assert name in str(caught.value)


def test_tags_become_metadata_where_the_rule_says_so() -> None:
    tagged = replace(ORIGINAL, tags=TAGS)
    assert not [name for name in stamp_of(tagged, RULE).metadata if name.startswith(TAG)]
    stamp = stamp_of(tagged, replace(RULE, replicate_tags=True))
    assert {name: value for name, value in stamp.metadata.items() if name.startswith(TAG)} == {
        TAG + "team": "red",
        TAG + "naïve key": "a=b&c",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("team", "red"), ("a:b @ c", "x=y + z"), ("T" * 128, "v" * 256), ("naïve key", "v" + "ü" * 127)],
)
def test_tags_become_contexts_where_the_rule_says_so(name: str, value: str) -> None:
    stamp = stamp_of(replace(ORIGINAL, tags={"plain": "1", name: value}), TO_CONTEXTS)
    assert stamp.contexts == {"plain": "1", name: value}
    assert not [entry for entry in stamp.metadata if entry.startswith(TAG)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("empty", ""),
        ("-begins", "v"),
        ("_begins", "v"),
        ("übel", "v"),
        ("k", "+1"),
        ("a/b", "v"),
        ("k", "a/b"),
        ("google:team", "v"),
        ("k", "v" + "ü" * 128),
    ],
)
def test_tags_that_gcs_takes_as_no_context_are_metadata(name: str, value: str) -> None:
    stamp = stamp_of(replace(ORIGINAL, tags={"plain": "1", name: value}), TO_CONTEXTS)
    assert stamp.contexts == {"plain": "1"}
    assert {entry: text for entry, text in stamp.metadata.items() if entry.startswith(TAG)} == {TAG + name: value}


def test_the_provenance_changes_with_each_context() -> None:
    digests = {
        stamp_of(replace(ORIGINAL, tags=tags), TO_CONTEXTS).metadata[PROVENANCE + "digest"]
        for tags in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {})
    }
    assert len(digests) == 4


def test_expires_becomes_metadata() -> None:
    stamp = stamp_of(replace(ORIGINAL, expires="Thu, 01 Jan 2099 00:00:00 GMT"), RULE)
    assert stamp.metadata[EXPIRES] == "Thu, 01 Jan 2099 00:00:00 GMT"
    assert EXPIRES not in stamp_of(ORIGINAL, RULE).metadata


@pytest.mark.parametrize(
    ("classes", "s3", "gcs"),
    [
        ({}, "STANDARD", None),
        ({}, "GLACIER_IR", None),
        ({"*": "NEARLINE"}, "STANDARD", "NEARLINE"),
        ({"*": "NEARLINE", "GLACIER_IR": "ARCHIVE"}, "GLACIER_IR", "ARCHIVE"),
        ({"*": "NEARLINE", "GLACIER_IR": "ARCHIVE"}, "STANDARD_IA", "NEARLINE"),
        ({"GLACIER_IR": "ARCHIVE"}, "STANDARD", None),
    ],
)
def test_storage_classes_are_mapped(classes: Mapping[str, str], s3: str, gcs: str | None) -> None:
    stamp = stamp_of(replace(ORIGINAL, storage_class=s3), replace(RULE, storage_classes=classes))
    assert stamp.storage_class == gcs


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({}, False),
        ({PROVENANCE + "bucket": "src"}, True),
        ({PROVENANCE + "bucket": "another"}, False),
        ({PROVENANCE + "etag": "x"}, False),
        ({"bucket": "src"}, False),
        ({PROVENANCE + "bucket": "src", PROVENANCE + "key": "k"}, True),
        ({PROVENANCE + "bucket": "src", PROVENANCE + "key": "another"}, False),
    ],
)
def test_a_replica_is_ours_by_its_provenance(metadata: Mapping[str, str], *, ours: bool) -> None:
    assert is_ours(Replica(generation=Generation(1, 1), stamp=Stamp(metadata=metadata)), RULE, "k") is ours


@pytest.mark.parametrize(("rule", "key"), [(RULE, None), (replace(RULE, replace_prefix="z/"), ORIGINAL.key)])
def test_the_key_goes_along_where_the_name_does_not_tell_it(rule: Rule, key: str | None) -> None:
    assert stamp_of(ORIGINAL, rule).metadata.get(PROVENANCE + "key") == key


def test_the_check_a_copy_passed_is_noted_and_is_no_part_of_equality() -> None:
    stamp = stamp_of(ORIGINAL, RULE)
    noted = checked(stamp, "SHA256")
    assert provenance(noted.metadata) == provenance(stamp.metadata)
    assert standing_check(ORIGINAL, Replica(generation=Generation(1, 1), stamp=noted)) == "SHA256"


@pytest.mark.parametrize(
    ("original", "check"),
    [
        (original_of(b"data", checksums={"CRC32C": crc32c(b"data")}), "both sides"),
        (original_of(b"data", md5=None), "none"),
    ],
)
def test_a_foreign_copy_has_passed_what_both_sides_agree_on(original: Original, check: str) -> None:
    there = Replica(generation=Generation(1, 1), size=4, crc32c=crc32c(b"data"))
    assert standing_check(original, there) == check


def test_moments_before_1970_and_far_ahead_are_moments() -> None:
    for year in (1, 1969, 9999):
        stamp = stamp_of(replace(ORIGINAL, last_modified=datetime(year, 1, 2, tzinfo=UTC)), RULE)
        assert stamp.metadata[PROVENANCE + "last-modified"].startswith(f"{year:04}-01-02T")
