"""Tries each permission that replication needs, by the request that replication makes.

Nothing is written to the source. In the destination an empty object is made and deleted, under `.replicator-check/`.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3

from handler.config import Settings
from handler.core.model import ABSENT, Generation, Original, Replica, Rule, Stamp
from handler.core.readers import CheckedReader
from handler.tools.rows import CLIENTS, Row, detail_of, tried
from handler.tools.safeguards import of_bucket

_PROBE = ".replicator-check/"


def of_aws(settings: Settings, *, dead_letters: bool) -> Iterator[Row]:
    """Try the permissions for the rules' sources and for the queues."""
    s3 = boto3.client("s3", config=CLIENTS)
    for rule in {(rule.source, rule.prefix): rule for rule in _rules(settings)}.values():
        yield from _source(s3, rule, settings.owner_of(rule.source))
    yield from _queue(settings.dead_letter_queue, send=dead_letters)
    yield from _visibility(settings.parts_queue)


def of_google(settings: Settings) -> Iterator[Row]:
    """Try the permissions for the rules' destinations, and check their buckets' settings."""
    targets = {(rule.destination, rule.destination_prefix): rule for rule in _rules(settings)}
    yield from _destinations(settings.gcp_credentials, list(targets.values()))


def _rules(settings: Settings) -> list[Rule]:
    return [rule for of_bucket in settings.by_source.values() for rule in of_bucket]


def _source(s3: Any, rule: Rule, owner: str | None) -> Iterator[Row]:
    where = f"s3://{rule.source}/{rule.prefix}" + (f" of {owner}" if owner else "")
    bucket = {"Bucket": rule.source} | ({"ExpectedBucketOwner": owner} if owner else {})
    missing = {**bucket, "Key": f"{rule.prefix}{_PROBE}{uuid.uuid4()}"}
    yield tried(where, "s3:ListBucket", lambda: s3.head_bucket(**bucket))
    yield tried(where, "s3:GetObject", lambda: s3.get_object(**missing))
    yield tried(where, "s3:GetObjectVersion", lambda: s3.get_object(**missing, VersionId="null"))
    yield tried(where, "s3:GetObjectTagging", lambda: s3.get_object_tagging(**missing))
    if rule.locks:  # without these S3 answers as if nothing were locked
        yield tried(where, "s3:GetObjectRetention", lambda: s3.get_object_retention(**missing))
        yield tried(where, "s3:GetObjectLegalHold", lambda: s3.get_object_legal_hold(**missing))
    yield Row("not tried", where, "kms:Decrypt", "only an object that is encrypted with the key can show it")


def _queue(url: str | None, *, send: bool) -> Iterator[Row]:
    if not url:
        yield Row("not tried", "dead-letter queue", "sqs:SendMessage", "DEAD_LETTER_QUEUE_URL is not set")
    elif not send:
        yield Row("not tried", url, "sqs:SendMessage", "a test message rings the alarm: add --dead-letters to send one")
    else:
        body = json.dumps({"Service": "handler.tools.check", "Event": "s3:TestEvent"})
        sqs = boto3.client("sqs", config=CLIENTS)
        yield tried(url, "sqs:SendMessage", lambda: sqs.send_message(QueueUrl=url, MessageBody=body))


def _visibility(url: str | None) -> Iterator[Row]:
    """Try the permission, which the events queue needs too, on a message that does not exist. Nothing changes."""
    if not url:
        yield Row("not tried", "parts queue", "sqs:ChangeMessageVisibility", "PARTS_QUEUE_URL is not set")
        return
    sqs = boto3.client("sqs", config=CLIENTS)

    def change() -> None:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle="none", VisibilityTimeout=0)

    yield tried(url, "sqs:ChangeMessageVisibility", change)


def _destinations(credentials: str, rules: list[Rule]) -> Iterator[Row]:
    buckets = [rule for rule in rules if rule.destination.startswith("gs://")]
    for rule in rules:
        if rule not in buckets:
            yield Row("not tried", rule.destination, "write", "a folder")
    if not buckets:
        return
    from handler.adapters.gcs.client import connect

    try:
        client = connect(credentials)
    except Exception as error:  # noqa: BLE001 - the operator wants to know each error
        yield Row("FAILED", "Google", "credentials", detail_of(error))
        return
    if credentials:
        row = tried("Google", "exchange of AWS credentials", client.renew)
        yield row
        if row.result != "ok":
            return
    for rule in buckets:
        yield from _permissions(client, rule)
    for location in dict.fromkeys(rule.destination for rule in buckets):
        yield from of_bucket(client, location)


def _permissions(client: Any, rule: Rule) -> Iterator[Row]:
    """Make, list, read, patch and delete an object with preconditions, as replication does."""
    from handler.adapters.gcs.destination import GcsDestination

    copies = GcsDestination(client, rule.destination.removeprefix("gs://"), time_left=lambda: 10.0)
    key = f"{rule.destination_prefix}{_PROBE}{uuid.uuid4()}"
    where = f"{rule.destination}/{rule.destination_prefix}"
    probe = Original(key=key, size=0, etag="", last_modified=datetime.now(UTC))
    at: list[Generation] = []

    def note(replica: Replica) -> None:
        at.append(replica.generation)

    def create() -> None:
        note(copies.put(key, CheckedReader(io.BytesIO(), probe), Stamp(), expect=ABSENT))

    created = tried(where, "storage.objects.create", create)
    yield created
    yield tried(where, "storage.objects.list", lambda: copies.list(key))
    if created.result != "ok":
        for name in ("get", "update", "delete"):
            yield Row("not tried", where, f"storage.objects.{name}", "there is no object to try it on")
        return
    yield tried(where, "storage.objects.get", lambda: copies.head(key))
    patched = Stamp(metadata={"replicator-check": "patched"})
    yield tried(where, "storage.objects.update", lambda: note(copies.patch(key, patched, expect=at[-1])))
    yield tried(where, "storage.objects.delete", lambda: copies.delete(key, expect=at[-1]))
