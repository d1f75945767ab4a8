"""The HTTP contract: `POST /v1/replicate/`, by Function URL, API Gateway HTTP or REST API.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, APIGatewayRestResolver, Response

from handler.core.batch import Result
from handler.core.decide import DRY_RUN
from handler.core.errors import Malformed
from handler.core.model import KEY_BYTES
from handler.core.task import Change

PATHS = ("/v1/replicate/", "/v1/replicate")
_BUCKET_MAX = 63

Replicate = Callable[[Change], Result]
"""Replicates one key, on demand."""


def answer(event: dict[str, Any], context: Any, *, allows: Callable[[str], bool], replicate: Replicate) -> Any:
    """Answer an HTTP request (design section 8)."""
    by_rest_api = "httpMethod" in event
    app = APIGatewayRestResolver() if by_rest_api else APIGatewayHttpResolver()

    def post() -> Response[str]:
        try:
            body = app.current_event.decoded_body
        except ValueError:
            return _response(400, {"error": "Invalid input", "detail": "the body is not base64 of UTF-8 text"})
        return _replicate(body, allows, replicate)

    def other() -> Response[str]:
        return _response(405, {"error": "Only POST allowed"}, {"Allow": "POST"})

    for path in PATHS[:1] if by_rest_api else PATHS:  # REST's resolver does not mind the last slash
        app.route(path, method="POST")(post)
        app.route(path, method=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])(other)
    app.not_found(lambda _: other() if app.current_event.path in PATHS else _response(404, {"error": "Not found"}))
    return app.resolve(event, context)


def _replicate(body: str | None, allows: Callable[[str], bool], replicate: Replicate) -> Response[str]:
    try:
        change = _request(body)
    except Malformed as error:
        return _response(400, {"error": "Invalid input", "detail": str(error)})
    if not allows(change.bucket):
        return _response(403, {"error": "Bucket not allowed"})
    return _answer(replicate(change))


def _answer(result: Result) -> Response[str]:
    if result.errors:
        retryable = any(error.retryable for error in result.errors)
        return _response(500, {"error": "; ".join(map(str, result.errors)), "retryable": retryable})
    if said := [outcome.why for outcome in result.outcomes if outcome.why.startswith(DRY_RUN)]:
        return _response(200, {"status": "Dry Run", "detail": "; ".join(said)})
    if result.outcomes and all(outcome.original is None for outcome in result.outcomes):
        return _response(404, {"error": "Source file not found"})
    if not any(outcome.equal for outcome in result.outcomes):
        detail = "; ".join(outcome.why for outcome in result.outcomes) or "no rule covers this key"
        return _response(403, {"error": "Key not allowed", "detail": detail})
    copied = any(outcome.actions for outcome in result.outcomes)
    return _response(200, {"status": "Success" if copied else "Already Exists"})


def _request(body: str | None) -> Change:
    """Read the body.

    Raises:
        Malformed: with everything that is wrong with it.
    """
    try:
        document = json.loads(body or "")
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Malformed("the body must be a JSON object with s3_bucket and s3_key")
    limits = {"s3_bucket": _BUCKET_MAX, "s3_key": KEY_BYTES}
    faults = [fault for name, limit in limits.items() if (fault := _fault(document.get(name), name, limit))]
    if faults:
        raise Malformed("; ".join(faults))
    return Change(bucket=document["s3_bucket"], key=document["s3_key"], event="REST")


def _fault(value: object, name: str, limit: int) -> str | None:
    if value is None:
        return f"{name} is missing"
    if not isinstance(value, str):
        return f"{name} must be text"
    if not value:
        return f"{name} is empty"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"{name} is not Unicode text"
    return f"{name} is over {limit} bytes" if size > limit else None


def _response(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response[str]:
    return Response(
        status_code=status, content_type="application/json", body=json.dumps(body), headers={**(headers or {})}
    )
