"""The HTTP server: every request finds its call, its planned fault and its answer here."""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web

from local_emulator.gcs.http import routes
from local_emulator.gcs.http.calls import BodyBroken, Call, ConnectionReset, StreamBroken, reset, split_target
from local_emulator.gcs.http.faults import Faults, PlannedFault
from local_emulator.gcs.model import errors
from local_emulator.gcs.store.sessions import Sessions
from local_emulator.gcs.store.store import Store

LOG = logging.getLogger("local_emulator.gcs")


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, whose own refusals of bad HTTP are GCS's JSON too."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or what a handler could not answer."""
        LOG.debug("%s: %s", status, message, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        error = errors.invalid("Bad Request", status=status) if status < 500 else errors.backend()
        response = _error(error, xml=False)
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's server, with that protocol."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Protocol(self, loop=self._loop, **self._kwargs)


def _error(error: errors.GcsError, *, xml: bool) -> web.Response:
    if error.status == HTTPStatus.NOT_MODIFIED:
        return web.Response(status=304, headers=error.headers)
    if error.plain:
        return web.Response(status=error.status, text=error.message, headers=error.headers)
    kind = "application/xml" if xml else "application/json"
    body = error.xml() if xml else error.json()
    return web.Response(status=error.status, body=body, content_type=kind, charset="UTF-8", headers=error.headers)


class RequestHandler:
    """One server's requests."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions = Sessions(store)
        self._faults = Faults()
        self._said_gone = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        path = "/"
        try:
            path, query = split_target(request.raw_path)
            self._check_folder()
            return await self._answer(request, path, query)
        except errors.GcsError as error:
            return _error(error, xml=not routes.is_json(path))
        except (ConnectionReset, BodyBroken):
            reset(request)
        except StreamBroken:
            if request.transport is not None:
                request.transport.close()
        except ConnectionError:
            pass  # nobody is there to be told
        except Exception:
            if not self._store.gone():
                LOG.exception("%s %s", request.method, request.raw_path)
            return _error(errors.backend(), xml=not routes.is_json(path))
        return web.Response(status=503)

    def _check_folder(self) -> None:
        """Refuse whatever is asked once the folder is gone, and say so once."""
        if not self._store.gone():
            return
        message = f"the folder {self._store.layout.folder} is gone: end this server and start it again"
        if not self._said_gone:
            self._said_gone = True
            LOG.error(message)
        raise errors.backend(message)

    async def _answer(self, request: web.BaseRequest, path: str, query: dict[str, str]) -> web.StreamResponse:
        call = Call(request, self._store, self._sessions, self._faults, path, query)
        method = call.method
        if path == "/" and method in {"GET", "HEAD"}:
            return web.Response(text="OK")
        if path.startswith("/retry_test"):
            return await self._retry_test(call, method)
        route = routes.find(method, path, query)
        call.planned = self._faults.plan(route.method, request.headers)
        self._before(call)
        response = await route.handler(call, *route.arguments)
        return await self._after(call, response)

    async def _retry_test(self, call: Call, method: str) -> web.StreamResponse:
        test_id = call.path.removeprefix("/retry_test").strip("/")
        if method == "POST" and not test_id:
            return call.answer(self._faults.create(await call.json_body(required=True)).resource())
        if method == "GET" and call.path == "/retry_tests":
            return call.answer({"retry_test": self._faults.list()})
        if method == "GET" and test_id:
            return call.answer(self._faults.get(test_id).resource())
        if method == "DELETE" and test_id:
            self._faults.delete(test_id)
            return web.Response(text=f"Deleted {test_id}")
        raise errors.not_implemented(f"{method} {call.path}")

    def _before(self, call: Call) -> None:
        """Let faults happen that need no answer of the call itself."""
        planned = call.fault("error", "reset")
        if planned is None:
            return
        fault = planned.fault
        planned.fire()
        if fault.kind == "reset":
            raise ConnectionReset
        raise errors.GcsError(
            fault.code, _REASONS.get(fault.code, "backendError"), f"Retry Test: Caused a {fault.code}"
        )

    async def _after(self, call: Call, response: web.StreamResponse) -> web.StreamResponse:
        """Let faults happen to a finished answer."""
        planned = call.fault("after-commit", "final-chunk", "broken-stream")
        if planned is None or planned.fired or response.prepared or not isinstance(response, web.Response):
            return response
        fault = planned.fault
        if fault.kind in {"after-commit", "final-chunk"} and not call.committed:
            return response
        if fault.kind == "after-commit":
            planned.fire()
            if fault.code:
                raise errors.GcsError(fault.code, "backendError", f"Retry Test: Caused a {fault.code} after the commit")
            raise ConnectionReset
        return await _cut(call, planned, response)


_REASONS = {
    400: "invalid", 401: "required", 403: "forbidden", 404: "notFound", 408: "requestTimeout", 412: "conditionNotMet",
    429: "rateLimitExceeded", 500: "internalError",
}  # fmt: skip


async def _cut(call: Call, planned: PlannedFault, response: web.Response) -> web.StreamResponse:
    """Send the beginning of an answer, then no more."""
    body = response.body if isinstance(response.body, bytes) else b""
    if len(body) <= planned.fault.amount:
        return response
    planned.fire()
    cut = web.StreamResponse(status=response.status, headers=response.headers)
    cut.content_length = len(body)
    await cut.prepare(call.request)
    await cut.write(body[: planned.fault.amount])
    raise StreamBroken
