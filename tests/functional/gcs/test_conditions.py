"""Every condition on every call: a stale one changes nothing, a true one lets it through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.functional.gcs.conftest import Api

Call = Callable[[Api, dict[str, Any]], requests.Response]


def _compose(api: Api, query: dict[str, str]) -> requests.Response:
    return api.object("POST", "k", "/compose", params=query, json={"sourceObjects": [{"name": "other"}]})


WRITES: dict[str, Call] = {
    "media insert": lambda api, query: api.insert("k", b"new", **query),
    "multipart insert": lambda api, query: api.multipart({"name": "k"}, b"new", **query),
    "resumable initiation": lambda api, query: api.call(
        "POST", f"/upload/storage/v1/b/{api.bucket}/o", params={"uploadType": "resumable", "name": "k", **query}
    ),
    "patch": lambda api, query: api.object("PATCH", "k", params=query, json={"contentType": "a/b"}),
    "update": lambda api, query: api.object("PUT", "k", params=query, json={"contentType": "a/b"}),
    "delete": lambda api, query: api.object("DELETE", "k", params=query),
    "compose": _compose,
    "rewrite": lambda api, query: api.object("POST", "other", f"/rewriteTo/b/{api.bucket}/o/k", params=query),
    "copy": lambda api, query: api.object("POST", "other", f"/copyTo/b/{api.bucket}/o/k", params=query),
    "move": lambda api, query: api.object("POST", "other", "/moveTo/o/k", params=query),
}
SOURCES: dict[str, Call] = {
    "rewrite": lambda api, query: api.object("POST", "k", f"/rewriteTo/b/{api.bucket}/o/new", params=query),
    "copy": lambda api, query: api.object("POST", "k", f"/copyTo/b/{api.bucket}/o/new", params=query),
    "move": lambda api, query: api.object("POST", "k", "/moveTo/o/new", params=query),
}
CONDITIONS = ["GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch"]


def _value(condition: str, resource: dict[str, Any], *, stale: bool) -> str:
    actual = int(resource["generation" if condition.startswith("Gen") else "metageneration"])
    return str(actual + 1 if stale != ("Not" in condition) else actual)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", WRITES)
def test_a_stale_condition_refuses_the_write_and_a_true_one_allows_it(api: Api, name: str, condition: str) -> None:
    api.insert("k", b"old")
    api.insert("other", b"other")
    before = api.resource("k")
    refused = WRITES[name](api, {f"if{condition}": _value(condition, before, stale=True)})
    assert refused.status_code == 412
    error = refused.json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert error["errors"][0]["location"] == "If-Match"
    assert api.resource("k") == before
    assert api.media("k").content == b"old"
    allowed = WRITES[name](api, {f"if{condition}": _value(condition, before, stale=False)})
    assert allowed.status_code in {200, 204}, allowed.text


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_stale_condition_on_the_source_refuses_the_copy(api: Api, name: str, condition: str) -> None:
    api.insert("k", b"old")
    before = api.resource("k")
    refused = SOURCES[name](api, {f"ifSource{condition}": _value(condition, before, stale=True)})
    assert refused.status_code == 412
    assert api.names() == ["k"]
    assert SOURCES[name](api, {f"ifSource{condition}": _value(condition, before, stale=False)}).status_code == 200


CHANGES: dict[str, Callable[[Api], requests.Response]] = {
    "overwritten": lambda api: api.insert("k", b"rival"),
    "patched": lambda api: api.object("PATCH", "k", json={}),
    "deleted": lambda api: api.object("DELETE", "k"),
}


@pytest.mark.parametrize(
    ("condition", "value", "change"),
    [
        ("GenerationMatch", None, "overwritten"),
        ("GenerationNotMatch", "0", "deleted"),
        ("MetagenerationMatch", "1", "patched"),
        ("MetagenerationNotMatch", "2", "patched"),
    ],
)
def test_the_conditions_of_a_resumable_upload_are_judged_again_at_its_end(
    api: Api, condition: str, value: str | None, change: str
) -> None:
    generation = api.insert("k", b"old").json()["generation"]
    session = api.begin("k", {}, **{f"if{condition}": value or generation})
    CHANGES[change](api)
    assert api.send(session, b"new").status_code == 412
    left = api.media("k")
    assert left.status_code == 404 if change == "deleted" else left.content in {b"old", b"rival"}


def test_a_resumable_upload_refused_at_its_end_repeats_its_refusal(api: Api) -> None:
    session = api.begin("k", ifGenerationMatch="0")
    api.insert("k", b"rival")
    assert [api.send(session, b"new").status_code, api.send(session, b"", "*/3").status_code] == [412, 412]
    assert api.media("k").content == b"rival"


@pytest.mark.parametrize(
    ("condition", "stale"),
    [
        ("GenerationMatch", 412),
        ("GenerationNotMatch", 304),
        ("MetagenerationMatch", 412),
        ("MetagenerationNotMatch", 304),
    ],
)
@pytest.mark.parametrize("alt", ["json", "media"])
def test_conditions_on_reads(api: Api, condition: str, stale: int, alt: str) -> None:
    api.insert("k", b"old")
    before = api.resource("k")
    for is_stale, status in ((True, stale), (False, 200)):
        query = {f"if{condition}": _value(condition, before, stale=is_stale), "alt": alt}
        assert api.object("GET", "k", params=query).status_code == status


@pytest.mark.parametrize("name", ["media insert", "multipart insert", "compose", "rewrite", "copy", "move"])
def test_generation_zero_means_absent(api: Api, name: str) -> None:
    api.insert("other", b"other")
    assert WRITES[name](api, {"ifGenerationMatch": "1"}).status_code == 412
    assert WRITES[name](api, {"ifGenerationNotMatch": "0"}).status_code == 412
    assert WRITES[name](api, {"ifGenerationMatch": "0"}).status_code == 200
    api.insert("other", b"other")
    assert WRITES[name](api, {"ifGenerationMatch": "0"}).status_code == 412


@pytest.mark.parametrize("name", ["patch", "update", "delete"])
def test_what_is_absent_is_not_found_whatever_the_condition(api: Api, name: str) -> None:
    assert WRITES[name](api, {"ifGenerationMatch": "7"}).status_code == 404
    assert WRITES[name](api, {"ifGenerationMatch": "0"}).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_generation_that_is_no_more_is_not_found(api: Api, method: str) -> None:
    old = api.insert("k", b"old").json()["generation"]
    api.insert("k", b"new")
    assert api.object(method, "k", params={"generation": old}, json={}).status_code == 404
    assert api.media("k").content == b"new"


@pytest.mark.parametrize("value", ["x", "", "1.5", str(1 << 64)])
def test_a_condition_that_is_no_number_is_refused(api: Api, value: str) -> None:
    response = api.insert("k", b"", ifGenerationMatch=value)
    assert (response.status_code, response.json()["error"]["errors"][0]["reason"]) == (400, "invalid")


def test_per_source_conditions_of_compose(api: Api) -> None:
    generation = api.insert("a", b"a").json()["generation"]
    for want, status in ((str(int(generation) + 1), 412), (generation, 200)):
        source = {"name": "a", "objectPreconditions": {"ifGenerationMatch": want}}
        assert api.object("POST", "k", "/compose", json={"sourceObjects": [source]}).status_code == status


def test_an_etag_is_a_condition_too(api: Api) -> None:
    etag = api.insert("k", b"old").json()["etag"]
    assert api.object("GET", "k", headers={"If-Match": "other"}).status_code == 412
    assert api.object("GET", "k", headers={"If-None-Match": etag}).status_code == 304
    assert api.object("PATCH", "k", headers={"If-Match": "other"}, json={}).status_code == 412
    assert api.object("PATCH", "k", headers={"If-Match": etag}, json={}).status_code == 200


def test_of_two_writers_on_one_generation_exactly_one_wins(api: Api) -> None:
    rounds, writers = 100, 2
    wins: list[int] = []
    lock = threading.Lock()
    barrier = threading.Barrier(writers)

    def write(number: int) -> None:
        own = Api(api.url, api.bucket, requests.Session())
        for i in range(rounds):
            barrier.wait()
            if own.insert(f"k{i}", b"%d" % number, ifGenerationMatch="0").status_code == 200:
                with lock:
                    wins.append(i)
        own.session.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(rounds))
