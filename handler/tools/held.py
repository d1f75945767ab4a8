"""Deletes that are held back until it is known how many there are, and the limit that they must be within."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from handler.core.model import MIB

FEW = 1_000
"""Deletes that are always carried out."""
PERCENT = 10
"""Percent of the copies; more than `FEW` deletes are carried out only up to this share."""


class Copy(NamedTuple):
    """A copy by its original's bucket and key, and its own destination and name."""

    bucket: str
    key: str
    destination: str
    name: str


class Held:
    """Copies that are to be deleted, in the order in which they were found. More than 1 MiB of them wait on disk."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MIB, mode="w+", encoding="utf-8")  # noqa: SIM115 - `close` closes it
        self.by_bucket: Counter[str] = Counter()
        """How many there are, by their originals' bucket."""

    def __len__(self) -> int:
        return self.by_bucket.total()

    def __iter__(self) -> Iterator[Copy]:
        self._file.seek(0)
        for line in self._file:
            yield Copy(*json.loads(line)[:-1])

    def reasons(self) -> Iterator[tuple[Copy, str]]:
        """Yield each copy with why it is held."""
        self._file.seek(0)
        for line in self._file:
            *copy, why = json.loads(line)
            yield Copy(*copy), why

    def add(self, copy: Copy, why: str = "no original") -> None:
        """Hold back the delete of one more copy."""
        self._file.write(json.dumps((*copy, why)) + "\n")
        self.by_bucket[copy.bucket] += 1

    def excess(self, copies: Mapping[str, int], allowed: float | None = None, *, beside: Iterable[Held] = ()) -> str:
        """Return why these are too many deletes to carry out, "" if they are within the limit.

        The limit holds for the copies of each source bucket, as it is one bucket that is emptied by mistake, and for
        all copies together.

        Args:
            copies: how many copies there are, by the bucket of their originals.
            allowed: deletes that are allowed whatever their share is, infinite for any number; None for the limit.
            beside: others that are to be deleted together with these.
        """
        by_bucket = Counter(self.by_bucket)
        for other in beside:
            by_bucket += other.by_bucket
        if allowed is not None:
            count = by_bucket.total()
            return "" if count <= allowed else f"{count:,} deletes are more than the {allowed:,.0f} allowed"
        groups = [("", by_bucket.total(), sum(copies.values()))]
        groups += [(f" of s3://{bucket}", count, copies[bucket]) for bucket, count in by_bucket.items()]
        return next((_said(*group) for group in groups if _is_too_many(*group[1:])), "")

    def close(self) -> None:
        """Forget them all."""
        self._file.close()


def _is_too_many(deletes: int, copies: int) -> bool:
    return deletes > FEW and 100 * deletes > PERCENT * copies


def _said(whose: str, deletes: int, copies: int) -> str:
    return f"{deletes:,} of {copies:,} copies{whose} would be deleted, more than {FEW:,} and more than {PERCENT} %"


def allowance(text: str) -> float:
    """Read a number of deletes from a command line.

    Raises:
        ValueError: it is none.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
