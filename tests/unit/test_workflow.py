"""docs/github-actions.yml: it parses, calls what there is, and holds no key. GitHub itself is not tried."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from tests.unit.cfn import PARAMETERS, REQUIRED, ROOT, parsed

TEXT = (ROOT / "docs/github-actions.yml").read_text()
WORKFLOW = parsed(TEXT)
STEPS: list[dict[str, Any]] = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
COMMANDS = [step["run"] for step in STEPS if "run" in step]
MAKEFILES = "".join(file.read_text() for file in (ROOT / "Makefile", *ROOT.glob("*.mk")))


def test_every_make_target_that_it_calls_is_there() -> None:
    called = [word for command in COMMANDS for word in shlex.split(command)[1:] if command.startswith("make ")]
    targets = [word for word in called if "=" not in word]
    assert {"check", "test", "build"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:.* ## ", MAKEFILES, re.MULTILINE), f"make {target} is not listed by make help"


def test_it_deploys_with_parameters_that_the_template_has() -> None:
    [deploy] = [command for command in COMMANDS if "sam deploy" in command]
    given = dict(word.split("=", 1) for word in shlex.split(deploy.partition("--parameter-overrides")[2]))
    assert set(REQUIRED) <= set(given) <= set(PARAMETERS)
    assert given["DeploymentPreference"] in PARAMETERS["DeploymentPreference"]["AllowedValues"]
    assert "--no-confirm-changeset" in deploy, "samconfig.toml has sam ask, and nobody is there to answer"


def test_it_has_no_key_and_only_the_job_that_deploys_is_asked_for() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in TEXT
    assert WORKFLOW["jobs"]["deploy"]["needs"] == "check"
    assert WORKFLOW["jobs"]["deploy"]["environment"] == "production"
    [signing_in] = [step for step in STEPS if "configure-aws-credentials" in step.get("uses", "")]
    assert "role-to-assume" in signing_in["with"]
    assert "vars." not in "".join(COMMANDS), "a variable's text must not become shell"


@pytest.mark.parametrize("section", ["Gradually, and from GitHub Actions", "Private path"])
def test_the_json_in_the_commands_of_its_sections_is_json(section: str) -> None:
    text = (ROOT / "docs/deploy.md").read_text().partition(f"\n## {section}")[2].partition("\n## ")[0]
    documents = re.findall(r"(?:-document|-batch) '(\{.*?\})'\n", text, re.DOTALL)
    assert documents
    for document in documents:
        json.loads(document.replace("'$ACCOUNT'", "123456789012"))


def test_the_role_trusts_the_one_environment_that_the_workflow_names() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    environment = WORKFLOW["jobs"]["deploy"]["environment"]
    assert f'"token.actions.githubusercontent.com:sub": "repo:OWNER/REPOSITORY:environment:{environment}"' in text
    assert '"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"' in text
