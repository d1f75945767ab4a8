"""`next_step` as a table: what an invocation does next with a large copy, for every way in which it can stand."""

from __future__ import annotations

import itertools

import pytest

from handler.core.steps import Progress, Step, next_step

WHOLE = Progress(has_queue=True)
MESSAGE = Progress(has_queue=True, is_message=True)
ALONE = Progress()

ROWS = [
    # what it is, how it stands, what is done next
    ("bytes are missing, alone", ALONE._replace(missing=True), Step.COPY),
    ("bytes are missing, with a queue", WHOLE._replace(missing=True), Step.COPY),
    ("bytes of a message's span are missing", MESSAGE._replace(missing=True), Step.COPY),
    ("the object is huge, or was handed over", WHOLE._replace(missing=True, is_sent=True), Step.SEND),
    ("a message copies what was handed over", MESSAGE._replace(missing=True, is_sent=True), Step.COPY),
    ("it was handed over, and is all there", WHOLE._replace(is_sent=True), Step.JOIN),
    ("no time, alone", ALONE._replace(missing=True, copied=True, late=True), Step.FAIL),
    ("no time, with a queue", WHOLE._replace(missing=True, late=True), Step.SEND),
    ("no time for all of a span", MESSAGE._replace(missing=True, copied=True, late=True), Step.SEND),
    ("no time for any of a span", MESSAGE._replace(missing=True, late=True), Step.FAIL),
    ("a span is copied, and no time to join it", MESSAGE._replace(copied=True, late=True), Step.SEND),
    ("a span's parts are there", MESSAGE, Step.JOIN),
    ("all parts are there", WHOLE, Step.JOIN),
    ("a span is whole, others are not", MESSAGE._replace(joined=True, missing=True, others_miss=True), Step.LEAVE),
    ("the last span is whole", MESSAGE._replace(joined=True), Step.COMPOSE),
    ("all is joined", WHOLE._replace(joined=True), Step.COMPOSE),
]


@pytest.mark.parametrize(("stands", "step"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_next_step(stands: Progress, step: Step) -> None:
    assert next_step(stands) is step


EVERY = [Progress(*each) for each in itertools.product([False, True], repeat=len(Progress._fields))]


def test_a_copy_is_composed_only_once_nothing_is_missing_anywhere() -> None:
    for stands in EVERY:
        if next_step(stands) is Step.COMPOSE:
            assert stands.joined
            assert not stands.others_miss


def test_a_message_is_sent_again_only_after_progress() -> None:
    """Else a chain of messages goes on for ever without a byte."""
    sent = [stands for stands in EVERY if next_step(stands) is Step.SEND and stands.is_message]
    assert sent
    assert all(stands.copied and stands.has_queue for stands in sent)


def test_nothing_is_copied_once_there_is_no_time() -> None:
    assert not any(stands.late for stands in EVERY if next_step(stands) is Step.COPY)
