"""What cannot be replicated, how each comes about, and by which reason code it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from handler.core.model import TIB
from tests.functional.bench import Bench
from tests.functional.fault_proxy import PlannedFault
from tests.functional.rig import BODY, record
from tests.functional.s3_override import S3Override

Arrange = Callable[[Bench, str], str | dict[str, Any]]
"""Brings the trouble about for a key of that name; returns the message's body, or the record it has."""


@dataclass(frozen=True)
class Refusal:
    """One line of the document's last table."""

    what: str
    code: str
    arrange: Arrange
    counted: bool = True
    """In OperationsFailedReplication: it is about an object, not a message that names none."""


def _named(key: str) -> Arrange:
    """An object of this very name, which moto may not take."""

    def arrange(bench: Bench, _: str) -> dict[str, Any]:
        bench.rig.put(bench.bucket, "stands-in", BODY)
        bench.rig.front.overrides[bench.bucket, key] = S3Override(lies_at="stands-in")
        return record(bench.bucket, key, size=len(BODY))

    return arrange


def _put(override: S3Override | None = None, headers: dict[str, str] | None = None, where: str = "") -> Arrange:
    """An object with these headers, of which S3 says so."""

    def arrange(bench: Bench, name: str) -> dict[str, Any]:
        bucket = bench.others.get(where, bench.bucket)
        bench.rig.put(bucket, name, BODY, headers, override)
        return record(bucket, name, size=len(BODY))

    return arrange


def _protected(bench: Bench, name: str) -> dict[str, Any]:
    """A copy under a hold whose original has changed."""
    bench.rig.put(bench.bucket, name, BODY)
    assert bench.deliver(name, "ObjectCreated:Put").failed() == []
    blob = bench.copy(name)
    assert blob is not None
    blob.temporary_hold = True
    blob.patch()
    bench.rig.put(bench.bucket, name, BODY + b"changed")
    return record(bench.bucket, name)


def _protected_deletion(bench: Bench, name: str) -> dict[str, Any]:
    _protected(bench, name)
    bench.rig.s3.delete_object(Bucket=bench.bucket, Key=name)
    return record(bench.bucket, name, "ObjectRemoved:Delete")


def _retained(bench: Bench, name: str) -> dict[str, Any]:
    bucket = bench.others["retained"]
    bench.rig.put(bucket, name, BODY)
    assert bench.deliver(name, "ObjectCreated:Put", bucket=bucket).failed() == []
    bench.rig.put(bucket, name, BODY + b"changed")
    return record(bucket, name)


def _forbidden(bench: Bench, name: str) -> dict[str, Any]:
    bench.rig.put(bench.bucket, name, BODY)
    bench.proxy.plan(lambda request: name.encode() in request.body, PlannedFault(status=403, reason="forbidden"))
    return record(bench.bucket, name)


def _key_denied(bench: Bench, name: str) -> dict[str, Any]:
    key = f"key/{name}"
    bench.rig.put(bench.bucket, key, BODY)
    message = "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been "
    bench.proxy.plan(
        lambda request: key.encode() in request.body,
        PlannedFault(status=403, reason="forbidden", message=f"{message}authorized to use this key."),
    )
    return record(bench.bucket, key)


def _too_long(bench: Bench, name: str) -> dict[str, Any]:
    bucket, key = bench.others["deep"], "k" * 1000
    bench.rig.put(bucket, key, BODY)
    return record(bucket, key)


REFUSALS = [
    Refusal("a key with a line feed", "DstKeyInvalid", _named("line\nfeed")),
    Refusal("a key with a carriage return", "DstKeyInvalid", _named("carriage\rreturn")),
    Refusal("the key `.`", "DstKeyInvalid", _named(".")),
    Refusal("the key `..`", "DstKeyInvalid", _named("..")),
    Refusal("a key in `.well-known/acme-challenge/`", "DstKeyInvalid", _named(".well-known/acme-challenge/token")),
    Refusal("a copy's name of over 1,024 bytes, by a rule's prefix", "DstKeyInvalid", _too_long),
    Refusal("over 5 TiB", "SrcObjectTooLarge", _put(S3Override(size=5 * TIB + 1))),
    Refusal("metadata over GCS's 8 KiB in all", "SrcMetadataTooLarge",
        _put(S3Override(headers={f"x-amz-meta-{name}": "v" * 2800 for name in "abc"}))),
    Refusal("a metadata value over GCS's 4 KiB", "SrcMetadataTooLarge",
        _put(S3Override(headers={"x-amz-meta-a": "v" * 4097}))),
    Refusal("user metadata that S3 keeps back, as they are no legal HTTP headers (`x-amz-missing-meta`)",
        "SrcMetadataMissing", _put(S3Override(headers={"x-amz-missing-meta": "1"}))),
    Refusal("user metadata of a name that copies use themselves", "SrcMetadataReserved",
        _put(headers={"x-amz-meta-s3-replica-etag": "x"})),
    Refusal("SSE-C", "SrcObjectNotEligible", _put(S3Override(refuses=(400, "InvalidRequest")))),
    Refusal("archived: GLACIER", "SrcObjectArchived", _put(headers={"x-amz-storage-class": "GLACIER"})),
    Refusal("archived: DEEP_ARCHIVE", "SrcObjectArchived", _put(headers={"x-amz-storage-class": "DEEP_ARCHIVE"})),
    Refusal("archived, the restore still running", "SrcObjectArchived",
        _put(S3Override(headers={"x-amz-restore": 'ongoing-request="true"'}), {"x-amz-storage-class": "GLACIER"})),
    Refusal("archived by INTELLIGENT_TIERING", "SrcObjectArchived", _put(S3Override(
        refuses_get=(403, "InvalidObjectState"), headers={"x-amz-storage-class": "INTELLIGENT_TIERING",
        "x-amz-archive-status": "ARCHIVE_ACCESS"}))),
    Refusal("no permission to read", "SrcGetObjectNotPermitted", _put(S3Override(refuses=(403, "AccessDenied")))),
    Refusal("its KMS key is disabled", "SrcKmsKeyInvalidState",
        _put(S3Override(refuses=(400, "KMS.DisabledException")))),
    Refusal("its KMS key is gone", "SrcKmsKeyNotFound", _put(S3Override(refuses=(400, "KMS.NotFoundException")))),
    Refusal("no such source bucket", "SrcBucketNotFound", lambda bench, name: record(bench.others["gone"], name)),
    Refusal("a bucket that is no rule's source", "SrcBucketReplicationConfigMissing",
        lambda _, name: record("a-bucket-of-no-rule", name)),
    Refusal("no such destination bucket", "DstBucketNotFound", _put(where="to nowhere")),
    Refusal("a hold on the copy, which is to change", "DstObjectHeld", _protected),
    Refusal("a hold on the copy, which is to go", "DstObjectHeld", _protected_deletion),
    Refusal("a retention policy at the destination", "DstObjectRetained", _retained),
    Refusal("no permission to write", "DstPutObjectNotPermitted", _forbidden),
    Refusal("no permission to encrypt by the rule's key of Cloud KMS", "DstKmsKeyNotPermitted", _key_denied),
    Refusal("a message that is not JSON", "Malformed", lambda *_: "not JSON", counted=False),
    Refusal("an event of another major version", "Malformed",
        lambda bench, name: json.dumps({"Records": [record(bench.bucket, name) | {"eventVersion": "3.0"}]}),
        counted=False),
]  # fmt: skip
