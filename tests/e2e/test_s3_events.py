"""The events of the local S3, field by field. The suite stands alone: it speaks to any S3 and SQS by boto3.

`EVENTS_S3_URL` and `EVENTS_SQS_URL` name another emulator's; the emulator's own are started otherwise. The expected
records are AWS's: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from mypy_boto3_s3 import S3Client
from mypy_boto3_sqs import SQSClient

EVENTS = Path(__file__).parents[2] / "events"
MIB = 1 << 20
ODD_KEY = "odd dir/naïve + café %2F & more.txt"
WATCHED = [
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectTagging:*",
    "s3:ObjectRestore:*",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleTransition",
]


class Watched:
    """A bucket, and the queue that its events go to."""

    def __init__(self, s3: S3Client, sqs: SQSClient, *, versioned: bool) -> None:
        self.s3, self.sqs, self.name = s3, sqs, f"events-{uuid.uuid4().hex}"
        s3.create_bucket(Bucket=self.name)
        if versioned:
            s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        self._queue = sqs.create_queue(QueueName=self.name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        s3.put_bucket_notification_configuration(
            Bucket=self.name,
            NotificationConfiguration={"QueueConfigurations": [{"Id": "w", "QueueArn": arn, "Events": WATCHED}]},  # type: ignore[list-item, misc] # names of events
        )
        self.put = lambda key, body=b"Sample data\n", **rest: s3.put_object(
            Bucket=self.name, Key=key, Body=body, **rest
        )

    def events(self) -> list[dict[str, Any]]:
        """Take what was sent so far, without the test event."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                found += json.loads(message["Body"]).get("Records", [])
        return found

    def event(self) -> dict[str, Any]:
        """Take the only one."""
        [event] = self.events()
        return event


Make = Callable[..., Watched]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    config = Config(request_checksum_calculation="when_required")
    if "EVENTS_S3_URL" in os.environ:
        s3 = boto3.client("s3", endpoint_url=os.environ["EVENTS_S3_URL"], config=config)
        sqs = boto3.client("sqs", endpoint_url=os.environ["EVENTS_SQS_URL"])
        yield lambda *, versioned=False: Watched(s3, sqs, versioned=versioned)
        return
    from tests.e2e.test_poller import aws_of

    with aws_of(tmp_path_factory.mktemp("aws")) as aws:
        yield lambda *, versioned=False: Watched(aws.s3, aws.sqs, versioned=versioned)


def shape(value: Any) -> Any:
    """A document's fields without their values."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def documented(name: str) -> dict[str, Any]:
    """A record of the sample events, which have AWS's fields."""
    record: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())["Records"][0]
    return record


def multipart(bucket: Watched) -> None:
    upload = bucket.s3.create_multipart_upload(Bucket=bucket.name, Key="large")["UploadId"]
    where: Any = {"Bucket": bucket.name, "Key": "large", "UploadId": upload}
    etag = bucket.s3.upload_part(**where, PartNumber=1, Body=b"Sample data\n")["ETag"]
    bucket.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})


def copy(bucket: Watched) -> None:
    bucket.s3.copy_object(Bucket=bucket.name, Key="b", CopySource={"Bucket": bucket.name, "Key": "there"})


def tag(bucket: Watched) -> None:
    bucket.s3.put_object_tagging(Bucket=bucket.name, Key="there", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})


def untag(bucket: Watched) -> None:
    bucket.s3.delete_object_tagging(Bucket=bucket.name, Key="there")


def delete(bucket: Watched) -> None:
    bucket.s3.delete_object(Bucket=bucket.name, Key="there")


@pytest.mark.parametrize(
    ("act", "versioned", "name", "sample"),
    [
        (lambda bucket: bucket.put("a"), False, "ObjectCreated:Put", "s3-put"),
        (lambda bucket: bucket.put("a"), True, "ObjectCreated:Put", "s3-put-versioned"),
        (lambda bucket: bucket.put("a", Tagging="k=v"), False, "ObjectCreated:Put", "s3-put"),
        (multipart, False, "ObjectCreated:CompleteMultipartUpload", "s3-multipart"),
        (copy, False, "ObjectCreated:Copy", "s3-put"),
        (tag, False, "ObjectTagging:Put", "s3-tagging-put"),
        (untag, False, "ObjectTagging:Delete", "s3-tagging-delete"),
        (delete, False, "ObjectRemoved:Delete", "s3-delete"),
        (delete, True, "ObjectRemoved:DeleteMarkerCreated", "s3-delete-marker"),
    ],
)
def test_an_action_sends_one_event_with_the_fields_that_aws_documents(
    make: Make, act: Callable[[Watched], None], name: str, sample: str, *, versioned: bool
) -> None:
    bucket = make(versioned=versioned)
    bucket.put("there")
    bucket.events()
    act(bucket)
    event = bucket.event()
    assert event["eventName"] == name
    assert event["eventVersion"] == documented(sample)["eventVersion"]
    assert shape(event) == shape(documented(sample))


