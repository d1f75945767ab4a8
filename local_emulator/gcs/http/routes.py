"""Which call a request is; what is not in this table is refused, never answered by a silent 200."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from local_emulator.gcs.http import (
    acls,
    batch,
    buckets,
    iam,
    notifications,
    objects,
    rewrites,
    uploads,
    xml_api,
    xml_listing,
    xml_multipart,
)
from local_emulator.gcs.http.calls import decoded
from local_emulator.gcs.model import errors

Handler = Callable[..., Awaitable[web.StreamResponse]]
_JSON = (
    ("/resumable/upload/storage/v1/", "upload"),
    ("/upload/storage/v1/", "upload"),
    ("/download/storage/v1/", "download"),
    ("/storage/v1/", "json"),
)
_B, _O = "b", "o"

# (API, HTTP method, path shape; "*" is a name) -> (the call's name for faults, its handler)
_CALLS: dict[tuple[str, str, tuple[str, ...]], tuple[str, Handler]] = {
    ("json", "GET", (_B,)): ("buckets.list", buckets.list_),
    ("json", "POST", (_B,)): ("buckets.insert", buckets.insert),
    ("json", "GET", (_B, "*")): ("buckets.get", buckets.get),
    ("json", "PATCH", (_B, "*")): ("buckets.patch", buckets.patch),
    ("json", "PUT", (_B, "*")): ("buckets.update", buckets.update),
    ("json", "DELETE", (_B, "*")): ("buckets.delete", buckets.delete),
    ("json", "POST", (_B, "*", "lockRetentionPolicy")): ("buckets.lockRetentionPolicy", buckets.lock_retention_policy),
    ("json", "GET", (_B, "*", "storageLayout")): ("buckets.getStorageLayout", buckets.storage_layout),
    ("json", "GET", (_B, "*", "managedFolders")): ("managedFolders.list", buckets.managed_folders),
    ("json", "GET", (_B, "*", "iam")): ("buckets.getIamPolicy", iam.policy),
    ("json", "PUT", (_B, "*", "iam")): ("buckets.setIamPolicy", iam.policy),
    ("json", "GET", (_B, "*", "iam", "*")): ("buckets.testIamPermissions", iam.test_permissions),
    ("json", "GET", (_B, "*", "notificationConfigs")): ("notifications.list", notifications.all_),
    ("json", "POST", (_B, "*", "notificationConfigs")): ("notifications.insert", notifications.all_),
    ("json", "GET", (_B, "*", "notificationConfigs", "*")): ("notifications.get", notifications.one),
    ("json", "DELETE", (_B, "*", "notificationConfigs", "*")): ("notifications.delete", notifications.one),
    ("json", "GET", ("projects", "*", "hmacKeys")): ("hmacKey.list", iam.hmac_keys),
    ("json", "POST", ("projects", "*", "hmacKeys")): ("hmacKey.create", iam.hmac_keys),
    ("json", "GET", ("projects", "*", "hmacKeys", "*")): ("hmacKey.get", iam.hmac_key),
    ("json", "PUT", ("projects", "*", "hmacKeys", "*")): ("hmacKey.update", iam.hmac_key),
    ("json", "DELETE", ("projects", "*", "hmacKeys", "*")): ("hmacKey.delete", iam.hmac_key),
    ("json", "GET", ("projects", "*", "serviceAccount")): ("serviceaccount.get", iam.service_account),
    ("json", "GET", (_B, "*", _O)): ("objects.list", objects.list_),
    ("json", "GET", (_B, "*", _O, "*")): ("objects.get", objects.get),
    ("json", "HEAD", (_B, "*", _O, "*")): ("objects.get", objects.get),
    ("json", "PATCH", (_B, "*", _O, "*")): ("objects.patch", objects.patch),
    ("json", "PUT", (_B, "*", _O, "*")): ("objects.update", objects.update),
    ("json", "DELETE", (_B, "*", _O, "*")): ("objects.delete", objects.delete),
    ("json", "POST", (_B, "*", _O, "*", "compose")): ("objects.compose", objects.compose),
    ("json", "POST", (_B, "*", _O, "*", "restore")): ("objects.restore", objects.restore),
    ("json", "POST", (_B, "*", _O, "*", "rewriteTo", _B, "*", _O, "*")): ("objects.rewrite", rewrites.rewrite),
    ("json", "POST", (_B, "*", _O, "*", "copyTo", _B, "*", _O, "*")): ("objects.copy", objects.copy),
    ("json", "POST", (_B, "*", _O, "*", "moveTo", _O, "*")): ("objects.move", objects.move),
    ("download", "GET", (_B, "*", _O, "*")): ("objects.get", objects.get),
    ("download", "HEAD", (_B, "*", _O, "*")): ("objects.get", objects.get),
    ("upload", "POST", (_B, "*", _O)): ("objects.insert", uploads.insert),
    ("upload", "PUT", (_B, "*", _O)): ("objects.insert", uploads.insert),
    ("upload", "DELETE", (_B, "*", _O)): ("objects.delete", uploads.insert),
}

for _kind, _path, _handler in (
    ("bucket_acl", (_B, "*", "acl"), acls.bucket),
    ("default_object_acl", (_B, "*", "defaultObjectAcl"), acls.default_object),
    ("object_acl", (_B, "*", _O, "*", "acl"), acls.object_),
):
    _CALLS["json", "GET", _path] = f"{_kind}.list", _handler
    _CALLS["json", "POST", _path] = f"{_kind}.insert", _handler
    for _method, _verb in (("GET", "get"), ("PATCH", "patch"), ("PUT", "update"), ("DELETE", "delete")):
        _CALLS["json", _method, (*_path, "*")] = f"{_kind}.{_verb}", _handler


@dataclass(frozen=True)
class Route:
    """The call that a request is."""

    method: str
    handler: Handler
    arguments: tuple[str, ...]


def is_json(path: str) -> bool:
    """Return True if a path is one of the JSON API, whose errors are JSON."""
    return path == "/" or path.startswith(_OTHERS)


LIFECYCLE = "/_lifecycle/"
"""Before a bucket's name: run its lifecycle rules. No bucket has a name like that."""
BATCHES = ("/batch", "/batch/storage/v1")
_OTHERS = (
    "/storage/", "/batch", "/upload/", "/download/", "/resumable/", "/retry_test", "/b/", "/v1/", "/oauth2/", LIFECYCLE,
)  # fmt: skip


