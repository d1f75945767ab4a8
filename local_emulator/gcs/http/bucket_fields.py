"""What a caller may say about a bucket: which fields, their types and limits, and what a change makes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from local_emulator.gcs.model import acl, attributes, errors
from local_emulator.gcs.model.conditions import whole_number
from local_emulator.gcs.store import lifecycle

Attributes = attributes.Attributes
OF_THE_SERVER = frozenset(
    {"etag", "generation", "id", "kind", "locationType", "metageneration", "name", "objectRetention", "owner",
     "projectNumber", "selfLink", "timeCreated", "updated"}
)  # fmt: skip
DAY = 24 * 3600
LONGEST_RETENTION = 3_155_760_000
"""Seconds: 100 years."""
MULTI_REGIONS, DUAL_REGIONS = {"US", "EU", "ASIA"}, {"NAM4", "EUR4", "EUR5", "EUR7", "EUR8", "ASIA1"}
DEFAULTS: Attributes = {
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": False},
        "bucketPolicyOnly": {"enabled": False},
        "publicAccessPrevention": "inherited",
    },
    "softDeletePolicy": {"retentionDurationSeconds": "0"},
}


def new(resource: dict[str, Any]) -> Attributes:
    """Return the attributes of a new bucket."""
    said = DEFAULTS | {name: value for name, value in writable_fields(resource).items() if value is not None}
    said["iamConfiguration"] = _merged(DEFAULTS["iamConfiguration"], said["iamConfiguration"])
    location = said.get("location", "US")
    kind = "multi-region" if location in MULTI_REGIONS else "dual-region" if location in DUAL_REGIONS else "region"
    said["locationType"] = kind
    if kind != "region":
        said.setdefault("rpo", "DEFAULT")
    return _consistent({}, said)


def patched(old: Attributes, said: Attributes) -> Attributes:
    """Return a bucket's attributes after a patch: objects are merged, field by field, and null removes."""
    return _consistent(old, _merged(old, said) | {"updated": attributes.now()})


def replaced(old: Attributes, said: Attributes) -> Attributes:
    """Return a bucket's attributes after an update: a field that is not named has its default."""
    kept = {name: value for name, value in old.items() if name not in CHECKS or name in {"location", "rpo"}}
    given = {name: value for name, value in said.items() if value is not None}
    new_ = {"storageClass": "STANDARD"} | DEFAULTS | kept | given
    new_["iamConfiguration"] = _merged(DEFAULTS["iamConfiguration"], new_["iamConfiguration"])
    return _consistent(old, new_ | {"updated": attributes.now()})


def _merged(old: Attributes, change: Attributes) -> Attributes:
    result = dict(old)
    for name, value in change.items():
        if isinstance(value, dict):
            value = _merged(old[name] if isinstance(old.get(name), dict) else {}, value)  # noqa: PLW2901 - the same value
        result[name] = value
    return {name: value for name, value in result.items() if value is not None}


def _consistent(old: Attributes, new_: Attributes) -> Attributes:
    """Return a bucket's new attributes with what follows from them.

    Raises:
        GcsError: a locked retention policy would become shorter, or a bucket without ACLs would get one.
    """
    policy, before = new_.get("retentionPolicy"), old.get("retentionPolicy", {})
    if before.get("isLocked"):
        if policy is None or int(policy["retentionPeriod"]) < int(before["retentionPeriod"]):
            raise errors.GcsError(403, "retentionPolicyNotMet", "A locked retention policy can only be made longer.")
        policy["isLocked"] = True
    access = new_.get("iamConfiguration", {})
    uniform, shown = access.get("uniformBucketLevelAccess", {}), {"enabled": False}
    if uniform.get("enabled"):
        if any(new_.get(name) != old.get(name) for name in ("acl", "defaultObjectAcl")):
            raise errors.invalid("Cannot set an ACL for a bucket when uniform bucket-level access is enabled.")
        locked = attributes.timestamp(datetime.now(UTC) + timedelta(days=90))
        shown = {"enabled": True, "lockedTime": uniform.get("lockedTime", locked)}
    if access:
        both = dict.fromkeys(("uniformBucketLevelAccess", "bucketPolicyOnly"), shown)
        new_["iamConfiguration"] = access | both
    return new_


