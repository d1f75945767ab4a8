"""The GCS client beneath the adapter: its tokens, its retries and its TLS, over real sockets."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.credentials import Credentials
from google.auth.exceptions import TransportError

from handler.adapters import retry
from handler.adapters.gcs.client import Client, connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.retry import TRIES
from handler.core.errors import Unavailable
from handler.core.model import ABSENT, Stamp
from local_emulator.gcs import GcsServer
from tests.fakes import reader
from tests.functional.conftest import Bucket, Slept
from tests.functional.fault_proxy import LOST, FaultProxy, PlannedFault, every, fault_proxy

HOUR = timedelta(hours=1)


class Granted(Credentials):
    """Tokens by number, each as long-lived as is asked."""

    def __init__(self, lives: timedelta = HOUR) -> None:
        super().__init__()
        self.granted = 0
        self._lives = lives

    def refresh(self, request: object) -> None:
        time.sleep(0.05)  # so that others come meanwhile
        self.granted += 1
        self.token = f"token-{self.granted}"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + self._lives


class Denied(Credentials):
    """No tokens; the first failure comes once all that ask have had the time to."""

    def __init__(self, asking: threading.Barrier) -> None:
        super().__init__()
        self.asking, self.failed = asking, 0

    def refresh(self, request: object) -> None:
        time.sleep(0.2)
        self.failed += 1
        raise TransportError(f"failure {self.failed}")


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Client]:
    with closing(Client(proxy.url, 20)) as client:
        yield client


def look(client: Client, bucket: Bucket, slept: Slept | None = None) -> None:
    destination = GcsDestination(client, bucket.name, sleep=Slept() if slept is None else slept)
    assert not destination.head("k").exists


def together(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(call) for _ in range(12)]:
            future.result()


def bearers(proxy: FaultProxy) -> list[str]:
    return [request.headers["Authorization"] for request in proxy.requests]


# --- tokens


def test_threads_that_need_a_token_at_once_get_one(client: Client, gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    client.credentials = Granted()
    together(lambda: look(client, gcs_bucket))
    assert client.credentials.granted == 1
    assert set(bearers(proxy)) == {"Bearer token-1"}


def test_a_token_is_renewed_before_it_expires(client: Client, gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    client.credentials = Granted(timedelta(minutes=1))
    look(client, gcs_bucket)
    look(client, gcs_bucket)
    assert bearers(proxy) == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_lives_is_used_again(client: Client, gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    client.credentials = Granted()
    for _ in range(3):
        look(client, gcs_bucket)
    assert bearers(proxy) == ["Bearer token-1"] * 3


def test_a_token_that_is_refused_to_many_threads_is_renewed_once(
    client: Client, gcs_bucket: Bucket, proxy: FaultProxy
) -> None:
    client.credentials = Granted()
    look(client, gcs_bucket)
    revoked = PlannedFault(status=401, reason="authError", message="Invalid Credentials")
    proxy.plan(lambda request: request.headers["Authorization"] == "Bearer token-1", *[revoked] * 12)
    together(lambda: look(client, gcs_bucket))
    assert client.credentials.granted == 2
    proxy.forgive()


def test_threads_that_wait_for_a_token_that_does_not_come_fail_as_one(client: Client, proxy: FaultProxy) -> None:
    """Each would wait as long as the first did, one after the other."""
    client.credentials = Denied(threading.Barrier(13, timeout=10))

    def ask() -> object:
        client.credentials.asking.wait()
        return client.request("GET", "/", time_left=lambda: 60.0)

    with ThreadPoolExecutor(12) as pool:
        failures = [pool.submit(ask) for _ in range(12)]
        client.credentials.asking.wait()
        assert {str(future.exception()) for future in failures} == {"failure 1"}
    with pytest.raises(TransportError, match="failure 2"):
        client.request("GET", "/", time_left=lambda: 60.0)
    assert proxy.requests == []


def test_an_anonymous_client_has_no_token_and_imports_nothing_of_googles(gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    """What google-auth takes to import is not spent on the emulator, nor what Google's client takes on anybody."""
    code = """if True:
        import sys
        from handler.adapters.gcs.destination import GcsDestination
        from handler.adapters.gcs.client import connect
        assert not GcsDestination(connect(), sys.argv[1]).head("k").exists
        print(*sorted({"requests", "google.auth", "google.cloud.storage", "google.api_core"} & set(sys.modules)))
    """
    environment = {"STORAGE_EMULATOR_HOST": proxy.url}
    ended = subprocess.run(
        [sys.executable, "-c", code, gcs_bucket.name], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("\n", "")
    assert "Authorization" not in proxy.requests[0].headers


def test_the_emulators_address_may_lack_its_scheme(
    gcs_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url.removeprefix("http://") + "/")
    with closing(connect()) as client:
        look(client, gcs_bucket)
    assert proxy.methods() == ["GET"]


# --- retries


def test_tries_are_few_and_their_pauses_grow_and_vary(
    gcs: GcsDestination, proxy: FaultProxy, slept: Slept, left: list[float]
) -> None:
    left[0] = 600.0
    proxy.plan(every("GET"), *[PlannedFault(status=503, reason="backendError")] * 2 * TRIES)
    for _ in range(2):
        with pytest.raises(Unavailable):
            gcs.head("k")
    assert len(proxy.requests) == 2 * TRIES
    assert all(pause <= 2**number for number, pause in enumerate(slept[:5]))
    assert len(set(slept)) == len(slept), "full jitter"


def test_a_status_that_will_not_change_is_not_tried_again(gcs: GcsDestination, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), PlannedFault(status=501, reason="notImplemented"))
    with pytest.raises(Unavailable):
        gcs.head("k")
    assert proxy.methods() == ["GET"]


