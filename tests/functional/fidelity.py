"""The table behind `docs/fidelity.md`: kinds of objects, and what their copies are. The tests run every one of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import anycrc

from handler.core.model import MIB
from tests.fakes import crc32c
from tests.functional.bench import KMS_KEY
from tests.functional.rig import BODY
from tests.functional.s3_override import S3Override

DOCUMENT = Path(__file__).parents[2] / "docs" / "fidelity.md"
KEPT, MAPPED, LEFT, REFUSED = "kept", "mapped", "left out", "refused"


@dataclass(frozen=True)
class Row:
    """One line of the document."""

    section: str
    what: str
    verdict: str
    becomes: str


# --- checksums, as S3 writes them


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _raw_crc32c(data: bytes) -> bytes:
    return base64.b64decode(crc32c(data))


_CRC64 = anycrc.Model("CRC64-NVME")
DIGESTS: Mapping[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": _raw_crc32c,
    "CRC64NVME": lambda data: _CRC64.calc(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
COMPOSITE = ("CRC32", "CRC32C", "SHA1", "SHA256")
"""What S3 makes of parts' checksums; CRC64NVME is always of the whole."""
FULL = ("CRC32", "CRC32C", "CRC64NVME")
"""What S3 makes of a whole multipart upload; SHA is always of parts."""


def of_whole(name: str, data: bytes) -> dict[str, str]:
    """Say the checksum of all the bytes."""
    return {f"x-amz-checksum-{name.lower()}": b64(DIGESTS[name](data)), "x-amz-checksum-type": "FULL_OBJECT"}


def of_parts(name: str, parts: tuple[bytes, ...]) -> dict[str, str]:
    """Say the checksum of the parts' checksums."""
    digest = DIGESTS[name]
    value = b64(digest(b"".join(map(digest, parts))))
    return {f"x-amz-checksum-{name.lower()}": f"{value}-{len(parts)}", "x-amz-checksum-type": "COMPOSITE"}


# --- kinds


