"""Rules as S3 has them: which object goes where, by which rule, under which name and in which class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local_emulator.gcs import GcsServer
from local_emulator.process import EmulatorProcess
from local_emulator.settings import StartError
from tests.e2e.support import Desk, eventually, s3_of
from tests.functional.fault_proxy import FaultProxy, PlannedFault, fault_proxy
from tests.functional.rig import BODY, Rig, Told, assert_nothing_secret, message, record, rig_on


@pytest.fixture(scope="module")
def rig(s3_url: str, gcs_server: GcsServer) -> Iterator[Rig]:
    with rig_on(s3_url, gcs_server.url) as rig:
        yield rig


@pytest.fixture
def proxy(gcs_server: GcsServer) -> Iterator[FaultProxy]:
    with fault_proxy(gcs_server.url) as proxy:
        yield proxy
        proxy.check()


def rule(name: str, source: str, destination: str, **fields: Any) -> dict[str, Any]:
    """A rule; what it has of `Destination` beyond the bucket comes as `to`."""
    to = fields.pop("to", {})
    return {"ID": name, "Source": {"Bucket": source}, "Destination": {"Bucket": destination, **to}, **fields}


class Rules:
    """One source bucket and two destinations, and what becomes of objects by given rules."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.source, self.other = rig.bucket(), rig.bucket()
        self.one, self.two = rig.copies(), rig.copies()
        self.to_one, self.to_two = f"gs://{self.one.name}", f"gs://{self.two.name}"

    def replicate(
        self,
        *rules: Mapping[str, Any],
        key: str = "a/k",
        tags: Mapping[str, str] | None = None,
        bucket: str = "",
        **more: Any,
    ) -> Told:
        bucket = bucket or self.source
        self.rig.put(bucket, key, BODY)
        tag_set: Any = [{"Key": name, "Value": value} for name, value in (tags or {}).items()]
        if tag_set:
            self.rig.s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tag_set})
        service = self.rig.service(*rules, **more)
        return self.rig.handle(service, message("m", record(bucket, key, size=len(BODY))))

    def copies(self) -> list[str]:
        """Every copy, as bucket and name."""
        found = [("one", blob.name) for blob in self.rig.gcs.list_blobs(self.one.name)]
        return [f"{place}/{name}" for place, name in found] + [
            f"two/{blob.name}" for blob in self.rig.gcs.list_blobs(self.two.name)
        ]


@pytest.fixture
def rules(rig: Rig) -> Rules:
    return Rules(rig)


RED, AND = {"Key": "team", "Value": "red"}, {"Key": "copy", "Value": "yes"}


@pytest.mark.parametrize(
    ("filter_", "key", "tags", "copied"),
    [
        ({}, "a/k", {}, True),
        ({"Prefix": ""}, "a/k", {}, True),
        ({"Prefix": "a/"}, "a/k", {}, True),
        ({"Prefix": "b/"}, "a/k", {}, False),
        ({"Prefix": "A/"}, "a/k", {}, False),
        ({"Prefix": "a/k"}, "a/k", {}, True),
        ({"Tag": RED}, "a/k", {"team": "red"}, True),
        ({"Tag": RED}, "a/k", {"team": "red", "more": "1"}, True),
        ({"Tag": RED}, "a/k", {"team": "blue"}, False),
        ({"Tag": RED}, "a/k", {}, False),
        ({"And": {"Prefix": "a/", "Tags": [RED]}}, "a/k", {"team": "red"}, True),
        ({"And": {"Prefix": "b/", "Tags": [RED]}}, "a/k", {"team": "red"}, False),
        ({"And": {"Tags": [RED, AND]}}, "a/k", {"team": "red", "copy": "yes"}, True),
        ({"And": {"Tags": [RED, AND]}}, "a/k", {"team": "red"}, False),
    ],
    ids=str,
)
def test_a_filter_chooses_by_prefix_and_tags(
    rules: Rules, filter_: dict[str, Any], key: str, tags: dict[str, str], *, copied: bool
) -> None:
    told = rules.replicate(rule("r", rules.source, rules.to_one, Filter=filter_), key=key, tags=tags)
    assert told.failed() == []
    assert rules.copies() == ([f"one/{key}"] if copied else [])


