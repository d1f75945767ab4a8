"""Equality as far as listings tell it, which bring many objects a request and not all of any."""

from __future__ import annotations

import base64

from handler.core import mapping
from handler.core.model import Original, Replica, Rule


def is_of_state(replica: Replica, original: Original, rule: Rule) -> bool:
    """Return True if a listing's entry for the replica shows it to be equal to a listing's entry for the original.

    S3's listings have neither tags, nor headers, nor checksums other than the ETag. So this trusts the digest that the
    replica carries, and checks that the replica's own headers, metadata and bytes still are what was digested and
    recorded. False means only that the listings cannot tell, as S3's do not of locks.
    """
    if rule.locks:
        return False
    metadata = replica.stamp.metadata
    own = {name: value for name, value in metadata.items() if not name.startswith(mapping.PROVENANCE)}
    contexts = (replica.stamp.contexts or {}) if rule.replicate_tags and rule.tags_as_contexts else None
    digest = mapping.digest_of(replica.stamp.headers, own, mapping.storage_class_of(original, rule), contexts)
    found = mapping.provenance(metadata)
    found.pop(mapping.PROVENANCE + "version-id", None)
    is_recorded = replica.crc32c is not None and replica.crc32c == metadata.get(mapping.CRC32C)
    is_md5 = replica.md5 is not None and base64.b64decode(replica.md5).hex() == original.etag
    is_same_state = replica.size == original.size and found == mapping.provenance_of(original, rule, digest)
    is_same_state = is_same_state and rule.kms_key in {None, replica.stamp.kms_key}
    return is_same_state and (is_recorded or is_md5)


def copied_from(replica: Replica) -> str | None:
    """Return the source bucket that the replica is a copy from, None if it names none: then it is not ours."""
    return replica.stamp.metadata.get(mapping.PROVENANCE + "bucket")


def key_named(replica: Replica) -> str | None:
    """Return the key that the replica names as its original's, None if it names none: then the key is its name."""
    return replica.stamp.metadata.get(mapping.PROVENANCE + "key")
