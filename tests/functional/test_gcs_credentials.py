"""Google's credentials out of AWS's, without a key: the exchange over real HTTP, as in Lambda and under SnapStart."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote

import pytest

from handler import config, observe
from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.retry import TRIES
from handler.app import Service
from handler.core.errors import ReplicationError, Unavailable
from handler.core.model import ABSENT, SMALL, Stamp
from local_emulator.context import Context
from tests.fakes import reader
from tests.functional.conftest import Bucket, Slept
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every, sends

AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws"
ACCOUNT = "/v1/projects/-/serviceAccounts/replicator@project.iam.gserviceaccount.com:generateAccessToken"
KEY_ID, SECRET, TOKEN = "AKIDEXAMPLE", "the-aws-secret-key", "the-aws-session-token"
GOOGLE_TOKEN, IMPERSONATED, BEARER = "the-google-token", "the-impersonated-token", "the-container-bearer"
SECRETS = (SECRET, TOKEN, GOOGLE_TOKEN, IMPERSONATED, BEARER)


@dataclass
class Clouds:
    """Google's security token service, its IAM, and the container endpoint that SnapStart has, all in one."""

    url: str
    status: int = 200
    subjects: list[dict[str, Any]] = field(default_factory=list)
    """The signed AWS requests that came to be exchanged."""
    paths: list[str] = field(default_factory=list)
    troubles: list[int] = field(default_factory=list)
    """What the next POSTs are answered; with 0, not at all."""

    def configuration(self, **fields: Any) -> str:
        return json.dumps(
            {
                "universe_domain": "googleapis.com",
                "type": "external_account",
                "audience": AUDIENCE,
                "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
                "token_url": f"{self.url}/v1/token",
                "credential_source": {
                    "environment_id": "aws1",
                    "region_url": f"{self.url}/metadata/region",
                    "url": f"{self.url}/metadata/credentials",
                    "imdsv2_session_token_url": f"{self.url}/metadata/token",
                    "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity",
                },
            }
            | fields
        )


class _Spoilt(list[str]):
    """Paths that were asked; the first impersonation fails."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds

    def append(self, path: str) -> None:
        if path == ACCOUNT and ACCOUNT not in self:
            self._clouds.troubles.append(503)
        super().append(path)


class _Handler(BaseHTTPRequestHandler):
    clouds: ClassVar[Clouds]

    def do_GET(self) -> None:
        self.clouds.paths.append(self.path)
        if self.path != "/container" or self.headers.get("Authorization") != BEARER:
            self._answer(404, {})
            return
        expires = "2099-01-01T00:00:00Z"
        keys = {"AccessKeyId": "AKIDCONTAINER", "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": expires}
        self._answer(200, keys)

    def do_POST(self) -> None:
        self.clouds.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.clouds.troubles:
            if trouble := self.clouds.troubles.pop(0):
                self._answer(trouble, {"error": "unavailable", "error_description": "as told"})
            else:
                self.close_connection = True
            return
        if self.path == ACCOUNT:
            assert self.headers["Authorization"] == f"Bearer {GOOGLE_TOKEN}"
            self._answer(200, {"accessToken": IMPERSONATED, "expireTime": "2099-01-01T00:00:00Z"})
            return
        form = {name: values[0] for name, values in parse_qs(body).items()}
        assert form["audience"] == AUDIENCE
        self.clouds.subjects.append(json.loads(unquote(form["subject_token"])))
        if self.clouds.status != 200:
            self._answer(self.clouds.status, {"error": "invalid_grant", "error_description": "the role is not mapped"})
            return
        granted = {"access_token": GOOGLE_TOKEN, "issued_token_type": "t", "token_type": "Bearer", "expires_in": 3600}
        self._answer(200, granted)

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    _Handler.clouds = Clouds(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield _Handler.clouds
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _lambda(monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy) -> None:
    """The environment as Lambda gives it, but for GCS; google-auth's look-up of where a pool may work is left out.

    (It asks iamcredentials.googleapis.com in the background, which a test must not.)
    """
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setattr(
        "google.auth.credentials.CredentialsWithRegionalAccessBoundary._is_regional_access_boundary_lookup_required",
        lambda _: False,
    )


def put(configuration: str, bucket: Bucket, size: int = 4) -> None:
    with closing(connect(configuration)) as client:
        GcsDestination(client, bucket.name).put("k", reader(bytes(size)), Stamp(), expect=ABSENT)
    assert bucket.data("k") == bytes(size)


def bearers(proxy: FaultProxy) -> set[str | None]:
    return {request.headers.get("Authorization") for request in proxy.requests}


def headers(subject: dict[str, Any]) -> dict[str, str]:
    return {item["key"].lower(): item["value"] for item in subject["headers"]}


@pytest.mark.parametrize("size", [4, SMALL + 1])
def test_the_functions_own_role_is_exchanged_for_googles_token_once(
    clouds: Clouds, proxy: FaultProxy, gcs_bucket: Bucket, size: int
) -> None:
    put(clouds.configuration(), gcs_bucket, size)
    (subject,) = clouds.subjects
    signed = headers(subject)
    assert subject["url"].startswith("https://sts.eu-central-1.amazonaws.com")
    assert f"Credential={KEY_ID}/" in signed["authorization"]
    assert signed["x-amz-security-token"] == TOKEN
    assert signed["x-goog-cloud-target-resource"] == AUDIENCE
    assert bearers(proxy) == {f"Bearer {GOOGLE_TOKEN}"}, "every request, of a session too"
    assert clouds.paths == ["/v1/token"], "no metadata server is asked"


def test_a_configuration_may_be_a_file(clouds: Clouds, proxy: FaultProxy, gcs_bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "federation.json").write_text(clouds.configuration())
    put(str(tmp_path / "federation.json"), gcs_bucket)
    assert bearers(proxy) == {f"Bearer {GOOGLE_TOKEN}"}


def test_a_service_account_may_be_impersonated(clouds: Clouds, proxy: FaultProxy, gcs_bucket: Bucket) -> None:
    put(clouds.configuration(service_account_impersonation_url=clouds.url + ACCOUNT), gcs_bucket)
    assert bearers(proxy) == {f"Bearer {IMPERSONATED}"}
    assert clouds.paths == ["/v1/token", ACCOUNT]


def under_snapstart(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{clouds.url}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", BEARER)


def test_credentials_of_the_container_endpoint_are_exchanged_as_well(
    clouds: Clouds, proxy: FaultProxy, gcs_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SnapStart has no other; Google's own supplier knows only the environment and the metadata server."""
    under_snapstart(clouds, monkeypatch)
    put(clouds.configuration(), gcs_bucket)
    signed = headers(clouds.subjects[0])
    assert "Credential=AKIDCONTAINER/" in signed["authorization"]
    assert signed["x-amz-security-token"] == TOKEN
    assert clouds.paths == ["/container", "/v1/token"]
    assert bearers(proxy) == {f"Bearer {GOOGLE_TOKEN}"}


