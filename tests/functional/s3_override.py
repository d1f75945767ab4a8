"""S3 as it really answers: a proxy in front of moto that supplies what moto leaves out or gets wrong, and counts bytes.

moto 5.2 has wrong checksums for multipart uploads and none of composite form, takes `aws-chunked` off Content-Encoding,
keeps microseconds of nothing, answers a HEAD of a part with the part's own ETag, tells no parts by GetObjectAttributes,
reads SSE-C without the key, and does not check who owns a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from tests.functional.fault_proxy import Answer, FaultProxy, PlannedFault, Request, error_of_s3, serving

MOTO = "123456789012"
"""The account that owns all buckets in moto, which does not know `x-amz-expected-bucket-owner`."""
_CHECKSUM = "x-amz-checksum-"
_EXPECTED = "x-amz-expected-bucket-owner"


@dataclass
class S3Override:
    """What S3 says of one object, where moto says something else."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer to a HEAD or GET; in lower case."""
    withholds: str = ""
    """How the names of headers begin that it does not say, as the caller lacks a permission."""
    parts: tuple[int, ...] = ()
    """Sizes of the parts of a multipart upload."""
    sums: tuple[str, tuple[str, ...]] = ("", ())
    """An algorithm, and the checksums of the parts by it; GetObjectAttributes tells of the parts only with these."""
    refuses: tuple[int, str] | None = None
    """Status and code of its answer to any HEAD or GET."""
    refuses_get: tuple[int, str] | None = None
    """The same, of a GET only."""
    lies_at: str = ""
    """The key that it has in moto, which does not take its own."""
    size: int | None = None
    """Bytes that are announced; then none come."""
    flips: int = 0
    """GETs to come whose last byte arrives wrong."""


class S3Proxy(FaultProxy):
    """A proxy in front of moto that says of some objects, by bucket and key, what S3 says."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.overrides: dict[tuple[str, str], S3Override] = {}
        self.owners: dict[str, str] = {}
        """Accounts of the buckets that are not `MOTO`'s."""

    def bodies(self) -> list[Request]:
        """Return the GETs that read an object."""
        return [get for get in self.gets() if not {"tagging", "list-type", "attributes"} & {*get.query}]

    def ask(self, request: Request, body: bytes, fault: PlannedFault) -> Answer:
        """Return what S3 says: moto's answer, corrected."""
        bucket, _, key = unquote(urlsplit(request.path).path).removeprefix("/").partition("/")
        of_object = request.method in {"GET", "HEAD"} and "tagging" not in request.query
        override = self.overrides.get((bucket, key), S3Override()) if of_object else S3Override()
        refuses = override.refuses or (override.refuses_get if request.method == "GET" else None)
        if not _is_owned_as_expected(request, self.owners.get(bucket, MOTO)):
            refuses = 403, "AccessDenied"
        if refuses is not None:
            error = error_of_s3(refuses[1])
            kind = [("content-type", "application/xml")]
            return Answer(status=refuses[0], headers=kind, body=error, announced=len(error))
        status, headers, content = self._of_moto(request, body, override, fault)
        if "attributes" in request.query and status == 200:
            content = _attributes(override, override.headers.get("etag", headers["etag"]))
            return Answer(status=200, headers=[("content-type", "application/xml")], body=content)
        announced = int(headers.get("content-length", "0")) if request.method == "HEAD" else None
        if not of_object or status not in {200, 206}:
            return Answer(status=status, headers=headers.items(), body=content, announced=announced)
        return _corrected(
            request, override, Answer(status=status, headers=headers.items(), body=content, announced=announced)
        )

    def _of_moto(
        self, request: Request, body: bytes, override: S3Override, fault: PlannedFault
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask moto; for a part, for the whole."""
        split = urlsplit(request.path)
        path = f"/{split.path.split('/')[1]}/{override.lies_at}" if override.lies_at else split.path
        of_whole = "attributes" in request.query or (override.parts and "partNumber" in request.query)
        if override.headers.get("etag") and request.headers.get("If-Match") == override.headers["etag"]:
            fault = replace(fault, drops="If-Match")
        target = path if of_whole else split._replace(path=path).geturl()
        with self.forwarded(request, target, body, fault) as connection:
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def s3_proxy(upstream: str) -> AbstractContextManager[S3Proxy]:
    """Run the proxy on loopback."""
    return serving(S3Proxy(upstream))


def signed_owner(request: Request) -> str | None:
    """Return the account that a request expects to own the bucket, where it says so in a signed header."""
    return request.headers.get(_EXPECTED) if _EXPECTED in _signed(request) else None


def _signed(request: Request) -> list[str]:
    """Return the names of the signed headers."""
    _, _, rest = request.headers.get("Authorization", "").partition("SignedHeaders=")
    return rest.partition(",")[0].split(";")


def _is_owned_as_expected(request: Request, owner: str) -> bool:
    """Return False where S3 answers 403: another owner is expected, or an x-amz- header is not signed.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """
    expected = request.headers.get(_EXPECTED)
    return expected is None or (expected == owner and _EXPECTED in _signed(request))


def _corrected(request: Request, override: S3Override, answer: Answer) -> Answer:
    """Say what S3 says: checksums only where they are asked for and not for a range or a part."""
    headers, body = dict(answer.headers), answer.body
    asked = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and "Range" not in request.headers
    for name in [name for name in headers if override.withholds and name.startswith(override.withholds)]:
        del headers[name]
    known = override.headers.items()
    headers |= {name: value for name, value in known if asked or not name.startswith(_CHECKSUM)}
    if override.size is not None:
        return replace(answer, headers=headers.items(), body=b"", announced=override.size)
    if override.parts and "partNumber" in request.query:
        headers["x-amz-mp-parts-count"] = str(len(override.parts))
        size = override.parts[int(request.query["partNumber"]) - 1]
        return Answer(status=206, headers=headers.items(), body=body, announced=size)
    if override.flips and request.method == "GET" and body:
        override.flips -= 1
        body = body[:-1] + bytes([body[-1] ^ 1])
    return replace(answer, headers=headers.items(), body=body)


def _attributes(override: S3Override, etag: str) -> bytes:
    """The answer to GetObjectAttributes: the parts where they have checksums, else only their number."""
    name, sums = override.sums
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><Checksum{name}>{value}</Checksum{name}></Part>"
        for number, (size, value) in enumerate(zip(override.parts, sums, strict=False), 1)
    )
    told = f"<ObjectParts><PartsCount>{len(override.parts)}</PartsCount>{parts}</ObjectParts>"
    head = f"<?xml version='1.0'?><GetObjectAttributesResponse><ETag>{etag.strip(chr(34))}</ETag>"
    return f"{head}{told}</GetObjectAttributesResponse>".encode()
