"""What a stack makes for events to come by, in moto, and the functions that take them, by template.yaml's values."""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from handler import config
from handler.app import Service
from handler.tools import canary, check, notifications
from tests.functional.conftest import Bucket
from tests.functional.rig import Clock
from tests.unit.cfn import Stack

_numbers = itertools.count()


@dataclass
class Deployed:
    """One stack: its source bucket, queue, mapping and functions."""

    bucket: str
    copies: Bucket
    queue: str
    """URL."""
    mapping: str
    """UUID."""
    wiring: dict[str, Any]
    s3: Any
    sqs: Any
    functions: Any
    now: float = 0.0
    _services: list[Service] = field(default_factory=list)

    def set(self, patch: pytest.MonkeyPatch, **rule: Any) -> None:
        """Give the functions their variables."""
        one = {
            "ID": "replicate",
            "Source": {"Bucket": self.bucket},
            "Destination": {"Bucket": f"gs://{self.copies.name}", "Tags": {"Status": "Enabled"}},
            **rule,
        }
        patch.setenv("REPLICATION_RULES", json.dumps([one]))
        patch.setenv("PARTS_QUEUE_URL", self.queue.replace("-events", "-parts"))
        patch.setenv("WIRING", json.dumps(self.wiring))
        patch.setenv("STORAGE_EMULATOR_HOST", self.copies.url)
        canary._wiring.cache_clear()

    def wire(self, **properties: Any) -> None:
        """Do what the custom resource does."""
        wanted = self.wiring | properties
        notifications.perform({"RequestType": "Create", "ResourceProperties": wanted}, self.s3, sleep=lambda _: None)

    def notify(self, **configuration: Any) -> None:
        """Write the bucket's notifications as another tool would: all of them."""
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration=configuration, SkipDestinationValidation=True
        )

    def row(self, subject: str) -> Mapping[str, str]:
        """The one row of the check about a subject."""
        (found,) = [row for row in check.lambda_handler({}, Clock())["rows"] if row["subject"] == subject]
        return dict(found)

    def canary(self, *, seconds: float = 60.0, look: canary.Look | None = None) -> canary.Canary:
        """A canary whose waiting delivers what there is to deliver."""
        ends = self.now + seconds
        return canary.Canary(
            config.load(),
            self.s3,
            look=look or (lambda key: dict(check.lambda_handler({"look": key}, Clock()))),
            left=lambda: ends - self.now,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.deliver()

    def delay_deletes(self, patch: pytest.MonkeyPatch) -> str:
        """Have deletes wait in a queue of their own, whose URL is returned, until a test delivers them."""
        waiting, held = (
            self.sqs.create_queue(QueueName=f"{self.wiring['ConfigurationId']}-{name}")["QueueUrl"]
            for name in ("deletes", "held-deletes")
        )
        patch.setenv("DELETES_QUEUE_URL", waiting)
        patch.setenv("HELD_DELETES_QUEUE_URL", held)
        canary._wiring.cache_clear()
        return str(waiting)

    def deliver(self, queue: str = "") -> None:
        """Do what Lambda's pollers do, as long as the mapping is enabled."""
        if self.functions.get_event_source_mapping(UUID=self.mapping)["State"] != "Enabled":
            return
        if not self._services:
            self._services.append(Service(config.load()))
        service = self._services[0]
        queue = queue or self.queue
        while messages := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            service.deadline.begin(Clock())
            records = [
                {"messageId": each["MessageId"], "eventSource": "aws:sqs", "body": each["Body"], "attributes": {}}
                for each in messages
            ]
            assert service.handle({"Records": records}) == {"batchItemFailures": []}
            for each in messages:
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])

    def close(self) -> None:
        for service in self._services:
            service.close()


def deployed(moto: str, patch: pytest.MonkeyPatch, bucket: str, copies: Bucket) -> Iterator[Deployed]:
    """Make the stack in moto, and give the functions' variables to this process."""
    patch.setenv("AWS_ENDPOINT_URL", moto)
    name = f"stack-{os.getpid()}-{next(_numbers)}"
    with (
        closing(boto3.client("s3")) as s3,
        closing(boto3.client("sqs")) as sqs,
        closing(boto3.client("lambda")) as functions,
        closing(boto3.client("iam")) as iam,
    ):
        queue = sqs.create_queue(QueueName=f"{name}-events")["QueueUrl"]
        sqs.create_queue(QueueName=f"{name}-parts")
        polled = arn_of(sqs, sqs.create_queue(QueueName=f"{name}-polled")["QueueUrl"])
        arn = arn_of(sqs, queue)
        mapping = _mapping(functions, iam, name, polled)  # moto itself would take messages away from `queue`
        wiring = wiring_of(name, bucket, arn, mapping)
        one = Deployed(bucket, copies, queue, mapping, wiring, s3, sqs, functions)
        allow(one, "s3.amazonaws.com", f"arn:aws:s3:::{bucket}")
        one.set(patch)
        one.wire()
        yield one
        one.close()
        canary._wiring.cache_clear()


def arn_of(sqs: Any, url: str) -> str:
    """The other name of a queue."""
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def wiring_of(name: str, bucket: str, arn: str, mapping: str, **parameters: str) -> dict[str, Any]:
    """What template.yaml gives the check function, with this stack's names in it."""
    text = Stack(SourceBucketName=bucket, **parameters).variables("CheckFunction")["WIRING"]
    wiring: dict[str, Any] = json.loads(text)
    assert wiring["QueueArn"] == "EventsQueue.Arn"
    return wiring | {"ConfigurationId": name, "QueueArn": arn, "Mappings": {"events": mapping}}


def allow(stack: Deployed, service: str, source: str) -> None:
    """Give the queue a policy."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": stack.wiring["QueueArn"],
        "Condition": {"ArnLike": {"aws:SourceArn": source}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.sqs.set_queue_attributes(QueueUrl=stack.queue, Attributes={"Policy": policy})


def _mapping(functions: Any, iam: Any, name: str, queue: str) -> str:
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("x.py", "")
    functions.create_function(
        FunctionName=name, Runtime="python3.13", Role=role, Handler="x.y", Code={"ZipFile": code.getvalue()}
    )
    return str(functions.create_event_source_mapping(FunctionName=name, EventSourceArn=queue)["UUID"])