def find(http_method: str, path: str, query: dict[str, str]) -> Route:
    """Return the call.

    Raises:
        GcsError: it is none that this server implements.
    """
    for prefix, api in _JSON:
        if path.startswith(prefix):
            return _json(api, http_method, path, path[len(prefix) :].rstrip("/"), query)
    if path.startswith(LIFECYCLE) and http_method == "POST":
        return Route("lifecycle", buckets.run_lifecycle, (decoded(path.removeprefix(LIFECYCLE)),))
    if path.rstrip("/") in BATCHES and http_method == "POST":
        return Route("batch", batch.run, ())
    if is_json(path):
        raise errors.not_implemented(f"{http_method} {path}")
    return _xml(http_method, path, query)


def _json(api: str, http_method: str, path: str, rest: str, query: dict[str, str]) -> Route:
    segments = rest.split("/")
    shape = tuple(part if i % 2 == 0 else "*" for i, part in enumerate(segments))
    for candidate in (shape, (*shape[:4], *(_move_shape(segments[4:])))):
        known = _CALLS.get((api, http_method, candidate))
        if known is not None:
            names = [decoded(part) for part, kind in zip(segments, candidate, strict=True) if kind == "*"]
            if not all(names):
                break
            if api == "download":
                query["alt"] = "media"
            return Route(f"storage.{known[0]}", known[1], tuple(names))
    raise errors.not_implemented(f"{http_method} {path}")


def _move_shape(tail: list[str]) -> tuple[str, ...]:
    """Return the shape of what follows an object's name: a verb, then pairs of a kind and a name."""
    return tuple(part if i == 0 or i % 2 else "*" for i, part in enumerate(tail))


def _xml(http_method: str, path: str, query: dict[str, str]) -> Route:
    bucket, _, name = path[1:].partition("/")
    arguments = (decoded(bucket), decoded(name))
    if not name:
        if http_method not in {"GET", "HEAD"}:
            raise errors.not_implemented(f"{http_method} of a bucket in the XML API")
        method = "objects.list" if http_method == "GET" else "buckets.get"
        return Route(f"storage.{method}", xml_listing.list_, (decoded(bucket),))
    if "uploads" in query and http_method == "POST":
        return Route("storage.objects.insert", xml_multipart.initiate, arguments)
    if "uploadId" in query:
        handler = _MULTIPART.get(http_method)
        if handler is not None:
            return Route("storage.objects.insert", handler, arguments)
    simple = _SIMPLE.get(http_method)
    if simple is None:
        raise errors.not_implemented(f"{http_method} of an object in the XML API")
    return Route(f"storage.objects.{simple[0]}", simple[1], arguments)


_MULTIPART: dict[str, Handler] = {
    "PUT": xml_multipart.put_part,
    "POST": xml_multipart.complete,
    "DELETE": xml_multipart.abort,
    "GET": xml_multipart.list_parts,
}
_SIMPLE: dict[str, tuple[str, Handler]] = {
    "GET": ("get", xml_api.get),
    "HEAD": ("get", xml_api.get),
    "PUT": ("insert", xml_api.put),
    "DELETE": ("delete", xml_api.delete),
}
