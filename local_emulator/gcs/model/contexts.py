"""Object contexts: keys and values beside the custom metadata.

https://cloud.google.com/storage/docs/object-contexts
"""

from __future__ import annotations

import re
from typing import Any

from local_emulator.gcs.model import errors

CONTEXT = re.compile(r"[^\W_][^'\"\\/]*")
"""What is a key or a value, if it has up to 256 bytes. So 50 contexts have no more than the 25 KiB that GCS allows."""


def writable(value: Any) -> dict[str, Any] | None:
    """Return the contexts that are said, by key; None takes one away, and for all takes all away.

    https://cloud.google.com/storage/docs/use-object-contexts#naming_requirements_for_key-value_pairs
    """
    custom = value.get("custom") if isinstance(value, dict) else value
    if custom is None:
        return None
    if not isinstance(custom, dict):
        raise errors.invalid("Invalid value for contexts.")
    for key, payload in custom.items():
        text = payload.get("value") if isinstance(payload, dict) else payload
        for part in (key,) if text is None and payload is None else (key, text):
            if not isinstance(part, str) or not CONTEXT.fullmatch(part) or len(part.encode()) > 256:
                raise errors.invalid(f"Invalid object context: {part!r}")
        if key.startswith("google:"):
            raise errors.invalid(f"Object contexts that begin with google: are Google's own: {key!r}")
    return custom


def merged(old: dict[str, Any], change: dict[str, Any] | None, at: str) -> dict[str, Any] | None:
    """Return an object's contexts after a change at this time, None where none is left."""
    if change is None:
        return None
    custom = dict(old)
    for key, payload in change.items():
        custom.pop(key, None)
        if payload is not None:
            created = old.get(key, {}).get("createTime", at)
            custom[key] = {"value": payload["value"], "createTime": created, "updateTime": at}
    if len(custom) > 50:
        raise errors.invalid("An object has 50 contexts at most.")
    return {"custom": custom} if custom else None
