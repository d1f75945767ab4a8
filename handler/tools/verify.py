"""Compares every object of the rules' sources with its copy, and names or repairs the copies that are not equal.

    python -m handler.tools.verify             name the differences, with the variables and credentials of this shell
    python -m handler.tools.verify --repair    copy, patch and delete what is not equal, as an event would
    python -m handler.tools.verify --remove-orphans gs://BUCKET/PREFIX    remove copies that no rule makes any more

Both sides are listed, 1,000 names a request, and joined by name. The listings show most copies to be equal. Every other
key is checked individually, as an event would check it. Without --repair it is checked once more after 15 s, as its
event may be on its way. Listings have no tags: --thorough checks every key individually.

Deletes wait until both sides have been listed. None is carried out if they are more than 1,000 and also more than 10 %
of all copies, or of all copies from one source bucket. The lines "held" name them.

"orphan" names a copy from a source bucket of the rules that no rule makes any more: the rules have changed. To find
orphans, whole destination buckets are listed: one more request for each 1,000 names outside of the rules' prefixes.
--within-rules saves these requests. Orphans stay until --remove-orphans removes them. Run it with the rules of every
stack that copies the same source bucket to that destination; otherwise it takes their copies for orphans.

"kept" names a copy that no enabled rule makes, but that was made by a disabled rule or by a rule that does not
replicate deletes. It is never removed. Copies from source buckets that no rule names are only counted.

"refused" names an object that cannot be replicated as it is, with the reason: archived, SSE-C, over 5 TiB, a name or
metadata that GCS does not take, or a copy under a hold. Refused objects do not change the exit code.

Exit codes:
    0  all objects are equal, or were made equal, except the refused ones; no orphan is left
    1  an object is not equal or failed, or an orphan is left
    2  a side cannot be listed, or the configuration is wrong
    3  deletes were held
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handler import config
from handler.core.errors import ReplicationError
from handler.tools.compare import Verifier
from handler.tools.findings import Finding
from handler.tools.held import FEW, PERCENT, allowance

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def main(arguments: list[str] | None = None) -> int:
    """Run the program, and return its exit code."""
    options = _options(arguments)
    began = time.monotonic()
    tally = _Tally()
    try:
        settings = config.load()
        verifier = Verifier(
            settings,
            repair=options.repair,
            thorough=options.thorough,
            within_rules=options.within_rules,
            removing=options.remove_orphans,
            allowed=options.allow_deletes,
        )
        with closing(verifier), closing(_lister()) as s3:
            for finding in verifier.findings(s3):
                tally.add(finding)
                line = f"{finding.what:<7} {finding.original} -> {finding.copy}  {finding.why}"
                sys.stdout.write(f"{printable(line)}\n")
    except (config.ConfigurationError, ReplicationError, ClientError, BotoCoreError) as error:
        sys.stderr.write("".join(f"{printable(line)}\n" for line in str(error).split("\n")))
        return 2
    except KeyboardInterrupt:
        return 130
    counts = dict(verifier.listings.counts + verifier.orphans.counts)
    objects = counts.pop("objects", 0)
    summary = [tally.summary(repair=options.repair), *(f"{count:,} {what}" for what, count in counts.items())]
    sys.stdout.write(f"{objects:,} objects compared in {time.monotonic() - began:.1f} s; {'; '.join(summary)}\n")
    if verifier.excess:
        deletes = options.repair or options.remove_orphans
        what = "no copy was deleted" if deletes else "--repair would delete none of them"
        sys.stderr.write(f"{verifier.excess}: {what}. {_REMEDY}\n")
    return tally.code(repair=options.repair)


_REMEDY = (
    "Find out why the originals are gone, or whether the rules are the right ones. If these deletes are right, add "
    "--allow-deletes."
)
_OF_ORPHANS = {
    "orphan": "orphans",
    "kept": "kept though no enabled rule makes them",
    "removed": "orphans removed",
}
"""The words of the summary for copies that no enabled rule makes."""


class _Tally:
    """The number of findings of each kind."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        if finding.what == "refused":
            self._refused[finding.code] += 1
        else:
            self._found[finding.what] += 1

    def summary(self, *, repair: bool) -> str:
        """Return the counts in one line."""
        what = _list({kind: count for kind, count in self._found.items() if kind not in _OF_ORPHANS})
        text = f"{'done' if repair else 'to be done'}: {what}" if what else "all equal"
        if self._refused:
            text += f" but {self._refused.total():,} refused: {_list(self._refused)}"
        counts = [f"{self._found[kind]:,} {words}" for kind, words in _OF_ORPHANS.items() if self._found[kind]]
        return "; ".join([text, *counts])

    def code(self, *, repair: bool) -> int:
        """Return the exit code."""
        if self._found["held"]:
            return 3
        to_be_done = sum(self._found[kind] for kind in ("put", "patch", "delete") if not repair)
        return 1 if self._found["failed"] or self._found["orphan"] or to_be_done else 0


def _lister() -> S3Client:
    """Return a client of S3 that makes each request up to six times, because this program has no deadline."""
    return boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 6}))


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items()))


def printable(text: str) -> str:
    """Return the text with control characters escaped, which keys may contain and a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _location(text: str) -> str:
    """Return the location of the orphans to remove.

    Raises:
        ValueError: the text names no whole bucket.
    """
    if not re.fullmatch(r"gs://[^/]+/.*", text, re.DOTALL):
        raise ValueError(text)
    return text


def _options(arguments: list[str] | None) -> argparse.Namespace:
    head, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m handler.tools.verify",
        description=head,
        epilog=rest.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--repair", action="store_true", help="copy, patch and delete what is not equal (default: name it)"
    )
    parser.add_argument("--mend", dest="repair", action="store_true", help=argparse.SUPPRESS)  # its name before 0.2.0
    parser.add_argument(
        "--thorough", action="store_true", help="check every key individually, for its tags: one or two requests each"
    )
    parser.add_argument(
        "--within-rules",
        action="store_true",
        help="list only names under the rules' prefixes; find no orphans elsewhere (default: list whole buckets)",
    )
    parser.add_argument(
        "--remove-orphans",
        action="append",
        type=_location,
        default=[],
        metavar="LOCATION",
        help="remove orphans whose locations begin with LOCATION: gs://BUCKET/ or gs://BUCKET/PREFIX; may be repeated",
    )
    parser.add_argument(
        "--allow-deletes",
        nargs="?",
        type=allowance,
        const=math.inf,
        metavar="NUMBER",
        help=f"allow NUMBER deletes, or any number (default: {FEW:,}, or {PERCENT} %% of the copies if those are more)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
