"""The messages that the function sends to its own queues, and how the message of a part is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from handler.core.model import S3Part, Span, State
from handler.core.task import CopyTask, LargeCopy

_OF_COPY = ("bucket", "key", "destination", "name", "check", "plan", "assumed")
_OPTIONAL: Mapping[str, Any] = {"span": None, "check": "", "plan": "", "parts": (), "offset": 0, "assumed": False}
_NAMES = {*_OF_COPY, *State._fields, *_OPTIONAL}
_TEXTS = ("bucket", "key", "destination", "name", "etag", "last_modified", "check", "plan")


def delete_message(bucket: str, key: str, *, released: bool = False) -> str:
    """Return the message that asks for the delete of a key's copies; `events.parse` reads it."""
    return json.dumps({"deleteCopy": {"bucket": bucket, "key": key, "released": released}})


def part_message(task: CopyTask) -> str:
    """Return the message that hands a part over; `events.parse` reads it."""
    fields = {name: getattr(task.copy, name) for name in _OF_COPY} | task.copy.state._asdict()
    fields |= {"span": task.span, "parts": task.parts, "offset": task.offset}
    return json.dumps({"replicatePart": fields})


def copy_task_of(message: Mapping[str, Any]) -> CopyTask | str:
    """Return the task that a part's message describes, or what is wrong with the message."""
    fields = {**_OPTIONAL, **message}
    if differing := fields.keys() ^ _NAMES:
        return f"not a part of a copy: lacks or adds {', '.join(sorted(differing))}"
    wrong = [name for name in _TEXTS if not isinstance(fields[name], str)]
    wrong += [name for name in ("size", "offset") if not _is_size(fields[name])]
    wrong += [] if isinstance(fields["version_id"], str | None) else ["version_id"]
    wrong += [] if isinstance(fields["assumed"], bool) else ["assumed"]
    wrong += [] if _is_span(fields["span"]) else ["span"]
    parts = fields["parts"]
    wrong += [] if isinstance(parts, list | tuple) and all(_is_s3_part(each) for each in parts) else ["parts"]
    if wrong:
        return f"not a part of a copy: wrong {', '.join(wrong)}"
    state = State(*(fields[name] for name in State._fields))
    copy = LargeCopy(state=state, **{name: fields[name] for name in _OF_COPY})
    return CopyTask(copy, Span(*fields["span"]), tuple(S3Part(*each) for each in parts), fields["offset"])


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_span(value: object) -> bool:
    match value:
        case [int() as start, int() as stop]:
            return _is_size(start) and _is_size(stop) and start < stop
    return False


def _is_s3_part(value: object) -> bool:
    match value:
        case [size, str()]:
            return _is_size(size) and bool(size)
    return False
