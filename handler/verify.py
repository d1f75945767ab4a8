"""Compares every object of the rules' sources with its copy, and names those that are not equal or makes them equal.

    python -m handler.verify           with the variables and credentials of this shell; nothing is written
    python -m handler.verify --mend    copies, patches and deletes what is not equal, as an event would

Both sides are listed, 1,000 names a request, and joined by name. The listings show most copies to be equal. Every other
key is checked individually, as an event would check it. Without --mend it is checked once more after 15 s, as its event
may be on its way. Listings have no tags: --thorough checks every key individually.

Deletes wait until both sides have been listed. If more than 1,000 copies that are also more than 10 % of all copies, or
of all copies from one source bucket, would be deleted, none is. The lines "held" name them.

"refused" names an object that cannot be replicated as it is (archived, SSE-C, over 5 TiB, a name or metadata that GCS
does not take, a copy under a hold) and the reason. Such objects are counted, but do not change the exit code.

Exit codes:
    0  all objects are equal, or were made equal, except the refused ones
    1  an object is not equal, or failed
    2  a side cannot be listed, or the configuration is wrong
    3  deletes were held back
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handler import config
from handler.compare import Finding, Verifier
from handler.errors import ReplicationError
from handler.held import FEW, PERCENT, allowance

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def main(arguments: list[str] | None = None) -> int:
    """Run the program, and return its exit code."""
    options = _options(arguments)
    began = time.monotonic()
    tally = _Tally()
    try:
        settings = config.load()
        verifier = Verifier(settings, mend=options.mend, thorough=options.thorough, allowed=options.allow_deletes)
        with closing(verifier), closing(_lister()) as s3:
            for finding in verifier.findings(s3):
                tally.add(finding)
                place = f"{finding.original} -> {finding.copy}"
                sys.stdout.write(printable(f"{finding.what:<7} {place}  {finding.why}") + "\n")
    except (config.ConfigurationError, ReplicationError, ClientError, BotoCoreError) as error:
        sys.stderr.write("".join(f"{printable(line)}\n" for line in str(error).split("\n")))
        return 2
    except KeyboardInterrupt:
        return 130
    counts = dict(verifier.listings.counts)
    objects = counts.pop("objects", 0)
    said = [tally.said(mend=options.mend), *(f"{count:,} {what}" for what, count in counts.items())]
    sys.stdout.write(f"{objects:,} objects compared in {time.monotonic() - began:.1f} s; {'; '.join(said)}\n")
    if verifier.excess:
        what = "no copy was deleted" if options.mend else "--mend would delete none of them"
        sys.stderr.write(f"{verifier.excess}: {what}. Find out why the originals are gone. {_LIFT}\n")
    return tally.code(mend=options.mend)


_LIFT = "If these deletes are right, run again with --mend --allow-deletes."


class _Tally:
    """How many findings there are of each kind."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        if finding.what == "refused":
            self._refused[finding.code] += 1
        else:
            self._found[finding.what] += 1

    def said(self, *, mend: bool) -> str:
        """Return the counts as text."""
        what = _list(self._found)
        text = f"{'done' if mend else 'to be done'}: {what}" if what else "all equal"
        if self._refused:
            text += f" but {self._refused.total():,} refused: {_list(self._refused)}"
        return text

    def code(self, *, mend: bool) -> int:
        """Return the exit code."""
        if self._found["held"]:
            return 3
        return 1 if self._found["failed"] or (self._found.total() and not mend) else 0


def _lister() -> S3Client:
    """Return boto3's client for listings, which tries again by itself: this program has no deadline."""
    return boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 6}))


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items()))


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would obey; keys may have it in them."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    head, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m handler.verify",
        description=head,
        epilog=rest.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--mend", action="store_true", help="copy, patch and delete what is not equal (default: name it)"
    )
    parser.add_argument(
        "--thorough", action="store_true", help="check every key individually, for its tags: one or two requests each"
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
