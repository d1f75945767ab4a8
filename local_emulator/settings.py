"""What the command line asks for, checked before anything is started."""

import json
import re
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_emulator.scan import EDITORS

SETTLE = 5.0
"""Seconds."""
S3_BUCKET_NAME = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


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
    gcs: str | None = None
    """The URL of a GCS server that runs already; None: the emulator starts its own."""
    max_receives: int = 1000
    visibility: int = 30
    concurrency: int = 4
    deletes_delay: int = 1
    """Seconds that a delete waits."""
    deletes_limit: int = 1000
    """Deletes that may wait at once; 0: none waits."""
    verbose: bool = False
    ignore: tuple[str, ...] = EDITORS
    """Patterns of names that are no objects."""
    settle: float = SETTLE
    """Seconds without a change after which a file goes up that a program has open for writing."""
    keeps: bool = False
    """What S3 holds is kept in the source folder."""
    catch_up: str = "changed"
    """What is copied at the start: "changed", "all", or "none"."""
    s3_port: int = 0
    gcs_port: int = 0
    """0: a free one."""

    @property
    def source_buckets(self) -> list[str]:
        """Every S3 bucket that is replicated from, the watched one first."""
        return list(dict.fromkeys([self.bucket, *(rule["Source"]["Bucket"] for rule in self.rules)]))

    @property
    def gcs_buckets(self) -> list[str]:
        """Every GCS bucket that is replicated to."""
        names = [_gcs_bucket(rule) for rule in self.rules]
        return list(dict.fromkeys(name for name in names if name is not None))

    @property
    def folders(self) -> list[Path]:
        """Every folder that is replicated to without Google's API."""
        urls = [urllib.parse.urlsplit(rule["Destination"]["Bucket"]) for rule in self.rules]
        return list(dict.fromkeys(Path(urllib.parse.unquote(url.path)) for url in urls if url.scheme == "file"))


def _gcs_bucket(rule: dict[str, Any]) -> str | None:
    """The GCS bucket that a rule copies to, None where it is another place."""
    scheme, _, place = rule["Destination"]["Bucket"].partition("://")
    return place.partition("/")[0] if scheme == "gs" else None


def own_rules(bucket: str, destination: Path, target: str) -> list[dict[str, Any]]:
    """Return the one rule of an emulator that was not given any.

    Raises:
        UsageError: the bucket cannot have that name.
    """
    url = f"gs://{bucket}" if target == "gcs" else destination.as_uri()
    rule = {"ID": "emulator", "Source": {"Bucket": bucket}, "Destination": {"Bucket": url}}
    _check_buckets(rule, "--bucket")
    return [rule]


def read_rules(file: Path) -> list[dict[str, Any]]:
    """Read a rule list as far as the emulator needs it; the handler itself judges the rest.

    Raises:
        UsageError: it is no list of rules that name a source bucket and a destination, and names that can be.
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
        _check_buckets(rule, f"{file}: rule {number}")
    return rules


def _check_buckets(rule: dict[str, Any], place: str) -> None:
    """See that S3 and GCS allow the names in a rule."""
    source, destination = rule["Source"]["Bucket"], _gcs_bucket(rule)
    if not S3_BUCKET_NAME.fullmatch(source):
        allowed = "3 to 63 of a-z, 0-9, hyphen and dot, no two dots together, no IP address"
        raise UsageError(f"{place}: {source!r} is not a bucket name of S3: {allowed}")
    if destination is not None:
        from local_emulator.gcs.model import errors  # a folder target does without it
        from local_emulator.gcs.store import layout  # a folder target does without it

        try:
            layout.check_bucket_name(destination)
        except errors.GcsError as error:
            raise UsageError(f"{place}: {destination!r} is not a bucket name of GCS") from error


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
    """See that the folders make sense, each and together.

    Raises:
        UsageError: they do not.
    """
    source, destination = settings.source.resolve(), settings.destination.resolve()
    if source.is_relative_to(destination) or destination.is_relative_to(source):
        raise UsageError(f"source {source} and destination {destination} must not lie inside one another")
    for folder in (settings.source, settings.destination):
        try:
            wrong = folder.exists() and not folder.is_dir()
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}") from error
        if wrong:
            raise UsageError(f"{folder} is not a folder")


def make_folder(folder: Path) -> bool:
    """See that a folder is there; say whether it was made for that.

    Raises:
        UsageError: it is something else, or cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder") from None
        return False
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return True


def check_writable(folder: Path) -> None:
    """See that copies can be written.

    Raises:
        UsageError: they cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"no copy can be written to the folder {folder}: {error.strerror}") from error
