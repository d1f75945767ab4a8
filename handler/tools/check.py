"""Checks a deployment and shows in one table what is missing or wrong: permissions, event delivery, safeguards.

    python -m handler.tools.check                    with the variables and credentials of this shell
    python -m handler.tools.check --function NAME    with the deployed function's own (template.yaml's CheckFunction)

The deployed function also runs each hour, and writes the number of faults as the metric CheckFaults.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler import config
from handler.tools import canary, event_path, safeguards, trials
from handler.tools.rows import CLIENTS, Row, table, tried
from handler.tools.running import ALIAS, Running, of_alias


def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Return the table. On the schedule, also log each fault and write their number as a metric.

    `{"dead_letters": true}` also parks a test message, which rings its alarm. `{"look": KEY}` comes from the canary
    and asks what the replicator would do about that key.
    """
    if "look" in event:
        return canary.look(event["look"], context)
    settings, rows = _deployed(config.load())
    rows += check(settings, dead_letters=bool(event.get("dead_letters")))
    faults = [row for row in rows if row.is_fault]
    if event.get("source") == canary.SCHEDULE:
        from handler import observe  # which sets up a logger

        observe.checked(settings.metrics_namespace, settings.wiring["Bucket"], [fault._asdict() for fault in faults])
    return {"ok": not faults, "rows": [row._asdict() for row in rows], "table": table(rows)}


def _deployed(settings: config.Settings) -> tuple[config.Settings, list[Row]]:
    """Return the settings that the replicator's alias runs with, and a row for each function with an alias."""
    rows: list[Row] = []
    found: dict[str, Running] = {}

    def read(version: str) -> None:
        found[version] = of_alias(boto3.client("lambda", config=CLIENTS), version)

    for version in settings.versions:
        where = f"{version.split(':')[6]}:{ALIAS}"
        row = tried(where, "lambda:GetAlias", partial(read, version))
        if version in found:
            row = Row("FAILED" if found[version].stale else "ok", where, "runs", str(found[version]))
        rows.append(row)
    replicator = found.get(settings.versions[0]) if settings.versions else None
    return replace(config.load(replicator.variables), wiring=settings.wiring) if replicator else settings, rows


def check(settings: config.Settings, *, dead_letters: bool = False) -> Iterator[Row]:
    """Yield a row for each check."""
    yield from event_path.rows(settings)
    yield from trials.of_aws(settings, dead_letters=dead_letters)
    yield from trials.of_google(settings)
    yield safeguards.of_brake(settings)
    yield safeguards.of_canary(settings.wiring)


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Return 0 if there is no fault, 1 if there is one, 2 if the check cannot run."""
    parser = argparse.ArgumentParser(prog="python -m handler.tools.check", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--function",
        metavar="NAME",
        help="run the deployed check function, with its own role and variables (default: run here)",
    )
    parser.add_argument(
        "--dead-letters",
        action="store_true",
        help="also park a test message in the dead-letter queue, which rings its alarm",
    )
    options = parser.parse_args(arguments)
    try:
        if options.function:
            result = canary.ask(options.function, {"dead_letters": options.dead_letters})
        else:
            result = lambda_handler({"dead_letters": options.dead_letters}, None)
    except (config.ConfigurationError, ClientError, BotoCoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{result['table']}\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
