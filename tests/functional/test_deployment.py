"""What is deployed: template.yaml expanded by SAM and made in moto, and the built artifact under AWS's runtime.

What is missing here is said: aws-sam-cli's environment and the artifact come from `make build`.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import pytest

from handler.tools.notifications import perform
from local_emulator.gcs import GcsServer
from local_emulator.samples import objects_in
from tests.functional import rie
from tests.functional.rie import ARTIFACT, ROOT, Rie
from tests.functional.sam import Translator, needs_sam
from tests.unit.cfn import REQUIRED

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DEPLOYED = ROOT / ".aws-sam/build/ReplicatorFunction"
EVENTS = sorted((ROOT / "events").glob("*.json"))
SAMPLE = b"Sample data\n"
SERVICES = {"s3", "sqs", "sts", "cloudwatch", "codedeploy", "events", "lambda"}
QUEUES = {"EventsQueue": "DeadLetterQueue", "DeletesQueue": "DeadLetterQueue", "PartsQueue": "PartsDeadLetterQueue"}
MAPPINGS = (
    ("Queue", "ReplicatorFunction", "EventsQueue"),
    ("Deletes", "ReplicatorFunction", "DeletesQueue"),
    ("Queue", "PartsFunction", "PartsQueue"),
)

needs_artifact = pytest.mark.skipif(rie.missing() is not None, reason=str(rie.missing()))


STACKS = [
    {},
    {"CreateSourceBucket": "true", "EventDelivery": "EventBridge"},
    {"DeploymentPreference": "Linear10PercentEvery1Minute"},
]


@pytest.fixture(scope="module", params=STACKS, ids=str)
def stack(request: pytest.FixtureRequest, sam: Translator) -> dict[str, Any]:
    """The expanded template, and what moto made of it."""
    made: dict[str, Any] = sam("deploy", [REQUIRED | each for each in STACKS])[STACKS.index(request.param)]
    return made | {"parameters": request.param}


@needs_sam
@pytest.mark.xdist_group("sam")
def test_the_stack_is_made(stack: dict[str, Any]) -> None:
    deployed = stack["deployed"]
    assert deployed["status"] == "CREATE_COMPLETE"
    assert ("dummy" in deployed["buckets"]) == ("CreateSourceBucket" in stack["parameters"])
    made = {name for name, each in stack["expanded"]["Resources"].items() if _is_made(each, stack)}
    assert made <= set(deployed["resources"]), "moto left out what it is not known to leave out"


def _is_made(resource: dict[str, Any], stack: dict[str, Any]) -> bool:
    conditions = {"MakesSourceBucket": "CreateSourceBucket", "ByEventBridge": "EventDelivery"}
    conditions["IsGradual"] = "DeploymentPreference"
    wanted = "Condition" not in resource or conditions.get(resource["Condition"]) in stack["parameters"]
    return wanted and resource["Type"] not in stack["unmade"]


@needs_sam
@pytest.mark.xdist_group("sam")
def test_the_queues_redrive_to_their_dead_letter_queues(stack: dict[str, Any]) -> None:
    queues = stack["deployed"]["queues"]
    for name, letters in QUEUES.items():
        redrive = json.loads(queues[name]["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"] == queues[letters]["QueueArn"]
        assert int(queues[name]["VisibilityTimeout"]) >= 6 * 120


@needs_sam
@pytest.mark.xdist_group("sam")
def test_lambda_polls_each_queue_and_gets_single_failures(stack: dict[str, Any]) -> None:
    queues = {values["QueueArn"]: name for name, values in stack["deployed"]["queues"].items()}
    mappings = stack["deployed"]["mappings"]
    assert sorted(queues[each["EventSourceArn"]] for each in mappings) == sorted(QUEUES)
    resources = stack["expanded"]["Resources"]
    for name, function, queue in MAPPINGS:
        mapping = resources[f"{function}{name}"]["Properties"]
        assert mapping["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["FunctionName"] == {"Ref": f"{function}Aliaslive"}


@needs_sam
@pytest.mark.xdist_group("sam")
def test_sam_adds_no_role_and_no_permission_of_its_own(stack: dict[str, Any]) -> None:
    resources = stack["expanded"]["Resources"]
    roles = {name for name, each in resources.items() if each["Type"] == "AWS::IAM::Role"}
    assert roles == {"ReplicatorRole", "BucketNotificationRole", "CanaryRole", "BackfillRole", "DeploymentRole"}
    permissions = {name for name, each in resources.items() if each["Type"] == "AWS::Lambda::Permission"}
    schedules = {"CheckFunctionHourlyPermission", "CanaryFunctionRunPermission"}
    assert permissions == {"UrlPermission", "UrlInvokePermission", *schedules}
    assert resources["ReplicatorFunctionUrl"]["Properties"]["AuthType"] == "AWS_IAM"
    assert resources["ReplicatorFunctionUrl"]["Properties"]["TargetFunctionArn"] == {
        "Ref": "ReplicatorFunctionAliaslive"
    }


@needs_sam
@pytest.mark.xdist_group("sam")
def test_the_custom_resource_wires_the_bucket_to_the_stacks_queue(
    stack: dict[str, Any], s3: S3Client, bucket: str
) -> None:
    properties = dict(stack["expanded"]["Resources"]["BucketNotification"]["Properties"])
    assert properties["QueueArn"] == {"Fn::GetAtt": ["EventsQueue", "Arn"]}
    arn = stack["deployed"]["queues"]["EventsQueue"]["QueueArn"]
    given = {"Bucket": bucket, "QueueArn": arn, "ConfigurationId": "replicator", "Delivery": "Direct"}
    resolved = {"Events": properties["Events"], "Prefix": "", "Suffix": "", **given}
    perform({"RequestType": "Create", "ResourceProperties": resolved}, s3, sleep=lambda _: None)
    wired = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert [each["QueueArn"] for each in wired] == [arn]


@pytest.fixture(scope="module")
def world(s3_url: str, s3: S3Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The built artifact between moto and the GCS shim. One request at a time."""
    folder = tmp_path_factory.mktemp("gcs")
    (folder / "copies").mkdir()
    sqs = boto3.client("sqs", endpoint_url=s3_url)
    letters = sqs.create_queue(QueueName="artifact-dead-letters")["QueueUrl"]
    s3.create_bucket(Bucket="dummy")
    rules = [{"ID": "built", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}]
    with GcsServer(folder=folder, bucket=None, host="127.0.0.1", port=0) as gcs:
        variables = {
            "REPLICATION_RULES": json.dumps(rules),
            "DEAD_LETTER_QUEUE_URL": letters,
            "AWS_ENDPOINT_URL": s3_url,
            "STORAGE_EMULATOR_HOST": gcs.url,
        }
        with Rie(variables=variables) as function:
            yield {"function": function, "s3": s3, "sqs": sqs, "letters": letters, "gcs": gcs.url}


