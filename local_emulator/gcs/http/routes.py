"""Which call a request is; what is not in this table is answered 501, never by a silent 200."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from local_emulator.gcs.http import buckets, objects, rewrites, uploads, xml_api, xml_multipart
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
_WORDS = frozenset({"acl", "iam", "compose", "rewriteTo", "copyTo", "moveTo", "restore", "defaultObjectAcl"})


@dataclass(frozen=True)
class Route:
    """The call that a request is."""

    method: str
    handler: Handler
    arguments: tuple[str, ...]


def is_json(path: str) -> bool:
    """Tell whether a path is one of the JSON API, whose errors are JSON."""
    return path == "/" or path.startswith(_OTHERS)


LIFECYCLE = "/_lifecycle/"
"""Before a bucket's name: run its lifecycle rules. No bucket has a name like that."""
_OTHERS = (
    "/storage/", "/batch", "/upload/", "/download/", "/resumable/", "/retry_test", "/b/", "/v1/", "/oauth2/", LIFECYCLE,
)  # fmt: skip


def find(http_method: str, path: str, query: dict[str, str]) -> Route:
    """Return the call.

    Raises:
        GcsError: 501, it is none that this server speaks.
    """
    for prefix, api in _JSON:
        if path.startswith(prefix):
            return _json(api, http_method, path, path[len(prefix) :].rstrip("/"), query)
    if path.startswith(LIFECYCLE) and http_method == "POST":
        return Route("lifecycle", buckets.run_lifecycle, (decoded(path.removeprefix(LIFECYCLE)),))
    if is_json(path):
        raise errors.not_spoken(f"{http_method} {path}")
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
    raise errors.not_spoken(f"{http_method} {path}")


def _move_shape(tail: list[str]) -> tuple[str, ...]:
    """Return the shape of what follows an object's name: a verb, then pairs of a kind and a name."""
    return tuple(part if i == 0 or i % 2 else "*" for i, part in enumerate(tail))


def _xml(http_method: str, path: str, query: dict[str, str]) -> Route:
    bucket, _, name = path[1:].partition("/")
    arguments = (decoded(bucket), decoded(name))
    if not name:
        raise errors.not_spoken(f"{http_method} of a bucket in the XML API")
    if "uploads" in query and http_method == "POST":
        return Route("storage.objects.insert", xml_multipart.initiate, arguments)
    if "uploadId" in query:
        handler = _MULTIPART.get(http_method)
        if handler is not None:
            return Route("storage.objects.insert", handler, arguments)
    simple = _SIMPLE.get(http_method)
    if simple is None:
        raise errors.not_spoken(f"{http_method} of an object in the XML API")
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
