"""What `make deploy` is given, what it says of that at once, and what it gives to sam."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deploy.stack import parameters_file

from tests.functional.deploy_desk import SETTINGS, Desk
from tests.functional.rie import ROOT
from tests.unit.cfn import PARAMETERS

SAM_PYTHON = ROOT / ".venv-sam/bin/python"
RULES = json.dumps([{"ID": "a b", "Destination": {"Bucket": 'gs://my-copies/x "y" it\'s \\'}}])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ({"region": "eu-west-1"}, "set REGION=eu-west-1"),
        ({}, "CreateSourceBucket=true"),
        ({"region": None, "account": ""}, "gcloud auth login"),
        ({"region": None, "bucket": {}}, "gcloud storage buckets update gs://my-copies --uniform-bucket-level-access"),
    ],
)
def test_what_would_fail_later_is_said_at_once(
    desk: Desk, state: dict[str, Any], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.state = state
    assert desk.run("deploy", "--yes") == 1
    assert not desk.called("sam")
    assert advice in capsys.readouterr().err


def test_all_missing_and_wrong_settings_are_named_at_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.folder / "deploy.env").write_text("STACK=9\nREGION=\nReplicateDelete=Disabled\nArchitecture=arm64\n")
    assert desk.run("deploy") == 2
    error = capsys.readouterr().err
    for name in (
        "STACK=9",
        "REGION is missing",
        "SOURCE",
        "DESTINATION",
        "PROJECT_ID",
        "ReplicateDelete ",
        "Architecture",
    ):
        assert f"- {name}" in error
    assert desk.calls == []


def test_missing_tools_are_named_with_where_to_get_them(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.without("gcloud")
    desk.without("aws")
    assert desk.run("deploy") == 2
    error = capsys.readouterr().err
    assert "gcloud: https://" in error
    assert "aws: https://" in error
    assert "sam" not in error


@pytest.mark.parametrize("parameter", ["DryRun=true", "Replication=Paused"])
def test_no_object_is_tried_where_none_would_be_copied(desk: Desk, parameter: str) -> None:
    (desk.folder / "deploy.env").write_text(f"{SETTINGS}{parameter}\n")
    assert desk.run("deploy", "--yes") == 0
    assert not desk.called("aws s3api put-object")


def test_the_trial_object_goes_where_its_rule_and_events_say(desk: Desk) -> None:
    rules = [
        {"Source": {"Bucket": "my-source"}, "Status": "Disabled", "Destination": {"Bucket": "gs://no"}},
        {
            "Source": {"Bucket": "my-source"},
            "Filter": {"Prefix": "a/"},
            "Destination": {"Bucket": "gs://yes/in", "ReplaceKeyPrefixWith": "b/"},
        },
    ]
    more = f"SourceSuffix=.csv\nReplicateDeletes=Disabled\nReplicationRules={shlex.quote(json.dumps(rules))}\n"
    (desk.folder / "deploy.env").write_text(SETTINGS + more)
    assert desk.run("deploy", "--yes") == 0
    [put] = [call for call in desk.calls if "put-object" in call]
    assert re.search(r"--key a/\.replicator-trial-\S+\.csv ", put)
    [removed] = [call for call in desk.calls if call.startswith("gcloud storage rm")]
    assert re.search(r"gs://yes/in/b/\.replicator-trial-\S+\.csv", removed)


def test_every_parameter_is_given_so_that_a_removed_line_has_effect(desk: Desk) -> None:
    (desk.folder / "deploy.env").write_text(f"{SETTINGS}ReplicateDeletes=Disabled\n")
    assert desk.run("deploy", "--yes") == 0
    assert json.loads(desk.state["parameters"])["ReplicateDeletes"] == "Disabled"
    (desk.folder / "deploy.env").write_text(SETTINGS)
    assert desk.run("deploy", "--yes") == 0
    assert json.loads(desk.state["parameters"]).keys() == PARAMETERS.keys()
    assert json.loads(desk.state["parameters"])["ReplicateDeletes"] == "Enabled"


@pytest.mark.skipif(not SAM_PYTHON.exists(), reason="there is no .venv-sam: make check-template")
def test_sam_reads_every_value_back_as_it_was(tmp_path: Path) -> None:
    values = {"ReplicationRules": RULES, "SourceSuffix": "", "SourcePrefix": "dt=2026 x/", "MemorySize": "1024"}
    (tmp_path / "p.yaml").write_text(parameters_file(values))
    program = (
        "import click, json, sys; from samcli.commands._utils.options import parameter_override_option as option;"
        "click.command()(option(lambda parameter_overrides: print(json.dumps(parameter_overrides))))()"
    )
    read = subprocess.run(
        [SAM_PYTHON, "-c", program, "--parameter-overrides", f"file://{tmp_path}/p.yaml"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(read.stdout)
    assert json.loads(found.pop("ReplicationRules")) == json.loads(values.pop("ReplicationRules"))
    assert found == values


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")
def test_make_hands_its_variables_on(tmp_path: Path) -> None:
    given = dict(line.split("=") for line in SETTINGS.split()) | {"DRY": "1"}
    ended = subprocess.run(
        ["make", "-o", ".venv/.ready", "-o", ".venv-sam/.ready", "deploy", f"BIN={Path(sys.executable).parent}"]
        + [f"{name}={value}" for name, value in given.items()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Nothing was run" in ended.stdout
    assert "$ sam deploy --stack-name replicator --region us-east-1" in ended.stdout
