"""Translates every error of the connection, of google-auth and of GCS into one of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from handler.adapters.retry import Broken
from handler.adapters.transport import Answer
from handler.core.errors import Corrupt, Moved, NotFound, Refused, ReplicationError, Unavailable

_KMS = re.compile(r"Cloud ?KMS|kmsKey|cryptoKey", re.IGNORECASE)
_SESSION = re.compile(r"upload_id=[\w%.~-]+")
_BY_MESSAGE: tuple[tuple[int, re.Pattern[str], type[ReplicationError], str], ...] = (
    (400, re.compile(r"(crc32c|md5).*match", re.IGNORECASE | re.DOTALL), Corrupt, "Corrupt"),
    (400, re.compile(r"retention.*enabled", re.IGNORECASE | re.DOTALL), Refused, "DstBucketObjectLockConfigMissing"),
    (400, _KMS, Refused, "DstKmsKeyInvalidState"),  # disabled, destroyed, not there, or in another location
    (403, _KMS, Refused, "DstKmsKeyNotPermitted"),
    (404, re.compile(r"\AThe specified bucket does not exist\.?\Z", re.IGNORECASE), Refused, "DstBucketNotFound"),
)
_REMEDIES = {
    "DstBucketObjectLockConfigMissing": "Enable object retention on the bucket, for good, in Google's console.",
    "DstKmsKeyNotPermitted": "Grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key to the Cloud Storage service "
    "agent of the bucket's project.",
}
_BUSY_REASONS = {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"}
_FORBIDDEN = {
    "retentionPolicyNotMet": "DstObjectRetained",
    "objectUnderActiveHold": "DstObjectHeld",
}
_BY_STATUS: Mapping[int, tuple[type[ReplicationError], str]] = {
    304: (Moved, "Moved"),
    400: (Refused, "DstRequestInvalid"),
    401: (Unavailable, "DstCredentialsRejected"),  # an operator may repair it before the queue gives up
    404: (NotFound, "DstObjectNotFound"),
    405: (Refused, "DstRequestInvalid"),
    408: (Unavailable, "DstTimeout"),
    409: (Unavailable, "DstConflict"),
    410: (Unavailable, "DstSessionGone"),
    412: (Moved, "Moved"),
    413: (Refused, "DstObjectTooLarge"),
    429: (Unavailable, "DstThrottled"),
}


class Failed(Exception):
    """GCS answered with an error; `answer` is the whole answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"GCS answered {answer.status}")
        self.answer = answer


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate every error that is raised inside and is not ours yet; see `translate`."""
    try:
        yield
    except ReplicationError:
        raise
    except Exception as error:  # total by design: an unknown error is Unavailable
        raise translate(error, what) from error


def translate(error: Exception, what: str) -> ReplicationError:
    """Return our error for any other; an unknown one is Unavailable. `what` is a verb and its object."""
    if isinstance(error, Failed):
        return of_response(error.answer, what)
    from google.auth.exceptions import GoogleAuthError  # 50 ms to import, and errors are rare

    match error:
        case Broken():
            code = "DstUnreachable"
        case GoogleAuthError():
            code = "DstCredentials"
        case _:
            code = "DstUnknown"
    return Unavailable(_text(error, what), code=code)


def _text(error: Exception, what: str) -> str:
    """Return a sentence about an error, without the address of an upload session: its holder may write."""
    return f"cannot {what}: {type(error).__name__}: {_SESSION.sub('upload_id=...', str(error))}"


def of_response(response: Answer, what: str) -> ReplicationError:
    """Return our error for an answer that is no success."""
    try:
        fault: Any = response.json()["error"]
        reasons = [item.get("reason", "") for item in fault.get("errors", [])]
        return of_status(response.status, reasons, str(fault.get("message", "")), what)
    except (ValueError, KeyError, TypeError, AttributeError):  # uploads fail with plain text
        return of_status(response.status, [], response.data[:500].decode(errors="replace"), what)


def of_status(status: int, reasons: list[str], message: str, what: str) -> ReplicationError:
    """Return our error for an HTTP status, the reasons in the JSON body, and the message.

    https://cloud.google.com/storage/docs/json_api/v1/status-codes
    """
    kind, code = _kind_of(status, reasons, message)
    text = f"cannot {what}: GCS answered {status} {', '.join(reasons)}: {message}"
    return kind(f"{text} {_REMEDIES[code]}" if code in _REMEDIES else text, code=code)


def _kind_of(status: int, reasons: list[str], message: str) -> tuple[type[ReplicationError], str]:
    if status == 403 and _BUSY_REASONS.intersection(reasons):
        return Unavailable, "DstThrottled"
    for known, pattern, kind, code in _BY_MESSAGE:
        if status == known and pattern.search(message):
            return kind, code
    if status == 403:
        held = next((code for reason, code in _FORBIDDEN.items() if reason in reasons), None)
        return Refused, held or "DstPutObjectNotPermitted"
    return _BY_STATUS.get(status, (Unavailable, f"Dst{status}"))
