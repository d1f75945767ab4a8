"""Reads the settings of a deployment: `deploy.env`, and variables that are given to make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # its stubs would be one more thing to pin

REQUIRED = {
    "STACK": "the stack's name, at most 30 characters",
    "REGION": "the AWS region of the source bucket, for instance us-east-1",
    "SOURCE": "the S3 bucket to replicate from",
    "DESTINATION": "the GCS bucket to replicate to; it is made if it does not exist",
    "PROJECT_ID": "the Google Cloud project of the destination bucket",
}
OPTIONAL = {"LOCATION": "", "POOL": "aws-replicator", "GOOGLE": "gcloud", "ARCHITECTURE": "arm64"}
_OWN_PARAMETERS = {"SourceBucketName", "DestinationBucketName", "GcpWorkloadIdentityProvider", "Architecture"}
"""Parameters of the template that follow from the settings above."""
_PATTERNS = {
    "STACK": r"[A-Za-z][A-Za-z0-9-]{0,29}",
    "REGION": r"[a-z]{2}(-[a-z]+)+-[0-9]",
    "SOURCE": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "DESTINATION": r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]",
    "POOL": r"(?!gcp-)[a-z0-9-]{4,32}",
    "GOOGLE": "gcloud|terraform",
    "ARCHITECTURE": "arm64|x86_64",
}


class WrongSettingsError(Exception):
    """The settings have faults; the message names all of them."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is deployed, from where to where."""

    stack: str
    region: str
    source: str
    destination: str
    project: str
    location: str
    """Where the destination bucket is to be made; empty if it exists."""
    pool: str
    google: str
    architecture: str
    given: Mapping[str, str]
    """Parameters of the template that the user gives."""
    defaults: Mapping[str, str]
    """Every parameter of the template with its default."""

    def value(self, parameter: str) -> str:
        """Return the value that a parameter of the template has."""
        return self.given.get(parameter, self.defaults.get(parameter, ""))

    def parameters(self, provider: str) -> dict[str, str]:
        """Return every parameter of the stack; sam would keep the earlier value of one that is left out."""
        return {
            **self.defaults,
            **self.given,
            "SourceBucketName": self.source,
            "DestinationBucketName": self.destination,
            "GcpWorkloadIdentityProvider": provider,
            "Architecture": self.architecture,
        }


def load(file: Path, environment: Mapping[str, str], template: Path) -> Settings:
    """Read the file; variables of the environment, and so those given to make, come before it.

    Raises:
        WrongSettingsError: some are missing, unknown or wrong.
    """
    defaults = _defaults(template)
    known = {*REQUIRED, *OPTIONAL, *defaults}
    faults: list[str] = []
    values = {**OPTIONAL, **_read(file, faults), **{name: environment[name] for name in known if name in environment}}
    faults += [f"{name} is no setting and no parameter of template.yaml" for name in sorted(values.keys() - known)]
    faults += [f"{name} follows from the other settings" for name in sorted(values.keys() & _OWN_PARAMETERS)]
    faults += [f"{name} is missing: {meaning}" for name, meaning in REQUIRED.items() if not values.get(name)]
    for name, pattern in _PATTERNS.items():
        if values.get(name) and not re.fullmatch(pattern, values[name]):
            faults.append(f"{name}={values[name]} must match {pattern}")
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise WrongSettingsError(f"Cannot deploy: the settings in {file} are not complete.\n{listed}\n{_HELP}")
    return Settings(
        **{name.lower(): values[name] for name in {*REQUIRED, *OPTIONAL} - {"PROJECT_ID"}},
        project=values["PROJECT_ID"],
        given={name: values[name] for name in sorted(values.keys() & defaults.keys())},
        defaults=defaults,
    )


_HELP = "Copy docs/deploy/deploy.env.example to deploy.env, and edit it; or give them to make: make deploy STACK=..."


def _read(file: Path, faults: list[str]) -> dict[str, str]:
    """Read NAME=VALUE lines, quoted as in a shell."""
    if not file.exists():
        return {}
    try:
        words = shlex.split(file.read_text(), comments=True)
    except ValueError as error:
        faults.append(f"a quotation does not end ({error})")
        return {}
    faults += [f"{word!r} is no NAME=VALUE (a value with spaces needs quotes)" for word in words if "=" not in word]
    return dict(word.split("=", 1) for word in words if "=" in word)


def _defaults(template: Path) -> dict[str, str]:
    """Return the template's parameters with their defaults, "" for none."""
    section = re.search(r"^Parameters:\n(?:(?: .*|#.*)?\n)+", template.read_text(), re.MULTILINE)
    parameters: dict[str, dict[str, Any]] = yaml.safe_load(section[0])["Parameters"] if section else {}
    return {name: str(parameter.get("Default", "")) for name, parameter in parameters.items()}
