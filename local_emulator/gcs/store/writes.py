"""What changes objects, each as one operation of one transaction: conditions, holds, retention, then the change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.resources import Bucket, Stored, carried_over
from local_emulator.gcs.store import versions
from local_emulator.gcs.store.blobs import Blob
from local_emulator.gcs.store.database import Op, Transaction, find_bucket
from local_emulator.gcs.store.write_rate import Limit, Target


def bucket_of(tx: Transaction, name: str) -> Bucket:
    """Return the bucket, which must exist."""
    bucket = find_bucket(tx.connection, name)
    if bucket is None:
        raise errors.no_bucket()
    return bucket


def existing(tx: Transaction, target: Target) -> Stored:
    """Return the generation that a call is about, its conditions checked."""
    live = tx.live(target.bucket, target.name)
    found = versions.addressed(tx.connection, live, target.bucket, target.name, target.generation)
    return judged(found, live, target)


def judged(found: Stored | None, live: Stored | None, target: Target, *, reading: bool = False) -> Stored:
    """Return the generation that was found for a call, its conditions checked.

    A condition on the generation is on the live one, even where the call names another.
    """
    if found is None:
        raise errors.no_object(target.bucket, target.name)
    current = live.generation if live else 0
    target.conditions.check(current, found.metageneration, found.etags, reading=reading)
    return found


def replaceable(tx: Transaction, target: Target, bucket: Bucket) -> Stored | None:
    """Return what a write to this name replaces, its conditions, holds and retention checked."""
    found = tx.live(target.bucket, target.name)
    if found is None:
        target.conditions.check(0, 0, ())
        return None
    target.conditions.check(found.generation, found.metageneration, found.etags)
    check_unprotected(found, bucket, permanently=False)
    return found


def check_unprotected(found: Stored, bucket: Bucket, *, permanently: bool = True) -> None:
    """Refuse to delete or overwrite what a hold or retention protects.

    An object's own retention lets it become noncurrent: https://cloud.google.com/storage/docs/object-lock.
    """
    for field, kind in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if found.attributes.get(field):
            raise errors.held(found.bucket, found.name, kind)
    is_kept = found.live and versions.enabled(bucket) and not permanently
    said = {name: value for name, value in found.attributes.items() if not (is_kept and name == "retention")}
    until = attributes.retained_until(said, bucket.attributes)
    if until is not None and until > datetime.now(UTC):
        raise errors.retained(found.bucket, found.name, attributes.timestamp(until))


def made(tx: Transaction, target: Target, blob: Blob, said: attributes.Attributes) -> Stored:
    """Return a new generation of `target` that is not stored yet."""
    return Stored(
        target.bucket, target.name, tx.next_generation(), 1, blob.name, blob.size, blob.crc32c, blob.md5, blob.inode,
        blob.mtime, placed=False, attributes=said,
    )  # fmt: skip


def put(  # noqa: PLR0913 - what a write consists of
    target: Target,
    blob: Blob,
    resource: attributes.Attributes,
    *,
    server: attributes.Attributes | None = None,
    limit: Limit | None = None,
    then: Callable[[Transaction, Stored], None] | None = None,
) -> Op[Stored]:
    """Store a new generation; `then` joins its transaction."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        old = replaceable(tx, target, bucket)
        said = attributes.new(resource, bucket.attributes) | (server or {})
        if limit:
            limit(tx, target, bucket)
        kept = old is not None and versions.retire(tx, old, bucket)
        new = tx.put(made(tx, target, blob, said), old, keep_blob=kept)
        if then:
            then(tx, new)
        return new

    return op


