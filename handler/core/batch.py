"""Many keys at once: which rules cover a key, and a batch's changes coalesced and worked on side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial

from handler.core.breaker import Circuits
from handler.core.decide import EQUAL
from handler.core.errors import Refused, ReplicationError, Unavailable
from handler.core.model import SMALL, Rule
from handler.core.parts import Parts
from handler.core.ports import Destination, Source
from handler.core.reconcile import reconcile
from handler.core.route import Outcome, Route
from handler.core.task import Change, CopyTask

REMEMBERED = 10_000
"""Copies that an instance remembers to exist; some 2 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One key, and what was heard of it in this batch."""

    bucket: str
    key: str
    changes: tuple[Change, ...]
    redelivered: bool = False
    only: tuple[str, str] | None = None
    """The one copy to work on: its destination and name. None: each copy that the rules give the key."""

    @property
    def target(self) -> tuple[str, str, CopyTask | None]:
        """Return what is worked on; see `Change.target`."""
        return self.changes[-1].target

    @property
    def task(self) -> CopyTask | None:
        """Return the part of a large copy that is asked for, if it is one."""
        return self.changes[-1].task

    @property
    def may_delete(self) -> bool:
        """Return True if a delete is carried out at once, rather than sent to the deletes queue."""
        return any(change.may_delete for change in self.changes)

    @property
    def size(self) -> int:
        """Return the object's bytes as the last event says them, 0 if it does not."""
        return self.changes[-1].size or 0

    @property
    def guess_absent(self) -> bool:
        """Return True if the replica is likely absent: this is the first event of a small new object.

        A copy may be of an object onto itself, for its metadata; then no byte is to move.
        """
        if len(self.changes) != 1 or self.redelivered:
            return False
        event, size = self.changes[0].event, self.changes[0].size
        is_created = event.startswith(("ObjectCreated", "Object Created")) and not event.endswith(":Copy")
        return is_created and size is not None and size <= SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one key: an outcome or an error for each destination it goes to."""

    work: Work
    outcomes: tuple[Outcome, ...] = ()
    errors: tuple[ReplicationError, ...] = ()

    @property
    def retryable(self) -> bool:
        """Return True if a later try may succeed where this one failed."""
        return any(error.retryable for error in self.errors)


class Replicator:
    """Drives keys to equality by the rules.

    Args:
        rules: the enabled rules of each source bucket, the highest priority first.
        source: makes the source of a bucket; the flag asks for tags.
        destination: makes the destination of a location.
        concurrency: keys worked on at once.
        parts: how large objects are copied; None: in one stream like all others.
        dry_run: look, and change nothing.
        circuits: fail keys at once while a side is down.
        defer_delete: sends the delete of a bucket's key to the deletes queue; None: deletes are carried out at once.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword
        self,
        rules: Mapping[str, Sequence[Rule]],
        *,
        source: Callable[[str, bool], Source],
        destination: Callable[[str], Destination],
        concurrency: int,
        parts: Parts | None = None,
        dry_run: bool = False,
        circuits: Circuits | None = None,
        defer_delete: Callable[[str, str], None] | None = None,
    ) -> None:
        self._rules = rules
        self._defer_delete = defer_delete
        self._circuits = circuits or Circuits()
        self._dry_run = dry_run
        self._present: set[tuple[str, str]] = set()
        self._parts = parts
        self._source = cache(source)
        self._destination = cache(destination)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="replicate")

    def replicate(self, work: Sequence[Work], *, has_time: Callable[[], bool] = lambda: True) -> list[Result]:
        """Make every key equal, side by side; each ends in a result, whatever happens to the others.

        Args:
            work: distinct keys.
            has_time: False when time is running out: what has not begun then is `Unavailable`.
        """
        if len(work) == 1:
            return [self._one(work[0], has_time)]
        return list(self._threads.map(partial(self._one, has_time=has_time), work))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def allows(self, bucket: str) -> bool:
        """Return True if the bucket is a source by any rule."""
        return bucket in self._rules

    def _one(self, work: Work, has_time: Callable[[], bool]) -> Result:
        outcomes: list[Outcome] = []
        errors: list[ReplicationError] = []
        if work.bucket not in self._rules:
            refused = Refused(
                f"no rule has the source bucket {work.bucket!r}", code="SrcBucketReplicationConfigMissing"
            )
            return Result(work=work, errors=(refused,))
        for name, rules in self._rules_by_name(work).items():
            try:  # what goes wrong costs its own key and destination, and nothing else
                with self._circuits.attempt(work.bucket, rules[0].destination, work.key):
                    outcome = reconcile(
                        self._route(name[1], rules, work),
                        work.key,
                        guess_absent=work.guess_absent and name not in self._present,
                        redelivered=work.redelivered,
                        task=work.task,
                        has_time=has_time,
                    )
                outcomes.append(outcome)
                self._remember(name, present=outcome.why == EQUAL)
            except ReplicationError as error:
                errors.append(error)
            except Exception as error:  # noqa: BLE001 - not foreseen: retried, and logged with its traceback
                unforeseen = Unavailable(f"{type(error).__name__}: {error}", code="Unforeseen")
                unforeseen.__cause__ = error
                errors.append(unforeseen)
        return Result(work=work, outcomes=tuple(outcomes), errors=tuple(errors))

    def _remember(self, name: tuple[str, str], *, present: bool) -> None:
        """Remember which copies there are, as a hint: a second event of a key then looks before it copies."""
        if not present:
            self._present.discard(name)
            return
        if len(self._present) >= REMEMBERED:
            self._present.clear()
        self._present.add(name)

    def _rules_by_name(self, work: Work) -> dict[tuple[str, str], tuple[Rule, ...]]:
        """Return the rules that cover the key, by the copy's name; those that share one compete by priority."""
        by_name: dict[tuple[str, str], tuple[Rule, ...]] = {}
        for rule in self._rules[work.bucket]:
            if rule.covers(work.key):
                name = rule.destination, rule.destination_key(work.key)
                by_name[name] = (*by_name.get(name, ()), rule)
        only = (work.task.copy.destination, work.task.copy.name) if work.task else work.only
        return {name: rules for name, rules in by_name.items() if only in {None, name}}

    def _route(self, name: str, rules: tuple[Rule, ...], work: Work) -> Route:
        destination = rules[0].destination
        named = {rule.key_of(name) for rule in self._rules[rules[0].source] if rule.destination == destination}
        with_tags, defer = any(rule.tags or rule.replicate_tags for rule in rules), self._defer_delete
        return Route(
            source=self._source(rules[0].source, with_tags),
            destination=self._destination(rules[0].destination),
            rules=rules,
            is_name_shared=bool(named - {work.key, None}),
            parts=self._parts,
            dry_run=self._dry_run,
            defer_delete=None if not defer or work.may_delete else partial(defer, work.bucket),
        )


def coalesce(changes: Iterable[tuple[Change, bool]]) -> list[Work]:
    """Gather changes of one target into one piece of work.

    Args:
        changes: each with whether it was delivered before.
    """
    found: dict[tuple[str, str, CopyTask | None], Work] = {}
    for change, redelivered in changes:
        target = change.target
        if before := found.get(target):
            again = redelivered or before.redelivered
            found[target] = replace(before, changes=(*before.changes, change), redelivered=again)
        else:
            found[target] = Work(bucket=change.bucket, key=change.key, changes=(change,), redelivered=redelivered)
    return list(found.values())
