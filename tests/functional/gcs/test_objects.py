"""Objects through the real client and raw HTTP: what is stored, shown, changed, copied and refused."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import google_crc32c
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.functional.gcs.conftest import Api


def test_the_real_client_writes_reads_changes_and_deletes(bucket: storage.Bucket) -> None:
    blob = bucket.blob("folder/naïve name.txt")
    blob.metadata = {"one": "1", "two": "2"}
    blob.cache_control = "no-store"
    blob.custom_time = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    blob.upload_from_string(b"hello", content_type="text/plain", checksum="crc32c", if_generation_match=0)
    read = bucket.get_blob(blob.name)
    assert read is not None
    assert (read.download_as_bytes(), read.size, read.content_type) == (b"hello", 5, "text/plain")
    assert (read.metadata, read.cache_control) == ({"one": "1", "two": "2"}, "no-store")
    assert (read.custom_time, read.generation, read.metageneration) == (blob.custom_time, blob.generation, 1)
    read.metadata = {"one": None, "three": "3"}
    read.patch(if_metageneration_match=1)
    read.reload()
    assert (read.metadata, read.metageneration) == ({"two": "2", "three": "3"}, 2)
    read.delete(if_generation_match=read.generation)
    assert bucket.get_blob(blob.name) is None


def test_the_real_client_uploads_in_chunks(bucket: storage.Bucket) -> None:
    data = bytes(range(256)) * 4096
    blob = bucket.blob("large", chunk_size=256 * 1024)
    blob.upload_from_string(data, checksum="md5", if_generation_match=0)
    assert blob.download_as_bytes(checksum="crc32c") == data
    assert blob.download_as_bytes(start=5, end=9) == data[5:10]
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(data, if_generation_match=0)


def test_generations_and_metagenerations_never_repeat(api: Api) -> None:
    seen = []
    for _ in range(5):
        seen.append(int(api.insert("k", b"same").json()["generation"]))
        api.object("DELETE", "k")
    assert seen == sorted(set(seen))
    api.insert("k")
    numbers = [int(api.object("PATCH", "k", json={}).json()["metageneration"]) for _ in range(3)]
    assert numbers == [2, 3, 4]


HELLO_CRC, HELLO_MD5 = "mnG7TA==", "XUFAKrxLKna5cZ2REBfFkg=="
WRONG: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("x-goog-hash crc32c", {"x-goog-hash": "crc32c=AAAAAA=="}, {}),
    ("x-goog-hash md5", {"x-goog-hash": f"crc32c={HELLO_CRC},md5=AAAAAAAAAAAAAAAAAAAAAA=="}, {}),
    ("not base64", {"x-goog-hash": "crc32c=?"}, {}),
    ("Content-MD5", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, {}),
    ("resource crc32c", {}, {"crc32c": "AAAAAA=="}),
    ("resource md5Hash", {}, {"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}),
]


@pytest.mark.parametrize(("headers", "resource"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
@pytest.mark.parametrize("old", [False, True], ids=["nothing before", "something before"])
def test_bytes_that_are_not_those_that_were_sent_are_not_stored(
    api: Api, headers: dict[str, str], resource: dict[str, str], *, old: bool
) -> None:
    if old:
        api.insert("k", b"old")
    if headers:
        answers = [api.insert("k", b"hello", headers=headers), api.send(api.begin("k"), b"hello", None, **headers)]
    else:
        answers = [api.multipart({"name": "k", **resource}, b"hello"), api.send(api.begin("k", resource), b"hello")]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (400, "invalid")
    assert api.media("k").content == b"old" if old else api.media("k").status_code == 404


def test_right_checksums_are_accepted_everywhere(api: Api) -> None:
    header = {"x-goog-hash": f"crc32c={HELLO_CRC},md5={HELLO_MD5}"}
    said = {"name": "k", "crc32c": HELLO_CRC, "md5Hash": HELLO_MD5}
    assert api.insert("k", b"hello", headers=header).json()["crc32c"] == HELLO_CRC
    assert api.multipart(said, b"hello").json()["md5Hash"] == HELLO_MD5
    assert api.send(api.begin("k", said), b"hello", None, **header).status_code == 200
    assert google_crc32c.value(b"hello").to_bytes(4, "big").hex() == "9a71bb4c"


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize(
    "data", [b"", b"\r", b"\n", b"\r\n", b"x\r\n--frontie", b"\r\n--frontierX", b"a" * 400_000 + b"\r"]
)
def test_multipart_media_arrive_byte_for_byte(api: Api, data: bytes, newline: bytes) -> None:
    assert api.multipart({"name": "k"}, data, newline).status_code == 200
    assert api.media("k").content == data


@pytest.mark.parametrize("quoted", ["'=f='", '"=f="'])
def test_a_boundary_may_be_quoted_in_either_way(api: Api, quoted: str) -> None:
    """gcloud's are in single quotes."""
    where = f"/upload/storage/v1/b/{api.bucket}/o?uploadType=multipart&name=k"
    body = b"--=f=\r\n\r\n{}\r\n--=f=\r\n\r\ndata\r\n--=f=--"
    headers = {"Content-Type": f"multipart/related; boundary={quoted}"}
    assert api.call("POST", where, data=body, headers=headers).status_code == 200
    assert api.media("k").content == b"data"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--f\r\n\r\n{}\r\n--f\r\n\r\nno end", "multipart/related; boundary=f"),
        (b"--f\r\n\r\n{}\r\n--f\r\n\r\na\r\n--f\r\n\r\nb\r\n--f--", "multipart/related; boundary=f"),
        (b"--f\r\n\r\n{nonsense\r\n--f\r\n\r\na\r\n--f--", "multipart/related; boundary=f"),
        (b"nothing of the kind", "multipart/related; boundary=f"),
        (b"", "multipart/related"),
        (b"{}", "application/json"),
    ],
)
def test_multipart_that_is_none_is_refused(api: Api, body: bytes, content_type: str) -> None:
    where = f"/upload/storage/v1/b/{api.bucket}/o?uploadType=multipart&name=k"
    answer = api.call("POST", where, data=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)
    assert api.names() == []


