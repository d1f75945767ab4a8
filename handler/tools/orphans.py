"""Finds the copies that no rule makes any more after a change of the rules, and removes them on demand."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.errors import translated
from handler.config import Settings
from handler.core import mapping
from handler.core.errors import Moved, ReplicationError, Unavailable
from handler.core.listed import copied_from, key_named
from handler.core.model import Replica, Rule
from handler.core.plan import STAGING
from handler.tools.held import Copy, Held

AT_ONCE = 1_000
"""Orphans in memory that wait for their removal."""
TRIES = 5
"""Attempts to delete an orphan, because another writer may change it between the look and the delete."""
_PROGRESS = 100_000
"""Names between two lines of progress."""
_LAST = "\U0010ffff"
"""The last character there is."""


class Verdict(NamedTuple):
    """The verdict on a copy that no enabled rule makes."""

    key: str
    """The key whose copy it is."""
    is_orphan: bool
    """True if the copy may be removed; False if it is kept in any case."""
    why: str


def verdict(rules: Sequence[Rule], destination: str, name: str, replica: Replica) -> Verdict | None:
    """Judge one copy. Pure.

    A copy is ours if it names a source bucket of the rules. It is kept if its rule, or a rule that would make it, is
    disabled, or if its rule does not replicate deletes. If no rule has the ID of its rule any more, it is removed only
    if each rule of the source bucket replicates deletes.

    Args:
        rules: all rules, including the disabled ones.
        destination: the bucket of the copy, `gs://bucket`.
        name: the name of the copy.
        replica: the state of the copy.

    Returns:
        None if an enabled rule makes the copy, if the copy is not ours, or if it does not exist.
    """
    of_bucket = [rule for rule in rules if rule.source == copied_from(replica)]
    if not of_bucket:
        return None
    made_by, key = mapping.made_by(replica), key_named(replica) or name
    is_unnamed = made_by is None and key_named(replica) is None
    makers = [rule for rule in of_bucket if rule.destination == destination and _makes(rule, key, name)]
    if is_unnamed:  # by an old release: it can be the copy of any key to which a rule gives this name
        makers += [rule for rule in of_bucket if rule.destination == destination and rule.key_of(name) is not None]
    if any(rule.enabled for rule in makers):
        return None
    own = [rule for rule in of_bucket if rule.id == made_by]
    disabled = next((rule for rule in (*own, *makers) if not rule.enabled), None)
    if disabled:
        return Verdict(key, False, f"no enabled rule makes this copy, but the rule {disabled.id!r} is disabled: kept")
    keeping = next((rule for rule in own or of_bucket if not rule.deletes), None)
    if keeping:
        return Verdict(
            key, False, f"no rule makes this copy, but the rule {keeping.id!r} does not replicate deletes: kept"
        )
    return Verdict(key, True, "no rule makes this copy")


def _makes(rule: Rule, key: str, name: str) -> bool:
    return rule.key_of(name) == key


class Orphans:
    """The copies that no rule makes any more.

    Args:
        settings: the rules.
        gcs: returns the client of GCS.
        within: remove the orphans whose locations begin with one of these: `gs://bucket/` or `gs://bucket/prefix`.
    """

    def __init__(self, settings: Settings, gcs: Callable[[], Any], within: Sequence[str] = ()) -> None:
        self._settings, self._gcs, self._within = settings, gcs, tuple(within)
        self._sources = {rule.source for rule in settings.rules}
        self._destination = cache(self._connected)
        self.left, self.kept, self.doomed = Held(), Held(), Held()
        """The orphans to name only, the copies to keep in any case, and the orphans to remove."""
        self.copies: Counter[str] = Counter()
        """The number of all these copies, by the bucket of their originals."""
        self.counts: Counter[str] = Counter()
        """The number of objects that are not ours."""

    def _connected(self, destination: str) -> GcsDestination:
        with translated("reach GCS"):
            client = self._gcs()
        return GcsDestination(client, destination.removeprefix("gs://"))

    def close(self) -> None:
        """Delete the files of what was found."""
        for held in (self.left, self.kept, self.doomed):
            held.close()

    def see(self, destination: str, name: str, replica: Replica) -> None:
        """Judge and note an object that no listed original has as its copy."""
        bucket = copied_from(replica)
        if bucket is None:
            self.counts["copies of others, left alone"] += 1
        elif bucket not in self._sources:
            self.counts[f"copies from s3://{bucket}, which no rule names, left alone"] += 1
        elif found := verdict(self._settings.rules, destination, name, replica):
            self.copies[bucket] += 1
            is_doomed = found.is_orphan and f"{destination}/{name}".startswith(self._within)
            held = self.doomed if is_doomed else self.left if found.is_orphan else self.kept
            held.add(Copy(bucket, found.key, destination, name), found.why)

    def search(self) -> None:
        """Search the destination buckets outside of the rules' prefixes, where the comparison does not list.

        Raises:
            ReplicationError: a bucket cannot be listed.
        """
        starts: dict[str, list[str]] = {}
        for rule in self._settings.rules:
            if rule.enabled and rule.destination.startswith("gs://"):
                starts.setdefault(rule.destination, []).append(rule.destination_key(rule.prefix))
        listed = 0
        for destination, prefixes in starts.items():
            for start, stop in gaps(prefixes):
                for name, replica in self._destination(destination).scan("", start=start, stop=stop):
                    listed += 1
                    if listed % _PROGRESS == 0:
                        sys.stderr.write(f"{listed:,} names listed outside of the rules' prefixes\n")
                    if copied_from(replica) is not None and not name.startswith(STAGING):
                        self.see(destination, name, replica)

    def removed(self) -> Iterator[tuple[Copy, str, ReplicationError | None]]:
        """Remove the doomed orphans, and yield each with its result: "removed", "kept" or "failed"."""
        rest = iter(self.doomed)
        with ThreadPoolExecutor(self._settings.concurrency, "orphan") as threads:
            while batch := list(itertools.islice(rest, AT_ONCE)):
                yield from threads.map(self._removed, batch)

    def _removed(self, copy: Copy) -> tuple[Copy, str, ReplicationError | None]:
        try:
            return copy, "removed" if self._remove(copy) else "kept", None
        except ReplicationError as error:
            return copy, "failed", error

    def _remove(self, copy: Copy) -> bool:
        """Delete the copy on its generation. Return False if a fresh look shows that it is no longer that orphan."""
        destination = self._destination(copy.destination)
        for _ in range(TRIES):
            replica = destination.head(copy.name)
            found = verdict(self._settings.rules, copy.destination, copy.name, replica)
            if not found or not found.is_orphan or found.key != copy.key:
                return False
            try:
                destination.delete(copy.name, expect=replica.generation)
            except Moved:
                continue
            return True
        raise Unavailable(
            f"cannot remove {copy.destination}/{copy.name}: it changed {TRIES} times meanwhile. Run the command again",
            code="KeyTooHot",
        )


def gaps(prefixes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the ranges of names that begin with none of the prefixes: the first name, and the name after the last.

    A range without an end has "" as its end. Names are in the order of UTF-8, as GCS lists them.
    """
    at: str | None = ""
    for prefix in sorted(set(prefixes)):
        if at is None:
            return
        if prefix < at:
            continue  # within the prefix before
        if prefix > at:
            yield at, prefix
        at = _after(prefix)
    if at is not None:
        yield at, ""


def _after(prefix: str) -> str | None:
    """Return the first name after all those that begin with the prefix; None if there is no such name."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)  # UTF-8 has no surrogates
