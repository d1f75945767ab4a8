"""How a handler process of the storm begins: importing this changes nothing, while the handler's own module does."""

from __future__ import annotations

from typing import Any

PRELOADED = ["tests.proof.storm_birth", "tests.proof.storm_worker"]
"""What the process that handlers are forked from has imported."""


def begin(*arguments: Any) -> None:
    """Become a handler, which makes this process's waits shorter."""
    from tests.proof.storm_worker import work  # in the child only

    work(*arguments)
