"""The custom resource against moto's S3, on a bucket with others' notifications, and a CloudFormation of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from handler.tools import notifications
from handler.tools.notification_document import LISTS, NotificationError, filter_of, is_same
from handler.tools.notifications import lambda_handler, perform

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ARN = "arn:aws:{}:us-east-1:123456789012:{}"
QUEUE = ARN.format("sqs", "replicator-events")
OTHERS: Any = {
    "QueueConfigurations": [
        {"Id": "thumbnails", "QueueArn": ARN.format("sqs", "thumbnails"), "Events": ["s3:ObjectRestore:Post"]}
    ],
    "TopicConfigurations": [
        {
            "Id": "audit",
            "TopicArn": ARN.format("sns", "audit"),
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "private/"}]}},
        }
    ],
    "LambdaFunctionConfigurations": [
        {
            "Id": "index",
            "LambdaFunctionArn": ARN.format("lambda", "function:index"),
            "Events": ["s3:ObjectRemoved:Delete"],
            "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".idx"}]}},
        }
    ],
}


def request(kind: str, bucket: str, **properties: Any) -> dict[str, Any]:
    """What CloudFormation sends; `old` is what the properties were before."""
    old = properties.pop("old", {})
    given = {
        "Bucket": bucket,
        "ConfigurationId": "replicator",
        "QueueArn": QUEUE,
        "Delivery": "Direct",
        "Prefix": "in/",
        "Suffix": ".csv",
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
    } | properties
    return {"RequestType": kind, "ResourceProperties": given, "OldResourceProperties": given | old}


class Clock:
    """Sleeps in no time, and lets something happen meanwhile; a long sleep has a happening of its own."""

    def __init__(self, *happenings: Any, overlap: Any = None) -> None:
        self.happenings = list(happenings)
        self.overlap = overlap

    def __call__(self, seconds: float) -> None:
        if seconds == notifications.OVERLAP:
            assert self.overlap, "it waits for both kinds of delivery without need"
            self.overlap()
            return
        assert 0 < seconds < 5
        if self.happenings:
            self.happenings.pop(0)()


def configured(s3: S3Client, bucket: str) -> dict[str, Any]:
    answer: dict[str, Any] = dict(s3.get_bucket_notification_configuration(Bucket=bucket))
    del answer["ResponseMetadata"]
    return answer


def ids(configuration: dict[str, Any]) -> list[str]:
    return sorted(entry["Id"] for name in LISTS for entry in configuration.get(name, []))


@pytest.fixture
def shared(s3: S3Client, s3_url: str, bucket: str) -> str:
    """A bucket that three others have put their notifications on."""
    sns = boto3.client("sns", endpoint_url=s3_url)
    for name in ("audit", "late"):  # moto sends them the test event
        sns.create_topic(Name=name)
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=OTHERS, SkipDestinationValidation=True
    )
    assert ids(configured(s3, bucket)) == ["audit", "index", "thumbnails"]
    return bucket


def test_ours_comes_beside_the_others_and_goes_alone(s3: S3Client, shared: str) -> None:
    before = configured(s3, shared)
    assert perform(request("Create", shared), s3, sleep=Clock()) == f"{shared}/replicator"
    assert ids(configured(s3, shared)) == ["audit", "index", "replicator", "thumbnails"]
    ours = next(entry for entry in configured(s3, shared)["QueueConfigurations"] if entry["Id"] == "replicator")
    assert ours["QueueArn"] == QUEUE
    assert filter_of(ours) == ("in/", ".csv")
    perform(request("Delete", shared), s3, sleep=Clock())
    assert is_same(configured(s3, shared), before)


def test_a_bucket_without_notifications_is_empty_again_afterwards(s3: S3Client, bucket: str) -> None:
    perform(request("Create", bucket), s3, sleep=Clock())
    perform(request("Delete", bucket), s3, sleep=Clock())
    assert ids(configured(s3, bucket)) == []


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_all_may_be_asked_for_twice(s3: S3Client, shared: str, kind: str) -> None:
    for _ in range(2):
        perform(request(kind, shared), s3, sleep=Clock())
    assert ids(configured(s3, shared)) == sorted(["audit", "index", "thumbnails"] + ["replicator"] * (kind != "Delete"))


def test_what_is_there_already_is_not_written_again(s3: S3Client, shared: str) -> None:
    perform(request("Create", shared), s3, sleep=Clock())

    def never(_: float) -> None:
        raise AssertionError("it was written")

    perform(request("Create", shared), s3, sleep=never)


def test_an_update_replaces_queue_and_filter(s3: S3Client, shared: str) -> None:
    perform(request("Create", shared, QueueArn=f"{QUEUE}-old"), s3, sleep=Clock())
    perform(
        request(
            "Update", shared, Prefix="", Suffix="", Events=["s3:ObjectTagging:*"], old={"QueueArn": f"{QUEUE}-old"}
        ),
        s3,
        sleep=Clock(),
    )
    ours = [entry for entry in configured(s3, shared)["QueueConfigurations"] if entry["Id"] == "replicator"]
    assert [entry["QueueArn"] for entry in ours] == [QUEUE]
    assert filter_of(ours[0]) == ("", "")


class Kept:
    """Notifications as S3 keeps them, EventBridge's among them, which moto accepts and does not tell of."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = json.loads(json.dumps(OTHERS))

    def get_bucket_notification_configuration(self, **_: str) -> dict[str, Any]:
        return {"ResponseMetadata": {}, **json.loads(json.dumps(self.now))}

    def put_bucket_notification_configuration(self, *, NotificationConfiguration: Any, **_: Any) -> None:  # noqa: N803 - boto3's name
        self.now = NotificationConfiguration


