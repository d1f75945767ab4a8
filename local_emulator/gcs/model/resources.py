"""The shapes of JSON that callers see."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from local_emulator.gcs.model import acl, errors
from local_emulator.gcs.model.attributes import (
    OF_THE_SERVER,
    Attributes,
    has_uniform_access,
    retained_until,
    timestamp,
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as the database holds it."""

    name: str
    metageneration: int
    attributes: Attributes = field(compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """One generation of an object as the database holds it; `blob` names its bytes."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    blob: str
    size: int
    crc32c: str
    md5: str | None
    inode: int
    mtime: int
    placed: bool
    attributes: Attributes = field(compare=False)

    @property
    def live(self) -> bool:
        """True unless the generation is noncurrent or soft-deleted."""
        return not {"timeDeleted", "softDeleteTime"} & self.attributes.keys()

    @property
    def etag(self) -> str:
        """The entity tag of this generation and metageneration."""
        return etag(self.generation, self.metageneration)

    @property
    def xml_etag(self) -> str:
        """The entity tag that the XML API shows: the MD5 in hexadecimal where there is one."""
        return base64.b64decode(self.md5).hex() if self.md5 else self.etag

    @property
    def etags(self) -> tuple[str, str]:
        """The entity tags by which conditions may name this generation and metageneration."""
        return self.etag, self.xml_etag

    @property
    def hashes(self) -> str:
        """The value of x-goog-hash."""
        return f"crc32c={self.crc32c}" + (f",md5={self.md5}" if self.md5 else "")


def etag(generation: int, metageneration: int) -> str:
    """Return an entity tag as GCS makes them: both numbers, packed."""
    return base64.b64encode(b"\x08" + _varint(generation) + b"\x10" + _varint(metageneration)).decode()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def object_resource(stored: Stored, bucket: Attributes, base: str, *, full: bool = False) -> dict[str, Any]:
    """Return an object's resource, with its ACL if `full`; `base` is the server's URL as this caller sees it."""
    where = f"b/{quote(stored.bucket, safe='')}/o/{quote(stored.name, safe='')}"
    generation = str(stored.generation)
    attributes = stored.attributes
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{generation}",
        "selfLink": f"{base}/storage/v1/{where}",
        "mediaLink": f"{base}/download/storage/v1/{where}?generation={generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": generation,
        "metageneration": str(stored.metageneration),
        "size": str(stored.size),
        "crc32c": stored.crc32c,
        "etag": stored.etag,
    }
    if stored.md5:
        resource["md5Hash"] = stored.md5
    resource |= {key: value for key, value in attributes.items() if key not in {"retentionFrom", "acl"}}
    if full and not has_uniform_access(bucket):
        where_ = {"bucket": stored.bucket, "object": stored.name, "generation": generation}
        resource["acl"] = [acl.resource(one, "object", where_, stored.etag) for one in object_acl(stored)]
    if bucket.get("retentionPolicy") and (until := retained_until(attributes, bucket)):
        resource["retentionExpirationTime"] = timestamp(until)
    return resource


def object_acl(stored: Stored) -> acl.Acl:
    """Return an object's access control list."""
    found: acl.Acl = stored.attributes.get("acl", acl.PRIVATE)
    return found


def bucket_acl(bucket: Bucket, field: str) -> acl.Acl:
    """Return a bucket's access control list: its own ("acl"), or that of new objects ("defaultObjectAcl")."""
    found: acl.Acl = bucket.attributes.get(field, acl.PRIVATE)
    return found


def bucket_resource(bucket: Bucket, base: str, *, full: bool = False) -> dict[str, Any]:
    """Return a bucket's resource, with its ACLs if `full`."""
    kinds = {"acl": ("bucket", {"bucket": bucket.name}), "defaultObjectAcl": ("object", {})}
    lists: dict[str, Any] = {}
    tag = etag(1, bucket.metageneration)
    for field_, (kind, where) in kinds.items() if full and not has_uniform_access(bucket.attributes) else ():
        lists[field_] = [acl.resource(one, kind, where, tag) for one in bucket_acl(bucket, field_)]
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base}/storage/v1/b/{bucket.name}",
        "name": bucket.name,
        "projectNumber": "0",
        "metageneration": str(bucket.metageneration),
        "etag": tag,
        **{name: value for name, value in bucket.attributes.items() if name not in kinds},
        **lists,
    }


def carried_over(attributes: Attributes) -> Attributes:
    """Return what a copy takes along from its source where its caller says nothing else."""
    own = (*OF_THE_SERVER, "acl", "temporaryHold", "eventBasedHold", "retention", "storageClass")
    return {key: value for key, value in attributes.items() if key not in own}


def selected(resource: Any, fields: str | None) -> Any:
    """Return the part of `resource` that a `fields` parameter asks for: `kind,items(id,name)`, `items/name`, `*`.

    Raises:
        GcsError: the parameter is no such expression.
    """
    if not fields or fields == "*":
        return resource
    tree, rest = _parse_fields(fields.replace(" ", ""))
    if rest:
        raise errors.invalid(f"Invalid field selection {fields}")
    return _pick(resource, tree)


Tree = dict[str, Any]


def _parse_fields(text: str) -> tuple[Tree, str]:
    tree: Tree = {}
    while text and text[0] != ")":
        end = next((i for i, char in enumerate(text) if char in ",()"), len(text))
        path, text = text[:end].strip("/").split("/"), text[end:]
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        leaf = branch.setdefault(path[-1], {})
        if text.startswith("("):
            inner, text = _parse_fields(text[1:])
            if not text.startswith(")"):
                raise errors.invalid("Invalid field selection: a parenthesis is missing.")
            leaf.update(inner)
            text = text[1:]
        text = text.removeprefix(",")
    return tree, text


def _pick(value: Any, tree: Tree) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_pick(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _pick(value[key], branch) for key, branch in tree.items() if key in value}
