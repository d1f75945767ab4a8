"""Cold starts under AWS's Runtime Interface Emulator: `make bench-cold`, and `make package-report` with sizes.

What AWS bills and a user waits for is init plus the first invocation. On AWS's machines the figures differ; what holds
is their proportion, hence the trivial handler beside ours. Each run is a new process; the kinds take turns, so that a
busy moment of the machine hits all of them; the processor's own time is what a busy machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.functional.rie import ARTIFACT, ROOT, RUNTIME, Rie, Start, missing

LIMIT = 18_000_000
TRIVIAL = "def lambda_handler(event, context):\n    return None\n"
RULES = [{"ID": "cold", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "file:///tmp"}}]
EVENT = json.loads((ROOT / "events/s3-test-event.json").read_text())


@contextmanager
def kinds() -> Iterator[dict[str, tuple[Path, str]]]:
    """The artifacts compared, and their entries."""
    with tempfile.TemporaryDirectory() as folder:
        trivial, bare = Path(folder, "trivial"), Path(folder, "bare")
        trivial.mkdir()
        (trivial / "trivial.py").write_text(TRIVIAL)
        found = {"trivial": (trivial, "trivial.lambda_handler"), "ours": (ARTIFACT, "handler.app.lambda_handler")}
        if any(ARTIFACT.glob("boto3/*.pyc")):
            without_byte_code(bare)
            found["ours without byte code"] = (bare, "handler.app.lambda_handler")
        yield found


def without_byte_code(folder: Path) -> None:
    """Put the same modules there as their sources, by the same recipe without an interpreter to compile with."""
    version = os.popen(f"{RUNTIME / 'python'} -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").read().strip()  # noqa: S605 - our own link
    machine = {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    make = f"make -s -C {ROOT / 'handler'} build-ReplicatorFunction ARTIFACTS_DIR={folder} ARCHITECTURE={machine}"
    folder.mkdir()
    if os.system(f"{make} PYTHON={sys.executable} PYTHON_VERSION={version} TARGET_PYTHON= >/dev/null 2>&1"):  # noqa: S605 - our own recipe
        raise SystemExit("the artifact without byte code could not be built")


def measure(artifact: Path, handler: str) -> Start:
    """Start once, with an event that changes nothing."""
    with Rie(artifact, handler, {"REPLICATION_RULES": json.dumps(RULES)}) as function:
        answer = function.invoke(EVENT)
        if answer is not None:
            raise SystemExit(f"{handler} answered {answer}")
        return function.started()


def sizes(artifact: Path) -> int:
    """Print what the artifact takes, and return its zipped size."""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder, "function.zip")
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(artifact.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(artifact))
        zipped, parts = name.stat().st_size, dict[str, int]()
        with zipfile.ZipFile(name) as archive:
            for item in archive.infolist():
                top = item.filename.partition("/")[0]
                parts[top] = parts.get(top, 0) + item.compress_size
        files = [file for file in artifact.rglob("*") if file.is_file()]
    whole = sum(file.stat().st_size for file in files)
    print(
        f"{artifact}: {len(files)} files, {whole / 1e6:.1f} MB, zipped {zipped / 1e6:.2f} MB (limit {LIMIT / 1e6:.0f})"
    )
    for top, size in sorted(parts.items(), key=lambda part: -part[1])[:10]:
        print(f"  {size / 1e3:8.0f} kB  {top}")
    return zipped


def main() -> int:
    """Run the program; 1 where the artifact is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cold_start", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="cold starts of each kind")
    parser.add_argument("--sizes", type=Path, help="an artifact whose sizes to print first")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    within = not options.sizes or sizes(options.sizes) <= LIMIT
    with kinds() as found:
        runs: dict[str, list[Start]] = {name: [] for name in found}
        for _ in range(options.runs):
            for name, kind in found.items():
                runs[name].append(measure(*kind))
    python = os.path.basename(os.path.realpath(RUNTIME / "python"))  # noqa: PTH119 - of a link's end
    print(f"Cold starts, milliseconds, medians of {options.runs} ({python}, {os.cpu_count()} processors)")
    print(f"{'':24}{'median':>8}{'least':>8}{'most':>8}{'processor':>12}")
    for name, starts in runs.items():
        waited = sorted(start.waited for start in starts)
        processor = statistics.median(start.processor for start in starts)
        print(f"{name:24}{statistics.median(waited):8.0f}{waited[0]:8.0f}{waited[-1]:8.0f}{processor:12.0f}")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
