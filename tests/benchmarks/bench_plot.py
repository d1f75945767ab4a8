"""The bench's plot: one panel of bars for each workload under each network, legible on light and on dark paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from xml.sax.saxutils import escape

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.small { font-size: 11px; fill: #57606a }
.bar { fill: #8c959f } .ours { fill: #0969da } .floor { fill: #d0d7de }
.axis { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 }
  .bar { fill: #656c76 } .ours { fill: #4493f8 } .floor { fill: #3d444d }
  .axis { stroke: #3d444d }
}
"""
_PANEL, _LABEL, _LINE, _GAP, _HEAD = 330, 92, 18, 24, 26
_LONGEST = 5.0
"""Bars are cut at so many times ours, or the median where ours is not."""


class Figures(Protocol):
    """What is drawn of a row."""

    workload: str
    profile: str
    contestant: str
    ok: bool
    wall: float


def svg(rows: Sequence[Any], document: Mapping[str, Any]) -> str:
    """Return the plot of the rows' times."""
    panels: list[list[str]] = []
    workloads = [name for name in document["workloads"] if any(row.workload == name for row in rows)]
    top = 40
    widest = 1
    for workload in workloads:
        profiles = list(dict.fromkeys(row.profile for row in rows if row.workload == workload))
        widest = max(widest, len(profiles))
        deepest = 0
        for column, profile in enumerate(profiles):
            found = [row for row in rows if (row.workload, row.profile) == (workload, profile)]
            title = f"{document['workloads'][workload]['title']}, {profile}"
            panels.append(list(_panel(found, title, 10 + column * (_PANEL + _GAP), top)))
            deepest = max(deepest, len(found))
        top += _HEAD + deepest * _LINE + _GAP
    width = 20 + widest * (_PANEL + _GAP)
    what = "Time, less is better; a bar with an arrow goes on"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}">',
            f"<title>{escape(what)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text x="10" y="20" class="title">{escape(what)}</text>',
            *(line for panel in panels for line in panel),
            "</svg>",
            "",
        ]
    )


def _panel(rows: Sequence[Any], title: str, left: int, top: int) -> Iterator[str]:
    yield f'<text x="{left}" y="{top + 12}" class="title">{escape(title)}</text>'
    drawn = [row for row in rows if row.ok]
    if rows and rows[0].workload != "fanout":
        drawn.sort(key=lambda row: float(row.wall))
    times = sorted(row.wall for row in drawn)
    if not times:
        return
    measure = next((row.wall for row in drawn if row.contestant == "ours"), times[len(times) // 2])
    longest = min(times[-1], max(_LONGEST * measure, times[0]))
    room = _PANEL - _LABEL - 70
    for number, row in enumerate(drawn):
        y = top + _HEAD + number * _LINE
        cut = row.wall > longest
        length = max(1.0, min(row.wall, longest) / longest * room)
        kind = {"ours": "ours", "curl": "floor"}.get(row.contestant, "bar")
        value = f"{row.wall * 1000:.1f} ms" if row.workload == "event" else f"{row.wall:.2f} s"
        yield f'<text x="{left + _LABEL - 6}" y="{y + 11}" text-anchor="end">{escape(row.contestant)}</text>'
        yield f'<rect x="{left + _LABEL}" y="{y + 1}" width="{length:.1f}" height="{_LINE - 5}" rx="2" class="{kind}"/>'
        yield (
            f'<text x="{left + _LABEL + length + 5:.1f}" y="{y + 11}" class="small">{"→ " if cut else ""}{value}</text>'
        )
    bottom = top + _HEAD + len(drawn) * _LINE
    yield f'<line x1="{left + _LABEL}" y1="{top + _HEAD - 2}" x2="{left + _LABEL}" y2="{bottom}" class="axis"/>'
