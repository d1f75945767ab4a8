"""The two clouds on loopback: seaweedfs as S3, the local server as GCS, both through a relay where a profile asks."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import boto3
import google_crc32c
from botocore.config import Config

from tests.benchmarks.bench_measure import Failed, cpu_of
from tests.benchmarks.relay import Profile, Relay, ways
from tests.benchmarks.shim import MIB, ROOT, Shim

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3.client import S3Client

VENV = ROOT / ".venv-bench" / "bin"
SOURCE, TARGET = "bench-source", "bench-copies"
_PATIENCE = 60.0
_UNITS = ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB"), (1, "B"))
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port", "s3.port.grpc"),
)
S3, GCS = 0, 1
"""The relay's two ways."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Objects of one size, or one."""

    name: str
    count: int
    size: int
    note: str = ""

    @property
    def title(self) -> str:
        """As it stands in the table."""
        unit, name = next((unit, name) for unit, name in _UNITS if self.size >= unit)
        return f"{self.count:,} x {self.size / unit:g} {name}{self.note}"

    @property
    def prefix(self) -> str:
        """What its keys begin with."""
        return f"{self.name}/"

    def names(self) -> list[str]:
        """Return its keys."""
        return [f"{self.prefix}{number:06d}.bin" for number in range(self.count)]

    def scaled(self, scale: float) -> Workload:
        """Return it with fewer objects; the only one of a workload gets smaller in place of that."""
        if self.count > 1:
            return replace(self, count=max(10, round(self.count * scale)))
        return replace(self, size=max(MIB, round(self.size * scale / MIB) * MIB))


@dataclass
class Stored:
    """What S3 holds, by workload and key."""

    checksums: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Size and CRC32C as GCS writes it."""


class Seaweed:
    """`weed server` on free ports, while the `with` block lasts."""

    url: str
    client: S3Client

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        (self._folder / "s3").mkdir(parents=True)
        with (self._folder / "weed.log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    str(VENV / "weed"),
                    "server",
                    f"-dir={self._folder / 's3'}",
                    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false", "-volume.max=50"),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
                    *("-master.volumeSizeLimitMB=4096", "-volume.minFreeSpace=1"),
                    *(f"-{name}={port}" for name, port in ports.items()),
                ],
                stdout=log,
                stderr=log,
                env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            )
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
            config=Config(max_pool_connections=10, retries={"total_max_attempts": 10}),
        )
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.client.create_bucket(Bucket=SOURCE)
                return self
            except Exception as error:
                if time.monotonic() > until or self.process.poll() is not None:
                    self.process.kill()
                    raise RuntimeError((self._folder / "weed.log").read_text()[-2000:]) from error
                time.sleep(0.5)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def load(self, workload: Workload, stored: Stored) -> None:
        """Put a workload's objects, by one request each, so that S3 keeps a checksum of the whole."""
        with ThreadPoolExecutor(4) as threads:
            for key, told in threads.map(lambda key: (key, self._put(key, workload.size)), workload.names()):
                stored.checksums[key] = told

    def _put(self, key: str, size: int) -> tuple[int, str]:
        seed = random.Random(key)  # noqa: S311 - bytes, not a secret
        block, checksum = seed.randbytes(min(size, MIB)), google_crc32c.Checksum()
        file = self._folder / key.replace("/", "_")
        with file.open("w+b") as body:
            for number in range(-(-size // MIB)):
                piece = (number.to_bytes(8, "big") + block[8:])[: size - number * MIB]
                checksum.update(piece)
                body.write(piece)
            body.seek(0)
            self.client.put_object(Bucket=SOURCE, Key=key, Body=body, ContentType="application/octet-stream")
        file.unlink()
        return size, base64.b64encode(checksum.digest()).decode()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """One run's servers, as a contestant sees them, and GCS as it is."""

    s3: str
    gcs: str
    """URLs, without a slash at the end; a relay's where there is one."""
    direct: str
    """GCS's own."""
    relays: Sequence[Relay]
    """One for each function instance; none where the profile is free and nothing is counted."""


class Ground:
    """Where all runs take place: S3, and a GCS that is new for each run.

    Args:
        folder: for all that is stored; it should be in memory, as no disk is to be measured.
    """

    def __init__(self, folder: Path, seaweed: Seaweed) -> None:
        self._folder = folder
        self.seaweed = seaweed
        self.stored = Stored()
        self._shim = Shim(folder / "gcs", TARGET)

    @contextmanager
    def clouds(self, profile: Profile, *, counted: bool = True, instances: int = 1) -> Iterator[Clouds]:
        """Run both clouds under a profile, nothing copied yet."""
        shutil.rmtree(self._folder / "gcs", ignore_errors=True)
        with ExitStack() as stack:
            shim = stack.enter_context(self._shim)
            sides = urlsplit(self.seaweed.url).netloc, urlsplit(shim.url).netloc
            relays = [
                stack.enter_context(Relay(ways(profile, *sides)))
                for _ in range(instances if counted or not profile.is_free else 0)
            ]
            yield Clouds(
                s3=relays[0].urls[S3] if relays else self.seaweed.url,
                gcs=relays[0].urls[GCS] if relays else shim.url,
                direct=shim.url,
                relays=relays,
            )
        shutil.rmtree(self._folder / "gcs", ignore_errors=True)

    def cpu(self, clouds: Clouds) -> dict[str, float]:
        """Return the CPU seconds of each server so far."""
        return {
            "S3": cpu_of(self.seaweed.process.pid),
            "GCS": cpu_of(self._shim.process.pid),
            "relay": sum(cpu_of(relay.process.pid) for relay in clouds.relays),
        }

    def verify(self, clouds: Clouds, keys: Sequence[str]) -> None:
        """Compare what is stored with what S3 holds.

        Raises:
            Failed: something is missing, or other than in S3.
        """
        found = copies(clouds.direct)
        expected = {key: self.stored.checksums[key] for key in keys}
        wrong = [key for key in keys if found.get(key) != expected[key]]
        if wrong:
            missing = sum(key not in found for key in wrong)
            raise Failed(f"{len(wrong)} of {len(keys)} copies are not equal, {missing} of them missing")


def copies(url: str) -> Mapping[str, tuple[int, str]]:
    """Return size and CRC32C of all that GCS holds, by name."""
    found: dict[str, tuple[int, str]] = {}
    page = ""
    while True:
        where = f"{url}/storage/v1/b/{TARGET}/o?fields=nextPageToken,items(name,size,crc32c)&pageToken={page}"
        with urllib.request.urlopen(where, timeout=60) as answer:
            document = json.load(answer)
        found |= {item["name"]: (int(item["size"]), item["crc32c"]) for item in document.get("items", [])}
        page = document.get("nextPageToken", "")
        if not page:
            return found
