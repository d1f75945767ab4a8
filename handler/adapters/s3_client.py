"""The requests that every object costs, by hand, and boto3's client for all others.

boto3 takes 1 ms of a processor for each request and 0.2 s to be there at all, most of it for things that a HEAD and a
GET of a bucket in a known region do not need. What is answered here has the shape of boto3's answers, so that either
can stand for the other; whatever is not plainly understood is asked of boto3 anew.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import botocore

from handler.adapters.http import Answer, Begun, Pool
from handler.adapters.http_connection import Broken
from handler.adapters.s3_address import address_of
from handler.adapters.s3_answer import answer_of, final_error
from handler.adapters.s3_signature import Credentials, Signer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ASKED = {
    "ChecksumMode": "x-amz-checksum-mode",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "IfMatch": "If-Match",
    "Range": "Range",
}
_KNOWN = {"Bucket", "Key", "VersionId", *_ASKED}
_AGENT = "cross-cloud-replicator"
_TIMEOUT = 20.0
"""Seconds of silence."""


class S3Requests:
    """As much of boto3's S3 client as `S3Source` uses; for all threads.

    Args:
        boto3: makes boto3's client, when it is first needed; called again, it returns the same.
        connections: kept open at once, for each bucket.
        environment: says where S3 is. Credentials are taken from the process's own, anew for each request.
        time_left: seconds until the work must be done; no silence is borne beyond, nor boto3 asked.
    """

    def __init__(
        self,
        boto3: Callable[[], S3Client],
        *,
        connections: int = 20,
        environment: Mapping[str, str] | None = None,
        time_left: Callable[[], float] = lambda: 600.0,
    ) -> None:
        self.boto3 = boto3
        self._time_left = time_left
        self._connections = connections
        self._environment = dict(os.environ if environment is None else environment)
        self._signer = Signer(self._environment.get("AWS_DEFAULT_REGION", ""))
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket | None] = {}

    def head_object(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's."""
        if (response := self._answer(self._begin("HEAD", request), request)) is not None:
            answer = answer_of(response, 200)
            error = final_error("HeadObject", response)
            if answer is not None:
                return answer
            if error is not None:
                raise error
        return self.boto3().head_object(**request)

    def get_object(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's. The body is raw: no Content-Encoding is ever undone, and no checksum of it is verified."""
        return self.ask_object(**request)()

    def ask_object(self, **request: Any) -> Callable[[], Mapping[str, Any]]:
        """Ask as `get_object` does, and return what waits for the answer: there is time for something else before."""
        begun = self._begin("GET", request)
        return lambda: self._got(begun, request)

    def _got(self, begun: Begun | None, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if (response := self._answer(begun, request)) is not None:
            answer = answer_of(response, 206 if "Range" in request else 200)
            if answer is not None:
                if not answer["ContentLength"]:
                    response.drain()  # nobody reads what is empty
                return {**answer, "Body": response}
            error = final_error("GetObject", response)
            if error is not None:
                raise error
        return self.boto3().get_object(**request)

    def head_bucket(self, **request: Any) -> object:
        """See boto3's."""
        response = self._answer(self._begin("HEAD", request), request)
        if response is not None:
            response.drain()
            if response.status == 200:
                return {}
        return self.boto3().head_bucket(**request)

    def get_object_tagging(self, **request: Any) -> Mapping[str, Any]:
        """See boto3's."""
        return self.boto3().get_object_tagging(**request)

    def close(self) -> None:
        """Close all connections but boto3's."""
        for bucket in self._buckets.values():
            if bucket is not None:
                bucket.pool.close()

    def _begin(self, method: str, request: Mapping[str, Any]) -> Begun | None:
        """Ask S3; None where it must be left to boto3."""
        bucket = self._bucket(request["Bucket"])
        if bucket is None or not request.keys() <= _KNOWN or request.get("Key") == "":
            return None
        credentials = _credentials()
        if credentials is None:
            return None
        target = f"{bucket.path}/{quote(request.get('Key', ''), safe='/~')}"
        if "VersionId" in request:
            target += f"?versionId={quote(request['VersionId'], safe='')}"
        asked = {name: request[field] for field, name in _ASKED.items() if field in request}
        headers = self._signer.headers(method, bucket.pool.host, target, asked, credentials)
        headers["User-Agent"] = _AGENT
        timeout = min(_TIMEOUT, max(1.0, math.ceil(self._time_left())))
        try:
            return bucket.pool.begin(method, target, headers, timeout=timeout)
        except Broken:
            if self._time_left() <= 0:
                raise
            return None

    def _answer(self, begun: Begun | None, request: Mapping[str, Any]) -> Answer | None:
        """Return what S3 says; None where it must be left to boto3."""
        try:
            response = begun.answer() if begun else None
        except Broken:
            if self._time_left() <= 0:
                raise
            return None
        if response is not None and response.status == 301:
            self._buckets[request["Bucket"]] = None  # in another region, which boto3 finds and remembers
        return response

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
