"""What is installed: the requirements files are what pyproject.toml asks for, and the wheel has what it should."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from handler.tools import __main__ as tools

ROOT = Path(__file__).parents[2]
OFFICIAL = "handler/requirements-google-cloud-storage.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPLOYED = PROJECT["project"]["dependencies"]
EMULATOR = PROJECT["project"]["optional-dependencies"]["emulator"]
GOOGLE = PROJECT["project"]["optional-dependencies"]["google-cloud-storage"]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]


def pins(path: str) -> dict[str, str]:
    """Return the versions in a requirements file, by name; every one has hashes."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=[a-zA-Z])", (ROOT / path).read_text()):
        head = re.match(r"([\w.-]+)(\[[\w,]+\])?==(\S+)", entry)
        if head:
            assert "--hash=sha256:" in entry, f"{path}: {head[1]} has no hash"
            found[canonicalize_name(head[1])] = head[3]
    return found


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("handler/requirements.txt", DEPLOYED),
        (OFFICIAL, [*DEPLOYED, *GOOGLE]),
        ("requirements.txt", [*DEPLOYED, *EMULATOR, *DEVELOPMENT]),
    ],
)
def test_every_requirement_of_the_project_is_pinned_to_a_version_that_it_allows(
    path: str, asked: Iterable[str]
) -> None:
    pinned = pins(path)
    for requirement in map(Requirement, asked):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{path} has {version} of {requirement}: make requirements"


@pytest.mark.parametrize("path", ["handler/requirements.txt", OFFICIAL])
def test_development_has_the_versions_that_are_deployed(path: str) -> None:
    deployed = pins(path)
    assert len(deployed) > len(DEPLOYED)
    assert {name: pins("requirements.txt").get(name) for name in deployed} == deployed


def test_the_zip_has_nothing_of_development_or_the_emulator() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in (*EMULATOR, *DEVELOPMENT)}
    assert names & set(pins("handler/requirements.txt")) == set()
    assert set(pins(OFFICIAL)) & names == {canonicalize_name(Requirement(text).name) for text in GOOGLE} | {"requests"}


def test_the_wheel_has_both_packages_with_their_types_and_no_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves folders behind
    for name in ("handler", "local_emulator"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    how = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *how, str(source)], check=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"handler/py.typed", "local_emulator/py.typed", "handler/core/reconcile.py"} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "handler", "local_emulator", "cross_cloud_replicator",
    }  # fmt: skip


@pytest.mark.parametrize("name", tools.COMMANDS)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        tools.main([name, "--help"])
    assert "usage:" in capsys.readouterr().out


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"replicator {name} " in text for name in tools.COMMANDS)


@pytest.mark.parametrize(("arguments", "said"), [(["chek"], "no command 'chek'"), ([], "a command is missing")])
def test_an_unknown_command_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["replicator", *arguments])
    assert tools.main() == 2
    assert said in capsys.readouterr().err