def patch(
    target: Target, resource: attributes.Attributes, *, whole: bool, override: bool, limit: Limit | None = None
) -> Op[Stored]:
    """Change an object's metadata; `whole` replaces them."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        old = existing(tx, target)
        said = attributes.changed(old.attributes, resource, bucket.attributes, replace=whole, override=override)
        if limit:
            limit(tx, target, bucket)
        return changed(tx, old, said)

    return op


def changed(tx: Transaction, old: Stored, said: attributes.Attributes) -> Stored:
    """Give a live or noncurrent generation other attributes: its metageneration grows."""
    new = replace(old, metageneration=old.metageneration + 1, attributes=said)
    return tx.put(new, old) if old.live else versions.change(tx, new)


def delete(target: Target, *, limit: Limit | None = None) -> Op[None]:
    """Remove the live generation, which a versioned bucket keeps as noncurrent, or the generation that is named."""

    def op(tx: Transaction) -> None:
        bucket = bucket_of(tx, target.bucket)
        old = existing(tx, target)
        check_unprotected(old, bucket, permanently=target.generation is not None)
        if limit:
            limit(tx, target, bucket)
        remove(tx, old, bucket, permanently=target.generation is not None)

    return op


def remove(tx: Transaction, old: Stored, bucket: Bucket, *, permanently: bool) -> None:
    """Remove a live or noncurrent generation; see `versions.retire`."""
    if old.live:
        tx.drop(old, keep_blob=versions.retire(tx, old, bucket, permanently=permanently))
    else:
        versions.drop(tx, old, bucket)


def compose(  # noqa: PLR0913 - each is one part of the call
    target: Target,
    blob: Blob,
    resource: attributes.Attributes,
    sources: list[Stored],
    *,
    delete_sources: bool,
    limit: Limit | None = None,
) -> Op[Stored]:
    """Store the bytes of `sources`, already concatenated in `blob`; if asked to, remove these for good."""
    count = sum(source.attributes.get("componentCount", 1) for source in sources)

    def then(tx: Transaction, new: Stored) -> None:
        bucket = bucket_of(tx, target.bucket)
        for name in {source.name: source for source in sources} if delete_sources else ():
            if name == new.name:
                continue
            old = tx.live(target.bucket, name)
            if old is not None and any(old.generation == source.generation for source in sources):
                check_unprotected(old, bucket)
                tx.drop(old)

    return put(target, blob, resource, server={"componentCount": count}, limit=limit, then=then)


def restore(target: Target, blob: Blob, old: Stored, *, limit: Limit | None = None) -> Op[Stored]:
    """Store the bytes of a soft-deleted generation, already copied to `blob`, with its metadata, as a new one."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        replaced = replaceable(tx, target, bucket)
        if limit:
            limit(tx, target, bucket)
        times = dict.fromkeys(("timeCreated", "timeFinalized", "updated", "timeStorageClassUpdated"), attributes.now())
        gone = {"timeDeleted", "softDeleteTime", "hardDeleteTime"}
        said = {key: value for key, value in old.attributes.items() if key not in gone} | times
        kept = replaced is not None and versions.retire(tx, replaced, bucket)
        return tx.put(made(tx, target, blob, said), replaced, keep_blob=kept)

    return op


def copied(
    source: Stored, resource: attributes.Attributes, *, keep: bool
) -> tuple[attributes.Attributes, attributes.Attributes]:
    """Return what a copy says of itself: what it takes along, and what only the server may set."""
    kept = carried_over(source.attributes)
    said = {name: kept[name] for name in kept if name == "contexts" or keep or not resource} | resource
    count = source.attributes.get("componentCount")
    return said, ({"componentCount": count} if count else {})


def move(source: Target, target: Target, *, limit: Limit | None = None) -> Op[Stored]:
    """Give an object another name in its bucket; the bytes stay where they are."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        if versions.enabled(bucket) or versions.soft_delete_seconds(bucket):
            raise errors.not_implemented("a move in a bucket with object versioning or soft delete")
        moved = existing(tx, source)
        old = replaceable(tx, target, bucket)
        check_unprotected(moved, bucket)
        if limit:
            limit(tx, target, bucket)
        if source.name == target.name:
            raise errors.invalid("The source and the destination of a move are one object.")
        tx.drop(moved, keep_blob=True)
        new = replace(
            moved, name=target.name, generation=tx.next_generation(), metageneration=1, placed=False,
            attributes=moved.attributes | {"updated": attributes.now()},
        )  # fmt: skip
        return tx.put(new, old)

    return op
