"""Listings: order, pages, prefixes, folders, offsets and globs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.cloud import storage

from local_emulator.gcs import GcsServer
from tests.functional.gcs.conftest import Api

NAMES = ["a", "a/", "a/b", "a/b/c", "a/d", "b", "ba", "c/x/1", "c/x/2", "c/y", "é", "😀"]


@pytest.fixture(scope="module")
def full(server: GcsServer) -> Iterator[Api]:
    """A bucket that the tests of this module only read."""
    with requests.Session() as session:
        api = Api(server.url, "listed", session)
        api.call("POST", "/storage/v1/b", json={"name": api.bucket})
        for name in NAMES:
            api.insert(name)
        yield api


def _page(api: Api, **query: Any) -> dict[str, Any]:
    page: dict[str, Any] = api.call("GET", f"/storage/v1/b/{api.bucket}/o", params=query).json()
    return page


CASES: list[tuple[dict[str, str], list[str], list[str]]] = [
    ({}, NAMES, []),
    ({"prefix": "a/"}, ["a/", "a/b", "a/b/c", "a/d"], []),
    ({"prefix": "zzz"}, [], []),
    ({"delimiter": "/"}, ["a", "b", "ba", "é", "😀"], ["a/", "c/"]),
    ({"delimiter": "/", "prefix": "a/"}, ["a/", "a/b", "a/d"], ["a/b/"]),
    ({"delimiter": "/", "prefix": "c/"}, ["c/y"], ["c/x/"]),
    ({"delimiter": "/", "includeTrailingDelimiter": "true"}, ["a", "a/", "b", "ba", "é", "😀"], ["a/", "c/"]),
    ({"delimiter": "/x/"}, ["a", "a/", "a/b", "a/b/c", "a/d", "b", "ba", "c/y", "é", "😀"], ["c/x/"]),
    ({"startOffset": "b"}, ["b", "ba", "c/x/1", "c/x/2", "c/y", "é", "😀"], []),
    ({"endOffset": "a/b/c"}, ["a", "a/", "a/b"], []),
    ({"startOffset": "a/b", "endOffset": "b", "prefix": "a/"}, ["a/b", "a/b/c", "a/d"], []),
    ({"matchGlob": "a/*"}, ["a/", "a/b", "a/d"], []),
    ({"matchGlob": "**/c"}, ["a/b/c"], []),
    ({"matchGlob": "c/**"}, ["c/x/1", "c/x/2", "c/y"], []),
    ({"matchGlob": "{a,c/x}/[!d0]"}, ["a/b", "c/x/1", "c/x/2"], []),
    ({"matchGlob": "b?"}, ["ba"], []),
]


@pytest.mark.parametrize(("query", "items", "prefixes"), CASES, ids=[str(case[0]) for case in CASES])
@pytest.mark.parametrize("most", [1, 2, 1000])
def test_every_page_size_shows_the_same(
    full: Api, query: dict[str, str], items: list[str], prefixes: list[str], most: int
) -> None:
    shown: tuple[list[str], list[str]] = ([], [])
    token: str | None = ""
    while token is not None:
        page = _page(full, **query, maxResults=most, **({"pageToken": token} if token else {}))
        shown[0].extend(item["name"] for item in page.get("items", []))
        shown[1].extend(page.get("prefixes", []))
        both = "includeTrailingDelimiter" in query  # a folder's own object comes with the folder
        assert len(page.get("items", [])) + len(page.get("prefixes", [])) <= most + both
        token = page.get("nextPageToken")
    assert shown == (items, prefixes)


def test_the_real_client_lists(full: Api, client: storage.Client) -> None:
    bucket = client.bucket(full.bucket)
    assert [blob.name for blob in bucket.list_blobs(page_size=3)] == NAMES
    folders = bucket.list_blobs(prefix="a/", delimiter="/", fields="items(name),prefixes,nextPageToken")
    assert [blob.name for blob in folders] == ["a/", "a/b", "a/d"]
    assert folders.prefixes == {"a/b/"}


def test_booleans_may_begin_with_a_capital(full: Api, client: storage.Client) -> None:
    """As Google's client and gcloud write them: True, not true."""
    found = client.bucket(full.bucket).list_blobs(prefix="a", delimiter="/", include_trailing_delimiter=True)
    assert [blob.name for blob in found] == ["a", "a/"]
    assert list(client.bucket(full.bucket).list_blobs(soft_deleted=True)) == []
    assert _page(full, includeTrailingDelimiter="yes")["error"]["code"] == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"maxResults": "x"}, 400), ({"maxResults": "-1"}, 400), ({"pageToken": "%"}, 400),
        ({"softDeleted": "true", "versions": "true"}, 400), ({"softDeleted": "true"}, 200),
        ({"pageToken": "YQ=="}, 400),
        ({"matchGlob": "{a"}, 400), ({"matchGlob": "a", "delimiter": "x"}, 400), ({"fields": "items(name"}, 400),
        ({"versions": "true"}, 200), ({"prefix": "../"}, 200), ({"prefix": "/etc/"}, 200), ({"prefix": "\0"}, 200),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_refused(api: Api, query: dict[str, str], status: int) -> None:
    assert api.call("GET", f"/storage/v1/b/{api.bucket}/o", params=query).status_code == status


def test_a_listing_has_no_checksums_of_objects_under_a_customer_managed_key(client: storage.Client) -> None:
    """A get has them: https://cloud.google.com/storage/docs/encryption/customer-managed-keys."""
    bucket = client.bucket("under-a-key")
    bucket.default_kms_key_name = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    bucket.create()
    blob = bucket.blob("a")
    blob.upload_from_string(b"data")
    (listed,) = client.list_blobs(bucket)
    assert (listed.crc32c, listed.md5_hash) == (None, None)
    found = bucket.get_blob("a")
    assert found is not None
    assert found.crc32c == blob.crc32c is not None
    assert found.kms_key_name == f"{bucket.default_kms_key_name}/cryptoKeyVersions/1"
