"""Builds and deploys the stack, tries it with one object, and deletes it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import uuid
from pathlib import Path

from deploy.settings import Settings
from deploy.shell import Shell, StoppedError

_LOOKS = 84
"""Looks at what takes time: seven minutes, as Google's permissions take effect mostly after two and sometimes seven."""
_PYTHON = sys.executable
_FAILED_CREATION = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}


class Stack:
    """The AWS side, by aws and sam."""

    def __init__(self, shell: Shell, settings: Settings) -> None:
        self._shell = shell
        self._settings = settings
        self._named = ("--stack-name", settings.stack, "--region", settings.region)

    def account(self) -> str:
        """Return the account whose credentials the shell has."""
        found = self._aws("sts", "get-caller-identity")
        return str(json.loads(found)["Account"]) if found else "ACCOUNT"

    def look_at_source(self) -> None:
        """Stop unless the source bucket is there, and in the stack's region."""
        name = self._settings.source
        if self._settings.value("SourceBucketOwner"):
            return  # another account's, whose location this shell's credentials mostly may not read
        found = self._aws("s3api", "get-bucket-location", "--bucket", name, absent=("NoSuchBucket",))
        if self._shell.dry:
            return
        if found is None:
            if self._settings.value("CreateSourceBucket") == "true":
                return
            raise StoppedError(
                f"There is no bucket s3://{name}. Make it, or set CreateSourceBucket=true in deploy.env."
            )
        region = json.loads(found or "{}").get("LocationConstraint") or "us-east-1"
        if region != self._settings.region:
            raise StoppedError(
                f"s3://{name} is in {region}, and the stack in {self._settings.region}: set REGION={region}."
            )

    def build(self) -> None:
        """Build for the processor that is deployed."""
        self._shell.change("make", "build", f"ARCHITECTURE={self._settings.architecture}")
        self._shell.note(f"built for {self._settings.architecture}")

    def deploy(self, provider: str) -> None:
        """Make or update the stack, with its parameters in a file: rules in JSON outlive no command line."""
        self._clear_the_way()
        file = Path(f".aws-sam/deploy-{self._settings.stack}.yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(parameters_file(self._settings.parameters(provider)))
        asked = ("--no-confirm-changeset",) if self._shell.yes else ()
        override = ("--parameter-overrides", f"file://{file}")
        advice = "Its messages are above. After a failed creation, make deploy offers to delete what is left."
        self._shell.change("sam", "deploy", *self._named, *override, *asked, asks_itself=True, advice=advice)
        status = self._status()
        if not self._shell.dry and status in {None, "REVIEW_IN_PROGRESS"}:
            raise StoppedError("The change set was not agreed to: nothing was deployed.")
        self._shell.note(f"deployed stack {self._settings.stack}")

    def check(self) -> None:
        """Try each permission with the function's own role, until Google's have taken effect."""
        command = (_PYTHON, "-m", "handler.tools.check", "--function", f"{self._settings.stack}-check")
        last: StoppedError | None = None
        for look in range(_LOOKS):
            try:
                table = self._shell.read(*command, quiet=look > 0)
            except StoppedError as error:
                if not any(word in str(error) for word in ("MISSING", "FAILED")):
                    raise  # no permission that may take effect yet
                last = error
                self._shell.say("  a permission is missing, or has not taken effect yet" if not look else "  ...")
                time.sleep(self._shell.pause)
            else:
                self._shell.say(table or "")
                self._shell.note("checked every permission")
                return
        raise StoppedError(f"{last}\nThe table above says which permission is missing.")

    def try_one_object(self) -> None:
        """Write one object, wait for its copy, and delete the object again."""
        reason = self._untried()
        key, copy = ("", "") if reason else self._trial()
        if not copy:
            self._shell.note(f"no object was tried: {reason or 'no enabled rule without tags copies to GCS'}")
            return
        body = Path(".aws-sam/deploy-trial.txt")
        body.write_text(f"Written by make deploy: {uuid.uuid4()}\n")
        at = ("--bucket", self._settings.source, "--key", key)
        self._shell.change(*self._line("s3api", "put-object", *at, "--body", str(body)))
        started = time.monotonic()
        try:
            self._wait_for(copy, body.read_text())
        finally:
            self._delete(at)
        self._shell.note(f"copied one object in {time.monotonic() - started:.0f} s, and deleted it: {copy}")
        if self._settings.value("ReplicateDeletes") == "Enabled":
            self._shell.note("its copy follows by the events of deletes")
        else:
            self._shell.change("gcloud", "storage", "rm", copy, f"--project={self._settings.project}")

    def delete(self) -> None:
        """Delete the stack; the source bucket stays, even one that the stack made."""
        if self._status() is None and not self._shell.dry:
            self._shell.note(f"stack {self._settings.stack}: there is none")
            return
        advice = (
            "Where a custom resource cannot be deleted, leave it behind (docs/operations.md, "
            '"A custom resource that fails"), and run make undeploy again.'
        )
        self._shell.change("sam", "delete", *self._named, "--no-prompts", advice=advice)
        self._shell.note(f"deleted stack {self._settings.stack}")

    def _clear_the_way(self) -> None:
        """Deal with what an earlier deployment left."""
        status = self._status()
        if status in _FAILED_CREATION:
            self._shell.say(f"  The stack {self._settings.stack} is {status}: it cannot be updated, only deleted.")
            self._shell.say(self._why())
            self._shell.agree("Delete what is left of it, and make it anew?")
            self._shell.change(*self._line("cloudformation", "delete-stack", *self._named[:2]))
            self._shell.change(*self._line("cloudformation", "wait", "stack-delete-complete", *self._named[:2]))
            self._shell.note(f"deleted the stack that was {status}")
        elif status == "UPDATE_ROLLBACK_FAILED":
            command = f"aws cloudformation continue-update-rollback {' '.join(self._named)}"
            raise StoppedError(f"The stack is {status}. Its last update could not be taken back; run:\n  {command}")
        elif status and status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            raise StoppedError(f"The stack is {status}: somebody else changes it. Wait, and run make deploy again.")

    def _why(self) -> str:
        """Return CloudFormation's reasons."""
        query = "StackEvents[?contains(ResourceStatus, 'FAILED')].[LogicalResourceId, ResourceStatusReason]"
        found = self._aws("cloudformation", "describe-stack-events", *self._named[:2], "--query", query)
        return "\n".join(f"    {name}: {reason}" for name, reason in json.loads(found or "[]"))

    def _status(self) -> str | None:
        found = self._aws("cloudformation", "describe-stacks", *self._named[:2], absent=("does not exist",))
        return str(json.loads(found)["Stacks"][0]["StackStatus"]) if found else None

    def _untried(self) -> str:
        if not self._shell.dry and not shutil.which("gcloud", path=self._shell.environment.get("PATH", "")):
            return "gcloud, which reads the copy, is not on the PATH"
        for name, value in (("DryRun", "true"), ("Replication", "Paused")):
            if self._settings.value(name) == value:
                return f"{name}={value}"
        return ""

    def _trial(self) -> tuple[str, str]:
        """Return a key, and where its copy goes, "" where no rule makes one."""
        from handler.rules import rules_of  # only here does the tool need the handler

        settings = self._settings
        prefix = settings.value("DestinationPrefix")
        own = {
            "Source": {"Bucket": settings.source},
            "Filter": {"Prefix": settings.value("SourcePrefix")},
            "Destination": {"Bucket": f"gs://{settings.destination}/{prefix}"},
        }
        faults: list[str] = []
        rules = rules_of(settings.value("ReplicationRules") or json.dumps([own]), faults)
        if faults:
            raise StoppedError(f"ReplicationRules: {'; '.join(faults)}")
        for rule in sorted(rules, key=lambda rule: -rule.priority):
            if (
                rule.enabled
                and not rule.tags
                and rule.source == settings.source
                and rule.destination.startswith("gs://")
            ):
                under = max(rule.prefix, settings.value("SourcePrefix"), key=len)
                key = f"{under}.replicator-trial-{uuid.uuid4()}{settings.value('SourceSuffix')}"
                return key, f"{rule.destination}/{rule.destination_key(key)}"
        return "", ""

    def _wait_for(self, copy: str, body: str) -> None:
        command = ("gcloud", "storage", "cat", copy, f"--project={self._settings.project}")
        for look in range(_LOOKS):
            if (
                self._shell.read(*command, quiet=look > 0, absent=("404", "matched no objects")) == body
                or self._shell.dry
            ):
                return
            time.sleep(self._shell.pause)
        raise StoppedError(
            f"{copy} did not come within {_LOOKS} looks. Look at the log and at the dead letters "
            '(docs/operations.md, "Dead letters").'
        )

    def _delete(self, at: tuple[str, ...]) -> None:
        """Delete the object, and in a versioned bucket its version, so that no delete marker stays."""
        found = self._aws("s3api", "head-object", *at)
        version = json.loads(found or "{}").get("VersionId")
        only = ("--version-id", version) if version else ()
        self._shell.change(*self._line("s3api", "delete-object", *at, *only))

    def _line(self, *command: str) -> tuple[str, ...]:
        return ("aws", *command, "--region", self._settings.region)

    def _aws(self, *command: str, absent: tuple[str, ...] = ()) -> str | None:
        return self._shell.read(*self._line(*command, "--output", "json"), absent=absent)


def parameters_file(parameters: dict[str, str]) -> str:
    """Write parameters so that sam reads them as they are: it takes away a backslash before a quote.

    Only the JSON of ReplicationRules may hold backslashes, and JSON has another way to write what follows them.
    """
    escapes = {'\\"': "\\u0022", "\\\\": "\\u005c"}
    plain = {
        name: re.sub(r"\\.", lambda found: escapes.get(found[0], found[0]), value) for name, value in parameters.items()
    }
    return json.dumps(plain, indent=2)  # JSON is YAML, the file's extension
