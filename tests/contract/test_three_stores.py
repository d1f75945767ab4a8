"""The memory fake, the folder and GCS over the local server take the same random steps, and must answer alike.

Compared after each step, for every name it touched: success or the class of the error; size, CRC32C, MD5, headers,
metadata, customTime and storage class; the bytes, by another way than the port's; whether generation and
metageneration stayed, grew or began anew. Generations themselves differ. So may, for a reason each:

| what | why |
| --- | --- |
| no Content-Type, or application/octet-stream | GCS has that default; the others keep none |
| storage classes at the folder | a folder has none: it records what it is told, and a patch of the class is a patch |
| a change of class by lifecycle | the folder has no such rules: there somebody patches the copy as it is |
| a patch that sets customTime back | GCS refuses it, and so does the fake; a folder has no such rule: not asked |
| compose and list | a folder cannot: the test puts the whole there, and removes the parts |
| MD5 of what was composed | GCS and the fake have none; the folder, which did not compose, has one |
| the recorded CRC32C of a body over one request | GCS takes the metadata before the bytes, and does not know it |
| names and metadata over GCS's limits | GCS refuses them; the others have room |
| another tool's file beside a file of a name above it (`a/b` beside `a`) | nobody can put it there |
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from handler.adapters.folder.destination import FolderDestination
from handler.adapters.folder.names import aside_path, natural_path
from handler.adapters.gcs import destination as gcs
from handler.adapters.gcs import upload as gcs_session
from handler.adapters.gcs.client import Client, connect
from handler.adapters.gcs.destination import GcsDestination
from handler.core.errors import NotFound, Refused, ReplicationError
from handler.core.model import ABSENT, KIB, Generation, Headers, Replica, Stamp
from handler.core.ports import Composer, Destination
from local_emulator.gcs import GcsServer
from tests.fakes import MemoryDestination, crc32c, md5, reader

QUANTUM = 256 * KIB
"""One request's body, and one chunk of a session, in this test."""
SIZES = (0, 1, 2, QUANTUM - 1, QUANTUM, QUANTUM + 1, 2 * QUANTUM, 2 * QUANTUM + 1)
KEYS = (
    "a",
    "a/b",
    "a/b/c",
    "dir/",
    "//",
    "Case",
    "case",
    "%2F",
    "nai\u0308ve 日本",
    "../up",
    ".replicator/x",
    "n" * 300,
    "\x00",
)
FORBIDDEN = (".", "..", "line\nbreak", ".well-known/acme-challenge/x", "w" * 1025)
CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
RECORD = "sum"
_numbers = itertools.count()


@cache
def data_of(seed: int, size: int) -> bytes:
    """Bytes that no other seed has, and no shift of themselves."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - bytes, not a secret


stamps = st.builds(
    Stamp,
    headers=st.builds(
        Headers,
        content_type=st.sampled_from([None, "text/csv; charset=utf-8", "image/png"]),
        content_encoding=st.sampled_from([None, "gzip"]),
        content_disposition=st.sampled_from([None, 'attachment; filename="naïve"']),
        content_language=st.sampled_from([None, "de"]),
        cache_control=st.sampled_from([None, "no-store"]),
    ),
    metadata=st.dictionaries(
        st.sampled_from(["owner", "Owner", "größe"]), st.sampled_from(["", "Zoë", "🗂"]), max_size=2
    ),
    custom_time=st.sampled_from([None, NOON, NOON + timedelta(microseconds=1), NOON - timedelta(days=1)]),
    storage_class=st.sampled_from([None, None, None, *CLASSES]),
)
which = st.integers(0, 3)
"""Which of a run's four names; few, so that a step often meets what an earlier one left."""
seeds = st.integers(0, 3)
expectations = st.sampled_from(["current"] * 12 + ["absent", "older", "another's", "none yet"])


@dataclass
class Side:
    """One of the three, what another tool does there, and its generation of each state that was seen."""

    name: str
    destination: Destination
    read: Callable[[str], bytes]
    foreign: Callable[[str, bytes], object]
    lifecycle: Callable[[str], object] | None = None
    """Moves all objects to a class, if that is colder."""
    at: dict[int, Generation] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """Where each run makes its bucket and its folder."""

    server: GcsServer
    client: Client
    http: requests.Session
    folder: Path
    kind: type[GcsDestination]
    bucket: Mapping[str, Any]


