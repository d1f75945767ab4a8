"""A folder with the settings of `make deploy`, where programs stand for the clouds' own (deploy_stub.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from deploy import stack
from deploy.__main__ import main

from handler.core.plan import STAGING
from tests.unit.cfn import TEXT

SETTINGS = (
    "STACK=replicator\nREGION=us-east-1\nSOURCE=my-source\nDESTINATION=my-copies\nPROJECT_ID=mine\nLOCATION=us-east4\n"
)
STEPS = [
    "aws sts get-caller-identity",
    "aws s3api get-bucket-location",
    "make build",
    "gcloud services enable",
    "gcloud storage buckets create",
    "gcloud iam workload-identity-pools create",
    "gcloud iam workload-identity-pools providers create-aws",
    "gcloud storage buckets add-iam-policy-binding",
    "sam deploy",
    "check",
    "aws s3api put-object",
    "aws s3api delete-object",
]
ROLE = "arn:aws:sts::123456789012:assumed-role/replicator-us-east-1"
POOL = "projects/42/locations/global/workloadIdentityPools/aws-replicator"
MEMBER = f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/{ROLE}"
DEPLOYED: dict[str, Any] = {
    "region": None,
    "stack": "CREATE_COMPLETE",
    "services": ["iam.googleapis.com", "sts.googleapis.com", "storage.googleapis.com"],
    "bucket": {
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": [STAGING]}}]},
    },
    "pool": {"name": "projects/42/pools/aws-replicator", "state": "ACTIVE"},
    "provider": {
        "name": "projects/42/pools/p/providers/aws-account",
        "state": "ACTIVE",
        "aws": {"accountId": "123456789012"},
        "attributeCondition": f"assertion.arn.startsWith('{ROLE}/')",
    },
    "bindings": [
        {"role": "roles/storage.objectUser", "members": [MEMBER]},
        {"role": "roles/storage.legacyBucketReader", "members": [MEMBER]},
    ],
}
"""What a first run leaves."""


class Desk:
    """A folder with settings, where programs stand for the clouds' own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir()
        source = (Path(__file__).parent / "deploy_stub.py").read_text()
        for name in ("aws", "sam", "gcloud", "terraform", "make", "check"):
            (self._bin / name).write_text(f"#!{sys.executable} -SE\n{source}")
            (self._bin / name).chmod(0o755)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(stack, "_PYTHON", str(self._bin / "check"))
        monkeypatch.setattr(stack, "_LOOKS", 2)
        (folder / "template.yaml").write_text(TEXT)
        (folder / "deploy.env").write_text(SETTINGS)
        self.state = {"region": None}
        self.asked: list[str] = []

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        (self.folder / "state.json").write_text(json.dumps(state))

    def run(self, action: str, *options: str, said: Iterable[str] = (), **variables: str) -> int:
        (self.folder / "calls").write_text("")
        answers = iter(said)

        def answer(question: str) -> str:
            self.asked.append(question)
            return next(answers)

        environment = {"PATH": str(self._bin), "STUB": str(self.folder), **variables}
        return main([action, "--pause", "0", *options], environment, answer)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def called(self, *beginnings: str) -> list[str]:
        return [beginning for call in self.calls for beginning in beginnings if call.startswith(beginning)]

    def with_real(self, program: Path) -> None:
        self.without(program.name)
        (self._bin / program.name).symlink_to(program)

    def without(self, program: str) -> None:
        (self._bin / program).unlink()
