"""What a caller may say about an object: types, limits, and what may follow what."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from local_emulator.gcs.model import acl, contexts, errors

TEXTS = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "storageClass")
FLAGS = ("eventBasedHold", "temporaryHold")
OF_THE_SERVER = (
    "timeCreated",
    "timeFinalized",
    "timeDeleted",
    "timeStorageClassUpdated",
    "updated",
    "componentCount",
    "kmsKeyName",
    "retentionFrom",
)
NOT_IMPLEMENTED = ("customerEncryption",)
KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
KMS_VERSION = "/cryptoKeyVersions/1"
"""Objects name the version of the key that encrypted them; here no key is ever rotated."""
STORAGE_CLASSES = frozenset(
    {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "REGIONAL", "MULTI_REGIONAL", "DURABLE_REDUCED_AVAILABILITY"}
)
MAX_RETENTION = 3_155_760_000
"""Seconds: 100 years."""
MAX_METADATA, MAX_KEY, MAX_VALUE = 8 * 1024, 1024, 4 * 1024

Attributes = dict[str, Any]


def now() -> str:
    """Return the time as GCS writes it."""
    return timestamp(datetime.now(UTC))


def timestamp(moment: datetime) -> str:
    """Return a time in RFC 3339, in milliseconds unless there is more to say."""
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment.microsecond % 1000:
        return moment.isoformat(timespec="microseconds") + "Z"
    return moment.isoformat(timespec="milliseconds") + "Z"


def moment(value: object, what: str) -> datetime:
    """Return the time that an RFC 3339 text names.

    Raises:
        GcsError: it names none.
    """
    wrong = errors.invalid(f"Invalid value for {what}: '{value}' is not an RFC 3339 time.")
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError as error:
        raise wrong from error
    if parsed is None or parsed.tzinfo is None or not 1 < parsed.year < 9999:
        raise wrong
    return parsed.astimezone(UTC)


def writable_fields(resource: Attributes) -> Attributes:
    """Return what of `resource` a caller may set, checked; None means: delete this.

    Raises:
        GcsError: a value is of the wrong type or over a limit, or is a feature that is not implemented.
    """
    for field in NOT_IMPLEMENTED:
        if resource.get(field):
            raise errors.not_implemented(f"the object field {field}")
    result: Attributes = {}
    for field in (*TEXTS, *FLAGS):
        if field in resource:
            kind = bool if field in FLAGS else str
            if resource[field] is not None and not isinstance(resource[field], kind):
                raise errors.invalid(f"Invalid value for {field}: {resource[field]!r}")
            result[field] = resource[field]
    if "customTime" in resource:
        text = resource["customTime"]
        result["customTime"] = None if text is None else timestamp(moment(text, "customTime"))
    for field, read in (
        ("metadata", _metadata), ("retention", _retention), ("contexts", contexts.writable), ("acl", acl.of_object),
    ):  # fmt: skip
        if field in resource:
            result[field] = read(resource[field])
    if key := resource.get("kmsKeyName"):
        result["kmsKeyName"] = _kms_key(key)
    _check_storage_class(result.get("storageClass"))
    return result


def _check_storage_class(value: str | None) -> None:
    if value is not None and value not in STORAGE_CLASSES:
        raise errors.invalid(f"Invalid storage class: '{value}'", xml_code="InvalidStorageClass")


def _kms_key(value: Any) -> str:
    key = value.removesuffix(KMS_VERSION) if isinstance(value, str) else ""
    if not KMS_KEY.fullmatch(key):
        raise errors.invalid(f"Invalid value for kmsKeyName: {value!r} is not the name of a Cloud KMS key.")
    return key + KMS_VERSION


def _metadata(value: Any) -> dict[str, str | None] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str | None) for text in value.values()):
        raise errors.invalid("Invalid value for metadata: custom metadata are texts.")
    return value


def _retention(value: Any) -> dict[str, str] | None:
    if not value or (isinstance(value, dict) and not any(value.values())):  # Google's client removes field by field
        return None
    if not isinstance(value, dict) or value.get("mode") not in {"Locked", "Unlocked"}:
        raise errors.invalid("Invalid value for retention: mode is Locked or Unlocked.")
    until = moment(value.get("retainUntilTime"), "retention.retainUntilTime")
    if until - datetime.now(UTC) > timedelta(seconds=MAX_RETENTION):
        raise errors.invalid("Invalid value for retention: retainUntilTime is at most 100 years from now.")
    return {"mode": value["mode"], "retainUntilTime": timestamp(until)}


def check_size(metadata: dict[str, str]) -> None:
    """Refuse custom metadata over GCS's limits."""
    sizes = [(len(key.encode()), len(value.encode())) for key, value in metadata.items()]
    if any(key > MAX_KEY or value > MAX_VALUE for key, value in sizes):
        raise errors.invalid("A metadata key is at most 1 KiB, its value 4 KiB.", xml_code="MetadataTooLarge")
    if sum(key + value for key, value in sizes) > MAX_METADATA:
        raise errors.invalid("The total size of custom metadata exceeds 8 KiB.", xml_code="MetadataTooLarge")


