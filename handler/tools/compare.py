"""Compares originals with their copies: by listings, and individually where a listing entry is ambiguous."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from handler import config
from handler.tools.findings import Finding, copy_of, failure, findings_of, names_of, work_of
from handler.tools.held import Copy, Held
from handler.tools.listings import Listings, Suspect
from handler.tools.orphans import Orphans
from handler.wiring import Wiring

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AT_ONCE = 100
"""Keys that are checked in one call of the replicator."""
PAUSE = 15.0
"""Seconds until an unequal key is checked once more, because its event may be on its way."""
MOST = 10_000
"""Keys that are checked once more at most; for further keys the first check is final."""


class Verifier:
    """Compares all originals with their copies.

    Args:
        settings: the rules, and how to reach both sides.
        repair: make copies equal; False: name the differences only.
        thorough: check every key individually.
        within_rules: list only names under the rules' prefixes, and find no orphans elsewhere.
        removing: remove the orphans whose locations begin with one of these (`gs://bucket/prefix`).
        allowed: the number of deletes to allow; None: the limit of `Held.excess`.
        pause: wait before keys are checked once more.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword: what the command line asks for
        self,
        settings: config.Settings,
        *,
        repair: bool = False,
        thorough: bool = False,
        within_rules: bool = False,
        removing: Sequence[str] = (),
        allowed: float | None = None,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE),
    ) -> None:
        self._settings, self._repair, self._allowed, self._pause = settings, repair, allowed, pause
        self._within_rules, self._removes = within_rules, bool(removing)
        self._open = ExitStack()
        self.dry = self._wiring(settings, dry_run=True)
        """Reports what it would do, and does nothing."""
        self.orphans = self._open.enter_context(closing(Orphans(settings, self.dry.gcs, removing)))
        self.listings = Listings(settings, self.dry.gcs, thorough=thorough, notice=self.orphans.see)
        self.excess = ""
        """Why there are too many deletes to carry out; "" if there are not."""

    def _wiring(self, settings: config.Settings, *, dry_run: bool = False) -> Wiring:
        wiring = self._open.enter_context(closing(Wiring(replace(settings, dry_run=dry_run))))
        wiring.deadline.begin(_Unhurried())
        return wiring

    def close(self) -> None:
        """Close every connection."""
        self._open.close()

    def findings(self, s3: S3Client) -> Iterator[Finding]:
        """Compare everything, and yield each difference.

        Raises:
            ReplicationError, ClientError, BotoCoreError: a side cannot be listed. No delete was carried out then.
        """
        suspects, orphans = self.listings.suspects(s3), self.orphans
        with closing(Held()) as deletes:
            yield from self._copied(suspects, deletes) if self._repair else self._named(suspects, deletes)
            if not self._within_rules:
                orphans.search()
            self.excess = self._excess(deletes)
            if self._repair:
                yield from self._deleted(deletes)
            for what, copies in (("orphan", orphans.left), ("kept", orphans.kept)):
                yield from _named_as(what, copies)
            yield from self._removed(orphans)

    def _excess(self, deletes: Held) -> str:
        """Return why this run would delete too many copies; a run that deletes nothing is judged as with --repair."""
        doomed, copies = self.orphans.doomed, self.listings.copies + self.orphans.copies
        if self._removes and not self._repair:
            return doomed.excess(copies, self._allowed)
        return deletes.excess(copies, self._allowed, beside=[doomed])

    def _named(self, suspects: Iterable[Suspect], deletes: Held) -> Iterator[Finding]:
        """Check the suspects, and the unequal ones once more after a pause. Change nothing."""
        unequal: list[Copy] = []
        for copy, found in _checked(self.dry, (suspect.copy for suspect in suspects)):
            if len(unequal) < MOST and any(finding.what != "refused" for finding in found):
                unequal.append(copy)
            else:
                yield from _noted(deletes, copy, found)
        if unequal:
            self._pause()
        for copy, found in _checked(self.dry, unequal):
            yield from _noted(deletes, copy, found)

    def _copied(self, suspects: Iterable[Suspect], deletes: Held) -> Iterator[Finding]:
        """Copy and patch the suspects that have an original, and hold the deletes of those that have none."""
        without_deletes = tuple(replace(rule, deletes=False) for rule in self._settings.rules)
        copying = self._wiring(replace(self._settings, rules=without_deletes))
        for batch in _batches(suspects):
            gone = [suspect.copy for suspect in batch if not suspect.is_listed]
            for result in copying.replicator.replicate([work_of(each.copy) for each in batch if each.is_listed]):
                yield from findings_of(result)
                gone += [copy_of(result.work) for outcome in result.outcomes if outcome.original is None]
            returned: list[Copy] = []
            for copy, found in _checked(self.dry, gone):
                if found and not _noted_delete(deletes, copy, found):
                    returned.append(copy)
            for _, found in _checked(copying, returned):
                yield from found

    def _deleted(self, deletes: Held) -> Iterator[Finding]:
        """Carry the deletes out if they are within the limit. All listings have ended by now."""
        if self.excess:
            yield from _named_as("held", deletes)
            return
        if len(deletes):
            sys.stderr.write(f"deleting {len(deletes):,} of {self.listings.copies.total():,} copies\n")
        for _, found in _checked(self._wiring(self._settings), deletes):
            yield from found

    def _removed(self, orphans: Orphans) -> Iterator[Finding]:
        """Remove the doomed orphans if the deletes are within the limit."""
        if self.excess:
            yield from _named_as("held", orphans.doomed)
            return
        if len(orphans.doomed):
            sys.stderr.write(f"removing {len(orphans.doomed):,} orphans\n")
        for copy, what, error in orphans.removed():
            why = "done" if what == "removed" else "it changed, or is gone, since it was listed"
            yield failure(names_of(copy), error) if error else Finding(what, *names_of(copy), why)


Item = TypeVar("Item")


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, AT_ONCE)):
        yield batch


def _checked(wiring: Wiring, copies: Iterable[Copy]) -> Iterator[tuple[Copy, list[Finding]]]:
    """Drive each copy to equality as far as the wiring may, and yield what it found or did."""
    for batch in _batches(copies):
        for result in wiring.replicator.replicate([work_of(copy) for copy in batch]):
            yield copy_of(result.work), list(findings_of(result))


def _named_as(what: str, copies: Held) -> Iterator[Finding]:
    return (Finding(what, *names_of(copy), why) for copy, why in copies.reasons())


def _noted_delete(deletes: Held, copy: Copy, found: list[Finding]) -> bool:
    """Note the copy if its delete was found, and return True if it was."""
    is_delete = any(finding.what == "delete" for finding in found)
    if is_delete:
        deletes.add(copy)
    return is_delete


def _noted(deletes: Held, copy: Copy, found: list[Finding]) -> list[Finding]:
    _noted_delete(deletes, copy, found)
    return found


class _Unhurried:
    """A Lambda context with fifteen minutes left, always: a program has no deadline."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000
