"""Settings from the environment, which is read here and nowhere else. All faults are reported at once."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handler.core.model import GIB, MIB, TIB, Rule
from handler.core.parts import HUGE, LARGE
from handler.rules import is_account, rules_of

CONCURRENCY = 16
STREAMS = 16
DELETES = 1000
_MEMORY = 1024
"""MiB taken for granted where the environment does not say."""
NAMESPACE = "CrossCloudReplicator"
_BANDWIDTHS = range(MIB, 100 * GIB)
GCS_CLIENTS = ("json-api", "google-cloud-storage")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FEDERATION_FIELDS = ("audience", "subject_token_type", "token_url")


class ConfigurationError(Exception):
    """The configuration is wrong; the message names every fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("the configuration is wrong:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that can be set. The SDKs read their own variables besides (endpoints, credentials, region)."""

    rules: tuple[Rule, ...]
    """REPLICATION_RULES: JSON, see `rules.rules_of`."""
    concurrency: int = CONCURRENCY
    """CONCURRENCY: keys worked on at once by one function instance, at most; see `fitting`."""
    streams: int = STREAMS
    """Parts of large objects copied at once, by all keys together; see `fitting`."""
    dead_letter_queue: str | None = None
    """DEAD_LETTER_QUEUE_URL: where hopeless messages are parked at once. Unset: the queue's own redrive policy."""
    parts_queue: str | None = None
    """PARTS_QUEUE_URL: where the parts of huge objects are handed to other invocations. Unset: this one copies all."""
    deletes_queue: str | None = None
    """DELETES_QUEUE_URL: where deletes wait, so that the brake can hold them. Unset: they are carried out at once."""
    held_deletes_queue: str | None = None
    """HELD_DELETES_QUEUE_URL: where deletes are held that are too many. It must be set with DELETES_QUEUE_URL."""
    deletes_limit: int = DELETES
    """DELETES_LIMIT: deletes that may wait at once; more are held. 0: no delete waits or is held."""
    huge: int = HUGE
    """FAN_OUT_THRESHOLD: bytes from which on an object is huge."""
    bandwidth: int | None = None
    """BANDWIDTH_LIMIT: bytes a second that one function instance reads at most. Unset: as fast as it can."""
    dry_run: bool = False
    """DRY_RUN: look, log what would be done, and change nothing at the destination."""
    gcp_credentials: str = ""
    """GCP_CREDENTIALS: workload identity federation's configuration as JSON, which the variable may also be the path
    of. Unset: Google's defaults."""
    gcs_client: str = GCS_CLIENTS[0]
    """GCS_CLIENT: which client speaks to GCS; the build puts the second one into the zip only if it is asked to."""
    source_bucket_owner: str | None = None
    """SOURCE_BUCKET_OWNER: the account that every source bucket must belong to, unless a rule names another."""
    metrics_namespace: str = NAMESPACE
    """METRICS_NAMESPACE, of CloudWatch."""
    log_level: str = "INFO"
    """POWERTOOLS_LOG_LEVEL."""
    versions: tuple[str, ...] = ()
    """VERSIONS: ARNs of what was deployed last, the replicator's version first. The check alone has it."""
    wiring: Mapping[str, Any] = field(default_factory=dict)
    """WIRING: JSON, what the stack made for events to come by. The check and the canary read it. Unset: empty."""
    by_source: Mapping[str, tuple[Rule, ...]] = field(init=False)
    """The enabled rules of each source bucket, the highest priority first."""

    def __post_init__(self) -> None:
        by_source: dict[str, tuple[Rule, ...]] = {}
        for rule in sorted(self.rules, key=lambda rule: -rule.priority):
            if rule.enabled:
                by_source[rule.source] = (*by_source.get(rule.source, ()), rule)
        object.__setattr__(self, "by_source", by_source)

    def owner_of(self, bucket: str) -> str | None:
        """Return the account that a source bucket must belong to, None where that is not to be checked."""
        named = (rule.account for rule in self.rules if rule.source == bucket and rule.account)
        return next(named, self.source_bucket_owner)


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: with every fault there is.
    """
    faults: list[str] = []
    text = environment.get("REPLICATION_RULES", "")
    rules: tuple[Rule, ...] = ()
    if text.strip():
        rules = rules_of(text, faults)
    else:
        faults.append("REPLICATION_RULES is not set: give a JSON list of rules")
    concurrency = _number(environment.get("CONCURRENCY", ""), "CONCURRENCY", CONCURRENCY, range(1, 1001), faults)
    concurrency, streams = fitting(concurrency, environment)
    sizes = range(LARGE, 5 * TIB + 1)
    huge = _number(environment.get("FAN_OUT_THRESHOLD", ""), "FAN_OUT_THRESHOLD", HUGE, sizes, faults)
    bandwidth = _number(environment.get("BANDWIDTH_LIMIT", ""), "BANDWIDTH_LIMIT", 0, _BANDWIDTHS, faults)
    deletes = _number(environment.get("DELETES_LIMIT", ""), "DELETES_LIMIT", DELETES, range(1_000_001), faults)
    waiting = environment.get("DELETES_QUEUE_URL") or None
    held = environment.get("HELD_DELETES_QUEUE_URL") or None
    if waiting and not held:
        faults.append("HELD_DELETES_QUEUE_URL is not set, and DELETES_QUEUE_URL is: set both, or neither")
    dry_run = environment.get("DRY_RUN", "") or "false"
    if dry_run not in {"true", "false"}:
        faults.append(f"DRY_RUN must be true or false, not {dry_run!r}")
    log_level = environment.get("POWERTOOLS_LOG_LEVEL", "").upper() or "INFO"
    if log_level not in _LOG_LEVELS:
        faults.append(f"POWERTOOLS_LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}, not {log_level!r}")
    owner = environment.get("SOURCE_BUCKET_OWNER", "")
    if owner and not is_account(owner):
        faults.append(f"SOURCE_BUCKET_OWNER must be an AWS account's 12 digits, not {owner!r}")
    gcs_client = _gcs_client(environment.get("GCS_CLIENT", ""), faults)
    wiring = _wiring(environment.get("WIRING", ""), faults)
    credentials = _federation(environment.get("GCP_CREDENTIALS", "").strip(), faults)
    if faults:
        raise ConfigurationError(faults)
    return Settings(
        rules=rules,
        concurrency=concurrency,
        streams=streams,
        dead_letter_queue=environment.get("DEAD_LETTER_QUEUE_URL") or None,
        parts_queue=environment.get("PARTS_QUEUE_URL") or None,
        deletes_queue=waiting,
        held_deletes_queue=held,
        deletes_limit=deletes,
        huge=huge,
        bandwidth=bandwidth or None,
        dry_run=dry_run == "true",
        gcp_credentials=credentials,
        gcs_client=gcs_client,
        source_bucket_owner=owner or None,
        wiring=wiring,
        log_level=log_level,
        metrics_namespace=environment.get("METRICS_NAMESPACE") or NAMESPACE,
        versions=tuple(environment.get("VERSIONS", "").split()),
    )


def fitting(concurrency: int, environment: Mapping[str, str]) -> tuple[int, int]:
    """Return how many keys and how many parts can be worked on at once with the memory and the files that there are.

    Peak memory: 64 MiB + 9 MiB for each part + 17 MiB for each key, which is for keys of 8 MiB, as a small object is
    held together with its request; of small ones a key takes that much less. Half of what is over 64 MiB is for either.
    A key has two connections open, and two files at most besides.

    Args:
        concurrency: keys asked for.
        environment: Lambda says the function's MB in it.
    """
    told = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    half = ((int(told) if told.isdecimal() else _MEMORY) - 64) // 2
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    keys = min(concurrency, half // 17, files // 4)
    return max(1, keys), max(1, min(STREAMS, half // 9, files // 4))


def _number(text: str, name: str, default: int, allowed: range, faults: list[str]) -> int:
    if not text:
        return default
    if text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) in allowed:
        return int(text)
    faults.append(f"{name} must be a number from {allowed[0]} to {allowed[-1]}, not {text!r}")
    return default


def _gcs_client(text: str, faults: list[str]) -> str:
    """Return the name of the client that speaks to GCS, which must be installed."""
    name = text or GCS_CLIENTS[0]
    if name not in GCS_CLIENTS:
        faults.append(f"GCS_CLIENT must be {' or '.join(GCS_CLIENTS)}, not {name!r}")
    elif name == "google-cloud-storage" and not (find_spec("google.cloud") and find_spec("google.cloud.storage")):
        faults.append(f"GCS_CLIENT: {name} is not installed; build with `make build GCS_CLIENT={name}`")
    return name


def _wiring(text: str, faults: list[str]) -> dict[str, Any]:
    """Return the stack's own description of itself, which template.yaml writes."""
    try:
        wiring = json.loads(text or "{}")
    except ValueError:
        wiring = None
    if not isinstance(wiring, dict):
        faults.append("WIRING must be a JSON object, as template.yaml writes it")
        return {}
    return wiring


def _federation(text: str, faults: list[str]) -> str:
    """Return the JSON of a workload identity federation, out of its file where a path is given. Quotes nothing of it.

    https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds
    """
    if not text:
        return ""
    try:
        text = text if text.startswith("{") else Path(text).read_text()
        document = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        faults.append(f"GCP_CREDENTIALS must be JSON or the path of a file that has it: {why}")
        return ""
    if not isinstance(document, dict) or document.get("type") != "external_account":
        faults.append('GCP_CREDENTIALS must be the configuration of a federation, {"type": "external_account", ...}')
        return ""
    missing = [name for name in _FEDERATION_FIELDS if not isinstance(document.get(name), str) or not document[name]]
    faults += [f"GCP_CREDENTIALS: {name} is missing" for name in missing]
    return text