class Overlap:
    """Notes what is configured while both kinds of delivery are to overlap."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.seen = kept, list[tuple[bool, bool]]()

    def __call__(self) -> None:
        self.seen.append(("replicator" in ids(self.kept.now), "EventBridgeConfiguration" in self.kept.now))


def test_going_over_to_event_bridge_overlaps_both_then_takes_ours_away_and_leaves_it_on() -> None:
    kept = Kept()
    perform(request("Create", "shared"), kept, sleep=Clock())
    assert "EventBridgeConfiguration" not in kept.now
    overlap = Overlap(kept)
    switch = request("Update", "shared", Delivery="EventBridge", old={"Delivery": "Direct"})
    perform(switch, kept, sleep=Clock(overlap=overlap))
    assert overlap.seen == [(True, True)], "S3 takes about five minutes to begin with EventBridge"
    assert kept.now == OTHERS | {"EventBridgeConfiguration": {}}
    perform(request("Delete", "shared", Delivery="EventBridge"), kept, sleep=Clock())
    assert kept.now == OTHERS | {"EventBridgeConfiguration": {}}  # others may listen


def test_going_back_from_event_bridge_overlaps_both() -> None:
    kept = Kept()
    perform(request("Create", "shared", Delivery="EventBridge"), kept, sleep=Clock(overlap=Overlap(kept)))
    overlap = Overlap(kept)
    switch = request("Update", "shared", old={"Delivery": "EventBridge"})
    perform(switch, kept, sleep=Clock(overlap=overlap))
    assert overlap.seen == [(True, True)], "CloudFormation takes the rule away once the update is answered"


def test_a_new_stack_by_event_bridge_is_made_only_when_events_come() -> None:
    kept = Kept()
    overlap = Overlap(kept)
    perform(request("Create", "shared", Delivery="EventBridge"), kept, sleep=Clock(overlap=overlap))
    assert overlap.seen == [(False, True)]


@pytest.mark.parametrize("delivery", ["Direct", "EventBridge"])
def test_an_update_of_something_else_waits_for_nothing(delivery: str) -> None:
    kept = Kept()
    perform(request("Create", "shared", Delivery=delivery), kept, sleep=Clock(overlap=Overlap(kept)))
    perform(request("Update", "shared", Delivery=delivery, Prefix="out/", old={"Prefix": "in/"}), kept, sleep=Clock())


def test_event_bridge_that_is_on_stays_on() -> None:
    kept = Kept()
    kept.now["EventBridgeConfiguration"] = {}
    perform(request("Create", "shared"), kept, sleep=Clock())
    assert kept.now["EventBridgeConfiguration"] == {}
    perform(request("Delete", "shared"), kept, sleep=Clock())
    assert kept.now == OTHERS | {"EventBridgeConfiguration": {}}


@pytest.mark.parametrize(
    ("prefix", "suffix", "named"),
    [
        ("", "", ["audit", "index"]),
        ("private/in", ".csv", ["audit"]),
        ("priv", ".csv", ["audit"]),
        ("in/", "", ["index"]),
    ],
)
def test_an_overlap_is_named_before_anything_is_written(
    s3: S3Client, shared: str, prefix: str, suffix: str, named: list[str]
) -> None:
    before = configured(s3, shared)
    with pytest.raises(NotificationError) as failed:
        perform(request("Create", shared, Prefix=prefix, Suffix=suffix), s3, sleep=Clock())
    for name in ("audit", "index", "thumbnails"):
        assert (f"'{name}'" in str(failed.value)) == (name in named)
    assert "EventDelivery" in str(failed.value)
    assert configured(s3, shared) == before


def test_names_of_filters_are_the_same_in_capitals_as_s3_answers_them() -> None:
    answered = json.loads(json.dumps(OTHERS).replace('"prefix"', '"Prefix"').replace('"suffix"', '"Suffix"'))
    assert is_same(OTHERS, answered)
    assert filter_of(answered["TopicConfigurations"][0]) == ("private/", "")


def test_event_bridge_knows_no_overlap() -> None:
    kept = Kept()
    create = request("Create", "shared", Prefix="", Suffix="", Delivery="EventBridge")
    perform(create, kept, sleep=Clock(overlap=Overlap(kept)))
    assert kept.now == OTHERS | {"EventBridgeConfiguration": {}}


FILTERS = [
    ("in/", "in/"),
    ("table/dt=2026/", "table/dt%3D2026/"),
    ("a b/", "a+b/"),
    ("a+b/", "a%2Bb/"),
    ("x@y/", "x%40y/"),
    ("ü/", "%C3%BC/"),
    ("it's_(a).b-c!/", "it's_(a).b-c!/"),
]


@pytest.mark.parametrize(("given", "stored"), FILTERS)
def test_a_filter_is_written_url_encoded(s3: S3Client, bucket: str, given: str, stored: str) -> None:
    """Else S3 tells of no key with a special character, in silence."""
    perform(request("Create", bucket, Prefix=given, Suffix=given), s3, sleep=Clock())
    (ours,) = configured(s3, bucket)["QueueConfigurations"]
    assert {rule["Value"] for rule in ours["Filter"]["Key"]["FilterRules"]} == {stored}
    assert filter_of(ours) == (given, given)


def test_an_update_replaces_a_filter_that_is_not_encoded(s3: S3Client, bucket: str) -> None:
    """As releases before wrote it."""
    perform(request("Create", bucket, Prefix="dt=2026/"), s3, sleep=Clock())
    raw: Any = configured(s3, bucket)
    raw["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"] = [{"Name": "prefix", "Value": "dt=2026/"}]
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=raw, SkipDestinationValidation=True
    )
    perform(request("Update", bucket, Prefix="dt=2026/", Suffix=""), s3, sleep=Clock())
    (ours,) = configured(s3, bucket)["QueueConfigurations"]
    assert [rule["Value"] for rule in ours["Filter"]["Key"]["FilterRules"]] == ["dt%3D2026/"]


def test_an_overlap_is_seen_through_the_encoding(s3: S3Client, bucket: str) -> None:
    theirs: Any = {"Id": "theirs", "QueueArn": ARN.format("sqs", "theirs"), "Events": ["s3:ObjectCreated:*"]}
    theirs["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "dt%3D2026/month%3D1/"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [theirs]}, SkipDestinationValidation=True
    )
    with pytest.raises(NotificationError, match=r"'theirs' .*keys dt=2026/month=1/\*"):
        perform(request("Create", bucket, Prefix="dt=2026/", Suffix=""), s3, sleep=Clock())


def test_our_name_in_use_by_another_is_refused_and_never_removed(s3: S3Client, bucket: str) -> None:
    perform(request("Create", bucket, QueueArn=ARN.format("sqs", "of-another")), s3, sleep=Clock())
    before = configured(s3, bucket)
    with pytest.raises(NotificationError, match="is not of this stack"):
        perform(request("Create", bucket), s3, sleep=Clock())
    perform(request("Delete", bucket), s3, sleep=Clock())  # what CloudFormation does after a failure
    assert configured(s3, bucket) == before


def test_a_writer_in_between_costs_another_turn(s3: S3Client, shared: str) -> None:
    """Another had read before we wrote, and writes back what it read and its own."""
    theirs = {"Id": "late", "TopicArn": ARN.format("sns", "late"), "Events": ["s3:ReducedRedundancyLostObject"]}

    def write() -> None:
        s3.put_bucket_notification_configuration(
            Bucket=shared,
            NotificationConfiguration=OTHERS | {"TopicConfigurations": [*OTHERS["TopicConfigurations"], theirs]},
            SkipDestinationValidation=True,
        )

    clock = Clock(write)
    perform(request("Create", shared), s3, sleep=clock)
    assert not clock.happenings
    assert ids(configured(s3, shared)) == ["audit", "index", "late", "replicator", "thumbnails"]


def test_a_writer_that_never_stops_is_reported(s3: S3Client, shared: str) -> None:
    def write() -> None:
        s3.put_bucket_notification_configuration(
            Bucket=shared, NotificationConfiguration=OTHERS, SkipDestinationValidation=True
        )

    with pytest.raises(NotificationError, match="keeps replacing"):
        perform(request("Create", shared), s3, sleep=Clock(*[write] * 9))


def test_a_delete_that_another_writer_undoes_each_time_fails(s3: S3Client, shared: str) -> None:
    """Else the bucket names a queue that is gone, and S3 refuses what others write."""
    perform(request("Create", shared), s3, sleep=Clock())
    before: Any = configured(s3, shared)

    def write() -> None:
        s3.put_bucket_notification_configuration(
            Bucket=shared, NotificationConfiguration=before, SkipDestinationValidation=True
        )

    with pytest.raises(NotificationError, match="keeps replacing"):
        perform(request("Delete", shared), s3, sleep=Clock(*[write] * 9))


def test_a_bucket_that_is_gone_has_nothing_of_ours(s3: S3Client) -> None:
    perform(request("Delete", "no-such-bucket-anywhere"), s3, sleep=Clock())
    with pytest.raises(ClientError):
        perform(request("Create", "no-such-bucket-anywhere"), s3, sleep=Clock())


class Refusing:
    """An S3 that refuses to read, or to write, so many times."""

    def __init__(self, s3: Any, code: str, *, reads: int = 0, writes: int = 0) -> None:
        self._s3, self._code, self.reads, self.writes = s3, code, reads, writes

    def get_bucket_notification_configuration(self, **arguments: Any) -> Any:
        if self.reads:
            self.reads -= 1
            raise ClientError({"Error": {"Code": self._code, "Message": "not yet"}}, "Get")
        return self._s3.get_bucket_notification_configuration(**arguments)

    def put_bucket_notification_configuration(self, **arguments: Any) -> Any:
        if self.writes:
            self.writes -= 1
            raise ClientError({"Error": {"Code": self._code, "Message": "Unable to validate"}}, "Put")
        return self._s3.put_bucket_notification_configuration(**arguments)


@pytest.mark.parametrize("code", ["AccessDenied", "OperationAborted", "SlowDown"])
@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(s3: S3Client, bucket: str, kind: str, code: str) -> None:
    perform(request("Create", bucket, Prefix="old/"), s3, sleep=Clock())
    refusing = Refusing(s3, code, reads=2, writes=2)
    perform(request(kind, bucket), refusing, sleep=Clock())
    assert (refusing.reads, refusing.writes) == (0, 0)
    assert ids(configured(s3, bucket)) == ["replicator"] * (kind != "Delete")


@pytest.mark.parametrize("kind", ["Create", "Delete"])
def test_a_read_that_stays_refused_says_where_to_look(s3: S3Client, bucket: str, kind: str) -> None:
    with pytest.raises(NotificationError, match=rf"cannot read .* {bucket}: AccessDenied: .*SourceBucketOwner"):
        perform(request(kind, bucket), Refusing(s3, "AccessDenied", reads=99), sleep=Clock())


def test_a_policy_that_is_not_known_everywhere_yet_is_waited_for(s3: S3Client, bucket: str) -> None:
    refusing = Refusing(s3, "InvalidArgument", writes=2)
    perform(request("Create", bucket), refusing, sleep=Clock())
    assert ids(configured(s3, bucket)) == ["replicator"]


def test_a_refusal_that_stays_says_where_to_look(s3: S3Client, bucket: str) -> None:
    with pytest.raises(NotificationError, match=r"Unable to validate.*the queue's policy"):
        perform(request("Create", bucket), Refusing(s3, "InvalidArgument", writes=99), sleep=Clock())


# --- another source bucket


def test_another_source_bucket_is_refused_before_anything_is_written(s3: S3Client, bucket: str) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    perform(request("Create", bucket), s3, sleep=Clock())
    changed = request("Update", other, old={"Bucket": bucket}) | {"PhysicalResourceId": f"{bucket}/replicator"}
    with pytest.raises(NotificationError, match=rf"from {bucket} to {other}.*another stack"):
        perform(changed, s3, sleep=Clock())
    assert (ids(configured(s3, bucket)), ids(configured(s3, other))) == (["replicator"], [])


def test_the_roll_back_of_another_source_bucket_succeeds(s3: S3Client, bucket: str) -> None:
    """CloudFormation then asks for an update from the bucket that was refused to the one that is."""
    perform(request("Create", bucket), s3, sleep=Clock())
    rolled = request("Update", bucket, old={"Bucket": "refused"}) | {"PhysicalResourceId": f"{bucket}/replicator"}
    assert perform(rolled, s3, sleep=Clock()) == f"{bucket}/replicator"
    assert ids(configured(s3, bucket)) == ["replicator"]


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_the_guard_asks_nothing_of_the_bucket(kind: str) -> None:
    guard = {"ResourceType": notifications.GUARD, "RequestType": kind, "ResourceProperties": {"Bucket": "one"}}
    nobody: Any = None
    assert perform(guard, nobody) == "one"
    assert perform(guard | {"PhysicalResourceId": "one"}, nobody) == "one"
    if kind == "Update":
        with pytest.raises(NotificationError, match="from two to one"):
            perform(guard | {"PhysicalResourceId": "two"}, nobody)


@pytest.fixture
def cloud_formation() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where answers are put, and those that came."""
    answers: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            assert not self.headers["Content-Type"]  # the presigned URL was signed without
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    thread.join()
    server.server_close()


