"""Bad input by hypothesis, and what bad input has found; the larger numbers are in `make prove`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from handler.rules import rules_of
from local_emulator.gcs import GcsServer
from tests.proof import fuzz
from tests.proof.fuzz_keys import fuzz_keys

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
SEEDS = st.integers(0, 2**32)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def drawn(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - to be repeatable


@RELAXED
@given(st.sampled_from(sorted(fuzz.EVENTS)), SEEDS)
def test_a_mutated_sample_event_is_understood_or_refused_by_name(name: str, seed: int) -> None:
    event = fuzz.mutated(fuzz.EVENTS[name], drawn(seed))
    target(float(len(json.dumps(event, default=str))))
    fuzz.law_event(event)
    fuzz.law_neighbour(event)


@RELAXED
@given(ANY)
def test_a_good_record_beside_anything_is_not_lost(bad: Any) -> None:
    fuzz.law_event(bad)
    fuzz.law_neighbour(bad)


@RELAXED
@given(ANY | st.text() | st.binary().map(lambda data: data.decode("latin-1")), st.booleans())
def test_any_body_is_answered_in_json(body: Any, encoded: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    fuzz.law_body(body if isinstance(body, str) else json.dumps(body), encoded=encoded)


@RELAXED
@given(SEEDS)
def test_a_body_that_is_nearly_right_is_answered_in_json(seed: int) -> None:
    body, encoded = next(fuzz.bodies(drawn(seed)))
    fuzz.law_body(body, encoded=encoded)


@RELAXED
@given(ANY.map(json.dumps) | st.text())
def test_any_rules_are_rules_or_faults(text: str) -> None:
    fuzz.law_rules(text)


@RELAXED
@given(SEEDS)
def test_mutated_rules_are_rules_or_faults(seed: int) -> None:
    fuzz.law_rules(json.dumps(fuzz.mutated(fuzz.RULES, drawn(seed)), default=str))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz.HttpLaw]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        law = fuzz.HttpLaw(server.url)
        law(b'POST /storage/v1/b HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"name": "bucket"}')
        yield law
        law.alive()
        law.close()


@RELAXED
@given(raw=st.sampled_from(fuzz.REQUESTS), seed=SEEDS)
def test_the_gcs_server_survives_a_spoilt_request(http: fuzz.HttpLaw, raw: bytes, seed: int) -> None:
    http(fuzz.spoilt(raw, drawn(seed)))


@settings(RELAXED, max_examples=40)
@given(raw=st.binary(max_size=300))
def test_the_gcs_server_survives_garbage(http: fuzz.HttpLaw, raw: bytes) -> None:
    http(raw)


def test_the_largest_and_deepest_inputs_take_little_time_and_memory() -> None:
    assert fuzz.check_bounds() > 0


def test_awkward_keys_arrive_end_to_end() -> None:
    assert fuzz_keys(150, drawn(1)) > 140


def test_thousands_of_rules_are_read_in_linear_time() -> None:
    """Looking for IDs that are given twice took four seconds for the 6,000 rules that an environment can hold."""
    rules = [
        {"ID": f"{number}", "Destination": fuzz.RULES[1]["Destination"], "Source": {"Bucket": f"b{number}"}}
        for number in range(6_000)
    ]
    faults: list[str] = []
    began = time.process_time()
    assert len(rules_of(json.dumps(rules), faults)) == len(rules)
    assert time.process_time() - began < 1.5
    assert not faults
