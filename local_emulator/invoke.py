"""`invoke FILE...`: events through the handler, with both clouds up for as long as that takes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from local_emulator.clouds import Clouds, leave, leave_at_a_signal
from local_emulator.console import Console, printable
from local_emulator.samples import objects_in
from local_emulator.settings import UsageError, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from local_emulator.settings import Settings

SAMPLE = b"Sample data\n"
"""What the events in events/ say that each object holds, by size and ETag."""


def invoke(files: Sequence[Path], settings: Settings) -> int:
    """Print the handler's answers on standard output, in order, and leave with 0.

    Where the handler raises, its error goes to the other output instead, and the exit code is 1 in the end.

    Raises:
        UsageError: a file is no event; then none was sent.
        StartError: something could not be started.
    """
    events = [(file, _event(file)) for file in files]
    answers = sys.stdout
    sys.stdout = console = Console(sys.stderr, verbose=settings.verbose)
    code = 0
    with ExitStack() as started:
        leave_at_a_signal(started, 130)  # as a shell would say it
        clouds = started.enter_context(Clouds(settings))
        for file, event in events:
            _provide(event, clouds, settings, console)
            try:
                print(json.dumps(clouds.invoke(event), indent=2, ensure_ascii=False), file=answers, flush=True)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is what it answered
                why = ": the event lacks what the handler looks for" if isinstance(error, KeyError) else ""
                console.say(printable(f"{file}: {type(error).__name__}: {error}{why}"))
                code = 1
        leave(started, code)


def _event(file: Path) -> dict[str, Any]:
    event = read_json(file)
    if not isinstance(event, dict):
        raise UsageError(f"{file}: an event is a JSON object")
    return event


def _provide(event: dict[str, Any], clouds: Clouds, settings: Settings, console: Console) -> None:
    """Put a sample where the event speaks of an object that does not exist."""
    for bucket, key in dict.fromkeys(objects_in(event)):
        if bucket not in settings.source_buckets or not key:
            continue
        try:
            clouds.aws.s3.head_object(Bucket=bucket, Key=key)
        except ClientError:
            try:
                clouds.aws.s3.put_object(Bucket=bucket, Key=key, Body=SAMPLE, ContentType="text/csv")
            except (BotoCoreError, ClientError) as error:
                console.say(printable(f"no sample object at s3://{bucket}/{key}: {error}"))
            else:
                console.say(printable(f"put a sample object at s3://{bucket}/{key}, which the event speaks of"))
