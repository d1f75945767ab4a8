"""Buckets as Google's client changes them: fields that merge, policies that lock, notifications, the storage layout."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.functional.gcs.conftest import Api


def test_a_patch_merges_what_it_says_of_an_object(bucket: storage.Bucket, api: Api) -> None:
    where = f"/storage/v1/b/{api.bucket}"
    api.call("PATCH", where, json={"iamConfiguration": {"publicAccessPrevention": "enforced"}, "labels": {"a": "1"}})
    api.call("PATCH", where, json={"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}})
    api.call("PATCH", where, json={"labels": {"b": "2", "a": None}})
    bucket.reload()
    assert bucket.iam_configuration.public_access_prevention == "enforced"
    assert bucket.iam_configuration.bucket_policy_only_enabled is True
    assert bucket.labels == {"b": "2"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = False
    bucket.patch()
    access = api.call("GET", where).json()["iamConfiguration"]
    assert access["bucketPolicyOnly"] == access["uniformBucketLevelAccess"] == {"enabled": False}
    assert access["publicAccessPrevention"] == "enforced"
    answer = api.call("PUT", where, json={"labels": {"c": "3"}}).json()
    assert (answer["labels"], answer["iamConfiguration"]["publicAccessPrevention"]) == ({"c": "3"}, "inherited")


def test_what_a_new_bucket_has_by_default(client: storage.Client, api: Api) -> None:
    regions = {"US": "multi-region", "NAM4": "dual-region", "US-EAST1": "region"}
    for number, (location, kind) in enumerate(regions.items()):
        bucket = client.create_bucket(f"{api.bucket}-{number}", location=location)
        assert (bucket.location_type, bucket.rpo) == (kind, None if kind == "region" else "DEFAULT")
        assert bucket.hierarchical_namespace_enabled is None  # as Google's own system test has it
        assert (bucket.versioning_enabled, bucket.soft_delete_policy.retention_duration_seconds) == (False, 0)
    bucket.hierarchical_namespace_enabled = False
    bucket.patch()
    assert bucket.hierarchical_namespace_enabled is False
    bucket.hierarchical_namespace_enabled = True
    with pytest.raises(exceptions.BadRequest, match="hierarchical namespaces"):
        bucket.patch()
    multi = client.bucket(f"{api.bucket}-1")
    multi.rpo = "ASYNC_TURBO"
    multi.patch()
    assert multi.rpo == "ASYNC_TURBO"


def test_a_locked_retention_policy_only_grows(bucket: storage.Bucket) -> None:
    bucket.retention_period = 100
    bucket.patch()
    bucket.lock_retention_policy()
    assert bucket.retention_policy_locked is True
    bucket.retention_period = 99
    with pytest.raises(exceptions.Forbidden):
        bucket.patch()
    bucket.retention_period = None
    with pytest.raises(exceptions.Forbidden):
        bucket.patch()
    bucket.reload()
    bucket.retention_period = 101
    bucket.patch()
    assert (bucket.retention_period, bucket.retention_policy_locked) == (101, True)


def test_a_retention_is_removed_from_an_object_and_from_a_bucket(bucket: storage.Bucket) -> None:
    blob = bucket.blob("k")
    blob.upload_from_string("x")
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = datetime.now(UTC) + timedelta(days=1)
    blob.patch()
    with pytest.raises(exceptions.Forbidden):
        blob.delete()
    blob.retention.mode = None
    blob.retention.retain_until_time = None
    blob.patch(override_unlocked_retention=True)
    blob.reload()
    assert blob.retention.retain_until_time is None
    bucket.retention_period = 100
    bucket.patch()
    bucket.retention_period = None
    bucket.patch()
    assert bucket.retention_period is None
    blob.delete()


def test_notification_configurations_are_kept_and_say_that_nothing_is_published(
    bucket: storage.Bucket, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    made = bucket.notification("topic", topic_project="project", event_types=["OBJECT_DELETE"], blob_name_prefix="a/")
    made.create()
    (found,) = bucket.list_notifications()
    assert (found.topic_name, found.event_types, found.blob_name_prefix) == ("topic", ["OBJECT_DELETE"], "a/")
    assert bucket.get_notification(made.notification_id).payload_format == "NONE"
    assert caplog.messages == [
        f"The notification configuration 1 of {bucket.name} is kept, but nothing is published to Pub/Sub here."
    ]
    answer = api.call(
        "POST", f"/storage/v1/b/{bucket.name}/notificationConfigs",
        json={"topic": "projects/project/topics/topic", "payload_format": "NONE"},
    )  # fmt: skip
    assert answer.headers["Warning"] == '299 - "nothing is published to Pub/Sub here"'
    made.delete()
    assert made.exists() is False
    assert [one.notification_id for one in bucket.list_notifications()] == ["2"]


def test_gcloud_learns_that_a_bucket_has_no_folders(api: Api) -> None:
    """`gcloud storage cp -r`, `mv` and `rm -r` ask for both; see test_clients."""
    layout = api.call("GET", f"/storage/v1/b/{api.bucket}/storageLayout?alt=json").json()
    assert (layout["location"], layout["hierarchicalNamespace"]) == ("US", {"enabled": False})
    folders = api.call("GET", f"/storage/v1/b/{api.bucket}/managedFolders?alt=json")
    assert folders.json() == {"kind": "storage#managedFolders"}
    for tail in ("storageLayout", "managedFolders", "iam", "acl", "notificationConfigs"):
        assert api.call("GET", f"/storage/v1/b/missing-bucket/{tail}").status_code == 404