@needs_artifact
@pytest.mark.xdist_group("artifact")
@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_the_built_artifact_answers_every_sample_event(world: dict[str, Any], file: Path) -> None:
    event = json.loads(file.read_text())
    named = {key for name, key in objects_in(event) if name == "dummy" and key}
    for key in named:
        world["s3"].put_object(Bucket="dummy", Key=key, Body=SAMPLE)
    answer = world["function"].invoke(event)
    told = "".join(world["function"].output[-20:])
    if "requestContext" in event:
        assert answer["statusCode"] == (405 if file.stem == "function-url-get" else 200), told
    elif file.stem.startswith("sqs"):
        assert answer == {"batchItemFailures": []}, told
    elif "tasks" in event:
        assert [each["resultCode"] for each in answer["results"]] == ["Succeeded"] * len(event["tasks"]), told
    else:
        assert answer is None, told
    for key in named:
        assert _copy(world["gcs"], key) == SAMPLE, told
        world["s3"].delete_object(Bucket="dummy", Key=key)


@needs_artifact
@pytest.mark.xdist_group("artifact")
def test_the_built_artifact_parks_what_can_never_succeed(world: dict[str, Any]) -> None:
    world["sqs"].purge_queue(QueueUrl=world["letters"])
    world["s3"].put_object(Bucket="dummy", Key="source-file.csv", Body=SAMPLE)
    event = json.loads((ROOT / "events/sqs-poison.json").read_text())
    assert world["function"].invoke(event) == {"batchItemFailures": []}
    parked = world["sqs"].receive_message(
        QueueUrl=world["letters"], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )["Messages"]
    assert len(parked) == 2
    assert all(each["MessageAttributes"]["Reason"]["StringValue"] for each in parked)


