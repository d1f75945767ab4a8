"""Makes Google's side by docs/terraform instead of gcloud (GOOGLE=terraform)."""

from __future__ import annotations

import json

from deploy.settings import Settings
from deploy.shell import Shell

_TERRAFORM = ("terraform", "-chdir=docs/terraform")
_TRUST = (
    "google_storage_bucket_iam_member.replicator",
    "google_storage_bucket_iam_member.check",
    "google_iam_workload_identity_pool.aws",
)
"""What undeploying destroys: the bucket is not among it."""


class Terraform:
    """The Google side of one stack. Its state is in docs/terraform, unless a backend is configured there."""

    def __init__(self, shell: Shell, settings: Settings, account: str) -> None:
        self._shell = shell
        values = {
            "project": settings.project,
            "bucket": settings.destination,
            "location": settings.location,
            "aws_account_id": account,
            "aws_role": f"{settings.stack}-{settings.region}",
            "pool": settings.pool,
        }
        self._variables = tuple(f"-var={name}={value}" for name, value in values.items())
        self._agreed = ("-auto-approve",) if shell.yes else ()
        self.provider = f"projects/NUMBER/locations/global/workloadIdentityPools/{settings.pool}/providers/aws-account"

    def make(self) -> None:
        """Apply; Terraform shows its plan, and asks by itself."""
        self._shell.change(*_TERRAFORM, "init", "-input=false")
        self._shell.change(*_TERRAFORM, "apply", *self._variables, *self._agreed, asks_itself=True, advice=_ADVICE)
        outputs = self._shell.read(*_TERRAFORM, "output", "-json")
        if outputs:
            self.provider = json.loads(outputs)["gcp_workload_identity_provider"]["value"]
        self._shell.note("applied docs/terraform")

    def remove(self) -> None:
        """Destroy the grant and the trust; the bucket and its objects stay."""
        targets = tuple(f"-target={name}" for name in _TRUST)
        self._shell.change(*_TERRAFORM, "init", "-input=false")
        self._shell.change(*_TERRAFORM, "destroy", *self._variables, *targets, *self._agreed, asks_itself=True)
        self._shell.note("destroyed the grant, the provider and the pool; Google keeps the pool for 30 days")


_ADVICE = (
    "A bucket that exists already needs an empty LOCATION. A pool of that name that was deleted in the last 30 days "
    "must be undeleted and imported first (docs/deploy.md), or choose another POOL."
)
