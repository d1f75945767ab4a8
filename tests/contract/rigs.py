"""The destinations that the contract is proved on. Adding one is one line in `RIGS`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from handler.adapters.folder.destination import FolderDestination
from handler.adapters.folder.names import STATE, aside_path, natural_path
from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.adapters.gcs.official import OfficialObjects
from handler.core.model import Generation, Replica, Stamp
from handler.core.ports import Composer, Destination, Reader
from tests.fakes import MemoryDestination
from tests.witness.known import ADDED

Kind = Callable[..., GcsDestination]
"""Makes the adapter, for a client and a bucket."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """One destination, and what a test needs beside the port."""

    destination: Destination
    read: Callable[[str], bytes]
    """The bytes at a key, by another way than the adapter's."""
    foreign: Callable[[str, bytes], object]
    """Puts an object as another tool would."""
    litter: Callable[[], set[str]]
    """Whatever lies about that belongs to no object."""
    opener: Callable[[], Destination] | None = None
    """Opens the same place from another process, where that can be done; picklable."""
    composer: Composer | None = None
    locks: str = "none"
    """Whether it keeps locks: "none" of them, "kept" beside the copy only, or "enforced"."""
    forbidden: frozenset[str] = field(default_factory=frozenset)
    """Names that this destination has no room for: refused, and never mangled."""


@contextmanager
def _memory(_request: pytest.FixtureRequest, _folder: Path) -> Iterator[Rig]:
    destination = MemoryDestination()
    yield Rig(
        destination=destination,
        read=destination.data,
        foreign=destination.foreign,
        litter=set,
        composer=destination,
        locks="enforced",
    )


@contextmanager
def _folder(_request: pytest.FixtureRequest, folder: Path) -> Iterator[Rig]:
    root = folder / "copies"

    def path(key: str) -> Path:
        aside = root / aside_path(key)
        return aside if aside.is_file() else root / natural_path(key)

    def foreign(key: str, data: bytes) -> None:
        path(key).parent.mkdir(parents=True, exist_ok=True)
        path(key).write_bytes(data)

    yield Rig(
        destination=FolderDestination(root),
        read=lambda key: path(key).read_bytes(),
        foreign=foreign,
        litter=lambda: {str(left) for left in (root / STATE / "tmp").glob("*")},
        opener=partial(FolderDestination, root),
        locks="kept",
    )


@contextmanager
def _shim(request: pytest.FixtureRequest, _folder: Path, kind: Kind = GcsDestination) -> Iterator[Rig]:
    server = request.getfixturevalue("gcs_server")
    name = f"contract-{uuid.uuid4().hex}"
    blobs = Path(server.folder) / ".gcs" / "blobs"
    before = set(blobs.glob("*/*"))

    def litter(client: storage.Client) -> set[str]:
        """More bytes than objects."""
        left = {str(path) for path in set(blobs.glob("*/*")) - before}
        return left if len(left) > len(list(client.list_blobs(name))) else set()

    for rig in _gcs(server.url, name, litter, kind):
        yield replace(rig, locks="enforced")


OfficialDestination = partial(GcsDestination, objects=OfficialObjects)
"""By Google's own client."""


class OverTestbench(GcsDestination):
    """Overlooks the custom metadata that storage-testbench adds to every object."""

    def head(self, key: str) -> Replica:
        return _without_added(super().head(key))

    def put(self, key: str, body: Reader, stamp: Stamp, *, expect: Generation) -> Replica:
        return _without_added(super().put(key, body, stamp, expect=expect))

    def patch(self, key: str, stamp: Stamp, *, expect: Generation) -> Replica:
        return _without_added(super().patch(key, stamp, expect=expect))

    def compose(self, key: str, parts: Sequence[str], stamp: Stamp, *, expect: Generation) -> Replica:
        return _without_added(super().compose(key, parts, stamp, expect=expect))

    def scan(self, prefix: str, *, start: str = "", stop: str = "") -> Iterator[tuple[str, Replica]]:
        found = super().scan(prefix, start=start, stop=stop)
        return ((name, _without_added(replica)) for name, replica in found)


def _without_added(replica: Replica) -> Replica:
    metadata = {name: value for name, value in replica.stamp.metadata.items() if not name.startswith(ADDED)}
    return replace(replica, stamp=replace(replica.stamp, metadata=metadata))


@contextmanager
def _server(request: pytest.FixtureRequest, _folder: Path) -> Iterator[Rig]:
    kind = OverTestbench if request.config.getoption("--gcs-server") == "storage-testbench" else GcsDestination
    yield from _gcs(request.config.getoption("--gcs-url"), f"contract-{uuid.uuid4().hex}", kind=kind)


@contextmanager
def _official(request: pytest.FixtureRequest, folder: Path) -> Iterator[Rig]:
    with _shim(request, folder, OfficialDestination) as rig:
        yield rig


@contextmanager
def _live(request: pytest.FixtureRequest, _folder: Path) -> Iterator[Rig]:
    yield from _gcs(None, request.config.getoption("--gcs-bucket"))


def _open_gcs(url: str | None, bucket: str, kind: Kind) -> Composer:
    """Open a bucket, from any process."""
    with pytest.MonkeyPatch.context() as patch:
        if url is not None:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
        return kind(connect(), bucket, sleep=lambda _seconds: None)


def _independent(url: str | None) -> storage.Client:
    """Google's own client, which shares nothing with the adapter."""
    if url is None:
        return storage.Client(project="-")
    return storage.Client(project="-", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


def _gcs(
    url: str | None,
    name: str,
    litter: Callable[[storage.Client], set[str]] = lambda _: set(),
    kind: Kind = GcsDestination,
) -> Iterator[Rig]:
    client = _independent(url)
    bucket = client.bucket(name) if url is None else client.create_bucket(name, enable_object_retention=True)
    for blob in client.list_blobs(name):
        blob.delete()

    def read(key: str) -> bytes:
        address = f"{client.api_endpoint}/storage/v1/b/{name}/o/{quote(key, safe='')}"
        with client._http.get(
            address, params={"alt": "media"}, headers={"Accept-Encoding": "gzip"}, stream=True
        ) as answer:
            answer.raise_for_status()
            return bytes(answer.raw.read(decode_content=False))

    destination = _open_gcs(url, name, kind)
    yield Rig(
        destination=destination,
        read=read,
        foreign=lambda key, data: bucket.blob(key).upload_from_string(data, "text/plain"),
        litter=partial(litter, client),
        opener=partial(_open_gcs, url, name, kind),
        composer=destination,
        forbidden=frozenset({".", "..", "line\nbreak", "carriage\rreturn", ".well-known/acme-challenge/token"}),
    )
    client.close()


RIGS: Mapping[str, Callable[[pytest.FixtureRequest, Path], AbstractContextManager[Rig]]] = {
    "memory": _memory,
    "folder": _folder,
    "gcs-shim": _shim,
    "gcs-official": _official,
    "gcs-url": _server,
    "gcs-bucket": _live,
}
ON_REQUEST = {"gcs-url", "gcs-bucket"}
"""Rigs that are there only if the flag of that name is given; pytest's header says which are not."""
