"""docs/terraform/aws within the limits of AWS, with as many source buckets as its document says."""

from __future__ import annotations

import json
import re

import pytest

from tests.unit.terraform import Module


def variables(module: Module, function: str = "replicator") -> dict[str, str]:
    found: dict[str, str] = module.resources()[f"aws_lambda_function.{function}"]["environment"][0]["variables"]
    return found


def many(count: int) -> dict[str, dict[str, str]]:
    names = [f"company-originals-{number:03}" for number in range(count)]
    return {name: {"label": f"n{number}" if number else ""} for number, name in enumerate(names)}


def test_as_many_buckets_fit_as_the_documents_say() -> None:
    """Eleven with the rules that the module makes, where a bucket's name has 21 characters."""
    assert Module(sources=many(11)).faults() == []
    assert any("2,800 characters" in fault for fault in Module(sources=many(12)).faults())


@pytest.mark.parametrize(
    "function", ["replicator", "parts", "check[company-originals-001]", "canary[company-originals-001]"]
)
def test_the_variables_of_the_most_buckets_are_within_lambda_s_4_kb(function: str) -> None:
    """As Lambda measures them: all as one JSON object, its quotes escaped."""
    account, name = "ap-southeast-1:123456789012", "replicator-production"
    real = {
        r"aws_lambda_function\.\w+\.qualified_arn": f"arn:aws:lambda:{account}:function:{name}-parts:1000",
        r"aws_sqs_queue\.\w+\.url": f"https://sqs.ap-southeast-1.amazonaws.com/123456789012/{name}-dead-letters",
        r"aws_sqs_queue\.\w+\.arn": f"arn:aws:sqs:{account}:{name}-events",
        r"aws_lambda_event_source_mapping\.\w+\.uuid": "01234567-89ab-cdef-0123-456789abcdef",
    }
    service_account = "copier-of-objects@my-company-project.iam.gserviceaccount.com"
    module = Module(sources=many(11), canary_minutes=10, gcp_service_account=service_account)
    text = json.dumps(variables(module, function), separators=(",", ":"))
    for address, value in real.items():
        text = re.sub(address, value, text)
    assert "aws_sqs" not in text
    assert len(text) <= 4096


def test_the_policies_of_the_most_buckets_are_within_iam_s_10240_characters() -> None:
    made = Module(sources=many(11)).resources()
    policies = [each["policy"] for address, each in made.items() if address.startswith("aws_iam_role_policy")]
    assert sum(map(len, policies)) <= 10240 - 2000  # ARNs are longer than addresses


def test_the_queue_s_policy_is_within_sqs_s_limits_however_many_buckets_there_are() -> None:
    """At most 10 conditions and 20 statements: "Policy quotas" of SQS's guide."""
    policy = json.loads(Module(sources=many(11)).resources()["aws_sqs_queue_policy.events"]["policy"])
    assert len(policy["Statement"]) <= 20
    assert sum(len(names) for each in policy["Statement"] for names in each["Condition"].values()) <= 10
    assert len(json.dumps(policy)) <= 8192
