"""What is visible right after the storm's kills: each object must be whole, and of a state that its name has ever had.

It is judged by its bytes on the disk and by those that the GCS server answers with, against all that was ever put.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.proof.storm_compare import Gcs


@dataclass
class Watch:
    """Judges all that is visible, when it is asked to.

    Args:
        port: the GCS server's.
        folder: where the GCS server stores.
        ever: returns the SHA-256 of every state that a name in a bucket may have.
        buckets: the destinations.
    """

    port: int
    folder: Path
    ever: Callable[[str, str], set[str]]
    buckets: tuple[str, ...]
    judged: int = 0
    partial: list[str] = field(default_factory=list)

    def look_at_disk(self) -> None:
        """Judge the files, with the server alive or not."""
        for bucket in self.buckets:
            for path in (self.folder / bucket).rglob("*"):
                if path.is_file() and ".gcs" not in path.parts:
                    self._judge(bucket, path.relative_to(self.folder / bucket).as_posix(), path.read_bytes, "on disk")

    def look_by_api(self) -> None:
        """Judge what the server lists, each at the generation that was listed, unless it is replaced meanwhile."""
        with closing(Gcs(self.port, self.folder)) as gcs:
            for bucket in self.buckets:
                for resource in gcs.objects(bucket):
                    self._judge(bucket, resource["name"], lambda of=(bucket, resource): _read(gcs, *of), "by the API")  # type: ignore[misc] # mypy has no defaults of lambdas

    def _judge(self, bucket: str, name: str, read: Callable[[], bytes], where: str) -> None:
        try:
            data = read()
        except (FileNotFoundError, LookupError):
            return  # replaced or deleted since
        self.judged += 1
        if hashlib.sha256(data).hexdigest() not in self.ever(bucket, name):
            self.partial.append(f"{bucket}/{name!r} is {where} as {len(data):,} bytes that nobody ever put")


def _read(gcs: Gcs, bucket: str, resource: dict[str, str]) -> bytes:
    where = f"/storage/v1/b/{bucket}/o/{quote(resource['name'], safe='')}?alt=media"
    data = gcs.find(f"{where}&generation={resource['generation']}")
    if data is None:
        raise LookupError(resource["name"])
    return data if len(data) == int(resource["size"]) else data + b" of another size than is listed"
