"""`python -m handler.tools.verify`: what it finds unequal by two listings, what it repairs, and what it leaves."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import storage

from handler import config
from handler.adapters.gcs import errors as gcs_errors
from handler.adapters.s3 import errors as s3_errors
from handler.core.errors import Refused
from handler.core.plan import STAGING
from handler.tools import compare, findings, held
from handler.tools.compare import Verifier
from handler.tools.listings import joined
from handler.tools.verify import main
from local_emulator.gcs import GcsServer
from tests.functional.rig import Rig, message, record, rig_on
from tests.functional.s3_override import S3Override
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
        self.err = ""
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
        out, self.err = self.capsys.readouterr()
        *lines, last = out.splitlines()
        return code, [line.replace(self.source, "S").replace(self.copies.name, "G") for line in lines], last

    def names(self) -> set[str]:
        return {blob.name for blob in self.rig.gcs.list_blobs(self.copies.name)}


@pytest.fixture
def desk(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(rig, monkeypatch, capsys)


KEYS = ["a", "b/c d", "b/ü+%", "b.txt", "b/\U0001f600", "z" * 1000]


def test_equal_sides_are_found_equal_by_two_listings(desk: Desk) -> None:
    desk.put(*KEYS)
    desk.rig.front.requests.clear()
    code, lines, last = desk.run()
    assert (code, lines) == (0, [])
    assert last.startswith("6 objects compared in ")
    assert last.endswith(" s; all equal")
    assert [(item.method, "list-type" in item.query) for item in desk.rig.front.requests] == [("GET", True)]


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


def test_what_is_not_equal_is_repaired_on_demand(desk: Desk) -> None:
    _unequal(desk)
    code, lines, _ = desk.run("--repair")
    assert code == 0
    assert [line.split("  ")[0].split()[0] for line in lines] == ["put", "patch", "put", "delete"]
    assert desk.names() == {"equal", "missed", "new metadata", "other's", "overwritten", "foreign", f"{STAGING}x/y"}
    assert desk.run()[:2] == (0, [])


def test_the_former_name_of_the_repair_flag_still_works_and_is_not_taught(desk: Desk) -> None:
    desk.put("k", replicated=False)
    assert desk.run("--mend")[0] == 0
    assert desk.names() == {"k"}
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "mend" not in desk.capsys.readouterr().out


def test_a_legal_hold_of_which_no_event_told_is_found_and_repaired(desk: Desk) -> None:
    """S3's listings do not tell of locks, so each object of such a rule is looked at."""
    desk.rules(rule("all", desk.source, desk.to, to={"ObjectLock": {"Status": "Enabled"}}))
    desk.put("k", "free")
    assert desk.run()[:2] == (0, [])
    desk.rig.front.overrides[desk.source, "k"] = S3Override(headers={"x-amz-object-lock-legal-hold": "ON"})
    for arguments, code in (((), 1), (("--repair",), 0)):
        found, (line,), _ = desk.run(*arguments)
        assert (found, line.split()[:2]) == (code, ["patch", "s3://S/k"])
    blob = desk.rig.blob(desk.copies, "k")
    assert blob is not None
    assert blob.temporary_hold is True
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


def _replaced_bytes(blob: storage.Blob) -> None:
    metadata = blob.metadata
    blob.upload_from_string(b"DATA", content_type=blob.content_type)
    blob.metadata = metadata
    blob.patch()


def _other_headers(blob: storage.Blob) -> None:
    blob.cache_control = "no-store"
    blob.patch()


def _other_metadata(blob: storage.Blob) -> None:
    blob.metadata = {**blob.metadata, "owner": "somebody"}
    blob.patch()


@pytest.mark.parametrize(
    ("change", "what"), [(_replaced_bytes, "put"), (_other_headers, "patch"), (_other_metadata, "patch")]
)
def test_a_copy_that_somebody_changed_is_found_by_the_listings(
    desk: Desk, change: Callable[[storage.Blob], None], what: str
) -> None:
    desk.put("k", "untouched")
    blob = desk.rig.blob(desk.copies, "k")
    assert blob
    change(blob)
    code, (line,), _ = desk.run()
    assert (code, line.split()[:2]) == (1, [what, "s3://S/k"])
    assert desk.run("--repair")[:2] == (0, [f"{what:<7} s3://S/k -> gs://G/k  done"])
    assert desk.copies.blob("k").download_as_bytes() == b"data"
    assert desk.run()[:2] == (0, [])