def test_an_object_excluded_by_its_tags_is_not_copied_and_the_log_says_by_which_rules(rules: Rules) -> None:
    told = rules.replicate(
        rule("only-red", rules.source, rules.to_one, Filter={"Tag": RED}, Priority=2),
        rule("only-yes", rules.source, rules.to_one, Filter={"Tag": AND}, Priority=1),
        tags={"team": "blue"},
    )
    line = told.line("a/k")
    assert line["outcome"] == "nothing"
    assert "excluded by 'only-red' and 'only-yes'" in line["why"]
    assert rules.copies() == []


def test_of_two_rules_for_one_name_the_higher_priority_wins(rules: Rules) -> None:
    low = rule("low", rules.source, rules.to_one, Priority=1, to={"StorageClass": "NEARLINE"})
    high = rule("high", rules.source, rules.to_one, Priority=2, to={"StorageClass": "COLDLINE"})
    for order in ((low, high), (high, low)):
        told = rules.replicate(*order)
        assert told.line("a/k")["rule"] == "high"
    blob = rules.rig.blob(rules.one, "a/k")
    assert blob is not None
    assert blob.storage_class == "COLDLINE"


def test_the_next_rule_has_what_the_higher_ones_tags_exclude(rules: Rules) -> None:
    told = rules.replicate(
        rule("red", rules.source, rules.to_one, Priority=2, Filter={"Tag": RED}),
        rule("rest", rules.source, rules.to_one, Priority=1),
    )
    assert told.line("a/k")["rule"] == "rest"
    assert rules.copies() == ["one/a/k"]


def test_a_disabled_rule_does_nothing(rules: Rules) -> None:
    told = rules.replicate(
        rule("off", rules.source, rules.to_one, Status="Disabled", Priority=9),
        rule("on", rules.source, rules.to_two, Status="Enabled"),
    )
    assert told.failed() == []
    assert rules.copies() == ["two/a/k"]


def test_an_object_goes_to_every_destination_that_a_rule_names(rules: Rules) -> None:
    told = rules.replicate(
        rule("one", rules.source, rules.to_one),
        rule("two", rules.source, rules.to_two, to={"ReplaceKeyPrefixWith": "z/"}, Filter={"Prefix": "a/"}),
        rule("within", rules.source, f"{rules.to_two}/deep/er"),
    )
    assert told.failed() == []
    assert rules.copies() == ["one/a/k", "two/deep/er/a/k", "two/z/k"]
    assert {line["rule"] for line in told.lines} == {"one", "two", "within"}


def test_one_destination_that_fails_hides_nothing_and_the_message_comes_again(rules: Rules, proxy: FaultProxy) -> None:
    both = rule("one", rules.source, rules.to_one), rule("two", rules.source, rules.to_two)
    denied = PlannedFault(status=400, reason="invalid", message="Provided CRC32C does not match")
    proxy.plan(lambda request: request.method == "POST" and f"/b/{rules.one.name}/" in request.path, denied)
    told = rules.replicate(*both, gcs_url=proxy.url)
    assert told.failed() == ["m"]
    assert rules.copies() == ["two/a/k"]
    assert {line["outcome"] for line in told.lines if line.get("key")} == {"put", "failed"}
    assert told.measured("OperationsReplicated") == told.measured("OperationsPendingReplication") == 1

    told = rules.replicate(*both, gcs_url=proxy.url)
    assert told.failed() == []
    assert rules.copies() == ["one/a/k", "two/a/k"]


def test_one_destination_that_refuses_hides_nothing_and_the_message_is_parked(rules: Rules) -> None:
    queue = rules.rig.queue()
    told = rules.replicate(
        rule("one", rules.source, "gs://there-is-no-such-bucket"),
        rule("two", rules.source, rules.to_two),
        DEAD_LETTER_QUEUE_URL=queue,
    )
    assert told.failed() == []
    assert rules.copies() == ["two/a/k"]
    assert told.measured("OperationsFailedReplication") == 1
    (letter,) = rules.rig.sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    assert letter["MessageAttributes"]["Reason"]["StringValue"] == "DstBucketNotFound"


