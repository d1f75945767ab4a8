"""The command line: `python -m local_emulator`, `... invoke FILE`, `... demo`."""

from __future__ import annotations

import argparse
import logging
import sys

from local_emulator.arguments import GCS_PORT, S3_PORT, parser
from local_emulator.scan import EDITORS
from local_emulator.settings import Settings, StartError, UsageError, check, own_rules, read_rules


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit code: 0, 1 where it failed, 2 where that made no sense."""
    options = parser().parse_args(arguments)
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
    serving = options.command != "invoke"
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
        deletes_limit=options.deletes_limit if serving else 0,  # nobody polls there
        verbose=options.verbose,
        ignore=ignored(options.ignore),
        settle=options.settle if serving else 0,
        keeps=serving,
        catch_up=options.catch_up,
        s3_port=_fixed(options.s3_port, S3_PORT, options),
        gcs_port=_fixed(options.gcs_port, GCS_PORT, options),
    )
    if settings.gcs and not settings.gcs_buckets:
        raise UsageError("--gcs does nothing: no copies go to GCS")
    check(settings)
    return settings


def _fixed(given: int | None, usual: int, options: argparse.Namespace) -> int:
    """Return the port that was asked for; the usual one, unless any will do for the REST endpoint too."""
    if given is not None:
        return given
    return usual if options.command is None and options.port else 0


def ignored(given: list[str] | None) -> tuple[str, ...]:
    """Return the usual patterns and those given; an empty one drops all before it."""
    patterns = [*EDITORS, *(given or ())]
    while "" in patterns:
        patterns = patterns[patterns.index("") + 1 :]
    return tuple(patterns)


if __name__ == "__main__":
    sys.exit(main())
