"""The second argument of a Lambda handler, and the one way in which the emulator calls it."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"
FUNCTION = "replicator"
LONGEST_INVOCATION = 900.0
"""Seconds: Lambda's own limit."""

Invoke = Callable[[dict[str, Any]], Any]
"""Calls the handler with an event and returns its answer, or raises what it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What Lambda tells a handler of its invocation."""

    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_name: str = FUNCTION
    function_version: str = "$LATEST"
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}"
    memory_limit_in_mb: int = 1024
    log_group_name: str = f"/aws/lambda/{FUNCTION}"
    log_stream_name: str = "local"
    deadline: float = field(default_factory=lambda: time.monotonic() + LONGEST_INVOCATION)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def invoker(handler: Callable[[dict[str, Any], Context], Any]) -> Invoke:
    """Return a function that calls `handler` with an event and a fresh context."""
    return lambda event: handler(event, Context())
