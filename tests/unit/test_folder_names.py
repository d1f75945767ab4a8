"""The mapping from keys to paths: one-to-one, inside the folder, and plain where a key is plain."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handler.adapters.folder.names import ASIDE, STATE, aside_path, natural_path

PIECES = [
    "a",
    "A",
    "b",
    ".",
    "..",
    "/",
    "//",
    "%",
    "%2f",
    "%2F",
    "%+",
    "+",
    " ",
    "\n",
    "\x00",
    "\x7f",
    "\x85",
    "ü",
    "Ü",
]
PIECES += [
    "ß",
    "ẞ",
    "İ",
    "\u0131",
    "ﬀ",
    "日",
    "🗂",
    "é",
    "e\u0301",
    ".replicator",
    ".REPLICATOR",
    "x" * 100,
    "Y" * 100,
    "\\",
]
KEYS = (
    st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=3), min_size=1, max_size=12)
    .map("".join)
    .filter(lambda key: 0 < len(key.encode()) <= 1024)
)


@given(st.lists(KEYS, min_size=2, max_size=6, unique=True))
@settings(max_examples=250, deadline=None)
@example(["a", "A"])
@example(["dir/", "dir", "dir//", "/dir", "dir/%"])
@example([".", "..", "%2e", "%2e%2e", "%252e"])
@example(["x" * 300, "x" * 240 + "%+/" + "x" * 60, "x" * 240 + "/" + "x" * 60])
def test_distinct_keys_have_distinct_paths(keys: list[str]) -> None:
    for path_of in (natural_path, aside_path):
        assert len({path_of(key) for key in keys}) == len(keys)
        blind = {path_of(key, case_blind=True).casefold() for key in keys}
        assert len(blind) == len(keys), "on a disk blind to case"


@given(KEYS, st.booleans())
@settings(max_examples=250, deadline=None)
def test_a_path_never_leaves_the_folder_and_fits_the_disk(key: str, case_blind: bool) -> None:  # noqa: FBT001 - drawn
    natural, aside = natural_path(key, case_blind=case_blind), aside_path(key, case_blind=case_blind)
    assert not natural.startswith(STATE + "/")
    assert natural != STATE
    assert aside.startswith(ASIDE + "/")
    for path in (natural, aside):
        assert not path.startswith("/")
        for part in path.split("/"):
            assert part not in {"", ".", ".."}
            assert len(part.encode()) <= 255
            assert not any(ord(character) < 32 or ord(character) == 127 for character in part)
        if case_blind:
            assert natural.isascii()
            assert natural == natural.lower()


@given(KEYS, KEYS)
@settings(max_examples=150, deadline=None)
def test_a_file_of_one_key_is_a_folder_of_another_only_where_the_keys_say_so(one: str, two: str) -> None:
    """`a` beside `a/b` is what `aside` is for; nothing else may need it."""
    below = natural_path(two).startswith(natural_path(one) + "/")
    if below:
        assert two.startswith(one + "/")
    assert not aside_path(two).startswith(aside_path(one) + "/")


@pytest.mark.parametrize(
    "key",
    [
        "a.txt",
        "dir/a.txt",
        "with space",
        "plus+sign",
        "naïve/日本.txt",
        ".hidden",
        "...",
        "a..b",
        "..a/b..",
        "~",
        "CON",
        "Ü",
        "*?<>|\"'\\:",
        "x" * 255,
        "é" * 127,
    ],
)
def test_an_ordinary_key_is_its_own_path(key: str) -> None:
    assert natural_path(key) == key


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("dir/", "dir/%"),
        ("/lead", "%/lead"),
        ("//", "%/%/%"),
        ("a//b", "a/%/b"),
        (".", "%2e"),
        ("..", "%2e%2e"),
        ("../up", "%2e%2e/up"),
        ("a/../b", "a/%2e%2e/b"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("a\nb", "a%0ab"),
        ("\x85", "%c2%85"),
        (".replicator", "%2ereplicator"),
        (".replicator/x", "%2ereplicator/x"),
        ("a/.replicator", "a/.replicator"),
        ("x" * 256, "x" * 240 + "%+/" + "x" * 16),
        ("é" * 128, "é" * 120 + "%+/" + "é" * 8),
    ],
)
def test_what_a_disk_cannot_hold_is_encoded(key: str, path: str) -> None:
    assert natural_path(key) == path


@pytest.mark.parametrize(
    ("key", "path"), [("Ab", "%41b"), ("ü", "%c3%bc"), ("a", "a"), (".REPLICATOR", ".%52%45%50%4c%49%43%41%54%4f%52")]
)
def test_on_a_disk_blind_to_case_capitals_are_encoded_too(key: str, path: str) -> None:
    assert natural_path(key, case_blind=True) == path


@pytest.mark.parametrize(("key", "path"), [("a/b", "a%2fb"), ("a%2fb", "a%252fb"), (".", "%2e"), ("dir/", "dir%2f")])
def test_aside_a_key_is_one_segment(key: str, path: str) -> None:
    assert aside_path(key) == f"{ASIDE}/{path}"


@pytest.mark.parametrize("key", ["\x01" * 1024, "日" * 341, "%" * 1024, "/" * 1024, "W" * 1024])
def test_the_longest_keys_have_paths_that_a_disk_can_open(key: str) -> None:
    for case_blind in (False, True):
        for path in (natural_path(key, case_blind=case_blind), aside_path(key, case_blind=case_blind)):
            assert len(path.encode()) < 4096 - 512, "PATH_MAX, and room for the folder's own path"
            assert PurePosixPath(path).parts
