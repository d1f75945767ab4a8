"""Tries each permission that replication needs, on both sides, and says in one table which is missing.

    python -m handler.check                    with the variables and credentials of this shell
    python -m handler.check --function NAME    with the deployed function's own (template.yaml's CheckFunction)

In the source nothing is written. In the destination an empty object comes and goes, under `.replicator-check/`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handler import config
from handler.errors import ReplicationError
from handler.model import ABSENT, Generation, Original, Replica, Rule, Stamp
from handler.running import ALIAS, Running, of_alias
from handler.transfer import CheckedReader

_PROBE = ".replicator-check/"
_CLIENTS = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
_MISSING_OBJECT = {"NoSuchKey", "NoSuchVersion", "404"}
"""What S3 says of a key that is not there only to those who may read it."""
_MISSING_MESSAGE = {"ReceiptHandleIsInvalid"}
"""What SQS says of a receipt handle that it never gave, only to those who may use one."""
_DENIED = {"DstPutObjectNotPermitted", "DstCredentialsRejected"}


class Row(NamedTuple):
    """One permission on one resource: "ok", "MISSING" (denied), "FAILED" (something else is wrong) or "not tried"."""

    result: str
    where: str
    permission: str
    detail: str = ""


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer with the table; `{"dead_letters": true}` also parks a test message, which sets off its alarm."""
    settings, rows = _deployed(config.load())
    rows += check(settings, dead_letters=bool(event.get("dead_letters")))
    ok = all(row.result in {"ok", "not tried"} for row in rows)
    return {"ok": ok, "rows": [row._asdict() for row in rows], "table": table(rows)}


def _deployed(settings: config.Settings) -> tuple[config.Settings, list[Row]]:
    """Return the settings of what the replicator's alias runs, and a row for each function that has an alias."""
    rows: list[Row] = []
    found: dict[str, Running] = {}

    def read(version: str) -> None:
        found[version] = of_alias(boto3.client("lambda", config=_CLIENTS), version)

    for version in settings.versions:
        where = f"{version.split(':')[6]}:{ALIAS}"
        row = _try(where, "lambda:GetAlias", partial(read, version))
        if version in found:
            row = Row("FAILED" if found[version].stale else "ok", where, "runs", str(found[version]))
        rows.append(row)
    replicator = found.get(settings.versions[0]) if settings.versions else None
    return config.load(replicator.variables) if replicator else settings, rows


def check(settings: config.Settings, *, dead_letters: bool = False) -> Iterator[Row]:
    """Try everything that the rules and queues need."""
    rules = [rule for of_bucket in settings.by_source.values() for rule in of_bucket]
    s3 = boto3.client("s3", config=_CLIENTS)
    for rule in {(rule.source, rule.prefix): rule for rule in rules}.values():
        yield from _source(s3, rule, settings.owner_of(rule.source))
    yield from _queue(settings.dead_letter_queue, send=dead_letters)
    yield from _visibility(settings.parts_queue)
    places = {(rule.destination, rule.destination_prefix): rule for rule in rules}
    yield from _destinations(settings.gcp_credentials, list(places.values()))


def _source(s3: Any, rule: Rule, owner: str | None) -> Iterator[Row]:
    where = f"s3://{rule.source}/{rule.prefix}" + (f" of {owner}" if owner else "")
    bucket = {"Bucket": rule.source} | ({"ExpectedBucketOwner": owner} if owner else {})
    missing = {**bucket, "Key": f"{rule.prefix}{_PROBE}{uuid.uuid4()}"}
    yield _try(where, "s3:ListBucket", lambda: s3.head_bucket(**bucket))
    yield _try(where, "s3:GetObject", lambda: s3.get_object(**missing))
    yield _try(where, "s3:GetObjectVersion", lambda: s3.get_object(**missing, VersionId="null"))
    yield _try(where, "s3:GetObjectTagging", lambda: s3.get_object_tagging(**missing))
    yield Row("not tried", where, "kms:Decrypt", "only an object that is encrypted with the key can tell")


def _queue(url: str | None, *, send: bool) -> Iterator[Row]:
    if not url:
        yield Row("not tried", "dead-letter queue", "sqs:SendMessage", "DEAD_LETTER_QUEUE_URL is not set")
    elif not send:
        yield Row("not tried", url, "sqs:SendMessage", "a test message would set off the alarm; ask for it")
    else:
        body = json.dumps({"Service": "handler.check", "Event": "s3:TestEvent"})
        sqs = boto3.client("sqs", config=_CLIENTS)
        yield _try(url, "sqs:SendMessage", lambda: sqs.send_message(QueueUrl=url, MessageBody=body))