BAD_NAMES = ["", ".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x", "x" * 1025, "é" * 513]
ODD_NAMES = [
    "a/", "/", "//", "a//b", "../up", "a/../b", "./a", "a/.", ".gcs/objects.sqlite", "\x01\x7f\t",
    "x" * 1024, "é" * 512,
    "x" * 256, " ", "+ %2F?#&=", "a\\b", "日本/語", "😀", "con", "acl", "compose", "a/acl", "-", "\u0000",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_gcs_forbids_are_refused(api: Api, name: str) -> None:
    api.insert("src")
    target = {"sourceObjects": [{"name": "src"}]}
    answers = [
        api.insert(name),
        api.multipart({"name": name}, b""),
        api.call("POST", f"/upload/storage/v1/b/{api.bucket}/o", params={"uploadType": "resumable", "name": name}),
    ]
    if name.strip("."):  # HTTP clients take dots out of paths
        answers.append(api.object("POST", name, "/compose", json=target))
    assert [answer.status_code for answer in answers] == [400] * len(answers)
    assert api.names() == ["src"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_names_that_gcs_allows_are_served_right(api: Api, name: str) -> None:
    assert api.insert(name, name.encode()).json()["name"] == name
    assert (api.names(), api.media(name).content) == ([name], name.encode())
    link = api.resource(name)["mediaLink"]
    assert api.call("GET", link).content == name.encode()
    assert api.object("PATCH", name, json={"metadata": {"a": "b"}}).status_code == 200
    assert api.object("DELETE", name).status_code == 204
    assert api.names() == []


def test_metadata_limits(api: Api) -> None:
    for metadata, status in [
        ({"k" * 1024: "v"}, 200), ({"k" * 1025: "v"}, 400), ({"k": "v" * 4096}, 200), ({"k": "v" * 4097}, 400),
        ({"a": "v" * 4095, "b": "v" * 4095}, 200), ({"a": "v" * 4095, "b": "v" * 4096}, 400), ({"a": 1}, 400),
    ]:  # fmt: skip
        assert api.multipart({"name": "k", "metadata": metadata}, b"").status_code == status
        assert api.object("PATCH", "k", json={"metadata": None}).status_code == 200
        assert api.object("PATCH", "k", json={"metadata": metadata}).status_code == status


def test_patch_merges_and_update_replaces(api: Api) -> None:
    said = {"name": "k", "contentType": "a/b", "cacheControl": "c", "metadata": {"one": "1", "two": "2"}}
    api.multipart(said, b"")
    patched = api.object("PATCH", "k", json={"cacheControl": None, "metadata": {"two": None, "three": "3"}}).json()
    assert (patched["metadata"], patched["contentType"]) == ({"one": "1", "three": "3"}, "a/b")
    assert "cacheControl" not in patched
    updated = api.object("PUT", "k", json={"metadata": {"four": "4"}}).json()
    assert updated["metadata"] == {"four": "4"}
    assert (updated["generation"], updated["metageneration"]) == (patched["generation"], "3")


def test_custom_time_only_goes_forward(api: Api) -> None:
    api.multipart({"name": "k", "customTime": "2026-01-02T00:00:00Z"}, b"")
    changes = [("2026-01-01T23:59:59Z", 400), (None, 400), ("nonsense", 400), ("2026-01-02T00:00:00", 400)]
    for value, status in [*changes, ("2026-01-02T02:00:00.5+01:00", 200)]:
        assert api.object("PATCH", "k", json={"customTime": value}).status_code == status, value
    assert api.resource("k")["customTime"] == "2026-01-02T01:00:00.500Z"
    assert api.object("PUT", "k", json={}).status_code == 400


def test_contexts_are_merged_by_a_patch_and_taken_along_by_a_rewrite(api: Api) -> None:
    def values() -> dict[str, str]:
        custom = api.resource("k").get("contexts", {}).get("custom", {})
        return {key: payload["value"] for key, payload in custom.items()}

    def patch(value: Any) -> dict[str, str]:
        assert api.object("PATCH", "k", json={"contexts": value}).status_code == 200
        return values()

    api.multipart({"name": "k", "contexts": {"custom": {"a": {"value": "1"}, "b": {"value": "2"}}}}, b"")
    made = api.resource("k")["contexts"]["custom"]["a"]
    assert made["createTime"] == made["updateTime"]
    assert patch({"custom": {"a": {"value": "3"}, "b": None, "c": {"value": "4"}}}) == {"a": "3", "c": "4"}
    assert api.resource("k")["contexts"]["custom"]["a"]["createTime"] == made["createTime"]
    assert api.object("PATCH", "k", json={"metadata": {"x": "y"}}).status_code == 200
    to_k = f"/rewriteTo/b/{api.bucket}/o/k"
    assert api.object("POST", "k", to_k, json={"storageClass": "COLDLINE"}).status_code == 200
    assert values() == {"a": "3", "c": "4"}
    listed = api.call("GET", f"/storage/v1/b/{api.bucket}/o", params={"fields": "items(contexts)"}).json()["items"]
    assert listed[0]["contexts"] == api.resource("k")["contexts"]
    assert patch(None) == {}
    assert "contexts" not in api.resource("k")


def test_a_key_is_named_by_the_query_of_each_write_and_changed_by_a_rewrite_only(api: Api) -> None:
    def key_of(name: str) -> str | None:
        return api.resource(name).get("kmsKeyName")

    one, two = ("projects/p/locations/us/keyRings/r/cryptoKeys/" + name for name in ("one", "two"))
    api.insert("media", kmsKeyName=one)
    api.multipart({"name": "multipart"}, b"x", kmsKeyName=one)
    api.send(api.begin("resumable", kmsKeyName=one), b"x")
    order = {"sourceObjects": [{"name": "media"}], "destination": {}}
    api.object("POST", "composed", "/compose", params={"kmsKeyName": one}, json=order)
    for name in ("media", "multipart", "resumable", "composed"):
        assert key_of(name) == f"{one}/cryptoKeyVersions/1"
    to_k = f"/rewriteTo/b/{api.bucket}/o/k"
    for name in (two, one):
        assert api.object("POST", "multipart", to_k, params={"destinationKmsKeyName": name}).json()["done"]
        assert key_of("k") == f"{name}/cryptoKeyVersions/1"
    api.object("POST", "multipart", to_k)
    assert key_of("k") is None, "the bucket's own encryption, unless a key is named"
    assert api.object("PATCH", "k", json={"kmsKeyName": two}).status_code == 400


def test_a_rewrite_to_another_key_moves_bytes_in_steps(api: Api) -> None:
    api.insert("k", bytes((1 << 20) + 1))
    query = {"maxBytesRewrittenPerCall": str(1 << 20)}
    query["destinationKmsKeyName"] = "projects/p/locations/us/keyRings/r/cryptoKeys/one"
    first = api.object("POST", "k", f"/rewriteTo/b/{api.bucket}/o/k", params=query).json()
    assert (first["done"], first["totalBytesRewritten"]) == (False, str(1 << 20))
    other = query | {"destinationKmsKeyName": "projects/p/locations/us/keyRings/r/cryptoKeys/two"}
    for asked, status in ((other, 400), (query, 200)):
        params = {**asked, "rewriteToken": first["rewriteToken"]}
        assert api.object("POST", "k", f"/rewriteTo/b/{api.bucket}/o/k", params=params).status_code == status


@pytest.mark.parametrize("name", ["k", "projects/p/locations/us/keyRings/r", "/projects/p/locations/l/keyRings/r/x/k"])
def test_what_is_no_name_of_a_key_is_refused(api: Api, name: str) -> None:
    assert api.insert("k", kmsKeyName=name).status_code == 400


@pytest.mark.parametrize("hold", ["temporaryHold", "eventBasedHold"])
def test_holds_protect_from_overwriting_and_deleting(api: Api, hold: str) -> None:
    api.multipart({"name": "k", hold: True}, b"old")
    api.insert("other")
    to_k = f"/rewriteTo/b/{api.bucket}/o/k"
    for answer in [
        api.insert("k", b"new"), api.object("DELETE", "k"), api.object("POST", "other", to_k),
        api.object("POST", "k", "/moveTo/o/new"), api.xml("PUT", "k", data=b"new"), api.xml("DELETE", "k"),
    ]:  # fmt: skip
        assert answer.status_code == 403
        assert "nderActiveHold" in answer.text
    assert api.media("k").content == b"old"
    assert api.object("PATCH", "k", json={hold: False}).status_code == 200
    assert api.object("DELETE", "k").status_code == 204


def test_a_bucket_retention_policy_protects(api: Api) -> None:
    policy = {"retentionPolicy": {"retentionPeriod": "3600"}}
    assert api.call("PATCH", f"/storage/v1/b/{api.bucket}", json=policy).status_code == 200
    api.insert("k", b"old")
    assert "retentionExpirationTime" in api.resource("k")
    for answer in (api.insert("k", b"new"), api.object("DELETE", "k")):
        assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (403, "retentionPolicyNotMet")
    assert api.object("PATCH", "k", json={"metadata": {"a": "b"}}).status_code == 200
    api.call("PATCH", f"/storage/v1/b/{api.bucket}", json={"retentionPolicy": None})
    assert api.object("DELETE", "k").status_code == 204


def test_an_objects_own_retention_protects_and_is_hard_to_undo(api: Api) -> None:
    def until(hours: int) -> dict[str, Any]:
        moment = datetime.now(UTC) + timedelta(hours=hours)
        return {"retention": {"mode": "Unlocked", "retainUntilTime": moment.isoformat()}}

    api.multipart({"name": "k", **until(2)}, b"old")
    assert api.object("DELETE", "k").json()["error"]["errors"][0]["reason"] == "retentionPolicyNotMet"
    assert api.object("PATCH", "k", json=until(3)).status_code == 200
    assert api.object("PATCH", "k", json=until(1)).status_code == 403
    assert api.object("PATCH", "k", json={"retention": None}).status_code == 403
    override = {"overrideUnlockedRetention": "true"}
    assert api.object("PATCH", "k", params=override, json={"retention": None}).status_code == 200
    assert api.object("DELETE", "k").status_code == 204


def _retention(mode: str, hours: float = 1) -> dict[str, Any]:
    return {"retention": {"mode": mode, "retainUntilTime": (datetime.now(UTC) + timedelta(hours=hours)).isoformat()}}


def test_a_retention_that_is_locked_only_grows_and_to_lock_one_is_an_override(api: Api) -> None:
    override = {"overrideUnlockedRetention": "true"}
    api.multipart({"name": "k", **_retention("Unlocked", 2)}, b"")
    assert api.object("PATCH", "k", json=_retention("Locked", 2)).status_code == 403
    assert api.object("PATCH", "k", params=override, json=_retention("Locked", 2)).status_code == 200
    for changed in (_retention("Locked", 1), _retention("Unlocked", 3), {"retention": None}):
        answer = api.object("PATCH", "k", params=override, json=changed)
        assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (403, "retentionPolicyNotMet")
    assert api.object("PATCH", "k", json=_retention("Locked", 3)).status_code == 200


def test_a_retention_lasts_at_most_100_years_and_goes_with_no_event_based_hold(api: Api) -> None:
    """https://cloud.google.com/storage/docs/object-lock and https://cloud.google.com/storage/docs/object-holds."""
    years = 365.25 * 24
    for hours, status in ((101 * years, 400), (99 * years, 200)):
        assert api.multipart({"name": "k", **_retention("Unlocked", hours)}, b"").status_code == status
    assert api.object("PATCH", "k", json={"eventBasedHold": True}).status_code == 400
    assert api.object("PATCH", "k", json={"temporaryHold": True}).status_code == 200
    assert api.multipart({"name": "x", "eventBasedHold": True, **_retention("Locked")}, b"").status_code == 400


def test_what_is_retained_may_become_noncurrent_and_what_is_held_may_not(api: Api) -> None:
    api.call("PATCH", f"/storage/v1/b/{api.bucket}", json={"versioning": {"enabled": True}})
    first = api.multipart({"name": "k", **_retention("Locked")}, b"1").json()["generation"]
    second = api.multipart({"name": "k", **_retention("Unlocked")}, b"2").json()["generation"]
    assert api.object("DELETE", "k").status_code == 204
    for generation in (first, second):
        answer = api.object("DELETE", "k", params={"generation": generation})
        assert answer.json()["error"]["errors"][0]["reason"] == "retentionPolicyNotMet"
    api.multipart({"name": "held", "temporaryHold": True}, b"1")
    for answer in (api.insert("held", b"2"), api.object("DELETE", "held")):
        assert answer.json()["error"]["errors"][0]["reason"] == "objectUnderActiveHold"


def test_a_default_hold_of_the_bucket_reaches_new_objects(api: Api) -> None:
    api.call("PATCH", f"/storage/v1/b/{api.bucket}", json={"defaultEventBasedHold": True})
    assert api.insert("k").json()["eventBasedHold"] is True


@pytest.mark.parametrize("count", [1, 2, 32])
def test_compose_joins_up_to_32(api: Api, count: int) -> None:
    for i in range(count):
        api.insert(f"p{i}", b"%d," % i)
    request = {"sourceObjects": [{"name": f"p{i}"} for i in range(count)], "destination": {"contentType": "a/b"}}
    made = api.object("POST", "k", "/compose", json=request).json()
    data = b"".join(b"%d," % i for i in range(count))
    assert api.media("k").content == data
    assert (made["componentCount"], made["contentType"], "md5Hash" in made) == (count, "a/b", False)
    assert made["crc32c"] == api.insert("whole", data).json()["crc32c"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"sourceObjects": [{"name": "a"}] * 33}, 400),
        ({"sourceObjects": []}, 400),
        ({"sourceObjects": "a"}, 400),
        ({"sourceObjects": [{}]}, 400),
        ({"sourceObjects": [{"name": "missing"}]}, 404),
        ({"sourceObjects": [{"name": "a", "generation": "1"}]}, 404),
        ({}, 400),
    ],
)
def test_compose_refuses(api: Api, request_: dict[str, Any], status: int) -> None:
    api.insert("a", b"a")
    assert api.object("POST", "k", "/compose", json=request_).status_code == status
    assert api.names() == ["a"]