LAYOUTS: list[Callable[[Desk], list[dict[str, Any]]]] = [
    lambda desk: [rule("all", desk.source, desk.to), rule("old", desk.source, f"{desk.to}/archive")],
    lambda desk: [
        rule("all", desk.source, desk.to),
        rule("a", desk.source, desk.to, Filter={"Prefix": "a/"}, to={"ReplaceKeyPrefixWith": "b/"}),
    ],
    lambda desk: [
        rule("all", desk.source, desk.to),
        rule("some", desk.source, desk.to, Filter={"Prefix": "a/"}, Priority=1),
    ],
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["a prefix in another", "a replaced prefix", "two priorities"])
def test_rules_that_share_a_destination_leave_each_others_copies(
    desk: Desk, layout: Callable[[Desk], list[dict[str, Any]]]
) -> None:
    desk.rules(*layout(desk))
    desk.put("x", "a/y", "a/z")
    before = desk.names()
    for arguments in ((), ("--repair",), ("--repair", "--thorough"), ()):
        code, lines, last = desk.run(*arguments)
        assert (code, lines) == (0, [])
        assert last.endswith("; all equal")
    assert desk.names() == before
    desk.rig.s3.delete_object(Bucket=desk.source, Key="x")
    assert desk.run("--repair")[0] == 0
    assert desk.run()[:2] == (0, [])
    assert desk.names() == {name for name in before if not name.endswith("x")}


def test_copies_that_name_neither_key_nor_rule_are_patched_before_any_is_deleted(desk: Desk) -> None:
    """As earlier releases left them: by its name alone, the copy `archive/x` could be of the key `archive/x`."""
    desk.rules(*LAYOUTS[0](desk))
    desk.put("x", "a/y")
    before = desk.names()
    for blob in desk.rig.gcs.list_blobs(desk.copies.name):
        blob.metadata = {**blob.metadata, "s3-replica-key": None, "s3-replica-rule": None}
        blob.patch()
    code, lines, _ = desk.run("--repair")
    assert (code, {line.split()[0] for line in lines}) == (0, {"patch"})
    assert desk.names() == before
    assert desk.run()[:2] == (0, [])


def test_each_copy_of_a_key_is_named_once(desk: Desk) -> None:
    desk.rules(rule("one", desk.source, f"{desk.to}/1"), rule("two", desk.source, f"{desk.to}/2"))
    desk.put("k", replicated=False)
    code, lines, last = desk.run()
    assert code == 1
    assert lines == ["put     s3://S/k -> gs://G/1/k  no replica", "put     s3://S/k -> gs://G/2/k  no replica"]
    assert last.endswith("; to be done: 2 put")


# --- deletes


def test_no_copy_is_deleted_before_all_is_listed(desk: Desk) -> None:
    desk.patch.setattr(compare, "AT_ONCE", 1)
    desk.put("k")
    desk.rig.s3.delete_object(Bucket=desk.source, Key="k")
    desk.rules(*desk.own, rule("r", desk.source, "gs://no-such-bucket-of-ours"))
    assert main(["--repair"]) == 2
    assert desk.names() == {"k"}


def test_too_many_deletes_are_named_and_held_back(desk: Desk) -> None:
    desk.patch.setattr(held, "FEW", 2)
    desk.put("a", "b", "c", "d")
    desk.put("new", replicated=False)
    for key in "abc":
        desk.rig.s3.delete_object(Bucket=desk.source, Key=key)
    assert desk.run()[0] == 1
    assert desk.err.startswith(
        "3 of 4 copies would be deleted, more than 2 and more than 10 %: --repair would delete none"
    )
    code, lines, last = desk.run("--repair")
    assert code == 3
    assert lines == [
        "put     s3://S/new -> gs://G/new  done",
        *(f"held    s3://S/{key} -> gs://G/{key}  no original" for key in "abc"),
    ]
    assert last.endswith("; done: 3 held, 1 put")
    assert desk.err.startswith("3 of 4 copies would be deleted, more than 2 and more than 10 %: no copy was deleted.")
    assert "--allow-deletes" in desk.err
    assert desk.names() == {"a", "b", "c", "d", "new"}
    assert desk.run("--repair", "--allow-deletes", "2")[0] == 3
    assert desk.names() == {"a", "b", "c", "d", "new"}
    assert desk.run("--repair", "--allow-deletes", "3")[0] == 0
    assert desk.err == "deleting 3 of 5 copies\n"
    assert desk.names() == {"d", "new"}


def test_any_number_of_deletes_is_allowed_on_demand(desk: Desk) -> None:
    desk.patch.setattr(held, "FEW", 0)
    desk.put("a", "b")
    for key in "ab":
        desk.rig.s3.delete_object(Bucket=desk.source, Key=key)
    assert desk.run("--repair")[0] == 3
    assert desk.run("--repair", "--allow-deletes")[0] == 0
    assert desk.names() == set()


@pytest.mark.parametrize("text", ["-1", "many", "1.5", "inf"])
def test_an_allowance_is_a_number(desk: Desk, text: str) -> None:
    with pytest.raises(SystemExit):
        main(["--repair", "--allow-deletes", text])
    assert "--allow-deletes" in desk.capsys.readouterr().err


