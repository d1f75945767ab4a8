"""What the end-to-end tests share: waiting for a condition, and speaking to an emulator."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import boto3
from botocore.config import Config
from mypy_boto3_s3 import S3Client
from mypy_boto3_sqs import SQSClient

from local_emulator.process import EmulatorProcess

CONFIG = Config(request_checksum_calculation="when_required")
LIMIT = 20.0
"""Seconds that anything may take on a busy machine."""


def eventually(condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Return as soon as the condition holds, fail when it does not within the limit."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.01)


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Desk:
    """A running emulator and its two folders."""

    def __init__(self, emulator: EmulatorProcess) -> None:
        self.emulator = emulator
        self.ready = emulator.ready
        self.source = Path(emulator.ready["source"])
        self.destination = Path(emulator.ready["destination"])

    def request(
        self, method: str = "POST", body: bytes | None = None, *, path: str = "/v1/replicate/", content_type: str = ""
    ) -> Answer:
        headers = {"Content-Type": content_type or "application/json"}
        request = urllib.request.Request(self.ready["rest"] + path, data=body, headers=headers, method=method)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            parsed = json.loads(text) if answer.headers.get_content_type() == "application/json" else text
            return Answer(answer.status, parsed, dict(answer.headers))

    def post(self, key: str, bucket: str = "dummy") -> Answer:
        return self.request(body=json.dumps({"s3_bucket": bucket, "s3_key": key}).encode())

    def bytes(self, key: str) -> bytes | None:
        """The copy's bytes, None where there is none."""
        try:
            return (self.destination / key).read_bytes()
        except FileNotFoundError:
            return None

    def equal(self, key: str) -> bool:
        copy = self.destination / key
        try:
            return copy.read_bytes() == (self.source / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def await_equal(self, key: str, limit: float = LIMIT) -> None:
        eventually(lambda: self.equal(key), f"{key!r} equal in {self.told()}", limit)

    def await_gone(self, key: str, limit: float = LIMIT) -> None:
        eventually(lambda: not (self.destination / key).exists(), f"{key!r} gone in {self.told()}", limit)

    def await_there(self, name: str) -> None:
        eventually((self.destination / name).exists, f"{name!r} at the destination in {self.told()}")

    def told(self) -> str:
        return "\n".join(self.emulator.output()[-20:])

    def assert_ended_by_itself(self) -> None:
        """Not by force, and without complaint."""
        assert self.emulator.process.returncode == 0
        assert "Traceback" not in "\n".join(self.emulator.output())

    def gcs(self, key: str) -> dict[str, Any]:
        """The copy's metadata, by Google's API."""
        with urllib.request.urlopen(f"{self.ready['gcs']}/storage/v1/b/dummy/o/{quote(key, safe='')}") as answer:
            metadata: dict[str, Any] = json.load(answer)
            return metadata


def s3_of(desk: Desk) -> S3Client:
    return boto3.client("s3", endpoint_url=desk.ready["s3"], config=CONFIG)


def sqs_of(desk: Desk) -> SQSClient:
    return boto3.client("sqs", endpoint_url=desk.ready["sqs"], config=CONFIG)
