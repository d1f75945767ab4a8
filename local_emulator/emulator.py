"""The emulator's life: everything up, one READY line, and a clean end within two seconds of a signal."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from local_emulator.catch_up import CatchUp, compare, copies
from local_emulator.clouds import Clouds, leave_at_a_signal
from local_emulator.console import Console
from local_emulator.poller import Poller
from local_emulator.rest_server import RestServer, listen, url_of
from local_emulator.settings import make_folder
from local_emulator.watch import Watcher

if TYPE_CHECKING:
    from local_emulator.settings import Settings


WAKE = 0.1
"""Seconds. The kernel may hand a signal to any thread; the main one, which has to act on it, must wake by itself."""


def run(settings: Settings) -> NoReturn:
    """Run until Ctrl-C or SIGTERM, then leave the process.

    Raises:
        UsageError: a folder cannot be made.
        StartError: something could not be started; nothing runs.
    """
    console = Console(sys.stdout, verbose=settings.verbose)
    sys.stdout = console
    with ExitStack() as started:
        leave_at_a_signal(started, 0)
        console.say(_start(settings, started, console))
        while True:
            time.sleep(WAKE)


def _start(settings: Settings, started: ExitStack, console: Console) -> str:
    """Start everything and return what is to be printed once everything answers."""
    listener = started.enter_context(listen(settings.host, settings.port))
    for folder in (settings.source, settings.destination):
        if make_folder(folder):
            console.say(f"made the folder {folder}")
    clouds = started.enter_context(Clouds(settings))
    clouds.aws.wire()
    catch_up = _catch_up(settings, clouds, console)
    for queue in (clouds.aws.queue, clouds.aws.deletes_queue):
        poller = Poller(
            clouds.aws.sqs,
            queue,
            clouds.invoke,
            concurrency=settings.concurrency,
            visibility=settings.visibility,
        )
        poller.start()
        started.callback(poller.stop)
    watcher = Watcher(clouds.mirror, settings.source, is_same=clouds.state.is_in_place, begin_anew=clouds.begin_anew)
    watcher.start()
    started.callback(watcher.stop)
    started.enter_context(RestServer(listener, clouds.invoke, concurrency=settings.concurrency))
    catch_up.start()
    started.callback(catch_up.stop)
    started.callback(_say_what_waits, clouds, catch_up, console)
    return _announcement(settings, clouds, url_of(listener))


def _catch_up(settings: Settings, clouds: Clouds, console: Console) -> CatchUp:
    """Compare both sides, and say what was found."""
    first, everything = clouds.state.first, settings.catch_up == "all"
    clouds.state.loaded()
    found = copies(settings, clouds.gcs_url)
    differs = compare(clouds.state, found, settings.rules, everything=everything)
    before = sum(row.before and not row.gone for row in clouds.state.known())
    lines = [f"{len(differs.events):,} of {len(differs.events) + differs.equal:,} objects differ from their copies"]
    if settings.catch_up == "none":
        lines[0] += ", and stay so (--no-catch-up)"
    if first and before and not everything:
        lines = [f"{before:,} objects were there before the first start; --catch-up copies them"]
    if differs.strange:
        lines += [f"{differs.strange:,} copies are of objects that {settings.source} knows nothing of: they stay"]
    if differs.events or before or differs.strange:
        console.say("\n".join(lines))
    events = [] if settings.catch_up == "none" else differs.events
    return CatchUp(events, lambda: clouds.aws.waiting(clouds.aws.queue), console.say)


def _say_what_waits(clouds: Clouds, catch_up: CatchUp, console: Console) -> None:
    """Say at the end what was not done, and that it is not lost."""
    waiting = clouds.aws.waiting(clouds.aws.queue, clouds.aws.deletes_queue) + catch_up.left
    if waiting:
        console.say(
            f"{waiting:,} events were not done. The next start compares both sides and finds what they were of."
        )


def _announcement(settings: Settings, clouds: Clouds, rest: str) -> str:
    ready = {
        "rest": rest,
        "s3": clouds.aws.url,
        "sqs": clouds.aws.url,
        "gcs": clouds.gcs_url,
        "queue": clouds.aws.queue.url,
        "deletes_queue": clouds.aws.deletes_queue.url,
        "held_deletes_queue": clouds.aws.held_deletes_queue.url,
        "dead_letter_queue": clouds.aws.dead_letter_queue.url,
        "bucket": settings.bucket,
        "source": str(settings.source),
        "destination": str(settings.destination),
    }
    body = json.dumps({"s3_bucket": settings.bucket, "s3_key": clouds.mirror.any_key() or "source-file.csv"})
    targets = ", ".join(dict.fromkeys(rule["Destination"]["Bucket"] for rule in settings.rules))
    look = f"Change a file there, and look into {settings.destination}"
    if os.environ.get("DRY_RUN") == "true":
        look = f"A dry run (DRY_RUN): what would be done is shown here, and {settings.destination} is left as it is"
    lines = [
        f"READY {json.dumps(ready)}",
        "",
        f"  {settings.source}  ->  s3://{settings.bucket}  ->  handler  ->  {targets}",
        f"  {look}",
        "",
        "  Replicate one object on demand:",
        f"    curl -X POST {rest}/v1/replicate/ -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    ]
    if clouds.gcs_url:
        code = f'from google.cloud import storage; print(*storage.Client().list_blobs("{settings.gcs_buckets[0]}"))'
        lines += ["  Read the copies with any GCS client:"]
        lines += [f"    STORAGE_EMULATOR_HOST={clouds.gcs_url} {shlex.quote(sys.executable)} -c {shlex.quote(code)}"]
    return "\n".join([*lines, "", "  Ctrl-C ends it.", ""])
