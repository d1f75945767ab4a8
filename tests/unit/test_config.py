"""Settings: each fault by its name, all of them at once, and nothing but `ConfigurationError` whatever comes."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler import config
from handler.config import CONCURRENCY, NAMESPACE, STREAMS, ConfigurationError, fitting, load
from handler.core.model import Rule
from tests.fakes import original_of

KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
SMALLEST: dict[str, Any] = {"Source": {"Bucket": "a"}, "Destination": {"Bucket": "gs://b"}}


def encrypted(configuration: dict[str, Any]) -> dict[str, Any]:
    """What a rule says of encryption."""
    return {"Destination": {"Bucket": "gs://b", "EncryptionConfiguration": configuration}}


FULL: dict[str, Any] = {
    "ID": "reports",
    "Priority": 3,
    "Status": "Enabled",
    "Filter": {
        "And": {"Prefix": "in/", "Tags": [{"Key": "team", "Value": "red"}, {"Key": "copy", "Value": ""}]},
    },
    "DeleteMarkerReplication": {"Status": "Disabled"},
    "Source": {"Bucket": "a", "Account": "012345678901"},
    "Destination": {
        "Bucket": "gs://b/deep/prefix/",
        "StorageClass": {"GLACIER_IR": "ARCHIVE", "*": "NEARLINE"},
        "ReplaceKeyPrefixWith": "out/",
        "Tags": {"Status": "Enabled"},
    },
}


def rules(*documents: object) -> tuple[Rule, ...]:
    return load({"REPLICATION_RULES": json.dumps(documents)}).rules


def faults(environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(environment)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def faults_of(**changes: Any) -> list[str]:
    return faults({"REPLICATION_RULES": json.dumps([SMALLEST | changes])})


def test_the_smallest_rule_is_two_buckets() -> None:
    assert rules(SMALLEST) == (Rule(id="rule-5a8d2787", source="a", destination="gs://b"),)


def test_an_id_that_is_not_given_belongs_to_what_the_rule_replicates_and_not_to_its_place() -> None:
    one, two = SMALLEST, {"Source": {"Bucket": "c"}, "Destination": {"Bucket": "gs://d"}}
    kept = one | {"DeleteMarkerReplication": {"Status": "Disabled"}, "Priority": 3}
    first, second = (rule.id for rule in rules(one, two))
    assert [rule.id for rule in rules(two, kept)] == [second, first]
    assert first != second
    assert "two rules have the ID" in faults({"REPLICATION_RULES": json.dumps([one, kept])})[0]


@pytest.mark.parametrize(("text", "value"), [("", None), ("1048576", 1 << 20), ("50000000", 50_000_000)])
def test_a_bandwidth_limit_is_bytes_a_second(text: str, value: int | None) -> None:
    assert load({"REPLICATION_RULES": json.dumps([SMALLEST]), "BANDWIDTH_LIMIT": text}).bandwidth == value


@pytest.mark.parametrize(("text", "value"), [("", False), ("false", False), ("true", True)])
def test_a_dry_run_is_asked_for_by_true(text: str, *, value: bool) -> None:
    assert load({"REPLICATION_RULES": json.dumps([SMALLEST]), "DRY_RUN": text}).dry_run is value


def test_the_client_of_gcs_is_the_json_api_unless_google_cloud_storage_is_chosen() -> None:
    for text, client in (("", "json-api"), ("json-api", "json-api"), ("google-cloud-storage", "google-cloud-storage")):
        assert load({"REPLICATION_RULES": json.dumps([SMALLEST]), "GCS_CLIENT": text}).gcs_client == client
    assert faults({"GCS_CLIENT": "gcsfs", "DRY_RUN": "yes"}) == [
        "REPLICATION_RULES is not set: give a JSON list of rules",
        "DRY_RUN must be true or false, not 'yes'",
        "GCS_CLIENT must be json-api or google-cloud-storage, not 'gcsfs'",
    ]


def test_a_client_of_gcs_that_was_not_built_in_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    (fault,) = faults({"REPLICATION_RULES": json.dumps([SMALLEST]), "GCS_CLIENT": "google-cloud-storage"})
    assert "make build GCS_CLIENT=google-cloud-storage" in fault


@pytest.mark.parametrize(("name", "text"), [("BANDWIDTH_LIMIT", "0"), ("BANDWIDTH_LIMIT", "10M"), ("DRY_RUN", "yes")])
def test_a_wrong_limit_or_dry_run_is_named(name: str, text: str) -> None:
    [fault] = faults({"REPLICATION_RULES": json.dumps([SMALLEST]), name: text})
    assert name in fault
    assert text in fault


@pytest.mark.parametrize("text", ["12345678901", "1234567890123", "12345678901a", "\u0661" * 12, " 123456789012"])
def test_an_owner_that_is_no_account_is_named(text: str) -> None:
    [fault] = faults({"REPLICATION_RULES": json.dumps([SMALLEST]), "SOURCE_BUCKET_OWNER": text})
    assert fault == f"SOURCE_BUCKET_OWNER must be an AWS account's 12 digits, not {text!r}"


def test_a_rule_names_the_owner_of_its_bucket_and_the_setting_that_of_all_others() -> None:
    documents = [
        {"ID": "plain", "Source": {"Bucket": "a"}, "Destination": {"Bucket": "gs://x"}},
        {"ID": "named", "Source": {"Bucket": "a", "Account": "111111111111"}, "Destination": {"Bucket": "gs://y"}},
        {"ID": "other", "Source": {"Bucket": "b"}, "Destination": {"Bucket": "gs://x"}},
    ]
    environment = {"REPLICATION_RULES": json.dumps(documents)}
    unset, set_ = load(environment), load({**environment, "SOURCE_BUCKET_OWNER": "222222222222"})
    assert [unset.owner_of(bucket) for bucket in "ab"] == ["111111111111", None]
    assert [set_.owner_of(bucket) for bucket in "ab"] == ["111111111111", "222222222222"]


def test_two_owners_of_one_bucket_are_a_fault() -> None:
    documents = [
        {"ID": name, "Source": {"Bucket": "a", "Account": account}, "Destination": {"Bucket": "gs://x"}}
        for name, account in (("one", "111111111111"), ("two", "222222222222"))
    ]
    [fault] = faults({"REPLICATION_RULES": json.dumps(documents)})
    assert fault == "rules give the bucket 'a' more than one Source.Account"


def test_the_rest_has_defaults() -> None:
    settings = load({"REPLICATION_RULES": json.dumps([SMALLEST])})
    assert (settings.concurrency, settings.dead_letter_queue, settings.metrics_namespace) == (
        CONCURRENCY,
        None,
        NAMESPACE,
    )


def test_everything_can_be_said() -> None:
    settings = load(
        {
            "REPLICATION_RULES": json.dumps([FULL]),
            "CONCURRENCY": "5",
            "DEAD_LETTER_QUEUE_URL": "http://q",
            "METRICS_NAMESPACE": "Mine",
        }
    )
    assert (settings.concurrency, settings.dead_letter_queue, settings.metrics_namespace) == (5, "http://q", "Mine")
    assert settings.rules == (
        Rule(
            id="reports",
            source="a",
            account="012345678901",
            destination="gs://b",
            destination_prefix="deep/prefix/",
            priority=3,
            prefix="in/",
            tags={"team": "red", "copy": ""},
            deletes=False,
            replace_prefix="out/",
            storage_classes={"GLACIER_IR": "ARCHIVE", "*": "NEARLINE"},
            replicate_tags=True,
        ),
    )


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"Filter": {"Prefix": "in/"}}, "prefix", "in/"),
        ({"Prefix": "in/"}, "prefix", "in/"),
        ({"Filter": {}}, "prefix", ""),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}, "tags", {"a": "b"}),
        ({"Filter": {"And": {"Tags": [{"Key": "a", "Value": "b"}]}}}, "tags", {"a": "b"}),
        ({"Status": "Disabled"}, "enabled", False),
        ({"DeleteMarkerReplication": {"Status": "Enabled"}}, "deletes", True),
        ({"Destination": {"Bucket": "gs://b", "StorageClass": "COLDLINE"}}, "storage_classes", {"*": "COLDLINE"}),
        ({"Destination": {"Bucket": "gs://b/"}}, "destination_prefix", ""),
        ({"Destination": {"Bucket": "gs://b/x"}}, "destination_prefix", "x/"),
        ({"Destination": {"Bucket": "file:///var/copies"}}, "destination", "file:///var/copies"),
        ({"Destination": {"Bucket": "file:///var/my%20copies"}}, "destination", "file:///var/my copies"),
        ({"Destination": {"Bucket": "gs://b", "ReplaceKeyPrefixWith": ""}}, "replace_prefix", ""),
        (encrypted({"ReplicaKmsKeyID": KEY}), "kms_key", KEY),
        ({"Destination": {"Bucket": "gs://b", "ObjectLock": {"Status": "Enabled"}}}, "locks", True),
        ({"Destination": {"Bucket": "gs://b"}}, "locks", False),
        (
            {"Destination": {"Bucket": "gs://b", "Tags": {"Status": "Enabled", "As": "Contexts"}}},
            "tags_as_contexts",
            True,
        ),
        (
            {"Destination": {"Bucket": "gs://b", "Tags": {"Status": "Enabled", "As": "Metadata"}}},
            "tags_as_contexts",
            False,
        ),
        ({"Priority": 0}, "priority", 0),
        ({"ID": "näme"}, "id", "näme"),
    ],
)
def test_a_field_says(change: dict[str, Any], field: str, value: object) -> None:
    (rule,) = rules(SMALLEST | change)
    assert getattr(rule, field) == value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"Source": None}, "Source is missing"),
        ({"Source": {}}, "Source.Bucket"),
        ({"Source": "a"}, "Source must be an object"),
        ({"Source": {"Bucket": ""}}, "Source.Bucket"),
        ({"Source": {"Bucket": "a", "Account": 123456789012}}, "Source.Account must be an AWS account's 12 digits"),
        ({"Source": {"Bucket": "a", "Account": "12345678901"}}, "Source.Account must be an AWS account's 12 digits"),
        ({"Source": {"Bucket": "a", "Account": ""}}, "Source.Account must be an AWS account's 12 digits"),
        ({"Source": {"Bucket": 7}}, "Source.Bucket"),
        ({"Source": {"Bucket": "a", "Region": "x"}}, "Source.Region is not a field"),
        ({"Destination": None}, "Destination is missing"),
        ({"Destination": []}, "Destination must be an object"),
        ({"Destination": {}}, "Destination.Bucket"),
        ({"Destination": {"Bucket": "b"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "s3://b"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "gs://"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "gs://b?x=1"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "gs://b#x"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "gs://[b"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "gs://[::g]"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "file://host/x"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "file:///"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": "file:x"}}, "Destination.Bucket must be gs://"),
        ({"Destination": {"Bucket": 7}}, "Destination.Bucket"),
        ({"Destination": {"Bucket": "gs://b", "StorageClass": "GLACIER"}}, "Destination.StorageClass must be one of"),
        ({"Destination": {"Bucket": "gs://b", "StorageClass": {"X": 7}}}, "Destination.StorageClass must be one of"),
        ({"Destination": {"Bucket": "gs://b", "StorageClass": {"X": []}}}, "Destination.StorageClass must be one of"),
        ({"Destination": {"Bucket": "gs://b", "StorageClass": 7}}, "Destination.StorageClass must be a GCS class"),
        ({"Destination": {"Bucket": "gs://b", "ReplaceKeyPrefixWith": 7}}, "Destination.ReplaceKeyPrefixWith"),
        ({"Destination": {"Bucket": "gs://b", "Tags": {"Status": "on"}}}, "Destination.Tags.Status"),
        ({"Destination": {"Bucket": "gs://b", "Account": "x"}}, "Destination.Account is not a field"),
        (
            {"Destination": {"Bucket": "gs://b", "Tags": {"As": "contexts"}}},
            'Destination.Tags.As must be "Metadata" or',
        ),
        ({"Destination": {"Bucket": "gs://b", "Tags": {"As": ["Contexts"]}}}, "Destination.Tags.As must be"),
        ({"Destination": {"Bucket": "gs://b", "Tags": {"Prefix": "x"}}}, "Destination.Tags.Prefix is not a field"),
        ({"Destination": {"Bucket": "gs://b", "ObjectLock": {"Status": "on"}}}, "Destination.ObjectLock.Status"),
        (
            {"Destination": {"Bucket": "gs://b", "ObjectLock": {"Mode": "x"}}},
            "Destination.ObjectLock.Mode is not a field",
        ),
        (encrypted({}), "Destination.EncryptionConfiguration.ReplicaKmsKeyID"),
        (encrypted({"ReplicaKmsKeyID": 7}), "Destination.EncryptionConfiguration.ReplicaKmsKeyID must be text"),
        (encrypted({"ReplicaKmsKeyID": "arn:aws:kms:k"}), "ReplicaKmsKeyID must be a Cloud KMS key, projects/"),
        (encrypted({"ReplicaKmsKeyID": f"{KEY}/cryptoKeyVersions/1"}), "ReplicaKmsKeyID must be a Cloud KMS key"),
        (encrypted({"KmsKeyName": KEY}), "Destination.EncryptionConfiguration.KmsKeyName is not a field"),
        ({"ID": ""}, "ID"),
        ({"ID": 7}, "ID"),
        ({"Priority": "1"}, "Priority must be a whole number"),
        ({"Priority": 1.5}, "Priority must be a whole number"),
        ({"Priority": True}, "Priority must be a whole number"),
        ({"Status": "enabled"}, "Status must be"),
        ({"Status": True}, "Status must be"),
        ({"Status": ["Enabled"]}, "Status must be"),
        ({"DeleteMarkerReplication": {"Status": "x"}}, "DeleteMarkerReplication.Status"),
        ({"DeleteMarkerReplication": 7}, "DeleteMarkerReplication must be an object"),
        ({"Filter": 7}, "Filter must be an object"),
        ({"Filter": {"Prefix": 7}}, "Filter.Prefix must be text"),
        ({"Filter": {"Prefix": "a", "Tag": {"Key": "a", "Value": "b"}}}, "Filter takes one of"),
        ({"Filter": {"Tag": {"Key": "a"}}}, "Filter has a tag"),
        ({"Filter": {"And": 7}}, "And must be an object"),
        ({"Filter": {"And": {"Tags": [7]}}}, "Filter has a tag"),
        ({"Filter": {"And": {"Other": 1}}}, "Filter.And.Other is not a field"),
        ({"Filter": {"ObjectSize": 1}}, "Filter.ObjectSize is not a field"),
        ({"Prefix": 7}, "Prefix must be text"),
        ({"Sauce": {}}, "Sauce is not a field"),
        ({"ExistingObjectReplication": {"Status": "Enabled"}}, "ExistingObjectReplication is not a field"),
    ],
    ids=str,
)
def test_a_fault_is_named_with_its_rule_and_field(change: dict[str, Any], field: str) -> None:
    found = faults_of(**change)
    assert any(field in fault for fault in found), found
    assert all(fault.startswith("rule 1") for fault in found)


def test_every_fault_is_reported_at_once() -> None:
    wrong = [
        {"Status": "on", "Source": {"Bucket": ""}, "Destination": {"Bucket": "b", "Tags": 1}},
        SMALLEST | {"Priority": "high", "ID": "second"},
        7,
        SMALLEST | {"ID": "twice"},
        SMALLEST | {"ID": "twice"},
    ]
    found = faults({"REPLICATION_RULES": json.dumps(wrong), "CONCURRENCY": "many"})
    for words in (
        "rule 1: Status",
        "rule 1: Source.Bucket",
        "rule 1: Destination.Bucket",
        "rule 1: Tags",
        "rule 2 (second): Priority",
        "rule 3 must be an object",
        "two rules have the ID 'twice'",
        "CONCURRENCY",
    ):
        assert any(words in fault for fault in found), words
    assert len(found) == 8


@pytest.mark.parametrize("text", ["", "  ", "{", "{}", "[]", "7", '"x"', "null", "nan", "[" * 100_000])
def test_rules_that_are_no_list_of_rules_are_one_fault(text: str) -> None:
    assert len(faults({"REPLICATION_RULES": text})) == 1


def test_no_environment_is_a_fault_that_says_what_to_set() -> None:
    assert faults({}) == ["REPLICATION_RULES is not set: give a JSON list of rules"]


@pytest.mark.parametrize("text", ["0", "-1", "1001", "x", "1.5", " ", "9" * 5000, "\u0662\u0662\u0662\u0662"])
def test_a_concurrency_that_is_none_is_a_fault(text: str) -> None:
    (fault,) = faults({"REPLICATION_RULES": json.dumps([SMALLEST]), "CONCURRENCY": text})
    assert fault.startswith("CONCURRENCY")


@pytest.mark.parametrize(("text", "level"), [(None, "INFO"), ("", "INFO"), ("debug", "DEBUG"), ("ERROR", "ERROR")])
def test_the_level_of_the_log_is_a_setting(text: str | None, level: str) -> None:
    told = {} if text is None else {"POWERTOOLS_LOG_LEVEL": text}
    assert load({"REPLICATION_RULES": json.dumps([SMALLEST]), **told}).log_level == level


def test_a_level_that_is_none_is_a_fault_beside_others() -> None:
    told = {"REPLICATION_RULES": json.dumps([SMALLEST]), "POWERTOOLS_LOG_LEVEL": "LOUD", "CONCURRENCY": "zz"}
    assert [fault.split()[0] for fault in faults(told)] == ["CONCURRENCY", "POWERTOOLS_LOG_LEVEL"]


# --- which rules cover what


def test_rules_are_by_source_the_highest_priority_first() -> None:
    settings = load(
        {
            "REPLICATION_RULES": json.dumps(
                [
                    SMALLEST | {"ID": "low", "Priority": 1},
                    SMALLEST | {"ID": "other", "Source": {"Bucket": "z"}},
                    SMALLEST | {"ID": "high", "Priority": 2},
                    SMALLEST | {"ID": "off", "Priority": 9, "Status": "Disabled"},
                    SMALLEST | {"ID": "same", "Priority": 2},
                ]
            )
        }
    )
    assert {source: [rule.id for rule in found] for source, found in settings.by_source.items()} == {
        "a": ["high", "same", "low"],
        "z": ["other"],
    }


@pytest.mark.parametrize(
    ("change", "key", "name"),
    [
        ({}, "a/b", "a/b"),
        ({"Destination": {"Bucket": "gs://b/p"}}, "a/b", "p/a/b"),
        ({"Filter": {"Prefix": "a/"}}, "a/b", "a/b"),
        ({"Filter": {"Prefix": "a/"}, "Destination": {"Bucket": "gs://b", "ReplaceKeyPrefixWith": "c/"}}, "a/b", "c/b"),
        ({"Filter": {"Prefix": "a/"}, "Destination": {"Bucket": "gs://b/p", "ReplaceKeyPrefixWith": ""}}, "a/b", "p/b"),
        ({"Destination": {"Bucket": "gs://b", "ReplaceKeyPrefixWith": "c/"}}, "a/b", "c/a/b"),
    ],
)
def test_a_key_has_its_name_at_the_destination(change: dict[str, Any], key: str, name: str) -> None:
    (rule,) = rules(SMALLEST | change)
    assert rule.covers(key)
    assert rule.destination_key(key) == name


def test_a_rule_covers_by_prefix_and_matches_by_tags() -> None:
    (rule,) = rules(FULL)
    assert rule.covers("in/x")
    assert not rule.covers("out/x")
    assert not rule.matches(original_of(b"", "in/x"))
    assert rule.matches(original_of(b"", "in/x", tags={"team": "red", "copy": "", "more": "1"}))
    (off,) = rules(SMALLEST | {"Status": "Disabled"})
    assert not off.covers("x")


# --- whatever comes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["Enabled", "gs://b", "gs://[", "file:///x", "file:///%00", "gs://b:port/", "NEARLINE"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Bucket", "Status", "Prefix", "Tag", "And", "Tags", "Key", "Value", "*"]), inner
        )
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)), VALUES, max_size=4), st.sampled_from([SMALLEST, FULL, {}]))
@settings(max_examples=150, deadline=None)
def test_no_rules_do_worse_than_a_configuration_error(changes: dict[str, Any], base: dict[str, Any]) -> None:
    try:
        found = rules(base | changes)
    except ConfigurationError as error:
        assert error.faults  # noqa: PT017 - some are right
    else:
        assert all(rule.source and rule.destination for rule in found)


@given(st.text(max_size=40), st.text(max_size=8))
@settings(max_examples=80, deadline=None)
def test_no_text_does_worse_than_a_configuration_error(text: str, number: str) -> None:
    with pytest.raises(ConfigurationError):
        load({"REPLICATION_RULES": text, "CONCURRENCY": number})


@pytest.mark.parametrize(
    ("memory", "concurrency", "files", "keys", "streams"),
    [
        ("256", 16, 1024, 5, 10),
        ("512", 16, 1024, 13, STREAMS),
        ("1024", 16, 1024, 16, STREAMS),
        ("10240", 1000, 1024, 256, STREAMS),
        ("", 16, 1024, 16, STREAMS),
        ("much", 3, 1024, 3, STREAMS),
        ("1024", 16, 20, 5, 5),
        ("64", 16, 1024, 1, 1),
    ],
)
def test_no_more_is_worked_on_at_once_than_memory_and_files_hold(
    monkeypatch: pytest.MonkeyPatch, memory: str, concurrency: int, files: int, keys: int, streams: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert fitting(concurrency, {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}) == (keys, streams)
