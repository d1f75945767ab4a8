"""What an event asks for: what happens to an object, and what that costs and leaves at the destination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.cloud.storage.blob import ObjectContexts, ObjectCustomContextPayload

from tests.functional.bench import KMS_KEY, Bench
from tests.functional.rig import BODY
from tests.functional.s3_override import S3Override

Act = Callable[[Bench, str, str], None]
"""Does it to an object, given its bucket and key."""
OLD, NEW = BODY + b"old", BODY + b"new"
LATER = "Sat, 01 Jan 2101 00:00:00 GMT"
"""Of what a copy makes, as moto may be done within the second."""


@dataclass(frozen=True)
class Happening:
    """One line of the document: what happens to an object that has a copy (`OLD`), and what is to come of it."""

    what: str
    becomes: str
    event: str
    act: Act
    writes: tuple[str, ...]
    """What GCS is asked to change."""
    moves: bool = False
    """Whether body bytes move."""
    rule: str = "plain"
    versioned: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the object before."""
    before: Act | None = None
    """What comes before it is copied at first."""
    of_object: Mapping[str, Any] = field(default_factory=dict)
    """What the event says of the object besides its key."""
    data: bytes | None = OLD
    """What the copy is afterwards."""
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """Custom metadata of the copy afterwards, None what it has not."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the copy afterwards."""
    contexts: Mapping[str, str] | None = None
    """Contexts of the copy afterwards; None: not looked at."""


def _tag(**tags: str) -> Act:
    def act(bench: Bench, bucket: str, key: str) -> None:
        tag_set: Any = [{"Key": name, "Value": value} for name, value in tags.items()]
        bench.rig.s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tag_set})

    return act


def _untag(bench: Bench, bucket: str, key: str) -> None:
    bench.rig.s3.delete_object_tagging(Bucket=bucket, Key=key)


def _self_copy(**arguments: Any) -> Act:
    def act(bench: Bench, bucket: str, key: str) -> None:
        bench.rig.s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": key}, **arguments)
        bench.rig.front.overrides[bucket, key] = S3Override(headers={"last-modified": LATER})

    return act


def _transition(name: str) -> Act:
    """What a lifecycle rule does: another class, and nothing else."""

    def act(bench: Bench, bucket: str, key: str) -> None:
        bench.rig.front.overrides[bucket, key] = S3Override(headers={"x-amz-storage-class": name})

    return act


def _overwrite(bench: Bench, bucket: str, key: str) -> None:
    bench.rig.put(bucket, key, NEW)


def _delete(bench: Bench, bucket: str, key: str) -> None:
    bench.rig.s3.delete_object(Bucket=bucket, Key=key)


def _delete_and_replicate(bench: Bench, bucket: str, key: str) -> None:
    _delete(bench, bucket, key)
    assert bench.deliver(key, "ObjectRemoved:DeleteMarkerCreated", bucket=bucket).failed() == []
    assert bench.copy(key) is None


def _undelete(bench: Bench, bucket: str, key: str) -> None:
    """Remove the delete marker."""
    _delete_and_replicate(bench, bucket, key)
    (marker,) = [
        found
        for found in bench.rig.s3.list_object_versions(Bucket=bucket, Prefix=key)["DeleteMarkers"]
        if found["Key"] == key
    ]
    bench.rig.s3.delete_object(Bucket=bucket, Key=key, VersionId=marker["VersionId"])


def _delete_old_version(bench: Bench, bucket: str, key: str) -> None:
    versions = bench.rig.s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    (old,) = [found for found in versions if found["Key"] == key and not found["IsLatest"]]
    bench.rig.s3.delete_object(Bucket=bucket, Key=key, VersionId=old["VersionId"])


def _delete_newest_version(bench: Bench, bucket: str, key: str) -> None:
    newest = bench.rig.s3.head_object(Bucket=bucket, Key=key)["VersionId"]
    bench.rig.s3.delete_object(Bucket=bucket, Key=key, VersionId=newest)


def _put_before(bench: Bench, bucket: str, key: str) -> None:
    """Give the object an older version."""
    bench.rig.put(bucket, key, NEW)


def _archive_again(bench: Bench, bucket: str, key: str) -> None:
    bench.rig.put(bucket, key, NEW, {"x-amz-storage-class": "GLACIER"})
    bench.rig.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})


def _nothing(bench: Bench, bucket: str, key: str) -> None:
    """Nothing happens."""


def _copy_deleted(bench: Bench, bucket: str, key: str) -> None:
    blob = bench.copy(key)
    assert blob is not None
    blob.delete()


def _copy_changed(*, metadata: Mapping[str, str | None] | None = None, **fields: str) -> Act:
    """Somebody changes the copy's headers or metadata, by Google's own client."""

    def act(bench: Bench, bucket: str, key: str) -> None:
        blob = bench.copy(key)
        assert blob is not None
        for name, value in fields.items():
            setattr(blob, name, value)
        if metadata:
            blob.metadata = {**(blob.metadata or {}), **metadata}
        blob.patch()

    return act


