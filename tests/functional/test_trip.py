"""How far a small object travels through the code: the files and the calls of handler/ that one event crosses."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import handler
from tests.functional.test_gcs_requests import DATA, Pipeline, pipeline

__all__ = ["pipeline"]
HANDLER = str(Path(handler.__file__).parent)
FILES = 29
CALLS = 258
"""What it takes today; the aim is 12 files and 150 calls."""
INLINED = {"<listcomp>", "<dictcomp>", "<setcomp>"}
"""No calls any more from Python 3.12 on, which Lambda runs."""


@contextmanager
def crossed() -> Iterator[Counter[tuple[str, str]]]:
    """Count the calls of each function of handler/, in all threads."""
    calls: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HANDLER) and code.co_name not in INLINED:
            calls[code.co_filename.removeprefix(HANDLER), code.co_name] += 1

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def test_a_small_objects_trip_is_short(pipeline: Pipeline) -> None:
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="k", Body=DATA)
    pipeline.deliver(pipeline.message())  # the first event makes the clients
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key="l", Body=DATA)
    message = pipeline.message()
    message["body"] = message["body"].replace('"key": "k"', '"key": "l"')
    with crossed() as calls:
        assert pipeline.deliver(message) == ["S3 GET 200", "GCS POST 200", "S3 HEAD 200"]
    files = Counter[str]()
    for (file, _), count in calls.items():
        files[file] += count
    sys.stdout.write(f"{len(files)} files, {calls.total()} calls: {dict(files)}\n")
    assert len(files) <= FILES
    assert calls.total() <= CALLS
