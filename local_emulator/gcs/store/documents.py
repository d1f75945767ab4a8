"""What belongs to a bucket or a project beside objects: IAM policies, notification configurations, HMAC keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

    from local_emulator.gcs.store.database import Op, Transaction

Document = dict[str, Any]


def all_of(connection: sqlite3.Connection, kind: str, owner: str) -> list[Document]:
    """Return the documents of a kind that a bucket or project has, in the order of their ids."""
    query = "SELECT body FROM documents WHERE kind = ? AND owner = ? ORDER BY id"
    return [json.loads(row[0]) for row in connection.execute(query, (kind, owner))]


def find(connection: sqlite3.Connection, kind: str, owner: str, name: str) -> Document | None:
    """Return one document, None where there is none."""
    query = "SELECT body FROM documents WHERE kind = ? AND owner = ? AND id = ?"
    row = connection.execute(query, (kind, owner, name)).fetchone()
    return None if row is None else json.loads(row[0])


def change(
    kind: str, owner: str, name: str, changed: Callable[[Document | None], Document | None]
) -> Op[Document | None]:
    """Replace a document by what `changed` makes of it; None is absence, before and after."""

    def op(tx: Transaction) -> Document | None:
        new = changed(find(tx.connection, kind, owner, name))
        tx.connection.execute("DELETE FROM documents WHERE kind = ? AND owner = ? AND id = ?", (kind, owner, name))
        if new is not None:
            values = kind, owner, name, json.dumps(new)
            tx.connection.execute("INSERT INTO documents VALUES(?, ?, ?, ?)", values)
        return new

    return op


def forget(tx: Transaction, bucket: str) -> None:
    """Remove all documents of a bucket."""
    tx.connection.execute("DELETE FROM documents WHERE owner = ?", (bucket,))
