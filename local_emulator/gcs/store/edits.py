"""What a person does to the files in the folder, taken over into the database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from local_emulator.gcs.model import attributes, errors
from local_emulator.gcs.model.resources import Stored
from local_emulator.gcs.store import database, versions, writes
from local_emulator.gcs.store.write_rate import Target

if TYPE_CHECKING:
    from local_emulator.gcs.store.blobs import Blob
    from local_emulator.gcs.store.database import Op, Transaction


def take_over(bucket: str, name: str, adopted: Blob | None) -> Op[bool]:
    """Make the database follow a natural file; tell whether it does now."""

    def op(tx: Transaction) -> bool:
        try:
            tx.live(bucket, name)
        except errors.Stale:
            found = database.find_object(tx.connection, bucket, name)
        else:
            return True
        if adopted is None:
            gone = tx.natural.fingerprint(bucket, name) is None
            if gone and found is not None:
                tx.drop(found, keep_blob=_retire(tx, found))
            return gone
        if tx.natural.fingerprint(bucket, name) != (adopted.inode, adopted.mtime, adopted.size):
            tx.garbage.append(adopted.name)
            return False
        said = attributes.new({}, writes.bucket_of(tx, bucket).attributes)
        new = writes.made(tx, Target(bucket, name), adopted, said)
        tx.put(replace(new, placed=True), found, keep_blob=found is not None and _retire(tx, found))
        return True

    return op


def _retire(tx: Transaction, found: Stored) -> bool:
    """Keep what a person replaced or removed as the bucket says, unless the bytes themselves were changed."""
    return tx.natural.is_intact(found) and versions.retire(tx, found, writes.bucket_of(tx, found.bucket))
