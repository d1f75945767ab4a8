"""The rows of the check's table, and how an answer or an error becomes a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import ClientError

from handler.core.errors import ReplicationError

CLIENTS = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
_MISSING_OBJECT = {"NoSuchKey", "NoSuchVersion", "404"}
"""S3's codes for a missing key, which S3 returns only to callers that may read the key."""
_MISSING_MESSAGE = {"ReceiptHandleIsInvalid"}
"""SQS's code for an unknown receipt handle, which SQS returns only to callers that may use one."""
_DENIED = {"DstPutObjectNotPermitted", "DstCredentialsRejected"}


class Row(NamedTuple):
    """One check of one resource.

    The result is "ok", "MISSING" (a permission is denied), "WRONG" (a resource is not as it must be), "FAILED" (another
    error) or "not tried".
    """

    result: str
    where: str
    subject: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """Return True if an operator must act."""
        return self.result not in {"ok", "not tried"}


class Wrong(Exception):
    """A resource is not as it must be. The message says why and what to do."""


def tried(where: str, permission: str, call: Callable[[], object]) -> Row:
    """Make a call that needs a permission, and return the row for that permission."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the operator wants to know each error
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if (code in _MISSING_OBJECT and permission.startswith("s3:GetObject")) or code in _MISSING_MESSAGE:
            return Row("ok", where, permission)
        return Row("MISSING" if _is_denied(error) else "FAILED", where, permission, detail_of(error))
    return Row("ok", where, permission)


def judged(where: str, subject: str, permission: str, look: Callable[[], str]) -> Row:
    """Return the row for a resource: "not tried" if the permission to read the resource is denied.

    Args:
        where: the resource.
        subject: the property that is checked.
        permission: the permission that reading it needs.
        look: returns a detail, or raises `Wrong`.
    """
    try:
        return Row("ok", where, subject, look())
    except Wrong as error:
        return Row("WRONG", where, subject, str(error))
    except Exception as error:  # noqa: BLE001 - the operator wants to know each error
        if _is_denied(error):
            return Row("not tried", where, subject, f"{permission} is denied")
        return Row("FAILED", where, subject, detail_of(error))


def _is_denied(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status: Any = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status == 403 or error.response["Error"]["Code"].startswith("AccessDenied")
    return isinstance(error, ReplicationError) and error.code in _DENIED


def detail_of(error: Exception) -> str:
    """Return an error as one line of at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def table(rows: list[Row]) -> str:
    """Lay the rows out for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    )
