"""Reads which version an alias of a deployed function runs. An update of the function alone does not change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ALIAS = "live"
"""The alias that the queues and the URL invoke; template.yaml names it."""
_COMPARED = (
    "CodeSha256",
    "MemorySize",
    "Timeout",
    "Architectures",
    "KMSKeyArn",
    "VpcConfig",
    "Role",
    "Handler",
    "Runtime",
)


class Running(NamedTuple):
    """The version that an alias runs."""

    version: str
    shifting: Mapping[str, float]
    """Other versions that get a part of the invocations, by a gradual deployment that has not ended."""
    stale: tuple[str, ...]
    """Names of properties and variables that differ between this version and the function."""
    variables: Mapping[str, str]

    def __str__(self) -> str:
        """Return the text for the check's table."""
        others = "".join(f", version {other} for {weight:.0%}" for other, weight in self.shifting.items())
        if not self.stale:
            return f"version {self.version} with the current configuration{others}"
        return f"version {self.version}{others}: deploy again, as it lacks the current {', '.join(self.stale)}"


def of_alias(client: Any, version: str) -> Running:
    """Return the version that the alias runs.

    Args:
        client: boto3's client for Lambda.
        version: the ARN of any version of the function.

    Raises:
        ClientError: a request is denied, or there is no such alias.
    """
    function = version.rpartition(":")[0]
    alias = client.get_alias(FunctionName=function, Name=ALIAS)
    runs = client.get_function_configuration(FunctionName=function, Qualifier=alias["FunctionVersion"])
    current = client.get_function_configuration(FunctionName=function)
    has, wants = variables_of(runs), variables_of(current)
    stale = [name for name in _COMPARED if runs.get(name) != current.get(name)]
    stale += [name for name in sorted({*has, *wants}) if has.get(name) != wants.get(name)]
    shifting = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return Running(alias["FunctionVersion"], shifting, tuple(stale), has)


def variables_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return a function's variables.

    Raises:
        PermissionError: they are encrypted by a KMS key that the caller may not use.
    """
    environment: dict[str, Any] = configuration.get("Environment") or {}
    if "Error" in environment:
        raise PermissionError(environment["Error"].get("Message", "the variables cannot be decrypted"))
    variables: dict[str, str] = environment.get("Variables", {})
    return variables
