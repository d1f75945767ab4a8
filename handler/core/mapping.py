"""What of an original its replica carries, and how equality is read off a replica."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC

from handler.core.errors import Refused
from handler.core.model import LONG_REWRITE, TIB, Headers, Lock, Original, Replica, Rule, Stamp
from handler.core.tags import TAG, tags_of

PROVENANCE = "s3-replica-"
"""Prefix of the custom metadata that says which state of which object a replica is."""
CHECK = PROVENANCE + "check"
"""Tells by which checksum the bytes were verified on their way; no part of equality."""
CRC32C = PROVENANCE + "crc32c"
"""The CRC32C of the bytes as they were written, base64: tells a copy whose bytes somebody replaced."""
EXPIRES = "s3-expires"
RESERVED = (PROVENANCE, TAG)
_BYTES = tuple(PROVENANCE + name for name in ("bucket", "etag", "size"))
"""What of the provenance names the bytes."""
_DEFAULT_TYPE = "application/octet-stream"
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
    contexts = None
    if rule.replicate_tags:
        tags, contexts = tags_of(original.tags, rule)
        metadata |= tags
    headers = original.headers
    if headers.content_encoding is not None:
        headers = headers._replace(content_encoding=_without_aws_chunked(headers.content_encoding))
    storage_class = storage_class_of(original, rule)
    metadata |= provenance_of(original, rule, digest_of(headers, metadata, storage_class, contexts))
    return Stamp(
        headers=headers,
        metadata=metadata,
        custom_time=original.last_modified,
        storage_class=storage_class,
        kms_key=rule.kms_key,
        contexts=contexts,
        lock=original.lock if rule.locks else None,
    )


def storage_class_of(original: Original, rule: Rule) -> str | None:
    """Return the GCS class that the rule asks for, None for the bucket's default."""
    return rule.storage_classes.get(original.storage_class, rule.storage_classes.get("*"))


def is_ours(replica: Replica, rule: Rule, key: str) -> bool:
    """Return True if this replicator put the replica there as the copy of `key` in the rule's source bucket.

    A replica that names no key is the copy of the key that equals its name.
    """
    metadata = replica.stamp.metadata
    copied = metadata.get(PROVENANCE + "key", rule.destination_key(key))
    return metadata.get(PROVENANCE + "bucket") == rule.source and copied == key


def made_by(replica: Replica) -> str | None:
    """Return the ID of the rule that the replica was made by, None if it names none."""
    return replica.stamp.metadata.get(PROVENANCE + "rule")


def is_equal(original: Original, replica: Replica, stamp: Stamp) -> bool:
    """Return True if the replica has the original's bytes and everything that `stamp` asks for.

    The bytes are the original's if a checksum of both sides agrees, or if the replica is of the same state of the
    original and its checksum is the one recorded when it was written. A destination without checksums is believed.
    The storage class and a later customTime are not compared: the destination's own lifecycle may change them.
    """
    return (
        has_same_bytes(original, replica, stamp)
        and has_same_attributes(replica.stamp, stamp)
        and (replica.crc32c in {None, replica.stamp.metadata.get(CRC32C)} or bool(_agreement(original, replica)))
    )


def has_same_bytes(original: Original, replica: Replica, stamp: Stamp) -> bool:
    """Return True if the replica's bytes are the original's: by a strong checksum, or by its provenance.

    Provenance is believed only while the bytes have the checksum that was recorded with it.
    """
    if not replica.exists or replica.size != original.size:
        return False
    if (agreement := _agreement(original, replica)) is not None:
        return agreement
    ours, wanted = replica.stamp.metadata, stamp.metadata
    known = {replica.crc32c, ours.get(CRC32C)} - {None}
    if len(known) > 1:
        return False
    return all(ours.get(name) == wanted[name] for name in _BYTES)


def _agreement(original: Original, replica: Replica) -> bool | None:
    """Return True if a checksum of both sides is the same, False if one differs, None if they have none in common."""
    agreement = None
    for ours, theirs in ((original.checksums.get("CRC32C"), replica.crc32c), (original.md5, replica.md5)):
        if ours is not None and theirs is not None:
            if ours != theirs:
                return False
            agreement = True
    return agreement


