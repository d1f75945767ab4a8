"""Both clouds and the handler between them, ready to be called; what `invoke` and the emulator have in common."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn, Self

from local_emulator import environment
from local_emulator.aws import LOOPBACK, Aws
from local_emulator.context import Invoke, invoker
from local_emulator.function_url import Request, event_of
from local_emulator.settings import StartError, make_folder
from local_emulator.watch import Mirror

if TYPE_CHECKING:
    from types import TracebackType

    from local_emulator.settings import Settings


STOP_LIMIT = 1.5
"""Seconds for servers to close. What still runs then (a handler, a long poll) is left to the end of the process."""


class Clouds:
    """S3, SQS and GCS with their buckets, the source folder's content in S3, and the handler configured for them.

    The environment of the process is changed for good, and the handler imported: one of these a process.
    """

    aws: Aws
    mirror: Mirror
    gcs_url: str | None = None
    invoke: Invoke

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        environment.isolate()
        try:
            make_folder(self._settings.destination)
            self.aws = self._stack.enter_context(Aws(self._settings))
            if self._settings.gcs_buckets:
                self.gcs_url = self._start_gcs()
            self.mirror = Mirror(self._settings.source, self.aws.s3, self._settings.bucket)
            self.mirror.sync()
            environment.configure(
                self.aws,
                self.gcs_url,
                self._settings.rules,
                verbose=self._settings.verbose,
                deletes_limit=self._settings.deletes_limit,
            )
            self.invoke = _import_handler()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mirror.stopped.set()
        self._stack.close()

    def _start_gcs(self) -> str:
        url = self._settings.gcs or self._serve_gcs()
        if self._settings.gcs or not self._settings.single:
            for name in self._settings.gcs_buckets:
                _create_gcs_bucket(url, name)
        return url

    def _serve_gcs(self) -> str:
        from local_emulator.gcs import GcsServer  # a folder target does without it

        bucket = self._settings.gcs_buckets[0] if self._settings.single else None
        server = GcsServer(folder=self._settings.destination, bucket=bucket, host=LOOPBACK, port=0)
        try:
            return str(self._stack.enter_context(server).url)
        except RuntimeError as error:
            used = f"another emulator uses the destination {self._settings.destination}"
            raise StartError(f"{used}: end it, or give another one by --destination") from error
        except OSError as error:
            raise StartError(f"the GCS server did not start: {error}") from error


def _create_gcs_bucket(url: str, name: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - the shim's own URL, or the user's
        f"{url}/storage/v1/b?project=local",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request).close()  # noqa: S310 - see above
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 409:  # it was there before
                raise StartError(f"the GCS bucket {name} could not be made: {error.read().decode()}") from error
    except (OSError, ValueError) as error:
        raise StartError(f"the GCS server {url} does not answer: {error}") from error


def _import_handler() -> Invoke:
    """Import the handler and ask it something harmless, so that a wrong configuration shows at once."""
    try:
        from handler.app import lambda_handler  # it reads the environment when it is imported, or later

        invoke = invoker(lambda_handler)
        invoke(event_of(Request(method="GET", path="/")))
    except Exception as error:
        raise StartError(f"the handler did not start: {error}") from error
    return invoke


def leave_at_a_signal(started: ExitStack, code: int) -> None:
    """Let Ctrl-C and SIGTERM end the process from now on, whatever it is at.

    Nothing is raised for that: the upload in progress would be taken back while moto still reads it.
    """

    def end(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        leave(started, code)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def leave(started: ExitStack, code: int) -> NoReturn:
    """Close what was started, for as long as the limit allows, and end the process.

    Threads of the handler may be anywhere; an ordinary exit would wait for them. Both object stores are safe against
    an end at any instruction, and what was not acknowledged is forgotten with the queue.
    """
    closing = threading.Thread(target=started.close, name="closing", daemon=True)
    closing.start()
    closing.join(STOP_LIMIT)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
