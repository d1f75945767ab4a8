"""Compares both sides at the start, and sends events for what is not equal: what changed while the emulator was down.

A copy's own metadata says which object it was made of: docs/architecture.md. What the comparison takes for unequal is
looked at by the handler as after any event, so a doubt costs a request or two, and never a wrong copy.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from moto.s3.models import FakeKey

from local_emulator import s3_objects
from local_emulator.s3_events import DELETED, Absent, Event, send_again
from local_emulator.s3_state import State
from local_emulator.settings import Settings

PROVENANCE = "s3-replica-"
TOGETHER = 10
"""Objects in one message."""
WAITING = 100
"""Messages that may wait while more are sent: a longer queue takes moto longer."""
SAID = 2.0
"""Seconds between two lines that say how far it is."""


class Copy(NamedTuple):
    """What a copy at the destination says of itself."""

    etag: str
    size: str
    version_id: str
    last_modified: str
    updated: float


Copies = Mapping[tuple[str, str], Sequence[Copy]]
"""The copies of each object, by its bucket and key."""


class Difference(NamedTuple):
    """What is to be looked at."""

    events: list[Event]
    equal: int
    strange: int
    """Copies of objects of which nothing is known: they are left alone."""


def copies(settings: Settings, gcs_url: str | None) -> Copies:
    """List every destination.

    Raises:
        OSError: one cannot be listed.
    """
    found: dict[tuple[str, str], list[Copy]] = defaultdict(list)
    for bucket in settings.gcs_buckets if gcs_url else []:
        for item in _listed(f"{gcs_url}/storage/v1/b/{bucket}/o"):
            updated = datetime.fromisoformat(item["updated"]).timestamp()
            _add(found, item["name"], item.get("metadata") or {}, updated)
    for folder in settings.folders:
        for path in folder.glob(".replicator/meta/*/*.json"):
            record = json.loads(path.read_text())
            for identity, entry in record.get("files", {}).items():
                if _is_there(folder / record.get("key", ""), identity):
                    _add(found, record["key"], entry["metadata"], path.stat().st_mtime)
    return found


def _add(found: dict[tuple[str, str], list[Copy]], name: str, metadata: Mapping[str, str], updated: float) -> None:
    """Note a copy, if the replicator made it."""
    own = {field.removeprefix(PROVENANCE): value for field, value in metadata.items() if field.startswith(PROVENANCE)}
    if bucket := own.get("bucket"):
        copy = Copy(
            own.get("etag", ""), own.get("size", ""), own.get("version-id", ""), own.get("last-modified", ""), updated
        )
        found[bucket, own.get("key", name)].append(copy)


def _listed(url: str) -> Iterator[dict[str, Any]]:
    token = ""
    fields = "items(name,metadata,updated),nextPageToken"
    while True:
        query = urllib.parse.urlencode({"fields": fields, **({"pageToken": token} if token else {})})
        with urllib.request.urlopen(f"{url}?{query}") as answer:  # noqa: S310 - the emulator's own URL, or the user's
            page = json.load(answer)
        yield from page.get("items", [])
        token = page.get("nextPageToken", "")
        if not token:
            return


def _is_there(path: Path, identity: str) -> bool:
    """Return whether a folder's copy is still the file that its record tells of."""
    try:
        status = path.stat()
    except OSError:
        return False
    return identity == f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def compare(state: State, found: Copies, rules: Sequence[Mapping[str, Any]], *, everything: bool) -> Difference:
    """Return what differs of what is known, without what was there before the first start unless it is wanted too."""
    events, equal, known = [], 0, state.known()
    for row in known:
        original = s3_objects.current(row.bucket, row.key)
        bucket = s3_objects.backend().get_bucket(row.bucket)
        theirs = found.get((row.bucket, row.key), ())
        wanted = sum(_covers(rule, row.bucket, row.key) for rule in rules)
        if original is None:
            if theirs:
                events.append(Event(DELETED, bucket, Absent(row.key)))
        elif sum(_is_copy(copy, original, row.changed) for copy in theirs) >= wanted:
            equal += 1
        elif everything or not row.before:
            events.append(Event(s3_objects.PUT, bucket, original))
    names = {(row.bucket, row.key) for row in known}
    return Difference(events, equal, sum(place not in names for place in found))


def _covers(rule: Mapping[str, Any], bucket: str, key: str) -> bool:
    filtered = rule.get("Filter") or {}
    prefix = filtered.get("Prefix") or (filtered.get("And") or {}).get("Prefix") or rule.get("Prefix") or ""
    return rule["Source"]["Bucket"] == bucket and key.startswith(prefix) and rule.get("Status") != "Disabled"


def _is_copy(copy: Copy, original: FakeKey, changed: float) -> bool:
    """Return whether a copy was made of what the object is now; tags may have changed after it."""
    version_id = "" if original.version_id == "null" else original.version_id
    modified = original.last_modified.replace(microsecond=0).isoformat()
    said = (copy.etag, copy.size, copy.version_id, copy.last_modified.removesuffix("+00:00"))
    return said == (original.etag.strip('"'), str(original.size), version_id, modified) and copy.updated >= changed


class CatchUp:
    """Sends the events, a few at a time, and says how far it is.

    Args:
        events: what to send.
        waiting: counts the messages of the queue that are not done.
        say: prints a line.
    """

    def __init__(self, events: Sequence[Event], waiting: Callable[[], int], say: Callable[[str], None]) -> None:
        self._events, self._waiting, self._say = events, waiting, say
        self._stopped = threading.Event()
        self.left = len(events)
        """Objects whose event was not sent yet."""

    def start(self) -> None:
        """Begin, in a thread."""
        if self._events:
            threading.Thread(target=self._run, name="catch-up", daemon=True).start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    def _run(self) -> None:
        begun = said = time.monotonic()
        total = len(self._events)
        while (self.left or self._waiting()) and not self._stopped.is_set():
            while self.left and self._waiting() < WAITING and not self._stopped.is_set():
                at = total - self.left
                for bucket in {event.bucket.name for event in self._events[at : at + TOGETHER]}:
                    send_again([e for e in self._events[at : at + TOGETHER] if e.bucket.name == bucket])
                self.left = max(0, self.left - TOGETHER)
            if time.monotonic() > said + SAID:
                said = time.monotonic()
                done = max(0, total - self.left - self._waiting() * TOGETHER)
                self._say(f"  catching up: {done:,} of {total:,}")
            self._stopped.wait(0.05)
        if not self._stopped.is_set():
            self._say(f"  caught up: {total:,} objects in {time.monotonic() - begun:.1f} s")
