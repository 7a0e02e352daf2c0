"""Every expression of every alarm and widget is one that CloudWatch accepts; those that are not are found."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.conftest import SETTINGS
from tests.infra.metric_math import MathError, Metric, Request, check, check_alarm
from tests.infra.resources import Resources

METRICS: Request = {
    **{name: Metric("AWS/Lambda") for name in ("m1", "m2", "m3", "errors", "metric1", "metric2")},
    "usage": Metric("AWS/Usage"),
}

DOCUMENTED = (
    *("PERIOD(m1)/60 * m2", "5 * m1", "m1 - m2", "SUM(100/[m1, m2])", "AVG([m1,m2]/m3)", "METRICS()*100"),
    *("-5*m1", "-m1", "SUM(-[m1, m2])", "(metric1 > 15 AND metric2 > 15)", "metric1 < metric2 || m1 >= 30"),
    *("ABS(m1-m2)", "MIN(ABS([m1, m2]))", "ANOMALY_DETECTION_BAND(m1,4)", "SUM([m1,m2])/AVG(m2)"),
    *("SUM(CEIL(METRICS()))", "SUM(m1) / DATAPOINT_COUNT(m1) * m1", "DIFF_TIME(METRICS())", "FILL(m1,10)"),
    *("FILL(METRICS(), m1)", "FILL(m1, MIN(m1))", "FILL(m1, REPEAT)", "FILL(METRICS(), LINEAR)"),
    *("IF(FIRST(SORT(METRICS(), AVG, DESC))>100, 1, 0)", "LAST(ANOMALY_DETECTION_BAND(m1))"),
    *("m1/METRIC_COUNT(METRICS())", 'SUM([METRICS("4xx"), METRICS("5xx")])', "IF(DAY(m1)<6,m1)"),
    *("m1/PERIOD(m1)", "REMOVE_EMPTY(METRICS())", "RUNNING_SUM([m1,m2])", "SERVICE_QUOTA(usage)"),
    *("SLICE(SORT(METRICS(), SUM, DESC), 0, 10)", "SORT(METRICS(), AVG, DESC, 10)", "m1/STDDEV(m1)"),
    *("TIME_SERIES(5*AVG(m1))", "IF(metric1<400, 10, 2)", "IF(AVG(m1) > 3, m1, m2)", "m1 - MIN(m1)"),
    *("SEARCH('{AWS/EC2,InstanceId} CPUUtilization', 'Average', 300)", "m1 ^ 2"),
    'INSIGHT_RULE_METRIC("rule", UniqueContributors)',
)
"""The User Guide's own examples, or what they say."""

REFUSED = {
    "IF(m1 > MAX([20, FILL(m2, 0)]), 1, 0)": r"series only, not \[a number, a time series\]",
    "IF(m1 > MAX([FILL(m2, 0), 20]), 1, 0)": r"not \[a time series, a number\]",
    "m1 > MAX(20)": "MAX does not take a number",
    "MAX(m1, m2)": "MAX does not take a time series, a time series",
    "AVG(m1)": "the result is a number",
    "20": "the result is a number",
    "0.000001 * m1 + 1e-06 * m2": "an operator wanted at character 17, not 'e'",
    "m1 + missing": "missing: no metric or expression has this id",
    "m1 + M2": "M2 is not a function call",
    "max([m1, m2])": "no function max .functions are written in uppercase.",
    "MEDIAN([m1, m2])": "there is no function MEDIAN",
    "[m1, m2] > 3": "> does not take an array",
    "[m1, m2] + [m1, m3]": r"\+ does not take an array",
    "IF(1, 2, m1)": "IF does not take a number, a number, a time series",
    "IF(m1, [m1, m2], 0)": "IF does not take",
    "FILL(m1)": "FILL does not take a time series",
    "FILL(m1, ZERO)": "ZERO is not a function call",
    "TIME_SERIES(m1)": "TIME_SERIES does not take a time series",
    "PERIOD(m1 + m2) * m1": "PERIOD takes a metric",
    "SERVICE_QUOTA(m1)": "takes a usage metric, not one of AWS/Lambda",
    "SORT(METRICS(), MEDIAN, DESC)": "MEDIAN is not a function call",
    "m1 +": "a value wanted at character 4",
    "(m1": r"'\)' wanted at character 3, not 'the end'",
    "m1 % 2": "'%' at character 3 is not metric math",
    "SELECT AVG(x) FROM y": "Metrics Insights",
    "ABS()": "ABS does not take nothing",
}

NOT_IN_ALARMS = {
    "SUM([m1, m2])": "advises against SUM",
    "m1 - MIN(m1)": "advises against MIN",
    "RUNNING_SUM(m1)": "advises against RUNNING_SUM",
    "FIRST(REMOVE_EMPTY([m1, m2]))": "advises against REMOVE_EMPTY",
    "FIRST(SEARCH('{AWS/EC2} x', 'Sum'))": "SEARCH may not be used",
    "[m1, m2]": "the result is an array of time series",
    "METRICS()": "the result is an array of time series",
    "ANOMALY_DETECTION_BAND(m1)": "the result is an array of time series",
    "FILL(m1, 0)": "FILL in an alarm of 2 out of 2 periods",
    "FILL(m1, REPEAT)": "FILL in an alarm of 2 out of 2 periods",
}


