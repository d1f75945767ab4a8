"""A reader in the storm: it looks at the copies of the hot keys over HTTP all along, and must see no step back.

Every change of the storm's has a number that is larger than those before it, and every copy shows the one it is of. A
delete in between resets nothing, as the numbers only grow. What `reader.py` says of a deleted state that comes back
for a moment holds here, too: it is counted, and no step back.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.proof.storm_servers import CALM

PAUSE = 0.005
"""Seconds between two looks."""


@dataclass(frozen=True)
class Look:
    """Where a copy of a hot key is, and what its source was told."""

    bucket: str
    """The destination's."""
    name: str
    was_deleted_after: Callable[[int], bool]
    """Whether the source deleted the key after the change of that number."""


@dataclass
class StormReader:
    """Looks at each copy again and again, until it is stopped.

    Args:
        port: the GCS server's; it may be away now and then.
        copies: what to look at.
    """

    port: int
    copies: Sequence[Look]
    steps_back: list[str] = field(default_factory=list)
    looks: int = 0
    came_back: int = 0
    """Looks that met a deleted state."""
    _highest: dict[Look, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for copy in self.copies:
                try:
                    self.look(copy)
                except (OSError, http.client.HTTPException):  # the server was killed, and is started again
                    self._wire.close()
                if self._over.wait(PAUSE):
                    break

    def look(self, copy: Look) -> None:
        """Look at a copy once."""
        where = f"/storage/v1/b/{copy.bucket}/o/{quote(copy.name, safe='')}"
        self._wire.request("GET", where, headers={CALM: "1"})
        answer = self._wire.getresponse()
        body = answer.read()
        self.looks += 1
        if answer.status == 200:
            self._see(copy, json.loads(body))
        elif answer.status != 404:
            self.steps_back.append(f"the GCS server answered {answer.status} to a look at {copy.bucket}/{copy.name!r}")

    def _see(self, copy: Look, resource: Mapping[str, Any]) -> None:
        metadata = resource.get("metadata", {})  # somebody else's object has none
        number = max(int(metadata.get(name, 0)) for name in ("number", "s3-tag-n"))
        highest = self._highest.get(copy, 0)
        if number >= highest:
            self._highest[copy] = number
        elif copy.was_deleted_after(highest):
            self.came_back += 1
        else:
            self.steps_back.append(f"{copy.bucket}/{copy.name!r}: change #{number} after #{highest}")
