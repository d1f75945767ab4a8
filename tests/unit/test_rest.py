"""The HTTP contract, by each of the three ways a request can come."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler import rest
from handler.core.batch import Result, Work
from handler.core.decide import Action
from handler.core.errors import Corrupt, Refused, Unavailable
from handler.core.model import Rule
from handler.core.route import Outcome
from handler.core.task import Change
from tests.fakes import original_of

EVENTS = Path(__file__).parents[2] / "events"
SHAPES = ["function-url.json", "api-gateway-http.json", "api-gateway-rest.json"]
PATHS = ["/v1/replicate/", "/v1/replicate"]
GOOD = {"s3_bucket": "dummy", "s3_key": "source-file.csv"}
RULE = Rule(id="r", source="dummy", destination="gs://b")
COPIED = Outcome(rule=RULE, actions=(Action.PUT,), why="equal", name="k", original=original_of(b"x"))
EQUAL = replace(COPIED, actions=())
GONE = replace(COPIED, actions=(), original=None, why="neither side has it")


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


def request(
    shape: str, body: object, *, path: str = PATHS[0], method: str = "POST", encode: bool = False
) -> dict[str, Any]:
    """An HTTP event; the body as JSON, or as it is where it is text, bytes or None."""
    event: dict[str, Any] = copy.deepcopy(json.loads((EVENTS / shape).read_text()))
    text: Any = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
    if encode:
        text = base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()
    event |= {"body": text, "isBase64Encoded": encode}
    if "httpMethod" in event:
        event |= {"httpMethod": method, "path": path}
    else:
        event |= {"rawPath": path}
        event["requestContext"]["http"] |= {"method": method, "path": path}
        event["requestContext"]["stage"] = "$default"
    return event


WOULD = replace(COPIED, actions=(), why="dry run: would put: no replica")


def ask(event: dict[str, Any], *outcomes: Outcome, errors: tuple[Any, ...] = ()) -> Answer:
    def replicate(change: Change) -> Result:
        work = Work(bucket=change.bucket, key=change.key, changes=(change,))
        return Result(work=work, outcomes=outcomes, errors=errors)

    return _answer(event, replicate)


def _answer(event: dict[str, Any], replicate: Callable[[Change], Result]) -> Answer:
    answer = rest.answer(event, None, allows=lambda bucket: bucket == "dummy", replicate=replicate)
    many = answer.get("multiValueHeaders") or {}
    headers = {name: values[0] for name, values in many.items()} | (answer.get("headers") or {})
    assert headers["Content-Type"] == "application/json"
    return Answer(answer["statusCode"], json.loads(answer["body"]), headers)


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encode", [False, True], ids=["plain", "base64"])
def test_copied_now_is_success(shape: str, path: str, *, encode: bool) -> None:
    answer = ask(request(shape, GOOD, path=path, encode=encode), COPIED)
    assert (answer.status, answer.body) == (200, {"status": "Success"})


@pytest.mark.parametrize(
    ("outcomes", "status", "body"),
    [
        ([COPIED], 200, {"status": "Success"}),
        ([replace(COPIED, actions=(Action.PATCH,))], 200, {"status": "Success"}),
        ([EQUAL], 200, {"status": "Already Exists"}),
        ([EQUAL, COPIED], 200, {"status": "Success"}),
        ([EQUAL, EQUAL], 200, {"status": "Already Exists"}),
        ([GONE], 404, {"error": "Source file not found"}),
        ([GONE, GONE], 404, {"error": "Source file not found"}),
        ([replace(GONE, actions=(Action.DELETE,))], 404, {"error": "Source file not found"}),
    ],
)
def test_an_outcome_has_its_answer(shape: str, outcomes: list[Outcome], status: int, body: object) -> None:
    answer = ask(request(shape, GOOD), *outcomes)
    assert (answer.status, answer.body) == (status, body)


def test_a_key_that_no_rule_covers_is_not_allowed(shape: str) -> None:
    answer = ask(request(shape, GOOD))
    assert (answer.status, answer.body["error"]) == (403, "Key not allowed")


def test_a_bucket_that_is_no_source_is_not_allowed_and_not_asked(shape: str) -> None:
    def replicate(change: Change) -> Result:
        raise AssertionError(change)

    answer = _answer(request(shape, {**GOOD, "s3_bucket": "secrets"}), replicate)
    assert (answer.status, answer.body) == (403, {"error": "Bucket not allowed"})


@pytest.mark.parametrize(
    ("errors", "retryable"),
    [
        ([Unavailable("S3 is away")], True),
        ([Corrupt("bytes are wrong")], True),
        ([Refused("no permission")], False),
        ([Refused("no permission"), Unavailable("S3 is away")], True),
    ],
)
def test_trouble_says_what_failed_and_whether_to_try_again(shape: str, errors: list[Any], *, retryable: bool) -> None:
    answer = ask(request(shape, GOOD), errors=tuple(errors))
    assert (answer.status, answer.body["retryable"]) == (500, retryable)
    assert all(str(error) in answer.body["error"] for error in errors)
    assert set(answer.body) == {"error", "retryable"}


def test_one_destination_that_fails_is_trouble_though_another_was_copied(shape: str) -> None:
    assert ask(request(shape, GOOD), COPIED, errors=(Unavailable("away"),)).status == 500


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (None, "not JSON"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{'s3_bucket': 'dummy'}", "not JSON"),
        ("[" * 10_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ("null", "JSON object"),
        ("[]", "JSON object"),
        ('"text"', "JSON object"),
        ("NaN", "JSON object"),
        ({}, "s3_bucket is missing; s3_key is missing"),
        ({"s3_bucket": "dummy"}, "s3_key is missing"),
        ({"s3_key": "k"}, "s3_bucket is missing"),
        ({**GOOD, "s3_key": None}, "s3_key is missing"),
        ({**GOOD, "s3_key": ""}, "s3_key is empty"),
        ({**GOOD, "s3_bucket": ""}, "s3_bucket is empty"),
        ({**GOOD, "s3_key": 7}, "s3_key must be text"),
        ({**GOOD, "s3_key": ["k"]}, "s3_key must be text"),
        ({**GOOD, "s3_key": {"k": 1}}, "s3_key must be text"),
        ({**GOOD, "s3_bucket": True}, "s3_bucket must be text"),
        ({**GOOD, "s3_key": "x" * 1025}, "s3_key is over 1024 bytes"),
        ({**GOOD, "s3_key": "ü" * 513}, "s3_key is over 1024 bytes"),
        ({**GOOD, "s3_bucket": "x" * 64}, "s3_bucket is over 63 bytes"),
        ({**GOOD, "s3_key": "\ud800"}, "s3_key is not Unicode text"),
        ({"s3_bucket": "\udfff", "s3_key": 1}, "s3_bucket is not Unicode text; s3_key must be text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_makes_no_sense_is_invalid_input_that_says_why(shape: str, body: object, detail: str) -> None:
    answer = ask(request(shape, body), COPIED)
    assert (answer.status, answer.body["error"]) == (400, "Invalid input")
    assert detail in answer.body["detail"]


@pytest.mark.parametrize(
    "body", ["%%%", "abc", base64.b64encode(b"\xff\xfe{}").decode(), base64.b64encode(b"{").decode(), ""]
)
def test_a_body_that_is_no_base64_or_no_text_is_invalid_input(shape: str, body: str) -> None:
    event = request(shape, body)
    event["isBase64Encoded"] = True
    assert ask(event, COPIED).status == 400


@pytest.mark.parametrize("key", ["k", "x" * 1024, "ü" * 512, "a b+c%2F", "line\nbreak", "..", "日本/🗂"])
def test_a_key_is_taken_as_it_is(shape: str, key: str) -> None:
    asked: list[Change] = []

    def replicate(change: Change) -> Result:
        asked.append(change)
        return Result(work=Work(bucket="dummy", key=key, changes=(change,)), outcomes=(EQUAL,))

    _answer(request(shape, {**GOOD, "s3_key": key, "more": "is ignored"}), replicate)
    assert [(change.bucket, change.key) for change in asked] == [("dummy", key)]


METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "X"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_another_method_is_told_what_is_allowed(shape: str, path: str, method: str) -> None:
    answer = ask(request(shape, GOOD, path=path, method=method), COPIED)
    assert (answer.status, answer.body) == (405, {"error": "Only POST allowed"})
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/replicate/x", "/v2/replicate/", "/v1/replicates", "/v1/../v1/replicate/"]
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_another_path_is_not_found(shape: str, path: str, method: str) -> None:
    assert ask(request(shape, GOOD, path=path, method=method), COPIED).status == 404


@given(body=st.text(max_size=50) | st.binary(max_size=50), encode=st.booleans(), shape=st.sampled_from(SHAPES))
@settings(max_examples=100, deadline=None)
def test_no_body_does_worse_than_invalid_input(body: str | bytes, encode: bool, shape: str) -> None:  # noqa: FBT001 - drawn
    if isinstance(body, bytes) and not encode:
        body = body.decode("latin-1")
    assert ask(request(shape, body, encode=encode), COPIED).status in {200, 400}


def test_a_dry_run_that_would_delete_says_so() -> None:
    answer = ask(request(SHAPES[0], GOOD), replace(WOULD, original=None, why="dry run: would delete: no original"))
    assert (answer.status, answer.body) == (200, {"status": "Dry Run", "detail": "dry run: would delete: no original"})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_dry_run_is_no_success(shape: str) -> None:
    answer = ask(request(shape, GOOD), WOULD)
    assert (answer.status, answer.body) == (200, {"status": "Dry Run", "detail": "dry run: would put: no replica"})
