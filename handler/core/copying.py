"""How one key's bytes come to the destination: in one request, in one stream, or in parts; and what parts leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import NamedTuple

from handler.core import mapping
from handler.core.checksums import check_of
from handler.core.decide import Decision
from handler.core.errors import Refused
from handler.core.model import SMALL, Generation, Original, Replica, Stamp
from handler.core.parts import Parts
from handler.core.plan import STAGING, staging_of, state_prefix
from handler.core.ports import Composer, Reader
from handler.core.route import Route
from handler.core.staging import leftovers, sweep
from handler.core.task import CopyTask, LargeCopy


class Copied(NamedTuple):
    """A finished copy."""

    replica: Replica
    check: str
    """By which checksum the bytes are known to be what S3 holds; "none" where S3 keeps none that can be computed."""
    size: int
    """Bytes of the body."""


class Copying:
    """Copies the bytes of one key.

    Args:
        route: both sides, and how large objects are copied.
        key: the source's key.
        task: the part of a large copy that this invocation was asked for; None: the whole.
        has_time: False when there is no time left for another request.
        redelivered: whether a delivery before this one did not finish, and may have left staged parts.

    Raises:
        Refused: the copy's name is one of those that staged parts have.
    """

    def __init__(
        self, route: Route, key: str, task: CopyTask | None, has_time: Callable[[], bool], *, redelivered: bool
    ) -> None:
        self.route, self.task = route, task
        self.name = route.rules[0].destination_key(key)
        if self.name.startswith(STAGING):
            raise Refused(f"{self.name!r}: names that begin with {STAGING!r} are for parts", code="DstKeyInvalid")
        self._has_time, self._redelivered = has_time, redelivered
        self._may_have_staged = task is not None
        self._staged: Mapping[str, Replica] = {}
        """What was listed of staged parts when nothing else was left to do."""

    def put(self, body: Reader, stamp: Stamp, *, expect: Generation) -> Copied:
        """Put an object that is being read."""
        check = check_of(body.original)
        name = check.name if check else "none"
        replica = self.route.destination.put(self.name, body, mapping.checked(stamp, name), expect=expect)
        return Copied(replica, name, body.size)

    def copy(self, original: Original, decision: Decision, *, expect: Generation) -> Copied | None:
        """Copy exactly this state of the object; return None if others go on with it, in parts.

        Raises:
            Moved: the source is in another state, or the destination at another generation: look again.
        """
        parts, destination, self._staged = self.route.parts, self.route.destination, {}
        if parts and parts.takes(original, redelivered=self._redelivered) and isinstance(destination, Composer):
            return self._copy_in_parts(parts, destination, original, decision, expect)
        measured = parts.rate.measured(original.size) if parts and original.size > SMALL else nullcontext()
        with self.route.source.open(original.key, at=original) as body, measured:
            return self.put(body, decision.stamp, expect=expect)

    def _copy_in_parts(
        self, parts: Parts, destination: Composer, original: Original, decision: Decision, expect: Generation
    ) -> Copied | None:
        self._may_have_staged = True
        staging = parts.staging(
            self.route.source,
            destination,
            original,
            self.task or LargeCopy.of(original, decision.rule, self.name),
            decision.stamp.of_bytes,
            redelivered=self._redelivered,
            has_time=self._has_time,
        )
        copied = parts.copy(staging, self.task, lambda check: mapping.checked(decision.stamp, check), expect=expect)
        return Copied(*copied, original.size) if copied else None

    def is_current(self, original: Original | None) -> bool:
        """Return True unless the task is of a state that the source is no longer in."""
        return self.task is None or (original is not None and self.task.copy.state == original.state)

    def sweep(self, original: Original | None) -> bool:
        """Remove staged parts that nothing needs; return False if both sides are to be looked at once more before.

        Parts are listed, then the source is looked at, then they are removed. So they are of the state that the look
        found, which needs none, or of an older one. If the task's own state is over, parts of a newer one may be among
        them: those stay.

        Args:
            original: what the source was found to hold, after which nothing else was left to do.
        """
        if not self._staged:
            self._staged = self._listed(original)
            return not self._staged
        prefix = state_prefix(self.task.copy) if self.task and not self.is_current(original) else ""
        unneeded = {name: replica for name, replica in self._staged.items() if name.startswith(prefix)}
        sweep(self.route.destination, unneeded, self._has_time)
        return True

    def _listed(self, original: Original | None) -> Mapping[str, Replica]:
        """List the staged parts that this copy may have left behind."""
        parts, destination = self.route.parts, self.route.destination
        if self.route.dry_run or not parts:
            return {}
        earlier = self._redelivered and (original is None or parts.may_have_taken(original))
        if not (self._may_have_staged or earlier) or not isinstance(destination, Composer):
            return {}
        if self.task and not self.is_current(original):
            return leftovers(destination, self.task)
        return destination.list(staging_of(self.name))