def _filled(size: int) -> bytes:
    pattern = BODY + bytes(range(256))
    return (pattern * (size // len(pattern) + 1))[:size]


SMALL = _filled(5000)
LARGE = _filled(8 * MIB + 1)
ZIPPED = gzip.compress(SMALL * 3, mtime=0)
IN_PARTS = (_filled(3000), _filled(3000), _filled(1234))
LARGE_PARTS = (_filled(5 * MIB), _filled(5 * MIB), _filled(777))
CLASSES = {"GLACIER_IR": "COLDLINE", "STANDARD_IA": "NEARLINE", "GLACIER": "ARCHIVE", "*": "STANDARD"}


@dataclass(frozen=True)
class Kind:
    """One kind of object: how it is put into S3, what S3 says of it, and what its copy is beyond the same."""

    name: str
    row: Row
    _: KW_ONLY
    body: bytes = SMALL
    parts: tuple[bytes, ...] = ()
    """The same bytes in parts, for a multipart upload."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the writer says, system headers and storage class."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, as S3 hands it out."""
    tags: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    """What S3 says besides, and moto does not."""
    rule: str = "plain"
    """By which rule: plain, tags, contexts, classes, cold, key."""
    versioned: bool = False
    restored: bool = False
    key: str = ""
    check: str = "MD5 ETag"
    """By what the bytes were verified."""
    copy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the copy that are not what the object's are."""
    decoded: Mapping[str, str] | None = None
    """User metadata of the copy, where it is not what S3 hands out."""

    @property
    def whole(self) -> bytes:
        return b"".join(self.parts) if self.parts else self.body

    def override(self) -> S3Override:
        """What S3 says of it and moto does not."""
        return S3Override(headers=self.says)


_SYSTEM, _USER, _TAGS, _CLASS = "System metadata", "User metadata", "Tags", "Storage class"
_BYTES, _NAMES, _CHECK, _MIXED = "Bytes", "Names", "Integrity", "All at once"
_PROVENANCE, _ENCRYPTED, _NOT = "Provenance", "Encryption", "Not carried over"

_TYPE = Row(_SYSTEM, "Content-Type", KEPT, "`contentType`")
_NO_TYPE = Row(_SYSTEM, "no Content-Type", KEPT, "S3's own default, `binary/octet-stream`")
_ENCODING = Row(_SYSTEM, "Content-Encoding", KEPT, "`contentEncoding`; gzip stays byte for byte what it was")
_CHUNKED = Row(_SYSTEM, "Content-Encoding: aws-chunked", MAPPED, "left out: it was of the upload and not of the object")
_DISPOSITION = Row(_SYSTEM, "Content-Disposition", KEPT, "`contentDisposition`")
_LANGUAGE = Row(_SYSTEM, "Content-Language", KEPT, "`contentLanguage`")
_CACHE = Row(_SYSTEM, "Cache-Control", KEPT, "`cacheControl`")
_RAW = Row(_SYSTEM, "raw non-ASCII bytes in these", MAPPED, "the text that they are in UTF-8, else in Latin-1")
_EXPIRES = Row(_SYSTEM, "Expires", MAPPED, "custom metadata `s3-expires`, as it was written")
_METADATA = Row(_USER, "`x-amz-meta-*`", KEPT, "custom metadata of the same names")
_ENCODED = Row(_USER, "non-ASCII, which S3 hands out RFC 2047-encoded", MAPPED, "decoded: the text as it was given")
_RAW_METADATA = Row(_USER, "raw non-ASCII bytes", MAPPED, "the text that they are in UTF-8, else in Latin-1")
_LOOKS = Row(_USER, "what only looks RFC 2047-encoded", KEPT, "as it is")
_TAGGED = Row(_TAGS, "tags, by a rule with `Destination.Tags` enabled", MAPPED, "custom metadata `s3-tag-<key>`")
_CONTEXTS = Row(
    _TAGS,
    "tags, by a rule with `Destination.Tags` as `Contexts`",
    MAPPED,
    "object contexts of the same keys and values (`contexts.custom`)",
)
_NO_CONTEXTS = Row(
    _TAGS,
    "of these: an empty value, over 256 bytes, one that does not begin with a letter of ASCII or a digit, has a slash, "
    "or begins with `google:`",
    MAPPED,
    "custom metadata `s3-tag-<key>`, as GCS takes no such context",
)
_UNTAGGED = Row(_TAGS, "tags, by any other rule", LEFT, "not asked for")
_DEFAULT_CLASS = Row(_CLASS, "any readable class, by a rule without a map", LEFT, "the bucket's default class")
_MAPPED_CLASS = Row(_CLASS, "any readable class, by a rule with a map", MAPPED, "the class the map names")
_ONE_CLASS = Row(_CLASS, "any readable class, by a rule with one class", MAPPED, "that class")
_RESTORED = Row(_CLASS, "GLACIER and DEEP_ARCHIVE, restored", KEPT, "the bytes, while they can be read")
_SIZES = Row(_BYTES, "up to 8 MiB, by one upload", KEPT, "the same bytes, size, CRC32C and MD5")
_RESUMABLE = Row(_BYTES, "above 8 MiB, by a resumable upload", KEPT, "the same bytes, size, CRC32C and MD5")
_PARTED = Row(_BYTES, "multipart uploads", KEPT, "one object")
_NAME = Row(_NAMES, "keys of up to 1,024 bytes", KEPT, "the same name; what GCS forbids is refused, below")
_STATE = Row(_PROVENANCE, "bucket, ETag, size, LastModified", MAPPED, "custom metadata `s3-replica-*`")
_MODIFIED = Row(_PROVENANCE, "LastModified", MAPPED, "`customTime` too")
_VERSION = Row(
    _PROVENANCE, "version id", MAPPED, "custom metadata `s3-replica-version-id`; only the current version is copied"
)
_ALL = Row(_MIXED, "several of these in one object, chosen to meet one another", KEPT, "each as above")
_REDIRECT = Row(_NOT, "website redirect", LEFT, "GCS has none for an object")
_ENCRYPTION = Row(
    _ENCRYPTED, "SSE-S3 and SSE-KMS, by a rule without a key", LEFT, "the destination bucket's own encryption"
)
_KEYED = Row(
    _ENCRYPTED,
    "any encryption but SSE-C, by a rule with `ReplicaKmsKeyID`",
    MAPPED,
    "encrypted by that key of Cloud KMS (`kmsKeyName`)",
)
_ACL = Row(_NOT, "ACL", LEFT, "the destination bucket's own policy")


def _check(what: str, check: str) -> Row:
    return Row(_CHECK, what, KEPT, f"verified; `s3-replica-check` is `{check}`")


def _system() -> list[Kind]:
    types = ["text/csv", "text/html; charset=utf-8", "application/vnd.api+json", 'application/octet-stream; x="a b"']
    kinds = [Kind(name=f"type {text}", row=_TYPE, headers={"Content-Type": text}) for text in types]
    kinds.append(Kind(name="no type", row=_NO_TYPE))
    for large, (name, encoding, kept, row) in product(
        (False, True),
        [
            ("gzip", "gzip", "gzip", _ENCODING),
            ("br", "br", "br", _ENCODING),
            ("aws-chunked", "aws-chunked", None, _CHUNKED),
            ("aws-chunked,gzip", "aws-chunked,gzip", "gzip", _CHUNKED),
            ("gzip, aws-chunked", "gzip, aws-chunked", "gzip", _CHUNKED),
        ],
    ):
        if large and name not in {"gzip", "aws-chunked,gzip"}:
            continue
        body = LARGE if large else ZIPPED
        kinds.append(
            Kind(
                name=f"encoding {name}{' large' if large else ''}",
                row=row,
                body=body,
                headers={"Content-Type": "text/plain"},
                says={"content-encoding": encoding},
                copy={"content_encoding": kept},
            )
        )
    named = [
        (_DISPOSITION, "Content-Disposition", 'attachment; filename="a b.csv"'),
        (_DISPOSITION, "Content-Disposition", "attachment; filename*=UTF-8''na%C3%AFve.csv"),
        (_LANGUAGE, "Content-Language", "de, en-GB"),
        (_CACHE, "Cache-Control", "public, max-age=31536000, immutable"),
        (_CACHE, "Cache-Control", "no-transform"),
    ]
    kinds += [Kind(name=f"{name} {value[:24]}", row=row, headers={name: value}) for row, name, value in named]
    raw = 'attachment; filename="Åse…/日本 🗂.csv"'
    for name, encoded, meant in [
        ("utf-8", raw.encode(), raw),
        ("latin-1", "inline; filename=größe".encode("latin-1"), "inline; filename=größe"),
    ]:
        says = {"content-disposition": encoded.decode("latin-1"), "cache-control": encoded.decode("latin-1")}
        copy = {"content_disposition": meant, "cache_control": meant}
        kinds += [
            Kind(name=f"raw {name} {len(body)}", row=_RAW, body=body, says=says, copy=copy) for body in (SMALL, LARGE)
        ]
    for moment in ("Wed, 21 Oct 2099 07:28:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "0", "never"):
        kinds.append(Kind(name=f"expires {moment}", row=_EXPIRES, says={"expires": moment}))
    return kinds


def _user() -> list[Kind]:
    def b(text: str) -> str:
        return f"=?UTF-8?B?{b64(text.encode())}?="

    plain = {"owner": "team red", "x.y_z-1": "a=b&c", "empty": "", "quoted": '"x"', "long": "v" * 1500}
    return [
    Kind("metadata", _METADATA, metadata={"owner": "team red", "x.y_z-1": "a=b&c", "quoted": '"x"'}),
    Kind("metadata empty value", _METADATA, metadata={"empty": ""}),
    Kind("metadata 2 KB", _METADATA, metadata=plain),
    Kind("metadata large", _METADATA, metadata={"owner": "red"}, body=LARGE),
    Kind("metadata latin", _ENCODED, metadata={"o": b("Zoë")}, decoded={"o": "Zoë"}),
    Kind("metadata japanese", _ENCODED, metadata={"o": b("日本 🗂")}, decoded={"o": "日本 🗂"}),
    Kind("metadata quoted", _ENCODED, metadata={"o": "=?UTF-8?Q?Zo=C3=AB?="}, decoded={"o": "Zoë"}),
    Kind("metadata in two words", _ENCODED, metadata={"o": f"{b('Zoë ' * 5)} {b('日本')}"},
        decoded={"o": "Zoë " * 5 + "日本"}),
    Kind("metadata latin large", _ENCODED, metadata={"o": b("größe")}, decoded={"o": "größe"}, body=LARGE),
    Kind("metadata raw", _RAW_METADATA, says={"x-amz-meta-o": "größe 日本".encode().decode("latin-1")},
        decoded={"o": "größe 日本"}),
    Kind("metadata looks encoded", _LOOKS, metadata={"o": "=?no charset?B?xyz?=", "p": "=?=", "q": "?="}),
]  # fmt: skip


def _tags() -> list[Kind]:
    one, odd = {"team": "red"}, {"a:b/c@d": "x=y + z", "UPPER": "_-.", "empty": ""}
    ten = {f"tag-{number}": "v" * number for number in range(10)}
    contexts = [
        Kind(name=f"contexts {name}", row=row, tags=tags, rule="contexts", copy={"contexts": tags}, body=body)
        for name, tags, body, row in (
            ("one", one, SMALL, _CONTEXTS),
            ("large", one, LARGE, _CONTEXTS),
            ("ten", {f"tag-{number}": f"v {number} = @" for number in range(10)}, SMALL, _CONTEXTS),
            ("none", {}, SMALL, _CONTEXTS),
        )
    ]
    unfit = {"a/b": "1", "c": "x/y", "empty": "", "-minus": "1", "d": "ü" * 129}
    contexts.append(
        Kind(
            name="contexts that do not fit", row=_NO_CONTEXTS, tags=one | unfit, rule="contexts", copy={"contexts": one}
        )
    )
    return (
        contexts
        + [
            Kind(name=f"tags {name}{' kept' if rule == 'tags' else ''}", row=row, tags=tags, rule=rule)
            for name, tags in (("one", one), ("ten", ten), ("odd", odd), ("none", {}))
            for rule, row in (("tags", _TAGGED), ("plain", _UNTAGGED))
        ]
        + [Kind(name="tags large kept", row=_TAGGED, tags=one, rule="tags", body=LARGE, versioned=True)]
    )


def _classes() -> list[Kind]:
    readable = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY")
    kinds = []
    for name in readable:
        headers = {"x-amz-storage-class": name}
        kinds += [
            Kind(name=f"class {name}", row=_DEFAULT_CLASS, headers=headers),
            Kind(
                name=f"class {name} mapped",
                row=_MAPPED_CLASS,
                headers=headers,
                rule="classes",
                copy={"storage_class": CLASSES.get(name, "STANDARD")},
            ),
        ]
    headers = {"x-amz-storage-class": "GLACIER_IR"}
    return [
        *kinds,
        Kind(name="class one", row=_ONE_CLASS, rule="cold", copy={"storage_class": "ARCHIVE"}),
        Kind(
            name="class large mapped",
            row=_MAPPED_CLASS,
            headers=headers,
            rule="classes",
            body=LARGE,
            copy={"storage_class": "COLDLINE"},
        ),
        Kind(name="restored", row=_RESTORED, headers={"x-amz-storage-class": "GLACIER"}, restored=True),
        Kind(
            name="restored mapped",
            row=_RESTORED,
            headers={"x-amz-storage-class": "GLACIER"},
            restored=True,
            rule="classes",
            copy={"storage_class": "ARCHIVE"},
        ),
        Kind(name="restored deep", row=_RESTORED, headers={"x-amz-storage-class": "DEEP_ARCHIVE"}, restored=True),
    ]


def _bytes() -> list[Kind]:
    return [
    Kind("empty", _SIZES, body=b""),
    Kind("one byte", _SIZES, body=b"u"),
    Kind("8 MiB", _SIZES, body=LARGE[:-1]),
    Kind("8 MiB and a byte", _RESUMABLE, body=LARGE),
    Kind("17 MiB", _RESUMABLE, body=_filled(17 * MIB)),
    Kind("8 MiB and a byte, versioned", _RESUMABLE, body=LARGE, versioned=True),
    Kind("parts", _PARTED, parts=IN_PARTS, check="ETAG of parts"),
    Kind("one part", _PARTED, parts=IN_PARTS[:1], check="ETAG of parts"),
    Kind("large parts", _PARTED, parts=LARGE_PARTS, check="ETAG of parts"),
    Kind("parts, versioned", _PARTED, parts=IN_PARTS, check="ETAG of parts", versioned=True),
]  # fmt: skip


def _names() -> list[Kind]:
    keys = [
        "a b+c%2F&=?#.txt",
        "naïve/日本/🗂",
        "folder/",
        "/leading//double/",
        "a/../b/./c",
        "q'\"<>\\^`{}|~[]",
        "tab\tbell",
        "long/" + "k" * (1024 - len("copies/plain/long/")),
    ]
    return [Kind(name=f"key {key[:20]}", row=_NAME, key=key) for key in keys]


def _integrity() -> list[Kind]:
    """Every checksum S3 keeps; the ETag of an object under SSE-KMS is no MD5, so that the checksum is all there is."""
    kms = {"x-amz-server-side-encryption": "aws:kms"}
    kinds = []
    for name, versioned in zip(DIGESTS, cycle((True, False)), strict=False):
        row = _check(f"{name} of the whole object", name)
        kinds += [
            Kind(name=f"{name}", row=row, says=of_whole(name, SMALL), check=name, versioned=versioned),
            Kind(name=f"{name} KMS", row=row, says={**of_whole(name, SMALL), **_kms(kms)}, check=name),
        ]
    for name in FULL:
        says = of_whole(name, b"".join(IN_PARTS))
        kinds.append(
            Kind(
                name=f"{name} of a whole upload",
                row=_check(f"{name} of the whole object", name),
                parts=IN_PARTS,
                says=says,
                check=name,
            )
        )
    for name, versioned in zip(COMPOSITE, cycle((False, True)), strict=False):
        check = f"{name} of parts"
        row = _check(f"{name} of parts' checksums (composite)", check)
        says = of_parts(name, IN_PARTS)
        kinds += [
            Kind(name=f"{name} composite", row=row, parts=IN_PARTS, says=says, check=check, versioned=versioned),
            Kind(name=f"{name} composite KMS", row=row, parts=IN_PARTS, says={**says, **_kms(kms, "-3")}, check=check),
        ]
    large = b"".join(LARGE_PARTS)
    kinds += [
    Kind("CRC64NVME large", _check("CRC64NVME of the whole object", "CRC64NVME"), parts=LARGE_PARTS,
        says=of_whole("CRC64NVME", large), check="CRC64NVME"),
    Kind("SHA256 composite large", _check("SHA256 of parts' checksums (composite)", "SHA256 of parts"),
        parts=LARGE_PARTS, says=of_parts("SHA256", LARGE_PARTS), check="SHA256 of parts"),
    Kind("md5 etag", _check("none, one part: the ETag is an MD5", "MD5 ETag")),
    Kind("multipart etag", _check("none: the ETag is made of parts' MD5s", "ETAG of parts"), parts=IN_PARTS,
        check="ETAG of parts"),
    Kind("nothing, KMS", _UNCHECKED, says=_kms(kms), check="none"),
    Kind("nothing, KMS, parts", _UNCHECKED, parts=IN_PARTS, says=_kms(kms, "-3"), check="none"),
]  # fmt: skip
    uneven = {
        "": (IN_PARTS[0], IN_PARTS[2], IN_PARTS[1]),
        " by one": (SMALL[:3000], SMALL[:2500], SMALL[:2500]),
        " of which the ends look alike": (SMALL[:3000], SMALL[:2999], SMALL[:3001], SMALL[:1000]),
        " large": (*LARGE_PARTS[::-1], SMALL),
    }
    for name, parts in uneven.items():
        kinds += [
            Kind(name=f"uneven parts{name}", row=_MD5S, parts=parts, check="ETAG of parts"),
            Kind(
                name=f"uneven parts{name}, composite",
                row=_check("CRC32 of parts' checksums (composite)", "CRC32 of parts"),
                parts=parts,
                says=of_parts("CRC32", parts),
                check="CRC32 of parts",
            ),
        ]
    return kinds


_UNCHECKED = Row(
    _CHECK, "none at all: SSE-KMS without a checksum", KEPT, "not verifiable end to end; `s3-replica-check` is `none`"
)
_MD5S = _check("none: the ETag is made of parts' MD5s", "ETAG of parts")


def _kms(headers: Mapping[str, str], suffix: str = "") -> dict[str, str]:
    """An ETag that is no MD5, though it looks like one."""
    return {**headers, "etag": f'"{"0123456789abcdef" * 2}{suffix}"'}


def _provenance() -> list[Kind]:
    return [
        Kind(name="provenance", row=_STATE),
        Kind(name="modified", row=_MODIFIED),
        Kind(name="version", row=_VERSION, versioned=True),
        Kind(name="website redirect", row=_REDIRECT, headers={"x-amz-website-redirect-location": "/elsewhere"}),
        Kind(name="sse-s3", row=_ENCRYPTION, headers={"x-amz-server-side-encryption": "AES256"}),
        *(
            Kind(name=f"key {name}", row=_KEYED, rule="key", body=body, copy={"kms_key_name": KMS_KEY})
            for name, body in (("small", SMALL), ("large", LARGE))
        ),
        Kind(name="acl", row=_ACL, headers={"x-amz-acl": "public-read"}),
    ]


def _mixed() -> list[Kind]:
    """Every pair of upload and checksum, with the other dimensions turning beside them at their own pace."""
    encodings = cycle([None, "gzip", "aws-chunked", "aws-chunked,gzip", None])
    metadata = cycle([{}, {"owner": "red"}, {"o": f"=?UTF-8?B?{b64('日本'.encode())}?="}])
    tags = cycle([{}, {"team": "red"}])
    rules = cycle(["plain", "tags", "classes", "cold"])
    classes = cycle(["STANDARD", "GLACIER_IR", "STANDARD_IA"])
    expires = cycle(["", "Wed, 21 Oct 2099 07:28:00 GMT"])
    versioned = cycle([False, True, True])
    kinds = []
    for upload, name in product(("small", "empty", "parts", "large"), ("", *DIGESTS)):
        if upload == "large" and name not in {"", "CRC32C"}:
            continue
        parts = IN_PARTS if upload == "parts" else ()
        body = {"small": ZIPPED, "empty": b"", "large": LARGE}.get(upload, b"")
        whole = name in FULL or upload != "parts"
        known = {} if not name else of_whole(name, body or b"".join(parts)) if whole else of_parts(name, parts)
        encoding, user, rule, of_s3 = next(encodings), next(metadata), next(rules), next(classes)
        kind = Kind(
            name=f"mixed {upload} {name or 'no checksum'}",
            row=_ALL,
            body=body,
            parts=parts,
            headers={"Content-Type": "text/csv", "Cache-Control": "no-cache", "x-amz-storage-class": of_s3},
            metadata=user,
            decoded={"o": "日本"} if "o" in user else None,
            tags=next(tags),
            rule=rule,
            versioned=next(versioned),
            says=known | ({"content-encoding": encoding} if encoding else {}),
            check=(name if whole else f"{name} of parts") if name else ("ETAG of parts" if parts else "MD5 ETag"),
            copy={
                "content_encoding": "gzip" if encoding and "gzip" in encoding else None,
                "storage_class": {"classes": CLASSES.get(of_s3, "STANDARD"), "cold": "ARCHIVE"}.get(rule, "STANDARD"),
            },
        )
        moment = next(expires)
        kinds.append(replace(kind, says={**kind.says, "expires": moment}) if moment else kind)
    return kinds


KINDS = [
    *_system(), *_user(), *_tags(), *_classes(), *_bytes(), *_names(), *_integrity(), *_provenance(), *_mixed(),
]  # fmt: skip
