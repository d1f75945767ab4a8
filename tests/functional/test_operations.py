"""Every block of docs/operations.md runs as it stands, from a fresh shell, against a stack in moto.

What moto cannot take is listed here with the reason: the aws command line at least takes its arguments.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.functional.rie import ROOT
from tests.functional.served import SAM_BIN, aws_command, served

TEXT = (ROOT / "docs/operations.md").read_text()
TOP, *BLOCKS = [
    (re.findall(r"^#+ (.*)", TEXT[: found.start()], re.MULTILINE)[-1], found[1])
    for found in re.finditer(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
]
ELSEWHERE = {
    "gcloud ": "it needs Google; its arguments are those of make undeploy: tests/functional/test_deploy.py",
    ".venv/bin/python -m handler.tools.deletes": "tests/functional/test_deletes.py",
    ".venv/bin/python -m handler.tools.verify": "tests/functional/test_verify.py, tests/functional/test_orphans.py",
}
NOT_IN_MOTO = {
    "sqs start-message-move-task": "moto does not know it",
    "cloudformation continue-update-rollback": "moto does not know it",
    "cloudformation delete-stack": "it would delete the stack that the other commands need",
}
LETTERS, PAUSING = "Dead letters: look, redrive, purge", "Pausing and resuming"
RESTORING, FAILING = "Restoring after a mass delete", "A custom resource that fails"


def block_of(heading: str, containing: str = "") -> str:
    [found] = [block for title, block in BLOCKS if title == heading and containing in block]
    return found


OWN = {
    "look": block_of(LETTERS, "in DeadLetterQueue"),
    "redrive some": block_of(LETTERS, "REASON="),
    "pause": block_of(PAUSING, "Replication Paused"),
    "resume": block_of(PAUSING, "Replication Running"),
    "pause at once": block_of(PAUSING, "--no-enabled"),
    "resume at once": block_of(PAUSING, " --enabled"),
    "roll back": block_of("Upgrading and rolling back"),
    "list markers": block_of(RESTORING, "list-object-versions"),
    "remove markers": block_of(RESTORING, "delete-objects"),
    "unwire": block_of(FAILING, "put-bucket-notification-configuration"),
}
"""Blocks with a test of what they do."""
PLACEHOLDER = re.compile(r"(?<![$\w{\"-])(STACK|NAME|UUID|SOURCE|BUCKET|ACCOUNT|[A-Z_]+_ARN)\b")

pytestmark = [
    pytest.mark.runbook,
    pytest.mark.skipif(not (SAM_BIN / "aws").exists(), reason="there is no .venv-sam: make check-template"),
    pytest.mark.xdist_group("operations"),
]


class Shell:
    """A fresh shell for each block, with aws going to moto, or nowhere for what moto cannot take."""

    def __init__(self, url: str, aws: Path, folder: Path) -> None:
        self.url = url
        self._folder = folder
        nowhere = "|".join(name.replace(" ", r"\ ") for name in NOT_IN_MOTO)
        (folder / "aws").write_text(
            f"#!/bin/sh\n"
            f'case "$1 $2" in {nowhere}) export AWS_MAX_ATTEMPTS=1; url=http://127.0.0.1:9 ;; *) url={url} ;; esac\n'
            f'exec {aws} --endpoint-url "$url" "$@"\n'
        )
        (folder / "aws").chmod(0o755)
        self._environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_CONFIG_FILE": os.devnull,
            "TMPDIR": str(folder),
        }

    def run(self, block: str) -> str:
        """Run the first block and this one; it fails only by commands that go nowhere."""
        ended = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{TOP[1]}\n{block}"],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        unreachable = ended.stderr.count("Could not connect to the endpoint URL")
        expected = sum(block.count(f"aws {name}") for name in NOT_IN_MOTO)
        assert unreachable == expected, ended.stderr
        assert expected or (ended.returncode == 0 and not ended.stderr), ended.stderr
        return ended.stdout

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url)  # type: ignore[call-overload] # any of them


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("operations")
    with served("my-source") as url, aws_command() as aws:
        yield Shell(url, aws, folder)


def _is_elsewhere(block: str) -> bool:
    return any(line.startswith(tuple(ELSEWHERE)) for line in block.splitlines())


OTHERS = [(title, block) for title, block in BLOCKS if not _is_elsewhere(block) and block not in OWN.values()]


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{title}: {block[:40]}") for title, block in OTHERS])
def test_every_other_block_runs_as_it_stands(shell: Shell, block: str) -> None:
    shell.run(block)


def test_what_is_run_elsewhere_is_only_that() -> None:
    for reason in ELSEWHERE.values():
        assert all((ROOT / name).exists() for name in re.findall(r"tests/\S+\.py", reason)), reason
    for _, block in BLOCKS:
        lines = [line for line in block.splitlines() if line.strip()]
        assert not _is_elsewhere(block) or all(line.startswith(tuple(ELSEWHERE)) for line in lines), block


def test_no_command_has_a_placeholder() -> None:
    prose = re.sub(r"(?m)^\|.*", "", TEXT)
    inline = re.findall(r"`((?:aws|python -m|\.venv/bin/python|gcloud) [^`]*)`", prose)
    assert inline
    for command in [*inline, *(block for _, block in BLOCKS)]:
        assert not PLACEHOLDER.search(re.sub(r"(?m)^(export )?[A-Z]+=.*|#.*", "", command)), command


@pytest.fixture
def dead_letter(shell: Shell) -> Callable[[str], None]:
    """Puts a dead letter into its queue: parked with a reason, or moved by SQS without one."""
    sqs = shell.client("sqs")
    url = sqs.get_queue_url(QueueName="replicator-dead-letters")["QueueUrl"]

    def put(reason: str) -> None:
        attributes = {"Reason": {"DataType": "String", "StringValue": reason}} if reason else {}
        sqs.send_message(QueueUrl=url, MessageBody=f'{{"of": "{reason}"}}', MessageAttributes=attributes)

    while letters := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for letter in letters:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
    return put


def test_looking_shows_letters_with_their_reasons(shell: Shell, dead_letter: Callable[[str], None]) -> None:
    dead_letter("SrcObjectArchived")  # not the reason of the test below: it is invisible for a time, and comes back
    dead_letter("")
    [letters, none] = _documents(shell.run(OWN["look"]))
    assert [each[0] for each in letters] == ["SrcObjectArchived", None]
    assert not none


def _documents(text: str) -> list[Any]:
    decoder, documents = json.JSONDecoder(), []
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:]
    return documents


def test_letters_of_one_reason_are_redriven_and_others_stay(shell: Shell, dead_letter: Callable[[str], None]) -> None:
    sqs, functions = shell.client("sqs"), shell.client("lambda")
    url = sqs.get_queue_url(QueueName="replicator-dead-letters")["QueueUrl"]

    def count() -> int:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    before = count()
    for reason in ("DstPutObjectNotPermitted", "SrcObjectArchived", ""):
        dead_letter(reason)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)  # moto would take the event at once
    shell.run(OWN["redrive some"])
    events = sqs.get_queue_url(QueueName="replicator-events")["QueueUrl"]
    bodies = [each["Body"] for each in sqs.receive_message(QueueUrl=events, MaxNumberOfMessages=10)["Messages"]]
    assert [body for body in bodies if "of" in json.loads(body)] == ['{"of": "DstPutObjectNotPermitted"}']
    assert count() == before + 2


def test_pausing_at_once_stops_every_queue_and_is_taken_back(shell: Shell) -> None:
    mappings = shell.client("lambda")
    shell.run(OWN["pause at once"])
    assert {each["State"] for each in mappings.list_event_source_mappings()["EventSourceMappings"]} == {"Disabled"}
    shell.run(OWN["resume at once"])
    assert {each["State"] for each in mappings.list_event_source_mappings()["EventSourceMappings"]} == {"Enabled"}


def test_pausing_by_the_parameter_changes_no_other(shell: Shell) -> None:
    def parameters() -> dict[str, str]:
        found = shell.client("cloudformation").describe_stacks(StackName="replicator")["Stacks"][0]["Parameters"]
        return {each["ParameterKey"]: each["ParameterValue"] for each in found}

    before = parameters()
    shell.run(OWN["pause"])
    assert parameters() == before | {"Replication": "Paused"}
    shell.run(OWN["resume"])
    assert parameters() == before


def test_rolling_back_moves_each_alias_to_the_version_before(shell: Shell) -> None:
    functions = shell.client("lambda")
    for name in ("replicator-replicator", "replicator-parts"):
        functions.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    shell.run(OWN["roll back"])
    for name in ("replicator-replicator", "replicator-parts"):
        assert functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "1"


def test_what_was_deleted_within_a_day_comes_back(shell: Shell) -> None:
    s3 = shell.client("s3")
    s3.put_bucket_versioning(Bucket="my-source", VersioningConfiguration={"Status": "Enabled"})
    for key in ("one", "two & 'three'", "stays"):
        s3.put_object(Bucket="my-source", Key=key, Body=b"data")
    for key in ("one", "two & 'three'"):
        s3.delete_object(Bucket="my-source", Key=key)
    assert "2 delete markers" in shell.run(OWN["list markers"])
    shell.run(OWN["remove markers"])
    kept = [each["Key"] for each in s3.list_objects_v2(Bucket="my-source")["Contents"]]
    assert kept == ["one", "stays", "two & 'three'"]


def test_only_this_stacks_notification_is_taken_away(shell: Shell) -> None:
    s3 = shell.client("s3")
    arn = "arn:aws:sqs:us-east-1:123456789012:replicator-events"
    events = ["s3:ObjectCreated:*"]
    entries = [{"Id": name, "QueueArn": arn, "Events": events} for name in ("replicator", "another")]
    s3.put_bucket_notification_configuration(
        Bucket="my-source", NotificationConfiguration={"QueueConfigurations": entries}
    )
    shell.run(OWN["unwire"])
    left = s3.get_bucket_notification_configuration(Bucket="my-source")["QueueConfigurations"]
    assert [each["Id"] for each in left] == ["another"]
