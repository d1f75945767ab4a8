"""What an object's tags become at GCS: object contexts, or custom metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping

from handler.core.model import Rule

TAG = "s3-tag-"
"""Prefix of the custom metadata that hold tags."""
CONTEXT_BYTES = 256
_NO_CONTEXT = re.compile(r"^google:|['\"\\/]")


def tags_of(tags: Mapping[str, str], rule: Rule) -> tuple[dict[str, str], dict[str, str] | None]:
    """Return the custom metadata and the contexts that tags become; None for the contexts if the rule wants none."""
    if not rule.tags_as_contexts:
        return {TAG + name: value for name, value in tags.items()}, None
    contexts = {name: value for name, value in tags.items() if _is_context(name) and _is_context(value)}
    return {TAG + name: value for name, value in tags.items() if name not in contexts}, contexts


def _is_context(text: str) -> bool:
    """Return True if GCS takes the text as a context's key and as its value; 50 contexts are more than S3 has tags.

    https://cloud.google.com/storage/docs/use-object-contexts#naming_requirements_for_key-value_pairs
    """
    is_begun_well = text[:1].isascii() and text[:1].isalnum()  # a wrong guess would have GCS refuse the object
    return is_begun_well and len(text.encode()) <= CONTEXT_BYTES and not _NO_CONTEXT.search(text)