def test_an_original_that_goes_after_it_was_listed_is_held_back_too(desk: Desk) -> None:
    desk.patch.setattr(held, "FEW", 0)
    desk.put("k")
    desk.put("k", body=b"newer", replicated=False)
    desk.rig.front.overrides[desk.source, "k"] = S3Override(refuses=(404, "NoSuchKey"))
    code, lines, _ = desk.run("--repair")
    assert (code, lines) == (3, ["held    s3://S/k -> gs://G/k  no original"])
    assert desk.names() == {"k"}


def test_an_original_that_comes_after_the_listing_is_copied(desk: Desk) -> None:
    desk.put("k")
    desk.put("k", body=b"newer", replicated=False)
    empty: Any = SimpleNamespace(get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{}]))
    with closing(Verifier(config.load(), repair=True)) as verifier:
        assert [finding.what for finding in verifier.findings(empty)] == ["put"]
    assert desk.run()[:2] == (0, [])


# --- what is refused


def test_what_cannot_be_replicated_is_counted_apart(desk: Desk) -> None:
    desk.put("equal")
    desk.put("customer's key", ".well-known/acme-challenge/x", replicated=False)
    desk.rig.front.overrides[desk.source, "customer's key"] = S3Override(refuses=(400, "InvalidRequest"))
    desk.rig.s3.put_object(Bucket=desk.source, Key="archived", StorageClass="GLACIER")
    desk.rig.s3.put_object(Bucket=desk.source, Key="reserved", Metadata={"s3-replica-x": "y"})
    wanted = {
        ".well-known/acme-challenge/x": "DstKeyInvalid",
        "archived": "SrcObjectArchived",
        "customer's key": "SrcObjectNotEligible",
        "reserved": "SrcMetadataReserved",
    }
    for arguments in ((), ("--repair",), ("--thorough",), ()):
        code, lines, last = desk.run(*arguments)
        assert code == 0
        for line, (key, reason) in zip(lines, wanted.items(), strict=True):
            assert line.startswith(f"refused s3://S/{key} -> gs://G/{key}  {reason}: ")
        counted = ", ".join(f"1 {reason}" for reason in sorted(wanted.values()))
        assert last.endswith(f"; all equal but 4 refused: {counted}")


def test_a_missing_permission_is_a_failure(desk: Desk) -> None:
    desk.put("k", replicated=False)
    desk.rig.front.overrides[desk.source, "k"] = S3Override(refuses=(403, "AccessDenied"))
    for arguments in ((), ("--repair",)):
        code, (line,), last = desk.run(*arguments)
        assert code == 1
        assert line.startswith("failed  s3://S/k -> gs://G/k  SrcGetObjectNotPermitted: ")
        assert last.endswith(": 1 failed")


def test_every_refusal_is_the_objects_or_the_operators() -> None:
    """A code that is new in the handler must be put on one of the two lists."""
    found = {*s3_errors._REFUSED.values(), *gcs_errors._FORBIDDEN.values()}
    found |= {code for kind, code in gcs_errors._BY_STATUS.values() if kind is Refused}
    found |= {code for _, _, kind, code in gcs_errors._BY_MESSAGE if kind is Refused}
    for path in Path(compare.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused":
                values = (keyword.value for keyword in node.keywords if keyword.arg == "code")
                found |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    assert found == findings.OF_THE_OBJECT | OF_THE_OPERATOR
    assert not findings.OF_THE_OBJECT & OF_THE_OPERATOR


OF_THE_OPERATOR = {
    "DstBucketObjectLockConfigMissing",
    "DstKmsKeyInvalidState",
    "DstKmsKeyNotPermitted",
    "DstBucketNotFound",
    "DstPutObjectNotPermitted",
    "DstRequestInvalid",
    "Expired",
    "SrcBucketInOtherRegion",
    "SrcBucketNotFound",
    "SrcBucketNotSupported",
    "SrcBucketReplicationConfigMissing",
    "SrcGetObjectNotPermitted",
    "SrcKmsKeyInvalidState",
    "SrcKmsKeyNotFound",
}


# --- what is printed


@pytest.mark.parametrize("key", ["\x1b[2J\x1b[1;1Hk", "a\x9b31mk", "a\u202egnp.exe", "a\x07\x7f"])
def test_no_key_writes_to_the_terminal(desk: Desk, key: str) -> None:
    desk.put(key)
    desk.put(key, body=b"newer", replicated=False)
    desk.rig.s3.put_object(Bucket=desk.source, Key=f"{key}2", StorageClass="GLACIER")
    escaped = repr(key)[1:-1]
    code, lines, _ = desk.run()
    assert (code, lines[1]) == (1, f"put     s3://S/{escaped} -> gs://G/{escaped}  the bytes differ")
    assert lines[0].startswith(f"refused s3://S/{escaped}2 -> gs://G/{escaped}2  SrcObjectArchived: ")
    assert all(line.isprintable() for line in lines)


def test_no_error_writes_to_the_terminal(desk: Desk) -> None:
    desk.rules(rule("\x1b[2J", "", desk.to), rule("\u202e", "", desk.to))
    assert main([]) == 2
    assert all(line.isprintable() for line in desk.capsys.readouterr().err.split("\n"))


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
