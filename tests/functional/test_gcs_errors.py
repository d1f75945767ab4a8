"""The GCS adapter's error table is total: every status, reason and exception, told and met over real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from google.auth import exceptions as auth

from handler.adapters import transport
from handler.adapters.gcs.client import Client, connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.errors import of_response, translate, translated
from handler.adapters.gcs.upload import ResumableSession
from handler.adapters.retry import Broken
from handler.adapters.transport import Answer
from handler.core.errors import Corrupt, Moved, NotFound, Refused, ReplicationError, Unavailable
from handler.core.model import ABSENT, SMALL, Generation, Stamp
from tests.fakes import reader
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every

KEY_DENIED = (
    "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized to "
    "use this key."
)
"""As GCS says it: https://github.com/googleapis/google-cloud-java/issues/3594."""
NO_BUCKET = "The specified bucket does not exist."
BY_STATUS: list[tuple[int, str, str, type[ReplicationError], str]] = [
    (304, "", "", Moved, "Moved"),  # which has no body
    (400, "invalid", "Invalid argument.", Refused, "DstRequestInvalid"),
    (400, "invalid", 'Provided CRC32C "a" doesn\'t match calculated CRC32C "b".', Corrupt, "Corrupt"),
    (400, "invalid", 'Provided MD5 hash "a" doesn\'t match calculated MD5 hash "b".', Corrupt, "Corrupt"),
    (401, "required", "Login required.", Unavailable, "DstCredentialsRejected"),
    (403, "forbidden", "x does not have storage.objects.create access.", Refused, "DstPutObjectNotPermitted"),
    (403, "", "", Refused, "DstPutObjectNotPermitted"),
    (400, "invalid", "Object retention is not enabled on the bucket.", Refused, "DstBucketObjectLockConfigMissing"),
    (403, "forbidden", KEY_DENIED, Refused, "DstKmsKeyNotPermitted"),
    (403, "quotaExceeded", "Quota exceeded for Cloud KMS cryptographic requests.", Unavailable, "DstThrottled"),
    (400, "invalid", "Cloud KMS key is disabled, destroyed, or scheduled to be.", Refused, "DstKmsKeyInvalidState"),
    (403, "retentionPolicyNotMet", "Object is subject to retention.", Refused, "DstObjectRetained"),
    (403, "objectUnderActiveHold", "Object is under active hold.", Refused, "DstObjectHeld"),
    (403, "rateLimitExceeded", "Slow down.", Unavailable, "DstThrottled"),
    (403, "userRateLimitExceeded", "Slow down.", Unavailable, "DstThrottled"),
    (403, "quotaExceeded", "Quota.", Unavailable, "DstThrottled"),
    (403, "dailyLimitExceeded", "Quota.", Unavailable, "DstThrottled"),
    (404, "notFound", NO_BUCKET, Refused, "DstBucketNotFound"),
    (404, "notFound", "No such object: bucket/k", NotFound, "DstObjectNotFound"),
    (404, "notFound", f"No such object: bucket/{NO_BUCKET}", NotFound, "DstObjectNotFound"),
    (405, "methodNotAllowed", "", Refused, "DstRequestInvalid"),
    (408, "requestTimeout", "", Unavailable, "DstTimeout"),
    (409, "conflict", "", Unavailable, "DstConflict"),
    (410, "gone", "", Unavailable, "DstSessionGone"),
    (412, "conditionNotMet", "At least one of the pre-conditions did not hold.", Moved, "Moved"),
    (413, "uploadTooLarge", "", Refused, "DstObjectTooLarge"),
    (416, "requestedRangeNotSatisfiable", "", Unavailable, "Dst416"),
    (418, "teapot", "nobody foresaw this", Unavailable, "Dst418"),
    (429, "rateLimitExceeded", "", Unavailable, "DstThrottled"),
    (500, "internalError", "", Unavailable, "Dst500"),
    (501, "notImplemented", "", Unavailable, "Dst501"),
    (502, "badGateway", "", Unavailable, "Dst502"),
    (503, "backendError", "", Unavailable, "Dst503"),
    (504, "gatewayTimeout", "", Unavailable, "Dst504"),
]
IDS = [f"{row[0]} {row[1]} {row[4]}" for row in BY_STATUS]


