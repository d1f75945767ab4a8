"""Requests to S3: signed, sent to the bucket's region, and tried again by the policy of `retry`, as all only read.

boto3 takes 1 ms of a processor for each request and 0.2 s to be there at all, so HEAD and GET are made by hand. Rare
requests are boto3's, whose client tries once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import botocore

from handler.adapters.retry import TRANSIENT, Attempts, answered
from handler.adapters.s3.address import Place, place_of
from handler.adapters.s3.chunks import ReadAhead
from handler.adapters.s3.signature import Credentials, Signer
from handler.adapters.transport import Answer, TooLarge, Transport

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ELSEWHERE = frozenset({301, 302, 307, 400})
"""Statuses that may name another region; 400 where the signature names the wrong one."""
_REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")


class _Bucket(NamedTuple):
    place: Place
    address: str
    signer: Signer


class S3Requests:
    """Asks S3; all threads share it.

    Args:
        boto3: makes boto3's client, when it is first needed; called again, it returns the same. It tries once.
        connections: kept open at once.
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
        self.time_left = time_left
        self.read_ahead = ReadAhead()
        self._sleep = sleep
        self._environment = dict(os.environ if environment is None else environment)
        authorities = self._environment.get("AWS_CA_BUNDLE") or str(Path(botocore.__file__).with_name("cacert.pem"))
        self._transport = Transport(connections=connections, authorities=authorities, time_left=time_left)
        self._buckets: dict[str, _Bucket] = {}

    def ask(  # noqa: PLR0913 - a request has so many parts
        self,
        method: str,
        bucket: str,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        query: str = "",
        *,
        expected: int | None = None,
    ) -> Answer:
        """Return S3's answer to a HEAD or a GET, whatever it is, from the region in which the bucket is.

        Args:
            method: HTTP's.
            bucket: its name.
            key: the object's; "" for the bucket itself.
            headers: all but those that say who asks.
            query: quoted, by name.
            expected: bytes that the answer is to have at most. None of a larger one are returned.

        Raises:
            Broken: no answer came.
            Exception: botocore's, there are no credentials; Refused, where the bucket is of another kind.
        """
        target = f"/{quote(key, safe='/~')}" + (f"?{query}" if query else "")
        answer = self._asked(method, found := self._bucket(bucket), target, headers or {}, expected)
        if answer.status in _ELSEWHERE and (region := _region_of(answer)) not in {"", found.place.region}:
            found = self._buckets[bucket] = _bucket(found.place.moved_to(region), bucket)
            answer = self._asked(method, found, target, headers or {}, expected)
        return answer

    def call(self, operation: str, **request: Any) -> Mapping[str, Any]:
        """Return boto3's answer. Its client bears `SILENCE` however little time is left.

        Raises:
            Exception: botocore's.
        """
        from botocore.exceptions import ClientError, HTTPClientError  # there already, or as good as
        from botocore.exceptions import ConnectionError as NotConnectedError

        attempts = Attempts(self.time_left, self._sleep)
        while True:
            try:
                answer: Mapping[str, Any] = getattr(self.boto3(), operation)(**request)
                return answer
            except (HTTPClientError, NotConnectedError):
                if not attempts.again():
                    raise
            except ClientError as error:
                told: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
                if told.get("HTTPStatusCode") not in TRANSIENT:
                    raise
                if not attempts.again(told.get("HTTPHeaders", {}).get("retry-after")):
                    raise

    def close(self) -> None:
        """Close all connections but boto3's."""
        self.read_ahead.close()
        self._transport.close()

    def _asked(
        self, method: str, bucket: _Bucket, target: str, headers: Mapping[str, str], expected: int | None
    ) -> Answer:
        host, path = urlsplit(bucket.address)[1:3]

        def send(silence: float) -> Answer:
            signed = bucket.signer.headers(method, host, path + target, headers, _credentials())
            url = bucket.address + target
            try:
                return self._transport.request(method, url, signed, silence=silence, expected=expected)
            except TooLarge as error:
                return error.answer

        return answered(send, Attempts(self.time_left, self._sleep))

    def _bucket(self, name: str) -> _Bucket:
        if name not in self._buckets:
            place = place_of(self._environment) or self._place_of_boto3()
            self._buckets[name] = _bucket(place, name)
        return self._buckets[name]

    def _place_of_boto3(self) -> Place:
        meta = self.boto3().meta
        return Place(meta.endpoint_url, meta.region_name)


def _bucket(place: Place, name: str) -> _Bucket:
    return _Bucket(place, place.address_of(name), Signer(place.region))


def _region_of(answer: Answer) -> str:
    """Return the region that an answer says the bucket is in, "" for none."""
    match = _REGION.search(answer.data)
    return answer.headers.get("x-amz-bucket-region") or (match[1].decode() if match else "")


def _credentials() -> Credentials:
    """Return the environment's, which is where Lambda puts them, else the session's.

    Raises:
        NoCredentialsError: botocore finds none.
    """
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN"))
    if (found := _session_credentials()) is None:
        from botocore.exceptions import NoCredentialsError

        raise NoCredentialsError
    return Credentials(*found.get_frozen_credentials()[:3])


@cache
def _session_credentials() -> Any:
    """Return what botocore finds, which renews itself."""
    from botocore.session import Session  # under SnapStart, and in development

    return Session().get_credentials()
