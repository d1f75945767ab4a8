"""What S3 Batch Operations is told of a task: a code for S3, and a sentence for the reader of the job's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handler.core.decide import DRY_RUN, Action
from handler.core.errors import ReplicationError
from handler.core.route import Outcome

LONGEST = 1024
"""Characters that S3 takes of a result."""
_DONE: Mapping[str, str] = {
    Action.PATCH: "Metadata changed, as the bytes were equal",
    Action.DELETE: "Deleted, as the source has no such object",
    Action.DEFER: "Delete sent to the deletes queue, as the source has no such object",
}
_WOULD = {Action.PUT.value: "copy", Action.PATCH.value: "change the metadata", Action.DELETE.value: "delete"}


def task_result(errors: Sequence[ReplicationError], outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return a task's code and sentence.

    Args:
        errors: what went wrong, the retryable errors first.
        outcomes: what became of each copy of the key.
    """
    if errors:
        code = "TemporaryFailure" if errors[0].retryable else "PermanentFailure"
        text = f"{errors[0].code}: {errors[0]}"
    else:
        code = "Succeeded"
        text = "; ".join(map(_sentence, outcomes)) or "Nothing done: no enabled rule covers this key"
    return {"resultCode": code, "resultString": text[:LONGEST]}


def _sentence(outcome: Outcome) -> str:
    """Return what happened first and the copy's place last, as a long place is cut off."""
    return f"{_what(outcome)}: {outcome.rule.destination}/{outcome.name}"


def _what(outcome: Outcome) -> str:
    if outcome.done == Action.PUT:
        return f"Copied, {outcome.bytes:,} byte{'' if outcome.bytes == 1 else 's'}"
    if outcome.done in _DONE:
        return _DONE[outcome.done]
    if outcome.equal:
        return "Equal already"
    if outcome.why.startswith(DRY_RUN):
        action, _, why = outcome.why.removeprefix(DRY_RUN).partition(": ")
        return f"Nothing done, as this is a dry run. It would {_WOULD[action]} ({why})"
    return f"Nothing done ({outcome.why})"
