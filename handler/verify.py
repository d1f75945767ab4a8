"""Compares every object of the rules' sources with its copy, and says which are not equal; or makes them so.

    python -m handler.verify           with the variables and credentials of this shell; nothing is written
    python -m handler.verify --mend    copies, patches and deletes what is not equal, as an event would

Both sides are listed, 1,000 names a request, and joined by name. Of most copies the listing tells that they are of the
state that S3 has. Whatever it leaves in doubt is looked at as for an event; what is just on its way, once more later.
No listing has tags, nor metadata that were changed within the second of the put: `--thorough` looks at each object.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from handler import config, mapping
from handler.adapters.gcs import GcsDestination
from handler.adapters.gcs_errors import translated
from handler.app import Service
from handler.errors import ReplicationError
from handler.model import Change, Original, Replica, Rule
from handler.plan import STAGING
from handler.reconcile import DRY_RUN
from handler.replicator import Result, Work

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AT_ONCE = 100
"""Keys in doubt that are looked at together."""
PAUSE = 15.0
"""Seconds after which what was not equal is looked at once more: an event may have been on its way."""
MOST = 10_000
"""Keys that are looked at once more; of more than these, what the first look found is said."""
_TOLD = 100_000
"""Names between two lines about the progress."""

Left = TypeVar("Left")
Right = TypeVar("Right")


class Finding(NamedTuple):
    """An object that is not equal to its copy, or was not."""

    what: str
    """"put", "patch" or "delete", to be done or done; "failed" where that is not possible."""
    original: str
    copy: str
    """"" where a failure may be of any."""
    why: str


class Verifier:
    """Compares by listings, and by looks where those leave a doubt.

    Args:
        settings: the rules, and how to reach both sides.
        mend: whether to make equal what is not.
        thorough: whether to look at each object, whatever the listings tell.
        pause: waits before the second look.
    """

    def __init__(
        self,
        settings: config.Settings,
        *,
        mend: bool = False,
        thorough: bool = False,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE),
    ) -> None:
        self._rules = [rule for rules in settings.by_source.values() for rule in rules]
        self._mend, self._thorough, self._pause = mend, thorough, pause
        self.service = Service(replace(settings, dry_run=not mend))
        self.service.deadline.begin(_Unhurried())
        self.counts: Counter[str] = Counter()
        """How many "objects" were listed, and how many of what was not compared."""

    def findings(self, s3: S3Client) -> Iterator[Finding]:
        """Compare everything.

        Raises:
            ReplicationError, ClientError, BotoCoreError: a side cannot be listed.
        """
        rules = [rule for rule in self._rules if not self._is_within_another(rule)]
        doubtful = itertools.chain.from_iterable(self._doubtful(s3, rule) for rule in rules)
        again: list[Work] = []
        for result in self._looked_at(doubtful):
            found = list(_findings(result))
            if found and not self._mend and len(again) < MOST:
                again.append(result.work)
            else:
                yield from found
        if again:
            self._pause()
        for result in self._looked_at(again):
            yield from _findings(result)

    def _is_within_another(self, rule: Rule) -> bool:
        """Whether what a rule's listing would find, another rule's does: the looks go by all rules anyway."""
        return any(
            (other.source, other.destination) == (rule.source, rule.destination)
            and other.covers(rule.prefix)
            and other.destination_key(rule.prefix) == rule.destination_key(rule.prefix)
            and (other.prefix != rule.prefix or place < self._rules.index(rule))
            for place, other in enumerate(self._rules)
        )

    def _doubtful(self, s3: S3Client, rule: Rule) -> Iterator[Work]:
        scheme, _, bucket = rule.destination.partition("://")
        if scheme != "gs":
            self.counts[f"not compared, no GCS bucket: {rule.destination}"] += 1
            return
        start = rule.destination_key(rule.prefix)
        with translated("reach GCS"):
            client = self.service.gcs()
        copies = GcsDestination(client, bucket).scan(start)
        found = ((name.removeprefix(start), copy) for name, copy in copies if not name.startswith(STAGING))
        for rest, original, copy in joined(_listed(s3, rule), found):
            key = rule.prefix + rest
            self._count(original)
            if original and copy and not self._thorough and self._is_told_equal(copy, original, rule):
                continue
            if original or (copy and mapping.is_ours(copy, rule, key)):
                yield Work(bucket=rule.source, key=key, changes=(Change(bucket=rule.source, key=key, event="Verify"),))
            else:
                self.counts["copies of others, left alone"] += 1

    def _is_told_equal(self, copy: Replica, original: Original, rule: Rule) -> bool:
        """Return True if the two listings alone show the copy to be equal."""
        return mapping.is_of_state(copy, original, self._maker(copy, rule, original.key))

    def _maker(self, copy: Replica, rule: Rule, key: str) -> Rule:
        """Return the rule that the copy names if it may have made the copy, else the rule of the listing.

        Of the rules that share the copy's name the highest priority wins whose tags the object has. A listing has no
        tags, so it may be any down to the first that asks for none.
        """
        place = rule.source, rule.destination, rule.destination_key(key)
        for other in self._rules:
            if other.covers(key) and (other.source, other.destination, other.destination_key(key)) == place:
                if other.id == mapping.made_by(copy):
                    return other
                if not other.tags:
                    break
        return rule

    def _count(self, original: Original | None) -> None:
        self.counts["objects"] += original is not None
        if original and self.counts["objects"] % _TOLD == 0:
            sys.stderr.write(f"{self.counts['objects']:,} objects compared\n")

    def _looked_at(self, works: Iterable[Work]) -> Iterator[Result]:
        todo = iter(works)
        while some := list(itertools.islice(todo, AT_ONCE)):
            yield from self.service.replicator.replicate(some)


def joined(
    left: Iterable[tuple[str, Left]], right: Iterable[tuple[str, Right]]
) -> Iterator[tuple[str, Left | None, Right | None]]:
    """Join two listings by name, both in the order of UTF-8, as both clouds list."""
    ours, theirs = zip(left, itertools.repeat(0)), zip(right, itertools.repeat(1))
    merged = heapq.merge(ours, theirs, key=lambda item: item[0][0].encode())
    for name, group in itertools.groupby(merged, key=lambda item: item[0][0]):
        found: dict[int, Any] = {side: value for (_, value), side in group}
        yield name, found.get(0), found.get(1)


def _listed(s3: S3Client, rule: Rule) -> Iterator[tuple[str, Original]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=rule.source, Prefix=rule.prefix):
        for item in page.get("Contents", []):
            moment = item["LastModified"].replace(microsecond=0)
            etag = item["ETag"].strip('"')
            storage_class = item.get("StorageClass", "STANDARD")
            original = Original(
                key=item["Key"], size=item["Size"], etag=etag, last_modified=moment, storage_class=storage_class
            )
            yield item["Key"].removeprefix(rule.prefix), original


def _findings(result: Result) -> Iterator[Finding]:
    original = f"s3://{result.work.bucket}/{result.work.key}"
    for error in result.errors:
        yield Finding("failed", original, "", f"{error.code}: {error}")
    for outcome in result.outcomes:
        copy = f"{outcome.rule.destination}/{outcome.name}"
        if outcome.why.startswith(DRY_RUN):
            what, _, why = outcome.why.removeprefix(DRY_RUN).partition(": ")
            yield Finding(what, original, copy, why)
        elif outcome.actions:
            yield Finding(outcome.done, original, copy, "done")


class _Unhurried:
    """Lambda's context where there is no Lambda: time enough."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def main(arguments: list[str] | None = None) -> int:
    """Run the program: 0 where all is equal or was made so, 1 where something is not, 2 where it cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m handler.verify", description=__doc__.partition("\n")[0])
    parser.add_argument("--mend", action="store_true", help="make equal what is not")
    parser.add_argument(
        "--thorough", action="store_true", help="look at each object, for its tags: one or two requests each"
    )
    options = parser.parse_args(arguments)
    began = time.monotonic()
    left: Counter[str] = Counter()
    try:
        verifier = Verifier(config.load(), mend=options.mend, thorough=options.thorough)
        with closing(verifier.service) as service:
            for finding in verifier.findings(service.aws("s3")):
                left[finding.what] += 1
                where = f"{finding.original} -> {finding.copy}" if finding.copy else finding.original
                sys.stdout.write(f"{finding.what:<7} {where}  {finding.why}\n")
    except (config.ConfigurationError, ReplicationError, ClientError, BotoCoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    what = ", ".join(f"{count:,} {word}" for word, count in sorted(left.items()))
    said = [f"{'done' if options.mend else 'to be done'}: {what}" if left else "all equal"]
    counts = dict(verifier.counts)
    objects = counts.pop("objects", 0)
    said += [f"{count:,} {what}" for what, count in counts.items()]
    sys.stdout.write(f"{objects:,} objects compared in {time.monotonic() - began:.1f} s; {'; '.join(said)}\n")
    return 1 if left["failed"] or (left and not options.mend) else 0


if __name__ == "__main__":
    sys.exit(main())
