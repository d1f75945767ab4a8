"""`make sam-local EVENT=...`: one event through the built artifact in Docker, between moto and the GCS shim.

The two servers listen where containers reach this host and nobody else does. `sam local invoke` gets their addresses by
`--env-vars`; more arguments for it, such as --skip-pull-image, come from SAM_LOCAL. What an event speaks of is put into
the source first; what is copied is in a folder that is printed.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from local_emulator.gcs import GcsServer
from local_emulator.samples import objects_in
from tests.functional.rie import ARTIFACT, ROOT, RUNTIME
from tests.unit.cfn import REQUIRED

SAM = ROOT / ".venv-sam/bin/sam"
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def main() -> int:
    """Run the program; 3 where there is no Docker."""
    event = Path(sys.argv[1])
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        _say("skipped: no Docker engine answers here; make bench-cold and make test run the artifact without one")
        return 3
    address, name = _host()
    server = ThreadedMotoServer(address, port=0, verbose=False)
    server.start()
    try:
        s3_url = f"http://{name}:{server.get_host_and_port()[1]}"
        copies = Path(tempfile.mkdtemp(prefix="copies-"))
        with GcsServer(folder=copies, bucket="copies", host=address, port=0) as gcs:
            gcs_url = f"http://{name}:{gcs.url.rpartition(':')[2]}"
            return _invoke(event, s3_url, gcs_url, copies)
    finally:
        server.stop()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _host() -> tuple[str, str]:
    """Where to listen, and what containers call it."""
    if platform.system() != "Linux":
        return "127.0.0.1", "host.docker.internal"
    query = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    gateway = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return gateway, gateway


def _invoke(event: Path, s3_url: str, gcs_url: str, copies: Path) -> int:
    keys: Any = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=s3_url, **keys)
    s3.create_bucket(Bucket="dummy")
    for bucket, key in objects_in(json.loads(event.read_text())):
        if bucket == "dummy" and key:
            s3.put_object(Bucket=bucket, Key=key, Body=b"Sample data\n")
    letters = boto3.client("sqs", endpoint_url=s3_url, **keys).create_queue(QueueName="dead-letters")["QueueUrl"]
    rules = [{"ID": "local", "Source": {"Bucket": "dummy"}, "Destination": {"Bucket": "gs://copies"}}]
    variables = {
        "REPLICATION_RULES": json.dumps(rules),
        "GCP_CREDENTIALS": "",
        "DEAD_LETTER_QUEUE_URL": letters,
        "PARTS_QUEUE_URL": "",
        "FAN_OUT_THRESHOLD": "",
        "BANDWIDTH_LIMIT": "",
        "DRY_RUN": "",
        "CONCURRENCY": "",
    }
    servers = {"AWS_ENDPOINT_URL": s3_url, "STORAGE_EMULATOR_HOST": gcs_url}
    template = ARTIFACT.parent / "template.yaml"
    # sam passes on only variables that the template names
    built = (ROOT / ".aws-sam/build/template.yaml").read_text()
    addition = "".join(f"\n        {server}: ''" for server in servers)
    template.write_text(built.replace("      Variables:", f"      Variables:{addition}", 1))
    file = ARTIFACT.parent / "variables.json"
    file.write_text(json.dumps({"ReplicatorFunction": variables | servers}))
    overrides = [f"{name}={value}" for name, value in (REQUIRED | {"Architecture": ARCHITECTURE}).items()]
    command = [
        *(str(SAM), "local", "invoke", "ReplicatorFunction", "--event", str(event), "--template", str(template)),
        *("--env-vars", str(file), "--parameter-overrides", *overrides, *os.environ.get("SAM_LOCAL", "").split()),
    ]
    unset = {"AWS_PROFILE", "AWS_SESSION_TOKEN"}
    environment = {key: value for key, value in os.environ.items() if key not in unset} | {
        "SAM_CLI_TELEMETRY": "0",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    _say(f"{Path(os.path.realpath(RUNTIME / 'python')).name}, {ARCHITECTURE}; docker: {shutil.which('docker')}")
    code = subprocess.run(command, env=environment, check=False).returncode
    found = sorted(
        str(file.relative_to(copies)) for file in copies.rglob("*") if file.is_file() and ".gcs" not in file.parts
    )
    _say(f"copies in {copies}: {', '.join(found) or 'none'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
