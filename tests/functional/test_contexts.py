"""Tags as GCS object contexts, by rule, as Google's own client sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from handler.core.model import MIB
from local_emulator.gcs import GcsServer
from tests.functional.rig import BODY, Rig, Told, message, record, rig_on
from tests.functional.test_rules import rule

AS_CONTEXTS = {"Tags": {"Status": "Enabled", "As": "Contexts"}}
UNFIT = {"path": "a/b", "empty": "", "_lead": "x", "long": "ü" * 129}
"""Tags that S3 takes, and GCS takes for no context."""


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


class Tagged:
    """One tagged object, and its copy."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.source, self.copies = rig, rig.bucket(), rig.copies()

    def put(self, tags: Mapping[str, str], data: bytes = BODY) -> None:
        self.rig.put(self.source, "k", data)
        self.tag(tags)

    def tag(self, tags: Mapping[str, str]) -> None:
        if not tags:  # moto fails at none
            self.rig.s3.delete_object_tagging(Bucket=self.source, Key="k")
            return
        tag_set: Any = [{"Key": name, "Value": value} for name, value in tags.items()]
        self.rig.s3.put_object_tagging(Bucket=self.source, Key="k", Tagging={"TagSet": tag_set})

    def replicate(self, to: Mapping[str, Any] = AS_CONTEXTS, event: str = "ObjectCreated:Put", **of_object: Any) -> str:
        service = self.rig.service(rule("r", self.source, f"gs://{self.copies.name}", to=to))
        told: Told = self.rig.handle(service, message("m", record(self.source, "k", event, **of_object)))
        assert not told.failed()
        return str(told.line("k")["outcome"])

    @property
    def contexts(self) -> dict[str, str]:
        blob = self.rig.blob(self.copies, "k")
        assert blob is not None
        return {name: payload.value for name, payload in blob.contexts.custom.items()}

    @property
    def tags_among_metadata(self) -> dict[str, str]:
        blob = self.rig.blob(self.copies, "k")
        assert blob is not None
        return {name: value for name, value in blob.metadata.items() if name.startswith("s3-tag-")}


@pytest.fixture
def world(rig: Rig) -> Tagged:
    return Tagged(rig)


@pytest.mark.parametrize("size", [12, 9 * MIB, 130 * MIB], ids=["small", "by a session", "in parts"])
def test_tags_become_contexts(world: Tagged, size: int) -> None:
    world.put({"team": "red", "größe": "groß + 1"}, (BODY * (size // len(BODY) + 1))[:size])
    assert world.replicate(size=size) == "put"
    assert world.contexts == {"team": "red", "größe": "groß + 1"}
    assert world.tags_among_metadata == {}
    assert world.replicate(size=size) == "nothing", "equal"


def test_what_is_no_context_becomes_metadata(world: Tagged) -> None:
    world.put({"team": "red", **UNFIT})
    world.replicate()
    assert world.contexts == {"team": "red"}
    assert world.tags_among_metadata == {f"s3-tag-{name}": value for name, value in UNFIT.items()}
    assert world.replicate() == "nothing"


def test_a_change_of_tags_alone_changes_the_contexts(world: Tagged) -> None:
    world.put({"team": "red", "old": "1"})
    world.replicate()
    world.tag({"team": "blue", "new": "2"})
    assert world.replicate(event="ObjectTagging:Put") == "patch"
    assert world.contexts == {"team": "blue", "new": "2"}
    world.tag({})
    assert world.replicate(event="ObjectTagging:Delete") == "patch"
    assert world.contexts == {}
    assert world.replicate() == "nothing"


def test_a_context_that_somebody_changed_is_put_right(world: Tagged) -> None:
    world.put({"team": "red"})
    world.replicate()
    resource = {"contexts": {"custom": {"team": {"value": "mine"}, "more": {"value": "x"}}}}
    path = f"/b/{world.copies.name}/o/k"
    world.rig.gcs._connection.api_request(method="PATCH", path=path, data=resource)  # what the client's setter sends
    assert world.contexts == {"team": "mine", "more": "x"}
    assert world.replicate() == "patch"
    assert world.contexts == {"team": "red"}


def test_a_rule_for_metadata_leaves_contexts_alone(world: Tagged) -> None:
    world.put({"team": "red"})
    world.replicate()
    assert world.replicate({"Tags": {"Status": "Enabled"}}) == "patch"
    assert world.tags_among_metadata == {"s3-tag-team": "red"}
    assert world.contexts == {"team": "red"}
    assert world.replicate({}) == "patch"
    assert world.replicate({}) == "nothing"
