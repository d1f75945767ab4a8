"""Somebody empties the source. No copy is gone, copies go on, one metric tells, and an operator releases the deletes.

`make mass-delete` runs the long form: 2,000 objects under the default limit.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.tools import deletes
from tests.e2e.support import Desk, eventually, s3_of, sqs_of

RESTORED = 3
"""Objects that are there again by the time of the release."""


def counted(desk: Desk, queue: str) -> int:
    """How many messages a queue holds."""
    names = ["", "NotVisible", "Delayed"]
    asked = [f"ApproximateNumberOfMessages{name}" for name in names]
    told = sqs_of(desk).get_queue_attributes(QueueUrl=desk.ready[queue], AttributeNames=asked)["Attributes"]  # type: ignore[arg-type] # names of attributes
    return sum(map(int, told.values()))


def held_by_metric(lines: Iterable[str]) -> float:
    """The sum of the metric that the emulator printed for CloudWatch."""
    found = (json.loads(line) for line in lines if '"DeletesHeld"' in line)
    return sum(sum(each["DeletesHeld"]) for each in found)


@pytest.mark.parametrize(
    ("objects", "limit", "delay"),
    [
        pytest.param(50, 5, 3, id="50"),
        pytest.param(2000, 1000, 60, id="2,000", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_an_emptied_source_costs_no_copy(
    start: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch, objects: int, limit: int, delay: int
) -> None:
    desk = start("--verbose", "--deletes-limit", str(limit), "--deletes-delay", str(delay))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", desk.ready["sqs"])
    queues = [
        f"--{name}-queue={desk.ready[key]}"
        for name, key in (
            ("events", "queue"),
            ("deletes", "deletes_queue"),
            ("held", "held_deletes_queue"),
        )
    ]
    s3, keys, minutes = s3_of(desk), [f"data/{number:04}" for number in range(objects)], 20.0 + objects / 10
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda key: s3.put_object(Bucket="dummy", Key=key, Body=key.encode()), keys))

    def copies() -> int:
        return sum(1 for path in (desk.destination / "data").glob("*") if path.is_file())

    eventually(lambda: copies() == objects, "every copy", minutes)

    for at in range(0, objects, 1000):
        s3.delete_objects(Bucket="dummy", Delete={"Objects": [{"Key": key} for key in keys[at : at + 1000]]})
    # An event that comes twice sends its delete twice.
    eventually(lambda: counted(desk, "held_deletes_queue") >= objects, "all deletes held", minutes + delay)
    assert copies() == objects, "a copy was deleted"
    s3.put_object(Bucket="dummy", Key="new", Body=b"new")
    desk.await_there("new")
    assert counted(desk, "dead_letter_queue") == 0
    eventually(lambda: held_by_metric(desk.emulator.output()) > 0, "the metric")

    for key in keys[:RESTORED]:
        s3.put_object(Bucket="dummy", Key=key, Body=key.encode())
    assert deletes.main(["release", *queues]) == 0
    eventually(lambda: copies() == RESTORED, "just what is still absent is deleted", minutes)
    eventually(lambda: not counted(desk, "queue"), "an empty queue", minutes)
    assert copies() == RESTORED

    began = time.monotonic()
    s3.delete_object(Bucket="dummy", Key=keys[0])
    eventually(lambda: copies() == RESTORED - 1, "a single delete", delay + 20.0)
    took = time.monotonic() - began
    sys.stdout.write(
        f"{objects:,} deletes at once: all held, 0 copies gone; released: {RESTORED} that were back are kept; "
        f"a single delete took {took:.1f} s of a delay of {delay} s\n"
    )
