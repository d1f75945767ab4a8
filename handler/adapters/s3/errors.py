"""Every error of the connection, of boto3 and of S3 itself, turned into one of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from handler.adapters.transport import Answer
from handler.core.errors import Moved, Refused, ReplicationError, Unavailable

_REFUSED = {
    "403": "SrcGetObjectNotPermitted",
    "AccessDenied": "SrcGetObjectNotPermitted",
    "AllAccessDisabled": "SrcGetObjectNotPermitted",
    "InvalidObjectState": "SrcObjectArchived",
    "InvalidRequest": "SrcObjectNotEligible",  # what GET answers for SSE-C without the customer's key
    "KMS.DisabledException": "SrcKmsKeyInvalidState",
    "KMS.KMSInvalidStateException": "SrcKmsKeyInvalidState",
    "KMS.NotFoundException": "SrcKmsKeyNotFound",
    "KeyTooLongError": "SrcKeyTooLong",
    "NoSuchBucket": "SrcBucketNotFound",
    "PermanentRedirect": "SrcBucketInOtherRegion",
}
_MOVED = {
    *("NoSuchKey", "NoSuchVersion", "PreconditionFailed", "InvalidRange", "MethodNotAllowed"),
    *("404", "405", "412", "416"),
}
_CODE = re.compile(rb"<Code>([\w.]+)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


def of_answer(answer: Answer, what: str) -> ReplicationError:
    """Return ours for an answer that is no success. A HEAD's has no body, so its status stands for the code."""
    code, message = (match[1].decode(errors="replace") if match else "" for match in _found(answer.data))
    return _of_code(code or str(answer.status), message, what)


def _found(body: bytes) -> Iterator[re.Match[bytes] | None]:
    yield _CODE.search(body)
    yield _MESSAGE.search(body)


def _of_code(code: str, message: str, what: str) -> ReplicationError:
    """Return ours. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    text = f"{what}: S3 says {code}: {message}"
    if code in _MOVED:
        return Moved(text)
    if code in _REFUSED:
        return Refused(text, code=_REFUSED[code])
    return Unavailable(text, code=f"Src{code}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever is raised inside into one of ours; our own pass as they are. See `translate`."""
    try:
        yield
    except ReplicationError:
        raise
    except Exception as error:  # total by design: what is not known is Unavailable
        raise translate(error, what) from error


def translate(error: Exception, what: str) -> ReplicationError:
    """Return ours for any error of the connection or of boto3. What it does not know is Unavailable."""
    from botocore.exceptions import ClientError  # only where something went wrong

    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _of_code(told.get("Code") or str(status), told.get("Message", ""), what)
    return Unavailable(f"{what}: {type(error).__name__}: {error}", code="SrcUnreachable")
