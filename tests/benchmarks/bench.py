"""Ours beside its peers on the same two servers, and the floor below all: `make bench`.

Every contestant copies the same objects, as whole processes, ten objects at once, through the same network; round by
round they take turns. A first round that is not timed warms the servers up and counts requests. After each run every
copy is compared with its original by size and CRC32C; a contestant that fails is reported with what it said.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import bench_machine, bench_report
from tests.benchmarks.bench_contestants import CONTESTANTS, OURS, Contestant, Task, environment
from tests.benchmarks.bench_fanout import fan_out
from tests.benchmarks.bench_measure import Meter, Usage
from tests.benchmarks.bench_servers import GCS, Clouds, Ground, Seaweed, Workload
from tests.benchmarks.relay import MB, PROFILES, Asked, Profile, slower
from tests.benchmarks.shim import MIB, ROOT

SMALL = Workload(name="small", count=1000, size=4096)
MEDIUM = Workload(name="medium", count=200, size=MIB)
LARGE = Workload(name="large", count=1, size=1024 * MIB)
EVENT = Workload(name="event", count=30, size=4096, note=", one by one")
FAN_OUT = Workload(name="fanout", count=1, size=1024 * MIB, note=" by fan-out")
WORKLOADS = {workload.name: workload for workload in (SMALL, MEDIUM, LARGE, EVENT, FAN_OUT)}
WARM = 10
"""Events before those that are measured: Python learns its types by eight calls."""
WORKERS = (1, 2, 4, 8)
WAN = ("lan", "us-east", "ocean")


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    runs: int
    concurrency: int
    rate: float
    """Bytes a second of one worker of the fan-out."""
    limit: float


@dataclass(frozen=True)
class Heat:
    """One contestant's run."""

    profile: Profile
    workload: Workload
    contestant: str
    round: int
    """0: not timed."""

    @property
    def kind(self) -> tuple[str, str, str]:
        """What its rounds have in common."""
        return self.profile.name, self.workload.name, self.contestant


def heats(
    profiles: Sequence[Profile], workloads: Sequence[Workload], names: Sequence[str], options: Options
) -> Iterator[Heat]:
    """Yield all runs in their order: of each kind of work round by round.

    Another contestant is first in each, and every second is backwards, so that nobody always comes after the same one.
    """
    for workload in workloads:
        if workload.name == FAN_OUT.name:
            profile = slower(PROFILES["lambda"], options.rate)
            for number in range(1, options.runs + 1):
                yield from (Heat(profile, workload, f"{workers} workers", number) for workers in WORKERS)
            continue
        for profile in profiles:
            for number in range(options.runs + 1):
                step = -1 if number % 2 else 1
                turned = [names[(number + step * place) % len(names)] for place in range(len(names))]
                yield from (Heat(profile, workload, name, number) for name in turned)


