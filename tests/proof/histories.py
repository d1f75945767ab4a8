"""The histories that are explored: up to four changes of one key, alone or over somebody else's object."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proof.explore import Explorer
from tests.proof.history import Foreign, History
from tests.proof.world import Code

SHORT: tuple[tuple[str, ...], ...] = (
    ("put A",),
    ("put A", "delete"),
    ("put A", "put B"),
    ("put A", "copy"),
    ("put A", "tag"),
)
THREE: tuple[tuple[str, ...], ...] = (
    ("put A", "put B", "put C"),
    ("put A", "put B", "put A"),
    ("put A", "put B", "delete"),
    ("put A", "delete", "put A"),
    ("put A", "copy", "delete"),
    ("put A", "copy", "put B"),
)
FOUR: tuple[tuple[str, ...], ...] = (("put A", "delete", "put A", "delete"),)


def quick(code: Code) -> Iterator[Explorer]:
    """Yield what takes seconds, the likeliest to break first."""
    yield Explorer(_history(("delete",), code, foreign="Z"), duplicates=1, crashes=1, losses=1)
    yield Explorer(_history(("put A", "delete"), code, foreign="A"), duplicates=1, crashes=0)
    for changes in SHORT:
        yield Explorer(_history(changes, code), duplicates=1, crashes=1, losses=1)
    yield Explorer(_history(("put A", "delete"), code, versioned=True), duplicates=1, crashes=1, losses=1)
    for changes in (("delete",), ("put A",), ("put A", "delete")):
        for foreign in ("A", "Z"):
            yield Explorer(_history(changes, code, foreign=foreign), duplicates=1, crashes=1, losses=1)
    yield Explorer(_history(("put A", "delete", "put A"), code), duplicates=0, crashes=1)


def thorough(code: Code) -> Iterator[Explorer]:
    """Yield all of it: up to four changes, three workers at once, a duplicate, a crash and a lost answer anywhere."""
    for changes in FOUR:
        yield Explorer(_history(changes, code), duplicates=0, crashes=0)
    for changes in THREE:
        yield Explorer(_history(changes, code), duplicates=1, crashes=0)
        yield Explorer(_history(changes, code), duplicates=0, crashes=0, losses=1)
        for versioned in (False, True):
            yield Explorer(_history(changes, code, versioned=versioned), duplicates=0, crashes=1)
    for changes in SHORT:
        for versioned in (False, True):
            for foreign in ("", "A", "Z"):
                history = _history(changes, code, versioned=versioned, foreign=foreign)
                yield Explorer(history, duplicates=1, crashes=1, losses=1)
    yield Explorer(_history(("delete",), code, foreign="Z"), duplicates=1, crashes=1, losses=1)


def in_parts(code: Code) -> Iterator[Explorer]:
    """Yield what large objects go through: copied in parts by whoever begins, or handed over to a queue."""
    for changes, budgets in (
        (("put AB",), {"duplicates": 1, "crashes": 0}),
        (("put AB",), {"duplicates": 1, "crashes": 1}),
        (("put AB",), {"duplicates": 1, "crashes": 1, "losses": 1}),
        (("put AB", "delete"), {"duplicates": 0, "crashes": 1}),
        (("put AB", "put CD"), {"duplicates": 0, "crashes": 0}),
    ):
        yield Explorer(_history(changes, code, span=1), at_once=2, **budgets)
    for changes in (("put AB",), ("put AB", "delete")):
        yield Explorer(_history(changes, code, span=1, queue=True), duplicates=0, crashes=0, at_once=2)
    yield Explorer(_history(("put AB",), code, span=1, queue=True), duplicates=1, crashes=1, at_once=2)
    yield Explorer(_history(("put AB",), code, span=1, queue=True), duplicates=0, crashes=1, losses=1, at_once=2)
    yield from without_checksums(code)
    for changes in (("put ABC",), ("put ABC", "delete")):
        hurried = _history(changes, code, span=2, hurried=True)
        yield Explorer(hurried, duplicates=2 - len(changes), crashes=1, losses=1, at_once=2)


def without_checksums(code: Code) -> Iterator[Explorer]:
    """Yield large objects where listings carry no checksums, as in a bucket with a customer-managed key."""
    keyed = _history(("put ABC",), code, span=2, queue=True, hurried=True, keyed=True)
    yield Explorer(keyed, duplicates=0, crashes=1, at_once=2)


def large_in_parts(code: Code) -> Iterator[Explorer]:
    """Yield what is to be walked at random: large objects that change while they are copied in parts."""
    for queue in (False, True):
        for changes in (("put ABC",), ("put ABC", "put DEF"), ("put ABC", "copy", "put DEF", "delete", "put ABC")):
            history = _history(changes, code, span=1, queue=queue)
            yield Explorer(history, duplicates=2, crashes=4, losses=4)


def large(code: Code) -> Iterator[Explorer]:
    """Yield what is to be walked at random: many changes, and much that goes wrong."""
    mix = ("put A", "put B", "delete", "put C", "copy", "tag", "put D", "delete", "put A", "copy")
    for versioned in (False, True):
        for foreign in ("", "Z"):
            history = _history(mix * 2, code, versioned=versioned, foreign=foreign)
            yield Explorer(history, duplicates=12, crashes=12, losses=12)


def _history(
    changes: tuple[str, ...],
    code: Code,
    *,
    versioned: bool = False,
    foreign: str = "",
    span: int = 0,
    queue: bool = False,
    hurried: bool = False,
    keyed: bool = False,
) -> History:
    name = ", ".join(changes) + (" (versioned)" if versioned else "") + (f" over foreign {foreign}" if foreign else "")
    name += " handed over in parts" if queue else " in parts" if span else ""
    name += " by workers in a hurry" if hurried else ""
    name += " under a customer-managed key" if keyed else ""
    others: tuple[Foreign, ...] = (("copy/key", foreign, {}),) if foreign else ()
    return History(
        name,
        changes,
        code,
        versioned=versioned,
        foreign=others,
        span=span,
        queue=queue,
        hurried=hurried,
        keyed=keyed,
    )