def test_compose_removes_its_sources_if_asked(api: Api) -> None:
    for name in ("a", "b"):
        api.insert(name, name.encode())
    request = {"sourceObjects": [{"name": "a"}, {"name": "b"}, {"name": "a"}], "deleteSourceObjects": True}
    assert api.object("POST", "a", "/compose", json=request).json()["componentCount"] == 3
    assert (api.names(), api.media("a").content) == (["a"], b"aba")


def test_the_real_client_composes_copies_rewrites_and_moves(bucket: storage.Bucket) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name, content_type="text/x")
    composed = bucket.blob("composed")
    composed.compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    copied = bucket.copy_blob(composed, bucket, "copied")
    assert (copied.component_count, copied.download_as_bytes()) == (2, b"ab")
    rewritten = bucket.blob("rewritten")
    token, done, total = rewritten.rewrite(bucket.blob("a"), if_generation_match=0)
    assert (token, done, total, rewritten.content_type) == (None, 1, 1, "text/x")
    before = rewritten.generation
    moved = bucket.move_blob(rewritten, "moved", if_source_generation_match=before)
    assert moved.generation > before
    assert [blob.name for blob in bucket.list_blobs()] == ["a", "b", "composed", "copied", "moved"]


def test_a_rewrite_may_change_metadata_and_storage_class(api: Api) -> None:
    api.multipart({"name": "a", "contentType": "a/b", "metadata": {"x": "y"}}, b"a")
    tail = f"/rewriteTo/b/{api.bucket}/o/a"
    answer = api.object("POST", "a", tail, json={"storageClass": "NEARLINE", "contentType": "c/d"}).json()
    assert answer["done"] is True
    assert (answer["resource"]["storageClass"], answer["resource"]["contentType"]) == ("NEARLINE", "c/d")
    assert "metadata" not in answer["resource"]
    assert api.object("PATCH", "a", json={"storageClass": "STANDARD"}).status_code == 400


