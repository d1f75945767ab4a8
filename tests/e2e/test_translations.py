"""What the emulator turns into something else: requests, answers, log lines, environments, event files."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from local_emulator.console import Console
from local_emulator.environment import isolate
from local_emulator.function_url import Request, answer_of, event_of
from local_emulator.samples import Named, objects_in


def test_a_request_becomes_the_event_of_a_function_url() -> None:
    event = event_of(
        Request(
            method="POST",
            path="/v1/replicate/",
            query="a=1&b=2&a=3&empty=",
            headers={"content-type": "application/json; charset=utf-8", "host": "here", "user-agent": "curl"},
            cookies=("c=d",),
            body="{ß}".encode(),
            client="::1",
        )
    )
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == (
        "2.0",
        "/v1/replicate/",
        "a=1&b=2&a=3&empty=",
    )
    assert event["queryStringParameters"] == {"a": "1,3", "b": "2", "empty": ""}
    assert event["cookies"] == ["c=d"]
    assert (event["body"], event["isBase64Encoded"]) == ("{ß}", False)
    http = event["requestContext"]["http"]
    assert (http["method"], http["path"], http["sourceIp"], http["userAgent"]) == (
        "POST",
        "/v1/replicate/",
        "::1",
        "curl",
    )


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_what_is_not_text_travels_as_base64(content_type: str) -> None:
    event = event_of(Request(method="POST", path="/", headers={"content-type": content_type}, body=b"a=b"))
    assert (event["body"], event["isBase64Encoded"]) == ("YT1i", True)


def test_text_that_is_not_utf8_travels_as_base64() -> None:
    event = event_of(Request(method="POST", path="/", headers={"content-type": "text/plain"}, body=b"\xff"))
    assert (event["body"], event["isBase64Encoded"]) == ("/w==", True)


def test_an_event_without_a_body_has_none() -> None:
    assert "body" not in event_of(Request(method="GET", path="/"))


def test_an_answer_becomes_a_response() -> None:
    answer = answer_of(
        {
            "statusCode": 405,
            "headers": {"allow": "POST", "content-type": "text/plain"},
            "cookies": ["a=1", "b=2"],
            "body": base64.b64encode(b"\x00").decode(),
            "isBase64Encoded": True,
        }
    )
    assert answer.status == 405
    assert answer.headers == (
        ("Content-Type", "text/plain"),
        ("Allow", "POST"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    )
    assert answer.body == b"\x00"


@pytest.mark.parametrize("result", [{"a": 1}, None, ["x"]])
def test_an_answer_without_a_status_is_json(result: Any) -> None:
    answer = answer_of(result)
    assert (answer.status, json.loads(answer.body)) == (200, result)
    assert answer.headers == (("Content-Type", "application/json"),)


OUTCOME = {"level": "INFO", "outcome": "put", "key": "a.txt", "bytes": 5000, "seconds_since_event": 0.0345}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (json.dumps(OUTCOME), "  put     a.txt  5,000 bytes  34 ms after the event\n"),
        (json.dumps(OUTCOME | {"seconds_since_event": None}), "  put     a.txt  5,000 bytes\n"),
        (json.dumps(OUTCOME | {"outcome": "nothing"}), ""),
        (
            json.dumps(OUTCOME | {"outcome": "nothing", "why": "dry run: would put: new"}),
            "  dry run a.txt: would put: new\n",
        ),
        (
            json.dumps(OUTCOME | {"key": "\x1b[31mß\n\x9b", "bytes": 1}),
            "  put     \\x1b[31mß\\n\\x9b  1 bytes  34 ms after the event\n",
        ),
        (json.dumps({"level": "INFO", "message": "hello"}), ""),
        (json.dumps({"_aws": {}}), ""),
        (
            json.dumps({"level": "ERROR", "outcome": "failed", "key": "a", "message": "no"}),
            "  failed  a: no\n",
        ),
        (json.dumps({"level": "ERROR", "message": "parked", "detail": "why"}), "  error   parked why\n"),
        ("a plain line", "a plain line\n"),
        ("[1]", "[1]\n"),
    ],
)
def test_a_log_line_is_told_in_one_line_or_none(line: str, shown: str) -> None:
    out = io.StringIO()
    console = Console(out, verbose=False)
    for part in (line[:7], line[7:], "\n"):
        console.write(part)
    assert out.getvalue() == shown
    verbose = io.StringIO()
    Console(verbose, verbose=True).write(f"{line}\n")
    assert verbose.getvalue() == f"{line}\n"


def test_no_real_account_reaches_the_emulator() -> None:
    environment = {
        "PATH": "kept",
        "AWS_PROFILE": "work",
        "AWS_SESSION_TOKEN": "t",
        "AWS_ENDPOINT_URL": "https://elsewhere.example",
        "GOOGLE_APPLICATION_CREDENTIALS": "key.json",
        "https_proxy": "http://proxy.example",
    }
    isolate(environment)
    assert environment.pop("PATH") == "kept"
    assert "example" not in str(environment)
    assert not set(environment) & {"AWS_PROFILE", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"}
    assert environment["AWS_ACCESS_KEY_ID"] == "local"


CREATED = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a+b%2Bc"}}}
REQUEST = json.dumps({"s3_bucket": "b", "s3_key": "a b+c"})
HERE = [Named("b", "a b+c")]


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"Records": [CREATED]}, HERE),
        ({"Records": [CREATED | {"eventName": "ObjectRemoved:Delete"}]}, []),
        ({"Records": [{"body": json.dumps({"Records": [CREATED]})}, {"body": "not json"}]}, HERE),
        ({"Records": [{"Sns": {"Message": json.dumps({"Records": [CREATED]})}}]}, HERE),
        (
            {
                "Records": [
                    {"body": json.dumps({"Type": "Notification", "Message": json.dumps({"Records": [CREATED]})})}
                ]
            },
            HERE,
        ),
        ({"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "a b+c"}}}, HERE),
        ({"detail-type": "Object Deleted", "detail": {"bucket": {"name": "b"}, "object": {"key": "a b+c"}}}, []),
        ({"tasks": [{"s3BucketArn": "arn:aws:s3:::b", "s3Key": "a+b%2Bc"}]}, HERE),
        ({"tasks": [{"s3Bucket": "b", "s3Key": "a+b%2Bc"}]}, HERE),
        ({"requestContext": {"http": {"method": "POST"}}, "body": REQUEST}, HERE),
        ({"requestContext": {}, "httpMethod": "POST", "body": REQUEST}, HERE),
        (
            {
                "requestContext": {"http": {"method": "POST"}},
                "body": base64.b64encode(REQUEST.encode()).decode(),
                "isBase64Encoded": True,
            },
            HERE,
        ),
        ({"requestContext": {"http": {"method": "GET"}}}, []),
        ({"Records": "odd"}, []),
        ({"Records": [{"eventName": "ObjectCreated:Put"}]}, []),
        ([], []),
    ],
)
def test_the_objects_of_an_event_are_found(event: Any, found: list[Named]) -> None:
    assert list(objects_in(event)) == found
