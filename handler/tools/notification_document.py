"""The document in which S3 keeps a bucket's notifications: our entry, comparison, and overlaps with others' entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any
from urllib.parse import quote_plus, unquote_plus

LISTS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
"""S3's three lists of notifications, and the field of each that names the target."""
_UNENCODED = "/!-_.*'()"
"""Characters, besides letters and digits, that S3 stores in a filter as they are.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html"""

Json = dict[str, Any]


class NotificationError(Exception):
    """The notification cannot be as the template wants it; the message says why and what to do."""


def wanted_of(properties: Mapping[str, Any]) -> Json | None:
    """Return our notification as S3 stores it; None if EventBridge delivers."""
    if properties.get("Delivery") == "EventBridge":
        return None
    given = {"prefix": properties.get("Prefix", ""), "suffix": properties.get("Suffix", "")}
    rules = [{"Name": name, "Value": quote_plus(value, _UNENCODED)} for name, value in given.items() if value]
    filters = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    head = {"Id": properties["ConfigurationId"], "QueueArn": properties["QueueArn"]}
    return head | {"Events": sorted(properties["Events"])} | filters


def refuse_overlap(bucket: str, wanted: Json, others: Json) -> None:
    """Raise an error that names the notifications in the way, which S3's own answer does not."""
    clashes = [
        f"{entry.get('Id')!r} to {entry.get(LISTS[name])} ({', '.join(common)}; {_filter_text(entry)})"
        for name, entry in entries(others)
        if (common := _common(wanted["Events"], entry.get("Events", []))) and _filters_meet(wanted, entry)
    ]
    if clashes:
        raise NotificationError(
            f"S3 sends an event of a key to one destination only, and bucket {bucket} has notifications that overlap "
            f"with ours ({_filter_text(wanted)}): {'; '.join(clashes)}. Set EventDelivery to EventBridge, which "
            "delivers to any number of listeners, or narrow SourcePrefix or SourceSuffix, or remove that notification"
        )


def entries(configuration: Json) -> Iterator[tuple[str, Json]]:
    """Yield each notification of the three lists with the name of its list."""
    for name in LISTS:
        for entry in configuration.get(name, []):
            yield name, entry


def _common(ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """Return their event types that ours include or that include ours: `s3:ObjectCreated:*` includes each `Put`."""
    return sorted({their for our, their in product(ours, theirs) if _includes(our, their) or _includes(their, our)})


def _includes(kind: str, other: str) -> bool:
    return kind == other or (kind.endswith(":*") and other.startswith(kind[:-1]))


def _filters_meet(one: Json, two: Json) -> bool:
    """Return True if a key can have both prefixes and both suffixes."""
    (prefix, suffix), (other_prefix, other_suffix) = filter_of(one), filter_of(two)
    prefixes = prefix.startswith(other_prefix) or other_prefix.startswith(prefix)
    return prefixes and (suffix.endswith(other_suffix) or other_suffix.endswith(suffix))


def filter_of(entry: Json) -> tuple[str, str]:
    """Return the prefix and the suffix that a notification asks of keys, decoded as S3 decodes them."""
    prefix, suffix = _stored_filter(entry)
    return unquote_plus(prefix), unquote_plus(suffix)


def _stored_filter(entry: Json) -> tuple[str, str]:
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    values = {rule["Name"].lower(): rule.get("Value", "") for rule in rules}  # S3 answers with "Prefix"
    return values.get("prefix", ""), values.get("suffix", "")


def _filter_text(entry: Json) -> str:
    prefix, suffix = filter_of(entry)
    return f"keys {prefix}*{suffix}" if prefix or suffix else "all keys"


def is_same(one: Json, two: Json) -> bool:
    """Return True if two configurations mean the same; order and spelling do not count."""
    return _normal(one) == _normal(two)


def _normal(configuration: Json) -> object:
    rest = {name: value for name, value in configuration.items() if name not in LISTS}
    ordered = sorted(
        (name, str(entry.get("Id")), entry.get(LISTS[name]), sorted(entry.get("Events", [])), _stored_filter(entry))
        for name, entry in entries(configuration)
    )
    return rest, ordered