def writable_fields(resource: dict[str, Any]) -> Attributes:
    """Return what of `resource` a caller may set, checked; None means: delete this.

    Raises:
        GcsError: a value is of the wrong type or over a limit, or a field is not implemented.
    """
    said: Attributes = {}
    for field, value in resource.items():
        if field in CHECKS:
            said[field] = None if value is None else CHECKS[field](value)
        elif field not in OF_THE_SERVER and not _is_off(value):
            raise errors.not_implemented(f"the bucket field {field}")
    return said


def _is_off(value: Any) -> bool:
    """Return True if a feature that this server lacks is asked to be off."""
    return not value or (isinstance(value, dict) and not any(value.values()))


def _of_type(field: str, kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise errors.invalid(f"Invalid value for {field}: {value!r}")
        return value

    return check


def _one_of(field: str, values: frozenset[str]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in values:
            raise errors.invalid(f"Invalid value for {field}: {value!r}")
        return value

    return check


def _encryption(value: Any) -> Attributes:
    key = value.get("defaultKmsKeyName") if isinstance(value, dict) else None
    if not isinstance(key, str) or value.keys() != {"defaultKmsKeyName"}:
        raise errors.not_implemented("encryption by anything but a defaultKmsKeyName")
    return {"defaultKmsKeyName": key}


def _hierarchical_namespace(value: Any) -> Attributes:
    if not _is_off(value):
        raise errors.not_implemented("hierarchical namespaces")
    return {"enabled": False}


def _iam_configuration(value: Any) -> Attributes:
    if not isinstance(value, dict) or value.get("publicAccessPrevention", "inherited") not in {"inherited", "enforced"}:
        raise errors.invalid(f"Invalid value for iamConfiguration: {value!r}")
    names = ("uniformBucketLevelAccess", "bucketPolicyOnly")  # two names for one thing; clients change the first
    given = [value[name]["enabled"] for name in names if isinstance(value.get(name), dict) and "enabled" in value[name]]
    if not all(isinstance(flag, bool) for flag in given):
        raise errors.invalid(f"Invalid value for iamConfiguration: {value!r}")
    return value | ({"uniformBucketLevelAccess": {"enabled": given[0]}} if given else {})


def _retention_policy(value: Any) -> Attributes:
    period = whole_number(value.get("retentionPeriod") if isinstance(value, dict) else value, "retentionPeriod")
    if not 0 < period <= LONGEST_RETENTION:
        raise errors.invalid("Invalid value for retentionPeriod: it is 1 second to 100 years.")
    return {"retentionPeriod": str(period), "effectiveTime": attributes.now()}


def _versioning(value: Any) -> Attributes:
    if not isinstance(value, dict) or not isinstance(value.get("enabled"), bool):
        raise errors.invalid("Invalid value for versioning: enabled is true or false.")
    return {"enabled": value["enabled"]}


def _soft_delete_policy(value: Any) -> Attributes:
    seconds = whole_number(
        value.get("retentionDurationSeconds") if isinstance(value, dict) else value, "retentionDurationSeconds"
    )
    if seconds and not 7 * DAY <= seconds <= 90 * DAY:
        raise errors.invalid("Invalid value for retentionDurationSeconds: it is 0, or 7 to 90 days.")
    return {
        "retentionDurationSeconds": str(seconds),
        "effectiveTime": attributes.now() if seconds else None,
    }


CHECKS: dict[str, Callable[[Any], Any]] = {
    "acl": lambda value: acl.checked(value, acl.BUCKET_ROLES),
    "defaultEventBasedHold": _of_type("defaultEventBasedHold", bool),
    "defaultObjectAcl": acl.of_object,
    "encryption": _encryption,
    "hierarchicalNamespace": _hierarchical_namespace,
    "iamConfiguration": _iam_configuration,
    "labels": _of_type("labels", dict),
    "lifecycle": lifecycle.checked,
    "location": lambda value: _of_type("location", str)(value).upper(),
    "retentionPolicy": _retention_policy,
    "rpo": _one_of("rpo", frozenset({"DEFAULT", "ASYNC_TURBO"})),
    "softDeletePolicy": _soft_delete_policy,
    "storageClass": _one_of("storage class", attributes.STORAGE_CLASSES),
    "versioning": _versioning,
}
"""By the name of each field that a caller may set."""
