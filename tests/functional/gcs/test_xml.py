"""The XML API: simple calls with conditions, and multipart uploads without."""

from __future__ import annotations

import re

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
