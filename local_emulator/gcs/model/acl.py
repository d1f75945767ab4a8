"""Access control lists of buckets and objects: kept and shown, though nobody is denied anything here.

https://cloud.google.com/storage/docs/access-control/lists
"""

from __future__ import annotations

import re
from typing import Any

from local_emulator.gcs.model import errors

Acl = list[dict[str, str]]
BUCKET_ROLES = ("OWNER", "WRITER", "READER")
OBJECT_ROLES = ("OWNER", "READER")
PROJECT = "0"
_ENTITY = re.compile(r"allUsers|allAuthenticatedUsers|(?:user|group|domain)-.+|project-(?:owners|editors|viewers)-.+")
_TEAM = re.compile(r"project-(owners|editors|viewers)-(.+)")


def _acl(**roles: str) -> Acl:
    return [{"entity": entity, "role": role} for entity, role in roles.items()]


_OWNERS = _acl(**{f"project-owners-{PROJECT}": "OWNER"})
PRIVATE = [*_OWNERS, *_acl(**{f"project-editors-{PROJECT}": "OWNER", f"project-viewers-{PROJECT}": "READER"})]
"""What a new bucket has, and its new objects: projectPrivate."""

_FOR_BOTH = {
    "authenticatedRead": _OWNERS + _acl(allAuthenticatedUsers="READER"),
    "private": _OWNERS,
    "projectPrivate": PRIVATE,
    "publicRead": _OWNERS + _acl(allUsers="READER"),
    "bucketOwnerFullControl": _OWNERS,
}
PREDEFINED_OF_BUCKETS = _FOR_BOTH | {"publicReadWrite": _OWNERS + _acl(allUsers="WRITER")}
PREDEFINED_OF_OBJECTS = _FOR_BOTH | {"bucketOwnerRead": _OWNERS}


def predefined(lists: dict[str, Acl], name: str) -> Acl:
    """Return a predefined list.

    Raises:
        GcsError: there is none of that name.
    """
    if name not in lists:
        raise errors.invalid(f"Invalid value for a predefined ACL: '{name}'")
    return lists[name]


def checked(value: Any, roles: tuple[str, ...]) -> Acl | None:
    """Return a list as a caller gives it, None for null."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise errors.invalid("Invalid value for acl: it is a list.")
    return [entry(one, roles) for one in value]


def of_object(value: Any) -> Acl | None:
    """Return an object's list as a caller gives it."""
    return checked(value, OBJECT_ROLES)


def entry(value: Any, roles: tuple[str, ...]) -> dict[str, str]:
    """Return the entity and the role of an entry.

    Raises:
        GcsError: it has none, or there are none of that form.
    """
    entity, role = (value.get("entity"), value.get("role")) if isinstance(value, dict) else (None, None)
    if not isinstance(entity, str) or not _ENTITY.fullmatch(entity):
        raise errors.invalid(f"Invalid value for entity: {entity!r}")
    if role not in roles:
        raise errors.invalid(f"Invalid value for role: {role!r} is none of {', '.join(roles)}.")
    return {"entity": entity, "role": role}


def found(acl: Acl, entity: str) -> dict[str, str]:
    """Return the entry of an entity.

    Raises:
        GcsError: 404, there is none.
    """
    for one in acl:
        if one["entity"] == entity:
            return one
    raise errors.GcsError(404, "notFound", f"The entity {entity} has no entry in this access control list.")


def replaced(acl: Acl, new: dict[str, str]) -> Acl:
    """Return a list in which an entity has this entry and no other."""
    return [*without(acl, new["entity"]), new]


def without(acl: Acl, entity: str) -> Acl:
    """Return a list in which an entity has no entry."""
    return [one for one in acl if one["entity"] != entity]


def resource(one: dict[str, str], kind: str, where: dict[str, str], etag: str) -> dict[str, Any]:
    """Return an entry's resource; `where` names its bucket, and its object and generation."""
    entity = one["entity"]
    result: dict[str, Any] = {"kind": f"storage#{kind}AccessControl"} | where | one | {"etag": etag}
    result["id"] = "/".join([*where.values(), entity])
    if team := _TEAM.fullmatch(entity):
        result["projectTeam"] = {"projectNumber": team[2], "team": team[1]}
    elif entity.startswith("domain-"):
        result["domain"] = entity.removeprefix("domain-")
    elif "@" in entity:
        result["email"] = entity.partition("-")[2]
    return result
