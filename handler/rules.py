"""Replication rules, in the shape of S3's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from handler.core.model import Rule

_FIELDS = {"ID", "Priority", "Status", "Filter", "Prefix", "DeleteMarkerReplication", "Destination", "Source"}
_SOURCE_FIELDS = {"Bucket", "Account"}
_DESTINATION_FIELDS = {"Bucket", "StorageClass", "ReplaceKeyPrefixWith", "Tags"}
_DESTINATION_FIELDS |= {"EncryptionConfiguration", "ObjectLock"}
_NO_PART: Mapping[str, Any] = {}
"""Stands for a part of a rule that is not there."""
_ACCOUNT = re.compile(r"[0-9]{12}")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_GCS_CLASSES = {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"}


def rules_of(text: str, faults: list[str]) -> tuple[Rule, ...]:
    """Read rules in the shape of S3's ReplicationConfiguration, and add what is wrong with them to `faults`.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ReplicationRule.html, with `Source.Bucket` and
    `Source.Account` added and `Destination.Bucket` a URL: `gs://bucket/prefix` or `file:///folder`.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        faults.append(f"REPLICATION_RULES is not JSON: {error}")
        return ()
    if not isinstance(document, list) or not document:
        faults.append("REPLICATION_RULES must be a list of one rule or more")
        return ()
    rules = [_RuleReader(index, item, faults).read() for index, item in enumerate(document)]
    ids = Counter(rule.id for rule in rules if rule)
    faults += [f"two rules have the ID {name!r}" for name, count in sorted(ids.items()) if count > 1]
    accounts = {(rule.source, rule.account) for rule in rules if rule and rule.account}
    buckets = Counter(bucket for bucket, _ in accounts)
    faults += [f"rules give the bucket {name!r} more than one Source.Account" for name, n in buckets.items() if n > 1]
    return tuple(rule for rule in rules if rule)


def is_account(text: str) -> bool:
    """Return True for the 12 digits of an AWS account."""
    return bool(_ACCOUNT.fullmatch(text))


