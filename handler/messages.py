"""The messages that the function sends to its own queues, and how the message of a part is read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from handler.core.model import CopyTask, S3Part, Span


def delete_message(bucket: str, key: str, *, released: bool = False) -> str:
    """Return the message that asks for the delete of a key's copies; `events.parse` reads it."""
    return json.dumps({"deleteCopy": {"bucket": bucket, "key": key, "released": released}})


def part_message(task: CopyTask) -> str:
    """Return the message that hands a part over; `events.parse` reads it."""
    return json.dumps({"replicatePart": asdict(task)})


def copy_task_of(fields: Any) -> CopyTask | str:
    """Return the task that a part's message describes, or what is wrong with the message."""
    try:
        task = CopyTask(**fields)
    except TypeError as error:
        return f"not a part of a copy: {error}"
    texts = ("bucket", "key", "destination", "name", "etag", "last_modified", "check", "plan")
    wrong = [name for name in texts if not isinstance(getattr(task, name), str)]
    wrong += [name for name in ("size", "offset") if not _is_size(getattr(task, name))]
    wrong += [] if isinstance(fields["version_id"], str | None) else ["version_id"]
    wrong += [] if isinstance(fields.get("assumed", False), bool) else ["assumed"]
    match fields.get("span"):
        case [start, stop] if _is_size(start) and _is_size(stop) and start < stop:
            task = replace(task, span=Span(start, stop))
        case _:
            wrong.append("span")
    match fields.get("parts", ()):
        case [*parts] if all(_is_s3_part(each) for each in parts):
            task = replace(task, parts=tuple(S3Part(*each) for each in parts))
        case _:
            wrong.append("parts")
    return f"not a part of a copy: wrong {', '.join(wrong)}" if wrong else task


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_s3_part(value: object) -> bool:
    match value:
        case [size, str()]:
            return _is_size(size) and bool(size)
    return False
