"""The storm: both clouds, the queue and several handler processes over real HTTP, with all that can go wrong at once.

Two lanes of their own S3 and queue share one GCS server. Each lane's objects are put, overwritten, copied onto
themselves, tagged and deleted, and the queue is told so twice, late and out of order; requests fail, answers are lost,
bytes change on the way, handlers and the GCS server are killed at any moment. At the end everything must be equal.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psutil

from tests.proof.storm_birth import PRELOADED, begin
from tests.proof.storm_compare import Difference, Gcs, compare
from tests.proof.storm_load import LOAD_FAULTS, NOTIFIED, UNREPLICABLE, Bucket, Key, Load
from tests.proof.storm_reader import Look, StormReader
from tests.proof.storm_servers import GCS_FAULTS, S3_FAULTS, serve_aws, serve_gcs
from tests.proof.storm_watch import Watch

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from mypy_boto3_sqs.client import SQSClient

HANDLER_KILLED, GCS_KILLED = "SIGKILL of a handler", "SIGKILL and restart of the GCS server"
OVERLAP = "SQS: redelivered while the first delivery was worked on"
ALL_FAULTS = (*S3_FAULTS, *GCS_FAULTS, *LOAD_FAULTS, OVERLAP, HANDLER_KILLED, GCS_KILLED)
_PARKED = {"Malformed", "SrcMetadataReserved", "DstKeyInvalid"}
"""Reasons for which this storm's dead letters may lie where they lie."""
_OUTSTANDING = 150
"""Messages in the queue above which nothing is changed."""
_DRAIN_LIMIT = 180.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything; each lane gets its half."""

    objects: int = 20_000
    changes: int = 9_000
    told_again: float = 0.75
    large: int = 40
    foreign: int = 300
    workers: int = 3
    kills: int = 40
    gcs_kills: int = 6
    s3_rate: float = 0.03
    gcs_rate: float = 0.06
    watched: bool = False
    """Whether handlers are killed while they hold a batch, and all that is visible then is judged."""


FULL = Scale()
SHORT = Scale(
    objects=200, changes=170, large=8, foreign=20, workers=2, kills=2, gcs_kills=1, s3_rate=0.06, gcs_rate=0.12,
    watched=True,
)  # fmt: skip


def of_kills(kills: int) -> Scale:
    """Return a storm whose only faults are so many SIGKILLs, a third of them of the GCS server."""
    return Scale(
        objects=2 * kills, changes=3 * kills, large=max(8, kills // 10), foreign=20, kills=kills - kills // 3,
        gcs_kills=kills // 3, s3_rate=0.0, gcs_rate=0.0, watched=True,
    )  # fmt: skip


def scaled(objects: int) -> Scale:
    """The full storm with another number of objects."""
    part = objects / FULL.objects
    return replace(FULL, objects=objects, changes=int(FULL.changes * part), large=max(20, int(FULL.large * part)))


def run(scale: Scale = FULL, seed: int = 1) -> int:
    """Let the storm pass, print what it was, and return the number of divergences."""
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        return Storm(scale, seed, Path(folder)).run()


class Storm:
    """One storm, in a folder of its own."""

    def __init__(self, scale: Scale, seed: int, folder: Path) -> None:
        self._scale = scale
        self._seed = seed
        self._folder = folder
        self._stack = ExitStack()
        self._spawn = multiprocessing.get_context("spawn")
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload(PRELOADED)
        self._random = random.Random(f"{seed} kills")  # noqa: S311 - to be repeatable
        self._kills: Counter[str] = Counter()
        self._gcs_port = free_port()
        self._gcs: BaseProcess | None = None
        self._watch: Watch | None = None
        self.lanes: list[Lane] = []

    def run(self) -> int:
        """Let it pass."""
        began = time.monotonic()
        print(f"storm: seed {self._seed}", flush=True)
        with self._stack:
            self._start_gcs()
            self._stack.callback(self._stop)
            calm = self._stack.enter_context(closing(Gcs(self._gcs_port, self._folder / "gcs")))
            for number in range(2):
                lane = Lane(number, self._seed, self._scale, self._folder, self._gcs_port, self._fork)
                self.lanes.append(lane)
                self._stack.callback(lane.stop)
                lane.start(self._spawn, calm)
            copies = tuple(bucket.copy for lane in self.lanes for bucket in lane.buckets)
            self._watch = (
                Watch(self._gcs_port, self._folder / "gcs", self._ever, copies) if self._scale.watched else None
            )
            reader = StormReader(self._gcs_port, [look for lane in self.lanes for look in lane.hot_copies()])
            reader.start()
            loads = [threading.Thread(target=lane.load.run, daemon=True) for lane in self.lanes]
            for thread in loads:
                thread.start()
            self._kill_now_and_then(loads)
            changed = time.monotonic()
            drained = {lane.drained() for lane in self.lanes} == {True}
            quiet = time.monotonic()
            reader.stop()
            servers = {"GCS": self._gcs, **{f"S3 and SQS {lane.number}": lane.aws for lane in self.lanes}}
            used = {name: psutil.Process(process.pid).cpu_times() for name, process in servers.items() if process}
            print("  CPU: " + ", ".join(f"{name} {each.user + each.system:.0f} s" for name, each in used.items()))
            for lane in self.lanes:
                lane.kill_all()
            calm.close()  # what it was connected to may have been killed since
            differences = [each for lane in self.lanes for each in lane.differences(calm)]
        return self._read(reader) + self._report(differences, drained=drained, times=(began, changed, quiet))

    def _read(self, reader: StormReader) -> int:
        """Print what the reader saw, and return the number of divergences."""
        back = f"{len(reader.steps_back)} steps back, and a deleted state {reader.came_back} times"
        print(f"  a reader looked {reader.looks:,} times at copies of hot keys, and saw {back}")
        for step in reader.steps_back:
            print(f"DIVERGENCE: a reader saw a step back: {step}")
        return len(reader.steps_back)

    def _start_gcs(self) -> None:
        ours, theirs = self._spawn.Pipe()
        arguments = (
            self._folder / "gcs",
            self._gcs_port,
            f"{self._seed} {self._kills}",
            self._scale.gcs_rate,
            self._folder / "fired",
        )
        self._gcs = self._spawn.Process(target=serve_gcs, args=(theirs, *arguments), daemon=True)
        self._gcs.start()
        theirs.close()
        ours.recv()

    def _stop(self) -> None:
        if self._gcs:
            kill(self._gcs)

    def _kill_now_and_then(self, loads: Sequence[threading.Thread]) -> None:
        """Deal out SIGKILLs evenly over the progress that is made, at moments of chance."""
        deaths = [(self._random.random(), False) for _ in range(self._scale.kills)]
        deaths += [(self._random.uniform(0.1, 0.9), True) for _ in range(self._scale.gcs_kills)]
        deaths.sort()
        while any(thread.is_alive() for thread in loads) or deaths:
            time.sleep(self._random.uniform(0.05, 0.3))
            progress = sum(lane.load.progress for lane in self.lanes) / len(self.lanes)
            broken = [
                lane
                for lane, thread in zip(self.lanes, loads, strict=True)
                if not thread.is_alive() and lane.load.progress < 1
            ]
            if broken:
                raise RuntimeError("a load ended before its end")
            while deaths and deaths[0][0] <= progress:
                busy = [lane for lane in self.lanes if lane.busy()]
                if self._watch and not busy and any(thread.is_alive() for thread in loads):
                    break  # nothing is under way: later
                _, is_gcs = deaths.pop(0)
                if is_gcs:
                    self._stop()
                    self._kills[GCS_KILLED] += 1
                    self._look(on_disk=True)
                    self._start_gcs()
                else:
                    self._random.choice(busy or self.lanes).kill_one(self._random)
                    self._kills[HANDLER_KILLED] += 1
                self._look(on_disk=not is_gcs)
                if self._watch:
                    break  # one after the other
            for lane in self.lanes:
                lane.revive()

    def _look(self, *, on_disk: bool) -> None:
        """Judge what is visible: on the disk, or by the API."""
        if self._watch:
            (self._watch.look_at_disk if on_disk else self._watch.look_by_api)()

    def _ever(self, copy: str, name: str) -> set[str]:
        return next(lane.ever(copy, name) for lane in self.lanes if lane.has(copy))

    def _report(self, differences: Sequence[Difference], *, drained: bool, times: tuple[float, float, float]) -> int:
        counts: Counter[str] = Counter()
        for lane in self.lanes:
            counts.update(lane.load.counts)
            counts.update(lane.deliveries())
        fired = Counter((self._folder / "fired").read_text().splitlines())
        fired.update({kind: counts[kind] for kind in (*LOAD_FAULTS, OVERLAP)})
        fired.update(self._kills)
        began, changed, quiet = times
        objects = sum(len(lane.load.keys_of_all()) for lane in self.lanes)
        print(
            f"  {objects:,} objects, {counts['changes']:,} changes, {counts['events']:,} events "
            f"({counts[NOTIFIED]:,} by S3's own notifications) in {counts['messages']:,} messages of ours, "
            f"{counts['deliveries']:,} deliveries, of one message up to {max(lane.most for lane in self.lanes)}"
        )
        print(
            f"  {changed - began:.0f} s until the source was quiet, {quiet - changed:.0f} s until the queue was empty, "
            f"{time.monotonic() - quiet:.0f} s to compare, {_cpu_seconds():.0f} s of CPU"
        )
        for kind in sorted(ALL_FAULTS):
            print(f"  {fired[kind]:>7,} x {kind}")
        expected = ALL_FAULTS if self._scale.s3_rate else (HANDLER_KILLED, GCS_KILLED)
        unfired = [kind for kind in expected if not fired[kind]]
        partial = self._watch.partial if self._watch else []
        if self._watch:
            print(f"  {self._watch.judged:,} objects judged at kills, {len(partial)} of them partial")
        dead = sum(lane.parked for lane in self.lanes)
        lost = [what for lane in self.lanes for what in lane.wrongly_parked]
        for lane in self.lanes:
            lane.explain(differences)
        for what in [
            *(f"never fired: {kind}" for kind in unfired),
            *lost,
            *partial,
            *([] if drained else ["the queue was not drained"]),
        ]:
            print(f"DIVERGENCE: {what}")
        total = len(differences) + len(unfired) + len(lost) + len(partial) + (not drained)
        injected = sum(fired.values())
        print(
            f"storm: {objects:,} objects, {counts['events']:,} events, "
            f"{injected:,} faults of {len(ALL_FAULTS)} kinds, "
            f"{fired[HANDLER_KILLED]} handlers and {fired[GCS_KILLED]} servers killed, {dead} dead letters, "
            f"{len(differences)} differences, {len(lost)} lost events, {total} divergences",
            flush=True,
        )
        return total


@dataclass
class Lane:
    """S3, a queue, and the handler processes that it feeds."""

    number: int
    seed: int
    scale: Scale
    folder: Path
    gcs_port: int
    context: Any
    most: int = 0
    parked: int = 0
    wrongly_parked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.folder / f"lane-{self.number}"
        self.folder.mkdir()
        self._workers: dict[str, BaseProcess] = {}
        self._named: dict[str, str] = {}
        """How each worker that lives signs its deliveries."""
        self._births = 0
        self._asking = threading.Lock()
        self._foreign: dict[str, dict[str, dict[str, Any]]] = {}
        self.buckets = (
            Bucket(f"plain-{self.number}", f"copy-of-plain-{self.number}"),
            Bucket(f"tagged-{self.number}", f"copy-of-tagged-{self.number}", tagged=True),
            Bucket(f"noted-{self.number}", f"copy-of-noted-{self.number}", notifies=True),
        )

    def start(self, spawn: Any, gcs: Gcs) -> None:
        """Start everything, and put what somebody else has at the destination."""
        self._pipe, theirs = spawn.Pipe()
        arguments = (theirs, f"{self.seed} {self.number}", self.scale.s3_rate, self.folder.parent / "fired")
        self.aws = spawn.Process(target=serve_aws, args=arguments, daemon=True)
        self.aws.start()
        theirs.close()
        calm, troubled = self._pipe.recv()
        self._urls = f"http://127.0.0.1:{calm}", f"http://127.0.0.1:{troubled}"
        own: dict[str, Any] = {
            "region_name": "us-east-1",
            "aws_access_key_id": "storm",
            "aws_secret_access_key": "storm",
        }
        self._sqs: SQSClient = boto3.client("sqs", endpoint_url=self._urls[0], **own)
        self._queue, arn = self._make_queue("events")
        self._dead, _ = self._make_queue("dead-letters")
        self._arn = arn
        with closing(boto3.client("s3", endpoint_url=self._urls[0], **own)) as s3:
            for bucket in self.buckets:
                s3.create_bucket(Bucket=bucket.name)
                gcs.make_bucket(bucket.copy)
            events: list[Any] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*"]
            s3.put_bucket_notification_configuration(
                Bucket=self.buckets[2].name,
                NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": events}]},
            )
        scale = self.scale
        self.load = Load(
            seed=f"{self.seed} {self.number} load", port=calm, sqs=self._sqs, queue=self._queue, buckets=self.buckets,
            objects=scale.objects // 2, changes=scale.changes // 2, large=scale.large // 2, told_again=scale.told_again,
            pause=self._pause,
        )  # fmt: skip
        self._place_foreign(gcs)
        for number in range(scale.workers):
            self._give_birth(f"worker-{number}")

    def _make_queue(self, name: str) -> tuple[str, str]:
        url = self._sqs.create_queue(QueueName=f"{name}-{self.number}")["QueueUrl"]
        answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, answer["Attributes"]["QueueArn"]

    def _place_foreign(self, gcs: Gcs) -> None:
        """Names that the source never has, names that only deletes are told of, and names that it will have too."""
        for bucket in self.buckets:
            ours = [key.name for key in self.load.keys_of_all() if key.bucket == bucket.name][
                :: self.scale.objects // 60
            ]
            others = [f"foreign/{number}" for number in range(self.scale.foreign // 6)]
            found = {name: gcs.put(bucket.copy, name, f"somebody else's {name}".encode()) for name in (*ours, *others)}
            self._foreign[bucket.name] = found
            if not bucket.notifies:
                for name in others[::2]:
                    self.load.tell_removed(bucket.name, name)

    def _give_birth(self, name: str) -> None:
        self._births += 1
        rules = [
            {
                "ID": bucket.name,
                "Source": {"Bucket": bucket.name},
                "Destination": {
                    "Bucket": f"gs://{bucket.copy}",
                    "Tags": {"Status": "Enabled" if bucket.tagged else "Disabled"},
                },
            }
            for bucket in self.buckets
        ]
        calm, troubled = self._urls
        environment = {
            "REPLICATION_RULES": json.dumps(rules),
            "DEAD_LETTER_QUEUE_URL": self._dead,
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self.gcs_port}",
            "AWS_ENDPOINT_URL_S3": troubled,
            "AWS_ENDPOINT_URL_SQS": calm,
            "AWS_ACCESS_KEY_ID": "storm",
            "AWS_SECRET_ACCESS_KEY": "storm",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "CONCURRENCY": "12",
        }
        self._named[name] = f"{name}#{self._births}"
        arguments = (environment, (self._queue, self._arn), self.folder, self._named[name])
        process = self.context.Process(target=begin, args=arguments, daemon=True)
        process.start()
        self._workers[name] = process

    def hot_copies(self) -> list[Look]:
        """Return where the hot keys' copies are."""
        copies = {bucket.name: bucket.copy for bucket in self.buckets}
        return [Look(copies[key.bucket], key.name, partial(self.load.deleted_after, key)) for key in self.load.hot()]

    def kill_one(self, chance: random.Random) -> None:
        """SIGKILL one of the handlers, one that holds a batch if there is any; `revive` replaces it."""
        kill(self._workers[chance.choice(self.busy() or sorted(self._workers))])

    def busy(self) -> list[str]:
        """Return the handlers that hold a batch."""
        journal = self.folder / "deliveries"
        lines = journal.read_text().splitlines() if journal.exists() else []
        holds = {worker: sign == "+" for sign, worker, *_ in map(str.split, lines)}
        return sorted(name for name, signed in self._named.items() if holds.get(signed))

    def has(self, copy: str) -> bool:
        """Return True if a destination bucket is of this lane."""
        return copy in {bucket.copy for bucket in self.buckets}

    def ever(self, copy: str, name: str) -> set[str]:
        """Return the SHA-256 of every state that an object at the destination may have."""
        bucket = next(bucket for bucket in self.buckets if bucket.copy == copy)
        foreign = hashlib.sha256(f"somebody else's {name}".encode()).hexdigest()
        return self.load.ever[Key(bucket.name, name)] | {foreign}

    def revive(self) -> None:
        """Replace what died."""
        for name, process in list(self._workers.items()):
            if not process.is_alive():
                self._give_birth(name)

    def kill_all(self) -> None:
        """End all handlers, so that nothing is written any more."""
        for process in self._workers.values():
            kill(process)
        self._workers.clear()

    def stop(self) -> None:
        """End everything."""
        self.kill_all()
        kill(self.aws)
        self._sqs.close()
        self._pipe.close()

    def _ask(self, what: str, name: str) -> Any:
        with self._asking:
            self._pipe.send((what, name))
            return self._pipe.recv()

    def _outstanding(self) -> int:
        count: int = self._ask("unsettled", f"events-{self.number}")
        return count

    def _pause(self) -> None:
        while self._outstanding() > _OUTSTANDING:
            time.sleep(0.1)

    def drained(self) -> bool:
        """Wait until every message is settled; dead handlers are replaced."""
        end = time.monotonic() + _DRAIN_LIMIT
        while time.monotonic() < end:
            self.revive()
            if not self._outstanding():
                return True
            time.sleep(0.2)
        return False

    def differences(self, gcs: Gcs) -> Iterator[Difference]:
        """Compare all buckets, and look through the dead letters."""
        self._read_dead_letters()
        for bucket in self.buckets:
            source = self._ask("dump", bucket.name)
            put = {key.name for key in self.load.keys_of_all() if key.bucket == bucket.name}
            yield from compare(gcs, bucket, source, self._foreign[bucket.name], put)

    def _read_dead_letters(self) -> None:
        while True:
            batch = self._sqs.receive_message(
                QueueUrl=self._dead, MaxNumberOfMessages=10, VisibilityTimeout=600, MessageAttributeNames=["All"]
            ).get("Messages", [])
            if not batch:
                return
            for message in batch:
                self.parked += 1
                attribute = message.get("MessageAttributes", {}).get("Reason")
                reason = attribute.get("StringValue", "") if attribute else ""
                if reason not in _PARKED or (reason != "Malformed" and UNREPLICABLE not in message["Body"]):
                    self.wrongly_parked.append(f"parked as {reason!r}: {message['Body'][:300]}")

    def deliveries(self) -> Counter[str]:
        """Count what was delivered, and what again while the first to get it was still at work."""
        counts: Counter[str] = Counter()
        held: dict[str, set[str]] = {}
        times: Counter[str] = Counter()
        dead: set[str] = set()
        latest: dict[str, str] = {}
        for line in (self.folder / "deliveries").read_text().splitlines():
            sign, worker, *ids = line.split()
            name = worker.partition("#")[0]
            if latest.setdefault(name, worker) != worker:
                dead.add(latest[name])
                latest[name] = worker
            for message in ids:
                holders = held.setdefault(message, set())
                if sign == "-":
                    holders.discard(worker)
                    continue
                counts["deliveries"] += 1
                times[message] += 1
                counts[OVERLAP] += bool(holders - dead)
                holders.add(worker)
        self.most = max(times.values(), default=0)
        return counts

    def explain(self, differences: Sequence[Difference]) -> None:
        """Print what is known of each key that differs."""
        for each in differences:
            if each.bucket not in {bucket.name for bucket in self.buckets}:
                continue
            print(f"DIVERGENCE: {each.bucket}/{each.key!r} {each.what}")
            print(f"    at the source: {'; '.join(self.load.history[Key(each.bucket, each.key)])}")
            for log in sorted(self.folder.glob("*.log")):
                for line in log.read_text().splitlines():
                    if json.dumps(each.key) in line:
                        print(f"    {log.stem}: {line[:600]}")


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