@pytest.mark.parametrize("expression", DOCUMENTED)
def test_the_documented_examples_are_accepted(expression: str) -> None:
    check({**METRICS, "e": expression}, "e")


@pytest.mark.parametrize("expression", REFUSED)
def test_what_cloudwatch_refuses_is_refused(expression: str) -> None:
    with pytest.raises(MathError, match=REFUSED[expression]):
        check({**METRICS, "e": expression}, "e")


@pytest.mark.parametrize("expression", NOT_IN_ALARMS)
def test_what_aws_advises_against_is_refused_in_an_alarm(expression: str) -> None:
    check({**METRICS, "e": expression}, "e")
    with pytest.raises(MathError, match=NOT_IN_ALARMS[expression]):
        check_alarm({**METRICS, "e": expression}, "e", periods=2, of=2)


def test_expressions_are_read_through_those_that_they_name() -> None:
    request = {**METRICS, "inner": "MAX(m1)", "e": "m1 / inner"}
    with pytest.raises(MathError, match="advises against MAX"):
        check_alarm(request, "e", periods=1, of=1)
    with pytest.raises(MathError, match="refers to itself: a -> b -> a"):
        check({"a": "b + 1", "b": "a + 1"}, "a")


def test_an_alarm_takes_ten_metrics() -> None:
    many: Request = {f"m{number}": Metric("AWS/Lambda") for number in range(11)}
    with pytest.raises(MathError, match="11 metrics: an alarm takes 10"):
        check_alarm({**many, "e": " + ".join(many)}, "e", periods=1, of=1)


def test_ids_begin_with_a_lowercase_letter() -> None:
    with pytest.raises(MathError, match="id 'M1' must begin"):
        check({"M1": Metric("AWS/Lambda"), "e": "1"}, "e")


def requests_of_alarms(resources: Resources) -> Iterator[tuple[str, Request, str, int, int]]:
    """The metrics, the watched id and "M out of N" of each alarm that watches an expression."""
    for id_, alarm in resources.of_type("AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        if "Metrics" not in properties:
            continue
        request = {
            query["Id"]: Metric(query["MetricStat"]["Metric"]["Namespace"])
            if "MetricStat" in query
            else resources.name(query["Expression"])
            for query in properties["Metrics"]
        }
        (watched,) = (query["Id"] for query in properties["Metrics"] if query.get("ReturnData", True))
        periods = properties["EvaluationPeriods"]
        yield id_, request, watched, periods, properties.get("DatapointsToAlarm", periods)


def requests_of_widgets(resources: Resources) -> Iterator[tuple[str, dict[str, Metric | str]]]:
    """The metrics and expressions of each widget, by their ids; those without one get one of their own."""
    for number, widget in enumerate(resources.dashboard()["widgets"]):
        request: dict[str, Metric | str] = {}
        namespace = ""
        for line in widget["properties"].get("metrics", []):
            options = line[-1] if isinstance(line[-1], dict) else {}
            id_ = options.get("id", f"unnamed{len(request)}")
            if "expression" in options:
                request[id_] = options["expression"]
            else:
                namespace = namespace if line[0] in (".", "...") else line[0]
                request[id_] = Metric(namespace)
        if request:
            yield widget["properties"].get("title", f"widget {number}"), request


def problems(resources: Resources) -> list[str]:
    """What CloudWatch would refuse, or AWS advises against, in one stage."""
    found = []
    for id_, request, watched, periods, of in requests_of_alarms(resources):
        try:
            check_alarm(request, watched, periods=periods, of=of)
        except MathError as error:
            found.append(f"alarm {id_}: {error}")
    if resources.of_type("AWS::CloudWatch::Dashboard"):
        for title, widgets in requests_of_widgets(resources):
            for id_ in widgets:
                try:
                    check(widgets, id_)
                except MathError as error:
                    found.append(f"widget {title!r}: {error}")
    return found


@pytest.mark.parametrize("stage", SETTINGS)
def test_every_expression_is_one_that_cloudwatch_accepts(resources: dict[str, Resources], stage: str) -> None:
    assert problems(resources[stage]) == []


def test_the_run_over_the_templates_reads_expressions(resources: dict[str, Resources]) -> None:
    prod = resources["prod"]
    assert len(list(requests_of_alarms(prod))) >= 5
    expressions = [
        e for _, request in requests_of_widgets(prod) for e in request.values() if isinstance(e, str)
    ]
    assert len(expressions) >= 3


def test_a_fault_in_a_template_is_found(documents: dict[str, dict[str, Any]]) -> None:
    seeded = Resources(copy.deepcopy(documents["prod"]))
    alarms = seeded.of_type("AWS::CloudWatch::Alarm")
    id_ = next(id_ for id_ in alarms if "FunctionErrors" in id_)
    queries = alarms[id_]["Properties"]["Metrics"]
    (expression,) = (query for query in queries if "Expression" in query)
    expression["Expression"] = "MAX([20, m0])"
    found = [problem for problem in problems(seeded) if problem.startswith(f"alarm {id_}")]
    assert len(found) == 1
    assert re.search(r"an array holds time series only, not \[a number, a time series\]", found[0])
