"""Bytes on their way: every checksum S3 keeps is verified, and pieces are even however the bytes trickle."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import zlib
from dataclasses import replace

import anycrc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.core.checksums import COMPOSITES, Check, begin, check_of, composite_of
from handler.core.errors import Corrupt, Unavailable
from handler.core.model import Original, S3Part, Span
from handler.core.readers import CheckedReader, even_chunks
from tests.fakes import BadReader, breaks, checksum, crc32c, ends_early, md5, original_of, reader, too_long

DATA = bytes(range(256)) * 5 + b"end"


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def unhashed(data: bytes = DATA) -> Original:
    return original_of(data, md5=None, etag="opaque")


CHECKSUMS = {
    "CRC32": b64(zlib.crc32(DATA).to_bytes(4, "big")),
    "CRC32C": crc32c(DATA),
    "CRC64NVME": b64(anycrc.Model("CRC64-NVME").calc(DATA).to_bytes(8, "big")),
    "MD5": md5(DATA),
    "SHA1": b64(hashlib.sha1(DATA, usedforsecurity=False).digest()),
    "SHA256": b64(hashlib.sha256(DATA).digest()),
    "SHA512": b64(hashlib.sha512(DATA).digest()),
}
KNOWN_ANSWERS = {
    "CRC32": "y/Q5Jg==",
    "CRC32C": "4waSgw==",
    "CRC64NVME": "rosUhgp5mIg=",
    "MD5": "JfnnlDI7RTiF9RgfG2JNCw==",
}
"""Of the bytes `123456789`, from the catalogue of CRC algorithms and RFC 1321."""


def verified(original: Original, data: bytes) -> bytes:
    return b"".join(even_chunks(CheckedReader(io.BytesIO(data), original), 100))


@pytest.mark.parametrize("name", CHECKSUMS)
def test_every_algorithm_of_s3_is_verified(name: str) -> None:
    original = replace(unhashed(), checksums={name: CHECKSUMS[name]})
    check = check_of(original)
    assert check is not None
    assert check.name == name
    assert verified(original, DATA) == DATA
    for wrong in (bytes([DATA[0] ^ 1]) + DATA[1:], DATA[:-1] + b"!", bytes(len(DATA))):
        with pytest.raises(Corrupt, match=name):
            verified(original, wrong)


@pytest.mark.parametrize(("name", "value"), KNOWN_ANSWERS.items())
def test_checksums_are_those_of_the_standards(name: str, value: str) -> None:
    assert verified(replace(unhashed(b"123456789"), checksums={name: value}), b"123456789") == b"123456789"


def test_an_etag_that_is_an_md5_is_verified() -> None:
    original = original_of(DATA)
    assert verified(original, DATA) == DATA
    with pytest.raises(Corrupt, match="MD5"):
        verified(original, DATA[::-1])


def test_a_checksum_of_the_whole_comes_before_the_etag() -> None:
    wrong_etag = replace(original_of(DATA), md5=md5(b"other"), checksums={"SHA256": CHECKSUMS["SHA256"]})
    assert verified(wrong_etag, DATA) == DATA


@pytest.mark.parametrize("original", [unhashed(), replace(unhashed(), checksums={"NEW": "x"})])
def test_what_cannot_be_checked_is_counted_all_the_same(original: Original) -> None:
    assert check_of(original) is None
    assert verified(original, DATA) == DATA
    with pytest.raises(Corrupt, match="short"):
        verified(original, DATA[:-1])


PARTS = 500


@pytest.mark.parametrize(
    "sizes", [(1,) * len(DATA), (PARTS, PARTS, 283), (1282, 1), (1283,), (7, 1200, 76), (3, 3, 1277)]
)
@pytest.mark.parametrize("name", COMPOSITES)
def test_checksums_of_parts_are_verified_whatever_the_parts_sizes(sizes: tuple[int, ...], name: str) -> None:
    stops = list(itertools.accumulate(sizes))
    parts = [DATA[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]
    composite = composite_of(name, [checksum(name, part) for part in parts])
    original = replace(unhashed(), composites={name: composite}, parts=tuple(map(S3Part, sizes)))
    assert verified(original, DATA) == DATA
    for wrong in (DATA[:-1] + b"!", bytes([DATA[0] ^ 1]) + DATA[1:]):
        with pytest.raises(Corrupt, match=name):
            verified(original, wrong)


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_reader_that_knows_the_checksum_gives_its_verdict_before_the_last_bytes(name: str) -> None:
    check = Check(name, begin(name), checksum(name, DATA))
    right = CheckedReader(reader(DATA, at_most=100), unhashed(), check=check)
    assert b"".join(iter(right.read, b"")) == DATA
    assert check.actual == checksum(name, DATA)
    check = Check(name, begin(name), checksum(name, DATA[::-1]))
    wrong = CheckedReader(reader(DATA, at_most=100), unhashed(), check=check)
    assert len(wrong.read(1000) + wrong.read(200)) < len(DATA)
    with pytest.raises(Corrupt, match=name):
        list(iter(wrong.read, b""))


def test_checksums_of_parts_say_nothing_where_the_parts_are_not_known() -> None:
    assert check_of(replace(unhashed(), composites={"SHA256": "x"})) is None


def test_the_verdict_comes_before_the_last_bytes_are_handed_out() -> None:
    body = CheckedReader(io.BytesIO(bytes(10)), original_of(b"0123456789"))
    assert body.read(9) == bytes(9)
    with pytest.raises(Corrupt):
        body.read(1)


def test_a_span_is_counted_and_not_verified() -> None:
    body = CheckedReader(io.BytesIO(b"xyz"), original_of(b"0123456789"), Span(2, 5))
    assert (body.size, body.read(), body.read()) == (3, b"xyz", b"")


@pytest.mark.parametrize("size", [-1, 0, 1, 4, 100])
def test_a_reader_hands_out_at_most_what_is_asked_and_nothing_beyond_its_size(size: int) -> None:
    body = CheckedReader(io.BytesIO(b"0123456789 and more"), original_of(b"0123456789"))
    first = body.read(size)
    assert first == b"0123456789"[: size if size >= 0 else None]
    rest = b"".join(iter(body.read, b""))
    assert first + rest == b"0123456789"
    assert body.read(5) == b""


def test_an_empty_object_is_read_without_asking() -> None:
    body = CheckedReader(BadReader(b"", b"", RuntimeError("asked")), original_of(b""))
    assert body.read() == b""
    assert list(even_chunks(body, 10)) == []


@given(data=st.binary(max_size=400), size=st.integers(1, 90), at_most=st.integers(1, 90))
def test_pieces_are_even_however_the_bytes_trickle(data: bytes, size: int, at_most: int) -> None:
    got = list(even_chunks(reader(data, at_most=at_most), size))
    assert b"".join(got) == data
    assert all(len(piece) == size for piece in got[:-1])
    assert all(0 < len(piece) <= size for piece in got)


@pytest.mark.parametrize("size", [1, 3, 1282, 1283, 1284, 5000])
def test_a_body_that_is_not_as_long_as_it_said_is_corrupt(size: int) -> None:
    for body in (ends_early(DATA), ends_early(DATA, 700), too_long(DATA), too_long(DATA, DATA)):
        with pytest.raises(Corrupt):
            list(even_chunks(body, size))


def test_what_a_reader_raises_passes() -> None:
    error = Unavailable("gone")
    with pytest.raises(Unavailable) as caught:
        list(even_chunks(breaks(DATA, error), 100))
    assert caught.value is error