def test_rules_of_several_buckets_keep_to_their_own(rules: Rules) -> None:
    both = rule("one", rules.source, rules.to_one), rule("two", rules.other, rules.to_two)
    rules.replicate(*both, key="from-source")
    rules.replicate(*both, key="from-other", bucket=rules.other)
    assert rules.copies() == ["one/from-source", "two/from-other"]


@pytest.mark.parametrize(
    ("to", "filter_", "name"),
    [
        ({"ReplaceKeyPrefixWith": "b/"}, {"Prefix": "a/"}, "b/k"),
        ({"ReplaceKeyPrefixWith": ""}, {"Prefix": "a/"}, "k"),
        ({"ReplaceKeyPrefixWith": "b/"}, {}, "b/a/k"),
        ({}, {"Prefix": "a/"}, "a/k"),
    ],
    ids=str,
)
def test_a_copys_name_may_have_another_prefix(
    rules: Rules, to: dict[str, Any], filter_: dict[str, Any], name: str
) -> None:
    rules.replicate(rule("r", rules.source, rules.to_one, to=to, Filter=filter_))
    assert rules.copies() == [f"one/{name}"]


@pytest.mark.parametrize("status", ["Enabled", "Disabled"])
def test_deletes_are_replicated_as_the_rule_says(rules: Rules, status: str) -> None:
    deletes = rule("r", rules.source, rules.to_one, DeleteMarkerReplication={"Status": status})
    rules.replicate(deletes)
    rules.rig.s3.delete_object(Bucket=rules.source, Key="a/k")
    service = rules.rig.service(deletes)
    told = rules.rig.handle(service, message("m", record(rules.source, "a/k", "ObjectRemoved:Delete")))
    assert rules.copies() == ([] if status == "Enabled" else ["one/a/k"])
    assert told.line("a/k")["rule"] == "r"


# --- the emulator with a rule file


def ten_rules(folder: Path) -> list[dict[str, Any]]:
    """Ten rules of two source buckets and two destinations, one of each kind."""
    one, two, plain = "gs://copies-one", "gs://copies-two", (folder / "plain").as_uri()
    return [
        rule("everything", "first", one),
        rule("twice", "first", f"{two}/all"),
        rule("logs-cold", "first", one, Priority=5, Filter={"Prefix": "logs/"}, to={"StorageClass": "COLDLINE"}),
        rule("logs-off", "first", two, Status="Disabled", Filter={"Prefix": "logs/"}),
        rule("renamed", "first", two, Filter={"Prefix": "in/"}, to={"ReplaceKeyPrefixWith": "out/"}),
        rule("red", "first", f"{two}/red", Filter={"Tag": RED}, to={"Tags": {"Status": "Enabled"}}),
        rule("red-in", "first", f"{two}/red-in", Filter={"And": {"Prefix": "in/", "Tags": [RED]}}),
        rule("second", "second", f"{one}/second"),
        rule("kept", "second", f"{two}/kept", DeleteMarkerReplication={"Status": "Disabled"}),
        rule("folder", "second", plain),
    ]


