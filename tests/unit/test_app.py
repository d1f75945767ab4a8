"""Triggers in, answers out: each trigger is told what it can act on, after everything was tried."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from handler import app, config
from handler.adapters.queue import DeadLetterQueue
from handler.app import Service
from handler.backoff import AFTERMATH, APART
from handler.core.batch import Replicator
from handler.core.breaker import OPENS_AFTER, CircuitOpen, Circuits
from handler.core.errors import Corrupt, Malformed, Refused, ReplicationError, Unavailable
from handler.wiring import MARGIN, Deadline
from tests.fakes import Faults, MemoryDestination, MemorySource

EVENTS = Path(__file__).parents[2] / "events"
RULES = json.dumps([{"ID": "r", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}])
CSV = "source-file.csv"
ODD = "odd dir/naïve + café %2F & more.txt"


def load(name: str) -> Any:
    return json.loads((EVENTS / name).read_text())


@dataclass
class Clock:
    """Lambda's context, whose time runs out as the test says."""

    milliseconds: list[int] = field(default_factory=lambda: [60_000])

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds.pop(0) if len(self.milliseconds) > 1 else self.milliseconds[0]


@dataclass
class Parked:
    """A dead-letter queue that remembers, or is away."""

    messages: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def park(self, body: str, reason: ReplicationError) -> None:
        if self.away:
            raise Unavailable("the dead-letter queue is away")
        self.messages.append((body, reason.code))


@dataclass
class Visibility:
    """SQS, as far as it is told when messages come again: seconds by receipt handle."""

    seconds: dict[str, int] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    error: Exception | None = None
    refused: list[Mapping[str, object]] = field(default_factory=list)

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:  # noqa: N803 - boto3's
        assert QueueUrl == "https://sqs.us-east-1.amazonaws.com/123456789012/replicator-events"
        self.requests.append(len(Entries))
        if self.error:
            raise self.error
        self.seconds.update({entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries})
        return {"Failed": self.refused}


