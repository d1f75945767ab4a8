"""S3 Object Lock as GCS object retention and holds, by rule, between moto and the local GCS server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handler.model import MIB
from local_emulator.gcs import GcsServer
from tests.functional.rig import BODY, Rig, Told, message, record, rig_on
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
    assert line["code"] == "DstRequestInvalid"
    assert "retention" in line["message"]
