"""Compares the objects of the rules' sources with their copies: by listings, and key by key where those leave doubt."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from handler import config
from handler.adapters.gcs.resources import require_storable
from handler.core import mapping
from handler.core.batch import Result, Work
from handler.core.decide import DRY_RUN, Action
from handler.core.errors import Refused, ReplicationError
from handler.core.route import Outcome
from handler.core.task import Change
from handler.tools.held import Copy, Held
from handler.tools.listings import Doubt, Listings
from handler.tools.orphans import Orphans
from handler.wiring import Wiring

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AT_ONCE = 100
"""Keys that are checked together."""
PAUSE = 15.0
"""Seconds after which a key that was not equal is checked once more: an event may have been on its way."""
MOST = 10_000
"""Keys that are checked once more; what the first check found of further keys is final."""

OF_THE_OBJECT = frozenset(
    {
        "DstKeyInvalid",
        "DstObjectHeld",
        "DstObjectRetained",
        "DstObjectTooLarge",
        "SrcKeyTooLong",
        "SrcMetadataMissing",
        "SrcMetadataReserved",
        "SrcMetadataTooLarge",
        "SrcObjectArchived",
        "SrcObjectNotEligible",
        "SrcObjectTooLarge",
    }
)
"""Codes of `Refused` that are about one object or its copy. All others tell of a permission, key or bucket."""


class Finding(NamedTuple):
    """A copy that is not equal to its original, or was not."""

    what: str
    """"put", "patch" or "delete", to be done or done; "held", a delete beyond the limit; "refused" or "failed"; of a
    copy that no enabled rule makes: "orphan", "kept" or "removed"."""
    original: str
    copy: str
    why: str
    code: str = ""
    """The error's, of "refused" and "failed"."""


