"""What the peers' scripts share: one process, told on standard input what to copy, that says when it is done.

Each runs in `.venv-bench`, where the peers are; nothing of the project is imported there but this.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

MIB = 1 << 20
WHOLE = 8 * MIB
"""Up to so many bytes an object is read and written in one piece, as a user of the peer would."""
S3_URL, GCS_URL = os.environ["BENCH_S3"], os.environ["BENCH_GCS"]
SOURCE, TARGET = os.environ["BENCH_SOURCE"], os.environ["BENCH_TARGET"]
CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])


class Item(NamedTuple):
    """One object to copy, to the same name."""

    key: str
    size: int


def serve(copy: Callable[[Sequence[Item]], None]) -> None:
    """Answer each line, a JSON list of keys and sizes, once all of them are copied."""
    say("READY")
    for line in sys.stdin:
        copy([Item(*item) for item in json.loads(line)])
        say("DONE")


def serve_threads(copy: Callable[[Item], object]) -> None:
    """Copy in as many threads as objects may be worked on at once."""
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        serve(lambda items: [*threads.map(copy, items)].clear())


def say(word: str) -> None:
    """Print a line at once."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
