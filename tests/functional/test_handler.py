"""The whole handler as Lambda calls it: S3's API on one side, a folder on the other, a real dead-letter queue."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import boto3
import pytest

from handler import app

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

EVENTS = Path(__file__).parents[2] / "events"


class Minute:
    """Lambda's context with a minute left."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def sqs(s3_url: str) -> Iterator[SQSClient]:
    client = boto3.client("sqs", endpoint_url=s3_url)
    yield client
    client.close()


@pytest.fixture
def dead_letters(sqs: SQSClient, bucket: str) -> str:
    return sqs.create_queue(QueueName=f"dead-letters-of-{bucket}")["QueueUrl"]


@pytest.fixture(autouse=True)
def deployed(
    monkeypatch: pytest.MonkeyPatch, s3_url: str, bucket: str, dead_letters: str, tmp_path: Path
) -> Iterator[Path]:
    """The function's environment; the folder it copies to."""
    folder = tmp_path / "copies"
    rule = {"ID": "all", "Source": {"Bucket": bucket}, "Destination": {"Bucket": f"file://{folder}"}}
    monkeypatch.setenv("REPLICATION_RULES", json.dumps([rule]))
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", dead_letters)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_url)
    app._service.cache_clear()
    yield folder
    app._service.cache_clear()


def record(bucket: str, key: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(json.loads((EVENTS / "s3-put.json").read_text())["Records"][0])
    made["eventName"] = event
    made["s3"]["bucket"]["name"] = bucket
    made["s3"]["object"] |= {"key": quote_plus(key)}
    return made


def message(id_: str, body: object) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps({"Records": [body]})
    return {"messageId": id_, "eventSource": "aws:sqs", "body": text, "attributes": {"ApproximateReceiveCount": "1"}}


def handle(*messages: dict[str, Any]) -> Any:
    return app.lambda_handler({"Records": list(messages)}, Minute())


def test_an_object_lives_and_dies_on_both_sides(s3: S3Client, bucket: str, deployed: Path) -> None:
    for data in (b"Sample data\n", b"newer", b""):
        s3.put_object(Bucket=bucket, Key="dir/a b+c.csv", Body=data)
        assert handle(message("m", record(bucket, "dir/a b+c.csv"))) == {"batchItemFailures": []}
        assert (deployed / "dir/a b+c.csv").read_bytes() == data
    s3.delete_object(Bucket=bucket, Key="dir/a b+c.csv")
    assert handle(message("m", record(bucket, "dir/a b+c.csv", "ObjectRemoved:Delete"))) == {"batchItemFailures": []}
    assert not (deployed / "dir").exists()


def test_one_poisoned_message_is_parked_and_the_rest_is_copied(
    s3: S3Client, sqs: SQSClient, bucket: str, dead_letters: str, deployed: Path
) -> None:
    for key in "abc":
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    messages = [message(key, record(bucket, key)) for key in "abc"]
    assert handle(*messages, message("poison", "no JSON")) == {"batchItemFailures": []}
    assert {path.name for path in deployed.iterdir() if path.is_file()} == set("abc")
    (parked,) = sqs.receive_message(QueueUrl=dead_letters, MessageAttributeNames=["All"])["Messages"]
    assert parked["Body"] == "no JSON"
    assert parked["MessageAttributes"]["Reason"].get("StringValue") == "Malformed"


def test_a_backfill_copies_what_was_there_before(s3: S3Client, bucket: str, deployed: Path) -> None:
    s3.put_object(Bucket=bucket, Key="old", Body=b"there before")
    event = json.loads((EVENTS / "batch-operations-2.0.json").read_text())
    event["tasks"] = [{"taskId": "t", "s3Key": "old", "s3Bucket": bucket}]
    assert app.lambda_handler(event, Minute())["results"][0]["resultCode"] == "Succeeded"
    assert (deployed / "old").read_bytes() == b"there before"


@pytest.mark.parametrize("name", ["function-url.json", "api-gateway-http.json", "api-gateway-rest.json"])
def test_one_object_is_replicated_on_demand(s3: S3Client, bucket: str, deployed: Path, name: str) -> None:
    event = json.loads((EVENTS / name).read_text()) | {"isBase64Encoded": False}

    def ask(**body: str) -> tuple[int, Any]:
        answer = app.lambda_handler(event | {"body": json.dumps(body)}, Minute())
        return answer["statusCode"], json.loads(answer["body"])

    s3.put_object(Bucket=bucket, Key="k", Body=b"data", Metadata={"owner": "bo"})
    assert ask(s3_bucket=bucket, s3_key="k") == (200, {"status": "Success"})
    assert ask(s3_bucket=bucket, s3_key="k") == (200, {"status": "Already Exists"})
    assert (deployed / "k").read_bytes() == b"data"
    assert ask(s3_bucket=bucket, s3_key="none") == (404, {"error": "Source file not found"})
    assert ask(s3_bucket="another", s3_key="k") == (403, {"error": "Bucket not allowed"})
    assert ask(s3_bucket=bucket)[0] == 400


def test_a_destination_that_cannot_be_written_is_trouble_that_no_retry_mends(
    s3: S3Client, bucket: str, deployed: Path
) -> None:
    deployed.write_bytes(b"a file where the folder should be")
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    event = json.loads((EVENTS / "function-url.json").read_text())
    event |= {"body": json.dumps({"s3_bucket": bucket, "s3_key": "k"}), "isBase64Encoded": False}
    answer = app.lambda_handler(event, Minute())
    assert (answer["statusCode"], json.loads(answer["body"])["retryable"]) == (500, False)


def test_a_bucket_that_is_gone_never_deletes_its_copies(s3: S3Client, bucket: str, deployed: Path) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    handle(message("m", record(bucket, "k")))
    app._service.cache_clear()
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    handle(message("m", record(bucket, "k", "ObjectRemoved:Delete")))
    assert (deployed / "k").read_bytes() == b"data"


def test_no_secret_of_the_environment_is_said(
    s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-value")
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    handle(message("m", record(bucket, "k")), message("n", "no JSON"))
    said = "".join(capfd.readouterr())
    assert "s3cr3t" not in said
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "s3cr3t-value"
