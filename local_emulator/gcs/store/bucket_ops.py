"""What changes buckets, each as one operation of one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.conditions import Conditions
from local_emulator.gcs.model.resources import Bucket
from local_emulator.gcs.store import database, documents, versions, writes

if TYPE_CHECKING:
    from local_emulator.gcs.store.database import Op, Transaction


def save(tx: Transaction, bucket: Bucket) -> Bucket:
    """Store a bucket as it is now."""
    values = (bucket.name, bucket.metageneration, json.dumps(bucket.attributes))
    tx.connection.execute("INSERT OR REPLACE INTO buckets VALUES(?, ?, ?)", values)
    return bucket


def make(name: str, said: attributes.Attributes, *, if_absent: bool) -> Op[Bucket]:
    """Make a bucket; if there is one of that name, return it or refuse."""

    def op(tx: Transaction) -> Bucket:
        found = database.find_bucket(tx.connection, name)
        if found is not None:
            if if_absent:
                return found
            raise errors.conflict("Your previous request to create the named bucket succeeded and you already own it.")
        moment = attributes.now()
        defaults = {"location": "US", "locationType": "multi-region", "storageClass": "STANDARD"}
        return save(tx, Bucket(name, 1, defaults | said | {"timeCreated": moment, "updated": moment}))

    return op


def change(name: str, change: Callable[[Bucket], attributes.Attributes], conditions: Conditions) -> Op[Bucket]:
    """Change a bucket's attributes on its conditions."""

    def op(tx: Transaction) -> Bucket:
        old = writes.bucket_of(tx, name)
        conditions.check(0, old.metageneration, ())
        return save(tx, replace(old, metageneration=old.metageneration + 1, attributes=change(old)))

    return op


def drop(name: str, conditions: Conditions) -> Op[None]:
    """Remove an empty bucket and its folder."""

    def op(tx: Transaction) -> None:
        conditions.check(0, writes.bucket_of(tx, name).metageneration, ())
        query = "SELECT 1 FROM objects WHERE bucket = ? UNION SELECT 1 FROM retained WHERE bucket = ? AND ends IS NULL"
        one = tx.connection.execute(query, (name, name)).fetchone()
        if one or not tx.natural.prune(name):
            message = "The bucket you tried to delete is not empty."
            raise errors.conflict(message, xml_code="BucketNotEmpty")
        versions.forget(tx, name, ended=False)
        documents.forget(tx, name)
        tx.connection.execute("DELETE FROM buckets WHERE name = ?", (name,))

    return op
