"""Every kind of object of `fidelity.py` through S3, the handler and GCS, and every field of the copy compared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.cloud import storage

from handler.app import Service
from handler.core.model import SMALL
from local_emulator.gcs import GcsServer
from tests.fakes import crc32c, md5
from tests.functional import fidelity_document
from tests.functional.bench import KMS_KEY
from tests.functional.fidelity import CLASSES, DOCUMENT, KINDS, Kind
from tests.functional.rig import Rig, message, record, rig_on


@dataclass
class World:
    """Two source buckets, their rules, and where the copies go."""

    rig: Rig
    plain: str
    versioned: str
    copies: storage.Bucket
    service: Service

    def source(self, kind: Kind) -> str:
        return self.versioned if kind.versioned else self.plain

    def put(self, kind: Kind) -> tuple[str, str]:
        """Put the object into S3; return its key and the name its copy shall have."""
        bucket, key = self.source(kind), f"{kind.rule}/{kind.key or kind.name}"
        headers = dict(kind.headers)
        headers |= {f"x-amz-meta-{name}": value for name, value in kind.metadata.items()}
        if kind.parts:
            self.rig.put_parts(bucket, key, kind.parts, headers, kind.override())
        else:
            self.rig.put(bucket, key, kind.body, headers, kind.override())
        if kind.tags:
            tags = [{"Key": name, "Value": value} for name, value in kind.tags.items()]
            self.rig.s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})  # type: ignore[typeddict-item] # plain dicts
        if kind.restored:
            self.rig.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})
        return key, f"copies/{key}"


BY_EITHER = {kind.row: kind for kind in reversed(KINDS)}.values()
"""The first kind of each row; make test-google-client passes all of them by Google's client."""
CASES = [pytest.param("", kind, id=kind.name) for kind in KINDS]
CASES += [pytest.param("google-cloud-storage", kind, id=f"{kind.name}, by Google's client") for kind in BY_EITHER]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, s3_url: str, gcs_server: GcsServer) -> Iterator[World]:
    """The parameter is the client of GCS; "" for the one of --gcs-client."""
    with rig_on(s3_url, gcs_server.url) as rig:
        plain, versioned, copies = rig.bucket(), rig.bucket(versioned=True), rig.copies()
        destinations: dict[str, dict[str, Any]] = {
            "plain": {},
            "tags": {"Tags": {"Status": "Enabled"}},
            "contexts": {"Tags": {"Status": "Enabled", "As": "Contexts"}},
            "classes": {"StorageClass": CLASSES},
            "cold": {"StorageClass": "ARCHIVE"},
            "key": {"EncryptionConfiguration": {"ReplicaKmsKeyID": KMS_KEY}},
        }
        rules = [
            {
                "ID": f"{name} of {bucket}",
                "Source": {"Bucket": bucket},
                "Filter": {"Prefix": f"{name}/"},
                "Destination": {"Bucket": f"gs://{copies.name}/copies", **destination},
            }
            for bucket in (plain, versioned)
            for name, destination in destinations.items()
        ]
        client = {"GCS_CLIENT": request.param} if request.param else {}
        yield World(rig, plain, versioned, copies, rig.service(*rules, **client))


def fields_of(blob: storage.Blob) -> dict[str, Any]:
    """Everything that GCS knows of a copy and that a user sees."""
    names = (
        *("content_type", "content_encoding", "content_disposition", "content_language", "cache_control"),
        *("custom_time", "storage_class", "size", "crc32c", "md5_hash"),
    )
    key = (blob.kms_key_name or "").partition("/cryptoKeyVersions/")[0]
    return {name: getattr(blob, name) for name in names} | {
        "metadata": dict(blob.metadata or {}),
        "kms_key_name": key or None,
        "contexts": {name: context.value for name, context in blob.contexts.custom.items()},
    }


def expected(world: World, kind: Kind, key: str) -> dict[str, Any]:
    """What the copy's fields shall be, told by what was put and by what S3 says of it."""
    bucket = world.source(kind)
    object_ = world.rig.s3.head_object(Bucket=bucket, Key=key)
    etag = kind.says.get("etag", object_["ETag"]).strip('"')
    metadata = dict(kind.metadata if kind.decoded is None else kind.decoded)
    if "expires" in kind.says:
        metadata["s3-expires"] = kind.says["expires"]
    if kind.rule == "tags":
        metadata |= {f"s3-tag-{name}": value for name, value in kind.tags.items()}
    if kind.rule == "contexts":
        contexts = kind.copy["contexts"]
        metadata |= {f"s3-tag-{name}": value for name, value in kind.tags.items() if name not in contexts}
    metadata |= {
        "s3-replica-bucket": bucket,
        "s3-replica-key": key,
        "s3-replica-rule": f"{kind.rule} of {bucket}",
        "s3-replica-etag": etag,
        "s3-replica-size": str(len(kind.whole)),
        "s3-replica-last-modified": object_["LastModified"].isoformat(),
        "s3-replica-check": kind.check,
    }
    if kind.versioned:
        metadata["s3-replica-version-id"] = object_["VersionId"]
    return {
        "content_type": kind.headers.get("Content-Type", "binary/octet-stream"),
        "content_encoding": kind.says.get("content-encoding"),
        "content_disposition": kind.headers.get("Content-Disposition"),
        "content_language": kind.headers.get("Content-Language"),
        "cache_control": kind.headers.get("Cache-Control"),
        "custom_time": object_["LastModified"],
        "storage_class": "STANDARD",
        "kms_key_name": None,
        "contexts": {},
        "size": len(kind.whole),
        "crc32c": crc32c(kind.whole),
        "md5_hash": md5(kind.whole),
        "metadata": metadata,
        **kind.copy,
    }


@pytest.mark.parametrize(("world", "kind"), CASES, indirect=["world"])
def test_a_copy_is_equal_in_every_field(world: World, kind: Kind) -> None:
    key, name = world.put(kind)
    told = world.rig.handle(world.service, message("m", record(world.source(kind), key, size=len(kind.whole))))
    assert told.failed() == []

    blob = world.rig.blob(world.copies, name)
    assert blob is not None
    found = fields_of(blob)
    assert re.fullmatch("[0-9a-f]{32}", found["metadata"].pop("s3-replica-digest"))
    recorded = found["metadata"].pop(
        "s3-replica-crc32c", None
    )  # a large copy lacks it where S3's checksum tells as much
    assert recorded == crc32c(kind.whole) or (recorded is None and len(kind.whole) > SMALL)
    assert found == expected(world, kind, key)
    data = blob.download_as_bytes(raw_download=True)
    assert hashlib.sha256(data).digest() == hashlib.sha256(kind.whole).digest()

    line = told.line(key)
    assert (line["outcome"], line["check"], line["bytes"]) == ("put", kind.check, len(kind.whole))
    assert told.measured("OperationsReplicated") == 1

    again = world.rig.handle(world.service, message("m", record(world.source(kind), key), receives=2))
    assert again.line(key)["outcome"] == "nothing", "the copy is known to be equal"
    untouched = world.rig.blob(world.copies, name)
    assert untouched is not None
    assert (untouched.generation, untouched.metageneration) == (blob.generation, blob.metageneration)


def test_there_are_at_least_sixty_kinds_and_no_two_of_one_name() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 60


def test_the_document_says_what_these_tests_run() -> None:
    again = f"write it anew: python -m {fidelity_document.__name__}"
    assert DOCUMENT.read_text() == fidelity_document.text(), again
