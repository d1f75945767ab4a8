"""The JSON API's calls on who may do what, which this server keeps and nobody is held to: IAM policies, HMAC keys."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from aiohttp import web

from local_emulator.gcs.http.calls import Call
from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.acl import PROJECT
from local_emulator.gcs.store import documents

POLICY, HMAC_KEY = "iam", "hmac"
DEFAULT_BINDINGS = [
    {"role": "roles/storage.legacyBucketOwner", "members": [f"projectEditor:{PROJECT}", f"projectOwner:{PROJECT}"]},
    {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{PROJECT}"]},
]
Document = documents.Document


def _etag(number: int) -> str:
    return base64.b64encode(b"\x08" + number.to_bytes(4, "big")).decode()


async def policy(call: Call, bucket: str) -> web.StreamResponse:
    """Return or replace a bucket's policy."""
    await call.store.bucket(bucket)
    if call.method == "GET":
        found = await call.store.read(lambda c: documents.find(c, POLICY, bucket, ""))
        return call.answer(_shown(bucket, found))
    said = await call.json_body(required=True)
    bindings = said.get("bindings", [])
    if not isinstance(bindings, list) or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("members"), list)
        for one in bindings
    ):
        raise errors.invalid("Invalid value for bindings: each has a role and members.")

    def changed(old: Document | None) -> Document:
        number = old["number"] if old else 1
        if said.get("etag") and said["etag"] != _etag(number):
            raise errors.condition_not_met()
        return {"number": number + 1, "bindings": bindings, "version": said.get("version", 1)}

    new = await call.store.commit(documents.change(POLICY, bucket, "", changed))
    call.committed = True
    return call.answer(_shown(bucket, new))


def _shown(bucket: str, found: Document | None) -> dict[str, Any]:
    found = found or {"number": 1, "bindings": DEFAULT_BINDINGS, "version": 1}
    fields = {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket}", "version": found["version"]}
    return fields | {"etag": _etag(found["number"]), "bindings": found["bindings"]}


async def test_permissions(call: Call, bucket: str, what: str) -> web.StreamResponse:
    """Return the permissions that a caller asks for, of which it has all."""
    await call.store.bucket(bucket)
    if what != "testPermissions":
        raise errors.not_implemented(f"iam/{what}")
    asked = call.request.query.getall("permissions", [])
    if not asked:
        raise errors.required("Required parameter: permissions")
    return call.answer({"kind": "storage#testIamPermissionsResponse", "permissions": asked})


async def service_account(call: Call, project: str) -> web.StreamResponse:
    """Return the address of the account by which Cloud Storage itself acts in a project."""
    address = f"service-{PROJECT}@gs-project-accounts.iam.gserviceaccount.com"
    return call.answer({"kind": "storage#serviceAccount", "email_address": address, "projectId": project})


async def hmac_keys(call: Call, project: str) -> web.StreamResponse:
    """Make a key, or return those there are."""
    owner = f"projects/{project}"
    if call.method == "POST":
        if not (account := call.query.get("serviceAccountEmail")):
            raise errors.required("Required parameter: serviceAccountEmail")
        access, now = f"GOOG1E{secrets.token_hex(28).upper()}"[:61], attributes.now()
        made: Document = {"accessId": access, "projectId": project, "serviceAccountEmail": account, "state": "ACTIVE"}
        made |= {"timeCreated": now, "updated": now, "number": 1}
        await call.store.commit(documents.change(HMAC_KEY, owner, access, lambda _: made))
        call.committed = True
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        return call.answer({"kind": "storage#hmacKey", "metadata": _key(call, made), "secret": secret})
    found = await call.store.read(lambda c: documents.all_of(c, HMAC_KEY, owner))
    account = call.query.get("serviceAccountEmail")
    kept = [one for one in found if account in {None, one["serviceAccountEmail"]} and one["state"] != "DELETED"]
    return call.answer({"kind": "storage#hmacKeysMetadata", "items": [_key(call, one) for one in kept]})


def _key(call: Call, one: Document) -> dict[str, Any]:
    where = f"{call.base}/storage/v1/projects/{one['projectId']}/hmacKeys/{one['accessId']}"
    shown = {name: value for name, value in one.items() if name != "number"}
    ids = {"id": f"{one['projectId']}/{one['accessId']}", "selfLink": where, "etag": _etag(one["number"])}
    return {"kind": "storage#hmacKeyMetadata"} | ids | shown


async def hmac_key(call: Call, project: str, access: str) -> web.StreamResponse:
    """Return a key's metadata, make it active or inactive, or delete it."""
    owner = f"projects/{project}"
    said = await call.json_body() if call.method == "PUT" else {}

    def changed(old: Document | None) -> Document | None:
        if old is None:
            raise errors.GcsError(404, "notFound", f"Access ID not found in project {project}: {access}")
        if call.method == "GET":
            return old
        if call.method == "DELETE":
            if old["state"] == "ACTIVE":
                raise errors.invalid(f"Cannot delete the HMAC key {access}, because its state is ACTIVE.")
            return None
        if said.get("state") not in {"ACTIVE", "INACTIVE"}:
            raise errors.invalid("Invalid value for state: it is ACTIVE or INACTIVE.")
        if said.get("etag") not in {None, _etag(old["number"])}:
            raise errors.condition_not_met()
        return old | {"state": said["state"], "updated": attributes.now(), "number": old["number"] + 1}

    new = await call.store.commit(documents.change(HMAC_KEY, owner, access, changed))
    call.committed = call.method != "GET"
    return call.answer(_key(call, new)) if new is not None else web.Response(status=204)
