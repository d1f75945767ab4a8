"""The options of the command line, and what they may be."""

from __future__ import annotations

import argparse
from pathlib import Path

from local_emulator.scan import EDITORS
from local_emulator.settings import SETTLE

DESCRIPTION = """\
S3, SQS, a Lambda poller and Google Cloud Storage on this machine, with the replicator between them.
Files in the source folder are objects in S3; copies appear in the destination folder."""

EXAMPLES = """\
examples:
  python -m local_emulator                                      watch source_s3, copy to destination_gcs
  python -m local_emulator --source in --destination out --port 0
  python -m local_emulator --target folder                      without Google's API: the plain folder adapter
  python -m local_emulator --rules rules.json                   your own REPLICATION_RULES
  python -m local_emulator invoke events/s3-put.json            one event or more through the handler
  python -m local_emulator demo                                 see it work, in a temporary folder"""

S3_PORT, GCS_PORT = 4566, 4443
"""The ports of LocalStack and of fake-gcs-server, which people's commands and settings have already."""
TARGET = "copy through Google's API or a folder adapter (default gcs)"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m local_emulator",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(made)
    commands = made.add_subparsers(dest="command", metavar="[invoke|demo]")
    invoke = commands.add_parser("invoke", help="send event files through the handler and print its answers")
    invoke.add_argument("files", type=Path, nargs="+", metavar="FILE", help="an event, as in events/")
    # A default here would undo what stands before the command's name
    _add_options(invoke, argument_default=argparse.SUPPRESS, serving=False)
    demo = commands.add_parser("demo", help="replicate files by real events and show what happened")
    demo.add_argument("--target", choices=("gcs", "folder"), default=argparse.SUPPRESS, help=TARGET)
    demo.add_argument("--keep", action="store_true", help="leave both folders behind, and say where")
    demo.add_argument("--limit", type=positive, default=120, metavar="SECONDS", help="give up after (default 120)")
    return made


def _add_options(parser: argparse.ArgumentParser, argument_default: str | None = None, *, serving: bool = True) -> None:
    parser.argument_default = argument_default

    def add(name: str, *, default: object = None, what: str, **rest: object) -> None:
        shown = "" if default is None or default is False else f" (default {default})"
        given = argument_default if argument_default is not None else default
        parser.add_argument(name, default=given, help=what + shown, **rest)  # type: ignore[arg-type]

    add("--source", default=Path("source_s3"), type=Path, metavar="FOLDER", what="what S3 holds")
    add("--destination", default=Path("destination_gcs"), type=Path, metavar="FOLDER", what="where the copies go")
    add("--bucket", metavar="NAME", what="the S3 bucket of the source folder (default dummy, or the first rule's)")
    add("--target", choices=("gcs", "folder"), what=TARGET)
    add("--rules", type=Path, metavar="FILE", what="a JSON rule list for REPLICATION_RULES instead of --target")
    add("--versioned", default=False, action="store_true", what="give the source bucket versions")
    ignore = "names that are no objects, may be repeated; '' drops the usual ones: " + " ".join(EDITORS)
    add("--ignore", action="append", metavar="PATTERN", what=ignore)
    add("--verbose", default=False, action="store_true", what="show the handler's own logs and metrics")
    if not serving:
        return
    add("--host", default="127.0.0.1", what="where the REST endpoint listens")
    add("--port", default=8000, type=port, what="its port, 0 for a free one")
    add("--gcs", metavar="URL", what="use this GCS server, which serves the destination (default: start one)")
    add("--max-receives", default=1000, type=positive, metavar="N", what="deliveries before the dead-letter queue")
    add("--visibility", default=30, type=visibility, metavar="SECONDS", what="until a batch comes again that raised")
    add("--deletes-delay", default=1, type=seconds, metavar="SECONDS", what="until a delete is carried out")
    add("--deletes-limit", default=1000, type=count, metavar="N", what="deletes that may wait; 0: none waits")
    add("--concurrency", default=4, type=positive, metavar="N", what="invocations at a time")
    add(
        "--settle",
        default=SETTLE,
        type=duration,
        metavar="SECONDS",
        what="until a file goes up that is open for writing",
    )
    add("--s3-port", type=port, metavar="PORT", what=f"of S3 and SQS (default {S3_PORT}, or a free one)")
    add("--gcs-port", type=port, metavar="PORT", what=f"of GCS (default {GCS_PORT}, or a free one)")
    catching = parser.add_mutually_exclusive_group()
    catching.set_defaults(catch_up="changed")
    catching.add_argument(
        "--catch-up",
        action="store_const",
        const="all",
        help="copy at the start what was in the source folder before the first start, too",
    )
    catching.add_argument(
        "--no-catch-up",
        dest="catch_up",
        action="store_const",
        const="none",
        help="copy nothing at the start (default: what changed while the emulator was down)",
    )


def duration(text: str) -> float:
    """Read seconds, or parts of one."""
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return number


def positive(text: str) -> int:
    """Read a number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def visibility(text: str) -> int:
    """Read seconds, as many as SQS allows."""
    number = positive(text)
    if number > 43200:
        raise argparse.ArgumentTypeError(f"{number} is more than 43200, which is SQS's most")
    return number


def count(text: str) -> int:
    """Read a number from 0 on."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


def seconds(text: str) -> int:
    """Read a delay, as long as SQS allows."""
    number = count(text)
    if number > 900:
        raise argparse.ArgumentTypeError(f"{number} is more than 900, which is SQS's most")
    return number


def port(text: str) -> int:
    """Read a port's number."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port")
    return number
