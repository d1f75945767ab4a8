"""The whole handler, by events, between stores of two vendors; in the suite between the emulators of this repository.

`make witness-gcs` puts another vendor's GCS server into it, `make witness-s3` another S3.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.header import Header
from io import BytesIO

import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.session import Session

from handler import app
from handler.core.model import KIB, MIB
from tests.fakes import crc32c
from tests.functional.rig import Clock, message, record
from tests.witness.conftest import World

pytestmark = pytest.mark.witness

NAME = "größe 日本"
KEYS = [
    "a/../b",
    "a/./b",
    "dir/",
    "//",
    "/lead",
    "one two+three",
    "naïve/日本.txt",
    "%2F",
    "%2f%zz",
    "a?b=c",
    "a#b",
    "a&b;c=d",
    "a\\b",
    "x" * 1024,
]
IDS = [*KEYS[:-1], "1024 letters"]


def _bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311 - bytes, not a secret


def test_an_object_is_copied_overwritten_and_deleted_and_a_second_event_changes_nothing(world: World) -> None:
    for data in (b"Sample data\n", b"newer", b""):
        world.s3.put_object(
            Bucket=world.bucket,
            Key="k",
            Body=data,
            ContentType="text/csv",
            CacheControl="max-age=60",
            ContentDisposition='attachment; filename="a.csv"',
            ContentLanguage="de",
            Metadata={"owner": "bo", "name": Header(NAME, "utf-8").encode()},
        )
        world.deliver("k")
        copy = world.copy("k")
        assert copy is not None
        assert (world.content("k"), copy.crc32c) == (data, crc32c(data))
        assert (copy.content_type, copy.cache_control, copy.content_language) == ("text/csv", "max-age=60", "de")
        assert copy.content_disposition == 'attachment; filename="a.csv"'
        assert world.metadata("k") == {"owner": "bo", "name": NAME}
        assert copy.custom_time == world.s3.head_object(Bucket=world.bucket, Key="k")["LastModified"]
        assert copy.metadata["s3-replica-bucket"] == world.bucket
        assert ("s3-replica-version-id" in copy.metadata) == world.versioned
        world.deliver("k")
        again = world.copy("k")
        assert again is not None
        assert (again.generation, again.metageneration) == (copy.generation, copy.metageneration)
    world.delete("k")
    assert world.copy("k") is None
    world.deliver("k", "ObjectRemoved:Delete")


def test_headers_of_raw_utf_8_are_the_letters_that_they_were(world: World) -> None:
    headers = {"x-amz-meta-name": NAME, "Content-Disposition": f'attachment; filename="{NAME}"'}
    put = AWSRequest("PUT", f"{world.s3.meta.endpoint_url}/{world.bucket}/k", headers=headers)
    credentials = Session().get_credentials()
    assert credentials is not None
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(put)  # boto3 takes ASCII only
    raw = {name: value.encode() for name, value in headers.items()}
    answer = requests.put(str(put.url), b"data", headers=raw, timeout=30)
    assert answer.ok, answer.text
    world.deliver("k")
    copy = world.copy("k")
    assert copy is not None
    assert (copy.content_disposition, world.metadata("k")) == (f'attachment; filename="{NAME}"', {"name": NAME})


def test_a_late_event_of_what_is_deleted_brings_nothing_back(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"data")
    world.s3.delete_object(Bucket=world.bucket, Key="k")
    world.deliver("k")
    assert world.copy("k") is None


def test_a_version_that_is_uncovered_again_is_copied(world: World) -> None:
    if not world.versioned:
        return  # there is nothing below
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"data")
    world.delete("k")
    (marker,) = world.s3.list_object_versions(Bucket=world.bucket)["DeleteMarkers"]
    world.s3.delete_object(Bucket=world.bucket, Key="k", VersionId=marker["VersionId"])
    world.deliver("k", "ObjectRemoved:Delete")
    assert world.content("k") == b"data"


def test_what_somebody_else_put_at_the_destination_is_not_deleted(world: World) -> None:
    world.copies.blob("theirs").upload_from_string(b"theirs")
    world.deliver("theirs", "ObjectRemoved:Delete")
    assert world.content("theirs") == b"theirs"


def test_new_tags_are_copied_without_a_byte(world: World) -> None:
    world.deploy(destination={"Tags": {"Status": "Enabled"}})
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"data", Tagging="team=red")
    world.deliver("k")
    before = world.copy("k")
    assert before is not None
    assert world.metadata("k") == {"s3-tag-team": "red"}
    tags = [{"Key": "team", "Value": "blau"}, {"Key": "tier", "Value": "1"}]
    world.s3.put_object_tagging(Bucket=world.bucket, Key="k", Tagging={"TagSet": tags})  # type: ignore[typeddict-item] # plain dicts
    world.deliver("k", "ObjectTagging:Put")
    after = world.copy("k")
    assert after is not None
    assert world.metadata("k") == {"s3-tag-team": "blau", "s3-tag-tier": "1"}
    assert after.generation == before.generation


def test_new_metadata_are_copied_without_a_byte(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"data", Metadata={"owner": "bo", "gone": "x"})
    world.deliver("k")
    before = world.copy("k")
    assert before is not None
    world.s3.copy_object(
        Bucket=world.bucket,
        Key="k",
        CopySource={"Bucket": world.bucket, "Key": "k"},
        MetadataDirective="REPLACE",
        Metadata={"owner": "zoe"},
        ContentType="text/plain",
    )
    world.deliver("k", "ObjectCreated:Copy")
    after = world.copy("k")
    assert after is not None
    assert (world.metadata("k"), after.content_type) == ({"owner": "zoe"}, "text/plain")
    assert (after.generation, world.content("k")) == (before.generation, b"data")


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_a_key_is_the_name_of_its_copy(world: World, key: str) -> None:
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=key.encode())
    world.deliver(key)
    assert [blob.name for blob in world.copies.list_blobs()] == [key]
    assert world.content(key) == key.encode()
    world.delete(key)
    assert list(world.copies.list_blobs()) == []


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, 20 * MIB], ids=["8 MiB", "8 MiB + 1", "20 MiB"])
def test_an_object_over_8_mib_is_whole(world: World, size: int) -> None:
    data = _bytes(size)
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=data)
    world.deliver("k")
    assert world.content("k") == data


def test_an_object_that_boto3_uploaded_in_parts_is_whole(world: World) -> None:
    data = _bytes(20 * MIB + 7)
    world.s3.upload_fileobj(BytesIO(data), world.bucket, "k", Config=TransferConfig(multipart_threshold=8 * MIB))
    world.deliver("k", "ObjectCreated:CompleteMultipartUpload")
    assert world.content("k") == data
    assert world.copy("k").size == len(data)  # type: ignore[union-attr] # it is there


def copy_huge(world: World) -> bytes:
    """Copy an object that is just large enough for parts; return its bytes."""
    world.patch.setenv("FAN_OUT_THRESHOLD", str(128 * MIB))
    world.deploy()
    data = _bytes(130 * MIB + 1)
    parts = TransferConfig(multipart_chunksize=32 * MIB)
    world.s3.upload_fileobj(BytesIO(data), world.bucket, "k", Config=parts)
    world.deliver("k", "ObjectCreated:CompleteMultipartUpload")
    return data


@pytest.mark.slow
def test_a_huge_object_is_copied_in_parts_and_composed(world: World) -> None:
    """`make witness-gcs` and `make witness-s3` do this, as 130 MiB go through four times."""
    data = copy_huge(world)
    copy = world.copy("k")
    assert copy is not None
    assert (copy.size, copy.crc32c) == (len(data), crc32c(data))
    assert copy.component_count is None or copy.component_count > 1  # storage-testbench does not count
    assert world.content("k") == data


@pytest.mark.slow
def test_no_part_of_a_huge_object_is_left(world: World) -> None:
    """`make witness-gcs` and `make witness-s3` do this, as 130 MiB go through four times."""
    copy_huge(world)
    assert [blob.name for blob in world.copies.list_blobs()] == ["k"]


def test_another_storage_class_is_a_rewrite(world: World) -> None:
    data = _bytes(3 * MIB)
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=data, Metadata={"owner": "bo"})
    world.deliver("k")
    world.deploy(destination={"StorageClass": "NEARLINE"})
    world.deliver("k")
    copy = world.copy("k")
    assert copy is not None
    assert (copy.storage_class, world.content("k"), world.metadata("k")) == ("NEARLINE", data, {"owner": "bo"})


def test_an_event_of_another_time_is_of_the_object_as_it_is_now(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"old" * KIB)
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"new")
    old = record(world.bucket, "k", size=3 * KIB, eTag="0" * 32)
    batch = {"Records": [message("m", old | {"eventTime": datetime(2020, 1, 1, tzinfo=UTC).isoformat()})]}
    assert app.lambda_handler(batch, Clock()) == {"batchItemFailures": []}
    assert world.content("k") == b"new"


def test_a_source_bucket_that_is_gone_deletes_no_copy(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key="k", Body=b"data")
    world.deliver("k")
    gone = f"{world.bucket}-gone"
    world.deploy(Source={"Bucket": gone})
    batch = {"Records": [message("m", record(gone, "k", "ObjectRemoved:Delete"))]}
    assert app.lambda_handler(batch, Clock()) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert world.content("k") == b"data"
