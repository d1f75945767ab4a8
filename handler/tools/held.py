"""Holds deletes until their number is known, and compares it with the limit."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from handler.core.model import MIB

FEW = 1_000
"""The number of deletes that is always allowed."""
PERCENT = 10
"""The percentage of the copies up to which more than `FEW` deletes are allowed."""


class Copy(NamedTuple):
    """A copy: the bucket and key of its original, and its own destination and name."""

    bucket: str
    key: str
    destination: str
    name: str


class Held:
    """Copies to be deleted, in the order in which they were found. They are kept on disk beyond 1 MiB."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MIB, mode="w+", encoding="utf-8")  # noqa: SIM115 - `close` closes it
        self.by_bucket: Counter[str] = Counter()
        """The number of copies, by the bucket of their originals."""

    def __len__(self) -> int:
        return self.by_bucket.total()

    def __iter__(self) -> Iterator[Copy]:
        self._file.seek(0)
        for line in self._file:
            yield Copy(*json.loads(line)[:-1])

    def reasons(self) -> Iterator[tuple[Copy, str]]:
        """Yield each copy with the reason of its delete."""
        self._file.seek(0)
        for line in self._file:
            *copy, why = json.loads(line)
            yield Copy(*copy), why

    def add(self, copy: Copy, why: str = "no original") -> None:
        """Hold the delete of one more copy."""
        self._file.write(json.dumps((*copy, why)) + "\n")
        self.by_bucket[copy.bucket] += 1

    def excess(self, copies: Mapping[str, int], allowed: float | None = None, *, beside: Iterable[Held] = ()) -> str:
        """Return why there are too many deletes to carry out, "" if they are within the limit.

        The limit holds for each source bucket, because a mistake empties one bucket, and for all copies together.

        Args:
            copies: the number of copies, by the bucket of their originals.
            allowed: the number of deletes to allow, whatever their share; None: the limit.
            beside: other deletes, which count too.
        """
        by_bucket = Counter(self.by_bucket)
        for other in beside:
            by_bucket += other.by_bucket
        if allowed is not None:
            count = by_bucket.total()
            return "" if count <= allowed else f"{count:,} deletes are more than the {allowed:,.0f} allowed"
        groups = [("", by_bucket.total(), sum(copies.values()))]
        groups += [(f" of s3://{bucket}", count, copies[bucket]) for bucket, count in by_bucket.items()]
        return next((_reason(*group) for group in groups if _is_too_many(*group[1:])), "")

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _is_too_many(deletes: int, copies: int) -> bool:
    return deletes > FEW and 100 * deletes > PERCENT * copies


def _reason(whose: str, deletes: int, copies: int) -> str:
    return f"{deletes:,} of {copies:,} copies{whose} would be deleted, more than {FEW:,} and more than {PERCENT} %"


def allowance(text: str) -> float:
    """Return the number of deletes that a command line allows.

    Raises:
        ValueError: the text is no such number.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
