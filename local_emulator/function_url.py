"""Requests as the events of a Lambda Function URL (payload format 2.0), and the handler's answers as responses.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from local_emulator.context import ACCOUNT

TEXT_TYPES = {"application/json", "application/javascript", "application/xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request, in the terms that matter here. `path` and `query` are as they came, percent-encoded."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names; values of a repeated one joined by commas."""
    cookies: tuple[str, ...] = ()
    body: bytes = b""
    client: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response. Header names are in title case and may repeat."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def event_of(request: Request) -> dict[str, Any]:
    """Return the event that a Function URL makes of a request."""
    now = datetime.now(UTC)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": dict(request.headers),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": request.headers.get("host", ""),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.client,
                "userAgent": request.headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": False,
    }
    if request.cookies:
        event["cookies"] = list(request.cookies)
    if request.query:
        event["queryStringParameters"] = _parameters(request.query)
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(request.body, request.headers.get("content-type", ""))
    return event


def answer_of(result: Any) -> Answer:
    """Return the response that a Function URL makes of what the handler returned."""
    if not isinstance(result, Mapping) or "statusCode" not in result:
        result = {"statusCode": 200, "body": json.dumps(result)}
    headers = {"Content-Type": "application/json"}
    headers |= {name.title(): str(value) for name, value in (result.get("headers") or {}).items()}
    body = result.get("body") or ""
    return Answer(
        status=int(result["statusCode"]),
        headers=(*headers.items(), *(("Set-Cookie", cookie) for cookie in result.get("cookies") or ())),
        body=base64.b64decode(body) if result.get("isBase64Encoded") else body.encode(),
    )


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _body(body: bytes, content_type: str) -> tuple[str, bool]:
    """Text stays text, everything else becomes base64."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(("+json", "+xml")):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True