def test_a_lost_answer_to_a_read_is_asked_for_again(gcs: GcsDestination, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), PlannedFault(forget=True))
    assert not gcs.head("k").exists
    assert [request.status for request in proxy.requests] == [LOST, 404]


def test_a_redirection_is_not_followed(gcs: GcsDestination, gcs_bucket: Bucket, proxy: FaultProxy) -> None:
    """Whoever answers one would get the token."""
    elsewhere = f"{gcs_bucket.url}/elsewhere"
    proxy.plan(every("POST"), PlannedFault(status=307, headers={"Location": elsewhere}, message="elsewhere"))
    with pytest.raises(Unavailable, match="307"):
        gcs.put("k", reader(b"data"), Stamp(), expect=ABSENT)
    assert proxy.methods() == ["POST"]


@pytest.mark.parametrize("retry_after", ["3", "7"])
def test_a_retry_after_of_gcs_is_waited_for(
    gcs: GcsDestination, proxy: FaultProxy, slept: Slept, retry_after: str
) -> None:
    proxy.plan(every("GET"), PlannedFault(status=429, headers={"Retry-After": retry_after}))
    assert not gcs.head("k").exists
    assert float(retry_after) <= slept[0] <= float(retry_after) + 1


@pytest.mark.parametrize("method", ["head", "put"])
def test_a_connection_that_died_in_silence_costs_one_trys_silence(
    gcs_server: GcsServer, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, slept: Slept, method: str
) -> None:
    """The kept connections are blackholed; what is tried again goes by a new one, and the request succeeds."""
    monkeypatch.setattr(retry, "SILENCE", 0.3)
    monkeypatch.setattr(retry, "LEAST", 0.3)
    with fault_proxy(gcs_server.url) as relay, closing(Client(relay.url, 20)) as client:
        gcs = GcsDestination(client, gcs_bucket.name, sleep=slept)
        assert not gcs.head("k").exists
        relay.silence()
        started = time.monotonic()
        if method == "head":
            assert not gcs.head("k").exists
        else:
            gcs.put("k", reader(b"data"), Stamp(), expect=ABSENT)
        assert 0.3 <= time.monotonic() - started < 0.6
    assert len(slept) == 1
    assert relay.connections == 2


# --- names


@pytest.mark.parametrize("key", ["a b+c%20d", "a/../b", "%2e%2E/%", "?x=1&y#z", "ü/€/\U0001f600", "/", "//a//", "a\tb"])
def test_a_name_arrives_as_it_is(gcs: GcsDestination, gcs_bucket: Bucket, key: str) -> None:
    stored = gcs.put(key, reader(b"data"), Stamp(), expect=ABSENT)
    assert gcs_bucket.names() == {key}
    assert gcs.head(key) == stored
    assert gcs.list(key) == {key: stored}
    patched = gcs.patch(key, Stamp(metadata={"a": "b"}), expect=stored.generation)
    moved = gcs.patch(key, Stamp(storage_class="COLDLINE"), expect=patched.generation)
    gcs.delete(key, expect=moved.generation)
    assert gcs_bucket.names() == set()


# --- TLS


class _Absent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of HTTPS on loopback, and its certificate, which it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gcs")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    valid = made.not_valid_before(now - HOUR).not_valid_after(now + HOUR)
    named = valid.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    ).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate, secret = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(named.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem: Any = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*pem))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Absent)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", certificate
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_no_authority_vouches_for_ends_the_call(
    https: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", https[0])
    with closing(connect()) as client, pytest.raises(Unavailable, match="certificate") as caught:
        GcsDestination(client, "bucket", time_left=lambda: 0.0).head("k")
    assert caught.value.code == "DstUnreachable"


def test_the_authorities_may_be_told_by_the_environment(
    https: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", https[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(https[1]))
    with closing(connect()) as client:
        assert not GcsDestination(client, "bucket").head("k").exists
