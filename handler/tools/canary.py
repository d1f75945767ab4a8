"""Puts, overwrites, tags and deletes an object of its own every few minutes, and waits for its copy after each step.

The canary writes to the source only. The check function, which has the replicator's role, says what the copy lacks, so
the canary needs no permission from Google. All runs use one key: a run replaces what a crashed run left.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler import config
from handler.core.batch import Work
from handler.core.decide import DRY_RUN, EQUAL, Action
from handler.core.task import Change
from handler.tools.rows import CLIENTS, detail_of

if TYPE_CHECKING:
    from handler.wiring import Context, Wiring

SCHEDULE = "aws.events"
"""The `source` field of a schedule's events."""
FOLDER = ".replicator-canary/"
_CLEANING = 30.0
"""Seconds that are reserved for the clean-up."""

Look = Callable[[str], Mapping[str, Any]]


class Step(NamedTuple):
    """One change of the object, and the seconds until the copy showed it. `detail` says why the step failed."""

    name: str
    seconds: float | None = None
    detail: str = ""


def lambda_handler(event: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Run the canary once, and write its metrics."""
    from handler import observe

    settings = config.load()
    canary = Canary(
        settings,
        boto3.client("s3", config=CLIENTS),
        look=lambda key: ask(f"{settings.wiring['ConfigurationId']}-check", {"look": key}),
        left=lambda: context.get_remaining_time_in_millis() / 1000 - _CLEANING,
    )
    steps = canary.run(is_scheduled=event.get("source") == SCHEDULE)
    failures = {step.name: step.detail for step in steps if step.detail}
    seconds = {step.name: step.seconds for step in steps if step.seconds is not None}
    observe.canary(settings.metrics_namespace, settings.wiring["Bucket"], failures, seconds)
    return [step._asdict() for step in steps]


class Canary:
    """One run.

    Args:
        settings: the settings, with WIRING.
        s3: boto3's client.
        look: returns what `look` returns.
        left: returns the seconds that are left for waiting.
        clock: returns seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        settings: config.Settings,
        s3: Any,
        *,
        look: Look,
        left: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        wiring = settings.wiring
        self.key = f"{wiring['Prefix']}{FOLDER}object{wiring['Suffix']}"
        owner = settings.owner_of(wiring["Bucket"])
        self._bucket = {"Bucket": wiring["Bucket"]} | ({"ExpectedBucketOwner": owner} if owner else {})
        self._rules = [rule for rule in settings.by_source.get(wiring["Bucket"], ()) if rule.covers(self.key)]
        self._is_delete_delayed = bool(settings.deletes_queue and settings.deletes_limit)
        self._s3 = s3
        self._look = look
        self._left = left
        self._clock = clock
        self._sleep = sleep

    def run(self, *, is_scheduled: bool) -> list[Step]:
        """Return the writing steps up to the first that fails, and the deleting steps.

        Args:
            is_scheduled: the last run is long enough ago to judge its delayed delete.
        """
        if not self._rules:
            return [
                Step("put", detail=f"no enabled rule covers {self.key!r}: set SourcePrefix to a rule's Filter.Prefix")
            ]
        steps = [self._last_delete()] if is_scheduled and self._is_delete_delayed else []
        try:
            self._delete_versions()
            for name, write in self._writes():
                write()
                steps.append(self._wait(name, _is_equal))
                if steps[-1].detail:
                    break
        except (ClientError, BotoCoreError) as error:
            steps.append(Step("write", detail=detail_of(error)))
        try:
            self._s3.delete_object(**self._bucket, Key=self.key)
            self._delete_versions()
        except (ClientError, BotoCoreError) as error:
            return [*steps, Step("clean up", detail=detail_of(error))]
        return steps if self._is_delete_delayed else [*steps, self._wait("delete", _is_gone)]

    def _writes(self) -> Iterator[tuple[str, Callable[[], object]]]:
        target = {**self._bucket, "Key": self.key}
        tags = dict(self._rules[0].tags)  # which the rule's filter asks for

        def put() -> None:
            self._s3.put_object(**target, Body=str(uuid.uuid4()).encode(), Tagging=urlencode(tags))

        def tag() -> None:
            given = {**tags, "replicator-canary": str(uuid.uuid4())}
            tag_set = [{"Key": name, "Value": value} for name, value in given.items()]
            self._s3.put_object_tagging(**target, Tagging={"TagSet": tag_set})

        yield "put", put
        yield "overwrite", put
        if any(rule.replicate_tags for rule in self._rules):
            yield "tag", tag

    def _wait(self, name: str, is_done: Callable[[Mapping[str, Any]], bool]) -> Step:
        """Ask for the copy's state until it shows the step or no time is left."""
        began = self._clock()
        while not is_done(answer := self._answer()):
            waited = self._clock() - began
            if self._left() <= 0:
                return Step(name, detail=f"the copy does not show it after {waited:.0f} s: {json.dumps(answer)}")
            self._sleep(min(5.0, max(1.0, waited / 4)))
        return Step(name, self._clock() - began)

    def _last_delete(self) -> Step:
        """Judge the delete of the last run, whose delay is over by now."""
        if any(why.startswith(f"{DRY_RUN}{Action.DELETE}") for why in self._answer()["found"]):
            return Step("delete", detail="the copy of the last run still exists, but its original is deleted")
        return Step("delete")

    def _answer(self) -> Mapping[str, Any]:
        try:
            return self._look(self.key)
        except (ClientError, BotoCoreError, config.ConfigurationError) as error:
            return {"found": [], "errors": [detail_of(error)]}

    def _delete_versions(self) -> None:
        """Delete each version, then the delete markers, so that no version becomes current. "null" is a version too."""
        listed = self._s3.list_object_versions(**self._bucket, Prefix=self.key)
        for version in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
            if version["Key"] == self.key:
                self._s3.delete_object(**self._bucket, Key=self.key, VersionId=version["VersionId"])


def _is_equal(answer: Mapping[str, Any]) -> bool:
    return bool(answer["found"]) and not answer["errors"] and {*answer["found"]} == {EQUAL}


def _is_gone(answer: Mapping[str, Any]) -> bool:
    return not answer["errors"] and not any(why.startswith(DRY_RUN) for why in answer["found"])


def look(key: str, context: Context) -> dict[str, Any]:
    """Return what a dry run of the replicator finds for a key, and its errors. It uses the role of this function."""
    wiring = _wiring()
    wiring.deadline.begin(context)
    bucket = config.load().wiring["Bucket"]
    change = Change(bucket=bucket, key=key, event="canary")
    work = [Work(bucket=bucket, key=key, changes=(change,))]
    (result,) = wiring.replicator.replicate(work, has_time=wiring.deadline.is_ahead)
    return {"found": [each.why for each in result.outcomes], "errors": [str(error) for error in result.errors]}


@cache
def _wiring() -> Wiring:
    from handler.wiring import Wiring  # only `look` needs it

    return Wiring(replace(config.load(), dry_run=True))


def ask(function: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Invoke a function and return its answer.

    Raises:
        ConfigurationError: the function failed; with its message.
    """
    answer = boto3.client("lambda").invoke(FunctionName=function, Payload=json.dumps(payload))
    result: dict[str, Any] = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise config.ConfigurationError([str(result.get("errorMessage"))])
    return result
