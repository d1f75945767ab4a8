"""What changes objects, each as one operation of one transaction: conditions, holds, retention, then the change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from local_emulator.gcs import attributes, errors
from local_emulator.gcs.blobs import Blob
from local_emulator.gcs.conditions import NONE, Conditions
from local_emulator.gcs.database import Op, Transaction, find_bucket
from local_emulator.gcs.resources import Bucket, Stored


@dataclass(frozen=True)
class Target:
    """The name that a call is about, and what must hold of it."""

    bucket: str
    name: str
    conditions: Conditions = NONE
    generation: int | None = None


class Pace:
    """GCS's limit of one write a second of one name; used by the committer's thread only."""

    def __init__(self, *, always: bool) -> None:
        self.always = always
        self._last: dict[tuple[str, str], float] = {}

    def check(self, target: Target) -> None:
        """Refuse a second write within a second, and remember this one."""
        now, key = time.monotonic(), (target.bucket, target.name)
        if now - self._last.get(key, -10.0) < 1.0:
            raise errors.too_fast(target.bucket, target.name)
        if len(self._last) > 100_000:
            self._last = {key: moment for key, moment in self._last.items() if now - moment < 1.0}
        self._last[key] = now


def bucket_of(tx: Transaction, name: str) -> Bucket:
    """Return the bucket, which must exist."""
    bucket = find_bucket(tx.connection, name)
    if bucket is None:
        raise errors.no_bucket()
    return bucket


def existing(tx: Transaction, target: Target) -> Stored:
    """Return the object that a call is about, its conditions checked."""
    found = tx.live(target.bucket, target.name)
    if found is None or target.generation not in {None, found.generation}:
        raise errors.no_object(target.bucket, target.name)
    target.conditions.check(found.generation, found.metageneration, found.etag)
    return found


def replaceable(tx: Transaction, target: Target, bucket: Bucket) -> Stored | None:
    """Return what a write to this name replaces, its conditions, holds and retention checked."""
    found = tx.live(target.bucket, target.name)
    if found is None:
        target.conditions.check(0, 0, "")
        return None
    target.conditions.check(found.generation, found.metageneration, found.etag)
    check_unprotected(found, bucket)
    return found


def check_unprotected(found: Stored, bucket: Bucket) -> None:
    """Refuse to delete or overwrite what a hold or retention protects."""
    for field, kind in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if found.attributes.get(field):
            raise errors.held(found.bucket, found.name, kind)
    until = attributes.retained_until(found.attributes, bucket.attributes)
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
    pace: Pace | None = None,
    then: Callable[[Transaction, Stored], None] | None = None,
) -> Op[Stored]:
    """Store a new generation; `then` joins its transaction."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        old = replaceable(tx, target, bucket)
        said = attributes.new(resource, bucket.attributes) | (server or {})
        if pace:
            pace.check(target)
        new = tx.put(made(tx, target, blob, said), old)
        if then:
            then(tx, new)
        return new

    return op


def patch(
    target: Target, resource: attributes.Attributes, *, whole: bool, override: bool, pace: Pace | None = None
) -> Op[Stored]:
    """Change an object's metadata; `whole` replaces them."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        old = existing(tx, target)
        said = attributes.changed(old.attributes, resource, bucket.attributes, replace=whole, override=override)
        if pace:
            pace.check(target)
        return tx.put(replace(old, metageneration=old.metageneration + 1, attributes=said), old)

    return op


def delete(target: Target, *, pace: Pace | None = None) -> Op[None]:
    """Remove an object."""

    def op(tx: Transaction) -> None:
        bucket = bucket_of(tx, target.bucket)
        old = existing(tx, target)
        check_unprotected(old, bucket)
        if pace:
            pace.check(target)
        tx.drop(old)

    return op


def compose(  # noqa: PLR0913 - each is one part of the call
    target: Target,
    blob: Blob,
    resource: attributes.Attributes,
    sources: list[Stored],
    *,
    delete_sources: bool,
    pace: Pace | None = None,
) -> Op[Stored]:
    """Store the bytes of `sources`, already concatenated in `blob`, and remove these if asked to."""
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

    return put(target, blob, resource, server={"componentCount": count}, pace=pace, then=then)


def copied(source: Stored, resource: attributes.Attributes | None) -> tuple[dict[str, Any], attributes.Attributes]:
    """Return what a copy says of itself: what it takes along, and what only the server may set."""
    from local_emulator.gcs.resources import carried_over

    said = dict(resource) if resource else carried_over(source.attributes)
    count = source.attributes.get("componentCount")
    return said, ({"componentCount": count} if count else {})


def move(source: Target, target: Target, *, pace: Pace | None = None) -> Op[Stored]:
    """Give an object another name in its bucket; the bytes stay where they are."""

    def op(tx: Transaction) -> Stored:
        bucket = bucket_of(tx, target.bucket)
        moved = existing(tx, source)
        old = replaceable(tx, target, bucket)
        check_unprotected(moved, bucket)
        if pace:
            pace.check(target)
        if source.name == target.name:
            raise errors.invalid("The source and the destination of a move are one object.")
        tx.drop(moved, keep_blob=True)
        new = replace(
            moved, name=target.name, generation=tx.next_generation(), metageneration=1, placed=False,
            attributes=moved.attributes | {"updated": attributes.now()},
        )  # fmt: skip
        return tx.put(new, old)

    return op
