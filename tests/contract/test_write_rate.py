"""One change a second of a name, by the memory fake and by GCS over the local server: both count alike.

Google's words: an object is updated once a second at most, its metadata too, and what is faster is answered 429
(https://cloud.google.com/storage/quotas). Metadata do not lag: what a change was answered for, the next read shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from handler.adapters.gcs.client import connect
from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import Moved, Refused, Unavailable
from handler.core.model import ABSENT, Replica, Stamp
from handler.core.ports import Composer
from local_emulator.gcs import GcsServer
from tests.contract.test_destination import NOON, OTHER, STAMP
from tests.fakes import MemoryDestination, reader

NOW = 1_780_000_000.0


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture(params=["memory", "server"])
def limited(
    request: pytest.FixtureRequest, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Composer]:
    if request.param == "memory":
        yield MemoryDestination(clock=lambda: now[0])
        return
    with GcsServer(tmp_path, "only", one_write_a_second=True, clock=lambda: now[0]) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        with closing(connect()) as client:
            yield GcsDestination(client, "only", sleep=lambda _seconds: None)


def put(destination: Composer, key: str, replica: Replica | None = None) -> Replica:
    return destination.put(key, reader(b"x", key), STAMP, expect=replica.generation if replica else ABSENT)


CHANGES: dict[str, Callable[[Composer, Replica], object]] = {
    "put": lambda destination, there: put(destination, "k", there),
    "patch": lambda destination, there: destination.patch("k", OTHER, expect=there.generation),
    "delete": lambda destination, there: destination.delete("k", expect=there.generation),
    "compose": lambda destination, there: destination.compose("k", ["part"], STAMP, expect=there.generation),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_within_a_second_of_another_is_unavailable_and_changes_nothing(
    limited: Composer, now: list[float], change: str
) -> None:
    put(limited, "part")
    there = put(limited, "k")
    now[0] += 0.99
    with pytest.raises(Unavailable) as refused:
        CHANGES[change](limited, there)
    assert refused.value.code == "DstThrottled"
    assert limited.head("k") == there
    now[0] += 0.01
    CHANGES[change](limited, there)
    assert limited.head("k") != there


def test_what_is_refused_for_another_reason_is_no_change(limited: Composer, now: list[float]) -> None:
    there = put(limited, "k")
    with pytest.raises(Moved):
        put(limited, "k")
    with pytest.raises(Refused):
        limited.patch("k", Stamp(custom_time=NOON.replace(year=2025)), expect=there.generation)
    now[0] += 1
    with pytest.raises(Moved):
        put(limited, "k")
    limited.patch("k", OTHER, expect=there.generation)
