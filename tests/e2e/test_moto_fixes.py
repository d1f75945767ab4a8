"""moto behaves as S3 and SQS do where the emulator depends on it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from moto.s3.models import S3Backend, s3_backends

from local_emulator import moto_fixes
from local_emulator.aws import Aws
from local_emulator.process import ROOT
from local_emulator.s3_events import Event, happened
from tests.e2e.test_poller import aws_of
from tests.e2e.test_s3_events import shape

MIB = 1 << 20


def events_of(aws: Aws) -> list[dict[str, Any]]:
    """What lies in the queue, without the test event."""
    found: list[dict[str, Any]] = []
    while messages := aws.sqs.receive_message(QueueUrl=aws.queue.url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found += json.loads(message["Body"]).get("Records", [])
    return found


def names_of(aws: Aws) -> list[str]:
    return [record["eventName"] for record in events_of(aws)]


def test_each_change_sends_the_events_that_s3_sends(tmp_path: Path) -> None:
    with aws_of(tmp_path) as aws:
        aws.wire()
        aws.s3.put_object(Bucket="dummy", Key="a", Body=b"1", ContentType="text/plain")
        assert names_of(aws) == ["ObjectCreated:Put"]
        aws.s3.put_object_tagging(Bucket="dummy", Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
        assert names_of(aws) == ["ObjectTagging:Put"]
        aws.s3.copy_object(Bucket="dummy", Key="b", CopySource={"Bucket": "dummy", "Key": "a"})
        assert names_of(aws) == ["ObjectCreated:Copy"]
        aws.s3.upload_fileobj(io.BytesIO(bytes(9 * MIB)), "dummy", "c", Config=TransferConfig(use_threads=False))
        assert names_of(aws) == ["ObjectCreated:CompleteMultipartUpload"]
        aws.s3.delete_objects(Bucket="dummy", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
        assert names_of(aws) == ["ObjectRemoved:Delete"] * 2
        aws.s3.delete_object(Bucket="dummy", Key="c")
        assert names_of(aws) == ["ObjectRemoved:Delete"]


def test_each_change_sends_its_events_once_while_another_emulator_lasts(tmp_path: Path) -> None:
    """Each mends moto, which is one in a process; whichever ends first, the other still has it mended once."""
    first, second = moto_fixes.applied(), moto_fixes.applied()
    first.__enter__()
    with aws_of(tmp_path, versioned=True) as aws:
        second.__enter__()
        first.__exit__(None, None, None)
        aws.wire()
        aws.s3.put_object(Bucket="dummy", Key="a", Body=b"1")
        aws.s3.delete_object(Bucket="dummy", Key="a")
        assert names_of(aws) == ["ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated"]
    second.__exit__(None, None, None)
    assert S3Backend._set_delete_marker.__module__ == "moto.s3.models", "moto is as it was"


def test_a_delete_marker_has_its_event(tmp_path: Path) -> None:
    with aws_of(tmp_path, versioned=True) as aws:
        aws.s3.put_object(Bucket="dummy", Key="a b", Body=b"1")
        aws.wire()
        version = aws.s3.delete_object(Bucket="dummy", Key="a b")["VersionId"]
        [record] = events_of(aws)
        assert record["eventName"] == "ObjectRemoved:DeleteMarkerCreated"
        assert (record["s3"]["object"]["key"], record["s3"]["object"]["versionId"]) == ("a+b", version)
        assert "size" not in record["s3"]["object"]


def test_the_head_of_a_part_has_the_etag_of_the_whole(tmp_path: Path) -> None:
    with aws_of(tmp_path) as aws:
        aws.s3.upload_fileobj(io.BytesIO(bytes(9 * MIB)), "dummy", "c", Config=TransferConfig(use_threads=False))
        whole = aws.s3.head_object(Bucket="dummy", Key="c")
        for _ in range(2):
            part = aws.s3.head_object(Bucket="dummy", Key="c", PartNumber=1, IfMatch=whole["ETag"])
            assert (part["ETag"], part["ContentLength"], part["PartsCount"]) == (whole["ETag"], 8 * MIB, 2)


@pytest.mark.parametrize(
    "name", ["LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated", "LifecycleTransition"]
)
def test_what_a_lifecycle_rule_does_has_its_event(tmp_path: Path, name: str) -> None:
    """moto runs no lifecycle rules: the emulator says what one did."""
    sample = name.replace("LifecycleExpiration:Delete", "expiration").replace("LifecycleTransition", "transition")
    [expected] = json.loads(
        (ROOT / f"events/s3-lifecycle-{sample.replace('expirationMarkerCreated', 'delete-marker')}.json").read_text()
    )["Records"]
    with aws_of(tmp_path, versioned=name.endswith("Created")) as aws:
        aws.s3.put_object(Bucket="dummy", Key="a", Body=b"1", StorageClass="STANDARD_IA")
        aws.wire()
        bucket = s3_backends["123456789012"]["aws"].get_bucket("dummy")
        happened(Event(f"s3:{name}", bucket, bucket.keys["a"]))
        [record] = events_of(aws)
    assert record["eventName"] == name
    assert shape(record) == shape(expected)
    assert record.get("lifecycleEventData") == expected.get("lifecycleEventData")
