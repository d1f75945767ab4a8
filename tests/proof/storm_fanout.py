"""The storm's option of one huge object: SIGKILL of the instances that copy it by fan-out (`make fanout-kills`).

S3 (moto), GCS (the local server) and each instance are processes of their own. Instances that work are killed at random
moments, and once more when all parts are there, with what composes them. A killed span's message comes again at once,
and a new instance takes the dead one's place; the event comes again when nothing else is under way, as its visibility
timeout is six times the function's. In the end the copy must be equal and alone in its bucket, the queue empty, and no
byte of a span read more often than once and once more for each instance that was killed with the span.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from handler.core.model import Span
from handler.core.plan import SPAN
from tests.benchmarks import bench_contestants as contestants
from tests.benchmarks.bench_fanout import THRESHOLD, message_queue
from tests.benchmarks.bench_measure import Meter, Session
from tests.benchmarks.bench_servers import TARGET, copies
from tests.benchmarks.huge import Body
from tests.benchmarks.shim import MIB, Shim
from tests.proof.storm_instances import Death, Mortal, s3_with

KEY = "huge.bin"
LATE = 2
"""Kills at most, besides those asked for, once all parts are there."""
_CODE = re.compile(r'"outcome":"failed","code":"(\w+)"')


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to copy, and how often to kill."""

    size: int = 1100 * MIB
    kills: int = 20
    workers: int = 4
    rate: int = 4 * MIB
    """Bytes a second of one instance."""
    seed: int = 1

    @property
    def spans(self) -> int:
        """How many messages there are."""
        return -(-self.size // SPAN)

    @property
    def pause(self) -> float:
        """Seconds from kill to kill: all are over when the object would be, were no span read again."""
        return self.size / (self.workers * self.rate) / self.kills


@dataclass(kw_only=True)
class Report:
    """What was done, and what was found wrong."""

    plan: Plan
    deaths: list[Death] = field(default_factory=list)
    too_late: int = 0
    invocations: int = 0
    reads: list[Span] = field(default_factory=list)
    """Ranged GETs, as S3 saw them."""
    codes: Counter[str] = field(default_factory=Counter)
    """Of what the function said had failed."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        deaths = Counter(death.at for death in self.deaths)
        told = ", ".join(f"{count} {code}" for code, count in sorted(self.codes.items()))
        again = sum(read.size for read in self.reads) - self.plan.size
        whole = f"{self.plan.size / MIB:,.0f} MiB in {self.plan.spans} spans"
        lines = [
            f"seed                 {self.plan.seed}",
            f"killed under way     {len(self.deaths)}: "
            + ", ".join(f"{count} {at}" for at, count in sorted(deaths.items())),
            f"killed too late      {self.too_late}, not counted: they had answered",
            f"invocations          {self.invocations}, failed as told by themselves: {told or 'none'}",
            f"read from S3         {whole}, and {again / MIB:,.0f} MiB again, by {len(self.reads)} ranged GETs in all",
            f"seconds              {self.seconds:.0f}",
            *self.wrong,
        ]
        verdict = "FAILED" if self.wrong else "passed: equal, nothing beside it, nothing but killed spans read again"
        return "\n".join([*lines, f"fanout-kills: {len(self.deaths)} of {self.plan.kills}, {verdict}"])


class Reaper:
    """Kills as often as is asked for, and what composes besides; whenever it looks, a copy must be whole."""

    def __init__(self, plan: Plan, mapping: Mortal, gcs: str, whole: tuple[int, str]) -> None:
        self._plan, self._mapping, self._gcs, self._whole = plan, mapping, gcs, whole
        self._chance = random.Random(plan.seed)  # noqa: S311 - to be repeatable
        self.over = threading.Event()
        self.wrong: list[str] = []

    def work(self, say: Callable[[str], None]) -> None:
        """Kill until it was often enough, or all is over. The first falls to the event, or soon after."""
        began, pause = time.monotonic(), self._chance.uniform(0.0, 0.5)
        while self._mapping.kills < self._plan.kills and not self.over.wait(pause):
            self._mapping.kill(self._chance)
            kills, share = f"{self._mapping.kills} of {self._plan.kills} kills", self._staged() / self._plan.size
            say(f"{time.monotonic() - began:6.1f} s: {kills}, {share:4.0%} staged")
            pause = self._chance.uniform(0.0, 2 * self._plan.pause)
        for _ in range(LATE):
            while not self.over.wait(self._chance.uniform(0.0, 0.05)):
                if self._staged() >= self._plan.size and self._mapping.kill(self._chance, "with all parts there"):
                    break

    def _staged(self) -> int:
        """Return how many bytes there are beside the copy."""
        found = dict(copies(self._gcs))
        if (copy := found.pop(KEY, self._whole)) != self._whole:
            self.wrong.append(f"the copy was seen as {copy}")
        return sum(size for size, _ in found.values())


def storm(kills: int, seed: int) -> int:
    """Copy one object of 1,100 MiB while instances are killed; print what came of it, and return what was wrong."""
    with tempfile.TemporaryDirectory(prefix="fan-out-") as folder:
        report = run(Plan(kills=kills, seed=seed), Path(folder), lambda line: print(line, flush=True))
    print(report)
    return len(report.wrong)


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda line: None) -> Report:
    """Copy an object while instances are killed, and compare."""
    began, body, report = time.monotonic(), Body(plan.size), Report(plan=plan)
    with (
        s3_with(KEY, body, folder) as (s3, reads),
        Shim(folder / "gcs", TARGET) as shim,
        message_queue() as (sqs, url),
        Meter(contestants.environment()) as meter,
        ThreadPoolExecutor(plan.workers) as threads,
    ):
        variables = {
            **contestants.function_environment(s3, shim.url),
            "AWS_ENDPOINT_URL_SQS": "http://" + urlsplit(url).netloc,
            "PARTS_QUEUE_URL": url,
            "FAN_OUT_THRESHOLD": str(THRESHOLD),
            "BANDWIDTH_LIMIT": str(plan.rate),
        }
        numbers = itertools.count()

        def start(_: object = None) -> Session:
            return Session(meter, contestants.FUNCTION, variables, folder / f"errors-{next(numbers)}")

        mapping = Mortal(
            sqs=sqs,
            url=url,
            instances=list(threads.map(start, range(plan.workers))),
            start=start,
            bury=lambda session: meter.wait(session.process),
        )
        reaper = Reaper(plan, mapping, shim.url, (plan.size, body.crc32c()))
        sqs.send_message(QueueUrl=url, MessageBody=contestants.notification(KEY, plan.size))
        killing = threads.submit(reaper.work, say)
        try:
            mapping.deliver()
        finally:
            reaper.over.set()
        killing.result()
        while not mapping.idle.empty():
            mapping.idle.get().end()
        report.deaths, report.too_late, report.invocations = mapping.deaths, mapping.too_late, mapping.invocations
        report.reads = reads()
        report.wrong = [*reaper.wrong, *_left_wrong(shim.url, body, mapping.left()), *_done_wrong(report)]
    for file in folder.glob("errors-*"):
        report.codes.update(_CODE.findall(file.read_text()))
    report.seconds = time.monotonic() - began
    return report


def _left_wrong(gcs: str, body: Body, messages: int) -> Iterator[str]:
    """Say what of that which is left is wrong."""
    found, whole = dict(copies(gcs)), (body.size, body.crc32c())
    if (copy := found.pop(KEY, None)) != whole:
        yield f"the copy is {copy}, S3 holds {whole}"
    else:
        where = f"{gcs}/storage/v1/b/{TARGET}/o/{quote(KEY, safe='')}?alt=media"
        with urllib.request.urlopen(where, timeout=60) as answer:
            if _sha256(iter(lambda: answer.read(MIB), b"")) != _sha256(body.pieces(0, body.size)):
                yield "the copy has other bytes"
    if found:
        yield f"{len(found)} objects are left beside the copy: {sorted(found)[:3]}"
    if messages:
        yield f"{messages} messages are left in the queue"


def _done_wrong(report: Report) -> Iterator[str]:
    """Say what of that which was done is wrong."""
    killed = Counter(death.span for death in report.deaths)
    for span, count in _depths(report.reads).items():
        if count > 1 + killed[span]:
            yield f"bytes of span {span} were read {count} times, and {killed[span]} instances were killed with it"
    if len(report.deaths) < report.plan.kills:
        yield f"there was time for {len(report.deaths)} of {report.plan.kills} kills only"


def _depths(reads: Sequence[Span]) -> dict[int, int]:
    """Return, for each span, how often that of its bytes was read which was read most often."""
    depths: dict[int, int] = {}
    depth = 0
    for at, step in sorted([(read.start, 1) for read in reads] + [(read.stop, -1) for read in reads]):
        depth += step
        if step > 0:
            depths[at // SPAN] = max(depth, depths.get(at // SPAN, 0))
    return depths


def _sha256(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
