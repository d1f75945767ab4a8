"""`decide` as a table: what makes a replica equal, for every pair of what can be on both sides."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from handler.core import mapping
from handler.core.decide import Action, decide
from handler.core.errors import Refused
from handler.core.model import LONG_REWRITE, Generation, Headers, Lock, Original, Replica, Rule, Stamp
from tests.fakes import BEGINNING, crc32c, md5, original_of

DATA = b"Sample data\n"
RULE = Rule(id="low", source="src", destination="gs://dst")
PLAIN = original_of(DATA)
NO_MD5 = replace(PLAIN, md5=None, etag="0123456789abcdef0123456789abcdef-2")
WITH_CRC = replace(NO_MD5, checksums={"CRC32C": crc32c(DATA)})
LATER = BEGINNING + timedelta(days=1)


def copy_of(original: Original, rule: Rule = RULE, data: bytes = DATA, **fields: object) -> Replica:
    """The replica that this replicator makes of an object."""
    return replace(foreign(data, mapping.stamp_of(original, rule)), **fields)  # type: ignore[arg-type] # named by tests


def foreign(data: bytes = DATA, stamp: Stamp = Stamp()) -> Replica:
    """A replica that some other tool put there."""
    return Replica(generation=Generation(7, 1), size=len(data), crc32c=crc32c(data), md5=md5(data), stamp=stamp)


def changed(copy: Replica, *, headers: Headers | None = None, size: int | None = None, **metadata: str) -> Replica:
    """The copy after somebody else changed it, with its provenance kept."""
    kept = {**copy.stamp.metadata, **metadata}
    stamp = replace(copy.stamp, metadata=kept, headers=headers or copy.stamp.headers)
    return replace(copy, stamp=stamp, size=copy.size if size is None else size)


def recorded(original: Original, data: bytes = DATA, now: bytes = DATA) -> Replica:
    """A copy made of `data`, whose CRC32C was recorded, and whose bytes are `now` others; no MD5, as if composed."""
    copy = foreign(now, mapping.checked(mapping.stamp_of(original, RULE), "none").recording(crc32c(data)))
    return replace(copy, md5=None)


def without(copy: Replica, name: str, prefix: str = mapping.PROVENANCE) -> Replica:
    """The copy without one entry of its metadata."""
    kept = {entry: value for entry, value in copy.stamp.metadata.items() if entry != prefix + name}
    return replace(copy, stamp=replace(copy.stamp, metadata=kept))


CSV = replace(PLAIN, headers=Headers(content_type="text/csv", cache_control="no-store"), user_metadata={"a": "b"})
MOVED = replace(RULE, id="moved", prefix="k", destination_prefix="archive/")
ELSEWHERE = replace(RULE, id="elsewhere", replace_prefix="b/", prefix="k")
TAGGED = replace(RULE, id="tagged", tags={"copy": "yes"})
HIGH = replace(RULE, id="high", priority=9, tags={"team": "red"}, storage_classes={"*": "COLDLINE"})
KEEPS = replace(RULE, id="keeps", deletes=False)
OTHER_SOURCE = replace(RULE, source="another")
GONE = replace(RULE, id="gone", deletes=False)
OTHER_KEY = replace(PLAIN, key="key2")
STAMP = mapping.stamp_of(PLAIN, RULE)
DEFAULT = Headers(content_type="application/octet-stream")
KEYED, PATCHED = replace(RULE, kms_key="a"), (Action.PATCH, "low")
CONTEXTS = replace(RULE, replicate_tags=True, tags_as_contexts=True)
IN_CONTEXTS = (CONTEXTS,), Action.PATCH, "low"
HEAL, EQUAL = ((RULE,), Action.PATCH, "low"), ((RULE,), Action.NOTHING, "low")
KEPT, NOT_OURS, LEFT = ((Action.NOTHING, rule) for rule in ("keeps", "elsewhere", "moved"))
ARCHIVED = replace(PLAIN, archived=True, storage_class="GLACIER")
RED = replace(PLAIN, tags={"team": "red"})

ROWS = [
    # what it is, the original, the replica, the rules, what is to be done, and by which rule
    ("nothing on either side", None, Replica(), (RULE,), Action.NOTHING, "low"),
    ("a foreign object is kept", None, foreign(), (RULE,), Action.NOTHING, "low"),
    ("a copy of another bucket is kept", None, copy_of(PLAIN, OTHER_SOURCE), (RULE,), Action.NOTHING, "low"),
    ("our copy is deleted", None, copy_of(PLAIN), (RULE,), Action.DELETE, "low"),
    ("our copy is kept where deletes are off", None, copy_of(PLAIN, KEEPS), (KEEPS,), Action.NOTHING, "keeps"),
    ("the rule that made the copy deletes it", None, copy_of(PLAIN), (KEEPS, RULE), Action.DELETE, "low"),
    ("the rule that made the copy keeps it", None, copy_of(PLAIN, KEEPS), (RULE, KEEPS), Action.NOTHING, "keeps"),
    ("a copy whose rule is gone, and all others delete", None, copy_of(PLAIN, GONE), (RULE,), Action.DELETE, "low"),
    ("a copy whose rule is gone, and one keeps", None, copy_of(PLAIN, GONE), (RULE, KEEPS), Action.NOTHING, "keeps"),
    ("a copy that names no rule, and one keeps", None, without(copy_of(PLAIN), "rule"), (RULE, KEEPS), *KEPT),
    ("a copy under another name says of which key", None, copy_of(PLAIN, MOVED), (MOVED,), Action.DELETE, "moved"),
    ("a copy of another key of that name", None, copy_of(OTHER_KEY, ELSEWHERE), (ELSEWHERE,), *NOT_OURS),
    ("a copy that names no key is of the key that is its name", None, copy_of(PLAIN), (MOVED,), *LEFT),
    (
        "content type changed at GCS",
        CSV,
        changed(copy_of(CSV), headers=Headers("a/b", cache_control="no-store")),
        *HEAL,
    ),
    ("a header removed at GCS", CSV, changed(copy_of(CSV), headers=Headers("text/csv")), *HEAL),
    ("user metadata changed at GCS", CSV, changed(copy_of(CSV), a="z"), *HEAL),
    ("user metadata added at GCS", CSV, changed(copy_of(CSV), more="z"), *HEAL),
    ("user metadata removed at GCS", CSV, without(copy_of(CSV), "a", prefix=""), *HEAL),
    ("a Content-Type that is GCS's default for none", PLAIN, changed(copy_of(PLAIN), headers=DEFAULT), *EQUAL),
    ("under no key of Cloud KMS, where the rule names one", PLAIN, copy_of(PLAIN), (KEYED,), Action.PATCH, "low"),
    ("under another key", PLAIN, copy_of(PLAIN, KEYED, stamp=replace(STAMP, kms_key="b")), (KEYED,), *PATCHED),
    ("under the rule's key", PLAIN, copy_of(PLAIN, KEYED), (KEYED,), Action.NOTHING, "low"),
    ("under a key that no rule names", PLAIN, copy_of(PLAIN, KEYED), *EQUAL),
    (
        "a context changed at GCS",
        RED,
        copy_of(RED, CONTEXTS, stamp=replace(STAMP, contexts={"team": "x"})),
        *IN_CONTEXTS,
    ),
    (
        "a context added at GCS",
        PLAIN,
        copy_of(PLAIN, CONTEXTS, stamp=replace(STAMP, contexts={"a": "x"})),
        *IN_CONTEXTS,
    ),
    ("tags that are contexts", RED, copy_of(RED, CONTEXTS), (CONTEXTS,), Action.NOTHING, "low"),
    ("contexts that no rule asks for", PLAIN, copy_of(PLAIN, stamp=replace(STAMP, contexts={"a": "b"})), *EQUAL),
    ("customTime lost at GCS", PLAIN, copy_of(PLAIN, stamp=replace(STAMP, custom_time=None)), *HEAL),
    ("customTime later at GCS", PLAIN, copy_of(PLAIN, stamp=replace(STAMP, custom_time=LATER)), *EQUAL),
    ("the storage class changed at GCS", PLAIN, copy_of(PLAIN, stamp=replace(STAMP, storage_class="NEARLINE")), *EQUAL),
    ("bytes as recorded", NO_MD5, recorded(NO_MD5), *EQUAL),
    ("bytes replaced at GCS", NO_MD5, recorded(NO_MD5, now=DATA[::-1]), (RULE,), Action.PUT, "low"),
    (
        "bytes and their record replaced at GCS cannot be told without an MD5",
        PLAIN,
        recorded(PLAIN, DATA[::-1], DATA[::-1]),
        *EQUAL,
    ),
    ("no record of bytes that nothing else tells", NO_MD5, copy_of(NO_MD5), *HEAL),
    ("a wrong record of bytes that the MD5 tells", PLAIN, replace(recorded(PLAIN, b"x"), md5=PLAIN.md5), *EQUAL),
    ("a new object", PLAIN, Replica(), (RULE,), Action.PUT, "low"),
    ("an empty new object", original_of(b""), Replica(), (RULE,), Action.PUT, "low"),
    ("equal by provenance", PLAIN, copy_of(PLAIN), (RULE,), Action.NOTHING, "low"),
    (
        "equal, though the destination has no checksum",
        PLAIN,
        copy_of(PLAIN, crc32c=None, md5=None),
        (RULE,),
        Action.NOTHING,
        "low",
    ),
    (
        "equal, though a checksum was noted beside",
        PLAIN,
        copy_of(PLAIN, stamp=mapping.checked(mapping.stamp_of(PLAIN, RULE), "MD5")),
        (RULE,),
        Action.NOTHING,
        "low",
    ),
    ("provenance of another size is not believed", PLAIN, copy_of(PLAIN, size=3), (RULE,), Action.PUT, "low"),
    ("provenance that the MD5 contradicts", PLAIN, copy_of(PLAIN, md5=md5(b"other")), (RULE,), Action.PUT, "low"),
    (
        "provenance that the CRC32C contradicts",
        WITH_CRC,
        copy_of(WITH_CRC, crc32c=crc32c(b"other")),
        (RULE,),
        Action.PUT,
        "low",
    ),
    (
        "one checksum agrees and one does not",
        replace(WITH_CRC, md5=md5(DATA)),
        replace(foreign(), md5=md5(b"other")),
        (RULE,),
        Action.PUT,
        "low",
    ),
    ("other bytes", original_of(b"other"), copy_of(PLAIN), (RULE,), Action.PUT, "low"),
    ("other bytes of the same size", original_of(DATA[::-1]), copy_of(PLAIN), (RULE,), Action.PUT, "low"),
    (
        "other metadata",
        replace(PLAIN, headers=Headers(content_type="text/csv")),
        copy_of(PLAIN),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    ("other user metadata", replace(PLAIN, user_metadata={"a": "b"}), copy_of(PLAIN), (RULE,), Action.PATCH, "low"),
    (
        "other expires",
        replace(PLAIN, expires="Thu, 01 Jan 2099 00:00:00 GMT"),
        copy_of(PLAIN),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    (
        "a later state with the same bytes",
        replace(PLAIN, last_modified=LATER),
        copy_of(PLAIN),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    (
        "another version with the same bytes",
        replace(PLAIN, version_id="v2"),
        copy_of(replace(PLAIN, version_id="v1")),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    (
        "other tags where they are replicated",
        RED,
        copy_of(PLAIN, replace(RULE, replicate_tags=True)),
        (replace(RULE, replicate_tags=True),),
        Action.PATCH,
        "low",
    ),
    ("other tags where they are not", RED, copy_of(PLAIN), (RULE,), Action.NOTHING, "low"),
    (
        "without a checksum the provenance says whose bytes",
        replace(NO_MD5, last_modified=LATER),
        copy_of(NO_MD5),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    (
        "a copy of another bucket's object of that ETag is not believed",
        replace(NO_MD5, last_modified=LATER),
        copy_of(NO_MD5, OTHER_SOURCE),
        (RULE,),
        Action.PUT,
        "low",
    ),
    ("foreign, equal by MD5", PLAIN, replace(foreign(), crc32c=None), (RULE,), Action.PATCH, "low"),
    ("foreign, equal by CRC32C", WITH_CRC, replace(foreign(), md5=None), (RULE,), Action.PATCH, "low"),
    ("foreign, no checksum on both sides", NO_MD5, foreign(), (RULE,), Action.PUT, "low"),
    (
        "foreign, and a checksum of parts proves nothing",
        replace(NO_MD5, composites={"CRC32C": crc32c(DATA)}),
        foreign(),
        (RULE,),
        Action.PUT,
        "low",
    ),
    ("foreign, other bytes", PLAIN, foreign(b"Simple data\n"), (RULE,), Action.PUT, "low"),
    ("foreign, another size", PLAIN, replace(foreign(), size=99), (RULE,), Action.PUT, "low"),
    ("customTime would go back", PLAIN, copy_of(replace(PLAIN, last_modified=LATER)), (RULE,), Action.PUT, "low"),
    (
        "customTime of a foreign object would go back",
        PLAIN,
        foreign(stamp=Stamp(custom_time=LATER)),
        (RULE,),
        Action.PUT,
        "low",
    ),
    (
        "customTime goes forward",
        replace(PLAIN, last_modified=LATER),
        foreign(stamp=Stamp(custom_time=BEGINNING)),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    ("customTime stays", PLAIN, foreign(stamp=Stamp(custom_time=BEGINNING)), (RULE,), Action.PATCH, "low"),
    ("archived, but equal", ARCHIVED, copy_of(ARCHIVED), (RULE,), Action.NOTHING, "low"),
    ("archived since it was copied", ARCHIVED, copy_of(PLAIN), (RULE,), Action.NOTHING, "low"),
    (
        "archived, and only the metadata differs",
        replace(ARCHIVED, user_metadata={"a": "b"}),
        copy_of(PLAIN),
        (RULE,),
        Action.PATCH,
        "low",
    ),
    ("archived and excluded", ARCHIVED, Replica(), (TAGGED,), Action.NOTHING, "tagged"),
    ("restored", replace(ARCHIVED, archived=False), Replica(), (RULE,), Action.PUT, "low"),
    ("without the tag that the rule asks for", PLAIN, Replica(), (TAGGED,), Action.NOTHING, "tagged"),
    ("with the tag", replace(PLAIN, tags={"copy": "yes", "x": "y"}), Replica(), (TAGGED,), Action.PUT, "tagged"),
    (
        "with another value of the tag",
        replace(PLAIN, tags={"copy": "no"}),
        Replica(),
        (TAGGED,),
        Action.NOTHING,
        "tagged",
    ),
    ("our copy of what no longer has the tag is kept", PLAIN, copy_of(PLAIN), (TAGGED,), Action.NOTHING, "tagged"),
    ("the highest priority that matches decides", RED, Replica(), (HIGH, RULE), Action.PUT, "high"),
    ("the next one where it does not match", PLAIN, Replica(), (HIGH, RULE), Action.PUT, "low"),
    ("none matches", replace(PLAIN, tags={"team": "blue"}), Replica(), (HIGH, TAGGED), Action.NOTHING, "high"),
]


@pytest.mark.parametrize(
    ("original", "replica", "rules", "action", "rule"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_look_at_both_sides_asks_for(
    original: Original | None, replica: Replica, rules: tuple[Rule, ...], action: Action, rule: str
) -> None:
    decision = decide("key", original, replica, rules)
    assert (decision.action, decision.rule.id) == (action, rule)
    assert decision.why
    if action in {Action.PUT, Action.PATCH}:
        assert original is not None
        assert mapping.provenance(decision.stamp.metadata)


@pytest.mark.parametrize(
    ("original", "replica", "code"),
    [
        (ARCHIVED, Replica(), "SrcObjectArchived"),
        (ARCHIVED, foreign(b"other"), "SrcObjectArchived"),
        (replace(ARCHIVED, etag="x", md5=None), copy_of(PLAIN), "SrcObjectArchived"),
        (ARCHIVED, copy_of(replace(PLAIN, last_modified=LATER)), "SrcObjectArchived"),
        (replace(PLAIN, user_metadata={"s3-replica-etag": "forged"}), Replica(), "SrcMetadataReserved"),
        (replace(PLAIN, user_metadata={"s3-replica-bucket": "src"}), copy_of(PLAIN), "SrcMetadataReserved"),
    ],
)
def test_what_cannot_be_replicated_is_refused_with_its_reason(original: Original, replica: Replica, code: str) -> None:
    with pytest.raises(Refused) as caught:
        decide("key", original, replica, (RULE,))
    assert caught.value.code == code
    assert not caught.value.retryable


def test_metadata_do_not_wait_for_a_long_rewrite_and_the_copy_is_not_equal_before_its_end() -> None:
    cold = replace(RULE, storage_classes={"*": "COLDLINE"})
    before = replace(PLAIN, size=LONG_REWRITE + 1, md5=None)
    copy = copy_of(before, RULE, size=before.size, crc32c=None, md5=None)
    copy = replace(copy, stamp=replace(copy.stamp, storage_class="STANDARD"))
    changed = replace(before, user_metadata={"a": "b"})
    wanted = mapping.stamp_of(changed, cold)

    first = decide("key", changed, copy, (cold,))
    assert (first.action, first.stamp.storage_class, first.stamp.metadata["a"]) == (Action.PATCH, None, "b")
    patched = replace(copy, stamp=replace(first.stamp, storage_class="STANDARD"))
    assert decide("key", changed, patched, (cold,)).stamp == wanted
    assert decide("key", changed, replace(copy, stamp=wanted), (cold,)).action is Action.NOTHING

    small = replace(before, size=LONG_REWRITE)
    keyed = decide("key", changed, replace(copy, stamp=replace(copy.stamp, kms_key="b")), (replace(RULE, kms_key="a"),))
    assert (keyed.stamp.kms_key, keyed.stamp.metadata["a"]) == (None, "b")

    locked = replace(changed, lock=Lock(hold=True))
    first = decide("key", locked, copy, (replace(cold, locks=True),))
    assert first.stamp.lock is None, "no rewrite may come over what is held"

    at_once = decide("key", replace(small, user_metadata={"a": "b"}), replace(copy, size=small.size), (cold,))
    assert at_once.stamp.storage_class == "COLDLINE"


def test_after_a_put_or_a_patch_nothing_is_left_to_do() -> None:
    for name, original, replica, rules, action, _ in ROWS:
        if action in {Action.PUT, Action.PATCH}:
            assert original is not None
            decision = decide("key", original, replica, rules)
            after = Replica(generation=Generation(8, 1), size=original.size, stamp=decision.stamp)
            assert decide("key", original, after, rules).action is Action.NOTHING, name
