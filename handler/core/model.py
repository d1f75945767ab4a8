"""The vocabulary: values that every layer speaks of. Nothing here does I/O or knows a vendor's library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
KEY_BYTES = 1024
"""The longest key S3 has, in UTF-8."""
SMALL = 8 * MIB
"""Bytes up to which an object travels as one GET and one insert."""
LONG_REWRITE = 512 * MIB
"""Bytes above which a change of storage class at the destination takes several calls, and may outlive an invocation."""


class Generation(NamedTuple):
    """Which state of a destination name: its content's generation and its metadata's. `ABSENT` where there is none."""

    number: int
    metageneration: int


ABSENT = Generation(0, 0)


class Span(NamedTuple):
    """A run of bytes: `start` inclusive, `stop` exclusive."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.stop - self.start


class S3Part(NamedTuple):
    """One part of the multipart upload that made an object."""

    size: int
    checksum: str = ""
    """Base64, by the algorithm that `transfer.composite` names; "" where S3 has not said it."""


class State(NamedTuple):
    """What tells one state of an object at the source from others."""

    etag: str
    version_id: str | None
    last_modified: str
    """ISO 8601."""
    size: int


class Headers(NamedTuple):
    """The system metadata that S3 and GCS have in common. None where the object has none."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    cache_control: str | None = None


class Lock(NamedTuple):
    """What keeps an object from being deleted, in GCS's words, as far as it is known and still in force.

    Without the permission to see a lock, S3 answers as if there were none. So an unknown lock changes nothing at GCS.
    """

    mode: str = ""
    """ "Unlocked" (S3: GOVERNANCE) or "Locked" (COMPLIANCE), which nobody can shorten; "" for no retention known."""
    until: datetime | None = None
    hold: bool | None = None
    """A legal hold in S3, a temporary hold in GCS; None where it is not known."""

    def over(self, before: Lock | None) -> Lock:
        """Return the lock of an object that had `before`, and gets what is known here."""
        before = before or Lock()
        retained = self if self.mode else before
        return Lock(retained.mode, retained.until, before.hold if self.hold is None else self.hold)

    def is_met_by(self, actual: Lock) -> bool:
        """Return True if a copy is locked so, or Locked for longer, which nothing can undo."""
        if self.hold not in {None, bool(actual.hold)}:
            return False
        if self.until is None or (self.mode, self.until) == (actual.mode, actual.until):
            return True
        return actual.mode == "Locked" and actual.until is not None and self.until <= actual.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One state of an object at the source: everything S3 says of it beside its bytes."""

    key: str
    size: int
    etag: str
    """Without the quotes."""
    last_modified: datetime
    version_id: str | None = None
    """None in an unversioned bucket; "null" for what was there before versioning."""
    headers: Headers = Headers()
    expires: str | None = None
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    lock: Lock = Lock()
    """Its Object Lock, where the caller may see it."""
    archived: bool = False
    """The bytes cannot be read until a restore."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Of all the bytes: algorithm ("CRC32C", "SHA256", ...) to base64 value, as S3 stores them."""
    composites: Mapping[str, str] = field(default_factory=dict)
    """Of the checksums of a multipart upload's parts: algorithm to base64 value. Its ETag is one, as "ETAG"."""
    parts: tuple[S3Part, ...] = ()
    """The parts of the multipart upload, in order. Empty until `Source.parts` is asked for them."""
    parts_assumed: bool = False
    """True where only the first part, the last and the number are known: the others are taken to be like the first."""
    md5: str | None = None
    """Base64 of the bytes' MD5, where the ETag is one."""

    @property
    def state(self) -> State:
        """Return what tells this state of the object from others, whichever call brought it."""
        return State(self.etag, self.version_id, self.last_modified.isoformat(), self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a copy carries beside its bytes."""

    headers: Headers = Headers()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Custom metadata: the user's, what has no field of its own, and the provenance."""
    custom_time: datetime | None = None
    storage_class: str | None = None
    """None: the bucket's default."""
    kms_key: str | None = None
    """The Cloud KMS key that encrypts the bytes at GCS; None: whatever the bucket's default is."""
    contexts: Mapping[str, str] | None = None
    """GCS object contexts, without Google's own; None: those that are there stay."""
    lock: Lock | None = None
    """Retention and hold; None: those that are there stay."""
    crc32c_name: str = ""
    """Name of a custom metadata entry in which a write records the CRC32C of the bytes, if the destination knows it
    before it writes the metadata. Empty: nothing is recorded."""

    def is_rewritten_for(self, wanted: Stamp) -> bool:
        """Return True if only a rewrite can bring a copy that carries this to what is wanted."""
        return wanted.storage_class not in {None, self.storage_class} or wanted.kms_key not in {None, self.kms_key}

    def over(self, before: Stamp) -> Stamp:
        """Return what a copy that has `before` carries once it is patched with this: what is not named stays."""
        return replace(
            self,
            storage_class=self.storage_class or before.storage_class,
            kms_key=self.kms_key or before.kms_key,
            contexts=before.contexts if self.contexts is None else self.contexts,
            lock=self.lock.over(before.lock) if self.lock else before.lock,
        )

    @property
    def of_bytes(self) -> Stamp:
        """Return how the bytes are stored, and nothing else: what a part of the copy has in common with it."""
        return Stamp(storage_class=self.storage_class, kms_key=self.kms_key)

    def recording(self, crc32c: str) -> Stamp:
        """Return the stamp with this CRC32C in the custom metadata, if it asks for that."""
        if not self.crc32c_name:
            return self
        return replace(self, metadata={**self.metadata, self.crc32c_name: crc32c}, crc32c_name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """What is at a destination name. `Replica()` where there is nothing: absence is a value."""

    generation: Generation = ABSENT
    size: int = 0
    crc32c: str | None = None
    """Base64, big-endian, as GCS and S3 both write it."""
    md5: str | None = None
    """Base64; a composed GCS object has none."""
    stamp: Stamp = Stamp()

    @property
    def exists(self) -> bool:
        """Return True if there is an object."""
        return self.generation != ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One replication rule, in the terms of S3's ReplicationConfiguration."""

    id: str
    source: str
    """The source bucket."""
    account: str | None = None
    """The AWS account that the source bucket must belong to; None: as the settings say."""
    destination: str
    """Where copies go: `gs://bucket` or `file:///folder`."""
    destination_prefix: str = ""
    """Put before each key, "" or ending in "/"."""
    priority: int = 0
    enabled: bool = True
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags an object must have."""
    deletes: bool = True
    replace_prefix: str | None = None
    """What `prefix` becomes at the destination; None keeps it."""
    storage_classes: Mapping[str, str] = field(default_factory=dict)
    """S3 class to GCS class; the entry "*" is for every other one. Empty: the bucket's default."""
    replicate_tags: bool = False
    tags_as_contexts: bool = False
    """Whether tags become object contexts of the copy, those that can, rather than custom metadata."""
    locks: bool = False
    """Whether Object Lock's retention and legal hold become the copy's."""
    kms_key: str | None = None
    """The Cloud KMS key for copies; None: the bucket's default."""

    def covers(self, key: str) -> bool:
        """Return True if the rule applies to this key, whatever its tags."""
        return self.enabled and key.startswith(self.prefix)

    def matches(self, original: Original) -> bool:
        """Return True if the rule applies to this object, its tags included."""
        return self.covers(original.key) and self.tags.items() <= original.tags.items()

    def destination_key(self, key: str) -> str:
        """Return the name of the copy of `key`."""
        if self.replace_prefix is not None:
            key = self.replace_prefix + key[len(self.prefix) :]
        return self.destination_prefix + key

    def key_of(self, name: str) -> str | None:
        """Return the key whose copy has this name, None if the rule gives the name to no key."""
        before = self.destination_prefix + (self.prefix if self.replace_prefix is None else self.replace_prefix)
        return self.prefix + name[len(before) :] if name.startswith(before) else None
