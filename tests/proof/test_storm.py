"""The suite's short form of the storm; the whole one is `make prove`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_emulator.gcs import GcsServer
from tests.proof.storm import SHORT, run
from tests.proof.storm_compare import Gcs
from tests.proof.storm_reader import Look, StormReader
from tests.proof.storm_watch import Watch


@pytest.mark.timeout(240)
def test_everything_that_can_go_wrong_at_once_leaves_both_clouds_equal(capfd: pytest.CaptureFixture[str]) -> None:
    divergences = run(SHORT, seed=1)
    assert divergences == 0, capfd.readouterr().out


class Copies:
    """One name at a real GCS server, a reader who looks at it, and when its source was deleted."""

    def __init__(self, port: int, folder: Path) -> None:
        self.gcs = Gcs(port, folder)
        self.gcs.make_bucket("copies")
        self.deleted = 0
        self.copy = Look("copies", "a b/é", lambda number: number < self.deleted)
        self.reader = StormReader(port, [self.copy])

    def shows(self, **metadata: str) -> None:
        """Let the copy be of another state, and look."""
        self.gcs.put("copies", "a b/é", b"data")
        body = json.dumps({"metadata": metadata}).encode()
        self.gcs.call("PATCH", "/storage/v1/b/copies/o/a%20b%2F%C3%A9", body)
        self.reader.look(self.copy)


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    with GcsServer(tmp_path) as server:
        found = Copies(urlsplit(server.url).port or 0, tmp_path)
        with closing(found.gcs):
            yield found
        found.reader.close()


def test_what_is_visible_at_a_kill_must_be_something_that_was_put(copies: Copies, tmp_path: Path) -> None:
    whole = {hashlib.sha256(b"whole").hexdigest()}
    watch = Watch(copies.reader.port, tmp_path, lambda bucket, name: whole, ("copies",))
    copies.gcs.put("copies", "a", b"whole")
    watch.look_at_disk()
    watch.look_by_api()
    assert (watch.judged, watch.partial) == (2, [])
    copies.gcs.put("copies", "a", b"who")
    watch.look_at_disk()
    watch.look_by_api()
    assert [line.partition(" as ")[0] for line in watch.partial] == [
        "copies/'a' is on disk",
        "copies/'a' is by the API",
    ]


def test_the_storms_reader_sees_an_older_state_after_a_newer_one(copies: Copies) -> None:
    copies.reader.look(copies.copy)
    copies.shows()
    copies.shows(number="7")
    copies.shows(number="7", **{"s3-tag-n": "9"})
    assert (copies.reader.steps_back, copies.reader.looks) == ([], 4)
    copies.shows(number="8")
    assert copies.reader.steps_back == ["copies/'a b/é': change #8 after #9"]


def test_the_storms_reader_counts_a_deleted_state_that_is_back_apart(copies: Copies) -> None:
    copies.shows(number="7")
    copies.deleted = 8
    copies.shows(number="5")
    assert (copies.reader.steps_back, copies.reader.came_back) == ([], 1)


def test_the_storms_reader_sees_somebody_elses_object_over_a_copy(copies: Copies) -> None:
    copies.shows(number="7")
    copies.shows()
    assert copies.reader.steps_back == ["copies/'a b/é': change #0 after #7"]
