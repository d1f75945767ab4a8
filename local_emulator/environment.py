"""The handler's environment in the emulator: loopback endpoints, and nothing of the user's own accounts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from local_emulator.context import REGION

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from local_emulator.aws import Aws

OWN = ("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "API_ENDPOINT_OVERRIDE")
"""What names real accounts and servers."""
PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
"""Every endpoint is on loopback, where no proxy leads."""


def isolate(environment: MutableMapping[str, str] = os.environ) -> None:
    """Forget real credentials, endpoints and proxies, and set ones that are worth nothing."""
    for name in list(environment):
        if name.startswith(OWN) or name.upper() in PROXIES:
            del environment[name]
    environment.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",  # noqa: S106 - it opens nothing
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )


def configure(  # noqa: PLR0913 - all but three by keyword
    aws: Aws,
    gcs_url: str | None,
    rules: list[dict[str, Any]],
    *,
    verbose: bool,
    deletes_limit: int = 0,
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Set what the handler reads when it is imported."""
    environment.update(
        REPLICATION_RULES=json.dumps(rules),
        DEAD_LETTER_QUEUE_URL=aws.dead_letter_queue.url,
        DELETES_QUEUE_URL=aws.deletes_queue.url,
        HELD_DELETES_QUEUE_URL=aws.held_deletes_queue.url,
        DELETES_LIMIT=str(deletes_limit),
        PARTS_QUEUE_URL=aws.queue.url,  # one poller serves events and parts alike
        AWS_ENDPOINT_URL_S3=aws.url,
        AWS_ENDPOINT_URL_SQS=aws.url,
    )
    environment.setdefault("POWERTOOLS_SERVICE_NAME", "replicator")
    if gcs_url:
        environment["STORAGE_EMULATOR_HOST"] = gcs_url
    if not verbose:
        environment["POWERTOOLS_METRICS_DISABLED"] = "true"
