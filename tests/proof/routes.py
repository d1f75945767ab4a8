"""The histories of routes: rules that share names, keys that share rules, and copies that others change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from handler.core.model import Rule
from tests.proof.explore import Explorer
from tests.proof.history import History
from tests.proof.invariants import Invariant
from tests.proof.third_party import DEEDS
from tests.proof.world import BUCKET, MARK, Code

PLAIN = Rule(id="plain", source=BUCKET, destination="gs://b")
ARCHIVE = replace(PLAIN, id="archive", destination_prefix="archive/")
MOVED = replace(PLAIN, id="moved", prefix="a/", replace_prefix="b/")
ELSEWHERE = replace(PLAIN, id="elsewhere", destination="gs://c", deletes=False)
MARKED = replace(PLAIN, id="marked", tags=MARK, priority=2)
REST = replace(PLAIN, id="rest", priority=1)
ANOTHER = {"s3-replica-bucket": "another", "s3-replica-etag": "e", "s3-replica-size": "1"}
"""What a replicator of another source bucket leaves on its copies."""


Family = Callable[[Code], Iterator[Explorer]]


def _kept(rule: Rule) -> Rule:
    return replace(rule, deletes=False)


def _explorer(code: Code, rules: tuple[Rule, ...], *changes: str, **budgets: int) -> Explorer:
    return _of(History(f"{_words(rules)}: {', '.join(changes)}", changes, code, (rules,)), **budgets)


def _of(history: History, **budgets: int) -> Explorer:
    return Explorer(history, **{"duplicates": 0, "crashes": 0, "losses": 0, "at_once": 2, **budgets})


def _words(rules: tuple[Rule, ...]) -> str:
    return " beside ".join(rule.id + ("" if rule.deletes else " (keeps)") for rule in rules)


def shared_names(code: Code) -> Iterator[Explorer]:
    """Yield keys whose events have a name in common, though only one of them ever is: its copy must not suffer."""
    beside = PLAIN, ARCHIVE
    yield _explorer(code, beside, "x: put A", "archive/x: delete", duplicates=1)
    yield _explorer(code, beside, "archive/x: put A", "x: delete", duplicates=1)
    yield _explorer(code, beside, "x: put A", "x: delete", "archive/x: delete")
    yield _explorer(code, (PLAIN, _kept(ARCHIVE)), "x: put A", "x: delete", crashes=1)
    yield _explorer(code, (_kept(PLAIN), ARCHIVE), "x: put A", "x: delete", duplicates=1)
    moved = MOVED, replace(PLAIN, prefix="b/")
    yield _explorer(code, moved, "b/x: put A", "a/x: delete", duplicates=1, crashes=1)
    yield _explorer(code, moved, "a/x: put A", "b/x: delete", duplicates=1, crashes=1)
    yield _explorer(code, (MOVED,), "a/x: put A", "a/x: delete", duplicates=1, losses=1)
    yield _explorer(code, (PLAIN, ELSEWHERE), "x: put A", "x: delete", losses=1)
    yield _explorer(code, beside, "x: put A", "x: delete", "archive/x: delete", "archive/archive/x: delete")


def large_by_two_rules(code: Code) -> Iterator[Explorer]:
    """Yield large objects that go to two names, copied in parts by whoever begins, or handed over."""
    put, rules = "x: put AB", (PLAIN, ARCHIVE)
    for changes in ((put,), (put, "x: delete"), (put, "archive/x: delete")):
        name = f"{_words(rules)}: {', '.join(changes)} in parts"
        yield _of(History(name, changes, code, (rules,), span=1), crashes=1)
    yield _of(History(f"{_words(rules)}: {put} handed over in parts", (put,), code, (rules,), span=1, queue=True))


def one_name(code: Code) -> Iterator[Explorer]:
    """Yield keys that do share a name: they overwrite each other's copy, but none is deleted for another."""
    beside, moved = (PLAIN, ARCHIVE), (MOVED, replace(PLAIN, prefix="b/"))
    for rules, one, two in ((beside, "x", "archive/x"), (moved, "a/x", "b/x")):
        for changes in (
            (f"{one}: put A", f"{two}: put B", f"{one}: delete"),
            (f"{one}: put A", f"{two}: put B", f"{two}: delete"),
            (f"{one}: put A", f"{two}: put A", f"{two}: delete"),
        ):
            yield _explorer(code, rules, *changes, writes=5)


