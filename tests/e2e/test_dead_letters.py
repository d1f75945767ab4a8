"""What is hopeless ends in the dead-letter queue while the rest goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.support import Desk, eventually, sqs_of


def dead_letters(desk: Desk) -> list[Any]:
    answer = sqs_of(desk).receive_message(
        QueueUrl=desk.ready["dead_letter_queue"], MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return list(answer.get("Messages", []))


def test_poison_is_parked_while_good_messages_replicate(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    sqs = sqs_of(desk)
    for number, poison in enumerate(["not json", "[]", json.dumps({"Records": [{"s3": None}]})]):
        sqs.send_message(QueueUrl=desk.ready["queue"], MessageBody=poison)
        (desk.source / f"good-{number}.txt").write_bytes(b"good")
    for number in range(3):
        desk.await_equal(f"good-{number}.txt")
    eventually(lambda: len(dead_letters(desk)) == 3, "three dead letters")


def test_what_can_never_be_written_is_parked_with_its_event(start: Callable[..., Desk]) -> None:
    desk = start("--target", "folder")
    desk.destination.rename(desk.destination.with_name("away"))
    desk.destination.write_bytes(b"in the way")
    (desk.source / "hopeless.txt").write_bytes(b"hopeless")
    eventually(lambda: any("hopeless.txt" in letter["Body"] for letter in dead_letters(desk)), "a dead letter")
