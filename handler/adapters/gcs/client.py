"""Requests to GCS's JSON API: authorized, repeated by the policy of `retry`, and cheap."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import certifi

from handler.adapters.retry import SILENCE, Attempts, Broken, answered
from handler.adapters.transport import Answer, Transport


def connect(
    credentials: str = "",
    *,
    connections: int = 20,
    time_left: Callable[[], float] = lambda: 600.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Client:
    """Return a client for all threads.

    Args:
        credentials: a workload identity federation configuration, as JSON or as the path of a JSON file. Empty:
            application default credentials, or none if STORAGE_EMULATOR_HOST is set.
        connections: kept open at once.
        time_left: seconds until the work must be done; requests for a token are not repeated beyond.
        sleep: waits that many seconds before a request for a token is repeated.

    Raises:
        ValueError: the configuration is malformed.
        google.auth.exceptions.DefaultCredentialsError: there are no application default credentials.
    """
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    base = emulator if "://" in emulator else f"http://{emulator}" if emulator else "https://storage.googleapis.com"
    client = Client(base, connections, time_left=time_left, sleep=sleep)
    if credentials or not emulator:
        from handler.adapters.gcs.credentials import find  # google-auth takes 50 ms to import

        client.credentials = find(credentials, client.ask_google)
    return client


class Client:
    """Sends requests to one GCS. All threads share it.

    Args:
        base: its URL, without a path.
        connections: kept open at once.
        time_left: as for `connect`.
        sleep: as for `connect`.
    """

    credentials: Any = None
    """google-auth's, None for none."""

    def __init__(
        self,
        base: str,
        connections: int,
        *,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = base
        self._time_left = time_left
        self._sleep = sleep
        authorities = os.environ.get("SSL_CERT_FILE") or certifi.where()
        self._transport = Transport(connections=connections, authorities=authorities, time_left=time_left)
        self._lock = threading.Lock()
        self._token: tuple[object, dict[str, str]] = (None, {})
        self._failures = 0
        self._failure: Exception | None = None

    def request(  # noqa: PLR0913 - a request has so many parts
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        time_left: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        silence: float | None = None,
    ) -> Answer:
        """Return GCS's answer, whatever its status. The request must be one that may be repeated; see `retry`.

        Args:
            method: HTTP's.
            path: with the query, or an absolute URL.
            body: all of it.
            headers: all but the token.
            time_left: seconds until the work must be done.
            sleep: waits that many seconds.
            silence: seconds without a byte after which a try is given up; None for `retry.SILENCE`.

        Raises:
            Broken: no answer came.
            Exception: google-auth's, there is no token.
        """
        attempts = Attempts(time_left, sleep, silence=silence)
        return answered(lambda seconds: self.send(method, path, body, headers or {}, seconds), attempts)

    def send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> Answer:
        """Send a request once, and return the answer; a token that is refused is renewed once.

        Raises: as `request` does. `timeout` is in seconds of silence.
        """
        token = self._authorization()
        answer = self._send(method, url, body, {**headers, **token}, timeout)
        if answer.status == 401 and token:
            token = self._authorization(refused=token)
            answer = self._send(method, url, body, {**headers, **token}, timeout)
        return answer

    def renew(self) -> None:
        """Get a new token. Raises google-auth's errors."""
        if self.credentials is not None:
            self.credentials.refresh(self.ask_google)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def ask_google(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> Answer:
        """Send a request of google-auth's, as its transport.

        google-auth repeats its GETs itself. Its POSTs ask for tokens and change nothing, so they are repeated here.
        """
        from google.auth.exceptions import TransportError  # imported already, as google-auth calls

        attempts = Attempts(self._time_left, self._sleep, silence=min(timeout or SILENCE, SILENCE))
        try:
            if method != "POST":
                return self._send(method, url, body, headers or {}, attempts.silence())
            return answered(lambda seconds: self._send(method, url, body, headers or {}, seconds), attempts)
        except Broken as error:
            raise TransportError(error) from error

    def _authorization(self, refused: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers with a token that is not the `refused` one.

        If several threads need a new token, one asks for it. The others wait, and fail if it fails.
        """
        credentials = self.credentials
        if credentials is None:
            return {}
        token, headers = self._token
        if credentials.valid and credentials.token is token and headers is not refused:
            return headers
        failures = self._failures
        with self._lock:
            if not credentials.valid or self._token[1] is refused:
                if self._failures != failures and self._failure:
                    raise self._failure
                try:
                    self.renew()
                except Exception as error:
                    self._failures, self._failure = self._failures + 1, error
                    raise
            headers = {}
            credentials.apply(headers)
            self._token = credentials.token, headers
            return headers

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> Answer:
        url = self.base + url if url.startswith("/") else url
        return self._transport.request(method, url, headers, body, silence=timeout)
