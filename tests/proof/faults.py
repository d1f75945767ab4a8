"""Deliberate faults in the loop and in the copying of parts, each with the invariant that it breaks."""

from __future__ import annotations

from handler.core import composing, copying, decide, plan, staging
from tests.proof.histories import without_checksums
from tests.proof.invariants import Invariant
from tests.proof.mutants import Mutant

_ANY = "type(expect)(-1, -1)"

LOOP = (
    Mutant(
        "acknowledges without the last look",
        "        return decision if Action.HAND_OVER in self.actions else None\n",
        "        return decision\n",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "acknowledges the fast path without the last look",
        "        loop.copy_at_once(Replica())\n",
        "        loop.copy_at_once(Replica())\n"
        "        if loop.actions:\n"
        "            return loop.outcome(Decision(Action.NOTHING, '', route.rules[0]))\n",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "takes a failed condition for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Moved:\n            return decision\n        return",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "takes a lost answer for success",
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        "        except Unavailable:\n            return decision\n"
        "        except Moved:\n            self.replica, self.lost = None, True\n        return",
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "puts without a condition",
        "self.put(body, decision.stamp, expect=expect)",
        f"self.put(body, decision.stamp, expect={_ANY})",
        copying,
        invariant=Invariant.WENT_BACK,
        slow=True,
    ),
    Mutant(
        "deletes without a condition",
        "destination.delete(name, expect=expect)",
        f"destination.delete(name, expect={_ANY})",
        invariant=Invariant.NOTHING_THERE,
    ),
    Mutant(
        "patches without a condition",
        "mapping.checked(decision.stamp, check, replica), expect=expect)",
        f"mapping.checked(decision.stamp, check, replica), expect={_ANY})",
        invariant=Invariant.NOTHING_THERE,
    ),
    Mutant(
        "reads whatever state there is",
        "open(original.key, at=original)",
        "open(original.key)",
        copying,
        invariant=Invariant.MIXED,
        slow=True,
    ),
    Mutant(
        "asks the source before the destination",
        "        if self.replica is None:\n"
        "            self.replica = self.route.destination.head(self.copying.name)\n"
        "            if",
        "        if self.replica is None:\n"
        "            self.original = self.route.source.head(self.key)\n"
        "            self.replica = self.route.destination.head(self.copying.name)\n"
        "            decision = self.decide(self.original, self.replica)\n"
        "            try:\n"
        "                if decision.action is not Action.NOTHING:\n"
        "                    self.replica = self.act(decision, self.original, self.replica)\n"
        "            except Moved:\n"
        "                self.replica = None\n"
        "            return None\n"
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
        decide,
        invariant=Invariant.DELETED_FOREIGN,
    ),
    Mutant(
        "takes existence for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if replica.exists:",
        decide,
        invariant=Invariant.BYTES,
    ),
    Mutant(
        "takes equal bytes for equality",
        "if mapping.is_equal(original, replica, stamp):",
        "if mapping.has_same_bytes(original, replica, stamp):",
        decide,
        invariant=Invariant.ATTRIBUTES,
        slow=True,
    ),
    Mutant(
        "patches where bytes differ",
        "if mapping.has_same_bytes(original, replica, stamp) and",
        "if replica.exists and",
        decide,
        invariant=Invariant.MIXED,
        slow=True,
    ),
    Mutant(
        "never deletes",
        "return Decision(Action.DELETE,",
        "return Decision(Action.NOTHING,",
        decide,
        invariant=Invariant.LEFT,
    ),
    Mutant(
        "acknowledges an event as soon as its parts are handed over",
        "        if self.copying.task is None:\n",
        "        if self.copying.task is None:\n            return self.did(Action.HAND_OVER, replica)\n",
        invariant=Invariant.PART_LEFT,
        of_parts=True,
    ),
    Mutant(
        "leaves staged parts behind",
        "sweep(self.route.destination, unneeded, self._has_time)",
        "pass",
        copying,
        invariant=Invariant.PART_LEFT,
        of_parts=True,
    ),
    Mutant(
        "composes without a condition",
        "[part.name for part in parts], stamp, expect=expect)",
        f"[part.name for part in parts], stamp, expect={_ANY})",
        composing,
        invariant=Invariant.WENT_BACK,
        of_parts=True,
    ),
    Mutant(
        "names parts alike for every state",
        "_digest(repr(tuple(copy.state)))",
        "_digest(copy.name)",
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
