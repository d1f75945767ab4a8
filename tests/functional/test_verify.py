"""`python -m handler.verify`: what it finds unequal by two listings, what it mends, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handler import compare, config
from handler.compare import Verifier, joined
from handler.plan import STAGING
from handler.verify import main
from local_emulator.gcs import GcsServer
from tests.functional.rig import Rig, message, record, rig_on
from tests.functional.test_rules import rule


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


class Desk:
    """One source and its copies, an engineer's shell, and what the program says there."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.rig, self.patch, self.capsys = rig, patch, capsys
        self.source, self.copies = rig.bucket(), rig.copies()
        self.to = f"gs://{self.copies.name}"
        patch.setenv("AWS_ENDPOINT_URL_S3", rig.front.url)
        patch.setenv("STORAGE_EMULATOR_HOST", rig.gcs_url)
        patch.setattr(compare, "PAUSE", 0.0)
        self.rules(rule("all", self.source, self.to))

    def rules(self, *rules: dict[str, Any]) -> None:
        self.own = rules
        self.patch.setenv("REPLICATION_RULES", json.dumps(rules))

    def unsay(self, name: str) -> None:
        self.patch.delenv(name)
        self.patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")

    def put(self, *keys: str, body: bytes = b"data", replicated: bool = True) -> None:
        for key in keys:
            self.rig.s3.put_object(Bucket=self.source, Key=key, Body=body)
        if replicated:
            told = [message(key, record(self.source, key, size=len(body))) for key in keys]
            assert self.rig.handle(self.rig.service(*self.own), *told).failed() == []

    def run(self, *arguments: str) -> tuple[int, list[str], str]:
        """The exit code, the lines about objects, and the last line."""
        code = main(list(arguments))
        *lines, last = self.capsys.readouterr().out.splitlines()
        return code, [line.replace(self.source, "S").replace(self.copies.name, "G") for line in lines], last

    def names(self) -> set[str]:
        return {blob.name for blob in self.rig.gcs.list_blobs(self.copies.name)}


