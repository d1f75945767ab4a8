"""Every law of the Destination contract meets every rig."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.rigs import ON_REQUEST, RIGS, Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" in metafunc.fixturenames:
        config = metafunc.config
        names = [name for name in RIGS if name not in ON_REQUEST or config.getoption(f"--{name}")]
        metafunc.parametrize("rig", names, indirect=True)
    if "origin" in metafunc.fixturenames:
        kinds = ["memory", "s3"] + (["s3-url"] if metafunc.config.getoption("--s3-url") else [])
        names = [f"{kind}{versioned}" for kind in kinds for versioned in ("", " versioned")]
        metafunc.parametrize("origin", names, indirect=True)


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """One destination, empty."""
    with RIGS[request.param](request, tmp_path) as rig:
        yield rig


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """The GCS shim over HTTP."""
    from local_emulator.gcs import GcsServer  # heavy, and for one rig only

    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        yield server
