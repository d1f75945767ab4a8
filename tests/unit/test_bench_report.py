"""What the bench makes of its runs: medians, ratios, goals, and what a reader sees of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import bench
from tests.benchmarks.bench_report import (
    Results,
    cells,
    failures,
    fan_out_cells,
    goals,
    joined,
    markdown,
    medians,
    rows,
    table,
    write,
)
from tests.benchmarks.relay import PROFILES

MIB = 1 << 20


def result(contestant: str, wall: float, cpu: float, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "profile": "lan",
        "workload": "small",
        "contestant": contestant,
        "round": number,
        "wall": wall,
        "cpu": cpu,
        "peak": 10 * MIB,
        "objects": 1000,
        "bytes": 1000 * 4096,
        "requests": {"S3 GET": 1000, "GCS POST": 1000} if not number else None,
        "servers": {"S3": cpu, "GCS": 0.0, "relay": 0.0},
        **more,
    }


def document(*results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-11-22",
        "command": "python -m tests.benchmarks.bench",
        "machine": {"processor": "P", "cores": "2", "memory": "24 GiB", "system": "Linux", "python": "3.11"},
        "versions": {"curl": "7.88"},
        "options": {"runs": 3, "concurrency": 10, "scale": 1.0, "worker_rate": 20e6, "tls": False},
        "workloads": {
            "small": {"title": "1,000 x 4 KiB"},
            "large": {"title": "1 x 1 GiB"},
            "event": {"title": "one by one"},
            "fanout": {"title": "by fan-out"},
        },
        "profiles": {name: {"s3": PROFILES[name].s3, "gcs": PROFILES[name].gcs} for name in ("lan", "us-east")},
        "contestants": {"curl": "two | of it", "ours": "the handler"},
        "rows": medians(results),
    }


MEASURED = document(
    *(result("curl", wall, 0.5, number) for number, wall in enumerate((9.0, 1.0, 2.0, 3.0))),
    *(result("ours", wall, 1.0, number) for number, wall in enumerate((9.0, 4.0, 4.0, 4.0))),
    *(result("slow", wall, 3.0, number) for number, wall in enumerate((9.0, 8.0, 9.0, 7.0))),
    {"profile": "lan", "workload": "small", "contestant": "broken", "round": 0, "error": "Failed: it\nbroke"},
)


def test_medians_are_of_the_timed_rounds_and_requests_of_the_first() -> None:
    curl, ours, slow, broken = rows(MEASURED)
    assert (curl.wall, ours.wall, slow.wall) == (2.0, 4.0, 8.0)
    assert curl.requests == {"S3 GET": 1.0, "GCS POST": 1.0}
    assert broken.error == "Failed: it\nbroke"


def test_ratios_are_to_the_floor_and_to_the_best_other_peer_and_more_is_better() -> None:
    results = Results(MEASURED)
    _, ours, slow, _ = results.rows
    assert results.ratio(ours, "wall", results.floor(ours)) == 0.5
    assert results.versus_best(ours, "wall") == 2.0
    assert results.versus_best(slow, "wall") is None, "neither the floor nor ours is a peer"


def test_a_contestant_that_failed_stands_in_the_table_with_its_error() -> None:
    (line,) = [line for line in cells(Results(MEASURED)) if line[2] == "broken"]
    assert line[3] == "FAILED"
    told = "broken, 1,000 x 4 KiB, lan: 1 of 1 runs failed: Failed: it broke"
    assert told in table(MEASURED)
    assert f"- {told}" in markdown(Results(MEASURED))


def test_one_that_failed_once_has_figures_and_is_told_all_the_same() -> None:
    once = {"profile": "lan", "workload": "small", "contestant": "slow", "round": 4, "error": "E"}
    results = Results(document(result("slow", 8.0, 1.0), once))
    assert (results.rows[0].wall, results.rows[0].ok) == (8.0, True)
    assert list(failures(results)) == ["slow, 1,000 x 4 KiB, lan: 1 of 2 runs failed: E"]


def test_cpu_is_for_1000_objects_or_for_a_gib_of_one() -> None:
    many, one = rows(
        document(
            result("a", 1.0, 2.0, objects=200, bytes=200 * MIB),
            result("b", 1.0, 2.0, workload="large", objects=1, bytes=512 * MIB),
        )
    )
    assert (many.cpu_per, one.cpu_per) == (10.0, 4.0)


def test_goals_are_met_not_met_or_not_measured() -> None:
    verdicts = {goal.text: (goal.value, goal.verdict) for goal in goals(Results(MEASURED))}
    assert verdicts["lan: speed of 1,000 small objects, best peer = 1"] == (2.0, "met")
    assert verdicts["lan: CPU seconds of 1,000 small objects"] == (1.0, "met")
    assert verdicts["peak memory at 1 GiB"] == (None, "not measured")
    slow = document(result("ours", 1.0, 2.0), result("rclone", 1.0, 1.0))
    verdicts = {goal.text: (goal.value, goal.verdict) for goal in goals(Results(slow))}
    assert verdicts["lan: frugality of 1,000 small objects, rclone = 1"] == (0.5, "NOT MET")


def test_an_event_is_judged_by_when_its_copy_was_visible() -> None:
    def event(profile: str, *visible: float) -> dict[str, Any]:
        requests = {"S3 GET": 6}
        told: dict[str, Any] = {"visible": visible, "done": visible, "events": 3, "event_requests": requests}
        return result("ours", 60.0, 1.0, workload="event", profile=profile, **told)

    results = Results(document(event("lan", 2.0, 3.0, 4.0), event("us-east", 19.0, 20.0, 30.0)))
    assert [row.wall for row in results.rows] == [0.003, 0.02]
    best, both, stricter = [goal for goal in goals(results) if goal.text.startswith("us-east: event to visible, ")]
    assert best.value is None
    assert both.value == pytest.approx(0.02 / (0.002 + 0.015 + 0.003))
    assert stricter.value == pytest.approx(0.02 / (0.002 + 0.0075 + 0.003))


def test_the_fan_out_is_compared_with_one_worker() -> None:
    def of(workers: int, wall: float) -> dict[str, Any]:
        return result(f"{workers} workers", wall, 1.0, workload="fanout", profile="lambda", objects=1, bytes=64_000_000)

    results = Results(document(of(1, 8.0), of(8, 1.0)))
    one, eight = fan_out_cells(results)
    assert one == ("1", "8.00 s", "8.0", "1.00", "16.78")
    assert eight == ("8", "1.00 s", "64.0", "8.00", "16.78")
    assert goals(results)[-1].verdict == "met"


def test_all_three_files_are_written_and_can_be_written_anew_from_the_first(tmp_path: Path) -> None:
    write(MEASURED, tmp_path)
    document_of_it, plot = (tmp_path / "performance.md").read_text(), (tmp_path / "performance.svg").read_text()
    assert "2026-11-22, P, 2 cores" in document_of_it
    assert "two \\| of it" in document_of_it
    assert "prefers-color-scheme: dark" in plot
    ET.fromstring(plot)  # noqa: S314 - our own
    again = tmp_path / "again"
    assert bench.main(["--report", str(tmp_path / "performance.json"), "--out", str(again)]) == 0
    assert (again / "performance.md").read_text() == document_of_it
    assert json.loads((again / "performance.json").read_text()) == json.loads(json.dumps(MEASURED))


def test_what_is_measured_anew_replaces_the_same_of_an_older_run_and_nothing_else() -> None:
    older = document(result("ours", 9.0, 1.0), result("ours", 8.0, 1.0, profile="ocean"))
    both = joined(older, document(result("ours", 2.0, 1.0)))
    assert [(row.profile, row.wall) for row in rows(both)] == [("ocean", 8.0), ("lan", 2.0)]


def test_what_is_printed_names_every_goal() -> None:
    assert "fan-out: 8 workers" in table(MEASURED)
    assert "no figures to quote" in markdown(Results({**MEASURED, "options": {**MEASURED["options"], "scale": 0.5}}))


def test_contestants_take_turns_and_another_is_first_in_each_round() -> None:
    options = bench.Options(runs=2, concurrency=10, rate=1.0, limit=1.0)
    order = [
        (heat.workload.name, heat.round, heat.contestant)
        for heat in bench.heats([PROFILES["lan"]], [bench.SMALL], ["a", "b"], options)
    ]
    assert order == [
        ("small", number, name) for number, name in [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    ]


def test_the_rest_is_reckoned_from_the_like_of_it() -> None:
    heats = [bench.Heat(PROFILES["lan"], bench.SMALL, name, number) for number in (1, 2) for name in ("a", "b")]
    clock = bench.Clock(heats)
    assert clock.took(heats[0], 1.0) == 3.0
    assert clock.took(heats[1], 5.0) == 6.0
