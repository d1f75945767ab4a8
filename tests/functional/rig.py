"""Both clouds on loopback with the Lambda handler between them, and what a test sees of each."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit
from xml.etree import ElementTree as ET

import boto3
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from moto.s3 import models as moto_s3

from handler import config, observe
from handler.app import Service
from handler.core.checksums import COMPOSITES
from tests.conftest import s3_client
from tests.fakes import checksum
from tests.functional.s3_override import S3Override, S3Proxy, s3_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

SECRET = "unspeakable-secret-key"
"""AWS's secret key while a rig lasts; no log may show it."""
BODY = b"unspeakable-body "
"""How the bodies of test objects begin; no log may show it."""
_SIGNED = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""By which moto knows S3's requests; it verifies nothing."""
_numbers = itertools.count()


@dataclass
class Clock:
    """Lambda's context, with that much time left."""

    seconds: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one invocation: its answer, and what it logged and measured."""

    answer: Any
    lines: Sequence[dict[str, Any]]
    metrics: Sequence[dict[str, Any]]

    def failed(self) -> list[str]:
        """The messages that are to come again."""
        return [item["itemIdentifier"] for item in self.answer["batchItemFailures"]]

    def line(self, key: str) -> dict[str, Any]:
        """The one line about a key's outcome or failure."""
        (found,) = [line for line in self.lines if line.get("key") == key]
        return found

    def measured(self, name: str) -> float:
        """A metric, summed over buckets and rules."""
        return sum(sum(item[name]) for item in self.metrics if name in item and "Side" not in item)


def message(id_: str, *records: Mapping[str, Any], receives: int = 1) -> dict[str, Any]:
    """One SQS message with S3's records, as Lambda gets it."""
    return {
        "messageId": id_,
        "eventSource": "aws:sqs",
        "body": json.dumps({"Records": records}),
        "attributes": {"ApproximateReceiveCount": str(receives)},
    }


def record(bucket: str, key: str, event: str = "ObjectCreated:Put", **of_object: Any) -> dict[str, Any]:
    """One record of S3's."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), **of_object}},
    }


@dataclass
class Rig:
    """S3 (moto behind `Front`), SQS (moto), GCS (the local server), and services between them."""

    front: S3Proxy
    moto: str
    gcs_url: str
    s3: S3Client
    sqs: SQSClient
    gcs: storage.Client
    _stack: contextlib.ExitStack
    _buckets: set[str] = field(default_factory=set)

    def bucket(self, *, versioned: bool = False) -> str:
        """Make an S3 bucket."""
        name = f"source-{next(_numbers)}-{id(self)}"
        self.s3.create_bucket(Bucket=name)
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def copies(self, **fields: Any) -> storage.Bucket:
        """Make a GCS bucket."""
        bucket = self.gcs.bucket(f"copies-{next(_numbers)}-{id(self)}")
        for name, value in fields.items():
            setattr(bucket, name, value)
        bucket.create()
        return bucket

    def queue(self, **attributes: str) -> str:
        """Make an SQS queue."""
        return self.sqs.create_queue(QueueName=f"queue-{next(_numbers)}-{id(self)}", Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type] # names of attributes

    def service(self, *rules: Mapping[str, Any], gcs_url: str = "", **environment: str) -> Service:
        """Assemble the handler as it is in Lambda, pointed at this rig."""
        client = os.environ["GCS_CLIENT"]
        all_ = {"REPLICATION_RULES": json.dumps(rules), "CONCURRENCY": "4", "GCS_CLIENT": client, **environment}
        settings = config.load(all_)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_S3", self.front.url)
            patch.setenv("AWS_ENDPOINT_URL_SQS", self.moto)
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("STORAGE_EMULATOR_HOST", gcs_url or self.gcs_url)
            service = Service(settings)
            service.wiring.gcs()
            for name in ("s3", "sqs"):  # made here, where they are pointed at this rig
                service.wiring.aws(name)
        self._stack.callback(service.close)
        return service

    def handle(self, service: Service, *messages: Mapping[str, Any], clock: Clock | None = None) -> Told:
        """Invoke the handler with a batch of messages. No body and no credential is ever logged."""
        log, out = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
            patch.setattr(observe.logger.registered_handler, "stream", log)
            service.deadline.begin(clock or Clock())
            answer = service.handle({"Records": messages})
        said = log.getvalue() + out.getvalue()
        assert_nothing_secret(said)
        return Told(
            answer=answer,
            lines=[json.loads(line) for line in log.getvalue().splitlines()],
            metrics=[json.loads(line) for line in out.getvalue().splitlines()],
        )

    def blob(self, bucket: storage.Bucket | str, name: str) -> storage.Blob | None:
        """The copy as Google's client sees it, None where there is none."""
        return self.gcs.bucket(getattr(bucket, "name", bucket)).get_blob(name)

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        override: S3Override | None = None,
    ) -> None:
        """Put an object with just these headers, past the front."""
        self._raw("PUT", f"/{bucket}/{quote(key)}", body, headers or {})
        if override is not None:
            self.front.overrides[bucket, key] = override

    def put_parts(
        self,
        bucket: str,
        key: str,
        parts: Sequence[bytes],
        headers: Mapping[str, str],
        override: S3Override | None = None,
    ) -> None:
        """Upload in parts, past the front; what is true of their sizes is known to it."""
        where = f"/{bucket}/{quote(key)}"
        begun = ET.fromstring(self._raw("POST", f"{where}?uploads", b"", headers)[1])  # noqa: S314 - moto's
        upload = begun.findtext("{*}UploadId") or ""
        done = ET.Element("CompleteMultipartUpload")
        for number, part in enumerate(parts, 1):
            query = urlencode({"partNumber": number, "uploadId": upload})
            etag = self._raw("PUT", f"{where}?{query}", part, {})[0]["etag"]
            element = ET.SubElement(done, "Part")
            ET.SubElement(element, "PartNumber").text = str(number)
            ET.SubElement(element, "ETag").text = etag
        self._raw("POST", f"{where}?{urlencode({'uploadId': upload})}", ET.tostring(done), {})
        override = override or S3Override()
        override.parts = tuple(map(len, parts))
        for name in COMPOSITES:
            if "-" in override.headers.get(f"x-amz-checksum-{name.lower()}", ""):
                override.sums = name, tuple(checksum(name, part) for part in parts)
        self.front.overrides[bucket, key] = override

    def _raw(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.moto).netloc)
        with closing(connection):
            connection.request(method, target, body, {"Authorization": _SIGNED, **headers})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return {name.lower(): value for name, value in answer.getheaders()}, text


@contextmanager
def rig_on(moto: str, gcs_url: str) -> Iterator[Rig]:
    """Put the handler between these two servers."""
    gcs = storage.Client(project="-", credentials=AnonymousCredentials(), client_options={"api_endpoint": gcs_url})
    sqs = boto3.client("sqs", endpoint_url=moto)
    s3 = s3_client(moto)
    with (
        s3_proxy(moto) as front,
        contextlib.ExitStack() as stack,
        pytest.MonkeyPatch.context() as patch,
        closing(gcs),
        closing(sqs),
        closing(s3),
    ):
        patch.setattr(moto_s3, "S3_UPLOAD_PART_MIN_SIZE", 1)
        yield Rig(front, moto, gcs_url, s3, sqs, gcs, stack)


def assert_nothing_secret(said: str) -> None:
    """Fail if a log shows a body, a key or the address of an upload session."""
    assert BODY.decode() not in said
    assert SECRET not in said
    assert "Authorization" not in said
    assert not re.search(r"upload_id=[^.]", said)
