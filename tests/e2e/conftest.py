from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_emulator.process import EmulatorProcess
from tests.e2e.support import Desk

Start = Callable[..., Desk]


@pytest.fixture(scope="session", autouse=True)
def no_account() -> Iterator[None]:
    """No test can reach a real account, or depend on one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "local")
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "us-east-1")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start emulators on folders of the test's own; end them with it."""
    desks: list[Desk] = []
    with ExitStack() as running:

        def start(*arguments: str) -> Desk:
            folders = ("--source", str(tmp_path / "source_s3"), "--destination", str(tmp_path / "destination_gcs"))
            desks.append(Desk(running.enter_context(EmulatorProcess(*folders, "--port", "0", *arguments))))
            return desks[-1]

        yield start
    for desk in desks:
        desk.assert_ended_by_itself()


@pytest.fixture(scope="session", params=["gcs", "folder"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One emulator for many tests, which must each use names of their own."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "source_s3").mkdir()
    for name in ("source-file.csv", "there-before.csv"):
        (folder / "source_s3" / name).write_bytes(b"Sample data\n")
    with EmulatorProcess(
        *("--source", str(folder / "source_s3"), "--destination", str(folder / "destination_gcs")),
        *("--port", "0", "--target", request.param),
    ) as emulator:
        yield Desk(emulator)
    Desk(emulator).assert_ended_by_itself()
