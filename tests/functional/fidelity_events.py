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


@dataclass(frozen=True, kw_only=True)
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
    Happening(
        what="tags put",
        becomes="one metadata patch",
        event="ObjectTagging:Put",
        act=_tag(team="red"),
        rule="tags",
        writes=("patch",),
        metadata={"s3-tag-team": "red"},
    ),
    Happening(
        what="tags replaced",
        becomes="one metadata patch",
        event="ObjectTagging:Put",
        before=_tag(team="red", old="1"),
        act=_tag(team="blue"),
        rule="tags",
        writes=("patch",),
        metadata={"s3-tag-team": "blue", "s3-tag-old": None},
    ),
    Happening(
        what="tags deleted",
        becomes="one metadata patch",
        event="ObjectTagging:Delete",
        before=_tag(team="red"),
        act=_untag,
        rule="tags",
        writes=("patch",),
        metadata={"s3-tag-team": None},
    ),
    Happening(
        what="tags replaced, by a rule with tags as contexts",
        becomes="one metadata patch",
        event="ObjectTagging:Put",
        before=_tag(team="red", old="1"),
        act=_tag(team="blue"),
        rule="contexts",
        writes=("patch",),
        contexts={"team": "blue"},
    ),
    Happening(
        what="tags deleted, by a rule with tags as contexts",
        becomes="one metadata patch",
        event="ObjectTagging:Delete",
        before=_tag(team="red"),
        act=_untag,
        rule="contexts",
        writes=("patch",),
        contexts={},
    ),
    Happening(
        what="the copy's contexts changed by somebody, by a rule with tags as contexts, and any event",
        becomes="repaired: one metadata patch",
        event="ObjectTagging:Put",
        before=_tag(team="red"),
        act=_copy_in_other_contexts,
        rule="contexts",
        writes=("patch",),
        contexts={"team": "red"},
    ),
    Happening(
        what="tags put, by a rule without tags",
        becomes="nothing",
        event="ObjectTagging:Put",
        act=_tag(team="red"),
        writes=(),
    ),
    Happening(what="ACL put", becomes="nothing", event="ObjectAcl:Put", act=_nothing, writes=()),
    Happening(what="the same event again", becomes="nothing", event="ObjectCreated:Put", act=_nothing, writes=()),
    Happening(
        what="copied onto itself with other headers",
        becomes="one metadata patch",
        event="ObjectCreated:Copy",
        act=_self_copy(**_REPLACE, CacheControl="no-store"),
        writes=("patch",),
        of_object={"size": len(OLD)},
        fields=_BLOB_TYPE | {"cache_control": "no-store"},
    ),
    Happening(
        what="copied onto itself with other headers, versioned",
        becomes="one metadata patch",
        event="ObjectCreated:Copy",
        act=_self_copy(**_REPLACE),
        writes=("patch",),
        versioned=True,
        of_object={"size": len(OLD)},
        fields=_BLOB_TYPE,
    ),
    Happening(
        what="copied onto itself with other user metadata",
        becomes="one metadata patch",
        event="ObjectCreated:Copy",
        act=_self_copy(MetadataDirective="REPLACE", Metadata={"new": "1"}),
        headers={"x-amz-meta-old": "1"},
        writes=("patch",),
        of_object={"size": len(OLD)},
        metadata={"new": "1", "old": None},
    ),
    Happening(
        what="copied onto itself with another storage class, by a rule without a map",
        becomes="one metadata patch",
        event="ObjectCreated:Copy",
        act=_self_copy(StorageClass="GLACIER_IR"),
        writes=("patch",),
        of_object={"size": len(OLD)},
        fields={"storage_class": "STANDARD"},
    ),
    Happening(
        what="copied onto itself with another storage class, by a rule with a map",
        becomes="one rewrite within GCS",
        event="ObjectCreated:Copy",
        act=_self_copy(StorageClass="GLACIER_IR"),
        rule="classes",
        writes=("rewrite",),
        of_object={"size": len(OLD)},
        fields={"storage_class": "COLDLINE"},
    ),
    Happening(
        what="the copy encrypted by another key, by a rule with a key, and any event",
        becomes="repaired: one rewrite within GCS",
        event="ObjectTagging:Put",
        act=_copy_encrypted_otherwise,
        rule="key",
        writes=("rewrite",),
        fields={"kms_key_name": f"{KMS_KEY}/cryptoKeyVersions/1"},
    ),
    Happening(
        what="lifecycle transition, by a rule with a map",
        becomes="one rewrite within GCS",
        event="LifecycleTransition",
        act=_transition("GLACIER_IR"),
        rule="classes",
        writes=("rewrite",),
        fields={"storage_class": "COLDLINE"},
    ),
    Happening(
        what="lifecycle transition, by a rule without a map",
        becomes="nothing",
        event="LifecycleTransition",
        act=_transition("STANDARD_IA"),
        writes=(),
    ),
    Happening(
        what="archived by its lifecycle",
        becomes="nothing: the copy stays",
        event="LifecycleTransition",
        act=_transition("GLACIER"),
        writes=(),
    ),
    Happening(
        what="overwritten",
        becomes="the new bytes",
        event="ObjectCreated:Put",
        act=_overwrite,
        writes=("insert",),
        moves=True,
        data=NEW,
    ),
    Happening(
        what="overwritten, versioned",
        becomes="the new bytes",
        event="ObjectCreated:Put",
        act=_overwrite,
        writes=("insert",),
        moves=True,
        data=NEW,
        versioned=True,
    ),
    Happening(
        what="restored from the archive",
        becomes="the bytes, now that they can be read",
        event="ObjectRestore:Completed",
        act=_archive_again,
        writes=("insert",),
        moves=True,
        data=NEW,
    ),
    Happening(
        what="deleted",
        becomes="the copy is deleted",
        event="ObjectRemoved:Delete",
        act=_delete,
        writes=("delete",),
        data=None,
    ),
    Happening(
        what="delete marker created",
        becomes="the copy is deleted",
        event="ObjectRemoved:DeleteMarkerCreated",
        act=_delete,
        writes=("delete",),
        data=None,
        versioned=True,
    ),
    Happening(
        what="expired by its lifecycle",
        becomes="the copy is deleted",
        event="LifecycleExpiration:Delete",
        act=_delete,
        writes=("delete",),
        data=None,
    ),
    Happening(
        what="expired by its lifecycle, versioned",
        becomes="the copy is deleted",
        event="LifecycleExpiration:DeleteMarkerCreated",
        act=_delete,
        writes=("delete",),
        data=None,
        versioned=True,
    ),
    Happening(
        what="deleted, by a rule with DeleteMarkerReplication disabled",
        becomes="the copy is kept",
        event="ObjectRemoved:Delete",
        act=_delete,
        writes=(),
        rule="keeps",
    ),
    Happening(
        what="expired by its lifecycle, by a rule with DeleteMarkerReplication disabled",
        becomes="the copy is kept",
        event="LifecycleExpiration:Delete",
        act=_delete,
        writes=(),
        rule="keeps",
    ),
    Happening(
        what="its delete marker removed",
        becomes="the copy is back",
        event="ObjectRemoved:Delete",
        act=_undelete,
        writes=("insert",),
        moves=True,
        versioned=True,
    ),
    Happening(
        what="an old version deleted",
        becomes="nothing",
        event="ObjectRemoved:Delete",
        before=_put_before,
        act=_delete_old_version,
        writes=(),
        versioned=True,
    ),
    Happening(
        what="the newest version deleted",
        becomes="the version before it",
        event="ObjectRemoved:Delete",
        before=_put_before,
        act=_delete_newest_version,
        writes=("insert",),
        moves=True,
        data=NEW,
        versioned=True,
    ),
    Happening(
        what="the copy deleted by somebody, and any event",
        becomes="the copy is back",
        event="ObjectTagging:Put",
        act=_copy_deleted,
        writes=("insert",),
        moves=True,
    ),
    Happening(
        what="the copy's Content-Type and Cache-Control changed by somebody, and any event",
        becomes="repaired: one metadata patch",
        event="ObjectTagging:Put",
        act=_copy_changed(content_type="text/html", cache_control="no-store"),
        writes=("patch",),
        fields={"content_type": "binary/octet-stream", "cache_control": None},
    ),
    Happening(
        what="the copy's user metadata changed by somebody, and any event",
        becomes="repaired: one metadata patch",
        event="ObjectTagging:Put",
        headers={"x-amz-meta-owner": "me"},
        act=_copy_changed(metadata={"owner": "them", "more": "x"}),
        writes=("patch",),
        metadata={"owner": "me", "more": None},
    ),
    Happening(
        what="the copy's bytes replaced by somebody, its size and metadata kept, and any event",
        becomes="repaired: the bytes again",
        event="ObjectTagging:Put",
        act=_copy_replaced,
        writes=("insert",),
        moves=True,
    ),
    Happening(
        what="another tool's copy, with the MD5 of the ETag",
        becomes="adopted: one metadata patch",
        event="ObjectTagging:Put",
        act=_foreign(OLD),
        writes=("patch",),
        metadata={"mtime": None, "s3-replica-check": "both sides"},
        fields={"content_type": "binary/octet-stream"},
    ),
    Happening(
        what="another tool's copy, with S3's CRC32C",
        becomes="adopted: one metadata patch",
        event="ObjectCreated:CompleteMultipartUpload",
        act=_crc32c_only,
        writes=("patch",),
        metadata={"mtime": None, "s3-replica-check": "both sides"},
    ),
    Happening(
        what="another tool's copy, of other bytes",
        becomes="replaced",
        event="ObjectTagging:Put",
        act=_foreign(NEW),
        writes=("insert",),
        moves=True,
        metadata={"mtime": None},
    ),
    Happening(
        what="another tool's object, the original deleted",
        becomes="kept: nothing is deleted that the replicator did not put",
        event="ObjectRemoved:Delete",
        act=_foreign_and_deleted,
        writes=(),
        data=NEW,
        metadata={"mtime": "1760000000.123"},
    ),
]