@dataclass
class Bench:
    """Runs heats, and keeps what came of them."""

    ground: Ground
    options: Options
    folder: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """What has failed twice is not tried again."""

    def run(self, heat: Heat) -> dict[str, Any] | None:
        """Run one heat; return what came of it, None where it was left out."""
        if self.failures[heat.kind] > 1:
            return None
        result: dict[str, Any] = {
            "profile": heat.profile.name,
            "workload": heat.workload.name,
            "contestant": heat.contestant,
            "round": heat.round,
        }
        try:
            result |= self._fan_out(heat) if heat.workload.name == FAN_OUT.name else self._contest(heat)
        except Exception as error:  # noqa: BLE001 - whatever fails is told, and the others go on
            said = f"{type(error).__name__}: {error}"
            result["error"] = said.replace(str(self.folder), "FOLDER").replace(str(ROOT), ".")
            self.failures[heat.kind] += 1
        self.results.append(result)
        return result

    def _contest(self, heat: Heat) -> dict[str, Any]:
        contestant, counted = CONTESTANTS[heat.contestant], not heat.round or heat.workload.name == EVENT.name
        with self.ground.clouds(heat.profile, counted=counted) as clouds, self._scratch() as scratch:
            before = self.ground.cpu(clouds)
            meter = Meter(environment(), self.options.limit)
            task = Task(
                clouds=clouds,
                workload=heat.workload,
                meter=meter,
                concurrency=self.options.concurrency,
                scratch=Path(scratch),
            )
            result: dict[str, Any] = {}
            with meter:
                if heat.workload.name == EVENT.name:
                    result |= _events(contestant, task)
                else:
                    contestant.copy(task)
            result |= self._told(heat, clouds, meter.usage, before)
            self.ground.verify(clouds, heat.workload.names())
            return result

    def _fan_out(self, heat: Heat) -> dict[str, Any]:
        workers = int(heat.contestant.split()[0])
        with self.ground.clouds(heat.profile, instances=workers) as clouds, self._scratch() as scratch:
            before = self.ground.cpu(clouds)
            with Meter(environment(), self.options.limit) as meter:
                took, invocations = fan_out(meter, clouds, heat.workload, Path(scratch))
            result = self._told(heat, clouds, meter.usage, before)
            self.ground.verify(clouds, heat.workload.names())
            return {**result, "wall": took, "invocations": invocations}

    def _told(self, heat: Heat, clouds: Clouds, usage: Usage, before: Mapping[str, float]) -> dict[str, Any]:
        after = self.ground.cpu(clouds)
        requests: Counter[str] = Counter()
        for relay in clouds.relays:
            requests.update(_kind(request) for request in relay.told().requests)
        return {
            "wall": usage.wall,
            "cpu": usage.cpu,
            "peak": usage.peak,
            "start": usage.start,
            "start_cpu": usage.start_cpu,
            "objects": heat.workload.count,
            "bytes": heat.workload.count * heat.workload.size,
            "requests": dict(requests) if clouds.relays and heat.workload.name != "event" else None,
            "servers": {name: after[name] - before[name] for name in after},
        }

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=self.folder, prefix="scratch-")


def _events(contestant: Contestant, task: Task) -> dict[str, Any]:
    """Copy one object after the other; milliseconds from each event until GCS had the copy, and until all was done."""
    (relay,) = task.clouds.relays
    visible: list[float] = []
    done: list[float] = []
    requests: Counter[str] = Counter()
    with contestant.events(task) as event_of:
        for number, item in enumerate(task.items):
            event = event_of(item)
            relay.told()
            began = time.monotonic()
            event()
            ended = time.monotonic()
            told = relay.told().requests
            if number >= WARM:
                writes = [request.answered for request in told if request.way == GCS and _writes(request)]
                visible.append((max(writes, default=ended) - began) * 1000)
                done.append((ended - began) * 1000)
                requests.update(_kind(request) for request in told)
    return {"visible": visible, "done": done, "event_requests": dict(requests), "events": len(done)}


def _writes(request: Asked) -> bool:
    return request.method in {"POST", "PUT"}


def _kind(request: Asked) -> str:
    return f"{'GCS' if request.way == GCS else 'S3'} {request.method}"


class Clock:
    """Tells how long the rest will take, from what the like of it took."""

    def __init__(self, plan: Sequence[Heat]) -> None:
        self._left = list(plan)
        self._took: dict[tuple[str, ...], list[float]] = {}

    def took(self, heat: Heat, seconds: float) -> float:
        """Note what a heat took; return the seconds that are left, roughly."""
        self._left.remove(heat)
        for like in (heat.kind, heat.kind[:2], heat.kind[1:2], ()):
            self._took.setdefault(like, []).append(seconds)
        return sum(self._expected(other) for other in self._left)

    def _expected(self, heat: Heat) -> float:
        for like in (heat.kind, heat.kind[:2], heat.kind[1:2], ()):
            if like in self._took:
                return sum(self._took[like]) / len(self._took[like])
        return 0.0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench", description=(__doc__ or "").partition("\n")[0]
    )
    add = result.add_argument
    add("--runs", type=int, default=5, help="timed rounds, besides one that is not (default: %(default)s)")
    add("--only", action="append", choices=[*CONTESTANTS], help="a contestant; may be given again (default: all)")
    add("--profile", action="append", choices=[*PROFILES], help="a network; may be given again (default: all)")
    add("--workload", action="append", choices=[*WORKLOADS], help="may be given again (default: all)")
    add("--scale", type=float, default=1.0, help="so much of each workload (default: %(default)s)")
    add("--concurrency", type=int, default=10, help="objects at once (default: %(default)s)")
    add("--worker-rate", type=float, default=20.0, help="MB/s of a worker of the fan-out (default: %(default)s)")
    add("--tls", action="store_true", help="let a new connection cost TLS's round trip as well")
    add("--limit", type=float, default=1800.0, help="seconds that one run may take (default: %(default)s)")
    add("--folder", type=Path, default=_memory(), help="where the servers store (default: %(default)s)")
    add("--out", type=Path, help="folder for performance.json, .md and .svg (default: none is written)")
    add("--join", type=Path, help="a performance.json: what is not measured now is taken from there")
    add("--report", type=Path, help="measure nothing: write .md and .svg anew from that performance.json")
    return result


