"""Notices that the source folder changed, and lets its mirror follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchfiles import Change, watch

from local_emulator.mirror import Mirror
from local_emulator.scan import STATE

DEBOUNCE, STEP, TICK = 100, 20, 100
"""Milliseconds: the longest and the shortest wait for more changes, and how often a quiet watcher looks up."""
FULL_SCAN = 3.0
"""Seconds between scans that nothing asked for. They find what no notification came for, which can happen."""
SPARE = 20
"""How many times as long as a scan took the next such scan is put off: a huge folder costs no more than this."""

log = logging.getLogger(__name__)


class Watcher:
    """Keeps a mirror in step with its folder, in a thread, also when the folder itself goes and comes again.

    Args:
        mirror: what follows.
        folder: what is watched.
        is_same: says whether the folder is still the one that was there at the start.
        begin_anew: is called when another folder is in its place.
    """

    def __init__(
        self, mirror: Mirror, folder: Path, *, is_same: Callable[[], bool], begin_anew: Callable[[], None]
    ) -> None:
        self._mirror, self._folder, self._is_same, self._begin_anew = mirror, folder, is_same, begin_anew
        self._armed = threading.Event()
        self._gone = False

    def start(self) -> None:
        """Return once no further change can be missed."""
        threading.Thread(target=self._run, name="watcher", daemon=True).start()
        self._armed.wait()

    def stop(self) -> None:
        """Let the thread end after the object it is at."""
        self._mirror.stopped.set()

    def _run(self) -> None:
        while not self._mirror.stopped.is_set():
            try:
                self._greet()
                self._watch()
            except (FileNotFoundError, NotADirectoryError):
                self._miss()
            except Exception as error:  # noqa: BLE001 - the library has errors of its own; without it, look often
                log.debug("no notification: %s", error)
                self._look()

    def _miss(self) -> None:
        """Say that the folder is gone, and wait for it."""
        if not self._gone:
            log.error("the source folder %s is gone. Nothing is deleted for that: bring it back", self._folder)
        self._gone = True
        self._armed.set()
        self._mirror.stopped.wait(TICK / 1000)

    def _greet(self) -> None:
        """Say that the folder is back, and whether it is another one."""
        if not self._folder.is_dir():
            raise FileNotFoundError
        if not self._is_same():
            log.warning("another folder is at %s: what it lacks is not deleted", self._folder)
            self._begin_anew()
        elif self._gone:
            log.warning("the source folder %s is back", self._folder)
        self._gone = False

    def _look(self) -> None:
        """See what changed without being told."""
        try:
            self._mirror.sync()
        except (FileNotFoundError, NotADirectoryError):
            self._miss()
        self._armed.set()
        self._mirror.stopped.wait(TICK / 1000)

    def _watch(self) -> None:
        """Follow the folder that is there now, until another one is in its place."""
        next_scan = 0.0
        for changes in watch(
            self._folder,
            watch_filter=self._counts,
            debounce=DEBOUNCE,
            step=STEP,
            rust_timeout=TICK,
            yield_on_timeout=True,
            stop_event=self._mirror.stopped,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if changes or self._mirror.waits or time.monotonic() >= next_scan:
                begun = time.monotonic()
                self._mirror.sync()
                ended = time.monotonic()
                next_scan = ended + max(FULL_SCAN, SPARE * (ended - begun))
            self._armed.set()
            if not self._is_same():
                return

    def _counts(self, _: Change, path: str) -> bool:
        """Return whether a change is one of the folder's files, and not of what the emulator keeps there."""
        return not Path(path).is_relative_to(self._folder / STATE)
