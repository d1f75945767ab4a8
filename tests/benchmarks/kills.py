"""SIGKILL of the handler, the GCS shim or both while objects are uploaded: `python -m tests.benchmarks.kills`.

Each round puts new versions of a few small objects and of a large one (or deletes some), has a handler process of its
own replicate them, in one batch or one by one, and kills at a random moment. Whatever is visible then, by the GCS API
and in the folder, must be one of the versions ever put, byte for byte; and delivering the round's events once more must
make every copy equal.
Only rounds in which an invocation was under way at the kill are counted. S3 is moto, which lives.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
from botocore.config import Config

from tests.benchmarks.shim import MIB, Shim

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "kills"
SMALL_KEYS = tuple(f"small/{n}.bin" for n in range(6))
LARGE_KEYS = ("large/a.bin", "large/b.bin")
VICTIMS = ("handler", "shim", "both")
LIMIT = 60.0
"""Seconds that an invocation may take."""
_PROCESSES = multiprocessing.get_context("forkserver")


def environment(s3: str, shim: str) -> dict[str, str]:
    """Return what the function is set up with."""
    rule = {"ID": "kills", "Source": {"Bucket": BUCKET}, "Destination": {"Bucket": f"gs://{BUCKET}"}}
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3,
        "STORAGE_EMULATOR_HOST": shim,
        "REPLICATION_RULES": json.dumps([rule]),
    }


def invoke(settings: Mapping[str, str], batches: Sequence[dict[str, Any]], said: Connection) -> None:
    """Be the function: say when it begins, and all failures that it answers with."""
    from handler import app  # loaded by the fork server, once for all
    from local_emulator.context import Context

    os.environ.update(settings)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # its log lines
    app._service()  # the cold start is not what is to be hit
    said.send("begins")
    answers = [app.lambda_handler(batch, Context(deadline=time.monotonic() + LIMIT)) for batch in batches]
    said.send([failure for answer in answers for failure in answer["batchItemFailures"]])


class Invocation:
    """One call of the function after the other, in a process of their own."""

    def __init__(self, settings: Mapping[str, str], batches: Sequence[dict[str, Any]]) -> None:
        self._hears, said = _PROCESSES.Pipe(duplex=False)
        self._process = _PROCESSES.Process(target=invoke, args=(settings, batches, said), daemon=True)
        self._process.start()
        said.close()
        self._hear()
        self._begun = time.monotonic()

    def _hear(self) -> Any:
        return self._hears.recv() if self._hears.poll(LIMIT * 2) else None

    @property
    def under_way(self) -> bool:
        """Whether it has not answered yet."""
        return self._process.is_alive() and not self._hears.poll()

    def kill(self) -> None:
        """End it where it stands."""
        self._process.kill()

    def end(self) -> Any:
        """Wait for its end; return its answer, None where it gave none."""
        try:
            answer = self._hear()
        except EOFError:
            answer = None
        self.seconds = time.monotonic() - self._begun
        self._process.join()
        self._hears.close()
        return answer


@dataclass
class Tally:
    """What was done, and what was found wrong."""

    killed: Counter[str] = field(default_factory=Counter)
    not_under_way: int = 0
    looked_at: int = 0
    part_way: Counter[str] = field(default_factory=Counter)
    """Copies of the round that were not there yet when it was killed, by size."""
    wrong: list[str] = field(default_factory=list)


class Rounds:
    """Both sides, every version ever put, and the rounds."""

    def __init__(self, s3_url: str, shim: Shim, chance: random.Random) -> None:
        self.tally = Tally()
        self._shim = shim
        self._chance = chance
        self._settings = environment(s3_url, shim.url)
        self._s3 = _s3_client(s3_url)
        self._s3.create_bucket(Bucket=BUCKET)
        self._now: dict[str, str | None] = {}
        """Digest of what each key holds in S3, None where it was deleted."""
        self._ever: dict[str, set[str]] = {key: set() for key in (*SMALL_KEYS, *LARGE_KEYS)}
        self._usual = 1.0

    def calibrate(self) -> None:
        """Learn how long an invocation takes that nobody kills."""
        seconds = []
        for _ in range(3):
            invocation = Invocation(self._settings, [_batch(self._change())])
            invocation.end()
            seconds.append(invocation.seconds)
        self._usual = median(seconds)

    def round(self, victim: str) -> None:
        """Change, replicate, kill, look, deliver once more, and compare."""
        changes = self._change()
        apart = [_batch({key: event}) for key, event in changes.items()]
        invocation = Invocation(self._settings, self._chance.choice(([_batch(changes)], apart)))
        time.sleep(self._chance.uniform(0, 0.9 * self._usual))
        under_way = invocation.under_way
        if victim in {"handler", "both"}:
            invocation.kill()
        if victim in {"shim", "both"}:
            self._shim.end(signal.SIGKILL)
        self._look_at_folder(changes)
        if victim in {"shim", "both"}:
            self._shim.start()
        self._look_by_api()
        answer = invocation.end()
        if victim == "shim" and answer is None:
            self._say_wrong("the handler did not survive the shim")
        if under_way:
            self.tally.killed[victim] += 1
        else:
            self.tally.not_under_way += 1
        self._redeliver(changes)

    def _change(self) -> dict[str, str]:
        """Put new versions of some objects, delete some; return the events."""
        changes: dict[str, str] = {}
        for key in (*self._chance.sample(SMALL_KEYS, 3), self._chance.choice(LARGE_KEYS)):
            if self._now.get(key) and self._chance.random() < 0.15:
                self._s3.delete_object(Bucket=BUCKET, Key=key)
                self._now[key], changes[key] = None, "ObjectRemoved:Delete"
                continue
            size = self._chance.randrange(9 * MIB, 18 * MIB) if key in LARGE_KEYS else self._chance.randrange(MIB)
            data = self._chance.randbytes(size)
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=data)
            self._now[key], changes[key] = _digest(data), "ObjectCreated:Put"
            self._ever[key].add(_digest(data))
        return changes

    def _look_at_folder(self, changes: Mapping[str, str]) -> None:
        seen: dict[str, str] = {}
        for path in self._shim.folder.rglob("*"):
            if path.is_file() and ".gcs" not in path.parts:
                key = path.relative_to(self._shim.folder).as_posix()
                seen[key] = _digest(path.read_bytes())
                self._judge(key, seen[key], "in the folder")
        for key in changes:
            if seen.get(key) != self._now[key]:
                self.tally.part_way["large" if key in LARGE_KEYS else "small"] += 1

    def _look_by_api(self) -> dict[str, str]:
        seen: dict[str, str] = {}
        listed = json.loads(self._get("/storage/v1/b/kills/o"))
        for item in listed.get("items", []):
            data = self._get(
                f"/storage/v1/b/kills/o/{quote(item['name'], safe='')}?alt=media&generation={item['generation']}"
            )
            if data is None:
                continue  # replaced since by a handler that lives
            if len(data) != int(item["size"]):
                self._say_wrong(f"{item['name']} has {len(data)} bytes and says {item['size']}")
            seen[item["name"]] = _digest(data)
            self._judge(item["name"], seen[item["name"]], "by the API")
        return seen

    def _judge(self, key: str, digest: str, where: str) -> None:
        self.tally.looked_at += 1
        if digest not in self._ever.get(key, set()):
            self._say_wrong(f"{key} is {where} as nothing that was ever put")

    def _redeliver(self, changes: Mapping[str, str]) -> None:
        answer = Invocation(self._settings, [_batch(changes, receives=2)]).end()
        if answer != []:
            self._say_wrong(f"redelivery answered {answer}")
        wanted = {key: digest for key, digest in self._now.items() if digest}
        if (seen := self._look_by_api()) != wanted:
            differ = sorted(key for key in wanted.keys() | seen.keys() if wanted.get(key) != seen.get(key))
            self._say_wrong(f"after redelivery {', '.join(differ)} differ")

    def _get(self, path: str) -> Any:
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(self._shim.url + path, timeout=LIMIT) as answer,
        ):
            return answer.read()
        return None

    def _say_wrong(self, what: str) -> None:
        kills = self.tally.killed.total() + self.tally.not_under_way
        self.tally.wrong.append(f"round {kills + 1}: {what}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _batch(changes: Mapping[str, str], receives: int = 1) -> dict[str, Any]:
    """Return a batch of one message for each change."""
    messages = []
    for number, (key, event) in enumerate(changes.items()):
        size = {} if "Removed" in event else {"size": 9 * MIB if key in LARGE_KEYS else MIB}
        record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event}
        record |= {"s3": {"bucket": {"name": BUCKET}, "object": {"key": key} | size}}  # type: ignore[dict-item] # JSON
        messages.append(
            {
                "messageId": str(number),
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "body": json.dumps({"Records": [record]}),
            }
        )
    return {"Records": messages}


def _s3_client(url: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(request_checksum_calculation="when_required"),
    )


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # heavy, and for the program only: not for the processes it starts

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def run(rounds: int, seed: int, folder: Path) -> int:
    """Kill that many times, tell what came of it, and return the exit status."""
    begun = time.monotonic()
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    _PROCESSES.set_forkserver_preload(
        ["handler.app", "handler.adapters.gcs.destination", "handler.adapters.gcs.client"]
    )
    with _moto() as s3, Shim(folder / "copies", BUCKET) as shim:
        all_rounds = Rounds(s3, shim, chance)
        all_rounds.calibrate()
        tally = all_rounds.tally
        while tally.killed.total() < rounds and tally.not_under_way <= rounds + 10:
            all_rounds.round(VICTIMS[tally.killed.total() % len(VICTIMS)])
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{tally.killed.total()} of {rounds}, {len(tally.wrong)} wrong ")
    kills = tally.killed.total()
    for line in [
        f"seed                 {seed}",
        f"killed under way     {kills}: " + ", ".join(f"{who} {tally.killed[who]}" for who in VICTIMS),
        f"killed too late      {tally.not_under_way}, not counted: the invocation had ended",
        f"copies caught        {tally.part_way.total()} not there yet at the kill: "
        + ", ".join(f"{count} {size}" for size, count in sorted(tally.part_way.items())),
        f"objects looked at    {tally.looked_at}, in the folder and by the API, each compared with all versions put",
        f"seconds              {time.monotonic() - begun:.0f}",
        *tally.wrong,
    ]:
        sys.stdout.write(line + "\n")
    passed = not tally.wrong and kills >= rounds
    verdict = "passed: no partial object was visible, every redelivery ended equal" if passed else "FAILED"
    sys.stdout.write(f"kills: {kills} of {rounds}, {verdict}\n")
    return 0 if passed else 1


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.kills", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=200, help="kills under way (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of every random choice (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        return run(options.rounds, options.seed, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
