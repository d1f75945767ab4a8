"""The command line: `python -m local_emulator`, `... invoke FILE`, `... demo`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from local_emulator.settings import Settings, StartError, UsageError, check, own_rules, read_rules

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

TARGET = "copy through Google's API or a folder adapter (default gcs)"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit code: 0, 1 where it failed, 2 where that made no sense."""
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("local_emulator: %(message)s"))
    log = logging.getLogger("local_emulator")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if options.verbose else logging.WARNING)
    try:
        return _run(options)
    except UsageError as error:
        print(f"local_emulator: {error}", file=sys.stderr)
        return 2
    except StartError as error:
        print(f"local_emulator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell would say it


def _run(options: argparse.Namespace) -> int:
    """Import what the command needs, which takes a second that --help need not wait for."""
    if options.command == "demo":
        from local_emulator.demo import demo

        return demo(target=options.target or "gcs", keep=options.keep, limit=options.limit)
    settings = settings_of(options)
    if options.command == "invoke":
        from local_emulator.invoke import invoke

        return invoke(options.files, settings)
    from local_emulator.emulator import run

    return run(settings)


def settings_of(options: argparse.Namespace) -> Settings:
    """Check the options and make settings of them.

    Raises:
        UsageError: they make no sense.
    """
    source, destination = options.source.absolute(), options.destination.absolute()
    if options.rules and options.target:
        raise UsageError("--target does nothing beside --rules, which say where copies go")
    if options.rules:
        rules = read_rules(options.rules)
        bucket = options.bucket or rules[0]["Source"]["Bucket"]
        if bucket not in {rule["Source"]["Bucket"] for rule in rules}:
            raise UsageError(f"--bucket {bucket} is no rule's Source.Bucket in {options.rules}")
    else:
        bucket = options.bucket or "dummy"
        rules = own_rules(bucket, destination, options.target or "gcs")
    settings = Settings(
        source=source,
        destination=destination,
        bucket=bucket,
        rules=rules,
        single=not options.rules,
        host=options.host,
        port=options.port,
        versioned=options.versioned,
        gcs=options.gcs,
        max_receives=options.max_receives,
        visibility=options.visibility,
        concurrency=options.concurrency,
        deletes_delay=options.deletes_delay,
        deletes_limit=0 if options.command == "invoke" else options.deletes_limit,  # nobody polls there
        verbose=options.verbose,
    )
    if settings.gcs and not settings.gcs_buckets:
        raise UsageError("--gcs does nothing: no copies go to GCS")
    check(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_emulator",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser)
    commands = parser.add_subparsers(dest="command", metavar="[invoke|demo]")
    invoke = commands.add_parser("invoke", help="send event files through the handler and print its answers")
    invoke.add_argument("files", type=Path, nargs="+", metavar="FILE", help="an event, as in events/")
    # A default here would undo what stands before the command's name
    _add_options(invoke, argument_default=argparse.SUPPRESS, serving=False)
    demo = commands.add_parser("demo", help="replicate files by real events and show what happened")
    demo.add_argument("--target", choices=("gcs", "folder"), default=argparse.SUPPRESS, help=TARGET)
    demo.add_argument("--keep", action="store_true", help="leave both folders behind, and say where")
    demo.add_argument("--limit", type=positive, default=120, metavar="SECONDS", help="give up after (default 120)")
    return parser


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


if __name__ == "__main__":
    sys.exit(main())
