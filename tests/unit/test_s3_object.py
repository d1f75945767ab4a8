"""What S3's headers say of an object."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from handler.adapters.s3.objects import _decoded, original_of
from handler.core.errors import Refused
from handler.core.model import Lock

ETAG = "0123456789abcdef0123456789abcdef"
MD5 = "ASNFZ4mrze8BI0VniavN7w=="
HEADERS = {"etag": f'"{ETAG}"', "content-length": "1", "last-modified": "Sun, 22 Nov 2026 20:00:00 GMT"}


@pytest.mark.parametrize(
    ("said", "archived"),
    [
        ({}, False),
        ({"x-amz-storage-class": "STANDARD_IA"}, False),
        ({"x-amz-storage-class": "GLACIER_IR"}, False),
        ({"x-amz-storage-class": "GLACIER"}, True),
        ({"x-amz-storage-class": "DEEP_ARCHIVE"}, True),
        ({"x-amz-storage-class": "GLACIER", "x-amz-restore": 'ongoing-request="true"'}, True),
        (
            {
                "x-amz-storage-class": "GLACIER",
                "x-amz-restore": 'ongoing-request="false", expiry-date="Fri, 1 Jan 2027"',
            },
            False,
        ),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING"}, False),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING", "x-amz-archive-status": "ARCHIVE_ACCESS"}, True),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING", "x-amz-archive-status": "DEEP_ARCHIVE_ACCESS"}, True),
    ],
)
def test_what_cannot_be_read_until_it_is_restored_is_archived(said: dict[str, str], *, archived: bool) -> None:
    assert original_of("k", HEADERS | said).archived is archived


CRC32C, FULL = {"x-amz-checksum-crc32c": "AAAAAA=="}, {"x-amz-checksum-type": "FULL_OBJECT"}


@pytest.mark.parametrize(
    ("said", "checksums", "composites"),
    [
        ({}, {}, {}),
        (CRC32C, {"CRC32C": "AAAAAA=="}, {}),
        (CRC32C | {"x-amz-checksum-sha256": "abc=-3"}, {"CRC32C": "AAAAAA=="}, {"SHA256": "abc="}),
        ({"etag": f'"{ETAG}-2"'}, {}, {"ETAG": MD5}),
        ({"etag": f'"{ETAG}-2"', "x-amz-server-side-encryption": "aws:kms"}, {}, {}),
        ({"etag": '"not-hex"'}, {}, {}),
        ({"etag": f'"{ETAG}-2"'} | FULL | CRC32C, {"CRC32C": "AAAAAA=="}, {"ETAG": MD5}),
        ({"etag": f'"{ETAG}-2"'} | CRC32C, {}, {"ETAG": MD5}),
    ],
)
def test_checksums_of_the_bytes_are_known_from_those_of_the_parts(
    said: dict[str, str], checksums: dict[str, str], composites: dict[str, str]
) -> None:
    original = original_of("k", HEADERS | said)
    assert (dict(original.checksums), dict(original.composites)) == (checksums, composites)


@pytest.mark.parametrize(
    ("said", "is_known"),
    [
        ({}, True),
        ({"x-amz-server-side-encryption": "AES256"}, True),
        ({"x-amz-server-side-encryption": "aws:kms"}, False),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, False),
        ({"etag": f'"{ETAG}-2"'}, False),
        ({"etag": '""'}, False),
        ({"etag": '"0000000000000000000000000000000Z"'}, False),
    ],
)
def test_an_etag_is_an_md5_only_of_a_plain_single_part(said: dict[str, str], *, is_known: bool) -> None:
    assert original_of("k", HEADERS | said).md5 == (MD5 if is_known else None)


def test_metadata_that_s3_keeps_back_are_not_lost_in_silence() -> None:
    with pytest.raises(Refused, match="does not return 2 of the user metadata of 'k'") as caught:
        original_of("k", HEADERS | {"x-amz-missing-meta": "2"})
    assert caught.value.code == "SrcMetadataMissing"
    assert original_of("k", HEADERS | {"x-amz-missing-meta": "0"}).key == "k"


@pytest.mark.parametrize(("said", "kept"), [("whenever", "whenever"), ("0", "0"), ("", None)])
def test_expires_is_kept_as_it_is(said: str, kept: str | None) -> None:
    assert original_of("k", HEADERS | {"expires": said}).expires == kept


def test_the_size_of_the_whole_is_known_from_a_range_of_it() -> None:
    assert original_of("k", HEADERS | {"content-range": "bytes 0-0/17"}).size == 17


@pytest.mark.parametrize(
    "odd",
    [
        {"etag": None},
        {"last-modified": None},
        {"content-length": None},
        {"content-length": "five"},
        {"content-length": "5, 5"},
        {"content-length": "-1"},
        {"content-range": "bytes */17"},
        {"last-modified": "yesterday"},
        {"last-modified": "Sun, 22 Nov 2026 20:00:00 -0000"},
        {"x-amz-missing-meta": "many"},
        {"x-amz-object-lock-retain-until-date": "soon"},
    ],
)
def test_headers_that_are_not_an_objects_are_an_error(odd: dict[str, str | None]) -> None:
    headers = {name: value for name, value in (HEADERS | odd).items() if value is not None}
    with pytest.raises(ValueError, match=r"\S"):
        original_of("k", headers)


@pytest.mark.parametrize(
    ("said", "lock"),
    [
        ({}, Lock()),
        ({"x-amz-object-lock-legal-hold": "ON"}, Lock(hold=True)),
        ({"x-amz-object-lock-legal-hold": "OFF"}, Lock(hold=False)),
        (
            {
                "x-amz-object-lock-mode": "GOVERNANCE",
                "x-amz-object-lock-retain-until-date": "2999-01-01T00:00:00.000Z",
            },
            Lock("Unlocked", datetime(2999, 1, 1, tzinfo=UTC)),
        ),
        (
            {
                "x-amz-object-lock-mode": "COMPLIANCE",
                "x-amz-object-lock-retain-until-date": "2001-01-01T00:00:00Z",
            },
            Lock(),
        ),
    ],
)
def test_a_lock_is_what_is_still_in_force(said: dict[str, str], lock: Lock) -> None:
    assert original_of("k", HEADERS | said).lock == lock


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ("plain", "plain"),
        ("", ""),
        ("=?UTF-8?B?Wm/Dqw==?=", "Zoë"),
        ("=?UTF-8?Q?Zo=C3=AB?=", "Zoë"),
        ("=?utf-8?q?=F0=9F=97=82?=", "🗂"),
        ("=?UTF-8?B?Wm/Dqw==?= =?UTF-8?B?Wm/Dqw==?=", "ZoëZoë"),
        ("a =?UTF-8?Q?=C3=AB?= b", "a ë b"),
        ("=?ISO-8859-1?Q?Zo=EB?=", "Zoë"),
        ("=?no-such-charset?Q?Zo=EB?=", "=?no-such-charset?Q?Zo=EB?="),
        ("=?UTF-8?B?!!!?=", None),
        ("=?UTF-8?B?/w==?=", None),
        ("=?not encoded?=", "=?not encoded?="),
        ("1 =? 2 ?= 3", "1 =? 2 ?= 3"),
    ],
)
def test_user_metadata_is_decoded_from_rfc_2047(stored: str, meant: str | None) -> None:
    decoded = _decoded(stored)
    assert decoded == meant if meant is not None else isinstance(decoded, str)