def _visibility(url: str | None) -> Iterator[Row]:
    """Ask for what the events queue needs too, of a message that does not exist: nothing changes."""
    if not url:
        yield Row("not tried", "parts queue", "sqs:ChangeMessageVisibility", "PARTS_QUEUE_URL is not set")
        return
    sqs = boto3.client("sqs", config=_CLIENTS)

    def change() -> None:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle="none", VisibilityTimeout=0)

    yield _try(url, "sqs:ChangeMessageVisibility", change)


def _destinations(credentials: str, rules: list[Rule]) -> Iterator[Row]:
    buckets = [rule for rule in rules if rule.destination.startswith("gs://")]
    for rule in rules:
        if rule not in buckets:
            yield Row("not tried", rule.destination, "write", "a folder")
    if not buckets:
        return
    from handler.adapters.gcs_client import connect

    try:
        client = connect(credentials)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the operator wants to know
        yield Row("FAILED", "Google", "credentials", _detail(error))
        return
    if credentials:
        row = _try("Google", "exchange of AWS credentials", client.renew)
        yield row
        if row.result != "ok":
            return
    for rule in buckets:
        yield from _bucket(client, rule)


def _bucket(client: Any, rule: Rule) -> Iterator[Row]:
    """Make, read, change, list and delete an object, as replication does: each on condition."""
    from handler.adapters.gcs import GcsDestination

    copies = GcsDestination(client, rule.destination.removeprefix("gs://"), time_left=lambda: 10.0)
    key = f"{rule.destination_prefix}{_PROBE}{uuid.uuid4()}"
    where = f"{rule.destination}/{rule.destination_prefix}"
    probe = Original(key=key, size=0, etag="", last_modified=datetime.now(UTC))
    at: list[Generation] = []

    def note(replica: Replica) -> None:
        at.append(replica.generation)

    def create() -> None:
        note(copies.put(key, CheckedReader(io.BytesIO(), probe), Stamp(), expect=ABSENT))

    created = _try(where, "storage.objects.create", create)
    yield created
    yield _try(where, "storage.objects.list", lambda: copies.list(key))
    if created.result != "ok":
        for name in ("get", "update", "delete"):
            yield Row("not tried", where, f"storage.objects.{name}", "there is nothing to try it on")
        return
    yield _try(where, "storage.objects.get", lambda: copies.head(key))
    patched = Stamp(metadata={"replicator-check": "patched"})
    yield _try(where, "storage.objects.update", lambda: note(copies.patch(key, patched, expect=at[-1])))
    yield _try(where, "storage.objects.delete", lambda: copies.delete(key, expect=at[-1]))


def _try(where: str, permission: str, call: Callable[[], object]) -> Row:
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if (code in _MISSING_OBJECT and permission.startswith("s3:GetObject")) or code in _MISSING_MESSAGE:
            return Row("ok", where, permission)
        denied = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        return Row("MISSING" if denied else "FAILED", where, permission, _detail(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the operator wants to know
        denied = isinstance(error, ReplicationError) and error.code in _DENIED
        return Row("MISSING" if denied else "FAILED", where, permission, _detail(error))
    return Row("ok", where, permission)


def _detail(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def table(rows: list[Row]) -> str:
    """Lay the rows out for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    )


def _remote(function: str, *, dead_letters: bool) -> dict[str, Any]:
    payload = json.dumps({"dead_letters": dead_letters})
    answer = boto3.client("lambda").invoke(FunctionName=function, Payload=payload)
    result: dict[str, Any] = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise config.ConfigurationError([str(result.get("errorMessage"))])
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the program: 0 where nothing is missing, 1 where something is, 2 where it cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m handler.check", description=__doc__.partition("\n")[0])
    parser.add_argument("--function", metavar="NAME", help="the deployed check function, to try with its own role")
    parser.add_argument("--dead-letters", action="store_true", help="park a test message too; its alarm goes off")
    options = parser.parse_args(arguments)
    try:
        if options.function:
            result = _remote(options.function, dead_letters=options.dead_letters)
        else:
            result = lambda_handler({"dead_letters": options.dead_letters}, None)
    except (config.ConfigurationError, ClientError, BotoCoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{result['table']}\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
