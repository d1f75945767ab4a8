"""Resumable uploads that outlive the server: state in the database, bytes in a file, both safe before they are told."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import Conditions
from local_emulator.gcs.store.blobs import remove
from local_emulator.gcs.store.write_rate import Target
from local_emulator.gcs.store.writer import Writer

if TYPE_CHECKING:
    import sqlite3

    from local_emulator.gcs.store.database import Transaction
    from local_emulator.gcs.store.store import Store

LIFE = 7 * 24 * 3600.0
RESUMABLE = "resumable"
COLUMNS = "id, bucket, name, created, blob, persisted, crc, request, status, answer"


@dataclass
class Session:
    """One resumable upload; `status` is 0 while it is open, else what its end was, with its answer."""

    id: str
    bucket: str
    name: str
    created: float
    blob: str
    persisted: int
    crc: int
    request: dict[str, Any]
    status: int = 0
    answer: str = ""
    writer: Writer | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    receiving: asyncio.Task[None] | None = None

    def over(self) -> bool:
        """Return True if the session has ended, one way or another."""
        return self.status != 0

    @property
    def target(self) -> Target:
        """The object to be written, on the conditions that the session was begun with."""
        return Target(self.bucket, self.name, Conditions.of_json(self.request["conditions"]))

    @property
    def total(self) -> int | None:
        """The size of the object, if it was told."""
        total: int | None = self.request["total"]
        return total


class Sessions:
    """All resumable uploads of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, Session] = {}

    async def begin(self, target: Target, resource: dict[str, Any], total: int | None) -> Session:
        """Begin an upload whose conditions hold so far; it is durable before its URL is given out."""
        request = {"resource": resource, "conditions": asdict(target.conditions), "total": total}
        blob = self._store.layout.new_blob()
        session = Session(secrets.token_urlsafe(48), target.bucket, target.name, time.time(), blob, 0, 0, request)

        def op(tx: Transaction) -> None:
            tx.connection.execute(
                "INSERT INTO sessions VALUES(?, ?, ?, ?, ?, ?, 0, 0, ?, 0, '')",
                (session.id, session.bucket, session.name, RESUMABLE, session.created, blob, json.dumps(request)),
            )

        await self._store.commit(op)
        self._open[session.id] = session
        return session

    async def load(self, session_id: str) -> Session:
        """Return a session, begun by this process or by one before it.

        Raises:
            GcsError: there is none, or its week is over.
        """
        session = self._open.get(session_id)
        if session is None:
            row = await self._store.read(lambda connection: _find(connection, session_id))
            if row is None:
                raise errors.GcsError(404, "notFound", "No such upload session.")
            found = Session(*(*row[:7], json.loads(row[7]), *row[8:]))
            session = self._open.setdefault(session_id, found) if not found.status else found
        if time.time() - session.created > LIFE:
            raise errors.GcsError(410, "gone", "The upload session has expired.")
        return session

    async def writer(self, session: Session) -> Writer:
        """Return where this session's bytes go on; call it under the session's lock."""
        if session.writer is None:
            writer = Writer(
                self._store.layout, self._store.pool, name=session.blob, size=session.persisted, crc=session.crc
            )
            try:
                await self._store.run(writer.rehash)
            except BaseException:
                writer.close()
                raise
            session.writer = writer
        session.writer.open()
        return session.writer

    async def persist(self, session: Session) -> None:
        """Make all bytes taken so far durable, and only then let the session say that it has them."""
        writer = session.writer
        if writer is None:
            return
        await writer.flush()
        writer.close()
        size, crc = writer.size, writer.crc
        if size != session.persisted:
            statement = "UPDATE sessions SET persisted = ?, crc = ?, request = ? WHERE id = ? AND status = 0"
            values = (size, crc, json.dumps(session.request), session.id)
            await self._store.commit(lambda tx: tx.connection.execute(statement, values).rowcount)
        session.persisted, session.crc = size, crc

    def closing(self, session: Session, status: int, answer: str) -> Any:
        """Return the step that ends a session within the transaction that decides its end."""

        def then(tx: Transaction, _: object = None) -> None:
            statement = "UPDATE sessions SET status = ?, answer = ?, blob = '' WHERE id = ?"
            tx.connection.execute(statement, (status, answer, session.id))

        return then

    async def end(self, session: Session, status: int, answer: str) -> None:
        """End a session without an object; whoever asks later gets the same answer."""
        await self._store.commit(self.closing(session, status, answer))
        self.forget(session, status, answer)
        if session.writer is not None:
            await session.writer.discard()
        else:
            remove(self._store.layout.blob(session.blob))

    def forget(self, session: Session, status: int, answer: str) -> None:
        """Let go of an ended session; the database has its answer."""
        session.status, session.answer = status, answer
        self._open.pop(session.id, None)


def _find(connection: sqlite3.Connection, session_id: str) -> tuple[Any, ...] | None:
    query = f"SELECT {COLUMNS} FROM sessions WHERE id = ? AND kind = ?"  # noqa: S608 - constant column names
    row: tuple[Any, ...] | None = connection.execute(query, (session_id, RESUMABLE)).fetchone()
    return row
