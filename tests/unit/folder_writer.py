"""A process that writes to a folder without end and says each step; a test kills it."""

import itertools
from multiprocessing.connection import Connection
from pathlib import Path

from handler.adapters.folder.destination import FolderDestination
from handler.core.model import KIB, Stamp
from tests.fakes import reader

KEY = "dir/k"


def body(number: int) -> bytes:
    """Bytes that tell which write they are of, from one to many pieces long."""
    return bytes([number % 256]) * ((number % 5) * 700 * KIB + 1)


def write(folder: str, start: int, said: Connection) -> None:
    """Write, patch and delete one key, and send the number of each round that is done."""
    destination = FolderDestination(Path(folder))
    for number in itertools.count(start):
        there = destination.head(KEY)
        stamp = Stamp(metadata={"number": str(number)})
        written = destination.put(KEY, reader(body(number), KEY), stamp, expect=there.generation)
        if number % 3 == 0:
            stamp = Stamp(metadata={"number": str(number), "patched": "yes"})
            written = destination.patch(KEY, stamp, expect=written.generation)
        if number % 4 == 0:
            destination.delete(KEY, expect=written.generation)
        said.send(number)