# --- what goes wrong


def fails(configuration: str) -> ReplicationError:
    with closing(connect(configuration, time_left=lambda: 0.0)) as client, pytest.raises(Unavailable) as caught:
        GcsDestination(client, "bucket", time_left=lambda: 0.0).head("k")
    return caught.value


def test_a_refused_exchange_is_unavailable_and_says_why(clouds: Clouds, proxy: FaultProxy) -> None:
    clouds.status = 400
    error = fails(clouds.configuration())
    assert error.code == "DstCredentials"
    assert "the role is not mapped" in str(error)
    assert not any(secret in repr(error) + repr(error.__cause__) for secret in SECRETS)
    assert proxy.requests == []


@pytest.mark.parametrize("trouble", [503, 500, 429, 408, 0])
@pytest.mark.parametrize("times", [1, TRIES - 1])
def test_an_exchange_that_fails_for_the_moment_is_tried_again(
    clouds: Clouds, proxy: FaultProxy, gcs_bucket: Bucket, slept: Slept, trouble: int, times: int
) -> None:
    clouds.troubles = [trouble] * times
    configuration = clouds.configuration(service_account_impersonation_url=clouds.url + ACCOUNT)
    with closing(connect(configuration, sleep=slept)) as client:
        assert not GcsDestination(client, gcs_bucket.name).head("k").exists
    assert clouds.paths == ["/v1/token"] * (times + 1) + [ACCOUNT]
    assert len(slept) == times
    assert proxy.methods() == ["GET"]


def test_an_impersonation_that_fails_for_the_moment_is_tried_again(
    clouds: Clouds, gcs_bucket: Bucket, slept: Slept
) -> None:
    configuration = clouds.configuration(service_account_impersonation_url=clouds.url + ACCOUNT)
    with closing(connect(configuration, sleep=slept)) as client:
        clouds.paths = _Spoilt(clouds)
        assert not GcsDestination(client, gcs_bucket.name).head("k").exists
    assert clouds.paths == ["/v1/token", ACCOUNT, ACCOUNT]


def test_an_exchange_that_keeps_failing_is_unavailable_after_as_many_tries_as_any_request(
    clouds: Clouds, proxy: FaultProxy, slept: Slept
) -> None:
    clouds.troubles = [503] * (TRIES + 1)
    with closing(connect(clouds.configuration(), sleep=slept)) as client, pytest.raises(Unavailable) as caught:
        GcsDestination(client, "bucket", sleep=slept).head("k")
    assert caught.value.code == "DstCredentials"
    assert len(clouds.paths) == TRIES
    assert proxy.requests == []


def test_a_token_service_that_is_not_there_is_unavailable() -> None:
    assert fails(Clouds("http://127.0.0.1:9").configuration()).code == "DstCredentials"