def memory_side() -> Side:
    destination = MemoryDestination()

    def lifecycle(storage_class: str) -> None:
        for key, replica in destination.list("").items():
            if CLASSES.index(replica.stamp.storage_class or "") < CLASSES.index(storage_class):
                destination.lifecycle(key, storage_class)

    return Side("memory", destination, destination.data, destination.foreign, lifecycle)


def folder_side(root: Path) -> Side:
    destination = FolderDestination(root)
    last = itertools.count(time.time_ns())

    def path(key: str) -> Path:
        aside = root / aside_path(key)
        return aside if aside.is_file() else root / natural_path(key)

    def foreign(key: str, data: bytes) -> None:
        """Put a file there with a time of its own: one that is written within a tick of the clock has none."""
        dropped = root.with_suffix(".dropped")
        dropped.write_bytes(data)
        moment = max(time.time_ns(), next(last))
        os.utime(dropped, ns=(moment, moment))
        path(key).parent.mkdir(parents=True, exist_ok=True)
        dropped.replace(path(key))

    return Side("folder", destination, lambda key: path(key).read_bytes(), foreign)


def gcs_side(world: World) -> Side:
    name = f"three-{next(_numbers)}"
    api, http = world.server.url, world.http

    def call(method: str, path: str, **arguments: Any) -> requests.Response:
        answer = http.request(method, api + path, timeout=30, **arguments)
        assert answer.ok, answer.text
        return answer

    call("POST", "/storage/v1/b", json={"name": name, **world.bucket})

    def read(key: str) -> bytes:
        headers = {"Accept-Encoding": "gzip"}
        where = f"/storage/v1/b/{name}/o/{quote(key, safe='')}?alt=media"
        with http.get(api + where, headers=headers, stream=True, timeout=30) as answer:
            assert answer.ok, answer.text
            return bytes(answer.raw.read(decode_content=False))

    def foreign(key: str, data: bytes) -> None:
        query = {"uploadType": "media", "name": key}
        kind = {"Content-Type": "application/octet-stream"}
        call("POST", f"/upload/storage/v1/b/{name}/o", params=query, data=data, headers=kind)

    def lifecycle(storage_class: str) -> None:
        action = {"type": "SetStorageClass", "storageClass": storage_class}
        rules = [{"action": action, "condition": {"age": 0, "isLive": True}}]
        call("PATCH", f"/storage/v1/b/{name}", json={"lifecycle": {"rule": rules}})
        call("POST", f"/_lifecycle/{name}", json={"now": "2100-01-01T00:00:00Z"})

    destination = world.kind(world.client, name, sleep=lambda _seconds: None)
    return Side("gcs", destination, read, foreign, lifecycle)


