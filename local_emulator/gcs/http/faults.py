"""Faults on demand, asked for in the language of Google's storage-testbench, and some that it lacks."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_emulator.gcs.model import errors

_VERBS = ["get", "list", "insert", "patch", "update", "delete"]
METHODS = frozenset(
    [f"storage.objects.{verb}" for verb in [*_VERBS, "compose", "copy", "rewrite", "move", "restore"]]
    + [
        f"storage.buckets.{verb}"
        for verb in [*_VERBS, "getIamPolicy", "lockRetentionPolicy", "setIamPolicy", "testIamPermissions"]
    ]
    + [f"storage.{kind}.{verb}" for kind in ("bucket_acl", "default_object_acl", "object_acl") for verb in _VERBS]
    + [f"storage.hmacKey.{verb}" for verb in ("create", "delete", "get", "list", "update")]
    + [f"storage.notifications.{verb}" for verb in ("delete", "get", "insert", "list")]
    + ["storage.serviceaccount.get"]
)
DOWNLOAD_BREAK = 1 << 20
STALL = 10.0


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one request.

    Kinds: error, reset, error-after, broken-stream, final-chunk, stall, corrupt, corrupt-upload, after-commit,
    persist-only, one-write-a-second. `amount` is in bytes.
    """

    kind: str
    code: int = 0
    amount: int = 0
    seconds: float = 0.0
    text: str = ""


_KIB = 1024
_FORMS: list[tuple[str, Callable[[re.Match[str]], Fault]]] = [
    (r"return-([1-5][0-9][0-9])", lambda m: Fault("error", code=int(m[1]))),
    (r"return-([1-5][0-9][0-9])-after-([0-9]+)K", lambda m: Fault("error-after", int(m[1]), int(m[2]) * _KIB)),
    (r"return-([1-5][0-9][0-9])-after-commit", lambda m: Fault("after-commit", code=int(m[1]))),
    (r"return-reset-connection", lambda _: Fault("reset")),
    (r"return-reset-connection-after-commit", lambda _: Fault("after-commit")),
    (r"return-broken-stream", lambda _: Fault("broken-stream", amount=4)),
    (r"return-broken-stream-after-([0-9]+)K", lambda m: Fault("broken-stream", amount=int(m[1]) * _KIB)),
    (r"return-broken-stream-final-chunk-after-([0-9]+)B", lambda m: Fault("final-chunk", amount=int(m[1]))),
    (
        r"stall-for-([0-9]+(?:\.[0-9]+)?)s-after-([0-9]+)K",
        lambda m: Fault("stall", amount=int(m[2]) * _KIB, seconds=float(m[1])),
    ),
    (r"persist-only-([0-9]+)K", lambda m: Fault("persist-only", amount=int(m[1]) * _KIB)),
    (r"one-write-a-second", lambda _: Fault("one-write-a-second")),
    (r"return-corrupted-data", lambda _: Fault("corrupt")),
    (r"inject-upload-data-error", lambda _: Fault("corrupt-upload")),
    (r"stall-always", lambda _: Fault("stall", seconds=STALL)),
    (r"stall-at-256KiB", lambda _: Fault("stall", amount=256 * _KIB, seconds=STALL)),
]
_COMPILED = [(re.compile(pattern), make) for pattern, make in _FORMS]


def parse(text: object) -> Fault:
    """Return the fault that an instruction describes.

    Raises:
        GcsError: it describes none.
    """
    for pattern, make in _COMPILED:
        if isinstance(text, str) and (match := pattern.fullmatch(text)):
            return make(match)
    raise errors.invalid(f"The fault injection request <{text}> is not known.")


@dataclass
class RetryTest:
    """Faults waiting for the requests that carry this test's id, or (`any`) for whichever comes."""

    id: str
    any: bool
    instructions: dict[str, list[str]] = field(default_factory=dict)

    def resource(self) -> dict[str, Any]:
        """Return what a caller sees: the instructions that did not fire yet."""
        completed = not any(self.instructions.values())
        shown = {"id": self.id, "instructions": self.instructions, "completed": completed, "transport": "HTTP"}
        return shown | ({"any": True} if self.any else {})


@dataclass
class PlannedFault:
    """The fault planned for one request; it counts as used when it fires."""

    fault: Fault
    _use: Callable[[], None] = lambda: None
    fired: bool = False

    def fire(self) -> Fault:
        """Use the fault up, and return it."""
        if not self.fired:
            self.fired = True
            self._use()
        return self.fault


class Faults:
    """All retry tests of one server; touched by its event loop only."""

    def __init__(self) -> None:
        self._tests: dict[str, RetryTest] = {}

    def create(self, body: Any) -> RetryTest:
        """Make a retry test from the body of POST /retry_test.

        Raises:
            GcsError: a method or an instruction is unknown, or there are none.
        """
        instructions = body.get("instructions") if isinstance(body, dict) else None
        if not isinstance(instructions, dict) or not instructions:
            raise errors.invalid("instructions is not defined")
        if str(body.get("transport", "HTTP")).upper() != "HTTP":
            raise errors.invalid("The requested transport is not supported: there is HTTP only.")
        for method, texts in instructions.items():
            if method not in METHODS or not isinstance(texts, list):
                raise errors.invalid(f"The requested method <{method}> for fault injection is not known.")
            for text in texts:
                parse(text)
        test = RetryTest(uuid.uuid4().hex, body.get("any") is True, {key: list(v) for key, v in instructions.items()})
        self._tests[test.id] = test
        return test

    def get(self, test_id: str) -> RetryTest:
        """Return a retry test."""
        if test_id not in self._tests:
            raise errors.GcsError(404, "notFound", f"Retry Test {test_id} does not exist.")
        return self._tests[test_id]

    def delete(self, test_id: str) -> None:
        """Forget a retry test."""
        self.get(test_id)
        del self._tests[test_id]

    def list(self) -> list[dict[str, Any]]:
        """Return every retry test."""
        return [test.resource() for test in self._tests.values()]

    def plan(self, method: str, headers: Mapping[str, str]) -> PlannedFault | None:
        """Return the fault that waits for this request, if one does."""
        text = headers.get("x-goog-emulator-instructions") or headers.get("x-goog-testbench-instructions")
        if text:
            return _of_header(text)
        test = self._waiting(method, headers)
        if test is None:
            return None
        queue = test.instructions[method]
        return PlannedFault(parse(queue[0]), lambda: queue.__delitem__(0))

    def _waiting(self, method: str, headers: Mapping[str, str]) -> RetryTest | None:
        test_id = headers.get("x-retry-test-id")
        if test_id is not None:
            test = self.get(test_id)
            return test if test.instructions.get(method) else None
        return next((test for test in self._tests.values() if test.any and test.instructions.get(method)), None)


def _of_header(text: str) -> PlannedFault | None:
    base, _, retry = text.partition("/retry-")
    if retry.isdigit():
        return PlannedFault(Fault("error", code=503)) if int(retry) < 3 else None
    if base == "return-broken-stream":
        return PlannedFault(Fault("broken-stream", amount=DOWNLOAD_BREAK))
    return PlannedFault(parse(base))