class Verifier:
    """Compares by listings, and checks keys one by one where the listings leave doubt.

    Args:
        settings: the rules, and how to reach both sides.
        repair: whether to make equal what is not.
        thorough: whether to check every key, whatever the listings show.
        within_rules: whether to list only names under the rules' prefixes; orphans elsewhere are not found then.
        removing: which orphans to remove: what their places begin with (`gs://bucket/prefix`).
        allowed: deletes that are carried out whatever their share is; None for the limit of `Held.excess`.
        pause: waits before keys are checked once more.
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
        """Says what would be done, and does nothing."""
        self.orphans = self._open.enter_context(closing(Orphans(settings, self.dry.gcs, removing)))
        self.listings = Listings(settings, self.dry.gcs, thorough=thorough, notice=self.orphans.see)
        self.excess = ""
        """Why the deletes that were found are too many; "" if they are not."""

    def _wiring(self, settings: config.Settings, *, dry_run: bool = False) -> Wiring:
        wiring = self._open.enter_context(closing(Wiring(replace(settings, dry_run=dry_run))))
        wiring.deadline.begin(_Unhurried())
        return wiring

    def close(self) -> None:
        """Close every connection."""
        self._open.close()

    def findings(self, s3: S3Client) -> Iterator[Finding]:
        """Compare everything.

        Raises:
            ReplicationError, ClientError, BotoCoreError: a side cannot be listed. No delete was carried out then.
        """
        doubts = self.listings.doubts(s3)
        orphans = self.orphans
        with closing(Held()) as deletes:
            yield from self._repaired(doubts, deletes) if self._repair else self._named(doubts, deletes)
            if not self._within_rules:
                orphans.search()
            self.excess = self._excess(deletes)
            if self._repair:
                yield from self._deleted(deletes)
            for what, copies in (("orphan", orphans.left), ("kept", orphans.kept)):
                yield from (Finding(what, *_places(copy), why) for copy, why in copies.reasons())
            yield from self._removed(orphans)

    def _excess(self, deletes: Held) -> str:
        """Return why too much would be deleted by this run; if it deletes nothing, by a run with --repair."""
        doomed, copies = self.orphans.doomed, self.listings.copies + self.orphans.copies
        if self._removes and not self._repair:
            return doomed.excess(copies, self._allowed)
        return deletes.excess(copies, self._allowed, beside=[doomed])

    def _named(self, doubts: Iterable[Doubt], deletes: Held) -> Iterator[Finding]:
        """Name what is to be done, and do nothing."""
        again: list[Copy] = []
        for copy, found in _checked(self.dry, (doubt.copy for doubt in doubts)):
            if len(again) < MOST and any(finding.what != "refused" for finding in found):
                again.append(copy)
            else:
                yield from _noted(deletes, copy, found)
        if again:
            self._pause()
        for copy, found in _checked(self.dry, again):
            yield from _noted(deletes, copy, found)

    def _repaired(self, doubts: Iterable[Doubt], deletes: Held) -> Iterator[Finding]:
        """Copy and patch at once, and hold the deletes."""
        without_deletes = tuple(replace(rule, deletes=False) for rule in self._settings.rules)
        copying = self._wiring(replace(self._settings, rules=without_deletes))
        for some in _batches(doubts):
            yield from self._copied(copying, some, deletes)

    def _deleted(self, deletes: Held) -> Iterator[Finding]:
        """Delete, after the last listing has ended, if the deletes are within the limit."""
        if self.excess:
            yield from _held(deletes)
            return
        if len(deletes):
            sys.stderr.write(f"deleting {len(deletes):,} of {self.listings.copies.total():,} copies\n")
        for _, found in _checked(self._wiring(self._settings), deletes):
            yield from found

    def _removed(self, orphans: Orphans) -> Iterator[Finding]:
        """Remove the orphans that are to be removed, if the deletes are within the limit."""
        if self.excess:
            yield from _held(orphans.doomed)
            return
        if len(orphans.doomed):
            sys.stderr.write(f"removing {len(orphans.doomed):,} orphans\n")
        for copy, what, error in orphans.removed():
            places = _places(copy)
            if error:
                yield _failure(places, error)
            elif what == "removed":
                yield Finding(what, *places, "done")
            else:
                yield Finding(what, *places, "it changed, or is gone, since it was listed")

    def _copied(self, copying: Wiring, doubts: list[Doubt], deletes: Held) -> Iterator[Finding]:
        """Copy and patch where there is an original, and hold back the deletes where there is none."""
        gone = [doubt.copy for doubt in doubts if not doubt.is_listed]
        for result in copying.replicator.replicate([_work(doubt.copy) for doubt in doubts if doubt.is_listed]):
            yield from _findings(result)
            gone += [_copy(result.work) for outcome in result.outcomes if outcome.original is None]
        back: list[Copy] = []
        for copy, found in _checked(self.dry, gone):
            if any(finding.what == "delete" for finding in found):
                deletes.add(copy)
            elif found:
                back.append(copy)
        for _, found in _checked(copying, back):
            yield from found


Item = TypeVar("Item")


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, AT_ONCE)):
        yield some


def _checked(wiring: Wiring, copies: Iterable[Copy]) -> Iterator[tuple[Copy, list[Finding]]]:
    """Drive each copy to equality, as far as it may, and yield what it finds or does."""
    for some in _batches(copies):
        for result in wiring.replicator.replicate([_work(copy) for copy in some]):
            yield _copy(result.work), list(_findings(result))


def _work(copy: Copy) -> Work:
    change = Change(bucket=copy.bucket, key=copy.key, event="Verify")
    return Work(bucket=copy.bucket, key=copy.key, changes=(change,), only=(copy.destination, copy.name))


def _copy(work: Work) -> Copy:
    destination, name = work.only or ("", "")
    return Copy(work.bucket, work.key, destination, name)


def _places(copy: Copy) -> tuple[str, str]:
    return f"s3://{copy.bucket}/{copy.key}", f"{copy.destination}/{copy.name}"


def _held(copies: Held) -> Iterator[Finding]:
    return (Finding("held", *_places(copy), why) for copy, why in copies.reasons())


def _noted(deletes: Held, copy: Copy, found: list[Finding]) -> list[Finding]:
    if any(finding.what == "delete" for finding in found):
        deletes.add(copy)
    return found


def _findings(result: Result) -> Iterator[Finding]:
    places = _places(_copy(result.work))
    for error in result.errors:
        yield _failure(places, error)
    for outcome in result.outcomes:
        if outcome.why.startswith(DRY_RUN):
            yield _refusal(places, outcome) or _to_be_done(places, outcome)
        elif Action.DEFER in outcome.actions:
            yield Finding(Action.DELETE, *places, "sent to the deletes queue")
        elif outcome.actions:
            yield Finding(outcome.done, *places, "done")


def _to_be_done(places: tuple[str, str], outcome: Outcome) -> Finding:
    what, _, why = outcome.why.removeprefix(DRY_RUN).partition(": ")
    return Finding(what, *places, why)


def _refusal(places: tuple[str, str], outcome: Outcome) -> Finding | None:
    """Return why GCS would not take the copy, which a dry run does not find out; None if it would."""
    if outcome.original is None:
        return None
    try:
        stamp = mapping.stamp_of(outcome.original, outcome.rule)
        require_storable(outcome.name, outcome.original.size, stamp)
    except Refused as error:
        return _failure(places, error)
    return None


def _failure(places: tuple[str, str], error: ReplicationError) -> Finding:
    is_refused = isinstance(error, Refused) and error.code in OF_THE_OBJECT
    return Finding("refused" if is_refused else "failed", *places, f"{error.code}: {error}", error.code)


class _Unhurried:
    """Lambda's context where there is no Lambda: time enough."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000
