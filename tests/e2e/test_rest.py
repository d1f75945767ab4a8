"""The seed flow, as it is typed beside a running emulator."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.support import Desk

REQUEST = json.dumps({"s3_bucket": "dummy", "s3_key": "source-file.csv"}).encode()


def test_a_post_copies_once_and_then_finds_the_copy(desk: Desk) -> None:
    (desk.source / "posted.txt").write_bytes(b"posted\n")
    desk.await_equal("posted.txt")  # what lay there before the start came without an event, before this
    assert not (desk.destination / "there-before.csv").exists()

    assert desk.post("there-before.csv")[:2] == (200, {"status": "Success"})
    assert (desk.destination / "there-before.csv").read_bytes() == b"Sample data\n"
    assert desk.post("there-before.csv")[:2] == (200, {"status": "Already Exists"})


def test_the_last_slash_may_be_missing(desk: Desk) -> None:
    assert desk.request(body=REQUEST, path="/v1/replicate").status == 200


def test_a_body_that_curl_sends_by_default_is_understood(desk: Desk) -> None:
    answer = desk.request(body=REQUEST, content_type="application/x-www-form-urlencoded")
    assert answer.status == 200


def test_a_missing_key_is_not_found(desk: Desk) -> None:
    assert desk.post("no-such-key")[:2] == (404, {"error": "Source file not found"})


def test_another_bucket_is_not_allowed(desk: Desk) -> None:
    assert desk.post("source-file.csv", bucket="other")[:2] == (403, {"error": "Bucket not allowed"})


@pytest.mark.parametrize(
    "body", [b'{"s3_bucket": "dum', b"[]", b'{"s3_bucket": "dummy"}', b'{"s3_bucket": "dummy", "s3_key": 7}', b"\xff"]
)
def test_broken_input_is_refused_with_what_is_wrong(desk: Desk, body: bytes) -> None:
    answer = desk.request(body=body)
    assert (answer.status, answer.body["error"]) == (400, "Invalid input")
    assert answer.body["detail"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_post_is_allowed(desk: Desk, method: str) -> None:
    answer = desk.request(method)
    assert (answer.status, answer.body, answer.headers["Allow"]) == (405, {"error": "Only POST allowed"}, "POST")


def test_a_body_over_the_limit_of_lambda_is_refused(desk: Desk) -> None:
    assert desk.request(body=b" " * (6 * 1024 * 1024 + 1)).status == 413


def test_an_unwritable_destination_is_an_error_and_then_mends(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    (desk.source / "source-file.csv").write_bytes(b"Sample data\n")
    desk.await_equal("source-file.csv")
    away = desk.destination.rename(desk.destination.with_name("away"))
    desk.destination.write_bytes(b"a file where the folder was; root may write into any folder")

    answer = desk.post("source-file.csv")
    assert (answer.status, set(answer.body)) == (500, {"error", "retryable"})

    desk.destination.unlink()
    away.rename(desk.destination)
    assert desk.post("source-file.csv")[:2] == (200, {"status": "Already Exists"})
