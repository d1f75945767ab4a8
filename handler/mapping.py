"""What of an original its replica carries, and how equality is read off a replica."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from handler.errors import Refused
from handler.model import TIB, Headers, Original, Replica, Rule, Stamp

PROVENANCE = "s3-replica-"
"""Prefix of the custom metadata that says which state of which object a replica is."""
CHECK = PROVENANCE + "check"
"""Tells by which checksum the bytes were verified on their way; no part of equality."""
EXPIRES = "s3-expires"
TAG = "s3-tag-"
RESERVED = (PROVENANCE, TAG)
LARGEST = 5 * TIB
"""The largest object GCS has; S3's are larger."""


def stamp_of(original: Original, rule: Rule) -> Stamp:
    """Return everything but the bytes that a replica of `original` carries under `rule`.

    Raises:
        Refused: the object's own metadata uses a name that is kept for the replica's, or it is too large for any.
    """
    if original.size > LARGEST:
        raise Refused(f"{original.key!r} has {original.size} bytes, GCS holds up to 5 TiB", code="SrcObjectTooLarge")
    clash = next((name for name in original.user_metadata if name == EXPIRES or name.startswith(RESERVED)), None)
    if clash:
        raise Refused(
            f"the user metadata {clash!r} has a name that replicas use themselves ({', '.join((EXPIRES, *RESERVED))})",
            code="SrcMetadataReserved",
        )
    metadata = dict(original.user_metadata)
    if original.expires is not None:
        metadata[EXPIRES] = original.expires
    if rule.replicate_tags:
        metadata |= {TAG + name: value for name, value in original.tags.items()}
    headers = original.headers
    if headers.content_encoding is not None:
        headers = headers._replace(content_encoding=_without_aws_chunked(headers.content_encoding))
    storage_class = rule.storage_classes.get(original.storage_class, rule.storage_classes.get("*"))
    metadata |= _provenance(original, rule, _digest(headers, metadata, storage_class))
    return Stamp(headers=headers, metadata=metadata, custom_time=original.last_modified, storage_class=storage_class)


def is_ours(replica: Replica, rule: Rule, key: str) -> bool:
    """Whether this replicator put the replica there, from the rule's source bucket and, as far as it says, that key."""
    metadata = replica.stamp.metadata
    return metadata.get(PROVENANCE + "bucket") == rule.source and metadata.get(PROVENANCE + "key", key) == key


def is_of_state(replica: Replica, original: Original, rule: Rule) -> bool:
    """Whether the replica is of that state of the original as far as a listing tells: not by its version or tags."""
    wanted = _provenance(original, rule, "")
    del wanted[PROVENANCE + "digest"]
    return replica.size == original.size and wanted.items() <= replica.stamp.metadata.items()


def is_equal(original: Original, replica: Replica, stamp: Stamp) -> bool:
    """Whether the replica has the bytes of `original` and the metadata of `stamp`, by its provenance."""
    return (
        replica.exists
        and replica.size == original.size
        and not _contradicted(original, replica)
        and provenance(replica.stamp.metadata) == provenance(stamp.metadata)
    )


def has_same_bytes(original: Original, replica: Replica, stamp: Stamp) -> bool:
    """Whether the replica's bytes are the original's: by a strong checksum, or by its provenance."""
    if not replica.exists or replica.size != original.size or _contradicted(original, replica):
        return False
    if _agreed(original, replica):
        return True
    ours, wanted = provenance(replica.stamp.metadata), provenance(stamp.metadata)
    return all(ours.get(PROVENANCE + name) == wanted[PROVENANCE + name] for name in ("bucket", "etag", "size"))


def provenance(metadata: Mapping[str, str]) -> dict[str, str]:
    """The part of custom metadata that says which state a replica is of."""
    return {name: value for name, value in metadata.items() if name.startswith(PROVENANCE) and name != CHECK}


def with_check(stamp: Stamp, check: str) -> Stamp:
    """Return the stamp with the name of the check that the bytes passed."""
    return replace(stamp, metadata={**stamp.metadata, CHECK: check})


def standing_check(original: Original, replica: Replica) -> str:
    """Return the check that a replica's bytes have passed already: their own, or that both sides' checksums agree."""
    return replica.stamp.metadata.get(CHECK) or ("both sides" if _agreed(original, replica) else "none")


def _provenance(original: Original, rule: Rule, digest: str) -> dict[str, str]:
    fields = {
        "bucket": rule.source,
        "etag": original.etag,
        "size": str(original.size),
        "last-modified": _iso(original.last_modified),
        "digest": digest,
    }
    if rule.replace_prefix is not None:
        fields["key"] = original.key  # which the name does not tell, and which may not be the only one with it
    if original.version_id is not None:
        fields["version-id"] = original.version_id
    return {PROVENANCE + name: value for name, value in fields.items()}


def _digest(headers: Headers, metadata: Mapping[str, str], storage_class: str | None) -> str:
    """A digest of the mapped attributes, so that one metadata read settles equality whatever a store normalises."""
    canonical = json.dumps([headers, sorted(metadata.items()), storage_class])
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _agreed(original: Original, replica: Replica) -> bool:
    """Whether a strong checksum known on both sides is the same."""
    return any(ours is not None and ours == theirs for ours, theirs in _checksums(original, replica))


def _contradicted(original: Original, replica: Replica) -> bool:
    """Whether a checksum known on both sides differs."""
    return any(None not in pair and pair[0] != pair[1] for pair in _checksums(original, replica))


def _checksums(original: Original, replica: Replica) -> tuple[tuple[str | None, str | None], ...]:
    return (original.checksums.get("CRC32C"), replica.crc32c), (original.md5, replica.md5)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _without_aws_chunked(encoding: str) -> str | None:
    """Content-Encoding less `aws-chunked`, which was of the upload to S3 and not of the object."""
    kept = [token.strip() for token in encoding.split(",") if token.strip().lower() not in {"aws-chunked", ""}]
    return ", ".join(kept) or None