def test_a_put_says_what_was_put(make: Make) -> None:
    bucket = make(versioned=True)
    put = bucket.put("a")
    found = bucket.event()["s3"]["object"]
    sequencer = found.pop("sequencer")
    assert re.fullmatch("[0-9A-F]{18}", sequencer)
    assert found == {
        "key": "a",
        "size": 12,
        "eTag": put["ETag"].strip('"'),
        "versionId": put["VersionId"],
    }


def test_a_key_is_form_encoded_as_in_the_sample(make: Make) -> None:
    bucket = make()
    bucket.put(ODD_KEY)
    assert bucket.event()["s3"]["object"]["key"] == documented("s3-odd-key")["s3"]["object"]["key"]


def test_sequencers_rise_with_each_change_of_a_key(make: Make) -> None:
    bucket = make()
    for number in range(20):
        bucket.put("a", str(number).encode())
        if number % 3 == 0:
            bucket.s3.delete_object(Bucket=bucket.name, Key="a")
    sequencers = [event["s3"]["object"]["sequencer"] for event in bucket.events()]
    assert len(sequencers) == 27
    assert sequencers == sorted(set(sequencers))


def test_a_delete_of_many_sends_an_event_for_each(make: Make) -> None:
    bucket = make()
    for key in "ab":
        bucket.put(key)
    bucket.events()
    bucket.s3.delete_objects(Bucket=bucket.name, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert [event["eventName"] for event in bucket.events()] == ["ObjectRemoved:Delete"] * 2


@pytest.mark.parametrize("many", [False, True], ids=["DeleteObject", "DeleteObjects"])
@pytest.mark.parametrize("what", ["newest version", "older version", "only version", "delete marker"])
def test_a_version_that_is_deleted_by_its_id_sends_its_event(make: Make, what: str, *, many: bool) -> None:
    bucket = make(versioned=True)
    versions = [bucket.put("a", body)["VersionId"] for body in (b"1", b"2")[: 1 if what == "only version" else 2]]
    marker = bucket.s3.delete_object(Bucket=bucket.name, Key="a")["VersionId"] if what == "delete marker" else ""
    bucket.events()
    version = marker or versions[0 if what == "older version" else -1]
    if many:
        bucket.s3.delete_objects(Bucket=bucket.name, Delete={"Objects": [{"Key": "a", "VersionId": version}]})
    else:
        bucket.s3.delete_object(Bucket=bucket.name, Key="a", VersionId=version)
    event = bucket.event()
    assert event["eventName"] == "ObjectRemoved:Delete"
    assert set(event["s3"]["object"]) == {"key", "versionId", "sequencer"}
    assert event["s3"]["object"]["versionId"] == version


def test_a_version_that_is_not_there_sends_nothing(make: Make) -> None:
    bucket = make(versioned=True)
    bucket.put("a")
    bucket.events()
    bucket.s3.delete_object(Bucket=bucket.name, Key="a", VersionId=str(uuid.uuid4()))
    assert bucket.events() == []


def test_a_restore_says_that_it_began_and_that_it_ended(make: Make) -> None:
    bucket = make()
    bucket.put("a", StorageClass="GLACIER")
    bucket.events()
    bucket.s3.restore_object(Bucket=bucket.name, Key="a", RestoreRequest={"Days": 7})
    bucket.s3.head_object(Bucket=bucket.name, Key="a")
    events = bucket.events()
    assert [event["eventName"] for event in events] == ["ObjectRestore:Post", "ObjectRestore:Completed"]
    assert shape(events[1]) == shape(documented("s3-restore-completed"))
    assert events[1]["glacierEventData"]["restoreEventData"]["lifecycleRestoreStorageClass"] == "GLACIER"
