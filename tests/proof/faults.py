"""Deliberate faults in the loop and in the copying of parts, each with the invariant that it breaks."""

from __future__ import annotations

from handler.core import composing, plan, staging
from tests.proof.histories import without_checksums
from tests.proof.invariants import Invariant
from tests.proof.mutants import Mutant

_ANY = "type(expect)(-1, -1)"

LOOP = (
    Mutant(
        "acknowledges without the last look",
        "        return self._is_handed_over()\n",
        "        return True\n",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "acknowledges the fast path without the last look",
        "        loop.try_at_once(Replica())\n",
        "        loop.try_at_once(Replica())\n"
        "        if loop.actions:\n"
        "            loop.decision = Decision(Action.NOTHING, '', route.rules[0])\n"
        "            return loop.outcome()\n",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "takes a failed condition for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Moved:\n            return True\n        return",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "takes a lost answer for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Unavailable:\n            return True\n"
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "puts without a condition",
        "self._put(body, decision.stamp, expect)",
        f"self._put(body, decision.stamp, {_ANY})",
        invariant=Invariant.WENT_BACK,
        slow=True,
    ),
    Mutant(
        "deletes without a condition",
        "destination.delete(self.name, expect=expect)",
        f"destination.delete(self.name, expect={_ANY})",
        invariant=Invariant.NOTHING_THERE,
    ),
    Mutant(
        "patches without a condition",
        "destination.patch(self.name, stamp, expect=expect)",
        f"destination.patch(self.name, stamp, expect={_ANY})",
        invariant=Invariant.NOTHING_THERE,
    ),
    Mutant(
        "reads whatever state there is",
        "open(self.key, at=original)",
        "open(self.key)",
        invariant=Invariant.MIXED,
        slow=True,
    ),
    Mutant(
        "asks the source before the destination",
        "        if self.replica is None:\n"
        "            self.replica = self.route.destination.head(self.name)\n"
        "            if",
        "        if self.replica is None:\n"
        "            self.original = self.route.source.head(self.key)\n"
        "            self.replica = self.route.destination.head(self.name)\n"
        "            self.decision = self._decide(self.original, self.replica)\n"
        "            try:\n"
        "                self.replica = self._act(self.decision, self.original, self.replica)\n"
        "            except Moved:\n"
        "                self.replica = None\n"
        "            return self._is_handed_over()\n"
        "            if",
        invariant=Invariant.WENT_BACK,
        slow=True,
    ),
    Mutant(
        "asks the source only once",
        "self.original = self.route.source.head(self.key)",
        "self.original = self.original or self.route.source.head(self.key)",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "believes a wrong guess",
        "self.replica = None  # the guess was wrong",
        "self.replica = Replica()  # the guess was wrong",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "deletes what is not its own",
        "if not mapping.is_ours(replica, rules[0], key):",
        "if False:",
        invariant=Invariant.DELETED_FOREIGN,
    ),
    Mutant(
        "takes existence for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if replica.exists:",
        invariant=Invariant.BYTES,
    ),
    Mutant(
        "takes equal bytes for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if mapping.has_same_bytes(original, replica, stamp):",
        invariant=Invariant.ATTRIBUTES,
        slow=True,
    ),
    Mutant(
        "patches where bytes differ",
        "if mapping.has_same_bytes(original, replica, stamp) and",
        "if replica.exists and",
        invariant=Invariant.MIXED,
        slow=True,
    ),
    Mutant(
        "never deletes", "return Decision(Action.DELETE,", "return Decision(Action.NOTHING,", invariant=Invariant.LEFT
    ),
    Mutant(
        "acknowledges an event as soon as its parts are handed over",
        "        if self.task is None:\n            raise Unavailable(",
        "        if self.task is None:\n            return True\n            raise Unavailable(",
        invariant=Invariant.PART_LEFT,
        of_parts=True,
    ),
    Mutant(
        "leaves staged parts behind",
        "sweep(self.route.destination, self._unneeded(self.staged), self.has_time)",
        "pass",
        invariant=Invariant.PART_LEFT,
        of_parts=True,
    ),
    Mutant(
        "composes without a condition",
        "[piece.name for piece in pieces], stamp, expect=expect)",
        f"[piece.name for piece in pieces], stamp, expect={_ANY})",
        composing,
        invariant=Invariant.WENT_BACK,
        of_parts=True,
    ),
    Mutant(
        "names parts alike for every state",
        "_digest(repr(whole.state))",
        "_digest(whole.name)",
        plan,
        invariant=Invariant.MIXED,
        of_parts=True,
    ),
    Mutant(
        "counts no part whose checksum the listing does not carry",
        "if start is None or not replica.size:",
        "if start is None or not replica.size or not replica.crc32c:",
        staging,
        invariant=Invariant.NO_END,
        families=(without_checksums,),
        of_parts=True,
    ),
)
