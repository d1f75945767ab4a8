"""Access control lists, IAM policies and HMAC keys: kept and shown, as Google's client asks for them."""

from __future__ import annotations

import base64

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.functional.gcs.conftest import Api

ACCOUNT = "somebody@example.com"


def _roles(acl: storage.acl.ACL) -> dict[str, str]:
    acl.reload()
    return {entry["entity"]: entry["role"] for entry in acl}


def test_a_bucket_and_its_objects_have_acls_that_google_s_client_changes(bucket: storage.Bucket) -> None:
    blob = bucket.blob("k")
    blob.upload_from_string("x")
    assert _roles(bucket.acl)["project-owners-0"] == "OWNER"
    for acl in (bucket.acl, bucket.default_object_acl, blob.acl):
        acl.user(ACCOUNT).grant_owner()
        acl.save()
        assert _roles(acl)[f"user-{ACCOUNT}"] == "OWNER"
        acl.save_predefined("publicRead")
        assert _roles(acl) == {"project-owners-0": "OWNER", "allUsers": "READER"}
        acl.clear()
        assert _roles(acl) == {}
    late = bucket.blob("late")
    late.upload_from_string("x")
    assert _roles(late.acl) == {}  # the bucket's list for new objects
    late.upload_from_string("x", predefined_acl="publicRead")
    assert _roles(late.acl)["allUsers"] == "READER"
    copy = bucket.copy_blob(late, bucket, "copy")
    assert _roles(copy.acl) == {}
    late.make_private()
    assert "allUsers" not in _roles(late.acl)


def test_entries_are_inserted_read_changed_and_deleted_one_by_one(api: Api) -> None:
    api.insert("k", b"x")
    where = f"/storage/v1/b/{api.bucket}"
    for path in (f"{where}/acl", f"{where}/defaultObjectAcl", f"{where}/o/k/acl"):
        made = api.call("POST", path, json={"entity": "allUsers", "role": "READER"})
        assert (made.status_code, made.json()["role"]) == (200, "READER")
        changed = api.call("PATCH", f"{path}/allUsers", json={"role": "OWNER"}).json()
        assert changed == api.call("GET", f"{path}/allUsers").json() | {"etag": changed["etag"]}
        assert changed["kind"] == (
            "storage#bucketAccessControl" if path == f"{where}/acl" else "storage#objectAccessControl"
        )
        assert api.call("PUT", f"{path}/allUsers", json={"entity": "allUsers", "role": "READER"}).status_code == 200
        assert api.call("DELETE", f"{path}/allUsers").status_code == 204
        assert [api.call(method, f"{path}/allUsers").status_code for method in ("GET", "DELETE")] == [404, 404]
    assert int(api.resource("k")["metageneration"]) == 5
    shown = api.object("GET", "k", params={"projection": "full"}).json()["acl"]
    assert (len(shown), "acl" in api.resource("k")) == (3, False)
    xml = api.xml("PUT", "x", headers={"x-goog-acl": "public-read"})
    assert xml.status_code == 200
    assert api.object("GET", "x", "/acl/allUsers").status_code == 200
    assert api.xml("PUT", "x", headers={"x-goog-acl": "for-all"}).status_code == 400


def test_uniform_bucket_level_access_refuses_acls(bucket: storage.Bucket, api: Api) -> None:
    bucket.reload()
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled is False
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    assert bucket.iam_configuration.uniform_bucket_level_access_locked_time is not None
    assert bucket.iam_configuration.public_access_prevention == "inherited"  # a patch merges
    for acl in (bucket.acl, bucket.default_object_acl):
        with pytest.raises(exceptions.BadRequest):
            acl.reload()
        with pytest.raises(exceptions.BadRequest):
            acl.save_predefined("publicRead")
    assert api.insert("k", b"x", predefinedAcl="publicRead").status_code == 400
    assert api.insert("k", b"x").status_code == 200
    assert api.object("PATCH", "k", json={"acl": []}).status_code == 400
    assert "acl" not in api.object("GET", "k", params={"projection": "full"}).json()


def test_a_policy_is_replaced_on_its_etag_and_every_permission_is_had(bucket: storage.Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    stale = bucket.get_iam_policy()
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {f"user:{ACCOUNT}"}})
    bucket.set_iam_policy(policy)
    assert bucket.get_iam_policy()["roles/storage.objectViewer"] == {f"user:{ACCOUNT}"}
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(stale)
    wanted = ["storage.buckets.get", "storage.objects.get"]
    assert bucket.test_iam_permissions(wanted) == wanted
    name = bucket.name
    bucket.delete()
    bucket.client.create_bucket(name)
    assert "roles/storage.objectViewer" not in {one["role"] for one in bucket.get_iam_policy().bindings}


def test_hmac_keys_are_made_listed_deactivated_and_deleted(client: storage.Client) -> None:
    key, secret = client.create_hmac_key(ACCOUNT)
    other, _ = client.create_hmac_key(f"other.{ACCOUNT}")
    assert (len(base64.b64decode(secret)), len(key.access_id), key.state) == (30, 61, "ACTIVE")
    assert [found.access_id for found in client.list_hmac_keys(service_account_email=ACCOUNT)] == [key.access_id]
    with pytest.raises(exceptions.BadRequest, match="ACTIVE"):
        key.delete()
    key.state = "INACTIVE"
    key.update()
    assert client.get_hmac_key_metadata(key.access_id).state == "INACTIVE"
    key.delete()
    assert (key.exists(), other.exists()) == (False, True)
    assert client.get_service_account_email().endswith("@gs-project-accounts.iam.gserviceaccount.com")
