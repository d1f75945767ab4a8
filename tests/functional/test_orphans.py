"""`python -m handler.tools.verify`: the copies that no rule makes any more, which it names, and removes on demand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from handler import config
from handler.adapters.gcs.destination import GcsDestination
from handler.core.model import Replica
from handler.core.plan import STAGING
from handler.tools import held
from handler.tools.compare import Verifier
from handler.tools.verify import main
from local_emulator.gcs import GcsServer
from tests.functional.rig import Rig, rig_on
from tests.functional.test_rules import rule
from tests.functional.test_verify import Desk


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@pytest.fixture
def desk(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(rig, monkeypatch, capsys)


def narrowed(desk: Desk) -> None:
    """From now on the rule is for `in/` only."""
    desk.rules(rule("all", desk.source, desk.to, Filter={"Prefix": "in/"}))


def line(what: str, name: str, why: str, key: str = "") -> str:
    return f"{what:<7} s3://S/{key or name} -> gs://G/{name}  {why}"


GONE = "no rule makes this copy"


def test_a_changed_prefix_leaves_orphans_that_are_named_and_removed_on_demand(desk: Desk) -> None:
    stale = [f"out/{number:02}" for number in range(47)]
    live = [f"in/{number:02}" for number in range(53)]
    desk.put(*live, *stale, replicated=False)
    assert desk.run("--repair")[0] == 0
    narrowed(desk)
    for arguments in ((), ("--repair",)):
        code, lines, last = desk.run(*arguments)
        assert (code, lines) == (1, [line("orphan", key, GONE) for key in stale])
        assert last.endswith("; all equal; 47 orphans")
        assert desk.names() == {*live, *stale}
    code, lines, last = desk.run("--remove-orphans", f"{desk.to}/")
    assert (code, lines) == (0, [line("removed", key, "done") for key in stale])
    assert last.endswith("; all equal; 47 orphans removed")
    assert desk.err == "removing 47 orphans\n"
    assert desk.names() == set(live)
    assert desk.run()[:2] == (0, [])


def test_orphans_are_removed_where_it_is_asked_for_only(desk: Desk) -> None:
    desk.put("in/k", "old/a", "old/b", "older/c")
    narrowed(desk)
    code, lines, last = desk.run("--remove-orphans", f"{desk.to}/old/", "--remove-orphans", f"{desk.to}2/")
    assert (code, lines) == (1, [line("orphan", "older/c", GONE), *(line("removed", f"old/{x}", "done") for x in "ab")])
    assert last.endswith("; all equal; 1 orphans; 2 orphans removed")
    assert desk.names() == {"in/k", "older/c"}


@pytest.mark.parametrize("text", ["", "gs://", "gs://bucket", "gs:///x", "bucket/", "s3://bucket/"])
def test_a_location_is_a_bucket_and_what_names_begin_with(desk: Desk, text: str) -> None:
    with pytest.raises(SystemExit):
        main(["--remove-orphans", text])
    assert "--remove-orphans" in desk.capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"to": {"ReplaceKeyPrefixWith": "b/"}, "Filter": {"Prefix": "a/"}}),
        ({"Filter": {"Prefix": "b/"}, "to": {"ReplaceKeyPrefixWith": "c/b/"}}, {"Filter": {"Prefix": "c/"}}),
    ],
    ids=["another key's name", "another rule's prefix"],
)
def test_orphans_under_the_prefix_of_a_rule_are_found_too(
    desk: Desk, before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]
) -> None:
    desk.rules(rule("r", desk.source, desk.to, **before))
    desk.put("b/k")
    desk.rules(rule("r", desk.source, desk.to, **after))
    code, lines, _ = desk.run("--within-rules")
    (name,) = desk.names()
    assert (code, lines) == (1, [line("orphan", name, GONE, key="b/k")])


def test_an_orphan_under_the_prefixes_of_several_rules_is_named_once(desk: Desk) -> None:
    desk.rules(rule("r", desk.source, f"{desk.to}/b/c"))
    desk.put("k")
    desk.rules(
        rule("r", desk.source, desk.to, Filter={"Prefix": "b/"}),
        rule("q", desk.source, desk.to, Filter={"Prefix": "a/"}, to={"ReplaceKeyPrefixWith": "b/c/"}, Priority=1),
        rule("other", desk.rig.bucket(), f"{desk.to}/b", Priority=2),
    )
    assert desk.run()[:2] == (1, [line("orphan", "b/c/k", GONE, key="k")])


def test_a_changed_destination_prefix_leaves_orphans(desk: Desk) -> None:
    desk.rules(rule("r", desk.source, f"{desk.to}/old"))
    desk.put("k")
    desk.rules(rule("r", desk.source, f"{desk.to}/new"))
    code, lines, _ = desk.run("--repair", "--remove-orphans", f"{desk.to}/")
    assert code == 0
    assert lines == [
        "put     s3://S/k -> gs://G/new/k  done",
        line("removed", "old/k", "done", key="k"),
    ]
    assert desk.names() == {"new/k"}


def test_copies_of_disabled_rules_and_of_rules_that_keep_are_named_and_never_removed(desk: Desk) -> None:
    desk.rules(*(rule(name, desk.source, desk.to, Filter={"Prefix": f"{name}/"}) for name in ("on", "off", "keep")))
    desk.put("on/k", "off/k", "keep/k")
    desk.rules(
        rule("on", desk.source, desk.to, Filter={"Prefix": "on/"}),
        rule("off", desk.source, desk.to, Filter={"Prefix": "off/"}, Status="Disabled"),
        rule("keep", desk.source, f"{desk.to}/x", DeleteMarkerReplication={"Status": "Disabled"}),
    )
    desk.run("--repair")
    before = desk.names()
    code, lines, last = desk.run("--repair", "--remove-orphans", f"{desk.to}/", "--allow-deletes")
    assert code == 0
    assert lines == [
        line("kept", "keep/k", f"{GONE}, but the rule 'keep' does not replicate deletes: kept"),
        line("kept", "off/k", "no enabled rule makes this copy, but the rule 'off' is disabled: kept"),
    ]
    assert last.endswith("; all equal; 2 kept though no enabled rule makes them")
    assert desk.names() == before


def test_copies_of_other_stacks_and_objects_of_others_are_never_touched(desk: Desk, rig: Rig) -> None:
    other = rig.bucket()
    desk.put("in/k", "out/k")
    rig.s3.put_object(Bucket=other, Key="k", Body=b"theirs")
    desk.rules(rule("all", other, f"{desk.to}/theirs"))
    assert desk.run("--repair", "--within-rules")[0] == 0
    desk.copies.blob("foreign").upload_from_string(b"somebody's")
    desk.copies.blob("in/foreign").upload_from_string(b"somebody's")
    desk.copies.blob(f"{STAGING}x/y").upload_from_string(b"a part")
    narrowed(desk)
    code, lines, last = desk.run("--repair", "--remove-orphans", f"{desk.to}/", "--allow-deletes")
    assert (code, lines) == (0, [line("removed", "out/k", "done")])
    assert "; 1 copies of others, left alone" in last
    assert f"; 1 copies from s3://{other}, which no rule names, left alone" in last
    assert desk.names() == {"in/k", "theirs/k", "foreign", "in/foreign", f"{STAGING}x/y"}


def test_too_many_orphans_are_held_back(desk: Desk) -> None:
    desk.patch.setattr(held, "FEW", 2)
    desk.put("in/k", "out/1", "out/2", "out/3")
    narrowed(desk)
    code, lines, _ = desk.run("--remove-orphans", f"{desk.to}/")
    assert (code, lines) == (3, [line("held", f"out/{number}", GONE) for number in (1, 2, 3)])
    assert desk.err.startswith(
        "3 of 4 copies would be deleted, more than 2 and more than 10 %: no copy was deleted. Find out why"
    )
    assert len(desk.names()) == 4
    assert desk.run("--remove-orphans", f"{desk.to}/", "--allow-deletes", "3")[0] == 0
    assert desk.names() == {"in/k"}


def test_orphans_and_deletes_have_one_limit(desk: Desk) -> None:
    desk.patch.setattr(held, "FEW", 2)
    desk.put("in/k", "in/gone", "out/1", "out/2")
    desk.rig.s3.delete_object(Bucket=desk.source, Key="in/gone")
    narrowed(desk)
    code, lines, _ = desk.run("--repair", "--remove-orphans", f"{desk.to}/")
    assert (code, [text.split()[0] for text in lines]) == (3, ["held"] * 3)
    assert len(desk.names()) == 4
    assert desk.run("--remove-orphans", f"{desk.to}/")[0] == 1  # the delete is not of this run
    assert desk.names() == {"in/k", "in/gone"}


def test_what_is_no_orphan_any_more_at_the_last_look_is_kept(desk: Desk) -> None:
    desk.put("in/k", "out/foreign", "out/gone", "out/live", "out/stale")
    narrowed(desk)
    with closing(Verifier(config.load(), removing=[f"{desk.to}/"])) as verifier:
        search = verifier.orphans.search

        def search_and_change() -> None:
            search()
            desk.copies.blob("out/foreign").upload_from_string(b"somebody's")
            desk.copies.blob("out/gone").delete()
            live = desk.copies.get_blob("out/live")
            live.metadata = {**live.metadata, "s3-replica-key": "in/another"}
            live.patch()

        desk.patch.setattr(verifier.orphans, "search", search_and_change)
        found = [(finding.what, finding.copy.rpartition("/")[2]) for finding in verifier.findings(desk.rig.s3)]
    assert found == [("kept", "foreign"), ("kept", "gone"), ("kept", "live"), ("removed", "stale")]
    assert desk.names() == {"in/k", "out/foreign", "out/live"}


def test_an_orphan_is_removed_on_the_generation_that_the_last_look_found(desk: Desk) -> None:
    desk.put("in/k", "out/foreign", "out/patched")
    narrowed(desk)
    head, looks = GcsDestination.head, list[str]()

    def head_and_change(self: GcsDestination, key: str) -> Replica:
        found = head(self, key)
        looks.append(key)
        if key == "out/foreign":
            desk.copies.blob(key).upload_from_string(b"somebody's")
        elif looks.count(key) == 1:
            blob = desk.copies.get_blob(key)
            blob.cache_control = "no-store"
            blob.patch()
        return found

    desk.patch.setattr(GcsDestination, "head", head_and_change)
    code, lines, _ = desk.run("--remove-orphans", f"{desk.to}/")
    assert (code, [text.split()[0] for text in lines]) == (0, ["kept", "removed"])
    assert sorted(looks) == ["out/foreign"] * 2 + ["out/patched"] * 2
    assert desk.copies.blob("out/foreign").download_as_bytes() == b"somebody's"
    assert desk.names() == {"in/k", "out/foreign"}


def test_an_orphan_that_is_written_all_the_time_is_a_failure(desk: Desk) -> None:
    desk.put("in/k", "out/k")
    narrowed(desk)
    head = GcsDestination.head

    def head_and_patch(self: GcsDestination, key: str) -> Replica:
        found = head(self, key)
        blob = desk.copies.get_blob(key)
        blob.cache_control = f"max-age={blob.metageneration}"
        blob.patch()
        return found

    desk.patch.setattr(GcsDestination, "head", head_and_patch)
    code, (text,), _ = desk.run("--remove-orphans", f"{desk.to}/")
    assert code == 1
    assert text.startswith(line("failed", "out/k", "KeyTooHot: "))
    assert desk.names() == {"in/k", "out/k"}


def test_an_orphan_that_cannot_be_removed_is_named_with_the_reason(desk: Desk) -> None:
    desk.put("in/k", "out/held", "out/k")
    blob = desk.copies.get_blob("out/held")
    blob.temporary_hold = True
    blob.patch()
    narrowed(desk)
    _, (refused, removed), last = desk.run("--remove-orphans", f"{desk.to}/")
    assert refused.startswith(line("refused", "out/held", "DstObjectHeld: "))
    assert removed == line("removed", "out/k", "done")
    assert last.endswith("all equal but 1 refused: 1 DstObjectHeld; 1 orphans removed")
    blob.temporary_hold = False
    blob.patch()


def test_nothing_is_listed_twice_and_nothing_beyond_the_rules_if_not_asked_for(desk: Desk) -> None:
    desk.put("in/k", "out/k")
    listed: list[tuple[str, str, str]] = []
    scan = GcsDestination.scan

    def noting(self: GcsDestination, prefix: str, *, start: str = "", stop: str = "") -> object:
        listed.append((prefix, start, stop))
        return scan(self, prefix, start=start, stop=stop)

    desk.patch.setattr(GcsDestination, "scan", noting)
    desk.run()
    assert listed == [("", "", "")]
    narrowed(desk)
    listed.clear()
    assert desk.run()[0] == 1
    assert listed == [("in/", "", ""), ("", "", "in/"), ("", "in0", "")]
    listed.clear()
    assert desk.run("--within-rules")[:2] == (0, [])
    assert listed == [("in/", "", "")]
