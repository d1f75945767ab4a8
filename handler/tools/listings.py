"""Lists both sides of every rule, 1,000 names a request, and finds the copies that the listings do not show equal."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.errors import translated
from handler.config import Settings
from handler.core import mapping
from handler.core.listed import is_of_state
from handler.core.model import Original, Replica, Rule
from handler.core.plan import STAGING
from handler.tools.held import Copy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_PROGRESS = 100_000
"""Objects between two lines of progress."""

Left = TypeVar("Left")
Right = TypeVar("Right")


class Suspect(NamedTuple):
    """A copy that the listings do not show to be equal, and whether they have its original."""

    copy: Copy
    is_listed: bool


class Listings:
    """The listings of both sides, joined by name.

    Args:
        settings: the rules, and the owners of the sources.
        gcs: returns the client of GCS.
        thorough: suspect every copy.
        notice: called once with destination, name and state of each object that is the copy of no key of its listing.
    """

    def __init__(
        self,
        settings: Settings,
        gcs: Callable[[], Any],
        *,
        thorough: bool = False,
        notice: Callable[[str, str, Replica], None] = lambda *_: None,
    ) -> None:
        self._settings, self._gcs, self._thorough, self._notice = settings, gcs, thorough, notice
        self._rules = [rule for rules in settings.by_source.values() for rule in rules]
        self.counts: Counter[str] = Counter()
        """The number of listed "objects", and of everything that was not compared."""
        self.copies: Counter[str] = Counter()
        """The number of listed copies, by the bucket of their originals."""

    def suspects(self, s3: S3Client) -> Iterator[Suspect]:
        """Yield every copy that exists or should exist, except those that the listings show to be equal.

        Raises:
            ReplicationError, ClientError, BotoCoreError: a side cannot be listed.
        """
        listed = [rule for rule in self._rules if not self._is_within_another(rule)]
        noticing = _disjoint(listed)
        for rule in listed:
            yield from self._suspects(s3, rule, is_noticing=rule.id in noticing)

    def _is_within_another(self, rule: Rule) -> bool:
        """Return True if another rule's listing includes this rule's: a copy is checked against all of its rules."""
        return any(
            (other.source, other.destination) == (rule.source, rule.destination)
            and other.covers(rule.prefix)
            and other.destination_key(rule.prefix) == rule.destination_key(rule.prefix)
            and (other.prefix != rule.prefix or position < self._rules.index(rule))
            for position, other in enumerate(self._rules)
        )

    def _suspects(self, s3: S3Client, rule: Rule, *, is_noticing: bool) -> Iterator[Suspect]:
        scheme, _, bucket = rule.destination.partition("://")
        if scheme != "gs":
            self.counts[f"not compared, no GCS bucket: {rule.destination}"] += 1
            return
        start = rule.destination_key(rule.prefix)
        with translated("reach GCS"):
            client = self._gcs()
        copies = GcsDestination(client, bucket).scan(start)
        found = ((name.removeprefix(start), copy) for name, copy in copies if not name.startswith(STAGING))
        for rest, original, copy in joined(_listed(s3, rule, self._settings.owner_of(rule.source)), found):
            key = rule.prefix + rest
            is_ours = copy is not None and mapping.is_ours(copy, rule, key)
            self._count(rule, original, is_ours=is_ours)
            if original and copy and not self._thorough and self._is_shown_equal(copy, original, rule):
                continue
            if original or is_ours:
                yield Suspect(Copy(rule.source, key, rule.destination, start + rest), original is not None)
            elif copy and is_noticing:
                self._notice(rule.destination, start + rest, copy)

    def _is_shown_equal(self, copy: Replica, original: Original, rule: Rule) -> bool:
        """Return True if the two listings alone show the copy to be equal."""
        return is_of_state(copy, original, self._maker(copy, rule, original.key))

    def _maker(self, copy: Replica, rule: Rule, key: str) -> Rule:
        """Return the rule that the copy names if that rule can have made it, else the rule of the listing.

        Several rules may give the copy its name. The rule with the highest priority wins among those whose tags the
        object has. A listing has no tags, so each rule down to the first without tags can have made the copy.
        """
        target = rule.source, rule.destination, rule.destination_key(key)
        for other in self._rules:
            if other.covers(key) and (other.source, other.destination, other.destination_key(key)) == target:
                if other.id == mapping.made_by(copy):
                    return other
                if not other.tags:
                    break
        return rule

    def _count(self, rule: Rule, original: Original | None, *, is_ours: bool) -> None:
        self.copies[rule.source] += is_ours
        self.counts["objects"] += original is not None
        if original and self.counts["objects"] % _PROGRESS == 0:
            sys.stderr.write(f"{self.counts['objects']:,} objects compared\n")


def _disjoint(rules: Iterable[Rule]) -> set[str]:
    """Return the IDs of rules whose destination listings have all names of all rules, and no name twice."""
    found: set[str] = set()
    last: tuple[str, str] | None = None
    for destination, prefix, id_ in sorted(
        (rule.destination, rule.destination_key(rule.prefix), rule.id) for rule in rules
    ):
        if last is None or destination != last[0] or not prefix.startswith(last[1]):
            last = destination, prefix
            found.add(id_)
    return found


def joined(
    left: Iterable[tuple[str, Left]], right: Iterable[tuple[str, Right]]
) -> Iterator[tuple[str, Left | None, Right | None]]:
    """Join two listings by name. Both are in the order of UTF-8, as both clouds list."""
    ours, theirs = zip(left, itertools.repeat(0)), zip(right, itertools.repeat(1))
    merged = heapq.merge(ours, theirs, key=lambda item: item[0][0].encode())
    for name, group in itertools.groupby(merged, key=lambda item: item[0][0]):
        found: dict[int, Any] = {side: value for (_, value), side in group}
        yield name, found.get(0), found.get(1)


def _listed(s3: S3Client, rule: Rule, owner: str | None) -> Iterator[tuple[str, Original]]:
    expected: Any = {"ExpectedBucketOwner": owner} if owner else {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=rule.source, Prefix=rule.prefix, **expected):
        for item in page.get("Contents", []):
            moment = item["LastModified"].replace(microsecond=0)
            etag = item["ETag"].strip('"')
            storage_class = item.get("StorageClass", "STANDARD")
            original = Original(
                key=item["Key"], size=item["Size"], etag=etag, last_modified=moment, storage_class=storage_class
            )
            yield item["Key"].removeprefix(rule.prefix), original