def new(resource: Attributes, bucket: Attributes, *, created: str | None = None) -> Attributes:
    """Return the attributes of a new generation, from what its writer said and its bucket's defaults."""
    result = {key: value for key, value in writable_fields(resource).items() if value is not None}
    result["metadata"] = {key: value for key, value in result.get("metadata", {}).items() if value is not None}
    check_size(result["metadata"])
    if not result["metadata"]:
        del result["metadata"]
    if (merged := contexts.merged({}, result.pop("contexts", {}), now())) is not None:
        result["contexts"] = merged
    if "retention" in result:
        _check_retention(None, result["retention"], bucket, override=False)
    _check_acl(result, bucket)
    if "defaultObjectAcl" in bucket and not has_uniform_access(bucket):
        result.setdefault("acl", bucket["defaultObjectAcl"])
    if bucket.get("defaultEventBasedHold") and "eventBasedHold" not in resource:
        result["eventBasedHold"] = True
    _check_event_based_hold(result)
    result.setdefault("storageClass", bucket.get("storageClass", "STANDARD"))
    if key := bucket.get("encryption", {}).get("defaultKmsKeyName"):
        result.setdefault("kmsKeyName", key + KMS_VERSION)
    moment_ = created or now()
    for field in ("timeCreated", "updated", "timeStorageClassUpdated", "timeFinalized"):
        result[field] = moment_
    return result


def changed(
    old: Attributes, resource: Attributes, bucket: Attributes, *, replace: bool, override: bool = False
) -> Attributes:
    """Return the attributes after a patch, or (`replace`) after an update; `old` stays as it is.

    Raises:
        GcsError: the change is not allowed: customTime set back, retention shortened, the storage class by patch.
    """
    change = writable_fields(resource)
    _check_acl(change, bucket)
    if change.get("storageClass", old["storageClass"]) not in {None, old["storageClass"]}:
        raise errors.not_implemented("a change of storage class by patch or update; use rewrite")
    if change.pop("kmsKeyName", old.get("kmsKeyName")) != old.get("kmsKeyName"):
        raise errors.not_implemented("a change of kmsKeyName by patch or update; use rewrite")
    kept = (*OF_THE_SERVER, "storageClass")
    result = {key: value for key, value in old.items() if not replace or key in kept}
    for field, value in change.items():
        if field == "metadata":
            before = {} if replace or value is None else dict(result.get("metadata", {}))
            merged = before | (value or {})
            result["metadata"] = {key: text for key, text in merged.items() if text is not None}
        elif field == "contexts":
            before = {} if replace else result.get("contexts", {}).get("custom", {})
            result["contexts"] = contexts.merged(before, value, now())
        elif field != "storageClass":
            result[field] = value
    result = {key: value for key, value in result.items() if value is not None and value != {}}
    check_size(result.get("metadata", {}))
    _check_custom_time(old.get("customTime"), result.get("customTime"))
    _check_retention(old.get("retention"), result.get("retention"), bucket, override=override)
    _check_event_based_hold(result)
    if old.get("eventBasedHold") and not result.get("eventBasedHold"):
        result["retentionFrom"] = now()
    result["updated"] = now()
    return result


def has_uniform_access(bucket: Attributes) -> bool:
    """Return True if a bucket and its objects have no access control lists."""
    uniform = bucket.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
    return uniform.get("enabled") is True


def _check_acl(change: Attributes, bucket: Attributes) -> None:
    if change.get("acl") is not None and has_uniform_access(bucket):
        raise errors.invalid("Cannot set an ACL for an object when uniform bucket-level access is enabled.")


def _check_event_based_hold(attributes: Attributes) -> None:
    """Refuse what excludes each other: https://cloud.google.com/storage/docs/object-holds."""
    if attributes.get("eventBasedHold") and "retention" in attributes:
        raise errors.invalid("An object has no event-based hold together with a retention configuration.")


def _check_custom_time(old: str | None, new_: str | None) -> None:
    if old is None:
        return
    if new_ is None:
        raise errors.invalid("Custom time cannot be removed once it has been set on the object.")
    if moment(new_, "customTime") < moment(old, "customTime"):
        raise errors.invalid("Custom time cannot be set to an earlier time than it has.")


def _check_retention(
    old: dict[str, str] | None, new_: dict[str, str] | None, bucket: Attributes, *, override: bool
) -> None:
    if new_ == old:
        return
    if new_ and bucket.get("objectRetention", {}).get("mode") != "Enabled":
        raise errors.invalid("Object retention can be configured only where the bucket has it enabled.")
    if old is None:
        return
    shorter = new_ is None or moment(new_["retainUntilTime"], "") < moment(old["retainUntilTime"], "")
    other_mode = new_ is not None and old["mode"] != new_["mode"]
    if (shorter or other_mode) and (old["mode"] == "Locked" or not override):
        raise errors.GcsError(403, "retentionPolicyNotMet", "The object's retention can only be made longer.")


def retained_until(attributes: Attributes, bucket: Attributes) -> datetime | None:
    """Return until when neither a delete nor an overwrite is allowed, None where they are."""
    ends: list[datetime] = []
    policy = bucket.get("retentionPolicy")
    if policy and not attributes.get("eventBasedHold"):
        start = moment(attributes.get("retentionFrom", attributes["timeCreated"]), "timeCreated")
        ends.append(start + timedelta(seconds=int(policy["retentionPeriod"])))
    if "retention" in attributes:
        ends.append(moment(attributes["retention"]["retainUntilTime"], "retention.retainUntilTime"))
    return max(ends, default=None)
