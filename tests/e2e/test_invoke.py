"""`invoke FILE` for every event file, and for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from local_emulator.process import ROOT
from tests.e2e.test_lifecycle import command

EVENTS = sorted((ROOT / "events").glob("*.json"))


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Path, Any], str]:
    """Every event file's answer, and what was said beside them. Starting once saves half a minute."""
    folder = tmp_path_factory.mktemp("invoke")
    ended = command(
        *("invoke", *map(str, EVENTS), "--target", "folder"),
        *folders(folder, "copies"),
    )
    assert not (folder / "none").exists()
    failed = [file for file in EVENTS if f"{file}: " in ended.stderr]
    assert bool(failed) == bool(ended.returncode), ended.stderr
    return dict(
        zip((file for file in EVENTS if file not in failed), documents(ended.stdout), strict=True)
    ), ended.stderr


def folders(of_test: Path, copies: str) -> tuple[str, ...]:
    """Folders of the test's own, whatever README's commands left in the default ones."""
    return "--source", str(of_test / "none"), "--destination", str(of_test / copies)


def documents(text: str) -> Iterator[Any]:
    """The JSON documents that stand one after the other in a text, which must hold nothing else."""
    while text:
        document, end = json.JSONDecoder().raw_decode(text)
        yield document
        text = text[end:].lstrip()


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_every_event_file_gets_an_answer(all_at_once: tuple[dict[Path, Any], str], file: Path) -> None:
    answers, said = all_at_once
    assert file in answers, said
    answer = answers[file]
    if isinstance(answer, dict):
        assert answer.get("statusCode") in (None, 200, 405)
        assert not answer.get("batchItemFailures")
        assert {task["resultCode"] for task in answer.get("results", [])} <= {"Succeeded"}


def test_a_created_event_copies_a_sample_and_says_so(tmp_path: Path) -> None:
    ended = command(*("invoke", str(ROOT / "events/s3-put.json")), *folders(tmp_path, "copies"))
    assert (ended.returncode, ended.stdout) == (0, "null\n"), ended.stderr
    assert "put a sample object at s3://dummy/source-file.csv" in ended.stderr
    said = json.loads((ROOT / "events/s3-put.json").read_text())["Records"][0]["s3"]["object"]
    copy = (tmp_path / "copies/source-file.csv").read_bytes()
    assert (len(copy), md5(copy, usedforsecurity=False).hexdigest()) == (said["size"], said["eTag"])


def test_what_lies_in_the_source_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/source-file.csv").write_bytes(b"mine")
    ended = command(
        *("--target", "folder", "--source", str(tmp_path / "source")),  # options may stand on either side
        *("invoke", str(ROOT / "events/s3-put.json"), "--destination", str(tmp_path / "copies")),
    )
    assert ended.returncode == 0, ended.stderr
    assert "sample" not in ended.stderr
    assert (tmp_path / "copies/source-file.csv").read_bytes() == b"mine"


def test_an_event_of_no_known_shape_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"Records": [{"eventSource": "aws:kinesis"}]}')
    ended = command("invoke", str(tmp_path / "odd.json"), "--target", "folder", *folders(tmp_path, "d"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    assert "Malformed" in ended.stderr


def test_an_event_that_lacks_a_field_is_said_in_one_line(tmp_path: Path) -> None:
    event = json.loads((ROOT / "events/function-url.json").read_text())
    del event["requestContext"]["stage"]
    file = tmp_path / "odd\x1b.json"
    file.write_text(json.dumps(event))
    ended = command("invoke", str(file), "--target", "folder", *folders(tmp_path, "d"))
    assert (ended.returncode, ended.stdout) == (1, "")
    name = str(file).replace("\x1b", "\\x1b")
    assert ended.stderr.splitlines()[-1] == f"{name}: KeyError: 'stage': the event lacks what the handler looks for"
    assert "Traceback" not in ended.stderr
