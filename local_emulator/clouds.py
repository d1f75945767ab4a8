"""Both clouds and the handler between them, ready to be called; what `invoke` and the emulator have in common."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from local_emulator import environment
from local_emulator.aws import LOOPBACK, Aws, free_port
from local_emulator.context import Invoke, invoker
from local_emulator.function_url import Request, event_of
from local_emulator.mirror import Mirror, SourceBucket
from local_emulator.s3_events import observers
from local_emulator.s3_state import State
from local_emulator.scan import Scanner
from local_emulator.settings import StartError, check_writable, make_folder

if TYPE_CHECKING:
    from types import TracebackType

    from local_emulator.settings import Settings


log = logging.getLogger(__name__)

STOP_LIMIT = 1.5
"""Seconds for servers to close. What still runs then (a handler, a long poll) is left to the end of the process."""


class Clouds:
    """S3, SQS and GCS with their buckets, the source folder's content in S3, and the handler configured for them.

    The environment of the process is changed for good, and the handler imported: one of these a process.
    """

    aws: Aws
    mirror: Mirror
    state: State
    gcs_url: str | None = None
    invoke: Invoke

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        environment.isolate()
        try:
            make_folder(self._settings.destination)
            for folder in self._settings.folders or [self._settings.destination]:
                make_folder(folder)
                check_writable(folder)
            self.aws = self._stack.enter_context(Aws(self._settings))
            if self._settings.gcs_buckets:
                self.gcs_url = self._start_gcs()
            self._load()
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

    def _load(self) -> None:
        """Put back into S3 what it held, and then what the folder holds now."""
        source, bucket = self._settings.source, self._settings.bucket
        scanner = Scanner(source, self._settings.ignore)
        self.state = self._open_state()
        self._stack.callback(self.state.close)
        known = self.state.files()
        found = scanner.scan().files if source.is_dir() else {}
        with self.state.together():
            for key in known.keys() - found.keys():
                self.state.lost(bucket, key)
            self.state.restore(source, bucket, lambda key: key in known and known[key] == found.get(key))
        known = {key: signature for key, signature in known.items() if key in found}
        observers.append(self.state.changed)
        self._stack.callback(observers.remove, self.state.changed)
        stopped = threading.Event()
        self.mirror = Mirror(
            source,
            SourceBucket(bucket, self.state, stopped),
            scanner,
            known,
            settle=self._settings.settle,
            is_same=self.state.is_in_place,
            stopped=stopped,
        )
        with self.state.together(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.mirror.sync()

    def _open_state(self) -> State:
        if self._settings.keeps:
            try:
                return State(self._settings.source)
            except OSError as error:
                log.warning("nothing outlives this run, as the source folder cannot be written to: %s", error)
        return State(Path(self._stack.enter_context(tempfile.TemporaryDirectory())))

    def begin_anew(self) -> None:
        """Follow another folder that is where the source folder was."""
        self.state.move(self._settings.source, self._settings.source_buckets)
        self.mirror.begin_anew()

    def _start_gcs(self) -> str:
        url = self._settings.gcs or self._serve_gcs()
        if self._settings.gcs or not self._settings.single:
            for name in self._settings.gcs_buckets:
                _create_gcs_bucket(url, name)
        return url

    def _serve_gcs(self) -> str:
        from local_emulator.gcs import GcsServer  # a folder target does without it

        bucket = self._settings.gcs_buckets[0] if self._settings.single else None
        port = free_port(self._settings.gcs_port, "GCS")
        server = GcsServer(folder=self._settings.destination, bucket=bucket, host=LOOPBACK, port=port)
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
