"""What the comparison finds about one copy, and how a result of the replicator becomes such a finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from handler.adapters.gcs.resources import require_storable
from handler.core import mapping
from handler.core.batch import Result, Work
from handler.core.decide import DRY_RUN, Action
from handler.core.errors import Refused, ReplicationError
from handler.core.route import Outcome
from handler.core.task import Change
from handler.tools.held import Copy

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
"""Codes of `Refused` for one object or its copy. All other codes mean a permission, a KMS key or a bucket."""


class Finding(NamedTuple):
    """A copy that differs from its original, or differed until now."""

    what: str
    """"put", "patch" or "delete": done, or to be done. "held": a delete beyond the limit. "refused" or "failed". For a
    copy that no enabled rule makes: "orphan", "kept" or "removed"."""
    original: str
    copy: str
    why: str
    code: str = ""
    """The error's code, if the object was refused or failed."""


def work_of(copy: Copy) -> Work:
    """Return the replicator's work for one copy, as an event of its original would ask for it."""
    change = Change(bucket=copy.bucket, key=copy.key, event="Verify")
    return Work(bucket=copy.bucket, key=copy.key, changes=(change,), only=(copy.destination, copy.name))


def copy_of(work: Work) -> Copy:
    """Return the copy that the work is about."""
    destination, name = work.only or ("", "")
    return Copy(work.bucket, work.key, destination, name)


def names_of(copy: Copy) -> tuple[str, str]:
    """Return the locations of the original and of the copy."""
    return f"s3://{copy.bucket}/{copy.key}", f"{copy.destination}/{copy.name}"


def findings_of(result: Result) -> Iterator[Finding]:
    """Yield what the replicator did or failed to do about one copy, or would do in a dry run."""
    names = names_of(copy_of(result.work))
    for error in result.errors:
        yield failure(names, error)
    for outcome in result.outcomes:
        if outcome.why.startswith(DRY_RUN):
            yield _to_be_done(names, outcome)
        elif Action.DEFER in outcome.actions:
            yield Finding(Action.DELETE, *names, "sent to the deletes queue")
        elif outcome.actions:
            yield Finding(outcome.done, *names, "done")


def _to_be_done(names: tuple[str, str], outcome: Outcome) -> Finding:
    """Return what a dry run would do, or why GCS would refuse the copy, which the dry run does not find out."""
    if outcome.original is not None:
        try:
            require_storable(outcome.name, outcome.original.size, mapping.stamp_of(outcome.original, outcome.rule))
        except Refused as error:
            return failure(names, error)
    what, _, why = outcome.why.removeprefix(DRY_RUN).partition(": ")
    return Finding(what, *names, why)


def failure(names: tuple[str, str], error: ReplicationError) -> Finding:
    """Return the finding for an error: "refused" if it is about the object, else "failed"."""
    is_refused = isinstance(error, Refused) and error.code in OF_THE_OBJECT
    return Finding("refused" if is_refused else "failed", *names, f"{error.code}: {error}", error.code)
