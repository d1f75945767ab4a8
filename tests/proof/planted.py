"""Deliberate faults that the exploration cannot see, each written into a copy of the project and held to one test.

They are in what has no place in the small world: what a request says, what a command does, how much is left to do.
A fault is caught if its test fails, by the message that it is to fail by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COPIED = ("handler", "local_emulator", "tests", "events", "pyproject.toml", "template.yaml", "README.md", "docs")


_WALKS = "tests/proof/test_brake_walks.py"


@dataclass(frozen=True)
class Planted:
    """A fault in one file."""

    fault: str
    path: str
    """Of the file, below `handler/`."""
    old: str
    new: str
    test: str
    """The test that must fail, as pytest names it."""
    shows: str
    """What its failure says: the invariant that is broken."""

    def write(self, root: Path) -> None:
        """Write the fault into the project at `root`."""
        file = root / "handler" / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            count = text.count(self.old)
            raise ValueError(f"the fault {self.fault!r} no longer fits: {self.old!r} stands {count} times")
        file.write_text(text.replace(self.old, self.new))


PLANTED = (
    Planted(
        "does not say who must own the source bucket",
        "adapters/s3/source.py",
        'owner = {"x-amz-expected-bucket-owner": self._owner} if self._owner else {}',
        "owner: dict[str, str] = {}",
        "tests/functional/test_bucket_owner.py::test_no_event_deletes_a_copy_once_the_bucket_is_somebody_elses",
        "AssertionError",
    ),
    Planted(
        "deletes all that verify found, however many",
        "tools/held.py",
        "return deletes > FEW and 100 * deletes > PERCENT * copies",
        "return False",
        "tests/functional/test_verify.py::test_too_many_deletes_are_named_and_held_back",
        "AssertionError",
    ),
    Planted(
        "begins a long rewrite anew in each invocation",
        "adapters/gcs/rewrite.py",
        'token = self._stored_token() if self._is_long else ""',
        'token = ""',
        "tests/functional/test_gcs_rewrite.py::test_the_next_invocation_continues_where_the_time_ended",
        "AssertionError",
    ),
    Planted(
        "copies an object in parts unverified where S3 has checksums of its own parts only",
        "core/partials.py",
        'return f"{name} of parts" if name and original.parts and not original.checksums else ""',
        'return ""',
        "tests/unit/test_parts_verified.py::test_a_flipped_byte_is_corrupt_and_the_next_delivery_makes_it_good",
        "DID NOT RAISE",
    ),
    Planted(
        "reads a whole upload again for one wrong part of it",
        "core/composing.py",
        'if found.value not in {"", s3_part.checksum}:',
        "if False:",
        "tests/unit/test_parts_verified.py::test_a_wrong_s3_part_costs_no_other",
        "AssertionError",
    ),
    Planted(
        "sends a span's message again though nothing of it was copied",
        "core/steps.py",
        "if now.has_queue and (now.copied or not now.is_message) else",
        "if now.has_queue else",
        "tests/unit/test_parts.py::test_a_message_that_copied_nothing_fails_instead_of_being_sent_again",
        "DID NOT RAISE",
    ),
    Planted(
        "sends all spans again with each delivery of the event",
        "core/parts.py",
        "self._now() - sent >= RESENT",
        "True",
        "tests/unit/test_parts.py::test_an_event_that_comes_again_sends_its_spans_again_only_after_a_day",
        "AssertionError",
    ),
    Planted(
        "cuts parts as short as the time asks for",
        "core/rate.py",
        "length = max(self._shortest, self._possible(_SLOW))",
        "length = max(1, self._possible(_SLOW))",
        "tests/unit/test_parts.py::test_a_part_is_as_long_as_there_is_time_for",
        "AssertionError",
    ),
    Planted(
        "lists all parts of an object for one span",
        "core/staging.py",
        "self._listed(span, *self.plan.parts_of(span))",
        "self._listed(span)",
        "tests/unit/test_parts.py::test_a_worker_lists_the_parts_of_its_own_span_only",
        "AssertionError",
    ),
    Planted(
        "drops the metadata that S3 keeps back",
        "adapters/s3/objects.py",
        'if missing := int(headers.get("x-amz-missing-meta", 0)):',
        "if missing := 0:",
        "tests/unit/test_s3_object.py::test_metadata_that_s3_keeps_back_are_not_lost_in_silence",
        "DID NOT RAISE",
    ),
    Planted(
        "uses a connection that idled for minutes",
        "adapters/transport.py",
        "if 0 <= self._clock() - since <= IDLE_MAX:",
        "if since:",
        "tests/functional/test_transport.py::test_a_connection_that_idled_over_a_minute_of_wall_clock_is_not_used",
        "AssertionError",
    ),
    Planted(
        "takes headers that end early for all of the headers, as libcurl does",
        "adapters/transport.py",
        "    if not is_whole:",
        "    if not status:",
        "tests/functional/test_transport.py::test_headers_that_end_early_are_no_answer",
        "DID NOT RAISE",
    ),
    Planted(
        "lets one try wait as long as all of them may",
        "adapters/retry.py",
        "SILENCE = 8.0",
        "SILENCE = 30.0",
        "tests/unit/test_retry.py::test_a_try_bears_five_to_ten_seconds_of_silence",
        "AssertionError",
    ),
    Planted(
        "acknowledges deletes that it did not hold",
        "brake.py",
        "self._held.send([delivery.raw for delivery in deletes])",
        "[delivery.raw for delivery in deletes]",
        "tests/functional/test_brake.py::test_none_of_too_many_deletes_is_carried_out",
        "AssertionError",
    ),
    Planted(
        "takes the deletes that are in flight for none",
        "adapters/queue.py",
        '    "ApproximateNumberOfMessagesNotVisible",\n',
        "",
        "tests/functional/test_brake.py::test_none_of_too_many_deletes_is_carried_out",
        "AssertionError",
    ),
    Planted(
        "deletes again once few deletes wait, though others are held",
        "brake.py",
        " or self._held.has_any()",
        "",
        "tests/functional/test_brake.py::test_deletes_are_held_until_no_held_delete_is_left",
        "AssertionError",
    ),
    Planted(
        "believes the count of held deletes, which lags",
        "brake.py",
        "self._held.has_any()",
        "self._held.count() > 0",
        f"{_WALKS}::test_no_copy_is_gone_after_a_mass_delete_and_a_release_deletes_what_is_still_absent",
        "a copy was deleted",
    ),
    Planted(
        "looks for held deletes before it counts those that wait",
        "brake.py",
        "self._waiting.count() > self._limit or self._held.has_any()",
        "self._held.has_any() or self._waiting.count() > self._limit",
        f"{_WALKS}::test_no_copy_is_gone_after_a_mass_delete_and_a_release_deletes_what_is_still_absent",
        "a copy was deleted",
    ),
    Planted(
        "does not look at the source again before a delete that waited",
        "core/reconcile.py",
        "self.original = self.route.source.head(self.key)",
        "self.original = self.route.source.head(self.key) if self.route.defer_delete else None",
        f"{_WALKS}::test_no_copy_is_gone_after_a_mass_delete_and_a_release_deletes_what_is_still_absent",
        "the copies of live keys were deleted",
    ),
    Planted(
        "deletes where the queues cannot be counted",
        "brake.py",
        "return {delivery: [error] for delivery in deletes}",
        "return {}",
        "tests/functional/test_brake.py::test_nothing_is_deleted_while_the_queues_cannot_be_counted",
        "AssertionError",
    ),
    Planted(
        "deletes in the events' own invocation",
        "wiring.py",
        "defer_delete=self.brake.defer if self.brake else None",
        "defer_delete=None",
        "tests/functional/test_brake.py::test_a_delete_waits_and_is_carried_out_then",
        "AssertionError",
    ),
    Planted(
        "releases what nobody has seen",
        "tools/deletes.py",
        "known = [message for message in messages if _sent(message) <= began]\n            events",
        "known = messages\n            events",
        "tests/functional/test_deletes.py::test_what_is_held_after_release_began_is_not_released",
        "AssertionError",
    ),
)


def caught(planted: Planted) -> str:
    """Return how the test fails on a copy of the project that has the fault, "" where it does not fail by what it says.

    Raises:
        ValueError: the fault no longer fits, or the test could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        root = Path(place)
        for name in _COPIED:
            _copy(ROOT / name, root / name)
        planted.write(root)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", planted.test]
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise ValueError(f"{planted.test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = done.returncode == 1 and "FAILED" in done.stdout and planted.shows in done.stdout
    return planted.test.rpartition("::")[2] if failed else ""


def _copy(what: Path, to: Path) -> None:
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__", "performance.*"))
    else:
        shutil.copy(what, to)
