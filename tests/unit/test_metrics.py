"""Metrics: lines in CloudWatch's embedded metric format, where somebody wants them."""

import json
import time

import pytest

from roomcast import metrics


def test_nothing_is_written_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBSOCKET_METRICS", raising=False)
    metrics.emit({"Connected": 1})
    assert capsys.readouterr().out == ""


def test_a_line_says_values_units_and_the_stack_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_METRICS", "landinghub-websocket-prod")
    metrics.emit({"Sent": 3, "PublishToPost": 12.5})
    (line,) = capsys.readouterr().out.splitlines()
    written = json.loads(line)
    assert abs(written["_aws"]["Timestamp"] / 1000 - time.time()) < 5
    assert written["_aws"]["CloudWatchMetrics"] == [
        {
            "Namespace": "Roomcast",
            "Dimensions": [["Stack"]],
            "Metrics": [
                {"Name": "Sent", "Unit": "Count"},
                {"Name": "PublishToPost", "Unit": "Milliseconds"},
            ],
        }
    ]
    del written["_aws"]
    assert written == {"Stack": "landinghub-websocket-prod", "Sent": 3, "PublishToPost": 12.5}


def test_a_metric_that_is_not_in_the_list_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKET_METRICS", "landinghub-websocket-prod")
    with pytest.raises(KeyError):
        metrics.emit({"Typo": 1})
