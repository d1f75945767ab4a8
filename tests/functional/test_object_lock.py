"""S3 Object Lock as GCS object retention and holds, by rule, between moto and the local GCS server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handler import config
from handler.core.model import MIB
from handler.tools.trials import of_aws
from local_emulator.gcs import GcsServer
from tests.functional.fault_proxy import FaultProxy, Request, fault_proxy
from tests.functional.rig import BODY, Rig, Told, message, record, rig_on
from tests.functional.s3_override import S3Override
from tests.functional.test_rules import rule

LOCKS = {"ObjectLock": {"Status": "Enabled"}}
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
LATER = SOON + timedelta(days=9)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


class Locked:
    """One object in a bucket with Object Lock, and its copy."""

    def __init__(self, rig: Rig, *, retention: bool = True) -> None:
        self.rig = rig
        self.source = f"locked-{next(_numbers)}-{id(self)}"
        rig.s3.create_bucket(Bucket=self.source, ObjectLockEnabledForBucket=True)
        self.copies = rig.gcs.bucket(f"locked-{next(_numbers)}-{id(self)}")
        self.copies.create(enable_object_retention=retention)

    def put(self, data: bytes = BODY, **lock: Any) -> None:
        self.rig.s3.put_object(Bucket=self.source, Key="k", Body=data, **lock)

    def retain(self, mode: str, until: datetime) -> None:
        retention: Any = {"Mode": mode, "RetainUntilDate": until}
        self.rig.s3.put_object_retention(
            Bucket=self.source, Key="k", Retention=retention, BypassGovernanceRetention=True
        )

    def hold(self, status: Any) -> None:
        self.rig.s3.put_object_legal_hold(Bucket=self.source, Key="k", LegalHold={"Status": status})

    def tell(self, to: dict[str, Any] | None = None, event: str = "ObjectCreated:Put") -> Told:
        to = LOCKS if to is None else to
        service = self.rig.service(rule("r", self.source, f"gs://{self.copies.name}", to=to))
        return self.rig.handle(service, message("m", record(self.source, "k", event)))

    def ask(self, proxy: FaultProxy) -> list[Request]:
        """Replicate; return the changes that GCS was asked for."""
        service = self.rig.service(rule("r", self.source, f"gs://{self.copies.name}", to=LOCKS), gcs_url=proxy.url)
        proxy.requests.clear()
        told = self.rig.handle(service, message("m", record(self.source, "k", "ObjectRetention:Put")))
        assert not told.failed(), told.lines
        return [request for request in proxy.requests if request.method == "PATCH"]

    def replicate(self, to: dict[str, Any] | None = None, event: str = "ObjectCreated:Put") -> str:
        told = self.tell(to, event)
        assert not told.failed(), told.lines
        return str(told.line("k")["outcome"])

    def lock(self) -> tuple[str | None, datetime | None, bool]:
        """The copy's retention and hold."""
        blob = self.rig.blob(self.copies, "k")
        assert blob is not None
        return blob.retention.mode, blob.retention.retain_until_time, bool(blob.temporary_hold)


@pytest.fixture
def world(rig: Rig) -> Locked:
    return Locked(rig)


