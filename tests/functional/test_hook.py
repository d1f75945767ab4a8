"""CodeDeploy gets an answer before a new version gets traffic: by what that version has, and whether it starts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from handler import config, events
from handler.tools import check, hook
from handler.tools.rows import Row
from tests.functional.test_running import FUNCTIONS, RULES, functions

__all__ = ["functions"]
ASKED = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "h-1"}
ARN = "arn:aws:lambda:us-east-1:123456789012:function:{}:{}"


class Aws(ThreadingHTTPServer):
    """CodeDeploy, which moto does not know so far, and Lambda whose functions do not start."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Aws

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"lifecycleEventHookExecutionId": "h-1"}
        self.send_response(200)
        if self.headers.get("X-Amz-Target") == "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus":
            self.server.told.append(body)
        else:
            assert body == {"Event": "s3:TestEvent"}, "a version must not be given anything to do"
            self.send_header("X-Amz-Function-Error", "Unhandled")
            answer = {"errorMessage": "No module named 'pycurl'"}
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def aws(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with Aws() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_CODEDEPLOY", server.url)
        monkeypatch.setenv("REPLICATION_RULES", RULES)
        monkeypatch.setenv("VERSIONS", " ".join(ARN.format(name, 2) for name in FUNCTIONS))
        yield server
        server.shutdown()
        thread.join()


def tried(monkeypatch: pytest.MonkeyPatch, result: str) -> list[Any]:
    """Have the check itself end so, and return the settings that it is run with."""
    seen: list[Any] = []

    def of(settings: Any, **_: Any) -> Iterator[Row]:
        seen.append(settings)
        yield Row(result, "gs://copies", "storage.objects.create")

    monkeypatch.setattr(check, "check", of)
    return seen


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(("result", "status"), [("ok", "Succeeded"), ("MISSING", "Failed"), ("FAILED", "Failed")])
def test_a_new_version_gets_traffic_where_the_check_succeeds_with_what_it_has(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: str, status: str
) -> None:
    seen = tried(monkeypatch, result)
    hook.lambda_handler(ASKED, None)
    assert aws.told == [{"deploymentId": "d-1", "lifecycleEventHookExecutionId": "h-1", "status": status}]
    assert [settings.dry_run for settings in seen] == [True], "version 2 has DRY_RUN, the hook's own variables have not"
    assert result in capsys.readouterr().out, "the reason must be in the log"


def test_what_a_version_is_started_with_is_nothing_to_do() -> None:
    [delivery] = events.parse(json.loads(hook._NOTHING_TO_DO)).deliveries
    assert (delivery.changes, delivery.faults, delivery.ignored) == ((), (), ("s3:TestEvent",))


def test_a_version_that_does_not_start_gets_none(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", aws.url)
    seen = tried(monkeypatch, "ok")
    with pytest.raises(RuntimeError, match="ReplicatorFunction:2 does not start: No module named 'pycurl'"):
        hook.lambda_handler(ASKED, None)
    assert [each["status"] for each in aws.told] == ["Failed"]
    assert not seen


def test_a_check_that_cannot_be_run_is_answered_too(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_RULES", "")
    with pytest.raises(config.ConfigurationError):
        hook.lambda_handler(ASKED, None)
    assert [each["status"] for each in aws.told] == ["Failed"]