def answered(
    cloud_formation: tuple[str, list[dict[str, Any]]], event: dict[str, Any], monkeypatch: pytest.MonkeyPatch, s3: Any
) -> dict[str, Any]:
    url, answers = cloud_formation
    monkeypatch.setattr("handler.tools.notifications.boto3.client", lambda *_, **__: s3)
    monkeypatch.setattr(notifications, "SETTLING", 0.0)
    monkeypatch.setattr("handler.tools.notifications.random.random", lambda: 0.0)
    told = {"ResponseURL": url, "StackId": "stack", "RequestId": "request", "LogicalResourceId": "BucketNotification"}
    lambda_handler(event | told, None)
    assert len(answers) == 1
    assert {answers[0][name] for name in ("StackId", "RequestId")} == {"stack", "request"}
    return answers[0]


def test_cloud_formation_is_answered(
    cloud_formation: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, s3: S3Client, bucket: str
) -> None:
    answer = answered(cloud_formation, request("Create", bucket), monkeypatch, s3)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", f"{bucket}/replicator")


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"RequestType": "Create"},
        {"RequestType": "Create", "ResourceProperties": {}},
        request("Frobnicate", "some-bucket"),
        request("Create", "no-such-bucket-anywhere"),
        request("Update", "no-such-bucket-anywhere") | {"PhysicalResourceId": "it/was"},
    ],
    ids=["nothing", "no properties", "empty properties", "unknown type", "no bucket", "update"],
)
def test_cloud_formation_is_answered_whatever_happens(
    cloud_formation: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    s3: S3Client,
    event: dict[str, Any],
) -> None:
    answer = answered(cloud_formation, event, monkeypatch, s3)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"]
    assert answer["PhysicalResourceId"] == event.get("PhysicalResourceId", answer["PhysicalResourceId"])


def test_what_is_built_for_the_function_starts_without_the_rest_of_the_handler(tmp_path: Path) -> None:
    make = ["make", "-s", "-C", "handler", "build-BucketNotificationFunction", f"ARTIFACTS_DIR={tmp_path}"]
    subprocess.run(make, check=True, cwd=Path(__file__).parents[2])
    start = "import handler.tools.notifications as built; print(built.__file__)"
    started = subprocess.run([sys.executable, "-c", start], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert started.stdout.strip() == str(tmp_path / "handler/tools/notifications.py")
