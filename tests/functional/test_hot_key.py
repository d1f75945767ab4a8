"""A burst of writes to one key becomes few writes at GCS, which takes one a second of a name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from local_emulator.gcs import GcsServer
from tests.benchmarks.hot_key import hot_key, main


@pytest.fixture
def slow_gcs(tmp_path: Path) -> GcsServer:
    return GcsServer(tmp_path, one_write_a_second=True)


def test_a_hundred_writes_of_one_key_end_equal_by_a_few_writes(s3_url: str, slow_gcs: GcsServer) -> None:
    with slow_gcs:
        report = hot_key(s3_url, slow_gcs.url, writes=100, seconds=1.0)
    sys.stdout.write(f"{report}\n")
    assert report.equal
    assert report.copies <= 10
    assert dict(report.failures) == {}, "what GCS has no time for waits, and does not fail"


def test_its_help_says_what_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hot_key", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "[writes] [seconds]" in capsys.readouterr().out
