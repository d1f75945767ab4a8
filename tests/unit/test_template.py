"""template.yaml as it is written: wiring, variables, permissions. See functional/test_deployment.py for more."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from handler import backoff, config, observe
from handler.core.batch import Result, Work
from handler.core.decide import Action
from handler.core.errors import Refused, Unavailable
from handler.core.model import Rule
from handler.core.route import Outcome
from handler.core.task import Change
from handler.tools.canary import FOLDER
from handler.tools.notification_document import LISTS
from handler.tools.notifications import GUARD, OVERLAP, SETTLING, TRIES
from tests.unit.cfn import (
    NOTHING,
    PARAMETERS,
    REQUIRED,
    RESOURCES,
    ROOT,
    TEMPLATE,
    TEXT,
    Stack,
    listed,
    statements,
    walk,
)

STACK = Stack()
EVERYTHING = Stack(
    CreateSourceBucket="true",
    SourcePrefix="in/",
    SourceSuffix=".csv",
    SourceKmsKeyArn="arn:aws:kms:us-east-1:123456789012:key/source",
    KmsKeyArn="arn:aws:kms:us-east-1:123456789012:key/own",
    GcpServiceAccount="copier@project.iam.gserviceaccount.com",
    EventDelivery="EventBridge",
    InvokerPrincipal="123456789012",
    BackfillBucket="manifests",
    AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:alarms",
    CanaryMinutes="10",
    EgressAlarmGigabytes="1000",
    Dashboard="Enabled",
    ReservedConcurrency="50",
    VpcSubnetIds="subnet-0a,subnet-0b",
    VpcSecurityGroupIds="sg-0c",
    DeploymentPreference="Canary10Percent5Minutes",
)
QUEUES = {"EventsQueue": "DeadLetterQueue", "DeletesQueue": "DeadLetterQueue", "PartsQueue": "PartsDeadLetterQueue"}
CONSUMERS = {"ReplicatorFunction": "EventsQueue", "PartsFunction": "PartsQueue"}
BOTH = pytest.mark.parametrize("stack", [STACK, EVERYTHING], ids=["defaults", "everything"])
DEFAULTS_SERVE = {"CONCURRENCY", "FAN_OUT_THRESHOLD", "GCS_CLIENT", "METRICS_NAMESPACE"}
"""Variables that the code reads and the template leaves at the code's defaults."""
DESCRIBING = {"cloudwatch:DescribeAlarms", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"}
"""Actions that AWS's own roles allow on all resources, and nothing narrower."""
OWN_RULES = "arn:aws:events:us-east-1:123456789012:rule/replicator-EventRule-*"
"""The stack's rule. CloudFormation ends its name: were it named in full, its permission would come and go with it."""


def test_every_parameter_is_described_grouped_and_used() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    body = TEXT[TEXT.index("\nMappings:") :]
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"].strip()
        assert re.search(rf"(!Ref |\$\{{){name}\b", body), f"{name} is used nowhere"


def test_every_parameter_is_bounded_and_its_default_is_within() -> None:
    assert {name for name in PARAMETERS if "Default" not in PARAMETERS[name]} == set(REQUIRED)
    for name, parameter in PARAMETERS.items():
        value = parameter.get("Default", REQUIRED.get(name))
        if "AllowedValues" in parameter:
            assert str(value) in map(str, parameter["AllowedValues"]), name
        elif parameter["Type"] == "Number":
            assert parameter["MinValue"] <= int(value) <= parameter.get("MaxValue", int(value)), name
        else:
            assert re.fullmatch(parameter["AllowedPattern"], value), name


def test_every_reference_leads_somewhere() -> None:
    known = {*PARAMETERS, *RESOURCES}
    known |= {f"{name}.{of}" for name in CONSUMERS for of in ("Alias", "Version")}

    def see(node: Any) -> None:
        match node:
            case {"Ref": str(name)}:
                assert name in known or name.startswith("AWS::"), name
            case {"Fn::GetAtt": [str(name), *_]}:
                assert name in known, name

    walk(RESOURCES, see)
    walk(TEMPLATE["Outputs"], see)


def test_the_queue_takes_events_of_the_source_bucket_and_account_only() -> None:
    allowed = [each for each in statements(STACK.resource("EventsQueuePolicy")) if each["Sid"] == "SourceBucketSends"]
    assert len(allowed) == 1
    assert allowed[0]["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed[0]["Condition"]["ArnEquals"] == {"aws:SourceArn": "arn:aws:s3:::dummy"}
    assert allowed[0]["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    assert STACK.resource("EventsQueuePolicy")["Queues"] == ["EventsQueue"]


@pytest.mark.parametrize(("given", "owner"), [("", "123456789012"), ("210987654321", "210987654321")])
def test_only_the_owners_bucket_is_read_and_listened_to(given: str, owner: str) -> None:
    stack = Stack(SourceBucketOwner=given)
    for name in ("ReplicatorFunction", "PartsFunction", "CheckFunction"):
        assert config.load(stack.variables(name)).owner_of("dummy") == owner
    assert stack.resource("BucketNotification")["Account"] == owner
    [sends] = [each for each in statements(stack.resource("EventsQueuePolicy")) if each["Sid"] == "SourceBucketSends"]
    assert sends["Condition"]["StringEquals"]["aws:SourceAccount"] == owner
    by_bridge = Stack(SourceBucketOwner=given, EventDelivery="EventBridge")
    assert by_bridge.resource("EventRule")["EventPattern"]["account"] == [owner]


def test_by_event_bridge_the_queue_takes_events_of_the_rule_only() -> None:
    for policy in ("EventsQueuePolicy", "DeadLetterQueuePolicy"):
        [sends] = [each for each in statements(EVERYTHING.resource(policy)) if each["Sid"] == "EventBridgeSends"]
        assert sends["Principal"] == {"Service": "events.amazonaws.com"}
        assert sends["Condition"] == {"ArnLike": {"aws:SourceArn": OWN_RULES}}
    pattern = EVERYTHING.resource("EventRule")["EventPattern"]
    assert pattern["detail"] == {"bucket": {"name": ["dummy"]}, "object": {"key": [{"wildcard": "in/*.csv"}]}}
    assert EVERYTHING.resource("EventRule")["Targets"][0]["Arn"] == "EventsQueue.Arn"


def test_another_event_delivery_changes_no_permission_and_waits_for_its_rule() -> None:
    """CloudFormation would withdraw the old one's permission before the new one delivers."""
    direct, by_bridge = Stack(EventDelivery="Direct"), Stack(EventDelivery="EventBridge")
    for policy in ("EventsQueuePolicy", "DeadLetterQueuePolicy"):
        assert direct.resource(policy) == by_bridge.resource(policy)
    asked = by_bridge.resource("BucketNotification")
    assert asked["Rule"] == "EventRule", "it must be there before the direct notification goes"
    timeout = STACK.resource("BucketNotificationFunction")["Timeout"]
    assert OVERLAP + 3 * (TRIES + 1) * (SETTLING + 1) < timeout < int(asked["ServiceTimeout"])


def test_another_source_bucket_is_refused_before_anything_of_the_stack_changes() -> None:
    guard = RESOURCES["SourceBucketGuard"]
    assert guard["Type"] == GUARD
    assert STACK.resource("SourceBucketGuard")["Bucket"] == "dummy"
    for name in ("EventsQueuePolicy", "ReplicatorRole", "SourceBucket", "EventRule"):
        assert RESOURCES[name]["DependsOn"] == "SourceBucketGuard"


def test_every_upgrade_writes_the_notification_as_this_release_does() -> None:
    """CloudFormation asks for an update only where a property changes; release 1 had none of that name."""
    assert RESOURCES["BucketNotification"]["Properties"]["Revision"] == 2


def test_batch_operations_may_take_its_role_as_aws_documents() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-iam-role-policies.html: without a condition."""
    assert EVERYTHING.resource("BackfillRole")["AssumeRolePolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": "batchoperations.s3.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]


@BOTH
def test_every_queue_refuses_plain_http_and_is_encrypted(stack: Stack) -> None:
    queues = stack.of_type("AWS::SQS::Queue")
    policed = {name for policy in stack.of_type("AWS::SQS::QueuePolicy").values() for name in policy["Queues"]}
    assert policed == set(queues)
    for policy in stack.of_type("AWS::SQS::QueuePolicy").values():
        assert any(each["Sid"] == "TlsOnly" and each["Effect"] == "Deny" for each in statements(policy))
    for queue in queues.values():
        assert queue.get("SqsManagedSseEnabled") is True or queue.get("KmsMasterKeyId")


def test_every_queue_keeps_what_fails_as_long_and_hands_it_out_as_often_as_sqs_allows() -> None:
    for name, letters in QUEUES.items():
        queue, dead = STACK.resource(name), STACK.resource(letters)
        assert queue["RedrivePolicy"]["deadLetterTargetArn"] == f"{letters}.Arn"
        served = [STACK.resource(other)["QueueName"] for other, its in QUEUES.items() if its == letters]
        arns = [f"arn:aws:sqs:us-east-1:123456789012:{other}" for other in served]
        assert dead["RedriveAllowPolicy"] == {"redrivePermission": "byQueue", "sourceQueueArns": arns}
        assert dead["MessageRetentionPeriod"] == queue["MessageRetentionPeriod"] == backoff.RETENTION
        assert queue["RedrivePolicy"]["maxReceiveCount"] == backoff.MAX_RECEIVES == 1000


@pytest.mark.parametrize("timeout", [int(each) for each in PARAMETERS["TimeoutSeconds"]["AllowedValues"]])
def test_an_event_stays_hidden_for_six_timeouts(timeout: int) -> None:
    stack = Stack(TimeoutSeconds=str(timeout))
    for name in QUEUES:
        assert stack.resource(name)["VisibilityTimeout"] == 6 * timeout


@BOTH
def test_the_functions_may_say_when_a_message_comes_again(stack: Stack) -> None:
    taking = next(each for each in statements(stack.resource("ReplicatorRole")) if each["Sid"] == "TakeMessages")
    assert "sqs:ChangeMessageVisibility" in taking["Action"]
    assert taking["Resource"] == ["EventsQueue.Arn", "PartsQueue.Arn", "DeletesQueue.Arn"]


@BOTH
def test_functions_consume_their_queue_message_by_message(stack: Stack) -> None:
    for name, queue in CONSUMERS.items():
        function = stack.resource(name)
        source = function["Events"]["Queue"]["Properties"]
        assert source["Queue"] == f"{queue}.Arn"
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert int(source["ScalingConfig"]["MaximumConcurrency"]) >= 2
        assert source["Enabled"] is True
        assert source["BatchSize"] <= 10, "SQS would want a batching window"
        assert "MaximumBatchingWindowInSeconds" not in source
        assert function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"] == f"{QUEUES[queue]}.Arn"
        assert stack.variables(name)["DEAD_LETTER_QUEUE_URL"] == QUEUES[queue]
        assert function["AutoPublishAlias"] == "live"


@BOTH
def test_the_function_takes_many_deletes_at_once_and_may_look_for_held_ones(stack: Stack) -> None:
    source = stack.resource("ReplicatorFunction")["Events"]["Deletes"]["Properties"]
    assert source["Queue"] == "DeletesQueue.Arn"
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["Enabled"] is True
    assert source["MaximumBatchingWindowInSeconds"] >= 1, "SQS wants it for batches of over 10"
    for held in ("DeletesQueue", "HeldDeletesQueue"):
        allowed = [each for each in statements(stack.resource("ReplicatorRole")) if f"{held}.Arn" in each["Resource"]]
        actions = {action for each in allowed for action in listed(each["Action"])}
        assert {"sqs:ReceiveMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"} <= actions


def test_paused_leaves_events_in_their_queues() -> None:
    paused = Stack(Replication="Paused")
    sources = [source for name in CONSUMERS for source in paused.resource(name)["Events"].values()]
    assert len(sources) == 3
    assert all(source["Properties"]["Enabled"] is False for source in sources)


def test_every_variable_the_code_reads_is_set_and_the_reverse() -> None:
    source = (ROOT / "handler/config.py").read_text()
    read = set(re.findall(r"environment(?:\.get\(|\[)\s*\"([A-Z_]+)\"", source))
    assert read, "the way config.py reads has changed"
    read = {name for name in read if not name.startswith("AWS_LAMBDA_")} - DEFAULTS_SERVE  # Lambda sets its own
    for name in CONSUMERS:
        assert set(STACK.variables(name)) - {"DEPLOYED_PARAMETERS"} == read - {"VERSIONS", "WIRING"}  # the check's own
    assert set(STACK.variables("CheckFunction")) - {"DEPLOYED_PARAMETERS"} == read
    assert set(STACK.variables("CanaryFunction")) - {"DEPLOYED_PARAMETERS"} == read - {"VERSIONS"}


def test_our_own_variables_are_read_in_the_configuration_only() -> None:
    """Adapters read what the SDKs and TLS call their own."""
    theirs = re.compile(r"AWS_[A-Z_]+|STORAGE_EMULATOR_HOST|SSL_CERT_FILE")
    for file in (ROOT / "handler").rglob("*.py"):
        text = file.read_text()
        if file.name == "config.py" or "os.environ" not in text:
            continue
        assert file.is_relative_to(ROOT / "handler" / "adapters"), f"{file} reads the environment"
        named = re.findall(r"environ\.get\(\"([^\"]+)\"", text)
        assert [name for name in named if not theirs.fullmatch(name)] == [], file


@BOTH
def test_the_functions_accept_their_own_variables(stack: Stack) -> None:
    for name in CONSUMERS:
        variables = stack.variables(name)
        settings = config.load(variables)
        assert list(settings.by_source) == ["dummy"]
        assert settings.by_source["dummy"][0].destination == "gs://copies"
        assert settings.by_source["dummy"][0].id == "replicate"
        assert json.loads(variables["GCP_CREDENTIALS"])["type"] == "external_account"
        assert (
            sum(len(name + value) for name, value in variables.items()) < 4096 - 500
        )  # Lambda's limit, and longer names


def test_rules_of_the_user_replace_ours() -> None:
    rules = json.dumps([{"ID": "x", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://other/there"}}])
    rule = config.load(Stack(ReplicationRules=rules).variables("ReplicatorFunction")).by_source["dummy"][0]
    assert (rule.id, rule.destination, rule.destination_prefix) == ("x", "gs://other", "there/")


@BOTH
def test_roles_name_their_resources(stack: Stack) -> None:
    for role in [*stack.of_type("AWS::IAM::Role").values(), *stack.of_type("AWS::IAM::Policy").values()]:
        for statement in statements(role):
            assert not any("*" in action for action in listed(statement["Action"])), statement
            if statement["Resource"] == "*":
                assert set(statement["Action"]) <= DESCRIBING, statement
                continue
            for resource in listed(statement["Resource"]):
                assert re.fullmatch(r"[^*]*(/[^*]*\*|:\*|[:-]\*/\*)?", resource), (
                    f"more than the objects of a bucket: {resource}"
                )
    for policy in [*stack.of_type("AWS::SQS::QueuePolicy").values(), *stack.of_type("AWS::S3::BucketPolicy").values()]:
        for statement in statements(policy):
            if statement["Effect"] == "Allow":
                assert "*" not in json.dumps(statement).replace(OWN_RULES, "")


def test_the_defaults_have_no_wildcard_resource() -> None:
    for role in STACK.of_type("AWS::IAM::Role").values():
        assert all(statement["Resource"] != "*" for statement in statements(role))


def test_a_private_path_is_for_all_that_speaks_to_google_and_lambda_alone_makes_its_interfaces() -> None:
    vpc = {"SubnetIds": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0c"]}
    for name, function in EVERYTHING.of_type("AWS::Serverless::Function").items():
        assert function.get("VpcConfig") == (None if name in {"BucketNotificationFunction", "CanaryFunction"} else vpc)
    assert not [each for each in STACK.of_type("AWS::Serverless::Function").values() if "VpcConfig" in each]
    allowed = [
        each for each in statements(EVERYTHING.resource("ReplicatorRole")) if each["Action"][0].startswith("ec2:")
    ]
    assert {action for each in allowed for action in each["Action"]} == {
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    }
    for statement in allowed:  # what AWS's calls on the functions' behalf lack, and each call of their code has
        assert statement["Condition"] == {"Null": {"lambda:SourceFunctionArn": "true"}}
    assert not [each for each in statements(STACK.resource("ReplicatorRole")) if each["Action"][0].startswith("ec2:")]


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        ({}, ""),
        ({"VpcSubnetIds": "subnet-0a", "VpcSecurityGroupIds": "sg-0c"}, ""),
        ({"VpcSubnetIds": "subnet-0a"}, "Give both of VpcSubnetIds and VpcSecurityGroupIds"),
        ({"VpcSecurityGroupIds": "sg-0c"}, "Give both of VpcSubnetIds and VpcSecurityGroupIds"),
        ({"ReplicateDeletes": "Disabled", "ReplicateTags": "Enabled", "DestinationPrefix": "in"}, ""),
        ({"ReplicationRules": "[{}]"}, ""),
        ({"ReplicationRules": "[{}]", "ReplicateDeletes": "Disabled"}, "have no effect with ReplicationRules"),
        ({"ReplicationRules": "[{}]", "ReplicateTags": "Enabled"}, "have no effect with ReplicationRules"),
        ({"ReplicationRules": "[{}]", "DestinationPrefix": "in"}, "have no effect with ReplicationRules"),
    ],
    ids=str,
)
def test_parameters_that_would_have_no_effect_are_refused(parameters: dict[str, str], refused: str) -> None:
    said = Stack(**parameters).refusals()
    assert len(said) == bool(refused)
    assert refused in "".join(said)


def test_the_prefix_narrows_what_may_be_read() -> None:
    reading = next(each for each in statements(EVERYTHING.resource("ReplicatorRole")) if each["Sid"] == "ReadObjects")
    assert reading["Resource"] == "arn:aws:s3:::dummy/in/*"


def test_every_statement_of_a_role_says_why() -> None:
    lines = TEXT[TEXT.index("  ReplicatorRole:") : TEXT.index("  UrlPermission:")].splitlines()
    starts = [number for number, line in enumerate(lines) if re.match(r"\s+(- )?(\{ )?Sid: ", line)]
    assert len(starts) >= 15
    for number in starts:
        before = [line.strip() for line in lines[max(0, number - 3) : number]]
        while before and re.match(r"- (&\w+ )?!If|- (Has|Is)\w+$", before[-1]):
            before.pop()
        assert before[-1].startswith("#"), lines[number]


def test_every_suppression_says_why() -> None:
    skips = re.findall(r"\{ id: (CKV\w+), comment: \"([^\"]{20,})\" \}", TEXT)
    assert len(skips) == TEXT.count("id: CKV")
    for line in TEXT.splitlines():
        if re.search(r"\b[EW]S\d{4}\b", line):
            assert "#" in line, line


def test_the_url_needs_iam_and_its_caller_gets_both_permissions() -> None:
    assert not STACK.of_type("AWS::Lambda::Permission")
    permissions = EVERYTHING.of_type("AWS::Lambda::Permission").values()
    assert {each["Action"] for each in permissions} == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert {each["Principal"] for each in permissions} == {"123456789012"}
    assert {each["FunctionName"] for each in permissions} == {"ReplicatorFunction.Alias"}


def test_none_for_an_invoker_makes_no_url_as_an_scp_may_forbid_it() -> None:
    for principal, urls in (("none", 0), ("", 1), ("123456789012", 1)):
        stack = Stack(InvokerPrincipal=principal)
        assert len(stack.of_type("AWS::Lambda::Url")) == urls
        assert len(stack.of_type("AWS::Lambda::Permission")) == (2 if principal.isdigit() else 0)
        condition = TEMPLATE["Outputs"]["RestEndpoint"]["Condition"]
        assert stack.holds(condition) == bool(urls)
    assert "FunctionUrlConfig" not in RESOURCES["ReplicatorFunction"]["Properties"], "SAM would make it always"
    assert re.fullmatch(PARAMETERS["InvokerPrincipal"]["AllowedPattern"], "none")


def test_a_url_that_is_there_already_stays() -> None:
    """A second one for the same alias is refused, hence the logical id and the properties that SAM gave it."""
    url = STACK.of_type("AWS::Lambda::Url")
    assert url == {
        "ReplicatorFunctionUrl": {
            "AuthType": "AWS_IAM",
            "InvokeMode": "BUFFERED",
            "TargetFunctionArn": "ReplicatorFunction.Alias",
        }
    }


OURS = re.compile(r"\b(?:Operations|Bytes|Oldest)[A-Z]\w+|ReplicationLatency")


def test_alarms_and_dashboard_speak_of_metrics_that_are_sent() -> None:
    source = (ROOT / "handler/observe.py").read_text()
    sent = set(re.findall(r"\"(\w+)\", \"(?:Count|Bytes|Seconds)\"", source))
    assert "OldestPendingSeconds" in sent
    assert set(OURS.findall(TEXT)) - {"OldestChangeAlarm"} <= sent
    dimensions = [{"SourceBucket"}, {"SourceBucket", "Side"}]
    for name, alarm in EVERYTHING.of_type("AWS::CloudWatch::Alarm").items():
        stats = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", ()) if "MetricStat" in query]
        for metric in stats or [alarm]:
            if OURS.fullmatch(metric["MetricName"]):
                assert {each["Name"] for each in metric["Dimensions"]} in dimensions, name
                assert metric["Namespace"] == config.NAMESPACE
    assert observe.logger.service != "service_undefined"


def test_alarms_are_within_cloudwatchs_limits() -> None:
    """Ten metrics in an expression, all of one period; a day of evaluation, and seven by periods of an hour or more."""
    for name, alarm in EVERYTHING.of_type("AWS::CloudWatch::Alarm").items():
        queries = [query for query in alarm.get("Metrics", ()) if "MetricStat" in query]
        assert len(queries) <= 10, name
        periods = {query["MetricStat"]["Period"] for query in queries} or {alarm["Period"]}
        assert len(periods) == 1, name
        assert max(periods) * alarm["EvaluationPeriods"] <= (604_800 if min(periods) >= 3600 else 86_400), name
        expressions = " ".join(query.get("Expression", "") for query in alarm.get("Metrics", ()))
        assert "SEARCH" not in expressions, "no alarm takes it"


@BOTH
def test_every_alarm_notifies_and_is_explained(stack: Stack) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items():
        heading = re.search(r"docs/operations\.md, \"(.+)\"", alarm["AlarmDescription"])
        assert heading, name
        assert f"### {heading[1]}\n" in text
        assert alarm.get("AlarmActions", NOTHING) == (
            NOTHING if stack is STACK else [stack.value({"Ref": "AlarmTopicArn"})]
        )
        assert alarm["TreatMissingData"] == ("breaching" if name == "CanaryAlarm" else "notBreaching")


def test_the_dashboard_is_json_and_made_where_it_is_asked_for() -> None:
    assert not STACK.of_type("AWS::CloudWatch::Dashboard")
    outputs = TEMPLATE["Outputs"]["DashboardUrl"]
    assert RESOURCES["ReplicationDashboard"]["Condition"] == outputs["Condition"] == "HasDashboard"
    [dashboard] = EVERYTHING.of_type("AWS::CloudWatch::Dashboard").values()
    body = json.loads(dashboard["DashboardBody"])
    expressions = [
        metric[0]["expression"]
        for widget in body["widgets"]
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    assert 'SEARCH(\'{CrossCloudReplicator,Rule,SourceBucket} SourceBucket="dummy" MetricName' in expressions[0]


def test_log_queries_speak_of_fields_that_are_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(observe.logger.registered_handler, "stream", log)
    observe.logger.setLevel(logging.INFO)
    change = Change(bucket="b", key="k", event="ObjectCreated:Put", time=datetime.now(UTC))
    rule = Rule(id="r", source="b", destination="gs://copies")
    done = Outcome(rule=rule, actions=(Action.PUT,), why="equal", name="k", original=None, bytes=5)
    work = Work(bucket="b", key="k", changes=(change,))
    failed = Result(work=work, errors=(Unavailable("away", code="Dst503"),))
    observe.Observer("any").report([Result(work=work, outcomes=(done,)), failed])
    observe.parked(Refused("denied"), "delivery", [change])
    capsys.readouterr()  # the metrics
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    logged = {name for line in lines for name in line} | {"@timestamp"}
    queries = STACK.of_type("AWS::Logs::QueryDefinition")
    assert len(queries) == 4
    words = {"fields", "filter", "stats", "sort", "limit", "parse", "asc", "desc", "by", "as", "or", "like"}
    for name, query in queries.items():
        assert query["LogGroupNames"] == ["ReplicatorLogs"]
        text = re.sub(r"\"[^\"]*\"|/\^.*/", "", query["QueryString"])
        made = {"folder", *re.findall(r"\bas (\w+)", text)}
        used = set(re.findall(r"@?\b[a-z_]+\b(?!\()", text)) - words - made
        assert used, name
        assert used <= logged, name
    assert {"outcome", "message"} <= logged
    assert {line["outcome"] for line in lines if "outcome" in line} == {"put", "failed"}
    assert "parked" in {line["message"] for line in lines}


def test_the_notification_asks_for_every_event_that_is_replicated() -> None:
    asked = STACK.resource("BucketNotification")
    assert asked["QueueArn"] == "EventsQueue.Arn"
    assert asked["Events"] == [
        "s3:ObjectCreated:*",
        "s3:ObjectRemoved:*",
        "s3:ObjectTagging:*",
        "s3:ObjectRestore:Completed",
        "s3:LifecycleExpiration:*",
        "s3:LifecycleTransition",
    ]
    assert RESOURCES["BucketNotification"]["DependsOn"] == "EventsQueuePolicy"
    allowed = [
        each for each in statements(STACK.resource("BucketNotificationRole")) if each["Sid"] == "MergeNotifications"
    ]
    assert allowed[0]["Resource"] == "arn:aws:s3:::dummy"
    assert set(LISTS) == {"QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations"}


def test_event_bridge_tells_of_every_event_that_is_replicated() -> None:
    assert EVERYTHING.resource("EventRule")["EventPattern"]["detail-type"] == [
        "Object Created",
        "Object Deleted",
        "Object Tags Added",
        "Object Tags Deleted",
        "Object Restore Completed",
        "Object Retention Updated",
        "Object Storage Class Changed",
    ]


def test_google_is_told_the_role_by_its_name() -> None:
    principal = STACK.value(TEMPLATE["Outputs"]["GcpPrincipal"]["Value"])
    pool = "principalSet://iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/aws-pool"
    assert principal.startswith(f"{pool}/attribute.aws_role/arn:aws:sts::123456789012:assumed-role/")
    assert STACK.resource("ReplicatorRole")["RoleName"] == "replicator-us-east-1"


def test_only_the_parts_function_may_send_to_its_own_queue_again_and_again() -> None:
    """Lambda stops a chain of about 16 messages else, and with it a span that takes longer."""
    loops = {
        name: function.get("RecursiveLoop") for name, function in STACK.of_type("AWS::Serverless::Function").items()
    }
    assert loops.pop("PartsFunction") == "Allow"
    assert set(loops.values()) == {None}


# --- check and canary


@BOTH
def test_the_checks_wiring_is_what_the_stack_makes(stack: Stack) -> None:
    wiring = config.load(stack.variables("CheckFunction")).wiring
    asked = stack.resource("BucketNotification")
    for name in ("ConfigurationId", "Bucket", "Delivery", "Rule", "Prefix", "Suffix", "Events"):
        assert wiring[name] == ("dummy" if name == "Bucket" else asked[name]), name
    assert wiring["QueueArn"] == asked["QueueArn"] == "EventsQueue.Arn"
    assert set(wiring["Mappings"].values()) == {
        "ReplicatorFunctionQueue",
        "ReplicatorFunctionDeletes",
        "PartsFunctionQueue",
    }
    granted = {each["Sid"]: each for each in statements(stack.resource("CheckPolicy"))}
    assert len(granted["ReadMappings"]["Resource"]) == len(wiring["Mappings"])
    assert stack.resource("CheckPolicy")["Roles"] == ["ReplicatorRole"]


def test_lambda_takes_the_variables_of_each_function_also_with_the_longest_rules() -> None:
    """4 KB in all, measured as one JSON object, whose quotes are escaped, as Lambda's error message shows it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    rule = '{"ID": "a", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}, '  # quotes are many
    rules = f"[{rule * 99}"[: PARAMETERS["ReplicationRules"]["MaxLength"] - 1] + "]"
    account = "ap-southeast-1:123456789012"
    real = {
        "PartsDeadLetterQueue": "https://sqs.ap-southeast-1.amazonaws.com/123456789012/replicator-production-parts-dead-letters",
        "DeadLetterQueue": "https://sqs.ap-southeast-1.amazonaws.com/123456789012/replicator-production-dead-letters",
        "PartsQueue": "https://sqs.ap-southeast-1.amazonaws.com/123456789012/replicator-production-parts",
        "EventsQueue.Arn": f"arn:aws:sqs:{account}:replicator-production-events",
        "ReplicatorFunction.Version": f"arn:aws:lambda:{account}:function:replicator-production-replicator:1000",
        "PartsFunction.Version": f"arn:aws:lambda:{account}:function:replicator-production-parts:1000",
        "ReplicatorFunctionQueue": "01234567-89ab-cdef-0123-456789abcdef",
        "PartsFunctionQueue": "01234567-89ab-cdef-0123-456789abcdef",
        "ReplicatorFunctionDeletes": "01234567-89ab-cdef-0123-456789abcdef",
        "DeletesQueue": "https://sqs.ap-southeast-1.amazonaws.com/123456789012/replicator-production-deletes",
        "HeldDeletesQueue": "https://sqs.ap-southeast-1.amazonaws.com/123456789012/replicator-production-held-deletes",
    }
    stack = Stack(
        ReplicationRules=rules,
        SourceBucketName="a" * 40,
        DestinationBucketName="b" * 40,
        SourcePrefix="c" * 40,
        GcpServiceAccount="copier-of-objects@my-company-project.iam.gserviceaccount.com",
    )
    for name in (*CONSUMERS, "CheckFunction", "CanaryFunction"):
        variables = stack.variables(name)
        for short, long in real.items():
            variables = {
                variable: re.sub(rf"(?<![\w/]){short}(?!\w)", long, value) for variable, value in variables.items()
            }
        assert len(json.dumps(variables, separators=(",", ":"))) <= 4096, name


def test_the_check_only_reads() -> None:
    for statement in statements(STACK.resource("CheckPolicy")):
        for action in listed(statement["Action"]):
            assert re.match(r"\w+:(Get|List|Describe)", action), action


def test_the_canary_writes_its_own_object_only_and_nobody_else_writes_the_source() -> None:
    for stack in (EVERYTHING, Stack(CanaryMinutes="60", SourcePrefix="", SourceSuffix="")):
        prefix = stack.variables("CanaryFunction")["WIRING"].partition('"Prefix": "')[2].partition('"')[0]
        writing = {
            (name, resource)
            for name, role in stack.of_type("AWS::IAM::Role").items()
            for statement in statements(role)
            for resource in listed(statement["Resource"])
            if resource.startswith("arn:aws:s3:::dummy/") and "s3:PutObject" in listed(statement["Action"])
        }
        assert writing == {("CanaryRole", f"arn:aws:s3:::dummy/{prefix}{FOLDER}*")}
    assert "CanaryRole" not in STACK.of_type("AWS::IAM::Role")


@pytest.mark.parametrize("minutes", [value for value in PARAMETERS["CanaryMinutes"]["AllowedValues"] if value])
def test_the_canarys_alarm_counts_runs(minutes: int) -> None:
    stack = Stack(CanaryMinutes=str(minutes))
    runs = stack.resource("CanaryFunction")["Events"]["Run"]["Properties"]["Schedule"]
    assert runs == f"rate({minutes} minutes)"
    alarm = stack.resource("CanaryAlarm")
    assert (alarm["Metrics"][1]["MetricStat"]["Period"], alarm["EvaluationPeriods"]) == (minutes * 60, 2)
    assert stack.resource("CanaryFunction")["Timeout"] < minutes * 60
    assert config.load(stack.variables("CanaryFunction")).wiring["CanaryMinutes"] == minutes


def test_by_default_there_is_no_canary() -> None:
    assert not [
        name
        for kind in ("AWS::Serverless::Function", "AWS::CloudWatch::Alarm")
        for name in STACK.of_type(kind)
        if "Canary" in name
    ]
    assert config.load(STACK.variables("CheckFunction")).wiring["CanaryMinutes"] == 0