def _copy_in_other_contexts(bench: Bench, bucket: str, key: str) -> None:
    """Somebody removes a context and adds another."""
    blob = bench.copy(key)
    assert blob is not None
    contexts = ObjectContexts(blob, {"other": ObjectCustomContextPayload("1")})
    contexts["custom"]["team"] = None
    blob.contexts = contexts
    blob.patch()
    assert bench.contexts(key) == {"other": "1"}


def _copy_encrypted_otherwise(bench: Bench, bucket: str, key: str) -> None:
    """Somebody rewrites the copy by another key, and keeps its metadata."""
    blob = bench.copy(key)
    assert blob is not None
    assert (blob.kms_key_name or "").startswith(KMS_KEY)
    other = bench.rig.gcs.bucket(bench.copies.name).blob(key, kms_key_name=f"{KMS_KEY}-of-somebody")
    other.metadata, other.content_type, other.custom_time = blob.metadata, blob.content_type, blob.custom_time
    other.rewrite(blob)
    assert other.kms_key_name != blob.kms_key_name


def _copy_replaced(bench: Bench, bucket: str, key: str) -> None:
    """Somebody puts other bytes of the same size in the copy's place, and keeps its metadata."""
    before = bench.copy(key)
    assert before is not None
    blob = bench.rig.gcs.bucket(bench.copies.name).blob(key)
    blob.metadata = before.metadata
    blob.upload_from_string(OLD[::-1], content_type=before.content_type)


def _foreign(data: bytes) -> Act:
    """Another tool has put the copy there instead: no provenance."""

    def act(bench: Bench, bucket: str, key: str) -> None:
        blob = bench.rig.gcs.bucket(bench.copies.name).blob(key)
        blob.metadata = {"mtime": "1760000000.123"}
        blob.upload_from_string(data, content_type="text/x-of-another-tool")

    return act


def _foreign_and_deleted(bench: Bench, bucket: str, key: str) -> None:
    _foreign(NEW)(bench, bucket, key)
    _delete(bench, bucket, key)


def _crc32c_only(bench: Bench, bucket: str, key: str) -> None:
    """The object is one of several parts, of which S3 keeps a CRC32C of the whole."""
    from tests.functional.fidelity import of_whole

    bench.rig.put_parts(bucket, key, (OLD[:9], OLD[9:]), {}, S3Override(headers=of_whole("CRC32C", OLD)))
    _foreign(OLD)(bench, bucket, key)


