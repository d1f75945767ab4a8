"""The conditions a call can carry, and what becomes of a call whose conditions do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from local_emulator.gcs.model import errors

_INT64 = 1 << 63
Tags = tuple[str, ...]


def whole_number(value: object, what: str) -> int:
    """Return the number in a query or JSON value, as GCS writes 64-bit integers.

    Raises:
        GcsError: it is none.
    """
    text = str(value)
    digits = text.removeprefix("-")
    if isinstance(value, bool) or not (digits.isascii() and digits.isdigit()) or abs(int(text)) >= _INT64:
        raise errors.invalid(f"Invalid value for: Expected a valid 64-bit integer for '{what}', got '{text}'.")
    return int(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Return a boolean parameter, which Python's clients write with a capital.

    Raises:
        GcsError: it is neither true nor false.
    """
    text = query.get(name, "").lower()
    if text not in {"", "true", "false"}:
        raise errors.invalid(f"Invalid value for {name}: '{text}' is not true or false.")
    return text == "true"


@dataclass(frozen=True)
class Conditions:
    """What must hold of an object's current state; generation 0 is absence."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None
    etag_match: str | None = None
    etag_not_match: str | None = None

    @classmethod
    def of_query(cls, query: Mapping[str, str], headers: Mapping[str, str], *, prefix: str = "if") -> Conditions:
        """Read the JSON API's parameters; prefix "ifSource" for the source of a copy."""

        def number(field: str) -> int | None:
            name = f"{prefix}{field}"
            return whole_number(query[name], name) if name in query else None

        own = prefix == "if"
        return cls(
            generation_match=number("GenerationMatch"),
            generation_not_match=number("GenerationNotMatch"),
            metageneration_match=number("MetagenerationMatch"),
            metageneration_not_match=number("MetagenerationNotMatch"),
            etag_match=headers.get("If-Match") if own else None,
            etag_not_match=headers.get("If-None-Match") if own else None,
        )

    @classmethod
    def of_headers(cls, headers: Mapping[str, str], *, prefix: str = "") -> Conditions:
        """Read the XML API's headers; prefix "x-goog-copy-source-" for the source of a copy."""

        def number(field: str) -> int | None:
            name = f"{prefix or 'x-goog-'}if-{field}-match"
            return whole_number(headers[name], name) if name in headers else None

        return cls(
            generation_match=number("generation"),
            metageneration_match=number("metageneration"),
            etag_match=headers.get(f"{prefix}if-match"),
            etag_not_match=headers.get(f"{prefix}if-none-match"),
        )

    @classmethod
    def of_json(cls, value: Any) -> Conditions:
        """Read what the session table keeps, or a compose source's objectPreconditions."""
        if not isinstance(value, dict):
            raise errors.invalid("Invalid value for objectPreconditions.")
        if "ifGenerationMatch" in value:
            return cls(generation_match=whole_number(value["ifGenerationMatch"], "ifGenerationMatch"))
        return cls(**{key: value.get(key) for key in cls.__dataclass_fields__})

    def holds(self, generation: int, metageneration: int, etags: Tags) -> bool:
        """Return True if the `match` conditions hold."""
        wanted = ((self.generation_match, generation), (self.metageneration_match, metageneration))
        if any(want is not None and want != have for want, have in wanted):
            return False
        return self.etag_match is None or _is_listed(etags, self.etag_match)

    def differs(self, generation: int, metageneration: int, etags: Tags) -> bool:
        """Return True if the `not match` conditions hold."""
        unwanted = ((self.generation_not_match, generation), (self.metageneration_not_match, metageneration))
        if any(avoid is not None and avoid == have for avoid, have in unwanted):
            return False
        return self.etag_not_match is None or not _is_listed(etags, self.etag_not_match)

    def check(self, generation: int, metageneration: int, etags: Tags, *, reading: bool = False) -> None:
        """Raise 412, or 304 for a read that finds the state it does not want, unless all hold.

        `etags` are the entity tags that the object has in the JSON and in the XML API; absence has none.
        """
        if not self.holds(generation, metageneration, etags):
            raise errors.condition_not_met()
        if not self.differs(generation, metageneration, etags):
            raise errors.not_modified() if reading else errors.condition_not_met()


NONE = Conditions()


def check_dates(headers: Mapping[str, str], updated: str) -> None:
    """Judge the conditions of a read on the time of an object's last change, in whole seconds as HTTP has them.

    A condition on the entity tag takes precedence over one on the time; a date that is none is no condition (RFC 9110).
    """
    changed = datetime.fromisoformat(updated).replace(microsecond=0)
    since = _http_date(headers.get("If-Modified-Since"))
    if since is not None and "If-None-Match" not in headers and changed <= since:
        raise errors.not_modified()
    until = _http_date(headers.get("If-Unmodified-Since"))
    if until is not None and "If-Match" not in headers and changed > until:
        raise errors.condition_not_met()


def _http_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _is_listed(etags: Tags, header: str) -> bool:
    wanted = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return bool(etags) and ("*" in wanted or not wanted.isdisjoint(etags))
