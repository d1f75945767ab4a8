"""A rule's Cloud KMS key: every copy is encrypted with it, however large it is, as Google's own client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from handler.core.model import MIB
from local_emulator.gcs import GcsServer
from tests.functional.rig import BODY, Rig, message, record, rig_on
from tests.functional.test_rules import rule

ONE, TWO = (f"projects/p/locations/us/keyRings/r/cryptoKeys/{name}" for name in ("one", "two"))


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


class Encrypted:
    """One source and its copies, under one key or another."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.source, self.copies = rig, rig.bucket(), rig.copies()

    def replicate(self, key: str = "", *, data: bytes = BODY, **environment: str) -> str:
        """Replicate one object by a rule with this KMS key; return what was done."""
        to = {"EncryptionConfiguration": {"ReplicaKmsKeyID": key}} if key else {}
        service = self.rig.service(rule("r", self.source, f"gs://{self.copies.name}", to=to), **environment)
        told = self.rig.handle(service, message("m", record(self.source, "k", size=len(data))))
        assert not told.failed()
        return str(told.line("k")["outcome"])

    def put(self, data: bytes = BODY) -> None:
        self.rig.put(self.source, "k", data)

    @property
    def blob(self) -> Any:
        return self.rig.blob(self.copies, "k")


@pytest.fixture
def world(rig: Rig) -> Encrypted:
    return Encrypted(rig)


@pytest.mark.parametrize("size", [0, 12, 9 * MIB, 130 * MIB], ids=["empty", "small", "by a session", "in parts"])
def test_a_copy_of_any_size_has_the_rules_key(world: Encrypted, size: int) -> None:
    data = (BODY * (size // len(BODY) + 1))[:size]
    world.put(data)
    assert world.replicate(ONE, data=data) == "put"
    assert world.blob.kms_key_name.startswith(f"{ONE}/cryptoKeyVersions/")
    assert world.blob.size == size
    assert world.replicate(ONE, data=data) == "nothing", "equal"


def test_another_key_is_a_rewrite_that_moves_no_byte_through_us(world: Encrypted) -> None:
    world.put()
    world.replicate(ONE)
    before = world.blob
    assert world.replicate(TWO) == "patch"
    assert world.blob.kms_key_name.startswith(TWO)
    assert (world.blob.metadata, world.blob.crc32c) == (before.metadata, before.crc32c)
    assert world.replicate(TWO) == "nothing"


def test_a_copy_that_somebody_encrypted_with_another_key_is_not_equal(world: Encrypted) -> None:
    world.put()
    world.replicate(ONE)
    blob = world.copies.blob("k", kms_key_name=TWO)
    blob.rewrite(world.copies.blob("k"))
    assert world.blob.kms_key_name.startswith(TWO)
    assert world.replicate(ONE) == "patch"
    assert world.blob.kms_key_name.startswith(ONE)


def test_without_a_key_in_the_rule_the_buckets_default_stays(world: Encrypted) -> None:
    world.copies.default_kms_key_name = ONE
    world.copies.patch()
    world.put()
    assert world.replicate() == "put"
    assert world.blob.kms_key_name.startswith(ONE)
    assert world.replicate() == "nothing"
    assert world.replicate(TWO) == "patch"
    assert world.replicate() == "nothing", "a rule without a key takes any"