class World:
    """A service on fakes."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.source = MemorySource()
        self.destination = MemoryDestination()
        self.parked = Parked()
        self.clock = Clock()
        settings = config.load({"REPLICATION_RULES": RULES})
        self.now = 1_800_000_000.0
        self.visibility = Visibility()
        self.service = Service(settings, clock=lambda: self.now)
        self.service.wiring._clients["sqs"] = self.visibility
        self.service.replicator = Replicator(
            settings.by_source,
            source=lambda _bucket, _tags: faults.source(self.source),
            destination=lambda _location: faults.destination(self.destination),
            concurrency=4,
            circuits=Circuits(clock=lambda: self.now),
        )
        self.with_dead_letters()

    def with_dead_letters(self, *, unset: bool = False) -> None:
        self.service._dead_letters = None if unset else lambda: cast("DeadLetterQueue", self.parked)

    def handle(self, event: object) -> Any:
        self.service.deadline.begin(self.clock)
        return self.service.handle(event)


@pytest.fixture
def world(faults: Faults) -> World:
    return World(faults)


def message(id_: str, *keys: str, event: str = "ObjectCreated:Put", bucket: str = "dummy") -> dict[str, Any]:
    records = [
        {"eventVersion": "2.1", "eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
        for key in keys
    ]
    return {"messageId": id_, "eventSource": "aws:sqs", "body": json.dumps({"Records": records})}


def received(id_: str, *keys: str, receives: int = 1, age: float | None = 0.0, now: float = 1_800_000_000.0) -> Any:
    """A message as SQS hands it out, `age` seconds after it was sent."""
    return message(id_, *keys) | {
        "receiptHandle": f"handle of {id_}",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:replicator-events",
        "attributes": {"ApproximateReceiveCount": str(receives)}
        | ({} if age is None else {"SentTimestamp": str(round((now - age) * 1000))}),
    }


def queue(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(messages)}


def failed(answer: Any) -> list[str]:
    assert set(answer) == {"batchItemFailures"}
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


# --- the queue


def test_a_batch_that_is_done_names_no_failure(world: World) -> None:
    world.source.put("a", b"1")
    world.source.put("b", b"2")
    assert failed(world.handle(queue(message("m1", "a"), message("m2", "b")))) == []
    assert world.destination.keys() == {"a", "b"}


def test_only_the_message_that_failed_is_named(world: World) -> None:
    for key in "abc":
        world.source.put(key, key.encode())
    world.faults.at("destination.put", 2, raises=Unavailable("away"))
    answer = world.handle(queue(message("m1", "a"), message("m2", "b"), message("m3", "c")))
    assert len(failed(answer)) == 1
    assert len(world.destination.keys()) == 2
    assert world.parked.messages == []


def test_a_message_is_named_once_however_many_of_its_records_fail(world: World) -> None:
    world.source.put("a", b"1")
    world.source.put("b", b"2")
    world.faults.at("source.head", 1, raises=Unavailable("away"))
    world.faults.at("source.head", 2, raises=Unavailable("away"))
    assert failed(world.handle(queue(message("m1", "a", "b")))) == ["m1"]


def test_two_messages_of_one_key_share_its_fate(world: World) -> None:
    world.source.put("a", b"1")
    world.faults.at("source.head", raises=Unavailable("away"))
    assert failed(world.handle(queue(message("m1", "a"), message("m2", "a")))) == ["m1", "m2"]


def test_what_can_never_succeed_is_parked_once_with_its_reason_and_acknowledged(world: World) -> None:
    world.source.put("good", b"1")
    world.source.put("bad", b"2", user_metadata={"s3-replica-etag": "forged"})
    poison = message("m2", "bad")
    assert failed(world.handle(queue(message("m1", "good"), poison))) == []
    assert world.parked.messages == [(poison["body"], "SrcMetadataReserved")]
    assert world.destination.keys() == {"good"}


def test_the_sample_of_a_poisoned_batch_is_parked_but_for_the_good_one(world: World) -> None:
    world.source.put(CSV, b"Sample data\n")
    event = load("sqs-poison.json")
    assert failed(world.handle(event)) == []
    assert world.parked.messages == [(record["body"], "Malformed") for record in event["Records"][1:]]
    assert world.destination.keys() == {CSV}


def test_without_a_dead_letter_queue_the_hopeless_are_left_to_the_queues_own(world: World) -> None:
    world.with_dead_letters(unset=True)
    world.source.put(CSV, b"Sample data\n")
    event = load("sqs-poison.json")
    assert failed(world.handle(event)) == [record["messageId"] for record in event["Records"][1:]]


def test_what_cannot_be_parked_is_a_failure_like_any_other(world: World) -> None:
    world.parked.away = True
    assert failed(world.handle(queue({"messageId": "m1", "eventSource": "aws:sqs", "body": "no JSON"}))) == ["m1"]


def test_a_message_both_hopeless_and_not_is_tried_again_and_not_parked(world: World) -> None:
    world.source.put("bad", b"1", user_metadata={"s3-replica-etag": "forged"})
    world.source.put("later", b"2")
    world.faults.at("destination.put", raises=Unavailable("away"))
    assert failed(world.handle(queue(message("m1", "bad", "later")))) == ["m1"]
    assert world.parked.messages == []


def test_a_bucket_without_a_rule_is_parked(world: World) -> None:
    assert failed(world.handle(queue(message("m1", "k", bucket="another")))) == []
    assert [code for _, code in world.parked.messages] == ["SrcBucketReplicationConfigMissing"]


def test_a_failed_message_that_cannot_be_named_fails_the_batch(world: World) -> None:
    world.source.put("a", b"1")
    world.faults.at("source.head", raises=Unavailable("away"))
    nameless = message("", "a")
    del nameless["messageId"]
    with pytest.raises(Unavailable):
        world.handle(queue(nameless))


def test_a_test_event_is_acknowledged(world: World) -> None:
    body = json.dumps(load("s3-test-event.json"))
    assert failed(world.handle(queue({"messageId": "m1", "eventSource": "aws:sqs", "body": body}))) == []
    assert world.handle(load("s3-test-event.json")) is None
    assert (world.parked.messages, world.faults.calls) == ([], [])


@pytest.mark.parametrize(("receives", "first"), [("1", "source.open"), ("2", "destination.head")])
def test_a_redelivered_message_is_not_guessed_to_be_news(world: World, receives: str, first: str) -> None:
    event = load("sqs-s3-put.json")
    world.source.put(CSV, b"Sample data\n")
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = receives
    world.handle(event)
    assert world.faults.calls[0] == first


# --- when what failed comes again


def test_what_failed_comes_again_after_seconds_and_what_did_not_is_left_alone(world: World) -> None:
    world.source.put("a", b"1")
    world.source.put("b", b"2")
    world.faults.at("source.head", 1, raises=Unavailable("away"))
    answer = world.handle(queue(received("m1", "a"), received("m2", "b")))
    (id_,) = failed(answer)
    assert list(world.visibility.seconds) == [f"handle of {id_}"]
    assert set(world.visibility.seconds.values()) <= {1, 2}


@pytest.mark.parametrize(
    ("receives", "age", "least", "most"),
    [
        (3, 100.0, 4, 8),
        (9, 100.0, 25, 50),
        (100, 40_000.0, 1260, 1350),
        (4, None, 8, 16),
        (10**12, 40_000.0, 1260, 1350),
    ],
)
def test_the_delay_grows_with_the_receives_and_the_age(
    world: World, receives: int, age: float | None, least: int, most: int
) -> None:
    world.faults.at("destination.head", raises=Unavailable("away"))
    world.handle(queue(received("m1", "a", receives=receives, age=age)))
    assert least <= world.visibility.seconds["handle of m1"] <= most


def test_ten_messages_are_postponed_by_one_request(world: World) -> None:
    world.faults.at("source.head", raises=Unavailable("away"))
    world.handle(queue(*(received(f"m{number}", "a") for number in range(25))))
    assert world.visibility.requests == [10, 10, 5]
    assert len(world.visibility.seconds) == 25


def test_redelivered_messages_come_again_one_by_one_should_the_invocation_crash(world: World) -> None:
    def crash() -> None:
        raise KeyboardInterrupt

    world.faults.at("destination.head", then=crash)
    batch = [received(f"m{number}", f"k{number}", receives=2) for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        world.handle(queue(*batch, received("new", "new")))
    left = world.service.deadline.left() + MARGIN
    assert world.visibility.seconds.keys() == {f"handle of m{number}" for number in range(5)}
    assert len(set(world.visibility.seconds.values())) > 1
    assert all(
        left + AFTERMATH <= seconds <= left + AFTERMATH + APART + 1 for seconds in world.visibility.seconds.values()
    )


def test_a_batch_of_new_messages_costs_the_queue_no_request(world: World) -> None:
    world.source.put("a", b"1")
    world.handle(queue(received("m1", "a"), received("m2", "b")))
    assert world.visibility.requests == []


def test_what_is_in_parts_looks_again_by_the_same_schedule(world: World) -> None:
    world.faults.at("destination.head", raises=Unavailable("being copied", code="InParts"))
    assert failed(world.handle(queue(received("m1", "a", receives=4, age=None)))) == ["m1"]
    assert 8 <= world.visibility.seconds["handle of m1"] <= 16


@pytest.mark.parametrize(("wait", "least", "most"), [(1.0, 1, 1), (0.2, 1, 1), (90.0, 90, 90), (10_000.0, 1260, 1350)])
def test_work_that_goes_on_comes_again_as_soon_as_it_asks(world: World, wait: float, least: int, most: int) -> None:
    world.faults.at("destination.head", raises=Unavailable("half is done", code="InRewrite", wait=wait))
    world.handle(queue(received("m1", "a", receives=100, age=40_000.0)))
    assert least <= world.visibility.seconds["handle of m1"] <= most


def test_what_failed_beside_work_that_goes_on_has_the_longer_delay(world: World) -> None:
    world.faults.at("destination.head", 1, raises=Unavailable("half is done", code="InRewrite", wait=1.0))
    world.faults.at("destination.head", 2, raises=Unavailable("away"))
    world.handle(queue(received("m1", "a", "b", receives=100, age=40_000.0)))
    assert world.visibility.seconds["handle of m1"] >= 1260


@pytest.mark.parametrize("error", [EndpointConnectionError(endpoint_url="x"), ClientError({}, "ChangeMessage...")])
def test_a_delay_that_sqs_does_not_take_leaves_the_visibility_timeout(world: World, error: Exception) -> None:
    world.visibility.error = error
    world.faults.at("source.head", raises=Unavailable("away"))
    assert failed(world.handle(queue(received("m1", "a")))) == ["m1"]


def test_a_message_whose_receipt_is_unknown_fails_as_ever(world: World) -> None:
    world.faults.at("source.head", raises=Unavailable("away"))
    assert failed(world.handle(queue(message("m1", "a")))) == ["m1"]
    assert world.visibility.requests == []


def test_what_the_dead_letter_queue_does_not_take_is_postponed_too(world: World) -> None:
    world.parked.away = True
    body = {**received("m1"), "body": "no JSON"}
    assert failed(world.handle(queue(body))) == ["m1"]
    assert list(world.visibility.seconds) == ["handle of m1"]


FORTNIGHT = 14 * 24 * 3600


@pytest.mark.parametrize(("age", "parked"), [(FORTNIGHT - 3601, []), (FORTNIGHT - 3600, ["Expired"])])
def test_a_message_that_the_queue_is_about_to_drop_is_parked(world: World, age: float, parked: list[str]) -> None:
    world.faults.at("destination.head", raises=Unavailable("away", code="Dst503"))
    answer = failed(world.handle(queue(received("m1", "a", receives=900, age=age))))
    assert [code for _, code in world.parked.messages] == parked
    assert answer == ([] if parked else ["m1"])


@pytest.mark.parametrize(("receives", "parked"), [(9, []), (10, ["Corrupt"]), (500, ["Corrupt"])])
def test_what_is_corrupt_each_time_is_not_read_for_fourteen_days(
    world: World, receives: int, parked: list[str]
) -> None:
    world.source.put("a", b"1")
    world.faults.at("destination.put", raises=Corrupt("not what S3 holds"))
    answer = failed(world.handle(queue(received("m1", "a", receives=receives))))
    assert [code for _, code in world.parked.messages] == parked
    assert answer == ([] if parked else ["m1"])


def test_what_is_corrupt_beside_a_side_that_is_away_is_tried_again(world: World) -> None:
    for key in "ab":
        world.source.put(key, b"1")
    world.faults.at("destination.put", 1, raises=Corrupt("not what S3 holds"))
    world.faults.at("destination.put", 2, raises=Unavailable("away"))
    assert failed(world.handle(queue(received("m1", "a", "b", receives=500)))) == ["m1"]
    assert world.parked.messages == []


def test_an_old_message_that_succeeds_is_done(world: World) -> None:
    world.source.put("a", b"1")
    assert failed(world.handle(queue(received("m1", "a", receives=900, age=FORTNIGHT)))) == []
    assert (world.parked.messages, world.destination.keys()) == ([], {"a"})


# --- while a side is down


def test_while_the_destination_is_down_neither_side_is_asked(world: World) -> None:
    for number in range(OPENS_AFTER):
        world.faults.at("destination.head", number + 1, raises=Unavailable("away", code="Dst503"))
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        world.source.put(key, b"1")
    again = [received(f"m-{key}", key, receives=2) for key in keys]
    for message_ in again:
        assert failed(world.handle(queue(message_))) == [message_["messageId"]]
    assert len(world.faults.calls) == OPENS_AFTER
    assert len(world.visibility.seconds) == len(keys)


def test_a_direct_event_fails_at_once_while_a_side_is_down(world: World) -> None:
    for number in range(OPENS_AFTER):
        world.faults.at("destination.head", number + 1, raises=Unavailable("away", code="Dst503"))
        world.handle(queue(received("m", f"k{number}", receives=2)))
    with pytest.raises(CircuitOpen, match="gs://copies"):
        world.handle(load("s3-put.json"))
    assert len(world.faults.calls) == OPENS_AFTER


# --- direct


def test_a_direct_event_answers_nothing_once_all_is_done(world: World) -> None:
    world.source.put(CSV, b"Sample data\n")
    assert world.handle(load("s3-put.json")) is None
    assert world.destination.data(CSV) == b"Sample data\n"


def test_a_direct_event_raises_only_after_all_were_tried(world: World) -> None:
    world.source.put(CSV, b"1")
    world.source.put("reports/2026/summary.csv", b"2")
    world.faults.at("destination.put", 1, raises=Unavailable("away"))
    with pytest.raises(Unavailable):
        world.handle(load("s3-several-records.json"))
    assert len(world.destination.keys()) == 1


def test_a_direct_event_that_can_never_succeed_is_parked(world: World) -> None:
    world.source.put(CSV, b"1", user_metadata={"s3-replica-etag": "forged"})
    event = load("s3-put.json")
    assert world.handle(event) is None
    ((body, code),) = world.parked.messages
    assert (json.loads(body), code) == (event, "SrcMetadataReserved")


def test_a_direct_event_that_can_never_succeed_raises_where_it_cannot_be_parked(world: World) -> None:
    world.with_dead_letters(unset=True)
    world.source.put(CSV, b"1", user_metadata={"s3-replica-etag": "forged"})
    with pytest.raises(Refused):
        world.handle(load("s3-put.json"))


@pytest.mark.parametrize("event", [None, 7, [], {}, {"Records": []}, {"Records": [{}]}, "text"])
def test_what_is_no_event_at_all_is_malformed(world: World, event: object) -> None:
    with pytest.raises(Malformed):
        world.handle(event)


@pytest.mark.parametrize(
    "name",
    [path.name for path in sorted(EVENTS.glob("*.json")) if "gateway" not in path.name and "url" not in path.name],
)
def test_every_sample_event_is_answered(world: World, name: str) -> None:
    for key in (CSV, ODD, "updated-file.csv", "reports/2026/summary.csv"):
        world.source.put(key, b"Sample data\n")
    answer = world.handle(load(name))
    if name.startswith("sqs-"):
        assert failed(answer) == []
    elif name.startswith("batch-"):
        assert [result["resultCode"] for result in answer["results"]] == ["Succeeded", "Succeeded"]
    else:
        assert answer is None


# --- batch operations


@pytest.mark.parametrize("schema", ["1.0", "2.0"])
def test_batch_operations_is_told_each_tasks_result(world: World, schema: str) -> None:
    world.source.put(CSV, b"Sample data\n")
    world.source.put(ODD, b"Sample data\n")
    event = load(f"batch-operations-{schema}.json")
    answer = world.handle(event)
    assert answer == {
        "invocationSchemaVersion": schema,
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": event["invocationId"],
        "results": [
            {
                "taskId": task["taskId"],
                "resultCode": "Succeeded",
                "resultString": f"Copied, 12 bytes: gs://copies/{key}",
            }
            for task, key in zip(event["tasks"], (CSV, ODD), strict=True)
        ],
    }
    assert world.destination.keys() == {CSV, ODD}


@pytest.mark.parametrize("schema", ["1.0", "2.0"])
def test_batch_operations_is_told_what_to_try_again_and_what_not(world: World, schema: str) -> None:
    world.source.put(CSV, b"x")
    world.source.put(ODD, b"x", user_metadata={"s3-replica-etag": "forged"})
    world.faults.at("destination.put", raises=Unavailable("away", code="DstUnavailable"))
    event = load(f"batch-operations-{schema}.json")
    event["tasks"].append({"taskId": "odd"})
    results = world.handle(event)["results"]
    assert [(item["resultCode"], item["resultString"].partition(":")[0]) for item in results] == [
        ("TemporaryFailure", "DstUnavailable"),
        ("PermanentFailure", "SrcMetadataReserved"),
        ("PermanentFailure", "Malformed"),
    ]
    assert all(len(item["resultString"]) <= 1024 for item in results)
    assert world.parked.messages == [], "Batch Operations keeps its own report"


# --- time


def test_no_time_left_is_a_failure_that_comes_again(world: World) -> None:
    world.source.put("a", b"1")
    world.clock = Clock([int(MARGIN * 1000)])
    assert failed(world.handle(queue(message("m1", "a")))) == ["m1"]
    assert world.destination.keys() == set()
    assert world.parked.messages == []


def test_time_that_runs_out_between_keys_fails_just_the_rest(world: World) -> None:
    for key in "abcdefgh":
        world.source.put(key, b"1")
    world.clock = Clock([60_000] * 4 + [0])
    answer = failed(world.handle(queue(*(message(f"m-{key}", key) for key in "abcdefgh"))))
    assert 0 < len(answer) < 9
    world.clock = Clock()
    assert failed(world.handle(queue(*(message(f"m-{key}", key) for key in "abcdefgh")))) == []
    assert world.destination.keys() == set("abcdefgh")


@pytest.mark.parametrize(
    ("milliseconds", "ahead"), [(60_000, True), (5001, True), (5000, False), (0, False), (-9, False)]
)
def test_a_deadline_keeps_a_margin_back(milliseconds: int, *, ahead: bool) -> None:
    deadline = Deadline()
    assert not deadline.is_ahead(), "before any invocation"
    deadline.begin(Clock([milliseconds]))
    assert deadline.is_ahead() is ahead
    assert deadline.left() == milliseconds / 1000 - MARGIN


# --- the entry


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """The world behind `lambda_handler`."""
    app._service.cache_clear()
    monkeypatch.setattr(app, "_service", lambda: world.service)
    return world


@pytest.mark.parametrize("name", ["function-url.json", "api-gateway-http.json", "api-gateway-rest.json"])
def test_http_is_answered_through_the_entry(entry: World, name: str) -> None:
    entry.source.put(CSV, b"Sample data\n")
    answers = [json.loads(app.lambda_handler(load(name), entry.clock)["body"]) for _ in range(2)]
    assert answers == [{"status": "Success"}, {"status": "Already Exists"}]
    entry.source.delete(CSV)
    assert app.lambda_handler(load(name), entry.clock)["statusCode"] == 404


def test_events_are_answered_through_the_entry(entry: World) -> None:
    entry.source.put(CSV, b"Sample data\n")
    assert app.lambda_handler(load("s3-put.json"), entry.clock) is None
    assert app.lambda_handler(load("sqs-s3-put.json"), entry.clock) == {"batchItemFailures": []}


def test_another_method_is_refused_through_the_entry(entry: World) -> None:
    assert app.lambda_handler(load("function-url-get.json"), entry.clock)["statusCode"] == 405


def test_no_time_left_is_trouble_that_can_be_tried_again(entry: World) -> None:
    entry.source.put(CSV, b"x")
    answer = app.lambda_handler(load("function-url.json"), Clock([0]))
    assert (answer["statusCode"], json.loads(answer["body"])["retryable"]) == (500, True)


def test_a_wrong_configuration_stops_the_function_with_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    app._service.cache_clear()
    monkeypatch.setenv("REPLICATION_RULES", '[{"Status": "on"}]')
    with pytest.raises(config.ConfigurationError, match=r"(?s)Source.*Destination.*Status") as caught:
        app.lambda_handler(load("s3-put.json"), Clock())
    assert len(caught.value.faults) == 3
