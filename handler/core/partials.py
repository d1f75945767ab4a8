"""Checksums of runs of bytes, kept with what was staged until the object they are of can be held against S3's.

S3 keeps a checksum of the whole object ("CRC64NVME of spans") or one of the checksums of its upload's parts ("SHA256 of
parts"). Either way the object is a sequence of S3 parts, only one in the first case. A staged run of bytes has a
`PartialChecksum` for each S3 part that it overlaps. CRCs of fragments of one S3 part are merged; other checksums are
known of a whole S3 part only, if one read had all of it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from handler.core.checksums import MERGED, composite, composite_of, merge, mergeable
from handler.core.model import Original, S3Part, Span

TEXT = 4000
"""Characters that the checksums of one staged object take at most: custom metadata holds 4 KiB a value."""
OWN = "="
"""Stands for a checksum that is the staged object's own CRC32C."""
_UNKNOWN = "?"
_LENGTHS = {"CRC32C": 8, "CRC32": 8, "CRC64NVME": 12, "SHA256": 44, "SHA1": 28, "SHA512": 88, "MD5": 24, "ETAG": 24}
"""Characters of a checksum in base64."""


class PartialChecksum(NamedTuple):
    """The checksum of bytes of one S3 part."""

    value: str
    """Base64; "" where it is not known."""
    size: int
    begins: bool = True
    """Whether the bytes begin where the S3 part does."""
    ends: bool = True


def check_of_parts(original: Original) -> str:
    """Return by which checksum an object copied in parts can be verified, "" where by none."""
    if whole := mergeable(original):
        return f"{whole} of spans"
    name = composite(original)
    return f"{name} of parts" if name and original.parts and not original.checksums else ""


def algorithm_of(check: str) -> str:
    """Return the algorithm of a check, "" for none."""
    return check.partition(" of ")[0]


def is_of_parts(check: str) -> bool:
    """Return True if a check is of S3's parts, rather than of the whole."""
    return check.endswith(" of parts")


def can_merge(check: str) -> bool:
    """Return True if the checksum of an S3 part follows from those of its fragments."""
    return algorithm_of(check) in MERGED


def most_parts(check: str) -> int:
    """Return of how many S3 parts a staged object can keep the checksums."""
    return TEXT // (_LENGTHS[algorithm_of(check)] + 1) - 2


def expected(original: Original, check: str) -> str:
    """Return what S3 holds for a check."""
    return (original.composites if is_of_parts(check) else original.checksums)[algorithm_of(check)]


class Layout:
    """Where the S3 parts of a stretch of the object lie.

    Args:
        parts: the S3 parts, in order.
        offset: the byte at which the first of them begins.
    """

    def __init__(self, parts: Sequence[S3Part], offset: int) -> None:
        self.parts = parts
        self.bounds = list(itertools.accumulate((part.size for part in parts), initial=offset))

    def at(self, byte: int) -> tuple[Span, S3Part]:
        """Return the S3 part that has a byte, and where it lies."""
        index = bisect.bisect_right(self.bounds, byte) - 1
        return Span(self.bounds[index], self.bounds[index + 1]), self.parts[index]

    def within(self, span: Span) -> list[int]:
        """Return the boundaries strictly inside a span."""
        return self.bounds[bisect.bisect_right(self.bounds, span.start) : bisect.bisect_left(self.bounds, span.stop)]

    def checksum(self, span: Span, value: str) -> PartialChecksum:
        """Return the partial checksum of a span that lies within one S3 part."""
        lies, _ = self.at(span.start)
        return PartialChecksum(value, span.size, lies.start == span.start, lies.stop == span.stop)


def merged(check: str, partials: Iterable[PartialChecksum]) -> list[PartialChecksum]:
    """Return one partial checksum for each S3 part, made of those of its fragments, which follow each other."""
    s3_parts: list[list[PartialChecksum]] = []
    for each in partials:
        if each.begins or not s3_parts:
            s3_parts.append([])
        s3_parts[-1].append(each)
    return [_joined(check, fragments) for fragments in s3_parts]


def _joined(check: str, fragments: Sequence[PartialChecksum]) -> PartialChecksum:
    value = fragments[0].value
    if len(fragments) > 1:
        is_known = can_merge(check) and all(each.value for each in fragments)
        value = merge(algorithm_of(check), [each[:2] for each in fragments]) if is_known else ""
    return PartialChecksum(value, sum(each.size for each in fragments), fragments[0].begins, fragments[-1].ends)


def of_object(check: str, partials: Sequence[PartialChecksum]) -> str | None:
    """Return the checksum of an object out of those of all its bytes; None where some are not known."""
    whole = merged(check, partials)
    if not all(each.value for each in whole):
        return None
    return composite_of(algorithm_of(check), [each.value for each in whole]) if is_of_parts(check) else whole[0].value


def encoded(partials: Iterable[PartialChecksum]) -> str:
    """Return partial checksums as custom metadata keep them."""
    return ",".join(
        f"{'' if each.begins else '<'}{each.value or _UNKNOWN}:{each.size:x}{'' if each.ends else '>'}"
        if not (each.begins and each.ends)
        else each.value or _UNKNOWN
        for each in partials
    )


def decoded(text: str) -> list[PartialChecksum]:
    """Read partial checksums as `encoded` wrote them; the size of a whole S3 part is not kept."""
    found = []
    for token in text.split(","):
        value, _, size = token.strip("<>").partition(":")
        known = "" if value == _UNKNOWN else value
        found.append(PartialChecksum(known, int(size or "0", 16), not token.startswith("<"), not token.endswith(">")))
    return found
