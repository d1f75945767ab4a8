"""The parts of a multipart upload, as S3 tells of them: all at once where it keeps their checksums, else one by one.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributesParts.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from handler.adapters.s3.objects import etag_of
from handler.core.checksums import composite, composite_of
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import Original, S3Part

_PAGE = 1000
"""Parts that one answer to GetObjectAttributes has at most."""
_AT_ONCE = 16
_REMEMBERED = 64
"""Objects whose exact parts are remembered; 10,000 parts take about 1 MB."""

Attributes = Callable[..., Mapping[str, Any]]
"""Asks GetObjectAttributes of an object's state, in boto3's terms, and raises one of our errors."""
HeadOfPart = Callable[[Original, int], Mapping[str, str]]
"""Returns the headers by which S3 describes a part by its number, and raises one of our errors."""


class UploadParts:
    """Learns the parts of uploads, by as few requests as show them.

    An upload with an additional checksum takes one GetObjectAttributes for each 1,000 parts, which needs
    `s3:GetObjectAttributes` and, for versions, `s3:GetObjectVersionAttributes`. Where that is denied, and for an upload
    that has an ETag of MD5s only, the first and the last part are asked for by HEAD: parts are alike as a rule. Where
    they are not, each part takes a HEAD.

    Args:
        attributes: asks for the parts with their checksums.
        head: asks for one part.
    """

    def __init__(self, attributes: Attributes, head: HeadOfPart) -> None:
        self._attributes = attributes
        self._head = head
        self._denied = False
        self._exact: dict[tuple[str, str, str | None], tuple[S3Part, ...]] = {}

    def of(self, original: Original, *, exact: bool) -> Original:
        """Return the original with its parts; see `Source.parts`."""
        algorithm, count = composite(original), _count(original)
        if original.checksums or original.md5 or algorithm is None or not count:
            return original
        state = original.key, original.etag, original.version_id
        if state in self._exact:
            return replace(original, parts=self._exact[state], parts_assumed=False)
        if algorithm != "ETAG" and (parts := self._listed(original, algorithm, count)):
            return replace(original, parts=parts, parts_assumed=False)
        parts, assumed = self._by_ends(original, count)
        if parts and not (assumed and exact):
            return replace(original, parts=parts, parts_assumed=assumed)
        parts = self._each(original, count)
        if parts and exact:
            if len(self._exact) >= _REMEMBERED:
                self._exact.clear()
            self._exact[state] = parts
        return replace(original, parts=parts, parts_assumed=False)

    def _listed(self, original: Original, algorithm: str, count: int) -> tuple[S3Part, ...]:
        """Ask for the sizes and checksums of all parts at once; empty where S3 does not say."""
        try:
            told = [] if self._denied else list(self._pages(original, count))
        except Refused:
            self._denied = True
            return ()
        except Unavailable as error:
            if error.code != "SrcNotImplemented":  # a store that speaks S3, but not this call
                raise
            self._denied = True
            return ()
        parts = tuple(S3Part(part["Size"], part.get(f"Checksum{algorithm}", "")) for part in told)
        if len(parts) != count or sum(part.size for part in parts) != original.size:
            return ()
        values = [part.checksum for part in parts]
        if not all(values) or composite_of(algorithm, values) != original.composites[algorithm]:
            return tuple(S3Part(part.size) for part in parts)  # the sizes will show it, or nothing does
        return parts

    def _pages(self, original: Original, count: int) -> Iterator[Mapping[str, Any]]:
        """Yield what S3 says of each part; nothing where it keeps no checksums of them."""
        seen = 0
        while seen < count:
            answer = self._attributes(
                original, ObjectAttributes=["ETag", "ObjectParts"], MaxParts=_PAGE, PartNumberMarker=seen
            )
            if answer.get("ETag", "").strip('"') != original.etag:
                raise Moved(f"{original.key!r} is another state by now")
            page = answer.get("ObjectParts", {}).get("Parts", [])
            if not page:
                return
            yield from page
            seen += len(page)

    def _by_ends(self, original: Original, count: int) -> tuple[tuple[S3Part, ...], bool]:
        """Return the parts that follow from the first, the last and their number, and whether some are assumed."""
        first = self._size(original, 1, count)
        last = first if count == 1 else self._size(original, count, count)
        if count <= 3:
            sizes = {1: [first], 2: [first, last], 3: [first, original.size - first - last, last]}[count]
            return _valid(sizes, original.size), False
        if first and last and (count - 1) * first + last == original.size and last <= first:
            return (*[S3Part(first)] * (count - 1), S3Part(last)), True
        return (), False

    def _each(self, original: Original, count: int) -> tuple[S3Part, ...]:
        """Ask for each part; empty where S3 does not say."""
        with ThreadPoolExecutor(_AT_ONCE, "s3-parts") as threads:
            sizes = threads.map(lambda number: self._size(original, number, count), range(1, count + 1))
            return _valid(list(sizes), original.size)

    def _size(self, original: Original, number: int, count: int) -> int:
        """Return the bytes of one part, 0 where S3 does not say."""
        part = self._head(original, number)
        told = etag_of(part) == original.etag and part.get("x-amz-mp-parts-count") == str(count)
        return int(part.get("content-length", "0")) if told else 0


def _valid(sizes: list[int], whole: int) -> tuple[S3Part, ...]:
    return tuple(map(S3Part, sizes)) if all(size > 0 for size in sizes) and sum(sizes) == whole else ()


def _count(original: Original) -> int:
    """The number of parts, by the ETag; 0 where it is not one of a multipart upload."""
    _, dash, count = original.etag.rpartition("-")
    return int(count) if dash and count.isdecimal() else 0


def version_of(original: Original) -> str | None:
    """Return the version to ask for, where there is one; "null" can be overwritten, so only the ETag pins it."""
    return original.version_id if original.version_id != "null" else None