def tags(code: Code) -> Iterator[Explorer]:
    """Yield tags that come and go, so that one rule takes over from another which thinks otherwise of deletes."""
    for rules in ((MARKED, _kept(REST)), (_kept(MARKED), REST)):
        for changes in (("put A", "delete"), ("put A marked", "delete")):
            yield _explorer(code, rules, *changes, duplicates=1, crashes=1)
        yield _explorer(code, rules, "put A", "mark", "delete", duplicates=1)
        yield _explorer(code, rules, "put A marked", "unmark", "delete", duplicates=1)
        yield _explorer(code, rules, "put A marked", "delete", "put A")
    yield _explorer(code, (MARKED,), "put A marked", "unmark", "delete", duplicates=1)
    yield _explorer(code, (MARKED,), "put A", "mark", "unmark", duplicates=1)
    colder = replace(MARKED, id="marked in another class", storage_classes={"*": "NEARLINE"})
    yield _explorer(code, (colder, REST), "put A", "mark", duplicates=1, crashes=1)
    yield _explorer(code, (colder, REST), "put A marked", "unmark", duplicates=1, crashes=1)
    copied = replace(PLAIN, id="with tags", replicate_tags=True)
    yield _explorer(code, (copied,), "put A", "mark", "unmark", "delete")


def deployments(code: Code) -> Iterator[Explorer]:
    """Yield rules that are replaced between an object's copy and its delete."""
    gone, kept = (replace(PLAIN, id="gone"),), (replace(_kept(PLAIN), id="gone"),)
    for before, after in (
        (gone, (_kept(PLAIN),)),
        (kept, (PLAIN,)),
        (gone, kept),
        (kept, gone),
        (kept, (MARKED, _kept(REST))),
        ((PLAIN, ARCHIVE), (PLAIN,)),
    ):
        name = f"{_words(before)}, then {_words(after)}"
        for changes in (("put A", "rules", "delete"), ("put A", "delete", "rules")):
            yield _of(History(f"{name}: {', '.join(changes)}", changes, code, (before, after)), crashes=1)
    changes = "x: put A", "rules", "archive/x: delete"
    name = f"{_words((PLAIN, ARCHIVE))}, then {_words((PLAIN,))}: {', '.join(changes)}"
    yield _of(History(name, changes, code, ((PLAIN, ARCHIVE), (PLAIN,))), crashes=1)


def third_parties(code: Code) -> Iterator[Explorer]:
    """Yield copies that somebody else changes, alone and while the object changes too."""
    for deed in sorted(DEEDS.keys() - {"age"}):
        for changes in (("put A",), ("put A", "copy"), ("put A", "delete")):
            yield _third(code, changes, (deed,), crashes=int(len(changes) == 1))
        yield _third(code, ("put A",), (deed,), checksums=False)
        yield _third(code, ("x: put A", "archive/x: delete"), (deed,), rules=(PLAIN, ARCHIVE))
    for deeds in (("metadata", "removal", "headers"), ("metadata", "class"), ("bytes", "headers"), ("strip", "bytes")):
        yield _third(code, ("put A",), deeds)
    classes = replace(PLAIN, storage_classes={"*": "NEARLINE"})
    yield _third(code, ("put A", "delete"), ("class",), rules=(classes,))
    yield _third(code, ("put A marked", "unmark", "delete"), ("class",), rules=(MARKED, _kept(REST)))


