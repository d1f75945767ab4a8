"""The suite's short form of the storm; the whole one is `make prove`."""

from __future__ import annotations

import pytest

from tests.proof.storm import SHORT, run


@pytest.mark.timeout(240)
def test_everything_that_can_go_wrong_at_once_leaves_both_clouds_equal(capfd: pytest.CaptureFixture[str]) -> None:
    divergences = run(SHORT, seed=1)
    assert divergences == 0, capfd.readouterr().out