@pytest.mark.parametrize(("mode", "at_google"), [("GOVERNANCE", "Unlocked"), ("COMPLIANCE", "Locked")])
@pytest.mark.parametrize("size", [12, 9 * MIB], ids=["small", "by a session"])
def test_a_retention_becomes_the_copys(world: Locked, mode: str, at_google: str, size: int) -> None:
    world.put((BODY * (size // len(BODY) + 1))[:size], ObjectLockMode=mode, ObjectLockRetainUntilDate=SOON)
    assert world.replicate() == "put"
    assert world.lock() == (at_google, SOON, False)
    assert world.replicate() == "nothing", "equal"


def test_a_legal_hold_becomes_a_temporary_hold_and_goes_with_it(world: Locked) -> None:
    world.put(ObjectLockLegalHoldStatus="ON")
    world.replicate()
    assert world.lock() == (None, None, True)
    world.hold("OFF")
    assert world.replicate() == "patch"
    assert world.lock() == (None, None, False)
    assert world.replicate() == "nothing"


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_longer_retention_is_longer_at_google_too(world: Locked, mode: str) -> None:
    world.put(ObjectLockMode=mode, ObjectLockRetainUntilDate=SOON)
    world.replicate()
    world.retain(mode, LATER)
    assert world.replicate(event="ObjectRetention:Put") == "patch"
    assert world.lock()[1] == LATER


def test_a_governance_retention_can_be_shortened(world: Locked) -> None:
    world.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=LATER)
    world.replicate()
    world.retain("GOVERNANCE", SOON)
    assert world.replicate(event="ObjectRetention:Put") == "patch"
    assert world.lock() == ("Unlocked", SOON, False)


def test_a_locked_retention_that_is_longer_than_the_originals_is_left(world: Locked) -> None:
    world.put()
    world.replicate()
    blob = world.copies.get_blob("k")
    blob.retention.mode, blob.retention.retain_until_time = "Locked", LATER
    blob.patch()
    assert world.replicate() == "nothing"
    world.hold("ON")
    assert world.replicate() == "patch", "what can be changed is changed"
    assert world.lock() == ("Locked", LATER, True)


def test_a_copy_under_a_hold_is_neither_replaced_nor_deleted_and_its_event_says_why(world: Locked) -> None:
    world.put(ObjectLockLegalHoldStatus="ON")
    world.replicate()
    world.put(BODY + b"new")
    told = world.tell()
    assert told.line("k")["code"] == "DstObjectHeld"
    blob = world.copies.get_blob("k")
    assert blob.size == len(BODY)


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_what_s3_no_longer_tells_releases_nothing(world: Locked, mode: str) -> None:
    """Without s3:GetObjectRetention and s3:GetObjectLegalHold S3 answers as for an object that was never locked."""
    world.put(ObjectLockMode=mode, ObjectLockRetainUntilDate=SOON, ObjectLockLegalHoldStatus="ON")
    world.replicate()
    before = world.lock()
    world.rig.front.overrides[world.source, "k"] = S3Override(withholds="x-amz-object-lock-")
    assert world.replicate(event="ObjectTagging:Put") == "nothing"
    world.rig.front.overrides[world.source, "k"] = S3Override(
        headers={"cache-control": "no-store"}, withholds="x-amz-object-lock-"
    )
    assert world.replicate(event="ObjectTagging:Put") == "patch"
    assert world.lock() == before


def test_a_retention_that_is_over_is_not_asked_for(world: Locked) -> None:
    world.put()
    over = {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": "2026-01-01T00:00:00.000Z"}
    world.rig.front.overrides[world.source, "k"] = S3Override(headers=over)
    assert world.replicate() == "put"
    assert world.lock() == (None, None, False)
    assert world.replicate() == "nothing"


def test_a_retention_is_overridden_only_to_be_shortened_or_locked(world: Locked, gcs_server: GcsServer) -> None:
    """That takes a permission of its own: https://cloud.google.com/storage/docs/using-object-lock."""
    world.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=SOON)
    world.replicate()
    with fault_proxy(gcs_server.url) as proxy:
        steps = (("GOVERNANCE", LATER, False), ("GOVERNANCE", SOON, True), ("COMPLIANCE", SOON, True))
        for mode, until, is_overridden in (*steps, ("COMPLIANCE", LATER, False)):
            world.retain(mode, until)
            (patch,) = world.ask(proxy)
            assert ("overrideUnlockedRetention" in patch.query) is is_overridden, (mode, until)
        assert world.lock() == ("Locked", LATER, False)
        world.hold("ON")
        (patch,) = world.ask(proxy)
        assert "overrideUnlockedRetention" not in patch.query
        assert b"retainUntilTime" not in patch.body


def test_a_new_version_comes_over_a_retained_copy_where_the_bucket_keeps_versions_too(world: Locked) -> None:
    world.copies.versioning_enabled = True
    world.copies.patch()
    world.put(ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=SOON)
    world.replicate()
    world.put(BODY + b"new")
    assert world.replicate() == "put"
    old, new = sorted(world.rig.gcs.list_blobs(world.copies, versions=True), key=lambda blob: blob.generation)
    assert (old.retention.mode, old.size, new.retention.mode, new.size) == (
        "Locked",
        len(BODY),
        None,
        len(BODY) + 3,
    )


def test_the_check_tries_what_locks_need_at_the_source(world: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", world.rig.front.url)
    of_locks = {"s3:GetObjectRetention", "s3:GetObjectLegalHold"}
    for to in ({}, LOCKS):
        rules = json.dumps([rule("r", world.source, f"gs://{world.copies.name}", to=to)])
        rows = [*of_aws(config.load({"REPLICATION_RULES": rules}), dead_letters=False)]
        found = {row.subject: row.result for row in rows if row.subject in of_locks}
        assert found == (dict.fromkeys(of_locks, "ok") if to else {})


def test_a_rule_that_does_not_ask_for_locks_takes_none_and_leaves_those_that_are_there(world: Locked) -> None:
    world.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=SOON)
    assert world.replicate({}) == "put"
    assert world.lock() == (None, None, False)
    assert world.replicate() == "patch"
    assert world.replicate({}) == "nothing"
    assert world.lock()[:2] == ("Unlocked", SOON)


def test_a_bucket_without_object_retention_is_refused_with_the_remedy(rig: Rig) -> None:
    world = Locked(rig, retention=False)
    world.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=SOON)
    line = world.tell().line("k")
    assert line["code"] == "DstBucketObjectLockConfigMissing"
    assert "Enable object retention" in line["message"]
