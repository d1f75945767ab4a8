"""Answers CodeDeploy, which asks before a new version gets traffic (template.yaml's DeploymentPreference)."""

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
"""Two versions that hang leave time to say so: template.yaml gives two minutes."""
_NOTHING_TO_DO = json.dumps({"Event": "s3:TestEvent"})


def lambda_handler(event: dict[str, Any], _context: object) -> None:
    """Start the new versions, run the check with what they have, and answer; the log has the reason.

    Raises:
        Exception: a version does not start, or the check cannot be run. CodeDeploy is told so too: without an answer
            it would wait for an hour.
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
    """Return a version's variables, after a start of it with nothing to do."""
    answer = client.invoke(FunctionName=version, Payload=_NOTHING_TO_DO)
    if "FunctionError" in answer:
        raise RuntimeError(f"{version} does not start: {json.load(answer['Payload']).get('errorMessage')}")
    return variables_of(client.get_function_configuration(FunctionName=version))
