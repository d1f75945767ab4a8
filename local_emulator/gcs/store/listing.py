"""objects.list: names in order, page by page, with everything a caller can narrow them down by."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_emulator.gcs.model import errors
from local_emulator.gcs.model.conditions import flag, whole_number
from local_emulator.gcs.store.database import OBJECT, stored, successor

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from local_emulator.gcs.model.resources import Stored

MOST = 1000
_END = "\U0010ffff" * 1025


@dataclass(frozen=True)
class Listing:
    """What of a bucket is asked for."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    glob: re.Pattern[str] | None = None
    with_delimiter: bool = False
    most: int = MOST
    token: tuple[str, int] = ("", 0)
    kind: str = "live"
    now: float = 0.0

    @classmethod
    def of_query(cls, bucket: str, query: Mapping[str, str], now: float) -> Listing:
        """Read the JSON API's parameters; `now` is in seconds since 1970.

        Raises:
            GcsError: one is not implemented, or no such value exists.
        """
        most = whole_number(query.get("maxResults") or MOST, "maxResults")
        if most < 0:
            raise errors.invalid("Invalid value for maxResults.")
        kinds = [name for name in ("softDeleted", "versions") if flag(query, name)]
        if len(kinds) > 1:
            raise errors.invalid("A listing is of softDeleted objects or of all versions.")
        if query.get("filter"):
            raise errors.not_implemented("the filter of a listing")
        glob = query.get("matchGlob")
        if glob and query.get("delimiter", "/") not in {"", "/"}:
            raise errors.invalid("matchGlob goes with the delimiter / alone.")
        return cls(
            bucket,
            query.get("prefix", ""),
            query.get("delimiter", ""),
            query.get("startOffset", ""),
            query.get("endOffset", ""),
            re.compile(_regex(glob), re.DOTALL) if glob else None,
            flag(query, "includeTrailingDelimiter"),
            min(most or MOST, MOST),
            _untoken(query["pageToken"]) if query.get("pageToken") else ("", 0),
            kinds[0] if kinds else "live",
            now,
        )


@dataclass
class Page:
    """One page of a listing; `after` is the first name and generation of the next page, None where there is none."""

    items: list[Stored] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    after: tuple[str, int] | None = None


def page(connection: sqlite3.Connection, listing: Listing) -> Page:
    """Return one page."""
    result = Page()
    at = max(listing.prefix, listing.start, listing.token[0])
    end = min(successor(listing.prefix), listing.end or _END)
    while at < end:
        jump = ""
        for item in _rows(connection, listing, at, end):
            if (item.name, item.generation) < listing.token or (listing.glob and not listing.glob.fullmatch(item.name)):
                continue
            folder = _folder(listing, item.name)
            if folder and folder in result.prefixes[-1:]:
                jump = successor(folder)
                break
            if len(result.items) + len(result.prefixes) >= listing.most:
                result.after = item.name, item.generation if listing.kind != "live" else 0
                return result
            if not folder or (listing.with_delimiter and folder == item.name):
                result.items.append(item)
            if folder:
                result.prefixes.append(folder)
                jump = successor(folder)
                break
        if not jump:
            return result
        at = jump
    return result


def _folder(listing: Listing, name: str) -> str:
    if not listing.delimiter:
        return ""
    at = name.find(listing.delimiter, len(listing.prefix))
    return name[: at + len(listing.delimiter)] if at >= 0 else ""


def _rows(connection: sqlite3.Connection, listing: Listing, at: str, end: str) -> Iterator[Stored]:
    values = {"bucket": listing.bucket, "at": at, "end": end, "now": listing.now}
    yield from map(stored, connection.execute(_QUERIES[listing.kind], values))


_SPAN = "WHERE bucket = :bucket AND name >= :at AND name < :end"
_LIVE = f"SELECT {OBJECT} FROM objects {_SPAN}"  # noqa: S608 - constant column names
_RETAINED = f"SELECT {OBJECT} FROM retained {_SPAN}"  # noqa: S608 - constant column names
_QUERIES = {
    "live": f"{_LIVE} ORDER BY name",
    "versions": f"{_LIVE} UNION ALL {_RETAINED} AND ends IS NULL ORDER BY name, generation",
    "softDeleted": f"{_RETAINED} AND ends > :now ORDER BY name, generation",
}


def shown(resource: dict[str, Any]) -> dict[str, Any]:
    """Return what a listing says of an object: no checksum of one under a customer-managed key.

    https://cloud.google.com/storage/docs/encryption/customer-managed-keys
    """
    hidden = ("crc32c", "md5Hash") if "kmsKeyName" in resource else ()
    return {name: value for name, value in resource.items() if name not in hidden}


def token(after: tuple[str, int]) -> str:
    """Return the page token for a name and generation."""
    name, generation = after
    return f"{base64.urlsafe_b64encode(name.encode()).decode()}.{generation}"


def _untoken(text: str) -> tuple[str, int]:
    name, _, generation = text.partition(".")
    try:
        return base64.b64decode(name.encode(), altchars=b"-_", validate=True).decode(), int(generation)
    except (binascii.Error, ValueError) as error:
        raise errors.invalid("Invalid value for pageToken.") from error


def _regex(glob: str) -> str:
    """Return the regular expression for a glob: ? * ** [a-z] [!a] {a,b} and a backslash before any of them."""
    out: list[str] = []
    depth, i = 0, 0
    while i < len(glob):
        char = glob[i]
        i += 1
        if char == "\\" and i < len(glob):
            out.append(re.escape(glob[i]))
            i += 1
        elif char == "*":
            stars = len(glob[i - 1 :]) - len(glob[i - 1 :].lstrip("*"))
            i += stars - 1
            folders = stars > 1 and glob[i : i + 1] == "/"
            i += folders
            out.append("(?:.*/)?" if folders else ".*" if stars > 1 else "[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[" and "]" in glob[i + 1 :]:
            close = glob.index("]", i + 1)
            out.append(_set(glob[i:close]))
            i = close + 1
        elif char in "{}":
            depth += 1 if char == "{" else -1
            out.append("(?:" if char == "{" else ")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
    try:
        re.compile("".join(out))
    except re.error as error:
        raise errors.invalid("Invalid value for matchGlob.") from error
    return "".join(out)


def _set(inner: str) -> str:
    negated = inner[:1] in {"!", "^"}
    members = "".join("-" if char == "-" else re.escape(char) for char in inner[negated:])
    return f"[{'^/' if negated else ''}{members}]"


def resource(result: Page, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a page's resource."""
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if result.after:
        answer["nextPageToken"] = token(result.after)
    if result.prefixes:
        answer["prefixes"] = result.prefixes
    if items:
        answer["items"] = items
    return answer