@pytest.mark.parametrize("missing", ["credentials", "region"])
def test_without_credentials_or_region_the_error_says_so(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in (
        ["AWS_DEFAULT_REGION"]
        if missing == "region"
        else ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
    ):
        monkeypatch.delenv(name)
    error = fails(clouds.configuration())
    assert error.code == "DstCredentials"
    assert missing in str(error)


def test_a_token_that_gcs_rejects_is_renewed_and_then_unavailable(clouds: Clouds, proxy: FaultProxy) -> None:
    proxy.plan(every("GET"), *[PlannedFault(status=401, reason="required", message="Invalid Credentials")] * 20)
    assert fails(clouds.configuration()).code == "DstCredentialsRejected"
    assert len(clouds.subjects) == 2
    assert proxy.methods() == ["GET", "GET"]
    proxy.forgive()


def test_nothing_secret_is_told_even_where_all_goes_wrong(
    clouds: Clouds,
    proxy: FaultProxy,
    gcs_bucket: Bucket,
    s3_url: str,
    bucket: str,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A large upload breaks in each way in turn, under SnapStart's credentials, with everything logged."""
    under_snapstart(clouds, monkeypatch)
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(SMALL + 1))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    caplog.set_level(logging.DEBUG, "replicator")
    lines = io.StringIO()
    monkeypatch.setattr(observe.logger.registered_handler, "stream", lines)
    monkeypatch.setattr("handler.adapters.retry.random.uniform", lambda *_: 0.0)  # no pauses
    rule = {"Source": {"Bucket": bucket}, "Destination": {"Bucket": f"gs://{gcs_bucket.name}"}}
    environment = {
        "REPLICATION_RULES": json.dumps([rule]),
        "GCP_CREDENTIALS": clouds.configuration(service_account_impersonation_url=clouds.url + ACCOUNT),
    }
    service = Service(config.load(environment))
    service.deadline.begin(Context())
    event = {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": "k", "size": SMALL + 1}}}]}  # fmt: skip
    failures: list[str] = []
    proxy.plan(sends("PUT"), PlannedFault(status=400, message="as told"))
    for trouble in [None, PlannedFault(forget=True)]:
        if trouble:
            proxy.plan(every("PUT"), *[trouble] * 40)
        with pytest.raises(ReplicationError) as caught:
            service.handle(event)
        failures += [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
    proxy.forgive()
    told = lines.getvalue() + capsys.readouterr().out + caplog.text + "".join(failures)
    assert '"outcome":"failed"' in told
    session = next(request.query["upload_id"] for request in proxy.requests if request.method == "PUT")
    for secret in (*SECRETS, session):
        assert secret not in told
    assert bearers(proxy) == {f"Bearer {IMPERSONATED}"}


# --- bad configuration


GOOD = Clouds("https://sts.googleapis.com").configuration()


def faults_of(credentials: str) -> list[str]:
    rule = {"Source": {"Bucket": "b"}, "Destination": {"Bucket": "gs://c"}}
    try:
        config.load({"REPLICATION_RULES": json.dumps([rule]), "GCP_CREDENTIALS": credentials})
    except config.ConfigurationError as error:
        return error.faults
    return []


@pytest.mark.parametrize(
    ("credentials", "fault"),
    [
        ('{"type": "external_account"', "must be JSON or the path of a file that has it: JSONDecodeError"),
        ("/no/such/file", "must be JSON or the path of a file that has it: No such file or directory"),
        ("a\0b", "must be JSON or the path of a file that has it: ValueError"),
        ("x" * 5000, "must be JSON or the path of a file that has it: File name too long"),
        ('{"type": "service_account", "private_key": "hush"}', "must be the configuration of a federation"),
        ("{}", "must be the configuration of a federation"),
        (GOOD.replace('"audience"', '"audio"'), "audience is missing"),
        (GOOD.replace(f'"{AUDIENCE}"', '""'), "audience is missing"),
        (GOOD.replace(f'"{AUDIENCE}"', "5"), "audience is missing"),
        (GOOD.replace('"token_url"', '"token"'), "token_url is missing"),
        (GOOD.replace('"subject_token_type"', '"subject"'), "subject_token_type is missing"),
    ],
)
def test_a_bad_configuration_is_told_at_the_start_and_not_quoted(credentials: str, fault: str) -> None:
    (told,) = faults_of(credentials)
    assert told.startswith("GCP_CREDENTIALS")
    assert fault in told
    assert "hush" not in told
    assert len(told) < 200


@pytest.mark.parametrize("credentials", ["", "  ", GOOD, f"\n {GOOD}\n"])
def test_a_good_configuration_has_no_fault(credentials: str) -> None:
    assert faults_of(credentials) == []


def test_a_good_configuration_in_a_file_has_no_fault_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("[]")
    (tmp_path / "good").write_text(GOOD)
    assert "must be the configuration" in faults_of(str(tmp_path / "list"))[0]
    assert faults_of(str(tmp_path / "good")) == []