def answer(status: int, body: bytes) -> Answer:
    return Answer(status, {}, body)


def body_of(status: int, reason: str, message: str) -> bytes:
    errors = [{"reason": reason, "message": message}] if reason else []
    return json.dumps({"error": {"code": status, "message": message, "errors": errors}}).encode()


@pytest.mark.parametrize(("status", "reason", "message", "kind", "code"), BY_STATUS, ids=IDS)
def test_every_answer_is_one_of_our_errors(
    status: int, reason: str, message: str, kind: type[ReplicationError], code: str
) -> None:
    error = of_response(answer(status, body_of(status, reason, message)), "call")
    assert (type(error), error.code) == (kind, code)
    assert str(error).startswith(f"cannot call: GCS answered {status}")
    assert message in str(error)


BY_EXCEPTION: list[tuple[Exception, type[ReplicationError], str]] = [
    (Broken("no connection to gcs:443: gaierror: unknown"), Unavailable, "DstUnreachable"),
    (auth.RefreshError("denied"), Unavailable, "DstCredentials"),
    (auth.TransportError("no STS"), Unavailable, "DstCredentials"),
    (auth.DefaultCredentialsError("none"), Unavailable, "DstCredentials"),
    (auth.OAuthError("invalid_target"), Unavailable, "DstCredentials"),
    (http.client.IncompleteRead(b""), Unavailable, "DstUnknown"),
    (ConnectionResetError(104, "reset"), Unavailable, "DstUnknown"),
    (ssl.SSLError("certificate"), Unavailable, "DstUnknown"),
    (TimeoutError("too long"), Unavailable, "DstUnknown"),
    (json.JSONDecodeError("not JSON", "", 0), Unavailable, "DstUnknown"),
    (KeyError("Location"), Unavailable, "DstUnknown"),
    (Exception("nobody foresaw this"), Unavailable, "DstUnknown"),
]


@pytest.mark.parametrize(
    ("error", "kind", "code"), BY_EXCEPTION, ids=[type(row[0]).__name__ + f" {n}" for n, row in enumerate(BY_EXCEPTION)]
)
def test_every_exception_is_one_of_our_errors(error: Exception, kind: type[ReplicationError], code: str) -> None:
    with pytest.raises(kind) as caught, translated("call"):
        raise error
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.__cause__ is error


def test_no_exception_that_the_libraries_have_escapes_the_table() -> None:
    """Whatever a later version adds to these modules is translated too."""
    kinds = [
        kind
        for module in (auth, transport, http.client, socket, ssl)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    errors = [error for error in map(made, kinds) if error]
    assert len(errors) > 40
    for error in errors:
        assert isinstance(translate(error, "call"), ReplicationError), error


def made(kind: type[Exception]) -> Exception | None:
    """One of these, with as many arguments as it asks for, where that makes one that can be shown."""
    for arguments in [("text",), (), ("text",) * 2, (1, 1), ("text", "text", 0), ("text",) * 3]:
        with suppress(TypeError, AttributeError):
            error = kind(*arguments)
            str(error)
            return error
    return None


def test_our_own_errors_and_interrupts_pass_as_they_are() -> None:
    for error in (Moved("m"), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)) as caught, translated("call"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Not JSON",
        b"[]",
        b'"text"',
        b"null",
        b'{"error": "text"}',
        b'{"error": {"errors": [1]}}',
        b"\xff\xfe{",
        b"{}",
    ],
)
def test_an_answer_that_is_not_gcs_json_is_judged_by_its_status(body: bytes) -> None:
    assert type(of_response(answer(412, body), "call")) is Moved
    assert type(of_response(answer(503, body), "call")) is Unavailable
    assert type(of_response(answer(403, body), "call")) is Refused