class ThreeStores(RuleBasedStateMachine):
    """Takes each step at all three. A state of a name has a number; `current` says which each name is in."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.memory = memory_side()
        self.folder = folder_side(world.folder / f"copies-{next(_numbers)}")
        self.gcs = gcs_side(world)
        self.sides = (self.memory, self.folder, self.gcs)
        self.states = itertools.count(1)
        self.names: list[str] = []
        self.current: dict[str, int] = {}
        self.seen: dict[str, list[int]] = {}

    # --- steps

    @initialize(names=st.lists(st.sampled_from(KEYS), min_size=4, max_size=4, unique=True), stamp=stamps)
    def three_of_four_names_are_taken(self, names: list[str], stamp: Stamp) -> None:
        self.names = names
        for each in range(3):
            self.put(each, each, SIZES[each + 3], stamp, "absent", record=True)

    @rule(which=which, seed=seeds, size=st.sampled_from(SIZES), stamp=stamps, expect=expectations, record=st.booleans())
    def put(self, which: int, seed: int, size: int, stamp: Stamp, expect: str, *, record: bool) -> None:
        key = self.names[which]
        data = data_of(seed, size)
        asked = replace(stamp, crc32c_name=RECORD) if record else stamp
        state = self.state(key, expect)
        answers = self.ask(
            lambda side: side.destination.put(key, reader(data, key), asked, expect=self.generation(side, state))
        )
        self.settle(key, answers)

    @rule(which=which, stamp=stamps, expect=expectations)
    def patch(self, which: int, stamp: Stamp, expect: str) -> None:
        key = self.names[which]
        state = self.state(key, expect)
        new_class = stamp.storage_class not in {None, self.memory.destination.head(key).stamp.storage_class}
        answers = self.ask(
            lambda side: side.destination.patch(key, stamp, expect=self.generation(side, state)),
            lone_refusals=True,
        )
        self.settle(key, answers, except_for=[self.folder] if new_class else [])

    @rule(which=which, expect=expectations)
    def delete(self, which: int, expect: str) -> None:
        key = self.names[which]
        state = self.state(key, expect)
        answers = self.ask(lambda side: side.destination.delete(key, expect=self.generation(side, state)))
        if not isinstance(answers["gcs"], ReplicationError):
            del self.current[key]
        self.look(key)

    @rule(which=which, others=st.lists(which, min_size=1, max_size=3), stamp=stamps, expect=expectations)
    def compose(self, which: int, others: list[int], stamp: Stamp, expect: str) -> None:
        key, parts = self.names[which], [self.names[other] for other in others]
        state = self.state(key, expect)

        def compose(side: Side) -> Replica:
            expected = self.generation(side, state)
            if isinstance(side.destination, FolderDestination):
                return self.compose_by_hand(side, key, parts, stamp, expected)
            assert isinstance(side.destination, Composer)
            return side.destination.compose(key, parts, stamp, expect=expected)

        answers = self.ask(compose, lone_refusals=True)
        if not isinstance(answers["gcs"], ReplicationError):
            for part in set(parts) - {key}:
                del self.current[part]
        self.settle(key, answers)
        for part in parts:
            self.look(part)

    @rule(which=which, seed=seeds, size=st.sampled_from(SIZES))
    def another_tool_puts(self, which: int, seed: int, size: int) -> None:
        key = self.names[which]
        natural = [f"{key[:at]}" for at, letter in enumerate(key) if letter == "/"]
        if any(name in self.current for name in natural) or any(name.startswith(f"{key}/") for name in self.current):
            return
        for side in self.sides:
            side.foreign(key, data_of(seed, size))
        self.settle(key, {side.name: side.destination.head(key) for side in self.sides})

    @rule(storage_class=st.sampled_from(CLASSES))
    def lifecycle_rules_act(self, storage_class: str) -> None:
        for side in self.sides:
            if side.lifecycle:
                side.lifecycle(storage_class)
        for key in list(self.current):
            if self.gcs.destination.head(key).generation != self.gcs.at[self.current[key]]:
                copy = self.folder.destination.head(key)
                self.folder.destination.patch(key, copy.stamp, expect=copy.generation)
                self.settle(key, {side.name: side.destination.head(key) for side in self.sides})
            self.look(key)

    @rule(prefix=st.sampled_from(["", "a", "a/", "d", "%", "nothing"]))
    def list_names(self, prefix: str) -> None:
        for side in (self.memory, self.gcs):
            assert isinstance(side.destination, Composer)
            listed = side.destination.list(prefix)
            assert set(listed) == {key for key in self.current if key.startswith(prefix)}, side.name
            assert listed == {key: side.destination.head(key) for key in listed}, side.name

    @rule(key=st.sampled_from(FORBIDDEN))
    def a_name_that_gcs_forbids(self, key: str) -> None:
        assert not self.gcs.destination.head(key).exists
        with pytest.raises(Refused):
            self.gcs.destination.put(key, reader(b"x", key), Stamp(), expect=ABSENT)

    def teardown(self) -> None:
        for key in self.names:
            self.look(key)
        self.list_names("")

    # --- what they must have in common

    def state(self, key: str, expect: str) -> int | None:
        """Choose the state that the caller believes the name to be in; None is absence."""
        match expect:
            case "current":
                return self.current.get(key)
            case "older":
                return next(
                    (state for state in reversed(self.seen.get(key, [])) if state != self.current.get(key)), None
                )
            case "another's":
                return next((state for name, state in self.current.items() if name != key), None)
            case "none yet":
                return 0
        return None

    @staticmethod
    def generation(side: Side, state: int | None) -> Generation:
        if state == 0:
            return Generation(max((at.number for at in side.at.values()), default=0) + 10**12, 1)
        return ABSENT if state is None else side.at[state]

    def ask(
        self, call: Callable[[Side], Replica | None], *, lone_refusals: bool = False
    ) -> dict[str, Replica | ReplicationError | None]:
        """Take one step everywhere; return the answers, which are of one kind.

        `lone_refusals`: what GCS refuses by a rule of its own, the folder is not asked for.
        """
        answers: dict[str, Replica | ReplicationError | None] = {}
        for side in (self.gcs, self.memory, self.folder):
            if side is self.folder and lone_refusals and isinstance(answers["gcs"], Refused):
                answers[side.name] = answers["gcs"]
                continue
            try:
                answers[side.name] = call(side)
            except ReplicationError as error:
                answers[side.name] = error
        kinds = {name: type(answer).__name__ for name, answer in answers.items()}
        assert len(set(kinds.values())) == 1, (kinds, answers)
        return answers

    def settle(
        self,
        key: str,
        answers: Mapping[str, Replica | ReplicationError | None],
        *,
        except_for: Sequence[Side] = (),
    ) -> None:
        """Give the name's new state a number, if there is one, and compare how its generation came about."""
        if isinstance(answers["gcs"], ReplicationError):
            self.look(key)
            return
        state, before = next(self.states), self.current.get(key)
        changes = {}
        for side in self.sides:
            answer = answers[side.name]
            assert isinstance(answer, Replica)
            assert answer == side.destination.head(key), side.name
            earlier = [side.at[known].number for known in self.seen.get(key, [])]
            side.at[state] = answer.generation
            changes[side.name] = _change(side.at[before] if before else ABSENT, answer.generation, earlier)
        for side in except_for:
            del changes[side.name]
        assert len(set(changes.values())) == 1, changes
        self.current[key] = state
        self.seen.setdefault(key, []).append(state)
        self.look(key)

    def look(self, key: str) -> None:
        """Compare everything that can be seen of a name."""
        found = {side.name: side.destination.head(key) for side in self.sides}
        views = {name: _view(replica) for name, replica in found.items()}
        assert views["memory"] == views["gcs"] == views["folder"], views
        memory, server = found["memory"], found["gcs"]
        assert memory.stamp.storage_class == server.stamp.storage_class
        assert (memory.md5, key in self.current) == (server.md5, server.exists)
        if key not in self.current:
            return
        data = {side.name: side.read(key) for side in self.sides}
        assert data["memory"] == data["folder"] == data["gcs"]
        assert (server.size, server.crc32c) == (len(data["gcs"]), crc32c(data["gcs"]))
        assert found["folder"].md5 == md5(data["gcs"])
        assert memory.md5 in {None, md5(data["gcs"])}
        for side in self.sides:
            assert found[side.name].generation == side.at[self.current[key]], side.name

    def compose_by_hand(self, side: Side, key: str, parts: list[str], stamp: Stamp, expect: Generation) -> Replica:
        if not all(side.destination.head(part).exists for part in parts):
            raise NotFound("a part is missing")
        data = b"".join(side.read(part) for part in parts)
        whole = side.destination.put(key, reader(data, key), stamp, expect=expect)
        for part in set(parts) - {key}:
            side.destination.delete(part, expect=side.at[self.current[part]])
        return whole