@pytest.fixture
def desk(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(rig, monkeypatch, capsys)


KEYS = ["a", "b/c d", "b/ü+%", "b.txt", "b/\U0001f600", "z" * 1000]


def test_equal_sides_are_found_equal_by_two_listings(desk: Desk) -> None:
    desk.put(*KEYS)
    desk.rig.front.exchanges.clear()
    code, lines, last = desk.run()
    assert (code, lines) == (0, [])
    assert last.startswith("6 objects compared in ")
    assert last.endswith(" s; all equal")
    assert [(item.method, "list-type" in item.query) for item in desk.rig.front.exchanges] == [("GET", True)]


def _unequal(desk: Desk) -> None:
    desk.put("equal", "overwritten", "gone", "other's", "new metadata")
    desk.put("missed", replicated=False)
    desk.put("overwritten", body=b"newer", replicated=False)
    desk.rig.s3.delete_object(Bucket=desk.source, Key="gone")
    old = desk.rig.blob(desk.copies, "new metadata")
    assert old
    old.metadata = {**old.metadata, "s3-replica-last-modified": "2001-01-01T00:00:00Z", "s3-replica-digest": "old"}
    old.patch()
    desk.copies.blob("foreign").upload_from_string(b"somebody's")
    desk.copies.blob(f"{STAGING}x/y").upload_from_string(b"a part")


FOUND = [
    "delete  s3://S/gone -> gs://G/gone  no original",
    "put     s3://S/missed -> gs://G/missed  no replica",
    "patch   s3://S/new metadata -> gs://G/new metadata  the bytes are equal, the metadata is not",
    "put     s3://S/overwritten -> gs://G/overwritten  the bytes differ",
]


def test_what_is_not_equal_is_named_and_left(desk: Desk) -> None:
    _unequal(desk)
    before = desk.names()
    code, lines, last = desk.run()
    assert (code, lines) == (1, FOUND)
    assert last.startswith("5 objects compared in ")
    assert last.endswith(" s; to be done: 1 delete, 1 patch, 2 put; 1 copies of others, left alone")
    assert desk.names() == before


def test_what_is_not_equal_is_mended_on_demand(desk: Desk) -> None:
    _unequal(desk)
    code, lines, _ = desk.run("--mend")
    assert code == 0
    assert [line.split("  ")[0].split()[0] for line in lines] == ["put", "patch", "put", "delete"]
    assert desk.names() == {"equal", "missed", "new metadata", "other's", "overwritten", "foreign", f"{STAGING}x/y"}
    assert desk.run()[:2] == (0, [])


def test_what_was_on_its_way_is_not_named(desk: Desk) -> None:
    desk.put("late", replicated=False)
    verifier = Verifier(config.load(), pause=lambda: desk.put("late"))
    assert list(verifier.findings(desk.rig.s3)) == []
    verifier.close()


def test_no_more_than_memory_has_are_looked_at_once_more(desk: Desk) -> None:
    desk.patch.setattr(compare, "MOST", 2)
    desk.put("1", "2", "3", "4", replicated=False)
    verifier = Verifier(config.load(), pause=lambda: desk.put("1", "2", "3", "4"))
    assert [finding.original[-1] for finding in verifier.findings(desk.rig.s3)] == ["3", "4"]
    verifier.close()


def test_tags_are_found_by_a_thorough_look_only(desk: Desk) -> None:
    desk.rules(rule("tags", desk.source, desk.to, to={"Tags": {"Status": "Enabled"}}))
    desk.put("k")
    desk.rig.s3.put_object_tagging(Bucket=desk.source, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert desk.run()[:2] == (0, [])
    code, lines, _ = desk.run("--thorough")
    assert (code, [line.split()[0] for line in lines]) == (1, ["patch"])


def test_each_object_is_compared_by_the_rules_that_cover_it(desk: Desk) -> None:
    desk.rules(
        rule("all", desk.source, f"{desk.to}/all"),
        rule("part", desk.source, f"{desk.to}/all", Filter={"Prefix": "in/"}, Priority=2),
        rule("moved", desk.source, desk.to, Filter={"Prefix": "in/"}, to={"ReplaceKeyPrefixWith": "out/"}),
        rule("folder", desk.source, "file:///nowhere", Filter={"Prefix": "none/"}),
    )
    desk.put("in/k", "k")
    assert desk.names() == {"all/in/k", "all/k", "out/k"}
    assert desk.run()[:2] == (0, [])
    desk.copies.blob("out/k").delete()
    code, lines, last = desk.run()
    assert (code, lines) == (1, ["put     s3://S/in/k -> gs://G/out/k  no replica"])
    assert last.endswith("; 1 not compared, no GCS bucket: file:///nowhere")


def test_what_can_never_be_equal_is_named_with_its_reason(desk: Desk) -> None:
    desk.put("k", replicated=False)
    desk.rig.s3.put_object(Bucket=desk.source, Key="k", Metadata={"s3-replica-x": "y"})
    code, (line,), last = desk.run("--mend")
    assert code == 0
    assert line.startswith("refused s3://S/k -> gs://G/k  SrcMetadataReserved: ")
    assert last.endswith("; all equal but 1 refused: 1 SrcMetadataReserved")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda desk: desk.rules(), "REPLICATION_RULES"),
        (lambda desk: desk.unsay("STORAGE_EMULATOR_HOST"), "/no/such/file"),
        (lambda desk: desk.rules(rule("r", "no-such-bucket-of-ours", desk.to)), "NoSuchBucket"),
        (lambda desk: desk.rules(rule("r", desk.source, "gs://no-such-bucket-of-ours")), "no-such-bucket-of-ours"),
    ],
    ids=["no rules", "no credentials", "no source", "no destination"],
)
def test_what_cannot_be_compared_is_said(desk: Desk, change: Callable[[Desk], None], text: str) -> None:
    change(desk)
    assert main([]) == 2
    assert text in desk.capsys.readouterr().err


def test_two_listings_are_joined_in_the_order_of_the_clouds() -> None:
    """Which is that of UTF-8, and not that of UTF-16."""
    left = [("a", 1), ("b", 2), ("\uffee", 3), ("\U0001f600", 4)]
    right = [("b", 5), ("\uffee", 6), ("c", 7)]
    assert list(joined(left, sorted(right, key=lambda item: item[0].encode()))) == [
        ("a", 1, None),
        ("b", 2, 5),
        ("c", None, 7),
        ("\uffee", 3, 6),
        ("\U0001f600", 4, None),
    ]