RANGES = [
    ("bytes=0-0", 206, b"0", "bytes 0-0/10"), ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"), ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=5-99", 206, b"56789", "bytes 5-9/10"), ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=10-", 416, None, "bytes */10"), ("bytes=99-100", 416, None, "bytes */10"),
    ("bytes=-0", 416, None, "bytes */10"),
    ("nonsense", 200, b"0123456789", None), ("bytes=4-2", 200, b"0123456789", None),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "status", "data", "said"), RANGES, ids=[case[0] for case in RANGES])
@pytest.mark.parametrize("kind", ["json", "xml"])
def test_ranges(api: Api, wanted: str, status: int, data: bytes | None, said: str | None, kind: str) -> None:
    api.insert("k", b"0123456789")
    headers = {"Range": wanted}
    answer = api.media("k", headers=headers) if kind == "json" else api.xml("GET", "k", headers=headers)
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, said)
    assert data is None or answer.content == data


def test_the_headers_of_a_read(api: Api) -> None:
    said = {"contentType": "a/b", "contentDisposition": "inline", "contentLanguage": "de", "cacheControl": "no-store"}
    made = api.multipart({"name": "k", **said, "metadata": {"key": "välue"}}, b"hello").json()
    headers = api.media("k").headers
    wanted = {
        "x-goog-generation": made["generation"], "x-goog-metageneration": "1", "x-goog-storage-class": "STANDARD",
        "x-goog-hash": f"crc32c={HELLO_CRC},md5={HELLO_MD5}", "x-goog-stored-content-length": "5",
        "Content-Length": "5",
        "x-goog-stored-content-encoding": "identity", "ETag": made["etag"], "Content-Type": "a/b",
        "Content-Disposition": "inline", "Content-Language": "de", "Cache-Control": "no-store",
    }  # fmt: skip
    assert {name: headers.get(name) for name in wanted} == wanted
    assert "Last-Modified" in headers


