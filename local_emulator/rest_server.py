"""The HTTP endpoint: serves the handler on a port, as its Function URL does in AWS."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from aiohttp import web
from multidict import CIMultiDict

from local_emulator.function_url import Request, answer_of, event_of
from local_emulator.settings import StartError

if TYPE_CHECKING:
    from types import TracebackType

    from local_emulator.context import Invoke

LARGEST_BODY = 6 * 1024 * 1024
"""Bytes: Lambda's limit for an event."""
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - named, so that it is not shown as an address to ask
PORT_ERRORS = {errno.EADDRINUSE, errno.EACCES}
"""What another port helps against."""

log = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """Take the port, so that a taken one is found before anything else is started.

    Raises:
        StartError: it cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {host!r}: {error.strerror}") from error
    except OSError as error:
        hint = " (--port 0 takes a free one)" if error.errno in PORT_ERRORS else ""
        raise StartError(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}{hint}") from error


def url_of(listener: socket.socket) -> str:
    """Return the URL by which a program on this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class RestServer:
    """Serves every path and method of a listening socket by calling the handler, in a thread while `with` lasts."""

    def __init__(self, listener: socket.socket, invoke: Invoke, *, concurrency: int) -> None:
        self._listener = listener
        self._invoke = invoke
        self._workers = ThreadPoolExecutor(concurrency, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._thread.join()

    def _run(self) -> None:
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.SockSite(runner, self._listener).start())
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _serve(self, request: web.Request) -> web.Response:
        event = event_of(
            Request(
                method=request.method,
                path=request.rel_url.raw_path,
                query=request.rel_url.raw_query_string,
                headers={name.lower(): ",".join(request.headers.getall(name)) for name in request.headers},
                cookies=tuple(f"{name}={value}" for name, value in request.cookies.items()),
                body=await request.read(),
                client=request.remote or "",
            )
        )
        try:
            answer = answer_of(await self._loop.run_in_executor(self._workers, self._invoke, event))
        except Exception as error:
            log.warning("the handler raised: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
            return web.Response(status=502, text="Internal Server Error")
        return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))
