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

from handler.adapters.gcs import GcsDestination
from handler.adapters.gcs_client import Client, connect
from handler.errors import Unavailable
from handler.model import ABSENT, Stamp
from tests.fakes import reader
from tests.functional.conftest import Bucket, Slept
from tests.functional.wire import LOST, Trouble, Wire, every

HOUR = timedelta(hours=1)


class Granted(Credentials):
    """Tokens by number, each as long-lived as is asked; what goes wrong first is planned."""

    def __init__(self, lives: timedelta = HOUR, troubles: tuple[Exception, ...] = ()) -> None:
        super().__init__()
        self.granted = 0
        self._lives, self._troubles = lives, list(troubles)

    def refresh(self, request: object) -> None:
        if self._troubles:
            raise self._troubles.pop(0)
        time.sleep(0.05)  # so that others come meanwhile
        self.granted += 1
        self.token = f"token-{self.granted}"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + self._lives


@pytest.fixture
def client(wire: Wire) -> Iterator[Client]:
    with closing(Client(wire.url, 20)) as client:
        yield client


def look(client: Client, bucket: Bucket, slept: Slept | None = None) -> None:
    destination = GcsDestination(client, bucket.name, sleep=Slept() if slept is None else slept)
    assert not destination.head("k").exists


def together(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(call) for _ in range(12)]:
            future.result()


def bearers(wire: Wire) -> list[str]:
    return [request.headers["Authorization"] for request in wire.requests]


# --- tokens


def test_threads_that_need_a_token_at_once_get_one(client: Client, gcs_bucket: Bucket, wire: Wire) -> None:
    client.credentials = Granted()
    together(lambda: look(client, gcs_bucket))
    assert client.credentials.granted == 1
    assert set(bearers(wire)) == {"Bearer token-1"}


def test_a_token_is_renewed_before_it_expires(client: Client, gcs_bucket: Bucket, wire: Wire) -> None:
    client.credentials = Granted(timedelta(minutes=1))
    look(client, gcs_bucket)
    look(client, gcs_bucket)
    assert bearers(wire) == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_lives_is_used_again(client: Client, gcs_bucket: Bucket, wire: Wire) -> None:
    client.credentials = Granted()
    for _ in range(3):
        look(client, gcs_bucket)
    assert bearers(wire) == ["Bearer token-1"] * 3


def test_a_token_that_is_refused_to_many_threads_is_renewed_once(
    client: Client, gcs_bucket: Bucket, wire: Wire
) -> None:
    client.credentials = Granted()
    look(client, gcs_bucket)
    revoked = Trouble(status=401, reason="authError", message="Invalid Credentials")
    wire.plan(lambda request: request.headers["Authorization"] == "Bearer token-1", *[revoked] * 12)
    together(lambda: look(client, gcs_bucket))
    assert client.credentials.granted == 2
    wire.forgive()


def test_a_token_service_that_does_not_answer_is_asked_again(
    client: Client, gcs_bucket: Bucket, wire: Wire, slept: Slept
) -> None:
    client.credentials = Granted(troubles=(TransportError("reset"),) * 2)
    look(client, gcs_bucket, slept)
    assert len(slept) == 2
    assert bearers(wire) == ["Bearer token-1"]


def test_an_anonymous_client_has_no_token_and_imports_nothing_of_googles(gcs_bucket: Bucket, wire: Wire) -> None:
    """What google-auth takes to import is not spent on the emulator, nor what Google's client takes on anybody."""
    code = """if True:
        import sys
        from handler.adapters.gcs import GcsDestination
        from handler.adapters.gcs_client import connect
        assert not GcsDestination(connect(), sys.argv[1]).head("k").exists
        print(*sorted({"requests", "google.auth", "google.cloud.storage", "google.api_core"} & set(sys.modules)))
    """
    environment = {"STORAGE_EMULATOR_HOST": wire.url}
    ended = subprocess.run(
        [sys.executable, "-c", code, gcs_bucket.name], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("\n", "")
    assert "Authorization" not in wire.requests[0].headers


def test_the_emulators_address_may_lack_its_scheme(
    gcs_bucket: Bucket, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", wire.url.removeprefix("http://") + "/")
    with closing(connect()) as client:
        look(client, gcs_bucket)
    assert wire.methods() == ["GET"]


# --- retries


def test_tries_are_few_and_their_pauses_grow_and_vary(
    gcs: GcsDestination, wire: Wire, slept: Slept, left: list[float]
) -> None:
    left[0] = 600.0
    wire.plan(every("GET"), *[Trouble(status=503, reason="backendError")] * 12)
    for _ in range(2):
        with pytest.raises(Unavailable):
            gcs.head("k")
    assert len(wire.requests) <= 12
    assert all(pause <= 2**number for number, pause in enumerate(slept[:5]))
    assert len(set(slept)) == len(slept), "full jitter"
    wire.forgive()


def test_a_status_that_will_not_change_is_not_tried_again(gcs: GcsDestination, wire: Wire) -> None:
    wire.plan(every("GET"), Trouble(status=501, reason="notImplemented"))
    with pytest.raises(Unavailable):
        gcs.head("k")
    assert wire.methods() == ["GET"]


def test_a_lost_answer_to_a_read_is_asked_for_again(gcs: GcsDestination, wire: Wire) -> None:
    wire.plan(every("GET"), Trouble(forget=True))
    assert not gcs.head("k").exists
    assert [request.status for request in wire.requests] == [LOST, 404]


def test_a_redirection_is_not_followed(gcs: GcsDestination, gcs_bucket: Bucket, wire: Wire) -> None:
    """Whoever answers one would get the token."""
    elsewhere = f"{gcs_bucket.url}/elsewhere"
    wire.plan(every("POST"), Trouble(status=307, headers={"Location": elsewhere}, message="elsewhere"))
    with pytest.raises(Unavailable, match="307"):
        gcs.put("k", reader(b"data"), Stamp(), expect=ABSENT)
    assert wire.methods() == ["POST"]


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
    with closing(connect()) as client, pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
        GcsDestination(client, "bucket", time_left=lambda: 0.0).head("k")
    assert caught.value.code == "DstUnreachable"


def test_the_authorities_may_be_told_by_the_environment(
    https: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", https[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(https[1]))
    with closing(connect()) as client:
        assert not GcsDestination(client, "bucket").head("k").exists