def earlier_releases(code: Code) -> Iterator[Explorer]:
    """Yield copies that say neither their key nor their rule, as earlier releases left them."""
    for changes in (("x: put A",), ("x: put A", "x: delete"), ("x: put A", "archive/x: delete")):
        for rules in ((PLAIN,), (PLAIN, ARCHIVE)):
            yield _third(code, changes, ("age",), rules=rules)
    yield _third(code, ("put A",), ("age", "class"))


def rewrites(code: Code) -> Iterator[Explorer]:
    """Yield changes of storage class that are cut off and continued, while the object changes too."""
    colder = replace(PLAIN, storage_classes={"*": "NEARLINE"})
    for changes in (
        ("put A", "rules"),
        ("put A", "rules", "copy"),
        ("put A", "rules", "put B"),
        ("put A", "rules", "delete"),
    ):
        name = f"plain, then in another class: {', '.join(changes)}"
        yield _of(History(name, changes, code, ((PLAIN,), (colder,)), rewrites=True), cuts=2)


def stores(code: Code) -> Iterator[Explorer]:
    """Yield a store that writes headers its own way, and objects of another replicator's."""
    for changes in (("put A",), ("put A", "copy")):
        for deeds in ((), ("headers",)):
            yield _third(code, changes, deeds, normalises=True)
        yield _third(code, changes, ("metadata",), records=False)
    for changes in (("delete",), ("put A", "delete"), ("put A",)):
        name = f"over another bucket's copy: {', '.join(changes)}"
        history = History(name, changes, code, ((PLAIN,),), foreign=(("b/key", "A", ANOTHER),))
        yield _of(history, duplicates=1, crashes=1)


def _third(
    code: Code,
    changes: tuple[str, ...],
    deeds: tuple[str, ...],
    *,
    rules: tuple[Rule, ...] = (PLAIN,),
    checksums: bool = True,
    normalises: bool = False,
    records: bool = True,
    crashes: int = 0,
) -> Explorer:
    name = f"{_words(rules)}: {', '.join(changes)}" + (f"; others: {', '.join(deeds)}" if deeds else "")
    name += ("" if checksums else " (no checksum at S3)") + (" (the store lowers Content-Type)" if normalises else "")
    name += "" if records else " (by an upload session)"
    history = History(
        name, changes, code, (rules,), checksums=checksums, third=deeds, normalises=normalises, records=records
    )
    return _of(history, crashes=crashes)


def limits(code: Code) -> Iterator[tuple[Explorer, Invariant]]:
    """Yield what does not hold, with the invariant that breaks: docs/proof.md says why."""
    changes = "x: put A", "rules", "archive/x: delete"
    gone = History("a copy of an earlier release, and its rule gone", changes, code, ((PLAIN, ARCHIVE), (PLAIN,)))
    yield _of(replace(gone, third=("age",))), Invariant.DELETED_LIVE
    unrecorded = _third(code, ("put A",), ("bytes",), checksums=False, records=False)
    yield unrecorded, Invariant.MIXED


DIMENSIONS: tuple[Family, ...] = (
    shared_names,
    large_by_two_rules,
    one_name,
    tags,
    deployments,
    third_parties,
    earlier_releases,
    rewrites,
    stores,
)
"""The suite's; `deep` is for `make prove`."""


def deep(dimension: Family) -> Family:
    """Return a dimension with more that goes wrong in each of its histories: a duplicate, a crash and a lost answer."""

    def deeper(code: Code) -> Iterator[Explorer]:
        for explorer in dimension(code):
            history = explorer.history
            many = bool(explorer.writes or history.normalises or history.span)  # these have many states already
            short = not many and len(history.changes) + len(history.third) < 3
            duplicates = int(not (explorer.writes or history.span))
            yield replace(
                explorer, duplicates=duplicates, crashes=max(explorer.crashes, int(not many)), losses=int(short)
            )

    return deeper
