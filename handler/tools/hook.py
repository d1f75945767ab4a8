"""Checks new versions for CodeDeploy before they get traffic (DeploymentPreference in template.yaml)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from handler import config
from handler.tools import check
from handler.tools.rows import table
from handler.tools.running import variables_of

_CLIENTS = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})
"""Limits that leave time to answer even if two versions hang: template.yaml gives the function two minutes."""
_NOTHING_TO_DO = json.dumps({"Event": "s3:TestEvent"})


def lambda_handler(event: dict[str, Any], _context: object) -> None:
    """Start the new versions, run the check with their variables, and answer CodeDeploy. The log has the reason.

    Raises:
        Exception: a version does not start, or the check cannot run. CodeDeploy gets "Failed" in this case too: without
            an answer it waits for an hour.
    """
    status = "Failed"
    try:
        client = boto3.client("lambda", config=_CLIENTS)
        started = [_started(client, version) for version in config.load().versions]
        rows = list(check.check(config.load(started[0])))
        sys.stdout.write(f"{table(rows)}\n")
        if not any(row.is_fault for row in rows):
            status = "Succeeded"
    finally:
        boto3.client("codedeploy", config=_CLIENTS).put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status=status,
        )


def _started(client: Any, version: str) -> Mapping[str, str]:
    """Start a version by an event that changes nothing, and return its variables."""
    answer = client.invoke(FunctionName=version, Payload=_NOTHING_TO_DO)
    if "FunctionError" in answer:
        raise RuntimeError(f"{version} does not start: {json.load(answer['Payload']).get('errorMessage')}")
    return variables_of(client.get_function_configuration(FunctionName=version))
