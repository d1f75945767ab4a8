"""What a caller is told when a call cannot be done: GCS's own statuses, reasons and bodies.

GcsError
├── Stale          not for callers: a file changed behind the database; look again
└── every other failure is a GcsError made by one of the functions below
"""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

XML_CODES = {
    ("conditionNotMet", 412): "PreconditionFailed",
    ("conflict", 409): "BucketAlreadyOwnedByYou",
    ("invalid", 400): "InvalidArgument",
    ("notFound", 404): "NoSuchKey",
    ("notImplemented", 400): "NotImplemented",
    ("objectUnderActiveHold", 403): "ObjectUnderActiveHold",
    ("rateLimitExceeded", 429): "SlowDown",
    ("requestedRangeNotSatisfiable", 416): "InvalidRange",
    ("required", 411): "MissingContentLength",
    ("retentionPolicyNotMet", 403): "RetentionPolicyNotMet",
}


class GcsError(Exception):
    """A call that fails, with everything its answer says."""

    def __init__(  # noqa: PLR0913 - an answer has these parts
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: tuple[str, str] | None = None,
        xml_code: str | None = None,
        plain: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location
        self.xml_code = xml_code or XML_CODES.get(
            (reason, status), "InternalError" if status >= 500 else "InvalidRequest"
        )
        self.plain = plain
        self.headers = headers or {}

    def json(self) -> bytes:
        """Return the JSON API's error body."""
        detail: dict[str, Any] = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            detail["locationType"], detail["location"] = self.location
        body = {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        return json.dumps(body, indent=1).encode()

    def xml(self) -> bytes:
        """Return the XML API's error body."""
        code, message = escape(self.xml_code), escape(self.message)
        text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return text.encode()


class Stale(Exception):
    """A name whose file is not what the database says; whoever meets it looks at the file, then tries again."""

    def __init__(self, bucket: str, name: str) -> None:
        super().__init__(f"{bucket}/{name}")
        self.bucket = bucket
        self.name = name


def invalid(message: str, *, status: int = 400, xml_code: str | None = None) -> GcsError:
    """Return the error for a value that GCS does not take."""
    return GcsError(status, "invalid", message, xml_code=xml_code)


def required(message: str) -> GcsError:
    """Return the error for a parameter that is missing."""
    return GcsError(400, "required", message)


def no_bucket() -> GcsError:
    """Return the error for a bucket that does not exist."""
    return GcsError(404, "notFound", "The specified bucket does not exist.", xml_code="NoSuchBucket")


def no_object(bucket: str, name: str) -> GcsError:
    """Return the error for an object that does not exist (any more)."""
    return GcsError(404, "notFound", f"No such object: {bucket}/{name}", xml_code="NoSuchKey")


def no_generation(bucket: str, name: str, generation: int) -> GcsError:
    """Return the error for a generation that is not soft-deleted, or is so no longer."""
    return GcsError(404, "notFound", f"No such soft-deleted object: {bucket}/{name}#{generation}", xml_code="NoSuchKey")


def condition_not_met() -> GcsError:
    """Return the error for a condition that does not hold."""
    message = "At least one of the pre-conditions you specified did not hold."
    return GcsError(412, "conditionNotMet", message, location=("header", "If-Match"))


def not_modified() -> GcsError:
    """Return the answer to a read whose `not match` condition found just that state."""
    return GcsError(304, "notModified", "Not Modified")


def conflict(message: str, *, xml_code: str | None = None) -> GcsError:
    """Return the error for a name that is taken, or a bucket that is not empty."""
    return GcsError(409, "conflict", message, xml_code=xml_code)


def not_implemented(what: str) -> GcsError:
    """Return the error for a call or feature that this server does not have.

    Its status is 400 and not 501, because gcloud, rclone and object_store repeat a request that was answered 5xx for
    half a minute and longer.
    """
    return GcsError(400, "notImplemented", f"This server does not implement {what}.")


def too_fast(bucket: str, name: str) -> GcsError:
    """Return the error for more than one write a second of one name."""
    message = (
        f"The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, update, and "
        "delete). Please reduce your request rate."
    )
    return GcsError(429, "rateLimitExceeded", message)


def held(bucket: str, name: str, kind: str) -> GcsError:
    """Return the error for an object that a hold protects."""
    message = (
        f"Object '{bucket}/{name}' is under active {kind} hold and cannot be deleted, overwritten or archived until "
        "hold is removed."
    )
    return GcsError(403, "objectUnderActiveHold", message)


def retained(bucket: str, name: str, until: str) -> GcsError:
    """Return the error for an object that a retention policy protects."""
    message = (
        f"Object '{bucket}/{name}' is subject to bucket's retention policy or object retention and cannot be deleted "
        f"or overwritten until {until}"
    )
    return GcsError(403, "retentionPolicyNotMet", message)


def backend(message: str = "Backend Error") -> GcsError:
    """Return the error for trouble on this side: the disk, the database, a bug."""
    return GcsError(503, "backendError", message)
