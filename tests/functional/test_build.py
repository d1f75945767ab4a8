"""What make builds is what sam deploys: for the same processor by the next command, and in the stack's parameter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.functional.sam import SAM_PYTHON, needs_sam
from tests.functional.test_deployment import DEPLOYED
from tests.unit.cfn import ROOT, TEMPLATE, parsed

BUILT = Path(".aws-sam/build/template.yaml")
DUMP = "import sys; from samcli.yamlhelper import *; print(yaml_dump(yaml_parse(sys.stdin.read())), end='')"
"""How sam writes the built template."""
MACHINES = {b"\xb7\x00": "arm64", b"\x3e\x00": "x86_64"}
"""ELF's numbers."""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A working copy in which nothing is built."""
    for name in ("Makefile", "template.yaml", "requirements.txt", "requirements-aws.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for included in ROOT.glob("*.mk"):
        shutil.copy(included, tmp_path)
    shutil.copytree(ROOT / "handler", tmp_path / "handler")
    return tmp_path


def commands_of(desk: Path, *arguments: str) -> str:
    """Return what make would do."""
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *arguments],
        cwd=desk,
        env={name: value for name, value in os.environ.items() if name != "GCS_CLIENT"},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


def processors_of(commands: str) -> set[str]:
    """Return the processors that sam is told to build for."""
    return set(re.findall(r"sam build .*Architecture=(\w+)", commands.replace("\\\n", "")))


@pytest.mark.parametrize("target", ["package-report", "build", "sam-local"])
def test_the_next_command_builds_for_the_processor_that_was_built_for(desk: Path, target: str) -> None:
    assert processors_of(commands_of(desk, target)) == {"arm64"}, "the template's default"
    (desk / ".aws-sam").mkdir()
    (desk / ".aws-sam/for-x86_64").touch()
    assert processors_of(commands_of(desk, target)) == {"x86_64"}
    assert processors_of(commands_of(desk, target, "ARCHITECTURE=arm64")) == {"arm64"}


@pytest.mark.parametrize("client", ["json-api", "google-cloud-storage"])
def test_googles_client_is_built_in_only_if_it_is_asked_for(desk: Path, client: str) -> None:
    chosen = f"GCS_CLIENT={client}"
    packaged = commands_of(desk, "-C", "handler", "package", f"ARTIFACTS_DIR={desk}/made", chosen)
    assert ("requirements-google-cloud-storage.txt" in packaged) is (client == "google-cloud-storage")
    (desk / ".aws-sam").mkdir()
    for stamp in (f"with-{client}", "for-arm64"):
        (desk / ".aws-sam" / stamp).touch()
    assert ("GCS_CLIENT" in pin_of(commands_of(desk, "build"))) is (client == "google-cloud-storage"), "as last time"


def test_a_client_of_gcs_that_there_is_none_of_is_not_built(desk: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        commands_of(desk, "-C", "handler", "package", f"ARTIFACTS_DIR={desk}/made", "GCS_CLIENT=gcsfs")
    assert "GCS_CLIENT must be json-api or google-cloud-storage, not gcsfs" in caught.value.stderr


def pin_of(commands: str) -> str:
    """Return the command that changes the built template."""
    [pin] = [
        line for line in commands.replace("\\\n", "").splitlines() if line.startswith("sed ") and str(BUILT) in line
    ]
    return pin


def test_the_template_with_googles_client_tells_every_function_to_use_it(desk: Path) -> None:
    (desk / BUILT).parent.mkdir(parents=True)
    shutil.copy(desk / "template.yaml", desk / BUILT)
    subprocess.run(
        ["sh", "-ec", pin_of(commands_of(desk, "build", "GCS_CLIENT=google-cloud-storage"))], cwd=desk, check=True
    )
    variables = parsed((desk / BUILT).read_text())["Globals"]["Function"]["Environment"]["Variables"]
    assert variables == TEMPLATE["Globals"]["Function"]["Environment"]["Variables"] | {
        "GCS_CLIENT": "google-cloud-storage"
    }


@needs_sam
@pytest.mark.parametrize("processor", ["arm64", "x86_64"])
def test_the_built_template_takes_the_processor_only_that_it_was_built_for(desk: Path, processor: str) -> None:
    """Sam deploys an existing stack with the value it has, whatever the default: that must be refused."""
    commands = commands_of(desk, "build", f"ARCHITECTURE={processor}")
    pin = pin_of(commands)
    (desk / BUILT).parent.mkdir(parents=True)
    with (desk / "template.yaml").open() as source, (desk / BUILT).open("w") as target:
        subprocess.run([SAM_PYTHON, "-c", DUMP], stdin=source, stdout=target, check=True)
    subprocess.run(["sh", "-ec", pin], cwd=desk, check=True)
    built = parsed((desk / BUILT).read_text())
    parameter = built["Parameters"].pop("Architecture")
    assert (parameter["Default"], parameter["AllowedValues"]) == (processor, [processor])
    assert "make build ARCHITECTURE=" in parameter["ConstraintDescription"]
    parameters = {name: each for name, each in TEMPLATE["Parameters"].items() if name != "Architecture"}
    assert built == TEMPLATE | {"Parameters": parameters}, "the rest must be as it was"


def test_what_is_built_here_is_what_its_template_says() -> None:
    if not (ROOT / BUILT).exists() or (ROOT / BUILT).stat().st_mtime < (ROOT / "build.mk").stat().st_mtime:
        pytest.skip("nothing is built, or by an older build.mk: make build")
    [processor] = {MACHINES[file.read_bytes()[18:20]] for file in DEPLOYED.rglob("*.so*")}
    built = parsed((ROOT / BUILT).read_text())
    assert built["Parameters"]["Architecture"]["AllowedValues"] == [processor]
