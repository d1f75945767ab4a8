"""What one invocation does next with a copy in parts. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Step(StrEnum):
    """What is done next."""

    COPY = "copy what is missing"
    JOIN = "compose the parts of whole spans"
    COMPOSE = "compose the copy, and be done"
    SEND = "send messages for what is missing, and leave it to others"
    LEAVE = "leave the rest to the workers of other spans"
    FAIL = "fail, so that the queue delivers the message again"


class Progress(NamedTuple):
    """How far an invocation is."""

    is_message: bool = False
    """Whether its work is the span of a message, rather than the whole."""
    has_queue: bool = False
    is_sent: bool = False
    """Whether the whole is for messages to copy, as there is a queue, and it is huge or they were sent before."""
    missing: bool = False
    """Whether bytes of its work are not staged."""
    copied: bool = False
    """Whether it staged some itself."""
    late: bool = False
    """Whether there was no time for all of its work."""
    joined: bool = False
    """Whether the parts of its work are composed, as far as they have to be."""
    others_miss: bool = False
    """Whether other spans are not whole."""


def next_step(now: Progress) -> Step:
    """Return what to do next.

    A message is sent again only after progress: else a chain of messages would go on for ever without a byte.
    """
    if now.joined:
        return Step.LEAVE if now.others_miss else Step.COMPOSE
    if not now.missing and not (now.late and now.is_message):
        return Step.JOIN
    if now.is_sent and not now.is_message:
        return Step.SEND
    if not now.late:
        return Step.COPY
    return Step.SEND if now.has_queue and (now.copied or not now.is_message) else Step.FAIL
