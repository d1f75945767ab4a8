"""docs/terraform/aws with several source buckets, also of other accounts."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest

from handler import config
from handler.tools.notification_document import wanted_of
from tests.unit.hcl import Expressions, attributes, blocks, parsed
from tests.unit.terraform import FOLDER, Module
from tests.unit.test_terraform_limits import many, variables

OWN, OTHER = "123456789012", "999999999999"
SOURCES = {
    "dummy": {"prefix": "in/", "kms_key_arn": f"arn:aws:kms:us-east-1:{OWN}:key/one"},
    "second": {"label": "b", "event_delivery": "EventBridge"},
    "theirs": {
        "label": "c",
        "owner": OTHER,
        "prefix": "table/dt=2026 (a)!/",
        "suffix": "/(x)!=1.csv",
        "kms_key_arn": f"arn:aws:kms:us-east-1:{OTHER}:key/two",
    },
}
SEVERAL = Module(sources=SOURCES, canary_minutes=10, backfill_bucket="manifests")
MADE = SEVERAL.resources()


def statements(address: str) -> dict[str, dict[str, Any]]:
    return {each["Sid"]: each for each in json.loads(MADE[address]["policy"])["Statement"]}


def test_one_set_of_functions_and_queues_serves_all_buckets() -> None:
    one = {
        address
        for address in Module(canary_minutes=10, backfill_bucket="manifests").resources()
        if "[dummy]" not in address
    }
    several = {address for address in MADE if not any(f"[{name}]" in address for name in SOURCES)}
    assert {each for each in several - one if "alarm[" not in each} == set()
    assert one <= several


def test_each_bucket_has_its_own_check_canary_and_alarms() -> None:
    names = {
        each["function_name"]
        for address, each in MADE.items()
        if "function.check[" in address or "function.canary[" in address
    }
    assert names == {f"replicator{label}-{what}" for label in ("", "-b", "-c") for what in ("check", "canary")}
    for bucket, label in {"dummy": "", "second": "-b", "theirs": "-c"}.items():
        wiring = json.loads(MADE[f"aws_lambda_function.check[{bucket}]"]["environment"][0]["variables"]["WIRING"])
        assert (wiring["Bucket"], wiring["ConfigurationId"]) == (bucket, f"replicator{label}")
        alarm = MADE[f"aws_cloudwatch_metric_alarm.alarm[replicator{label}-failures]"]
        assert alarm["dimensions"] == {"SourceBucket": bucket}


def test_the_handler_takes_the_rules_of_all_buckets_and_knows_each_owner() -> None:
    settings = config.load(variables(SEVERAL))
    assert {name: settings.owner_of(name) for name in SOURCES} == {"dummy": OWN, "second": OWN, "theirs": OTHER}
    assert [rule.id for rules in settings.by_source.values() for rule in rules] == [
        "replicate",
        "replicate-b",
        "replicate-c",
    ]
    assert settings.by_source["theirs"][0].prefix == "table/dt=2026 (a)!/"


def test_given_rules_pass_through_with_the_owner_added() -> None:
    rules = [
        {"ID": "x", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://a", "StorageClass": "NEARLINE"}},
        {"ID": "y", "Priority": 2, "Source": {"Bucket": "theirs"}, "Destination": {"Bucket": "gs://b"}},
    ]
    module = Module(sources=SOURCES, rules=json.dumps(rules), destination_bucket=None)
    rules[1]["Source"]["Account"] = OTHER  # type: ignore[index] # a dictionary
    assert module.faults() == []
    assert json.loads(variables(module)["REPLICATION_RULES"]) == rules
    assert config.load(variables(module)).owner_of("theirs") == OTHER


def test_what_the_role_may_do_covers_each_bucket_and_key() -> None:
    replicate = statements("aws_iam_role_policy.replicate")
    assert replicate["ReadObjects"]["Resource"] == [
        "arn:aws:s3:::dummy/in/*", "arn:aws:s3:::second/*", "arn:aws:s3:::theirs/table/dt=2026 (a)!/*",
    ]  # fmt: skip
    assert replicate["TellMissingFromDenied"]["Resource"] == [f"arn:aws:s3:::{name}" for name in SOURCES]
    assert replicate["DecryptObjects"]["Resource"] == [
        SOURCES["dummy"]["kms_key_arn"],
        SOURCES["theirs"]["kms_key_arn"],
    ]
    assert (
        statements("aws_iam_role_policy.canary[second]")["WriteCanary"]["Resource"]
        == "arn:aws:s3:::second/.replicator-canary/*"
    )
    assert "EncryptCanary" not in statements("aws_iam_role_policy.canary[second]")


def test_each_bucket_may_send_under_its_owner_s_account_only() -> None:
    sends = [
        each for name, each in statements("aws_sqs_queue_policy.events").items() if name.startswith("SourceBucketSends")
    ]
    assert [each["Condition"] for each in sends] == [
        {
            "ArnEquals": {"aws:SourceArn": [f"arn:aws:s3:::{name}" for name in names]},
            "StringEquals": {"aws:SourceAccount": owner},
        }
        for owner, names in {OWN: ["dummy", "second"], OTHER: ["theirs"]}.items()
    ]


@pytest.mark.parametrize("bucket", ["dummy", "second"])
def test_the_notification_of_an_own_bucket_is_the_one_that_the_check_looks_for(bucket: str) -> None:
    wiring = json.loads(MADE[f"aws_lambda_function.check[{bucket}]"]["environment"][0]["variables"]["WIRING"])
    wanted = wanted_of(wiring)
    made = MADE[f"aws_s3_bucket_notification.source[{bucket}]"]
    assert made["eventbridge"] is (wanted is None)
    for queue in made.get("queue", []):
        rules = [
            {"Name": side, "Value": queue[f"filter_{side}"]}
            for side in ("prefix", "suffix")
            if f"filter_{side}" in queue
        ]
        given = {"Id": queue["id"], "QueueArn": queue["queue_arn"], "Events": sorted(queue["events"])}
        assert given | {"Filter": {"Key": {"FilterRules": rules}}} == wanted


def test_the_owner_of_a_foreign_bucket_is_told_what_to_set() -> None:
    assert "aws_s3_bucket_notification.source[theirs]" not in MADE
    notifications = SEVERAL.output("notifications")
    assert notifications.keys() == {"theirs"}
    (told,) = json.loads(notifications["theirs"])["QueueConfigurations"]
    wanted = wanted_of(json.loads(MADE["aws_lambda_function.check[theirs]"]["environment"][0]["variables"]["WIRING"]))
    assert {**told, "Events": sorted(told["Events"])} == wanted
    assert [rule["Value"] for rule in told["Filter"]["Key"]["FilterRules"]] == [
        "table/dt%3D2026+(a)!/",
        "/(x)!%3D1.csv",
    ]

    policies = SEVERAL.output("bucket_policies")
    assert policies.keys() == {"theirs"}
    asked = {
        (each["Principal"]["AWS"], action, each["Resource"])
        for each in json.loads(policies["theirs"])
        for action in each["Action"]
    }
    roles = {
        "replicate": "replicator",
        "check": "replicator",
        "canary[theirs]": "canary[theirs]",
        "backfill[0]": "backfill[0]",
    }
    allowed = {
        (f"aws_iam_role.{role}.arn", action, resource)
        for policy, role in roles.items()
        for statement in statements(f"aws_iam_role_policy.{policy}").values()
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        for resource in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
        if ":::theirs" in resource
    }
    assert asked == allowed


def test_a_module_that_does_not_manage_notifications_says_what_to_add_to_each_bucket() -> None:
    module = Module(sources=SOURCES, manage_notifications=False)
    assert not any(address.startswith("aws_s3_bucket_notification") for address in module.resources())
    assert module.output("notifications").keys() == SOURCES.keys()
    assert json.loads(module.output("notifications")["second"]) == {"EventBridgeConfiguration": {}}
    (told,) = json.loads(Module(manage_notifications=False).output("notifications")["dummy"])["QueueConfigurations"]
    assert told.keys() == {"Id", "QueueArn", "Events"}


def test_the_rule_of_a_bucket_without_a_filter_hears_of_all_keys_and_may_send() -> None:
    rule = MADE["aws_cloudwatch_event_rule.source[second]"]
    assert json.loads(rule["event_pattern"])["detail"] == {"bucket": {"name": ["second"]}}
    (pattern,) = statements("aws_sqs_queue_policy.events")["EventBridgeSends"]["Condition"]["ArnLike"].values()
    assert fnmatchcase(f"arn:aws:events:us-east-1:{OWN}:rule/{rule['name']}", pattern)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"sources": {}}, "at least one bucket"),
        ({"sources": {"one": {}, "two": {}}}, "a label of its own"),
        ({"sources": {"one": {"label": "Too Long A Label"}}}, "at most 4"),
        ({"sources": {"one": {"owner": "me"}}}, "12 digits"),
        ({"sources": {"one": {"event_delivery": "Post"}}}, "Direct or EventBridge"),
        ({"sources": {"one": {"owner": OTHER, "event_delivery": "EventBridge"}}}, "must be Direct there"),
        ({"name": "Replicator"}, "at most 30"),
        ({"destination_bucket": None}, "destination_bucket, or rules"),
        ({"rules": '[{"Source": {"Bucket": "another"}}]'}, "not one of sources"),
        ({"vpc_subnet_ids": ["subnet-0a"]}, "or neither"),
        ({"canary_minutes": 5}, "canary_minutes must be"),
        ({"sources": many(40)}, "2,800 characters"),
    ],
)
def test_a_fault_is_said_before_anything_is_made(given: dict[str, Any], why: str) -> None:
    faults = Module(**given).faults()
    assert any(why in fault for fault in faults), faults


def test_a_bucket_s_check_and_canary_have_the_rules_of_that_bucket_alone() -> None:
    for function in ("check", "canary"):
        assert list(config.load(variables(SEVERAL, f"{function}[theirs]")).by_source) == ["theirs"]


def test_the_examples_of_the_document_are_taken() -> None:
    text = (FOLDER.parent / "README.md").read_text()
    first, second = re.findall(r"```hcl\n(.*?)```", text, flags=re.DOTALL)
    ((_, module),) = [(labels, body) for labels, body in blocks(parsed(first)) if labels[0] == "module"]
    known = Expressions(lambda name: pytest.fail(f"an unknown name: {name}"))
    given = {name: known.value(node, {}) for name, node in attributes(module).items() if name != "source"}
    assert Module(**given).faults() == []
    several = Module(**{name: known.value(node, {}) for name, node in attributes(parsed(second)).items()})
    assert several.faults() == []
    assert config.load(variables(several)).owner_of("their-bucket") == OTHER