class _RuleReader:
    """Reads one rule, noting each fault with the rule's place and the field's name."""

    def __init__(self, index: int, document: object, faults: list[str]) -> None:
        self._document = document
        self._place = f"rule {index + 1}"
        self._faults = faults

    def read(self) -> Rule | None:
        if not isinstance(self._document, Mapping):
            self._fault("", f"must be an object, not {_kind(self._document)}")
            return None
        before = len(self._faults)
        rule = self._document
        id_ = self._text(rule, "ID") if "ID" in rule else ""
        self._place += f" ({id_})" if id_ else ""
        self._unknown(rule, "", _FIELDS)
        source = self._part(rule, "Source", required=True)
        self._unknown(source, "Source.", _SOURCE_FIELDS)
        destination = self._part(rule, "Destination", required=True)
        self._unknown(destination, "Destination.", _DESTINATION_FIELDS)
        tagging = self._part(destination, "Tags")
        self._unknown(tagging, "Destination.Tags.", {"Status", "As"})
        locking = self._part(destination, "ObjectLock")
        self._unknown(locking, "Destination.ObjectLock.", {"Status"})
        prefix, tags = self._filter(rule)
        location, destination_prefix = self._location(destination)
        read = Rule(
            id=id_,
            source=self._text(source, "Bucket", "Source."),
            account=self._account(source),
            destination=location,
            destination_prefix=destination_prefix,
            priority=self._priority(rule),
            enabled=self._enabled(rule, "Status", ""),
            prefix=prefix,
            tags=tags,
            deletes=self._enabled(self._part(rule, "DeleteMarkerReplication"), "Status", "DeleteMarkerReplication."),
            replace_prefix=self._replacement(destination),
            storage_classes=self._storage_classes(destination),
            replicate_tags=self._enabled(tagging, "Status", "Destination.Tags.", default=False),
            tags_as_contexts=self._as_contexts(tagging),
            locks=self._enabled(locking, "Status", "Destination.ObjectLock.", default=False),
            kms_key=self._kms_key(destination),
        )
        return _named(read) if len(self._faults) == before else None

    def _fault(self, name: str, what: str) -> None:
        self._faults.append(f"{self._place}: {name} {what}" if name else f"{self._place} {what}")

    def _unknown(self, part: Mapping[str, Any], place: str, known: set[str]) -> None:
        for name in part:
            if name not in known:
                self._fault(place + name, f"is not a field; there are {', '.join(sorted(known))}")

    def _part(self, rule: Mapping[str, Any], name: str, *, required: bool = False) -> Mapping[str, Any]:
        part = rule.get(name)
        if part is None and not required:
            return _NO_PART
        if not isinstance(part, Mapping):
            self._fault(name, "is missing" if part is None else f"must be an object, not {_kind(part)}")
            return _NO_PART
        return part

    def _text(self, part: Mapping[str, Any], name: str, place: str = "", *, default: str | None = None) -> str:
        value = part.get(name, default)
        if isinstance(value, str) and value:
            return value
        if part is not _NO_PART:  # its own absence is a fault already
            self._fault(place + name, "is missing" if value is None else "must be text that is not empty")
        return ""

    def _account(self, source: Mapping[str, Any]) -> str | None:
        value = source.get("Account")
        if value is None or (isinstance(value, str) and is_account(value)):
            return value
        self._fault("Source.Account", f"must be an AWS account's 12 digits as text, not {value!r}")
        return None

    def _priority(self, rule: Mapping[str, Any]) -> int:
        value = rule.get("Priority", 0)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._fault("Priority", f"must be a whole number, not {_kind(value)}")
        return 0

    def _enabled(self, part: Mapping[str, Any], name: str, place: str, *, default: bool = True) -> bool:
        value = part.get(name)
        if value is None:
            return default
        if value == "Enabled" or value == "Disabled":  # noqa: PLR1714 - a set cannot be asked for what has no hash
            return bool(value == "Enabled")
        self._fault(place + name, f'must be "Enabled" or "Disabled", not {value!r}')
        return default

    def _filter(self, rule: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """Filter is one of Prefix, Tag, And; S3's older form has Prefix in the rule itself."""
        part = self._part(rule, "Filter")
        self._unknown(part, "Filter.", {"Prefix", "Tag", "And"})
        if len(part) > 1:
            self._fault("Filter", "takes one of Prefix, Tag, And; put several conditions into And")
        both = self._part(part, "And") if "And" in part else part
        if "And" in part:
            self._unknown(both, "Filter.And.", {"Prefix", "Tags"})
        prefix = both.get("Prefix", rule.get("Prefix", ""))
        if not isinstance(prefix, str):
            self._fault("Filter.Prefix", f"must be text, not {_kind(prefix)}")
            prefix = ""
        listed = both.get("Tags", []) if "And" in part else [part["Tag"]] if "Tag" in part else []
        return prefix, self._tags(listed)

    def _tags(self, listed: object) -> dict[str, str]:
        tags: dict[str, str] = {}
        for tag in listed if isinstance(listed, list) else [listed]:
            match tag:
                case {"Key": str(name), "Value": str(value)}:
                    tags[name] = value
                case _:
                    self._fault("Filter", 'has a tag that is not {"Key": text, "Value": text}')
        return tags

    def _location(self, destination: Mapping[str, Any]) -> tuple[str, str]:
        """Split the URL into where copies go and what comes before each key."""
        text = self._text(destination, "Bucket", "Destination.")
        if not text:
            return "", ""
        try:
            url = urlsplit(text)
        except ValueError:  # brackets that are no IPv6 address
            url = urlsplit("")
        if url.scheme == "gs" and url.netloc and not url.query and not url.fragment:
            prefix = url.path.strip("/")
            return f"gs://{url.netloc}", f"{prefix}/" if prefix else ""
        if url.scheme == "file" and not url.netloc and url.path.startswith("/") and url.path != "/":
            return f"file://{unquote(url.path)}", ""
        self._fault("Destination.Bucket", f"must be gs://bucket, gs://bucket/prefix or file:///folder, not {text!r}")
        return "", ""

    def _replacement(self, destination: Mapping[str, Any]) -> str | None:
        value = destination.get("ReplaceKeyPrefixWith")
        if value is None or isinstance(value, str):
            return value
        self._fault("Destination.ReplaceKeyPrefixWith", f"must be text, not {_kind(value)}")
        return None

    def _as_contexts(self, tagging: Mapping[str, Any]) -> bool:
        value = tagging.get("As", "Metadata")
        if value == "Metadata" or value == "Contexts":  # noqa: PLR1714 - a set cannot be asked for what has no hash
            return bool(value == "Contexts")
        self._fault("Destination.Tags.As", f'must be "Metadata" or "Contexts", not {value!r}')
        return False

    def _kms_key(self, destination: Mapping[str, Any]) -> str | None:
        place = "Destination.EncryptionConfiguration."
        part = self._part(destination, "EncryptionConfiguration")
        self._unknown(part, place, {"ReplicaKmsKeyID"})
        if part is _NO_PART:
            return None
        key = self._text(part, "ReplicaKmsKeyID", place)
        if key and not _KMS_KEY.fullmatch(key):
            shape = "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
            self._fault(f"{place}ReplicaKmsKeyID", f"must be a Cloud KMS key, {shape}, not {key!r}")
        return key

    def _storage_classes(self, destination: Mapping[str, Any]) -> dict[str, str]:
        """One class for every object, or a map from S3's classes, in which "*" is for the rest."""
        value = destination.get("StorageClass", {})
        classes = {"*": value} if isinstance(value, str) else value
        if not isinstance(classes, dict):
            self._fault("Destination.StorageClass", f"must be a GCS class or a map to them, not {_kind(value)}")
            return {}
        for name in classes.values():
            if not isinstance(name, str) or name not in _GCS_CLASSES:
                self._fault(
                    "Destination.StorageClass", f"must be one of {', '.join(sorted(_GCS_CLASSES))}, not {name!r}"
                )
        return classes


def _named(rule: Rule) -> Rule:
    """Return the rule with an ID, made of what it replicates where it has none.

    Copies name the rule that made them, so an ID must not go to another rule when rules are put into another order.
    """
    if rule.id:
        return rule
    route: list[object] = [rule.source, rule.prefix, sorted(rule.tags.items())]
    route += [rule.destination, rule.destination_prefix, rule.replace_prefix]
    return replace(rule, id=f"rule-{hashlib.sha256(json.dumps(route).encode()).hexdigest()[:8]}")


def _kind(value: object) -> str:
    """What JSON calls it."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
