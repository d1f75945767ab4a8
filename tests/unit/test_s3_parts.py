"""The parts of an upload, by as few requests as show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from handler.adapters.s3.objects import original_of
from handler.adapters.s3.parts import UploadParts
from handler.core.checksums import composite_of
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import Original, S3Part
from tests.fakes import checksum

ETAG = "0123456789abcdef0123456789abcdef"
WHOLE = {"etag": f'"{ETAG}-4"', "content-length": "35", "last-modified": "Sun, 22 Nov 2026 20:00:00 GMT"}


def part(size: int, count: int = 4, etag: str = f"{ETAG}-4") -> dict[str, str]:
    """Return the headers that describe a part."""
    return {"etag": f'"{etag}"', "content-length": str(size), "x-amz-mp-parts-count": str(count)}


class Parted(UploadParts):
    """Notes which parts are asked for."""

    def __init__(self, heads: Mapping[int, Mapping[str, str]], attributes: Any = None) -> None:
        super().__init__(self._answer_attributes, self._answer_head)
        self.heads = dict(heads)
        self.answer = attributes
        self.asked: list[int] = []

    def _answer_attributes(self, _: Original, **request: Any) -> Mapping[str, Any]:
        assert request["PartNumberMarker"] == 0
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(self.answer)

    def _answer_head(self, _: Original, number: int) -> Mapping[str, str]:
        self.asked.append(number)
        return self.heads[number]


def sizes_of(original: Original) -> list[int]:
    return [part.size for part in original.parts]


@pytest.mark.parametrize(
    ("heads", "sizes", "assumed"),
    [
        ({1: part(10), 4: part(5)}, [10, 10, 10, 5], True),
        ({1: part(11), 4: part(2)}, [11, 11, 11, 2], True),
        ({1: part(10), 4: part(6), 2: part(10), 3: part(9)}, [10, 10, 9, 6], False),
        ({1: part(5), 4: part(10), 2: part(10), 3: part(10)}, [5, 10, 10, 10], False),
        ({1: part(10), 4: part(6), 2: part(10), 3: part(10)}, [], False),
        (dict.fromkeys((1, 2, 3, 4), part(10, etag=f"{ETAG}-5")), [], False),
        ({1: part(10, count=3), 4: part(5), 2: part(10), 3: part(10)}, [], False),
    ],
    ids=["alike", "alike to the byte", "uneven", "a short one first", "not all of them", "another state", "miscounted"],
)
def test_parts_are_taken_to_be_alike_where_the_ends_bear_it_out_and_else_all_are_asked_for(
    heads: dict[int, dict[str, str]], sizes: list[int], *, assumed: bool
) -> None:
    parts, original = Parted(heads), original_of("k", WHOLE)
    parted = parts.of(original, exact=False)
    assert (sizes_of(parted), parted.parts_assumed) == (sizes, assumed)
    assert len(parts.asked) == (2 if assumed else 6)


def test_that_parts_are_not_alike_is_found_out_once_and_remembered() -> None:
    parts, original = Parted({1: part(10), 4: part(5)}), original_of("k", WHOLE)
    assert parts.of(original, exact=False).parts_assumed
    parts.heads |= {2: part(12), 3: part(8)}
    parts.asked.clear()
    exact = parts.of(original, exact=True)
    assert (sizes_of(exact), exact.parts_assumed) == ([10, 12, 8, 5], False)
    assert sorted(parts.asked) == [1, 1, 2, 3, 4, 4]
    parts.asked.clear()
    assert parts.of(original, exact=False).parts == exact.parts
    assert parts.asked == []


BODIES = [b"0123456789", b"01234", b"0123456789", b"0123456789"]
SUMS = [checksum("CRC32", body) for body in BODIES]
OF_CRC32 = original_of(
    "k",
    WHOLE | {"x-amz-checksum-crc32": f"{composite_of('CRC32', SUMS)}-4", "x-amz-checksum-type": "COMPOSITE"},
)
LISTED = [
    {"PartNumber": number, "Size": len(body), "ChecksumCRC32": value}
    for number, (body, value) in enumerate(zip(BODIES, SUMS, strict=True), 1)
]
ATTRIBUTES = {"ETag": f"{ETAG}-4", "ObjectParts": {"Parts": LISTED}}
ENDS = {1: part(10), 4: part(5)}


def test_an_upload_with_checksums_tells_all_its_parts_by_one_request() -> None:
    parts = Parted({}, ATTRIBUTES)
    parted = parts.of(OF_CRC32, exact=False)
    assert parted.parts == tuple(S3Part(len(body), value) for body, value in zip(BODIES, SUMS, strict=True))
    assert not parted.parts_assumed
    assert parts.asked == []


@pytest.mark.parametrize(
    "error", [Refused("denied"), Unavailable("no such call", code="SrcNotImplemented")], ids=["denied", "unknown"]
)
def test_where_the_attributes_are_denied_the_ends_are_asked_for(error: Exception) -> None:
    parts = Parted(ENDS, error)
    parted = parts.of(OF_CRC32, exact=False)
    assert (sizes_of(parted), parted.parts_assumed) == ([10, 10, 10, 5], True)
    parts.answer = ATTRIBUTES
    assert parts.of(OF_CRC32, exact=False).parts_assumed, "a denial is remembered"


def test_attributes_that_do_not_come_are_not_taken_for_denied() -> None:
    with pytest.raises(Unavailable):
        Parted(ENDS, Unavailable("slow down", code="SrcSlowDown")).of(OF_CRC32, exact=False)


@pytest.mark.parametrize(
    "answer",
    [{"ETag": f"{ETAG}-4"}, ATTRIBUTES | {"ObjectParts": {"TotalPartsCount": 4}}],
    ids=["no parts", "only their number"],
)
def test_attributes_without_parts_leave_it_to_the_ends(answer: dict[str, Any]) -> None:
    assert Parted(ENDS, answer).of(OF_CRC32, exact=False).parts_assumed


def test_attributes_of_another_state_are_moved() -> None:
    with pytest.raises(Moved):
        Parted(ENDS, ATTRIBUTES | {"ETag": "other-4"}).of(OF_CRC32, exact=False)


def test_checksums_of_parts_that_do_not_make_the_objects_are_not_believed() -> None:
    lying = {"Parts": [listed | {"ChecksumCRC32": "AAAAAA=="} for listed in LISTED]}
    parted = Parted(ENDS, ATTRIBUTES | {"ObjectParts": lying}).of(OF_CRC32, exact=False)
    assert [(part.size, part.checksum) for part in parted.parts] == [(10, ""), (5, ""), (10, ""), (10, "")]
