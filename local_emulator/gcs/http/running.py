"""Runs the GCS server: in a thread of a program, or until a program is told to end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from local_emulator.gcs.http.server import LOG, RequestHandler, Server
from local_emulator.gcs.store.store import Store

READ_BUFFER = 32 << 10
SHUTDOWN = 0.2


async def start(store: Store, host: str, port: int) -> tuple[web.ServerRunner, str]:
    """Begin to answer; return what to clean up, and the URL."""
    server = Server(
        RequestHandler(store).handle, access_log=None, read_bufsize=READ_BUFFER, auto_decompress=False,
        max_line_size=32 << 10, max_field_size=32 << 10, logger=LOG,
    )  # fmt: skip
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=512).start()
    address = runner.addresses[0]
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    return runner, f"http://{name}:{address[1]}"


class GcsServer:
    """A GCS server over a folder, in a thread of its own; use it in a `with`.

    Where `bucket` is given the folder is that one bucket, with objects at `<folder>/<key>`; otherwise each bucket is a
    folder in it, with objects at `<folder>/<bucket>/<key>`. Loopback and a free port unless told otherwise.
    `one_write_a_second` makes it refuse (429) more than one write a second of one name, as GCS does. `clock` returns
    seconds since 1970; that limit, the end of soft delete, and lifecycle rules go by it.
    """

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        folder: Path | str,
        bucket: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        one_write_a_second: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder)
        self.bucket = bucket
        self.url = ""
        self._where = host, port
        self._open = partial(Store, one_write_a_second=one_write_a_second, clock=clock)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    def start(self) -> Self:
        """Begin to answer; returns when `url` does.

        Raises:
            RuntimeError: another server works in this folder.
            OSError: the port is taken, or the folder cannot be written to.
        """
        started: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="gcs-server", daemon=True)
        self._thread.start()
        self.url = started.result()
        return self

    def stop(self) -> None:
        """Answer no more, and let go of the folder."""
        if self._thread is None or self._loop is None or self._stopped is None:
            return
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, started: Future[str]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[str]) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        await serve(self._open(self.folder, self.bucket), self._where, started.set_result, self._stopped)


async def serve(store: Store, where: tuple[str, int], ready: Callable[[str], Any], stopped: asyncio.Event) -> None:
    """Answer requests until `stopped`, then close the store; `ready` is called with the URL."""
    try:
        runner, url = await start(store, *where)
        try:
            ready(url)
            await stopped.wait()
        finally:
            await runner.cleanup()
    finally:
        store.close()
