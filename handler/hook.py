"""Answers CodeDeploy, which asks before a new version gets traffic (template.yaml's DeploymentPreference)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from handler.running import Running, variables_of

_NOTHING_TO_DO = json.dumps({"Event": "s3:TestEvent"})


def is_asked(event: dict[str, Any]) -> bool:
    """Return True if it is CodeDeploy that asks."""
    return "LifecycleEventHookExecutionId" in event


def of_new(client: Any, version: str) -> Running:
    """Return what a version is that no alias runs yet, after a start of it.

    Args:
        client: boto3's, for Lambda.
        version: its ARN.

    Raises:
        ClientError: where a request is denied.
        RuntimeError: the version does not start.
    """
    answer = client.invoke(FunctionName=version, Payload=_NOTHING_TO_DO)
    if "FunctionError" in answer:
        raise RuntimeError(f"it does not start: {json.load(answer['Payload']).get('errorMessage')}")
    variables = variables_of(client.get_function_configuration(FunctionName=version))
    return Running(version.rpartition(":")[2], {}, (), variables)


def answered(event: dict[str, Any], client: Any, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run the check, log its table, and tell CodeDeploy: without an answer it would wait for an hour.

    Args:
        event: CodeDeploy's.
        client: boto3's, for CodeDeploy.
        check: the check, as the operator runs it.
    """
    status = "Failed"
    try:
        result = check()
        sys.stdout.write(f"{result['table']}\n")
        status = "Succeeded" if result["ok"] else "Failed"
        return result
    finally:
        client.put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status=status,
        )
