"""Stands for aws, sam, gcloud, terraform, make and the check: notes its arguments, and keeps a little state.

It is run by the name of the program it stands for. STUB is its folder: `calls` has one line a call, `state.json` what
is there; `fail` may hold the beginning of a call that is to fail.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(os.environ["STUB"])
STATE: dict[str, Any] = json.loads((FOLDER / "state.json").read_text())
PROGRAM, *WORDS = [Path(sys.argv[0]).name, *sys.argv[1:]]
PLAIN = [word for word in WORDS if not word.startswith("-")]
CALL = " ".join([PROGRAM, *WORDS])


def option(name: str) -> str:
    """Return an option's value, given as the next word or after `=`."""
    for word, following in zip(WORDS, [*WORDS[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return ""


def refuse(text: str, code: int = 1) -> NoReturn:
    sys.stderr.write(text)
    sys.exit(code)


def answer(value: Any) -> None:
    sys.stdout.write(value if isinstance(value, str) else json.dumps(value))


def aws() -> None:  # noqa: C901 - a case for each command
    match PLAIN[:2]:
        case ["sts", "get-caller-identity"]:
            answer({"Account": "123456789012"})
        case ["s3api", "get-bucket-location"]:
            if "region" not in STATE:
                refuse("An error occurred (NoSuchBucket) when calling the GetBucketLocation operation", 254)
            answer({"LocationConstraint": STATE["region"]})
        case ["s3api", "put-object"]:
            STATE["object"] = STATE["copy"] = Path(option("--body")).read_text()
        case ["s3api", "head-object"]:
            answer({"VersionId": "v1"})
        case ["s3api", "delete-object"]:
            del STATE["object"]
        case ["cloudformation", "describe-stacks"]:
            if "stack" not in STATE:
                refuse("(ValidationError): Stack with id replicator does not exist", 254)
            answer({"Stacks": [{"StackStatus": STATE["stack"]}]})
        case ["cloudformation", "describe-stack-events"]:
            answer([["EventsQueue", "it had a reason"]])
        case ["cloudformation", "delete-stack"]:
            del STATE["stack"]


def sam() -> None:
    if PLAIN[0] == "deploy":
        STATE["stack"] = "UPDATE_COMPLETE" if "stack" in STATE else "CREATE_COMPLETE"
        STATE["parameters"] = Path(option("--parameter-overrides").removeprefix("file://")).read_text()
    else:
        del STATE["stack"]


def bucket() -> None:
    match PLAIN[2]:
        case "describe" | "get-iam-policy" if "bucket" not in STATE:
            refuse("ERROR: (gcloud.storage.buckets.describe) gs://my-copies not found: 404.")
        case "describe":
            answer(STATE["bucket"])
        case "create":
            uniform = {"uniformBucketLevelAccess": {"enabled": "--uniform-bucket-level-access" in WORDS}}
            lifecycle = json.loads(Path(option("--lifecycle-file")).read_text())
            STATE["bucket"] = {"iamConfiguration": uniform, "lifecycle": lifecycle}
        case "update":
            STATE["bucket"]["lifecycle"] = json.loads(Path(option("--lifecycle-file")).read_text())
        case "get-iam-policy":
            answer({"bindings": STATE.get("bindings", [])})
        case "add-iam-policy-binding":
            STATE.setdefault("bindings", []).append({"role": option("--role"), "members": [option("--member")]})
        case "remove-iam-policy-binding":
            STATE["bindings"].remove({"role": option("--role"), "members": [option("--member")]})


def federation() -> None:
    kind = "provider" if "providers" in PLAIN else "pool"
    verb, *names = [word for word in PLAIN if word not in {"iam", "workload-identity-pools", "providers"}]
    match verb:
        case "list":
            assert "--show-deleted" in WORDS
            answer([STATE[kind]] if kind in STATE else [])
        case "create":
            STATE["pool"] = {"name": f"projects/42/pools/{names[0]}", "state": "ACTIVE"}
        case "create-aws":
            aws = {"accountId": option("--account-id")}
            condition = option("--attribute-condition")
            name = f"projects/42/pools/p/providers/{names[0]}"
            STATE["provider"] = {"name": name, "state": "ACTIVE", "aws": aws, "attributeCondition": condition}
        case "update-aws":
            STATE["provider"]["attributeCondition"] = option("--attribute-condition")
        case "delete" | "undelete":
            STATE[kind]["state"] = "DELETED" if verb == "delete" else "ACTIVE"


def gcloud() -> None:  # noqa: C901 - a case for each command
    match PLAIN[:2]:
        case ["auth", _]:
            answer(STATE.get("account", "me@example.com"))
        case ["projects", _]:
            answer("42\n")
        case ["services", "list"]:
            answer("\n".join(STATE.get("services", [])))
        case ["services", "enable"]:
            STATE["services"] = PLAIN[2:]
        case ["storage", "buckets"]:
            bucket()
        case ["storage", "cat"]:
            if STATE.get("mirrors"):
                STATE["copy"] = Path(".aws-sam/deploy-trial.txt").read_text()
            if "copy" not in STATE:
                refuse("ERROR: (gcloud.storage.cat) The following URLs matched no objects or files")
            answer(STATE["copy"])
        case ["storage", "rm"]:
            del STATE["copy"]
        case ["iam", _]:
            federation()


def main() -> None:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{shlex.join([PROGRAM, *WORDS])}\n")
    fail = FOLDER / "fail"
    if fail.exists() and CALL.startswith(fail.read_text()):
        refuse("it was told to fail", 3)
    if PROGRAM == "terraform" and "output" in PLAIN:
        provider = "projects/42/locations/global/workloadIdentityPools/aws-replicator/providers/aws-account"
        answer({"gcp_workload_identity_provider": {"value": provider}})
    elif PROGRAM in {"aws", "sam", "gcloud"}:
        {"aws": aws, "sam": sam, "gcloud": gcloud}[PROGRAM]()
    elif PROGRAM == "check" and STATE.get("denials"):
        STATE["denials"] -= 1
        answer("MISSING  gs://my-copies/  storage.objects.create")
        (FOLDER / "state.json").write_text(json.dumps(STATE))
        sys.exit(1)
    (FOLDER / "state.json").write_text(json.dumps(STATE))


if __name__ == "__main__":
    main()