def _memory() -> Path:
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    asked = parser().parse_args(arguments)
    if asked.report:
        bench_report.write(json.loads(asked.report.read_text()), asked.out or asked.report.parent)
        return 0
    options = Options(asked.runs, asked.concurrency, asked.worker_rate * MB, asked.limit)
    names = asked.only or [*CONTESTANTS]
    absent = {name: why for name in names if (why := CONTESTANTS[name].missing())}
    for name, why in absent.items():
        print(f"{name}: left out, {why}")
    names = [name for name in names if name not in absent]
    profiles = [_with_tls(PROFILES[name], tls=asked.tls) for name in asked.profile or WAN]
    workloads = [_scaled(WORKLOADS[name], asked.scale) for name in asked.workload or WORKLOADS]
    plan = list(heats(profiles, workloads, names, options))
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="bench-") as folder:
        results = _run_all(plan, workloads, options, Path(folder))
    document = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": f"python -m tests.benchmarks.bench {shlex.join(arguments or sys.argv[1:])}".strip(),
        "machine": bench_machine.describe(),
        "versions": bench_machine.versions(),
        "options": {
            "runs": asked.runs,
            "concurrency": asked.concurrency,
            "scale": asked.scale,
            "worker_rate": options.rate,
            "tls": asked.tls,
        },
        "workloads": {w.name: {"title": w.title, "count": w.count, "size": w.size} for w in workloads},
        "profiles": {p.name: {"s3": p.s3, "gcs": p.gcs} for p in profiles},
        "contestants": {name: CONTESTANTS[name].note for name in names},
        "rows": bench_report.medians(results),
    }
    if asked.join:
        document = bench_report.joined(json.loads(asked.join.read_text()), document)
    print(bench_report.table(document))
    if asked.out:
        bench_report.write(document, asked.out)
    return 1 if any(result["contestant"] == OURS and "error" in result for result in results) else 0


def _scaled(workload: Workload, scale: float) -> Workload:
    if workload.name == EVENT.name:
        return workload
    if workload.name == FAN_OUT.name:
        scale = max(scale, 0.25)  # no less is huge
    return workload.scaled(scale)


def _with_tls(profile: Profile, *, tls: bool) -> Profile:
    return Profile(**{**profile.__dict__, "tls": tls})


def _run_all(
    plan: Sequence[Heat], workloads: Sequence[Workload], options: Options, folder: Path
) -> list[dict[str, Any]]:
    clock = Clock(plan)
    with Seaweed(folder) as seaweed:
        bench = Bench(Ground(folder, seaweed), options, folder)
        for workload in workloads:
            print(f"loading {workload.count} x {workload.size:,} bytes", flush=True)
            seaweed.load(workload, bench.ground.stored)
        for number, heat in enumerate(plan, 1):
            began = time.monotonic()
            result = bench.run(heat)
            left = clock.took(heat, time.monotonic() - began)
            if result is not None:
                print(f"[{number}/{len(plan)}, {left / 60:.0f} min left] {_line(heat, result)}", flush=True)
        return bench.results


def _line(heat: Heat, result: Mapping[str, Any]) -> str:
    name = f"{heat.workload.name} {heat.profile.name} {heat.contestant} round {heat.round}"
    if "error" in result:
        return f"{name}: FAILED: {result['error']}"
    servers = ", ".join(f"{server} {cpu:.1f}" for server, cpu in result["servers"].items())
    own = f"{result['wall']:.2f} s, CPU {result['cpu']:.2f} s, {result['peak'] / MIB:.0f} MiB"
    return f"{name}: {own}; servers' CPU: {servers}"


if __name__ == "__main__":
    sys.exit(main())
