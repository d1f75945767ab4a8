"""What can go wrong, sorted by what the caller should do about it.

    ReplicationError
    ├── Malformed     the request makes no sense            tell the sender
    ├── NotFound      the source object does not exist      tell the sender
    ├── Refused       denied, or cannot be replicated       tell the operator, park it
    ├── Moved         a precondition failed                 look again; never leaves the loop
    ├── Unavailable   a dependency did not answer           try later, the queue redelivers
    └── Corrupt       bytes arrived that did not leave      loud, and tried again

Every adapter translates every vendor error into one of these; what it does not know is `Unavailable`.
"""

IN_PARTS = "InParts"
"""Code of what is no error but not done either: the event is kept until a look shows the copy made of parts."""


class ReplicationError(Exception):
    """The root. `code` is a short stable word for logs, metrics and the dead-letter queue."""

    code: str
    retryable = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).__name__


class Malformed(ReplicationError):
    """The request or event makes no sense: sending it again cannot help."""


class NotFound(ReplicationError):
    """The object that was asked for does not exist at the source."""


class Refused(ReplicationError):
    """Denied, or not replicable: an operator must change something first."""


class Moved(ReplicationError):
    """A generation or ETag was not the expected one, or an earlier try of ours took effect unseen: look again."""

    retryable = True


class Unavailable(ReplicationError):
    """Something did not answer, or answered what nobody foresaw: the same call may succeed later.

    `wait` is the number of seconds the other side asked for, where it did.
    """

    retryable = True

    def __init__(self, message: str, *, code: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, code=code)
        self.wait = wait


class Corrupt(ReplicationError):
    """Bytes arrived that did not leave: a checksum or a length is wrong. Nothing was stored."""

    retryable = True