def test_ten_rules_and_two_destinations_work_in_the_emulator(tmp_path: Path) -> None:
    file, copies = tmp_path / "rules.json", tmp_path / "copies"
    file.write_text(json.dumps(ten_rules(tmp_path)))
    arguments = "--rules", str(file), "--source", str(tmp_path / "in"), "--destination", str(copies), "--port", "0"
    with EmulatorProcess(*arguments, "--verbose") as emulator:
        desk = Desk(emulator)
        s3 = s3_of(desk)
        try:
            for key in ("logs/1", "in/2"):
                s3.put_object(Bucket="first", Key=key, Body=BODY)
            s3.put_object(Bucket="first", Key="in/red", Body=BODY, Tagging="team=red")
            s3.put_object(Bucket="second", Key="x", Body=BODY)
            expected = {
                *("copies-one/logs/1", "copies-one/in/2", "copies-one/in/red", "copies-one/second/x"),
                *("copies-two/all/logs/1", "copies-two/all/in/2", "copies-two/all/in/red"),
                *("copies-two/out/2", "copies-two/out/red", "copies-two/red/in/red", "copies-two/red-in/in/red"),
                "copies-two/kept/x",
            }
            eventually(lambda: files_in(copies) == expected, f"{expected}; {desk.told()}")
            eventually((tmp_path / "plain" / "x").exists, "the copy in a folder")
            s3.delete_object(Bucket="second", Key="x")
            eventually(lambda: files_in(copies) == expected - {"copies-one/second/x"}, desk.told())
            eventually(lambda: not (tmp_path / "plain" / "x").exists(), "the copy in the folder is gone")
        finally:
            s3.close()
        assert_nothing_secret("\n".join(emulator.output()))


def files_in(folder: Path) -> set[str]:
    """Every object's file; what the server keeps for itself is hidden."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not any(part.startswith(".") for part in path.parts)}


WRONG = [
    {"Source": {"Bucket": "first"}, "Destination": {"Bucket": "gs://copies"}, "ID": "a", "Priority": "high"},
    {"Source": {"Bucket": "first"}, "Destination": {"Bucket": "gs://copies", "StorageClass": "GLACIER"}, "ID": "a"},
    {"Source": {"Bucket": "first"}, "Destination": {"Bucket": "s3://copies"}, "Status": "On", "Extra": 1},
    {"Source": {"Bucket": "first"}, "Destination": {"Bucket": "gs://copies"}, "Filter": {"Tag": {"Key": "k"}}},
    {
        "Source": {"Bucket": "first"},
        "Destination": {"Bucket": "gs://copies", "Tags": {"Status": "yes"}},
        "Filter": {"Prefix": "a", "Tag": RED},
        "DeleteMarkerReplication": {"Status": True},
    },
]
FAULTS = [
    "rule 1 (a): Priority must be a whole number, not text",
    "rule 2 (a): Destination.StorageClass must be one of",
    "not 'GLACIER'",
    "rule 3: Destination.Bucket must be gs://",
    "rule 3: Status must be",
    "rule 3: Extra is not a field",
    "rule 4: Filter has a tag that is not",
    "rule 5: Filter takes one of Prefix, Tag, And",
    "rule 5: Destination.Tags.Status must be",
    "rule 5: DeleteMarkerReplication.Status must be",
]


def refused(tmp_path: Path, text: str) -> tuple[str, int]:
    """What the emulator says of a rule file before it ends, and its exit code."""
    file = tmp_path / "rules.json"
    file.write_text(text)
    emulator = EmulatorProcess(
        "--rules", str(file), "--source", str(tmp_path / "in"), "--destination", str(tmp_path / "out"), "--port", "0"
    )
    with pytest.raises(StartError) as caught, emulator:
        pass
    return str(caught.value), emulator.process.returncode


def test_a_wrong_rule_file_is_explained_fault_by_fault(tmp_path: Path) -> None:
    said, code = refused(tmp_path, json.dumps(WRONG))
    assert [fault for fault in FAULTS if fault not in said] == [], said
    assert "Traceback" not in said
    assert code in {1, 2}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "list of rules"),
        ("{}", "list of rules"),
        ('[{"ID": "a"}]', "rule 1 lacks Source.Bucket or Destination.Bucket"),
        ('[{"Source": {"Bucket": "first"}, "Destination": {"Bucket": "gs://[bad"}}]', "'[bad' is not a bucket name"),
    ],
)
def test_what_is_no_list_of_rules_is_said_in_a_line(tmp_path: Path, text: str, fault: str) -> None:
    said, code = refused(tmp_path, text)
    assert fault in said
    assert "Traceback" not in said
    assert code in {1, 2}
