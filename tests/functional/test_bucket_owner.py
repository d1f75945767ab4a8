"""Every read of the source names the account that owns the bucket, so a bucket of somebody else deletes no copies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.cloud import storage

from handler import rest
from handler.adapters.s3.source import S3Source
from handler.app import Service
from handler.core.errors import Refused
from handler.core.model import Original, Span
from handler.tools import check, compare, verify
from local_emulator.gcs import GcsServer
from tests.conftest import s3_requests
from tests.functional.rig import Clock, Rig, message, record, rig_on
from tests.functional.s3_override import MOTO, signed_owner
from tests.functional.test_rules import rule
from tests.unit.test_rest import request

SOMEBODY = "666666666666"


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@dataclass
class Replicated:
    """One object and its copy, made by a function that knows who owns the source."""

    rig: Rig
    bucket: str
    copies: storage.Bucket
    rules: list[dict[str, Any]]
    service: Service
    patch: pytest.MonkeyPatch

    def is_there(self) -> bool:
        return self.rig.blob(self.copies, "k") is not None

    def tell(self, event: str) -> list[str]:
        """Deliver an event, and return what the function logs as the reason of a failure."""
        told = self.rig.handle(self.service, message("m", record(self.bucket, "k", event, size=4)))
        return [line["code"] for line in told.lines if "code" in line]

    def ask(self) -> dict[str, Any]:
        self.service.deadline.begin(Clock())
        event = request("function-url.json", {"s3_bucket": self.bucket, "s3_key": "k"})
        service = self.service
        answer: dict[str, Any] = rest.answer(event, None, allows=service.replicator.allows, replicate=service.on_demand)
        return answer

    def shell(self, main: Callable[[list[str]], int], *arguments: str) -> int:
        """Run one of the operator's programs."""
        self.patch.setenv("AWS_ENDPOINT_URL_S3", self.rig.front.url)
        self.patch.setenv("STORAGE_EMULATOR_HOST", self.rig.gcs_url)
        self.patch.setenv("REPLICATION_RULES", json.dumps(self.rules))
        self.patch.setenv("SOURCE_BUCKET_OWNER", MOTO)
        self.patch.setattr(compare, "PAUSE", 0.0)
        return main([*arguments])


@pytest.fixture
def replicated(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Replicated:
    bucket, copies = rig.bucket(), rig.copies()
    rules = [rule("all", bucket, f"gs://{copies.name}", to={"Tags": {"Status": "Enabled"}})]
    service = rig.service(*rules, SOURCE_BUCKET_OWNER=MOTO)
    found = Replicated(rig, bucket, copies, rules, service, monkeypatch)
    rig.s3.put_object(Bucket=bucket, Key="k", Body=b"data", Tagging="a=b")
    assert found.tell("ObjectCreated:Put") == []
    assert found.is_there()
    return found


def _registered_by_somebody_else(replicated: Replicated) -> None:
    replicated.rig.s3.delete_object(Bucket=replicated.bucket, Key="k")
    replicated.rig.front.owners[replicated.bucket] = SOMEBODY


@pytest.mark.parametrize("event", ["ObjectRemoved:Delete", "ObjectCreated:Put", "ObjectTagging:Put"])
def test_no_event_deletes_a_copy_once_the_bucket_is_somebody_elses(replicated: Replicated, event: str) -> None:
    _registered_by_somebody_else(replicated)
    codes = replicated.tell(event)
    assert replicated.is_there()
    assert set(codes) == {"SrcGetObjectNotPermitted"}


def test_no_request_deletes_a_copy_once_the_bucket_is_somebody_elses(replicated: Replicated) -> None:
    _registered_by_somebody_else(replicated)
    answer = replicated.ask()
    assert replicated.is_there()
    assert answer["statusCode"] == 500
    assert json.loads(answer["body"])["retryable"] is False
    assert MOTO in answer["body"]


def test_verify_deletes_no_copy_once_the_bucket_is_somebody_elses(
    replicated: Replicated, capsys: pytest.CaptureFixture[str]
) -> None:
    _registered_by_somebody_else(replicated)
    code = replicated.shell(verify.main, "--repair")
    assert replicated.is_there()
    assert code == 2
    assert "AccessDenied" in capsys.readouterr().err


def test_every_request_names_the_owner(replicated: Replicated) -> None:
    front, s3 = replicated.rig.front, replicated.rig.s3
    front.requests.clear()
    replicated.rig.put_parts(replicated.bucket, "k", [b"abcd", b"ef"], {"x-amz-tagging": "a=b"})
    assert replicated.tell("ObjectCreated:CompleteMultipartUpload") == []
    assert replicated.ask()["statusCode"] == 200
    assert replicated.shell(verify.main, "--repair", "--thorough") == 0
    replicated.shell(check.main)
    s3.delete_object(Bucket=replicated.bucket, Key="k")
    assert replicated.tell("ObjectRemoved:Delete") == []
    assert not replicated.is_there()
    asked = {(item.method, *sorted({*item.query} - {"encoding-type", "prefix"})) for item in front.requests}
    assert asked >= {("HEAD",), ("GET",), ("HEAD", "partNumber"), ("GET", "tagging"), ("GET", "list-type")}
    assert f"/{replicated.bucket}" in {urlsplit(item.path).path for item in front.requests if item.method == "HEAD"}
    assert {signed_owner(item) for item in front.requests} == {MOTO}, front.told()


def test_a_bucket_of_another_owner_is_refused_whatever_is_asked_of_it(replicated: Replicated) -> None:
    client = s3_requests(replicated.rig.front.url)
    ours = S3Source(client, replicated.bucket, owner=MOTO)
    theirs = S3Source(client, replicated.bucket, owner=SOMEBODY, with_tags=True)
    original = ours.head("k")
    assert original is not None
    part = Span(1, 2)
    asks: list[Callable[[Original], object]] = [
        lambda _: theirs.head("k"),
        lambda _: theirs.head("no such key"),
        lambda at: theirs.open("k", at=at, span=part).__enter__(),
        lambda at: theirs.open("k", at=at).__enter__(),
        lambda _: theirs._call("tags", "get_object_tagging", Key="k"),
        lambda at: theirs._parts._size(at, 1, 1),
        lambda _: theirs._require_bucket(),
    ]
    for ask in asks:
        with pytest.raises(Refused, match=SOMEBODY) as caught:
            ask(original)
        assert caught.value.code == "SrcGetObjectNotPermitted"
    client.close()


def test_a_rule_names_an_owner_of_its_own(replicated: Replicated) -> None:
    rules = [
        rule(
            "all",
            replicated.bucket,
            f"gs://{replicated.copies.name}",
        )
    ]
    rules[0]["Source"]["Account"] = SOMEBODY
    replicated.service = replicated.rig.service(*rules, SOURCE_BUCKET_OWNER=MOTO)
    assert replicated.tell("ObjectRemoved:Delete") == ["SrcGetObjectNotPermitted"]
    replicated.rig.front.owners[replicated.bucket] = SOMEBODY
    assert replicated.tell("ObjectTagging:Put") == []