@pytest.mark.parametrize(
    "error",
    [
        Broken("not HTTP: 'PUT /upload/b/o?uploadType=resumable&upload_id=ABC-d_9~x'"),
        auth.TransportError("/o?upload_id=ABC-d_9~x"),
        RuntimeError("/o?upload_id=ABC-d_9~x&a=b"),
    ],
)
def test_an_upload_sessions_address_is_in_no_message(error: Exception) -> None:
    """Whoever has it may write without credentials."""
    assert "ABC" not in str(translate(error, "call"))
    assert "upload_id=..." in str(translate(error, "call"))


def test_a_session_that_cannot_be_reached_does_not_tell_its_address() -> None:
    with a_server_that("refuses") as url, closing(Client(url, 1)) as client:
        session = ResumableSession(client, f"{url}/o?upload_id=ABC", 4, time_left=lambda: 60.0, sleep=lambda _: None)
        with pytest.raises(Unavailable, match="Failed to connect") as caught:
            session.send(reader(b"data"))
    assert "ABC" not in "".join(traceback.format_exception(caught.value))


# --- over HTTP


def calls(gcs: GcsDestination) -> dict[str, Callable[[], object]]:
    at = Generation(7, 1)
    return {
        "head": lambda: gcs.head("k"),
        "small put": lambda: gcs.put("k", reader(b"data"), Stamp(), expect=ABSENT),
        "large put": lambda: gcs.put("k", reader(bytes(SMALL + 1)), Stamp(), expect=ABSENT),
        "patch": lambda: gcs.patch("k", Stamp(), expect=at),
        "delete": lambda: gcs.delete("k", expect=at),
        "compose": lambda: gcs.compose("k", ["a", "b"], Stamp(), expect=ABSENT),
    }


CALLS = ["head", "small put", "large put", "patch", "delete", "compose"]


@pytest.mark.parametrize(("status", "reason", "message", "kind", "code"), BY_STATUS, ids=IDS)
def test_every_call_tells_every_answer_alike(
    gcs: GcsDestination,
    proxy: FaultProxy,
    status: int,
    reason: str,
    message: str,
    kind: type[ReplicationError],
    code: str,
) -> None:
    proxy.plan(lambda _: True, *[PlannedFault(status=status, reason=reason, message=message)] * 50)
    for name, call in calls(gcs).items():
        if (name, kind) == ("head", NotFound):
            assert not gcs.head("k").exists
            continue
        with pytest.raises(ReplicationError) as caught:
            call()
        expected = (kind, code)
        if name in {"patch", "delete"} and kind is NotFound:
            expected = (Moved, "Moved")
        assert (type(caught.value), caught.value.code) == expected, name
    proxy.forgive()


@contextmanager
def a_server_that(does: str) -> Iterator[str]:
    """A port that refuses, accepts and hangs up, or accepts and is silent."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if does == "is silent":
            listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("does", ["refuses", "is silent"])
def test_a_server_that_is_not_there_is_unavailable_within_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, does: str, call: str
) -> None:
    with a_server_that(does) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with closing(connect()) as client, pytest.raises(Unavailable) as caught:
            calls(GcsDestination(client, "bucket", time_left=lambda: 0.0))[call]()
    assert caught.value.code == "DstUnreachable"


def test_an_answer_that_is_no_http_is_unavailable(gcs: GcsDestination, proxy: FaultProxy, left: list[float]) -> None:
    left[0] = 0.0
    proxy.plan(every("GET"), *[PlannedFault(status=200, body=b"<html>a captive portal</html>")] * 20)
    with pytest.raises(Unavailable):
        gcs.head("k")
    proxy.forgive()