_BLOB_TYPE = {"content_type": "text/csv"}
_REPLACE = {"MetadataDirective": "REPLACE", "ContentType": "text/csv"}
HAPPENINGS = [
    Happening("tags put", "one metadata patch", "ObjectTagging:Put", _tag(team="red"), ("patch",), rule="tags",
        metadata={"s3-tag-team": "red"}),
    Happening("tags replaced", "one metadata patch", "ObjectTagging:Put", _tag(team="blue"), ("patch",),
        before=_tag(team="red", old="1"), rule="tags", metadata={"s3-tag-team": "blue", "s3-tag-old": None}),
    Happening("tags deleted", "one metadata patch", "ObjectTagging:Delete", _untag, ("patch",),
        before=_tag(team="red"), rule="tags", metadata={"s3-tag-team": None}),
    Happening("tags replaced, by a rule with tags as contexts", "one metadata patch", "ObjectTagging:Put",
        _tag(team="blue"), ("patch",), before=_tag(team="red", old="1"), rule="contexts", contexts={"team": "blue"}),
    Happening("tags deleted, by a rule with tags as contexts", "one metadata patch", "ObjectTagging:Delete", _untag,
        ("patch",), before=_tag(team="red"), rule="contexts", contexts={}),
    Happening("the copy's contexts changed by somebody, by a rule with tags as contexts, and any event",
        "repaired: one metadata patch", "ObjectTagging:Put", _copy_in_other_contexts, ("patch",),
        before=_tag(team="red"), rule="contexts", contexts={"team": "red"}),
    Happening("tags put, by a rule without tags", "nothing", "ObjectTagging:Put", _tag(team="red"), ()),
    Happening("ACL put", "nothing", "ObjectAcl:Put", _nothing, ()),
    Happening("the same event again", "nothing", "ObjectCreated:Put", _nothing, ()),
    Happening("copied onto itself with other headers", "one metadata patch", "ObjectCreated:Copy",
        _self_copy(**_REPLACE, CacheControl="no-store"), ("patch",), of_object={"size": len(OLD)},
        fields=_BLOB_TYPE | {"cache_control": "no-store"}),
    Happening("copied onto itself with other headers, versioned", "one metadata patch", "ObjectCreated:Copy",
        _self_copy(**_REPLACE), ("patch",), versioned=True, of_object={"size": len(OLD)}, fields=_BLOB_TYPE),
    Happening("copied onto itself with other user metadata", "one metadata patch", "ObjectCreated:Copy",
        _self_copy(MetadataDirective="REPLACE", Metadata={"new": "1"}), ("patch",), headers={"x-amz-meta-old": "1"},
        of_object={"size": len(OLD)}, metadata={"new": "1", "old": None}),
    Happening("copied onto itself with another storage class, by a rule without a map", "one metadata patch",
        "ObjectCreated:Copy", _self_copy(StorageClass="GLACIER_IR"), ("patch",), of_object={"size": len(OLD)},
        fields={"storage_class": "STANDARD"}),
    Happening("copied onto itself with another storage class, by a rule with a map", "one rewrite within GCS",
        "ObjectCreated:Copy", _self_copy(StorageClass="GLACIER_IR"), ("rewrite",), rule="classes",
        of_object={"size": len(OLD)}, fields={"storage_class": "COLDLINE"}),
    Happening("the copy encrypted by another key, by a rule with a key, and any event",
        "repaired: one rewrite within GCS", "ObjectTagging:Put", _copy_encrypted_otherwise, ("rewrite",), rule="key",
        fields={"kms_key_name": f"{KMS_KEY}/cryptoKeyVersions/1"}),
    Happening("lifecycle transition, by a rule with a map", "one rewrite within GCS", "LifecycleTransition",
        _transition("GLACIER_IR"), ("rewrite",), rule="classes", fields={"storage_class": "COLDLINE"}),
    Happening("lifecycle transition, by a rule without a map", "nothing", "LifecycleTransition",
        _transition("STANDARD_IA"), ()),
    Happening("archived by its lifecycle", "nothing: the copy stays", "LifecycleTransition", _transition("GLACIER"),
        ()),
    Happening("overwritten", "the new bytes", "ObjectCreated:Put", _overwrite, ("insert",), moves=True, data=NEW),
    Happening("overwritten, versioned", "the new bytes", "ObjectCreated:Put", _overwrite, ("insert",), moves=True,
        data=NEW, versioned=True),
    Happening("restored from the archive", "the bytes, now that they can be read", "ObjectRestore:Completed",
        _archive_again, ("insert",), moves=True, data=NEW),
    Happening("deleted", "the copy is deleted", "ObjectRemoved:Delete", _delete, ("delete",), data=None),
    Happening("delete marker created", "the copy is deleted", "ObjectRemoved:DeleteMarkerCreated", _delete,
        ("delete",), data=None, versioned=True),
    Happening("expired by its lifecycle", "the copy is deleted", "LifecycleExpiration:Delete", _delete, ("delete",),
        data=None),
    Happening("expired by its lifecycle, versioned", "the copy is deleted", "LifecycleExpiration:DeleteMarkerCreated",
        _delete, ("delete",), data=None, versioned=True),
    Happening("deleted, by a rule with DeleteMarkerReplication disabled", "the copy is kept", "ObjectRemoved:Delete",
        _delete, (), rule="keeps"),
    Happening("expired by its lifecycle, by a rule with DeleteMarkerReplication disabled", "the copy is kept",
        "LifecycleExpiration:Delete", _delete, (), rule="keeps"),
    Happening("its delete marker removed", "the copy is back", "ObjectRemoved:Delete", _undelete, ("insert",),
        moves=True, versioned=True),
    Happening("an old version deleted", "nothing", "ObjectRemoved:Delete", _delete_old_version, (), before=_put_before,
        versioned=True),
    Happening("the newest version deleted", "the version before it", "ObjectRemoved:Delete", _delete_newest_version,
        ("insert",), before=_put_before, moves=True, data=NEW, versioned=True),
    Happening("the copy deleted by somebody, and any event", "the copy is back", "ObjectTagging:Put", _copy_deleted,
        ("insert",), moves=True),
    Happening("the copy's Content-Type and Cache-Control changed by somebody, and any event",
        "repaired: one metadata patch", "ObjectTagging:Put",
        _copy_changed(content_type="text/html", cache_control="no-store"), ("patch",),
        fields={"content_type": "binary/octet-stream", "cache_control": None}),
    Happening("the copy's user metadata changed by somebody, and any event", "repaired: one metadata patch",
        "ObjectTagging:Put", _copy_changed(metadata={"owner": "them", "more": "x"}), ("patch",),
        headers={"x-amz-meta-owner": "me"}, metadata={"owner": "me", "more": None}),
    Happening("the copy's bytes replaced by somebody, its size and metadata kept, and any event",
        "repaired: the bytes again", "ObjectTagging:Put", _copy_replaced, ("insert",), moves=True),
    Happening("another tool's copy, with the MD5 of the ETag", "adopted: one metadata patch", "ObjectTagging:Put",
        _foreign(OLD), ("patch",), metadata={"mtime": None, "s3-replica-check": "both sides"},
        fields={"content_type": "binary/octet-stream"}),
    Happening("another tool's copy, with S3's CRC32C", "adopted: one metadata patch",
        "ObjectCreated:CompleteMultipartUpload", _crc32c_only, ("patch",),
        metadata={"mtime": None, "s3-replica-check": "both sides"}),
    Happening("another tool's copy, of other bytes", "replaced", "ObjectTagging:Put", _foreign(NEW), ("insert",),
        moves=True, metadata={"mtime": None}),
    Happening("another tool's object, the original deleted",
        "kept: nothing is deleted that the replicator did not put", "ObjectRemoved:Delete", _foreign_and_deleted, (),
        data=NEW, metadata={"mtime": "1760000000.123"}),
]  # fmt: skip