def has_same_attributes(actual: Stamp, wanted: Stamp) -> bool:
    """Return True if all is as wanted, but for a later customTime and another storage class."""
    return (
        wanted.kms_key in {None, actual.kms_key}
        and wanted.contexts in (None, actual.contexts or {})
        and (wanted.lock is None or wanted.lock.is_met_by(actual.lock or Lock()))
        and (actual.headers == wanted.headers or _comparable(actual.headers) == _comparable(wanted.headers))
        and _compared(actual.metadata) == _compared(wanted.metadata)
        and not is_earlier(actual, wanted)
    )


def is_earlier(one: Stamp, other: Stamp) -> bool:
    """Return True if the first customTime is earlier than the second; none at all is the earliest."""
    first, second = one.custom_time, other.custom_time
    return second is not None and (first is None or first < second)


def provenance(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the part of custom metadata that says which state of which key, by which rule, a replica is of."""
    return {name: value for name, value in _compared(metadata).items() if name.startswith(PROVENANCE)}


def before_rewrite(original: Original, replica: Replica, stamp: Stamp) -> Stamp:
    """Return what to patch first where `stamp` asks for a storage class or key whose rewrite may outlive an invocation.

    That is everything but the class, the key, the digest, and a lock, over which no rewrite could come. Headers and
    metadata are then right at once and do not wait for the rewrite, and the copy does not pass for equal before the
    rewrite is done. If only these are left to change, or if no long rewrite is to come, the result is `stamp` itself.
    """
    if not replica.stamp.is_rewritten_for(stamp) or original.size <= LONG_REWRITE:
        return stamp
    first = _undigested(replace(stamp, storage_class=None, kms_key=None, lock=None))
    return stamp if has_same_attributes(_undigested(replica.stamp), first) else first


def _undigested(stamp: Stamp) -> Stamp:
    metadata = {name: value for name, value in stamp.metadata.items() if name != PROVENANCE + "digest"}
    return replace(stamp, metadata=metadata)


def checked(stamp: Stamp, check: str, replica: Replica | None = None) -> Stamp:
    """Return the stamp with the name of the check that the bytes passed, and a record of their CRC32C.

    Args:
        stamp: what the copy carries.
        check: the check's name.
        replica: the copy that has the bytes already; None for bytes yet to be written, whose CRC32C the write records.
    """
    noted = replace(stamp, metadata={**stamp.metadata, CHECK: check}, crc32c_name=CRC32C)
    if replica is None:
        return noted
    return noted.recording(replica.crc32c) if replica.crc32c else replace(noted, crc32c_name="")


def standing_check(original: Original, replica: Replica) -> str:
    """Return the check that a replica's bytes have passed already: their own, or that both sides' checksums agree."""
    return replica.stamp.metadata.get(CHECK) or ("both sides" if _agreement(original, replica) else "none")


def provenance_of(original: Original, rule: Rule, digest: str) -> dict[str, str]:
    """Return the custom metadata that say which state of which key, by which rule, a copy is of."""
    fields = {
        "bucket": rule.source,
        "rule": rule.id,
        "etag": original.etag,
        "size": str(original.size),
        "last-modified": original.last_modified.astimezone(UTC).isoformat(),
        "digest": digest,
    }
    if rule.destination_key(original.key) != original.key:
        fields["key"] = original.key  # the name does not tell it, and several keys may have one name
    if original.version_id is not None:
        fields["version-id"] = original.version_id
    return {PROVENANCE + name: value for name, value in fields.items()}


def digest_of(
    headers: Headers, metadata: Mapping[str, str], storage_class: str | None, contexts: Mapping[str, str] | None
) -> str:
    """Return a digest of the mapped attributes: one metadata read settles equality whatever a store normalises."""
    attributes: list[object] = [headers, sorted(metadata.items()), storage_class]
    if contexts is not None:
        attributes.append(sorted(contexts.items()))
    return hashlib.sha256(json.dumps(attributes).encode()).hexdigest()[:32]


def _compared(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the custom metadata without what tells how and when the bytes were checked."""
    return {name: value for name, value in metadata.items() if name not in {CHECK, CRC32C}}


def _comparable(headers: Headers) -> tuple[str | None, ...]:
    """Return the headers as a store may hand them out: an empty one is none, and GCS's default is no Content-Type."""
    kind, *others = headers
    return (None if kind == _DEFAULT_TYPE else kind or None, *(value or None for value in others))


def _without_aws_chunked(encoding: str) -> str | None:
    """Return Content-Encoding less `aws-chunked`, which was of the upload to S3 and not of the object."""
    kept = [token.strip() for token in encoding.split(",") if token.strip().lower() not in {"aws-chunked", ""}]
    return ", ".join(kept) or None