@pytest.mark.parametrize(
    ("accept", "cache", "unpacked"),
    [("identity", "", True), ("gzip", "", False), ("deflate, gzip", "", False), ("identity", "no-transform", False)],
)
@pytest.mark.parametrize("size", [5, 3_000_000])
def test_gzip_is_unpacked_for_who_cannot(api: Api, accept: str, cache: str, *, unpacked: bool, size: int) -> None:
    plain = b"0123456789" * (size // 5)
    packed = gzip.compress(plain)
    api.multipart({"name": "k", "contentEncoding": "gzip", "cacheControl": cache}, packed)
    for answer in (
        api.media("k", headers={"Accept-Encoding": accept}, stream=True),
        api.xml("GET", "k", headers={"Accept-Encoding": accept}, stream=True),
    ):
        with answer:
            raw = answer.raw.read(decode_content=False)
            assert raw == (plain if unpacked else packed)
            assert answer.headers.get("Content-Encoding") == (None if unpacked else "gzip")
            assert answer.headers["x-goog-stored-content-encoding"] == "gzip"
            assert answer.headers["x-goog-stored-content-length"] == str(len(packed))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("name", {"name"}),
        ("name,size", {"name", "size"}),
        ("metadata/a", {"metadata"}),
        ("*", None),
        ("kind,x(y)", {"kind"}),
    ],
)
def test_fields_select_what_is_shown(api: Api, fields: str, shown: set[str] | None) -> None:
    api.multipart({"name": "k", "metadata": {"a": "1", "b": "2"}}, b"")
    answer = api.object("GET", "k", params={"fields": fields}).json()
    assert set(answer) == (shown or set(api.resource("k")))
    assert json.dumps(answer)


