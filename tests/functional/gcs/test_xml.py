"""The XML API: simple calls with conditions, and multipart uploads without."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from tests.functional.gcs.conftest import Api

PART = bytes(5 << 20)


def test_put_get_head_delete(api: Api) -> None:
    headers = {
        "Content-Type": "a/b",
        "x-goog-meta-One": "1",
        "Cache-Control": "no-store",
        "x-goog-storage-class": "NEARLINE",
    }
    put = api.xml("PUT", "a/k", data=b"hello", headers=headers)
    assert (put.status_code, put.headers["ETag"]) == (200, '"5d41402abc4b2a76b9719d911017c592"')
    assert put.headers["x-goog-hash"] == "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="
    resource = api.resource("a/k")
    assert (resource["metadata"], resource["storageClass"], resource["contentType"]) == (
        {"one": "1"},
        "NEARLINE",
        "a/b",
    )
    for method, body in (("GET", b"hello"), ("HEAD", b"")):
        answer = api.xml(method, "a/k", headers={"Accept-Encoding": "identity"})
        assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, body, "5")
        assert (answer.headers["x-goog-meta-one"], answer.headers["x-goog-generation"]) == ("1", resource["generation"])
    assert [api.xml("DELETE", "a/k").status_code, api.xml("HEAD", "a/k").status_code] == [204, 404]
    missing = api.xml("GET", "a/k")
    assert (missing.status_code, missing.headers["Content-Type"].partition(";")[0]) == (404, "application/xml")
    assert "<Code>NoSuchKey</Code>" in missing.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("kind", ["generation", "metageneration"])
def test_conditions_in_headers(api: Api, method: str, kind: str) -> None:
    resource = api.insert("k", b"old").json()
    name = f"x-goog-if-{kind}-match"
    stale = api.xml(method, "k", headers={name: str(int(resource[kind]) + 1)}, data=b"new" if method == "PUT" else None)
    assert stale.status_code == 412
    assert method == "HEAD" or "<Code>PreconditionFailed</Code>" in stale.text
    assert api.media("k").content == b"old"
    assert api.xml(method, "k", headers={name: resource[kind]}, data=b"").status_code in {200, 204}


def test_generation_zero_means_absent(api: Api) -> None:
    assert [api.xml("PUT", "k", headers={"x-goog-if-generation-match": "0"}).status_code for _ in "ab"] == [200, 412]


@pytest.mark.parametrize("header", [{"x-goog-hash": "crc32c=AAAAAA=="}, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}])
def test_a_put_of_other_bytes_stores_nothing(api: Api, header: dict[str, str]) -> None:
    answer = api.xml("PUT", "k", data=b"hello", headers=header)
    assert (answer.status_code, "<Code>BadDigest</Code>" in answer.text, api.names()) == (400, True, [])


def test_conditions_name_the_entity_tag_that_the_server_gave(api: Api) -> None:
    for own in (api.xml("PUT", "k", data=b"old").headers["ETag"], f'"{api.resource("k")["etag"]}"'):
        assert api.xml("GET", "k", headers={"If-Match": own}).status_code == 200
        assert api.xml("GET", "k", headers={"If-None-Match": f'"other", {own}'}).status_code == 304
        assert api.xml("PUT", "k", data=b"new", headers={"If-None-Match": own}).status_code == 412
    tag = api.xml("HEAD", "k").headers["ETag"]
    assert [api.xml("PUT", "k", data=b"new", headers={"If-Match": tag}).status_code for _ in "ab"] == [200, 412]
    assert api.xml("GET", "k", headers={"If-Match": '"other"'}).status_code == 412
    assert api.xml("PUT", "k", headers={"If-None-Match": "*"}).status_code == 412
    assert api.xml("PUT", "absent", headers={"If-Match": "*"}).status_code == 412


def test_conditions_on_the_time_of_the_last_change(api: Api) -> None:
    api.insert("k", b"x")
    changed, long_ago = api.xml("HEAD", "k").headers["Last-Modified"], "Sat, 01 Jan 2000 00:00:00 GMT"
    cases = [
        ({"If-Modified-Since": changed}, 304), ({"If-Modified-Since": long_ago}, 200),
        ({"If-Unmodified-Since": changed}, 200), ({"If-Unmodified-Since": long_ago}, 412),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": changed, "If-None-Match": '"other"'}, 200),
        ({"If-Unmodified-Since": long_ago, "If-Match": "*"}, 200),
    ]  # fmt: skip
    for method in ("GET", "HEAD"):
        assert [api.xml(method, "k", headers=headers).status_code for headers, _ in cases] == [
            want for _, want in cases
        ]


def _found(pattern: str, text: str) -> list[str]:
    return re.findall(f"<{pattern}>(.*?)</{pattern}>", text)


def test_a_listing_as_object_store_asks_for_it(api: Api) -> None:
    for name in ("a", "d/1", "d/2", "d/e/3", "x&y", "ü"):
        api.insert(name, b"abc")
    query = {"list-type": "2", "max-keys": "2", "delimiter": "/"}
    keys: list[str] = []
    folders: list[str] = []
    token: list[str] = [""]
    while token:
        page = api.call("GET", f"/{api.bucket}", params=query | ({"continuation-token": token[0]} if token[0] else {}))
        assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "application/xml")
        keys += _found("Key", page.content.decode())
        folders += [prefix for common in _found("CommonPrefixes", page.text) for prefix in _found("Prefix", common)]
        token = _found("NextContinuationToken", page.text)
        assert _found("IsTruncated", page.text) == [str(bool(token)).lower()]
    assert (keys, folders) == (["a", "x&amp;y", "ü"], ["d/"])
    one = api.call("GET", f"/{api.bucket}", params={"prefix": "a"}).text
    resource = api.resource("a")
    assert (_found("ETag", one), _found("Size", one)) == (['"900150983cd24fb0d6963f7d28e17f72"'], ["3"])
    assert (_found("Generation", one), _found("LastModified", one)) == ([resource["generation"]], [resource["updated"]])


def test_a_listing_of_the_first_version_goes_on_from_its_marker(api: Api) -> None:
    for name in ("a", "d/1", "d/2", "x y", "z"):
        api.insert(name)
    seen: list[str] = []
    marker: list[str] = [""]
    while marker:
        query = {"max-keys": "1", "delimiter": "/", "encoding-type": "url", "marker": unquote(marker[0])}
        page = api.call("GET", f"/{api.bucket}/", params=query).text
        seen += _found("Key", page) + [p for common in _found("CommonPrefixes", page) for p in _found("Prefix", common)]
        marker = _found("NextMarker", page)
    assert seen == ["a", "d/", "x%20y", "z"]
    after = api.call("GET", f"/{api.bucket}", params={"list-type": "2", "start-after": "d/1"}).text
    assert _found("Key", after) == ["d/2", "x y", "z"]
    assert api.call("GET", f"/{api.bucket}?max-keys=-1").status_code == 400
    assert [api.call("HEAD", f"/{name}").status_code for name in (api.bucket, "missing-bucket")] == [200, 404]
    missing = api.call("GET", "/missing-bucket")
    assert (missing.status_code, _found("Code", missing.text)) == (404, ["NoSuchBucket"])


def test_a_copy_keeps_or_replaces_the_metadata(api: Api) -> None:
    made = api.xml("PUT", "a b/ü", data=b"abc", headers={"x-goog-meta-one": "1", "Content-Type": "a/b"})
    source = {"x-goog-copy-source": f"{api.bucket}/a%20b/%C3%BC"}
    copy = api.xml("PUT", "k", headers=source | {"x-goog-if-generation-match": "0", "x-goog-storage-class": "NEARLINE"})
    assert (copy.status_code, _found("ETag", copy.text)) == (200, [made.headers["ETag"]])
    resource = api.resource("k")
    assert (resource["metadata"], resource["contentType"], resource["storageClass"]) == (
        {"one": "1"},
        "a/b",
        "NEARLINE",
    )
    assert copy.headers["x-goog-generation"] == resource["generation"]
    assert api.xml("PUT", "k", headers=source | {"x-goog-if-generation-match": "0"}).status_code == 412
    replace = {"x-goog-metadata-directive": "REPLACE", "x-goog-meta-two": "2"}
    assert api.xml("PUT", "k", headers=source | replace).status_code == 200
    assert (api.resource("k")["metadata"], api.media("k").content) == ({"two": "2"}, b"abc")
    for name, value, want in (
        ("if-match", made.headers["ETag"], 200), ("if-match", '"other"', 412), ("if-none-match", '"other"', 200),
        ("if-generation-match", made.headers["x-goog-generation"], 200), ("if-generation-match", "1", 412),
        ("if-metageneration-match", "1", 200), ("generation", made.headers["x-goog-generation"], 200),
        ("generation", "1", 404),
    ):  # fmt: skip
        headers = source | {f"x-goog-copy-source-{name}": value}
        assert api.xml("PUT", "k", headers=headers).status_code == want, name
    assert api.xml("PUT", "k", headers={"x-goog-copy-source": f"{api.bucket}/missing"}).status_code == 404
    assert api.xml("PUT", "k", headers=source | {"x-goog-metadata-directive": "MERGE"}).status_code == 400


def _begin(api: Api, name: str) -> str:
    answer = api.xml("POST", name, params="uploads", headers={"x-goog-meta-a": "b"})
    found = re.search("<UploadId>(.*)</UploadId>", answer.text)
    assert found, answer.text
    return found[1]


def _put(api: Api, name: str, upload: str, number: int, data: bytes) -> str:
    answer = api.xml("PUT", name, params={"partNumber": str(number), "uploadId": upload}, data=data)
    assert answer.status_code == 200, answer.text
    return answer.headers["ETag"]


def _complete(api: Api, name: str, upload: str, parts: list[tuple[int, str]], **headers: str) -> tuple[int, str]:
    inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
    body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>"
    answer = api.xml("POST", name, params={"uploadId": upload}, data=body, headers=headers)
    return answer.status_code, answer.text


def test_a_multipart_upload_takes_no_conditions_and_overwrites(api: Api) -> None:
    api.insert("k", b"a newer one")
    refused = api.xml("POST", "k", params="uploads", headers={"x-goog-if-generation-match": "0"})
    assert refused.status_code == 400
    upload = _begin(api, "k")
    parts = [(1, _put(api, "k", upload, 1, b"to be replaced")), (2, _put(api, "k", upload, 2, b"end"))]
    parts[0] = (1, _put(api, "k", upload, 1, PART))
    listed = api.xml("GET", "k", params={"uploadId": upload}).text
    assert listed.count("<Part>") == 2
    status, _ = _complete(api, "k", upload, parts, **{"x-goog-if-generation-match": "0"})
    assert (status, api.media("k").content == PART + b"end") == (200, True)
    assert (api.resource("k")["metadata"], "md5Hash" in api.resource("k")) == ({"a": "b"}, False)
    assert _complete(api, "k", upload, parts)[0] == 404


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"])
def test_a_multipart_upload_that_does_not_fit_is_refused(api: Api, code: str) -> None:
    upload = _begin(api, "k")
    one, two = (1, _put(api, "k", upload, 1, b"small")), (2, _put(api, "k", upload, 2, b"end"))
    asked = {
        "InvalidPart": [(1, two[1])],
        "InvalidPartOrder": [two, one],
        "EntityTooSmall": [one, two],
        "MalformedXML": [],
    }
    status, text = _complete(api, "k", upload, asked[code])
    assert (status, f"<Code>{code}</Code>" in text, api.names()) == (400, True, [])
    assert api.xml("DELETE", "k", params={"uploadId": upload}).status_code == 204
    assert _complete(api, "k", upload, [one])[0] == 404
