"""Requests to GCS's JSON API over urllib3: authorized, tried again where that may help, and cheap.

Google's own client spends some 2 ms of CPU on a request, and takes a tenth of a second to import.
"""

from __future__ import annotations

import itertools
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3

from handler.adapters.gcs_errors import TRANSIENT, passing

_AGENT = "cross-cloud-replicator"
_ONCE = urllib3.Retry(total=False, redirect=False)  # made once, so that no request makes its own
_CONNECT_TIMEOUT, _TOKEN_TIMEOUT = 5.0, 30.0
_TRIES, _LONGEST_PAUSE = 6, 16.0


def connect(credentials: str = "", *, connections: int = 20) -> Client:
    """Return a client for all threads.

    Args:
        credentials: a workload identity federation configuration, as JSON or as the path of a file that has it;
            neither holds a secret. Empty: application default credentials, or none where STORAGE_EMULATOR_HOST is set.
        connections: kept open at once.

    Raises:
        ValueError: the configuration is not one.
        google.auth.exceptions.DefaultCredentialsError: there are no application default credentials.
    """
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    base = emulator if "://" in emulator else f"http://{emulator}" if emulator else "https://storage.googleapis.com"
    client = Client(base, connections)
    if credentials or not emulator:
        from handler.adapters import gcs_credentials  # google-auth takes some 50 ms, and the emulator asks for no token

        client.credentials = gcs_credentials.find(credentials, client.ask_google)
    return client


class Client:
    """Sends requests to one GCS. All threads share it.

    Args:
        base: its URL, without a path.
        connections: kept open at once.
    """

    credentials: Any = None
    """google-auth's, None for none."""

    def __init__(self, base: str, connections: int) -> None:
        self._pools = _pools(base, connections)
        self._base = self._pools.connection_from_url(base)  # found once, as that takes longer than it looks
        self._lock = threading.Lock()
        self._token: tuple[object, dict[str, str]] = (None, {})

    def request(  # noqa: PLR0913 - a request has so many parts
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        *,
        left: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> urllib3.BaseHTTPResponse:
        """Return GCS's answer, whatever it is; what may pass is tried again, with exponential backoff and full jitter.

        Only for what may be sent twice: reads, and writes on condition. Of these a second one may meet, as a 412, what
        the first did before its answer was lost. https://cloud.google.com/storage/docs/retry-strategy

        Args:
            method: HTTP's.
            path: with the query, without the base.
            body: all of it.
            content_type: the body's.
            left: seconds for all tries and the pauses between them.
            sleep: waits that many seconds.

        Raises:
            Exception: urllib3's, no answer came; google-auth's, no token was to be had.
        """
        ends = time.monotonic() + left
        headers = {"Content-Type": content_type} if body is not None else {}
        for tried in itertools.count():
            timeout = max(1.0, ends - time.monotonic())
            failure: Exception | None = None
            try:
                answer = self.send(method, path, body, headers, timeout)
                if answer.status not in TRANSIENT:
                    return answer
            except Exception as error:
                if not passing(error):
                    raise
                failure = error
            pause = random.uniform(0, min(2.0**tried, _LONGEST_PAUSE))  # noqa: S311 - jitter
            if tried + 1 == _TRIES or time.monotonic() + pause >= ends:
                break
            sleep(pause)
        if failure:
            raise failure
        return answer

    def send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer to one request, to an absolute URL or a path; a token that is refused is renewed once.

        Raises: as `request` does. `timeout` is in seconds of silence.
        """
        token = self._authorization()
        answer = self._send(method, url, body, {"User-Agent": _AGENT, **headers, **token}, timeout)
        if answer.status == 401 and token:
            token = self._authorization(refused=token)
            answer = self._send(method, url, body, {"User-Agent": _AGENT, **headers, **token}, timeout)
        return answer

    def renew(self) -> None:
        """Get a token, whether or not there is one; what goes wrong is google-auth's exception."""
        if self.credentials is not None:
            self.credentials.refresh(self.ask_google)

    def close(self) -> None:
        """Close all connections."""
        self._pools.clear()

    def ask_google(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> urllib3.BaseHTTPResponse:
        """Send one of google-auth's own requests: what it calls a transport, https://google-auth.readthedocs.io.

        Its `google.auth.transport.urllib3` would do, but needs `packaging`, and waits for ever.
        """
        from google.auth.exceptions import TransportError  # there already, as google-auth calls

        try:
            return self._send(method, url, body, headers or {}, timeout or _TOKEN_TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise TransportError(error) from error

    def _authorization(self, refused: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers that say who we are, but not those `refused`; a token is renewed before it expires.

        Of threads that need a new one at once, one gets it and the others wait for that.
        """
        credentials = self.credentials
        if credentials is None:
            return {}
        token, headers = self._token
        if credentials.valid and credentials.token is token and headers is not refused:
            return headers
        with self._lock:
            if not credentials.valid or self._token[1] is refused:
                credentials.refresh(self.ask_google)
            headers = {}
            credentials.apply(headers)
            self._token = credentials.token, headers
            return headers

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> urllib3.BaseHTTPResponse:
        place: Any = self._base if url.startswith("/") else self._pools
        answer: urllib3.BaseHTTPResponse = place.urlopen(
            method,
            url,
            redirect=False,
            body=body,
            headers=headers,
            retries=_ONCE,
            timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT, timeout), read=timeout),
        )
        return answer


def _pools(base: str, connections: int) -> urllib3.PoolManager:
    """Keep connections to few hosts, by way of the environment's proxy where there is one for https."""
    where = urlsplit(base)
    proxy = getproxies().get("https") if where.scheme == "https" else None
    settings: dict[str, Any] = {"num_pools": 4, "maxsize": connections}
    if where.scheme == "https":  # one for all connections: to read the authorities takes some 20 ms
        authorities = os.environ.get("SSL_CERT_FILE") or certifi.where()
        settings["ssl_context"] = ssl.create_default_context(cafile=authorities)
    if proxy and not proxy_bypass(where.hostname or ""):
        return urllib3.ProxyManager(proxy, **settings)
    return urllib3.PoolManager(**settings)
