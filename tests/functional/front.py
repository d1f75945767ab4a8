"""S3 as it really answers: a proxy in front of moto that supplies what moto leaves out or gets wrong, and counts bytes.

moto 5.2 has wrong checksums for multipart uploads and none of composite form, takes `aws-chunked` off Content-Encoding,
keeps microseconds of nothing, answers a HEAD of a part with the part's own ETag, tells no parts by GetObjectAttributes,
reads SSE-C without the key, and does not check who owns a bucket.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

MOTO = "123456789012"
"""The account that owns all buckets in moto, which does not know `x-amz-expected-bucket-owner`."""
_OWN = ("connection", "date", "server", "transfer-encoding")
_CHECKSUM = "x-amz-checksum-"
_EXPECTED = "x-amz-expected-bucket-owner"


@dataclass
class Truth:
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


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and its answer."""

    method: str
    path: str
    query: Mapping[str, str]
    taken: int
    """Body bytes of the request."""
    given: int
    """Body bytes of the answer."""
    status: int
    owner: str | None
    """The account that the request expects to own the bucket, where it says so in a signed header."""


@dataclass
class Front:
    """Where it listens, what is true of which object (by bucket and key), and what was asked."""

    url: str
    truths: dict[tuple[str, str], Truth] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    """Accounts of the buckets that are not `MOTO`'s."""

    def bodies(self) -> list[Exchange]:
        """The GETs that read an object."""
        return [
            item
            for item in self.exchanges
            if item.method == "GET" and not {"tagging", "list-type", "attributes"} & {*item.query}
        ]


@contextmanager
def front_of(upstream: str) -> Iterator[Front]:
    """Run the proxy on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    front = Front(f"http://127.0.0.1:{server.server_port}")
    _Handler.fronts[server.server_port] = front, urlsplit(upstream).netloc
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fronts: dict[int, tuple[Front, str]] = {}  # noqa: RUF012 - the server makes handlers, so this is how they find it

    def _serve(self) -> None:
        front, upstream = self.fronts[self.server.server_address[1]]  # type: ignore[index] # an IPv4 address
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(split.path).removeprefix("/").partition("/")
        of_object = self.command in {"GET", "HEAD"} and "tagging" not in query
        truth = front.truths.get((bucket, key), Truth()) if of_object else Truth()
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        refuses = truth.refuses or (truth.refuses_get if self.command == "GET" else None)
        if not self._is_owned_as_expected(front.owners.get(bucket, MOTO)):
            refuses = 403, "AccessDenied"
        if refuses is not None:
            status, code = refuses
            headers, body = {"content-type": "application/xml"}, _error(code)
        else:
            status, headers, body = self._asked(upstream, sent, truth, query)
        if "attributes" in query and status == 200:
            body = _attributes(truth, truth.headers.get("etag", headers["etag"]))
            headers = {"content-type": "application/xml"}
        elif of_object and status in {200, 206}:
            status, body = self._corrected(truth, query, status, headers, body)
        given = 0 if self.command == "HEAD" or truth.size is not None else len(body)
        front.exchanges.append(
            Exchange(
                method=self.command,
                path=split.path,
                query=query,
                taken=len(sent),
                given=given,
                status=status,
                owner=self.headers.get(_EXPECTED) if _EXPECTED in self._signed() else None,
            )
        )
        self.send_response(status)
        if self.command != "HEAD" or refuses is not None:
            headers["content-length"] = str(len(body) if truth.size is None else truth.size)
        for name, value in headers.items():
            if name not in _OWN:
                self.send_header(name, value)
        self.end_headers()
        if given:
            self.wfile.write(body)
        if truth.size is not None and self.command == "GET":
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names BaseHTTPRequestHandler asks for

    def _signed(self) -> list[str]:
        """Return the names of the signed headers."""
        _, _, rest = self.headers.get("Authorization", "").partition("SignedHeaders=")
        return rest.partition(",")[0].split(";")

    def _is_owned_as_expected(self, owner: str) -> bool:
        """Return False where S3 answers 403: another owner is expected, or an x-amz- header is not signed.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
        """
        expected = self.headers.get(_EXPECTED)
        return expected is None or (expected == owner and _EXPECTED in self._signed())

    def _asked(
        self, upstream: str, sent: bytes, truth: Truth, query: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask moto; for a part, for the whole."""
        split = urlsplit(self.path)
        path = f"/{split.path.split('/')[1]}/{truth.lies_at}" if truth.lies_at else split.path
        of_whole = "attributes" in query or (truth.parts and "partNumber" in query)
        target = path if of_whole else split._replace(path=path).geturl()
        headers = dict(self.headers)
        if truth.headers.get("etag") and headers.get("If-Match") == truth.headers["etag"]:
            del headers["If-Match"]
        connection = http.client.HTTPConnection(upstream)
        try:
            connection.request(self.command, target, sent or None, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def _corrected(
        self, truth: Truth, query: Mapping[str, str], status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Say what S3 says: checksums only where they are asked for and not for a range or a part."""
        asked = self.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and "Range" not in self.headers
        for name in [name for name in headers if truth.withholds and name.startswith(truth.withholds)]:
            del headers[name]
        known = truth.headers.items()
        headers |= {name: value for name, value in known if asked or not name.startswith(_CHECKSUM)}
        if truth.size is not None:
            headers["content-length"] = str(truth.size)
        if truth.parts and "partNumber" in query:
            headers["content-length"] = str(truth.parts[int(query["partNumber"]) - 1])
            headers["x-amz-mp-parts-count"] = str(len(truth.parts))
            return 206, body
        if truth.flips and self.command == "GET" and body:
            truth.flips -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        return status, body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


def _attributes(truth: Truth, etag: str) -> bytes:
    """The answer to GetObjectAttributes: the parts where they have checksums, else only their number."""
    name, sums = truth.sums
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><Checksum{name}>{value}</Checksum{name}></Part>"
        for number, (size, value) in enumerate(zip(truth.parts, sums, strict=False), 1)
    )
    told = f"<ObjectParts><PartsCount>{len(truth.parts)}</PartsCount>{parts}</ObjectParts>"
    head = f"<?xml version='1.0'?><GetObjectAttributesResponse><ETag>{etag.strip(chr(34))}</ETag>"
    return f"{head}{told}</GetObjectAttributesResponse>".encode()


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
