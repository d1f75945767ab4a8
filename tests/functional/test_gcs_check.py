"""What the check program asks of GCS: each permission by the request replication makes, and nothing is left behind."""

from __future__ import annotations

import pytest

from handler.core.model import Rule
from handler.tools import trials
from tests.functional.conftest import Bucket
from tests.functional.fault_proxy import FaultProxy, PlannedFault, every

PERMISSIONS = ["create", "list", "get", "update", "delete"]


def rows(bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    rule = Rule(id="r", source="s", destination=f"gs://{bucket}", destination_prefix="in/")
    found = trials._destinations("", [rule])
    return {row.subject.rpartition(".")[2]: row.result for row in found if row.subject.startswith("storage.objects.")}


def test_where_all_is_allowed_all_is_ok_and_the_probe_is_gone(
    gcs_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows(gcs_bucket.name, proxy, monkeypatch) == dict.fromkeys(PERMISSIONS, "ok")
    assert gcs_bucket.names() == set()
    assert proxy.methods() == ["POST", "GET", "GET", "GET", "PATCH", "DELETE", "GET"]
    assert proxy.requests.pop().path == f"/storage/v1/b/{gcs_bucket.name}", "its settings"
    for request in proxy.requests:
        assert "in%2F.replicator-check%2F" in request.path or b"in/.replicator-check/" in request.body
        assert request.method == "GET" or "ifGenerationMatch" in request.query


@pytest.mark.parametrize(
    ("method", "permission"), [("PATCH", "update"), ("DELETE", "delete"), ("POST", "create")], ids=str
)
def test_what_is_denied_is_missing(
    gcs_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, method: str, permission: str
) -> None:
    proxy.plan(every(method), PlannedFault(status=403, reason="forbidden", message="x does not have access."))
    assert rows(gcs_bucket.name, proxy, monkeypatch)[permission] == "MISSING"


def test_a_missing_bucket_has_failed_and_is_not_said_to_be_denied(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows("no-such-bucket", proxy, monkeypatch)
    assert (found["create"], found["list"], found["get"]) == ("FAILED", "FAILED", "not tried")
