"""The alarms' half of `roomcast smoke`, with a scripted CloudWatch: moto runs no actions of alarms."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from roomcast_dev.cli.alarm_check import AlarmError, check

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"


class Stage:
    """A stack with alarms, and CloudWatch's history of them.

    Attributes:
        alarms: state and actions by name.
        outcome: what an action that is executed now is told; None where none is executed.
        history: of all alarms: name, time, summary, data.
        states: what the states were set to.
    """

    def __init__(self) -> None:
        self.now = NOON
        self.deployed = NOON - timedelta(days=3)
        self.alarms: dict[str, dict[str, Any]] = {
            "DeadLetters": {"StateValue": "OK", "AlarmActions": [TOPIC]},
            "NewVersionRaised": {"StateValue": "OK", "AlarmActions": []},
        }
        self.outcome: tuple[str, str] | None = (f"Successfully executed action {TOPIC}", "{}")
        self.history: list[tuple[str, datetime, str, str]] = []
        self.states: list[tuple[str, str]] = []

    def check(self) -> str:
        return check(self, self, "s", now=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def describe_alarms(self, AlarmNames: list[str]) -> Any:  # noqa: N803  botocore's names
        return {"MetricAlarms": [{"AlarmName": name, **self.alarms[name]} for name in AlarmNames]}

    def set_alarm_state(self, AlarmName: str, StateValue: str, StateReason: str) -> None:  # noqa: N803
        self.states.append((AlarmName, StateValue))
        if StateValue == "ALARM" and self.outcome:
            self.history.append((AlarmName, self.now, *self.outcome))

    def get_paginator(self, operation: str) -> Any:
        stage = self

        class Pages:
            def paginate(self, **request: Any) -> Any:
                if operation == "list_stack_resources":
                    yield {"StackSummaries": [], "StackResourceSummaries": stage.resources()}
                    return
                assert request["HistoryItemType"] == "Action"
                yield {
                    "AlarmHistoryItems": [
                        {"Timestamp": at, "HistorySummary": summary, "HistoryData": data}
                        for name, at, summary, data in stage.history
                        if name == request["AlarmName"] and at >= request["StartDate"]
                    ]
                }

        return Pages()

    def resources(self) -> list[dict[str, Any]]:
        kinds = dict.fromkeys(self.alarms, "AWS::CloudWatch::Alarm") | {"policy": "AWS::SNS::TopicPolicy"}
        return [
            {"ResourceType": kind, "PhysicalResourceId": name, "LastUpdatedTimestamp": self.deployed}
            for name, kind in kinds.items()
        ]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_an_alarm_is_set_off_once_and_set_back(stage: Stage) -> None:
    assert stage.check() == "DeadLetters has reached its topic"
    assert stage.states == [("DeadLetters", "ALARM"), ("DeadLetters", "OK")]


def test_what_has_reached_the_topic_since_the_last_change_is_not_repeated(stage: Stage) -> None:
    stage.check()
    stage.now += timedelta(days=1)
    assert stage.check() == "DeadLetters reached its topic at 2026-11-25 12:00"
    assert len(stage.states) == 2
    stage.deployed = stage.now  # a new policy, say
    assert stage.check() == "DeadLetters has reached its topic"


def test_an_action_that_fails_is_told_with_its_reason(stage: Stage) -> None:
    why = "CloudWatch Alarms is not authorized to perform: SNS:Publish"
    stage.outcome = (f"Failed to execute action {TOPIC}", json.dumps({"actionState": "Failed", "error": why}))
    with pytest.raises(AlarmError, match=f"DeadLetters: Failed to execute action {TOPIC}: {why}"):
        stage.check()
    assert stage.states[-1] == ("DeadLetters", "OK")


def test_no_action_at_all(stage: Stage) -> None:
    stage.outcome = None
    with pytest.raises(AlarmError, match="DeadLetters was set to ALARM, and did nothing within 60 s"):
        stage.check()
    assert stage.states[-1] == ("DeadLetters", "OK")


def test_alarms_that_notify_nothing(stage: Stage) -> None:
    stage.alarms["DeadLetters"]["AlarmActions"] = []
    with pytest.raises(AlarmError, match="none of the 2 alarms of s notifies anything"):
        stage.check()
    assert stage.states == []


def test_an_alarm_that_rings_already_is_left_alone(stage: Stage) -> None:
    stage.alarms["DeadLetters"]["StateValue"] = "ALARM"
    with pytest.raises(AlarmError, match="all alarms of s are in ALARM, and none has reached its topic"):
        stage.check()
    assert stage.states == []


def test_a_stage_without_alarms(stage: Stage) -> None:
    stage.alarms = {}
    assert stage.check() == "this stage has no alarms"