@pytest.mark.parametrize("body", [b"null", b" null\n", b"", b"{}"])
def test_rclone_says_nothing_of_the_copy_by_null(api: Api, body: bytes) -> None:
    """The bytes of rclone's server-side copy, and of its PATCH; test_clients runs rclone itself."""
    api.multipart({"name": "k", "metadata": {"a": "b"}, "contentType": "x/y"}, b"abc")
    copied = api.object("POST", "k", f"/rewriteTo/b/{api.bucket}/o/copy", data=body)
    assert (copied.status_code, copied.json()["resource"]["metadata"]) == (200, {"a": "b"})
    assert api.object("POST", "k", f"/copyTo/b/{api.bucket}/o/copy", data=body).json()["contentType"] == "x/y"
    assert api.object("PATCH", "copy", data=body).json()["metadata"] == {"a": "b"}


def test_a_composed_object_has_no_content_type_that_nobody_gave(bucket: storage.Bucket) -> None:
    for name in "ab":
        bucket.blob(name).upload_from_string(name, content_type="text/x")
    made = bucket.blob("ab")
    made.compose([bucket.blob("a"), bucket.blob("b")])
    made.reload()
    assert (made.content_type, made.download_as_bytes()) == (None, b"ab")
    made.content_type = "text/y"
    made.compose([bucket.blob("a")])
    made.reload()
    assert made.content_type == "text/y"
