"""`python -m local_emulator.gcs --folder DIR`: the GCS server as a program."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from local_emulator.gcs.http.running import serve
from local_emulator.gcs.model.errors import GcsError
from local_emulator.gcs.store.store import Store


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m local_emulator.gcs", description=__doc__)
    add = result.add_argument
    add("--folder", type=Path, required=True, help="where buckets and objects live, as plain files; made if missing")
    add("--bucket", help="make the folder itself this one bucket; otherwise each folder in it is a bucket")
    add("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s, this machine only)")
    add("--port", type=port, default=0, help="the port to listen on (default: a free one)")
    add("--one-write-a-second", action="store_true", help="refuse more than one write a second of a name, as GCS does")
    return result


def port(text: str) -> int:
    """Read a port's number."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port")
    return number


async def run(options: argparse.Namespace) -> None:
    """Serve until told to end."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def ready(url: str) -> None:
        print("READY", json.dumps({"gcs": url}), flush=True)

    where = options.host, options.port
    store = Store(options.folder, options.bucket, one_write_a_second=options.one_write_a_second)
    await serve(store, where, ready, stopped)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        asyncio.run(run(options))
    except (GcsError, OSError, RuntimeError) as error:
        print(f"local_emulator.gcs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
