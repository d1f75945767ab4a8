"""The requests that every object costs, by hand, and boto3's client for all others.

boto3 takes 1 ms of a processor for each request and 0.2 s to be there at all, most of it for things that a HEAD and a
GET of a bucket in a known region do not need. What is answered here has the shape of boto3's answers, so that either
can stand for the other; whatever is not plainly understood is asked of boto3 anew. Both are tried again by `retry`,
as all of it only reads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import botocore
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnectedError

from handler.adapters.http import Answer, Begun, Pool
from handler.adapters.http_connection import Broken
from handler.adapters.retry import TRANSIENT, Attempts, answered
from handler.adapters.s3_address import address_of
from handler.adapters.s3_answer import answer_of, final_error, transient_error
from handler.adapters.s3_signature import Credentials, Signer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ASKED = {
    "ChecksumMode": "x-amz-checksum-mode",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "IfMatch": "If-Match",
    "Range": "Range",
}
_KNOWN = {"Bucket", "Key", "PartNumber", "VersionId", *_ASKED}
_AGENT = "cross-cloud-replicator"


class S3Requests:
    """As much of boto3's S3 client as `S3Source` uses; for all threads.

    Args:
        boto3: makes boto3's client, when it is first needed; called again, it returns the same. It tries once.
        connections: kept open at once, for each bucket.
        environment: says where S3 is. Credentials are taken from the process's own, anew for each request.
        time_left: seconds until the work must be done; nothing is tried again beyond.
        sleep: waits that many seconds before a request is tried again.
    """

    def __init__(
        self,
        boto3: Callable[[], S3Client],
        *,
        connections: int = 20,
        environment: Mapping[str, str] | None = None,
        time_left: Callable[[], float] = lambda: 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.boto3 = boto3
        self._time_left = time_left
        self._sleep = sleep
        self._connections = connections
        self._environment = dict(os.environ if environment is None else environment)
        self._signer = Signer(self._environment.get("AWS_DEFAULT_REGION", ""))
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket | None] = {}

    def head_object(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's."""
        if (response := self._ask("HEAD", request)()) is not None:
            answer = answer_of(response, 206 if "PartNumber" in request else 200)
            error = final_error("HeadObject", response)
            if answer is not None:
                return answer
            if error is not None:
                raise error
        return self._by_boto3("head_object", request)

    def get_object(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's. The body is raw: no Content-Encoding is ever undone, and no checksum of it is verified."""
        return self.ask_object(**request)()

    def ask_object(self, **request: Any) -> Callable[[], Mapping[str, Any]]:
        """Ask as `get_object` does, and return what waits for the answer: there is time for something else before."""
        asked = self._ask("GET", request)
        return lambda: self._got(asked(), request)

    def _got(self, response: Answer | None, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if response is not None:
            answer = answer_of(response, 206 if "Range" in request else 200)
            if answer is not None:
                if not answer["ContentLength"]:
                    response.drain()  # nobody reads what is empty
                return {**answer, "Body": response}
            error = final_error("GetObject", response)
            if error is not None:
                raise error
        return self._by_boto3("get_object", request)

    def head_bucket(self, **request: Any) -> object:
        """See boto3's."""
        response = self._ask("HEAD", request)()
        if response is not None:
            response.drain()
            if response.status == 200:
                return {}
        return self._by_boto3("head_bucket", request)

    def get_object_attributes(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's."""
        return self._by_boto3("get_object_attributes", request)

    def get_object_tagging(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's."""
        return self._by_boto3("get_object_tagging", request)

    def close(self) -> None:
        """Close all connections but boto3's."""
        for bucket in self._buckets.values():
            if bucket is not None:
                bucket.pool.close()

    def _ask(self, method: str, request: Mapping[str, Any]) -> Callable[[], Answer | None]:
        """Ask S3 at once; return what waits for the answer, trying again.

        The answer is None where boto3 is to be asked. What waits for it raises Broken or ClientError where the last try
        failed for the moment.
        """
        bucket, credentials = self._bucket(request["Bucket"]), _credentials()
        if bucket is None or credentials is None or not request.keys() <= _KNOWN or request.get("Key") == "":
            return lambda: None
        begin = partial(self._begin, bucket, method, request)
        try:
            begun: Begun | Broken = begin(credentials, Attempts(self._time_left).silence())
        except Broken as error:
            begun = error
        return lambda: self._answer(begun, lambda seconds: begin(_credentials() or credentials, seconds), request)

    def _answer(
        self, begun: Begun | Broken, begin: Callable[[float], Begun], request: Mapping[str, Any]
    ) -> Answer | None:
        """Return what S3 says to the request that has left, or to one that is begun after it."""
        pending = [begun]

        def send(silence: float) -> Answer:
            begun = pending.pop() if pending else begin(silence)
            if isinstance(begun, Broken):
                raise begun
            response = begun.answer()
            if response.status in TRANSIENT:
                response.data  # noqa: B018 - it keeps what it reads, and so the connection
            return response

        response = answered(send, Attempts(self._time_left, self._sleep))
        if response.status in TRANSIENT:
            raise transient_error(response)
        if response.status == 301:
            self._buckets[request["Bucket"]] = None  # in another region, which boto3 finds and remembers
        return response

    def _begin(
        self, bucket: _Bucket, method: str, request: Mapping[str, Any], credentials: Credentials, silence: float
    ) -> Begun:
        target = f"{bucket.path}/{quote(request.get('Key', ''), safe='/~')}"
        query = [f"partNumber={request['PartNumber']}"] if "PartNumber" in request else []
        query += [f"versionId={quote(request['VersionId'], safe='')}"] if "VersionId" in request else []
        target += f"?{'&'.join(query)}" if query else ""
        asked = {name: request[field] for field, name in _ASKED.items() if field in request}
        headers = self._signer.headers(method, bucket.pool.host, target, asked, credentials)
        headers["User-Agent"] = _AGENT
        return bucket.pool.begin(method, target, headers, timeout=silence)

    def _by_boto3(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask boto3. Its client bears `SILENCE` however little time is left, and a connection takes up to `CONNECT`."""
        attempts = Attempts(self._time_left, self._sleep)
        while True:
            try:
                answer: Mapping[str, Any] = getattr(self.boto3(), operation)(**request)
                return answer
            except (ClientError, HTTPClientError, NotConnectedError) as error:
                if not _is_transient(error) or not attempts.again(_retry_after(error)):
                    raise

    def _bucket(self, name: str) -> _Bucket | None:
        try:
            return self._buckets[name]
        except KeyError:
            with self._lock:
                if name not in self._buckets:
                    address = address_of(name, self._environment)
                    self._buckets[name] = _Bucket(address, self._connections, self._environment) if address else None
                return self._buckets[name]


class _Bucket:
    """Where a bucket is, and the connections kept to it."""

    def __init__(self, address: str, connections: int, environment: Mapping[str, str]) -> None:
        authorities = environment.get("AWS_CA_BUNDLE") or str(Path(botocore.__file__).with_name("cacert.pem"))
        self.path = urlsplit(address).path
        self.pool = Pool(address, connections=connections, authorities=authorities)


def _is_transient(error: Exception) -> bool:
    """Return True where boto3 may be asked again: no answer came, or one of a status that may pass."""
    return not isinstance(error, ClientError) or _told(error).get("HTTPStatusCode") in TRANSIENT


def _retry_after(error: Exception) -> str | None:
    headers = _told(error).get("HTTPHeaders", {}) if isinstance(error, ClientError) else {}
    value: str | None = headers.get("retry-after")
    return value


def _told(error: ClientError) -> Mapping[str, Any]:
    return error.response.get("ResponseMetadata", {})


def _credentials() -> Credentials | None:
    """The environment's, which is where Lambda puts them; else the session's, None where there are none."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN"))
    if key or secret:
        return None
    found = _session_credentials()
    return found and Credentials(*found.get_frozen_credentials()[:3])


@cache
def _session_credentials() -> Any:
    """What botocore finds, which renews itself."""
    from botocore.session import Session  # under SnapStart, and at a desk

    return Session().get_credentials()