def _change(before: Generation, after: Generation, earlier: Sequence[int]) -> tuple[str, int]:
    """Say how a generation came about: the same content's next metageneration, or content that never was."""
    if before.number == after.number:
        return "the same", after.metageneration - before.metageneration
    return "new" if all(number < after.number for number in earlier) else "not new", after.metageneration


def _view(replica: Replica) -> object:
    """What all three must say of a name; see the module's table."""
    stamp = replica.stamp
    kind = stamp.headers.content_type
    headers = stamp.headers._replace(content_type=None if kind == "application/octet-stream" else kind)
    metadata = dict(stamp.metadata)
    if replica.size > QUANTUM:
        metadata.pop(RECORD, None)
    return replica.exists, replica.size, replica.crc32c, headers, metadata, stamp.custom_time


BUCKETS: dict[str, tuple[type[GcsDestination], Mapping[str, Any]]] = {
    "plain": (GcsDestination, {}),
    "versioned": (GcsDestination, {"versioning": {"enabled": True}}),
    "soft delete": (GcsDestination, {"softDeletePolicy": {"retentionDurationSeconds": "604800"}}),
}


@pytest.fixture(params=BUCKETS)
def world(
    request: pytest.FixtureRequest, gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(gcs, "SMALL", QUANTUM)
    monkeypatch.setattr(gcs_session, "CHUNK", QUANTUM)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    with closing(connect()) as client, requests.Session() as http:
        yield World(gcs_server, client, http, tmp_path, *BUCKETS[request.param])


EXAMPLES = int(os.environ.get("THREE_STORES_EXAMPLES", "8"))


def test_the_fake_the_folder_and_the_server_answer_alike(world: World) -> None:
    run_state_machine_as_test(
        lambda: ThreeStores(world),  # type: ignore[arg-type] # any factory will do
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
