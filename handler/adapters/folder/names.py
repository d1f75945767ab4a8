"""Where in a folder the copy of a key lies: one-to-one, and never outside.

An ordinary key is its own path. In every `/`-separated segment, what a disk cannot hold is percent-encoded (byte by
byte in UTF-8, lower-case hex), and so is `%` itself:

    control characters, `%`                %0a, %25
    a segment that is `.` or `..`          %2e, %2e%2e
    an empty segment (`//`, `/lead`, `dir/`)   a lone %
    a first segment `.replicator`          %2ereplicator  (the state folder has that name)
    over 255 bytes                         folders `<240 bytes>%+`, then the rest
    on a disk blind to case                also upper-case letters, and whatever is not ASCII

A `%` that an encoding did not make cannot occur, so no two keys meet. What no encoding solves is `a` beside `a/b`, a
file where a folder must be: whichever comes second lies aside, in `.replicator/aside/`, under its key as one segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

STATE = ".replicator"
ASIDE = f"{STATE}/aside"
_NAME_MAX = 255
_CHUNK = 240
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f%\ud800-\udfff]")
_UNSAFE_CASE_BLIND = re.compile(r"[\x00-\x1f%A-Z\x7f-\U0010ffff]")
_UNIT = re.compile(r"%[0-9a-f]{2}|.", re.DOTALL)


def natural_path(key: str, *, case_blind: bool = False) -> str:
    """Return the relative path that shows `key` as what it is."""
    first, *rest = key.split("/")
    head = "%2e" + first[1:] if first == STATE else _segment(first, case_blind=case_blind)
    return "/".join([head, *(_segment(segment, case_blind=case_blind) for segment in rest)])


def aside_path(key: str, *, case_blind: bool = False) -> str:
    """Return the relative path of `key` where a file or folder of another key is in its natural one's way."""
    return f"{ASIDE}/{_segment(key.replace('%', '%25').replace('/', '%2f'), case_blind=case_blind, quoted=True)}"


def _segment(segment: str, *, case_blind: bool, quoted: bool = False) -> str:
    if not segment:
        return "%"
    if segment in {".", ".."}:
        return segment.replace(".", "%2e")
    unsafe = _UNSAFE_CASE_BLIND if case_blind else _UNSAFE
    if quoted:  # its percent signs are encodings already
        encoded = "%".join(unsafe.sub(_percent, part) for part in segment.split("%"))
    else:
        encoded = unsafe.sub(_percent, segment)
    if len(encoded.encode()) <= _NAME_MAX:
        return encoded
    return "%+/".join(_chunks(encoded))


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _chunks(name: str) -> Iterator[str]:
    """Cut at no more than 240 bytes, between characters and never inside an encoding."""
    chunk, size = "", 0
    for unit in _UNIT.findall(name):
        width = len(unit.encode())
        if size + width > _CHUNK:
            yield chunk
            chunk, size = "", 0
        chunk, size = chunk + unit, size + width
    yield chunk
