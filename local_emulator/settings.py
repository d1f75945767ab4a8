"""What the command line asks for, checked before anything is started."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class UsageError(Exception):
    """The command line asks for what cannot be done; the message says why, in one line."""


class StartError(Exception):
    """The emulator cannot start on this machine as things are; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One emulator's configuration. Folders are absolute."""

    source: Path
    destination: Path
    bucket: str
    rules: list[dict[str, Any]]
    """REPLICATION_RULES, as the handler gets them."""
    single: bool
    """The destination folder is one bucket; otherwise a folder per bucket."""
    host: str = "127.0.0.1"
    port: int = 8000
    versioned: bool = False
    max_receives: int = 5
    visibility: int = 30
    concurrency: int = 4
    verbose: bool = False

    @property
    def source_buckets(self) -> list[str]:
        """Every S3 bucket that is replicated from, the watched one first."""
        return list(dict.fromkeys([self.bucket, *(rule["Source"]["Bucket"] for rule in self.rules)]))

    @property
    def gcs_buckets(self) -> list[str]:
        """Every GCS bucket that is replicated to."""
        places = [rule["Destination"]["Bucket"].partition("://") for rule in self.rules]
        return list(dict.fromkeys(place.partition("/")[0] for scheme, _, place in places if scheme == "gs"))


def own_rules(bucket: str, destination: Path, target: str) -> list[dict[str, Any]]:
    """Return the one rule of an emulator that was not given any."""
    url = f"gs://{bucket}" if target == "gcs" else destination.as_uri()
    return [{"ID": "emulator", "Source": {"Bucket": bucket}, "Destination": {"Bucket": url}}]


def read_rules(file: Path) -> list[dict[str, Any]]:
    """Read a rule list as far as the emulator needs it; the handler itself judges the rest.

    Raises:
        UsageError: it is no list of rules that name a source bucket and a destination.
    """
    rules = read_json(file)
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"{file}: a JSON list of rules was expected")
    for number, rule in enumerate(rules, 1):
        try:
            ends = (rule["Source"]["Bucket"], rule["Destination"]["Bucket"])
        except (TypeError, KeyError):
            ends = (None, None)
        if not all(isinstance(end, str) and end for end in ends):
            raise UsageError(f"{file}: rule {number} lacks Source.Bucket or Destination.Bucket")
    return rules


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file}: not JSON: {error}") from error


def check(settings: Settings) -> None:
    """See that the folders and buckets make sense together.

    Raises:
        UsageError: they do not.
    """
    source, destination = settings.source.resolve(), settings.destination.resolve()
    if source.is_relative_to(destination) or destination.is_relative_to(source):
        raise UsageError(f"source {source} and destination {destination} must not lie inside one another")
    for folder in (settings.source, settings.destination):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
    for bucket in settings.source_buckets + settings.gcs_buckets:
        if not BUCKET_NAME.fullmatch(bucket):
            raise UsageError(f"{bucket!r} is not a bucket name: 3 to 63 of a-z, 0-9, hyphen and dot")
