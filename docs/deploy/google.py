"""Makes Google's side: the destination bucket, trust in one AWS role, and what that role may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.settings import Settings
from deploy.shell import Shell, StoppedError

PROVIDER = "aws-account"
ROLES = ("roles/storage.objectUser", "roles/storage.legacyBucketReader")
"""To write copies; and to read the bucket's own settings, which `python -m handler.tools.check` looks at."""
SERVICES = ("iam.googleapis.com", "sts.googleapis.com", "storage.googleapis.com")
STAGING = ".s3-replica-parts/"
"""handler/core/plan.py's prefix for parts; those of overwritten states are deleted by a lifecycle rule."""
STAGING_DAYS = 7
_MAPPING = (
    "google.subject=assertion.arn,attribute.aws_role=assertion.arn.extract('{account_arn}assumed-role/')"
    " + 'assumed-role/' + assertion.arn.extract('assumed-role/{role_name}/')"
)
_ABSENT = ("not found: 404",)


class Google:
    """The Google side of one stack, by gcloud. What exists is kept."""

    def __init__(self, shell: Shell, settings: Settings, account: str) -> None:
        self._shell = shell
        self._settings = settings
        self._account = account
        self._bucket = f"gs://{settings.destination}"
        self._role = f"arn:aws:sts::{account}:assumed-role/{settings.stack}-{settings.region}"
        self._clause = f"assertion.arn.startsWith('{self._role}/')"
        self._in_pool = ("--location=global", f"--workload-identity-pool={settings.pool}")
        project = self._read("projects", "describe", settings.project, "--format=value(projectNumber)")
        self._pool = f"projects/{(project or 'NUMBER').strip()}/locations/global/workloadIdentityPools/{settings.pool}"
        self.provider = f"{self._pool}/providers/{PROVIDER}"
        self.principal = f"principalSet://iam.googleapis.com/{self._pool}/attribute.aws_role/{self._role}"

    def make(self) -> None:
        """Make what does not exist yet."""
        self._services()
        self._make_bucket()
        self._make_pool()
        self._make_provider()
        granted = self._granted()
        for role in ROLES:
            if role in granted:
                self._shell.note(f"kept: {role} of the stack's role on {self._bucket}")
            else:
                self._bind("add", role)
                self._shell.note(f"granted {role} on {self._bucket} to the stack's role")

    def remove(self) -> None:
        """Take away the grant, and the trust; the bucket and its objects stay."""
        for role in ROLES if self._shell.dry else self._granted():
            self._bind("remove", role)
            self._shell.note(f"withdrew {role} on {self._bucket}")
        pool = self._listed("workload-identity-pools", "list", "--location=global", name=self._settings.pool)
        if self._shell.dry:
            pool = {"state": "ACTIVE"}
        if pool is None or pool["state"] == "DELETED":
            self._shell.note(f"pool {self._settings.pool}: there is none")
            return
        provider = self._listed("workload-identity-pools", "providers", "list", *self._in_pool, name=PROVIDER)
        others = [clause for clause in _clauses(provider) if clause != self._clause]
        if others:
            self._update_condition(others)
            self._shell.note(f"kept: pool {self._settings.pool}, as other roles use it: {' || '.join(others)}")
            return
        if self._shell.dry or (provider is not None and provider["state"] != "DELETED"):
            self._change("iam", "workload-identity-pools", "providers", "delete", PROVIDER, *self._in_pool)
        self._change("iam", "workload-identity-pools", "delete", self._settings.pool, "--location=global")
        self._shell.note(
            f"deleted pool {self._settings.pool}: Google keeps it for 30 days, `make deploy` takes it back"
        )

    def _services(self) -> None:
        enabled = (self._read("services", "list", "--enabled", "--format=value(config.name)") or "").split()
        missing = [name for name in SERVICES if name not in enabled]
        if missing:
            self._change("services", "enable", *missing)
            self._shell.note(f"enabled {', '.join(missing)}")

    def _make_bucket(self) -> None:
        found = self._read("storage", "buckets", "describe", self._bucket, "--raw", "--format=json", absent=_ABSENT)
        if found is None and not self._settings.location and not self._shell.dry:
            raise StoppedError(f"There is no bucket {self._bucket}. Set LOCATION in deploy.env: it is made there.")
        if found is None:
            with_rule = ("--lifecycle-file", _lifecycle([]))
            self._change(
                *("storage", "buckets", "create", self._bucket, f"--location={self._settings.location}"),
                *("--uniform-bucket-level-access", "--public-access-prevention", *with_rule),
            )
            self._shell.note(f"made {self._bucket}, with a lifecycle rule for {STAGING}")
            return
        bucket = json.loads(found)
        uniform = bucket.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled")
        if not uniform:
            raise StoppedError(
                f"{self._bucket} has no uniform bucket-level access, which identities from AWS need. Access control "
                f"lists of its objects end with it; if nobody needs them, run:\n"
                f"  gcloud storage buckets update {self._bucket} --uniform-bucket-level-access"
            )
        rules = bucket.get("lifecycle", {}).get("rule", [])
        if any(STAGING in rule.get("condition", {}).get("matchesPrefix", []) for rule in rules):
            self._shell.note(f"kept: {self._bucket} and its lifecycle rule for {STAGING}")
        else:
            self._change("storage", "buckets", "update", self._bucket, "--lifecycle-file", _lifecycle(rules))
            self._shell.note(f"kept: {self._bucket}; added a lifecycle rule for {STAGING} to its {len(rules)}")

    def _make_pool(self) -> None:
        name = self._settings.pool
        pool = self._listed("workload-identity-pools", "list", "--location=global", name=name)
        if pool is None:
            display = "--display-name=S3 replicator"
            self._change("iam", "workload-identity-pools", "create", name, "--location=global", display)
            self._shell.note(f"made pool {name}")
        elif pool["state"] == "DELETED":
            self._change("iam", "workload-identity-pools", "undelete", name, "--location=global")
            self._shell.note(f"took pool {name} back, which was deleted within the last 30 days")
        else:
            self._shell.note(f"kept: pool {name}")

    def _make_provider(self) -> None:
        listed = ("workload-identity-pools", "providers")
        provider = self._listed(*listed, "list", *self._in_pool, name=PROVIDER)
        if provider is None:
            condition = f"--attribute-condition={self._clause}"
            account = f"--account-id={self._account}"
            mapping = f"--attribute-mapping={_MAPPING}"
            self._change("iam", *listed, "create-aws", PROVIDER, *self._in_pool, account, mapping, condition)
            self._shell.note(f"made provider {PROVIDER}, which trusts {self._role} only")
            return
        if provider.get("aws", {}).get("accountId") != self._account:
            raise StoppedError(
                f"The provider {PROVIDER} of pool {self._settings.pool} trusts the AWS account "
                f"{provider.get('aws', {}).get('accountId')}, not {self._account}. Choose another POOL."
            )
        if provider["state"] == "DELETED":
            self._change("iam", *listed, "undelete", PROVIDER, *self._in_pool)
            self._shell.note(f"took provider {PROVIDER} back")
        if not _clauses(provider):
            self._shell.note(
                f"kept: provider {PROVIDER}, which trusts every role of {self._account}: it has no condition"
            )
        elif self._clause in _clauses(provider):
            self._shell.note(f"kept: provider {PROVIDER}, which trusts {self._role}")
        else:
            self._update_condition([*_clauses(provider), self._clause])
            self._shell.note(f"provider {PROVIDER} trusts {self._role} too")

    def _update_condition(self, clauses: list[str]) -> None:
        condition = f"--attribute-condition={' || '.join(clauses)}"
        self._change("iam", "workload-identity-pools", "providers", "update-aws", PROVIDER, *self._in_pool, condition)

    def _granted(self) -> list[str]:
        """Return those of the roles that the stack's role has on the bucket."""
        policy = self._read("storage", "buckets", "get-iam-policy", self._bucket, "--format=json", absent=_ABSENT)
        bindings = json.loads(policy or "{}").get("bindings", [])
        return [each["role"] for each in bindings if each["role"] in ROLES and self.principal in each["members"]]

    def _bind(self, verb: str, role: str) -> None:
        granted = (f"--role={role}", f"--member={self.principal}")
        self._change("storage", "buckets", f"{verb}-iam-policy-binding", self._bucket, *granted)

    def _listed(self, *command: str, name: str) -> dict[str, Any] | None:
        """Find a pool or provider, also one that is deleted softly."""
        found = json.loads(self._read("iam", *command, "--show-deleted", "--format=json") or "[]")
        return next((each for each in found if each["name"].endswith(f"/{name}")), None)

    def _read(self, *command: str, absent: tuple[str, ...] = ()) -> str | None:
        return self._shell.read("gcloud", *command, f"--project={self._settings.project}", absent=absent)

    def _change(self, *command: str) -> None:
        self._shell.change("gcloud", *command, f"--project={self._settings.project}", "--quiet")


def _clauses(provider: dict[str, Any] | None) -> list[str]:
    condition = (provider or {}).get("attributeCondition", "")
    return condition.split(" || ") if condition else []


def _lifecycle(rules: list[dict[str, Any]]) -> str:
    """Write the bucket's rules and ours into a file, and return its name."""
    ours = {"action": {"type": "Delete"}, "condition": {"age": STAGING_DAYS, "matchesPrefix": [STAGING]}}
    file = Path(".aws-sam/deploy-lifecycle.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"rule": [*rules, ours]}, indent=2))
    return str(file)
