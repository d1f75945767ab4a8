"""Deploys the stack with its Google side, tries it, and says what was done; or removes both.

make deploy      check tools and identities, build, make Google's side, deploy, check permissions, copy one object
make undeploy    delete the stack, the grant and the trust; both buckets stay
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.google import Google
from deploy.settings import Settings, WrongSettingsError, load
from deploy.shell import Shell, StoppedError
from deploy.stack import Stack
from deploy.terraform import Terraform

_TOOLS = {
    "aws": "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    "sam": "make build puts it into .venv-sam/bin",
    "make": "your system's package",
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}


def main(
    arguments: list[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    answer: Callable[[str], str] = input,
) -> int:
    """Run the program: 0 when all is done, 1 when a step failed or was declined, 2 when it cannot begin."""
    parser = argparse.ArgumentParser(prog="make deploy", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["deploy", "undeploy"])
    parser.add_argument("--settings", type=Path, default=Path("deploy.env"), help="the file of settings")
    parser.add_argument("--dry", action="store_true", help="print every command, and run none")
    parser.add_argument("--yes", action="store_true", help="ask for nothing")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two looks at what takes time")
    options = parser.parse_args(arguments)
    try:
        settings = load(options.settings, environment, Path("template.yaml"))
        if not options.dry:
            _tools(settings, environment)
    except WrongSettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    shell = Shell(_environment(settings, environment), options.dry, options.yes, options.pause, answer)
    route = f"s3://{settings.source} to gs://{settings.destination} of project {settings.project}"
    shell.say(f"Stack {settings.stack} in {settings.region}: {route}")
    try:
        (_deploy if options.action == "deploy" else _undeploy)(shell, settings)
    except StoppedError as error:
        sys.stderr.write(
            f"\n{error}\nNothing after it was done. Run make {options.action} again: what is done stays done.\n"
        )
        return 1
    _report(shell)
    return 0


def _deploy(shell: Shell, settings: Settings) -> None:
    stack = Stack(shell, settings)
    with shell.step("Identities"):
        google = _google(shell, settings, stack.account())
        stack.look_at_source()
    with shell.step("Build"):
        stack.build()
    with shell.step("Google's side"):
        google.make()
    with shell.step("Stack"):
        stack.deploy(google.provider)
    with shell.step("Permissions"):
        stack.check()
    with shell.step("One object"):
        stack.try_one_object()


def _undeploy(shell: Shell, settings: Settings) -> None:
    stack = Stack(shell, settings)
    with shell.step("Identities"):
        google = _google(shell, settings, stack.account())
    shell.say(
        f"This deletes the stack {settings.stack} with the events that wait in its queues, and Google's trust in it."
    )
    shell.say(f"Kept, with all their objects: s3://{settings.source} and gs://{settings.destination}.")
    with shell.step("Stack"):
        shell.agree("Go on?")
        stack.delete()
    with shell.step("Google's side"):
        google.remove()


def _google(shell: Shell, settings: Settings, account: str) -> Google | Terraform:
    if settings.google == "terraform":
        return Terraform(shell, settings, account)
    active = shell.read("gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)")
    if not shell.dry and not (active or "").strip():
        raise StoppedError("gcloud has no account. Run: gcloud auth login")
    return Google(shell, settings, account)


def _tools(settings: Settings, environment: Mapping[str, str]) -> None:
    wanted = [name for name in _TOOLS if name not in {"gcloud", "terraform"} or name == settings.google]
    missing = [name for name in wanted if not shutil.which(name, path=environment.get("PATH", ""))]
    if missing:
        listed = "\n".join(f"  - {name}: {_TOOLS[name]}" for name in missing)
        raise WrongSettingsError(f"Cannot deploy: these tools are not on the PATH.\n{listed}")


def _environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the tools run with: the stack's region, no pager, no telemetry."""
    region = {"AWS_REGION": settings.region, "AWS_DEFAULT_REGION": settings.region}
    return {**environment, **region, "AWS_PAGER": "", "SAM_CLI_TELEMETRY": "0"}


def _report(shell: Shell) -> None:
    shell.say("\n== " + ("Nothing was run: these are the commands" if shell.dry else "Done"))
    if shell.dry:
        return
    for line in shell.done:
        shell.say(f"  {line}")
    for name, seconds in shell.steps:
        shell.say(f"  {seconds:7.1f} s  {name}")


if __name__ == "__main__":
    sys.exit(main())