def _copy(gcs: str, key: str) -> bytes:
    url = f"{gcs}/storage/v1/b/copies/o/{quote(key, safe='')}?alt=media"
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
        return content


@needs_artifact
@pytest.mark.xdist_group("artifact")
def test_the_built_check_tries_permissions(world: dict[str, Any], s3_url: str) -> None:
    variables = {
        "REPLICATION_RULES": json.dumps(
            [
                {"ID": "there", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies/in"}},
                {"ID": "gone", "Source": {"Bucket": "no-such-source"}, "Destination": {"Bucket": "gs://no-such-copy"}},
            ]
        ),
        "DEAD_LETTER_QUEUE_URL": world["letters"],
        "AWS_ENDPOINT_URL": s3_url,
        "STORAGE_EMULATOR_HOST": world["gcs"],
    }
    with Rie(handler="handler.tools.check.lambda_handler", variables=variables) as function:
        answer = function.invoke({"dead_letters": True})
    results = {(row["where"], row["subject"]): row["result"] for row in answer["rows"]}
    for permission in ("s3:ListBucket", "s3:GetObject", "s3:GetObjectTagging"):
        assert results["s3://dummy/", permission] == "ok", answer["table"]
        assert results["s3://no-such-source/", permission] == "FAILED", answer["table"]
    for permission in ("create", "get", "update", "list", "delete"):
        assert results["gs://copies/in/", f"storage.objects.{permission}"] == "ok", answer["table"]
    assert results["gs://no-such-copy/", "storage.objects.create"] == "FAILED", answer["table"]
    assert results[world["letters"], "sqs:SendMessage"] == "ok"
    assert not answer["ok"]


@needs_artifact
@pytest.mark.parametrize("artifact", [DEPLOYED, ARTIFACT], ids=["deployed", "desk"])
def test_the_artifact_holds_only_what_runs(artifact: Path) -> None:
    if not artifact.exists():
        pytest.skip("only the desk's artifact is built: make build")
    names = {file.name for file in artifact.iterdir()}
    assert not names & {"tests", "local_emulator", "moto", "pytest", "grpc", "bin", "Makefile", "events"}
    chosen = (ROOT / ".aws-sam/with-google-cloud-storage").exists()
    for package in ("google/cloud/storage", "google/protobuf", "requests"):
        assert (artifact / package).exists() is chosen, "Google's client is there only if it is built in"
    services = {file.name for file in (artifact / "botocore/data").iterdir() if file.is_dir()}
    assert services == SERVICES
    for unwanted in ("*.pyi", "*.md", "Makefile", "requirements.txt"):
        assert not [file for file in artifact.rglob(unwanted) if "dist-info" not in str(file)]
    assert sum(file.stat().st_size for file in artifact.rglob("*")) < (60_000_000 if chosen else 50_000_000)


@needs_artifact
def test_the_deployed_artifact_is_for_one_processor() -> None:
    if not DEPLOYED.exists():
        pytest.skip("only the desk's artifact is built: make build")
    machines = {file.read_bytes()[18:20] for file in DEPLOYED.rglob("*.so*")}
    assert len(machines) == 1
    assert machines <= {b"\xb7\x00", b"\x3e\x00"}  # ELF's numbers of AArch64 and x86-64
