"""CloudWatch alarms, as far as template.yaml uses them: metrics in, the alarm's own expression, and its state out.

What is computed is as documented by CloudWatch, and tried on no account:
- "Using math expressions with CloudWatch metrics": a value that is missing counts as 0 in arithmetic and comparisons;
  FILL fills; DIFF is the difference to the value before; MAX and MIN of a list are taken moment by moment; IF has no
  value where its condition has none, and 0 where the condition holds and the value for true is missing.
- "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data": each minute CloudWatch looks at a
  window that slides by the minute, and takes more data points than EvaluationPeriods; the newest that exist count.
- A metric may be late: no evaluation sees it before.
"""

from __future__ import annotations

import ast
import json
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

MINUTE = 60
_MORE = 5
"""Data points that CloudWatch takes beside EvaluationPeriods. Their number is not documented."""

Series = dict[int, float]
"""Values by how many periods ago they end; what is missing is not there."""
_Name = tuple[str, str, frozenset[tuple[str, str]]]
"""A metric: its namespace, name and dimensions."""
_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Average": lambda values: sum(values) / len(values),
    "SampleCount": len,
}
_OPERATORS: dict[type[ast.operator | ast.cmpop], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
}
_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
}


class Metrics:
    """What was sent to CloudWatch."""

    def __init__(self) -> None:
        self._samples: defaultdict[_Name, defaultdict[int, list[tuple[float, float]]]]
        self._samples = defaultdict(lambda: defaultdict(list))

    def add(
        self,
        moment: float,
        *,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        values: Sequence[float],
        late: float = 0.0,
    ) -> None:
        """Send values of one moment, which are seen so many seconds later."""
        metric = namespace, name, frozenset(dimensions.items())
        self._samples[metric][int(moment // MINUTE)] += [(moment + late, value) for value in values]

    def add_embedded(self, moment: float, line: str, *, late: float = 0.0) -> None:
        """Send what the handler printed in CloudWatch's embedded metric format."""
        document = json.loads(line)
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                for metric in directive["Metrics"]:
                    self.add(
                        moment,
                        namespace=directive["Namespace"],
                        name=metric["Name"],
                        dimensions={name: document[name] for name in names},
                        values=document[metric["Name"]],
                        late=late,
                    )

    def series(self, stat: Mapping[str, Any], now: int, points: int) -> Series:
        """Return the statistic of a `MetricStat` for each period that ends by `now`, the newest first."""
        metric = stat["Metric"]
        dimensions = frozenset((each["Name"], each["Value"]) for each in metric.get("Dimensions", ()))
        samples = self._samples[metric["Namespace"], metric["MetricName"], dimensions]
        last, minutes = now // MINUTE, stat["Period"] // MINUTE
        values: defaultdict[int, list[float]] = defaultdict(list)
        for minute, sampled in samples.items():
            if 0 <= (ago := (last - 1 - minute) // minutes) < points:
                values[ago] += [value for seen, value in sampled if seen <= now]
        return {ago: float(_STATISTICS[stat["Stat"]](found)) for ago, found in values.items() if found}


class Alarm:
    """One alarm of the template.

    Args:
        properties: the resource's, worked out.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties
        self._metrics = properties.get("Metrics") or [{"Id": "only", "MetricStat": _plain(properties)}]
        assert properties["TreatMissingData"] in {"notBreaching", "breaching"}, "nothing else is known here"

    def rings(self, metrics: Metrics, now: int) -> bool:
        """Return True if the alarm's state is ALARM, from what is seen by `now`."""
        evaluated = int(self._properties["EvaluationPeriods"])
        needed = int(self._properties.get("DatapointsToAlarm", evaluated))
        value = self.value(metrics, now, evaluated + _MORE)
        counted = [value[ago] for ago in sorted(value)][:evaluated]
        breaches = _BREACHES[self._properties["ComparisonOperator"]]
        breaching = sum(breaches(each, float(self._properties["Threshold"])) for each in counted)
        if self._properties["TreatMissingData"] == "breaching":
            breaching += evaluated - len(counted)
        return breaching >= needed

    def value(self, metrics: Metrics, now: int, points: int) -> Series:
        """Return what the alarm watches."""
        known: dict[str, Series | float] = {}
        watched: list[str] = []
        for query in reversed(self._metrics):  # the expression is written first, and refers to what follows
            if "MetricStat" in query:
                known[query["Id"]] = metrics.series(query["MetricStat"], now, points)
            else:
                known[query["Id"]] = _evaluate(ast.parse(query["Expression"], mode="eval").body, known, points)
            if query.get("ReturnData", True):
                watched.append(query["Id"])
        assert len(watched) == 1, "one query of an alarm returns data"
        found = known[watched[0]]
        assert isinstance(found, dict)
        return found


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A metric without an expression, as an expression would name it."""
    metric = {name: properties[name] for name in ("Namespace", "MetricName", "Dimensions")}
    return {"Metric": metric, "Period": properties["Period"], "Stat": properties["Statistic"]}


def _evaluate(node: ast.expr, known: Mapping[str, Series | float], points: int) -> Series | float:
    """Work an expression of metric math out; its syntax is Python's."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return known[name]
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            return _combine(_OPERATORS[type(op)], _evaluate(left, known, points), _evaluate(right, known, points))
        case ast.Call(func=ast.Name(id="MAX" | "MIN" as name), args=[ast.List(elts=items)]):
            several = [_series(_evaluate(item, known, points)) for item in items]
            return _across(max if name == "MAX" else min, several)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [_evaluate(argument, known, points) for argument in arguments]
            return _FUNCTIONS[name](points, *values)
    raise AssertionError(f"not known here: {ast.unparse(node)}")


def _series(value: Series | float) -> Series:
    assert isinstance(value, dict), "a time series is needed"
    return value


def _combine(function: Callable[[float, float], float], one: Series | float, two: Series | float) -> Series | float:
    if not isinstance(one, dict) and not isinstance(two, dict):
        return float(function(one, two))
    moments = sorted({*(one if isinstance(one, dict) else ()), *(two if isinstance(two, dict) else ())})
    return {moment: float(function(_at(one, moment), _at(two, moment))) for moment in moments}


def _at(value: Series | float, moment: int) -> float:
    return value.get(moment, 0.0) if isinstance(value, dict) else value


def _across(function: Callable[[list[float]], float], several: Sequence[Series]) -> Series:
    moments = {moment for series in several for moment in series}
    return {moment: function([series[moment] for series in several if moment in series]) for moment in moments}


def _fill(points: int, series: Series | float, value: Series | float) -> Series:
    return {moment: _series(series).get(moment, _at(value, moment)) for moment in range(points)}


def _diff(_points: int, series: Series | float) -> Series:
    values = _series(series)
    return {moment: values[moment] - values[before] for moment, before in pairwise(sorted(values))}


def _if(_points: int, condition: Series | float, yes: Series | float, no: Series | float) -> Series:
    assert not isinstance(no, dict), "a value for false that may be missing is not known here"
    return {moment: _at(yes, moment) if holds else no for moment, holds in _series(condition).items()}


_FUNCTIONS: dict[str, Callable[..., Series]] = {"FILL": _fill, "DIFF": _diff, "IF": _if}


def states(alarms: Mapping[str, Alarm], metrics: Metrics, minutes: int) -> dict[str, list[int]]:
    """Return for each alarm that rings the minutes at which its state changes: to ALARM, to OK, to ALARM ..."""
    changes: dict[str, list[int]] = {}
    for name, alarm in alarms.items():
        state = False
        for minute in range(1, minutes + 1):
            if (now := alarm.rings(metrics, minute * MINUTE)) != state:
                changes.setdefault(name, []).append(minute)
                state = now
    return changes
