from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handler.core.errors import Refused
from handler.tools import check, rows
from handler.tools.rows import Row


def client_error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Get")  # type: ignore[typeddict-item] # the rest is not looked at


@pytest.mark.parametrize(
    ("permission", "error", "result"),
    [
        ("s3:GetObject", None, "ok"),
        ("s3:GetObject", client_error("NoSuchKey", 404), "ok"),
        ("s3:GetObjectVersion", client_error("NoSuchVersion", 404), "ok"),
        ("s3:GetObject", client_error("AccessDenied", 403), "MISSING"),
        ("s3:GetObject", client_error("NoSuchBucket", 404), "FAILED"),
        ("s3:ListBucket", client_error("404", 404), "FAILED"),
        ("sqs:ChangeMessageVisibility", client_error("ReceiptHandleIsInvalid", 400), "ok"),
        ("sqs:ChangeMessageVisibility", client_error("AccessDenied", 403), "MISSING"),
        ("storage.objects.create", Refused("no", code="DstPutObjectNotPermitted"), "MISSING"),
        ("storage.objects.create", Refused("no such bucket", code="DstBucketNotFound"), "FAILED"),
        ("storage.objects.create", OSError("no route"), "FAILED"),
    ],
)
def test_a_denial_is_told_from_other_trouble(permission: str, error: Exception | None, result: str) -> None:
    def call() -> None:
        if error:
            raise error

    assert rows.tried("there", permission, call).result == result


def test_the_table_lines_up() -> None:
    found = [Row("ok", "s3://a", "s3:GetObject"), Row("MISSING", "gs://longer", "x", "denied")]
    assert rows.table(found).splitlines() == [
        "ok       s3://a       s3:GetObject",
        "MISSING  gs://longer  x             denied",
    ]


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_the_program_prints_the_deployed_functions_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, ok: bool, code: int
) -> None:
    asked: list[Any] = []

    def invoke(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return {"Payload": SimpleNamespace(read=lambda: f'{{"ok": {str(ok).lower()}, "table": "all of it"}}')}

    monkeypatch.setattr("handler.tools.canary.boto3.client", lambda _: SimpleNamespace(invoke=invoke))
    assert check.main(["--function", "replicator-check"]) == code
    assert asked == [{"FunctionName": "replicator-check", "Payload": '{"dead_letters": false}'}]
    assert capsys.readouterr().out == "all of it\n"


def test_a_wrong_configuration_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("REPLICATION_RULES", raising=False)
    assert check.main([]) == 2
    assert "REPLICATION_RULES" in capsys.readouterr().err
