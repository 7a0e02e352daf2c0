"""Whether the alarms of a deployed stage reach their topic. CloudWatch says so in an alarm's history only."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

_SUCCESS = "Successfully executed action"
_SECONDS = 60
"""How long an action may take. It is usually in the history after a second or two."""
_POLL_SECONDS = 2
_MATTERS = {
    *("AWS::CloudWatch::Alarm", "AWS::KMS::Key", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy"),
}
"""A change of one of these asks for a new trial."""


class AlarmError(Exception):
    """An alarm does not reach its topic. The message is one line."""


def check(
    cloudformation: Any,
    cloudwatch: Any,
    stack: str,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Set one alarm of a stack off, and see in its history that the topic was notified.

    Whoever is subscribed gets the alarm and its end. Where an alarm has reached its topic since the alarms,
    the topic, its policy and its key were last changed, that is proof enough, and nobody is bothered again.

    Args:
        cloudformation: a client.
        cloudwatch: a client.
        stack: the stack's name.
        now: the time, with a time zone.
        sleep: waits some seconds.

    Returns:
        What was found, in a few words.

    Raises:
        AlarmError: no alarm has an action, or the action failed.
    """
    names, changed = _alarms(cloudformation, stack)
    if not names:
        return "this stage has no alarms"
    described = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
    alarms = [alarm for alarm in described if alarm.get("AlarmActions") and alarm.get("ActionsEnabled", True)]
    if not alarms:
        raise AlarmError(f"none of the {len(names)} alarms of {stack} notifies anything")
    for alarm in alarms:
        for action in _actions(cloudwatch, alarm["AlarmName"], changed):
            if action["HistorySummary"].startswith(_SUCCESS):
                return f"{alarm['AlarmName']} reached its topic at {action['Timestamp']:%Y-%m-%d %H:%M}"
    quiet = [alarm for alarm in alarms if alarm["StateValue"] != "ALARM"]
    if not quiet:
        raise AlarmError(f"all alarms of {stack} are in ALARM, and none has reached its topic")
    return _try(cloudwatch, quiet[0], now, sleep)


def _try(
    cloudwatch: Any, alarm: dict[str, Any], now: Callable[[], datetime], sleep: Callable[[float], None]
) -> str:
    name, began = alarm["AlarmName"], now() - timedelta(seconds=1)
    cloudwatch.set_alarm_state(
        AlarmName=name, StateValue="ALARM", StateReason="roomcast smoke: does this alarm reach anybody?"
    )
    try:
        for _ in range(_SECONDS // _POLL_SECONDS):
            for action in _actions(cloudwatch, name, began):
                if action["HistorySummary"].startswith(_SUCCESS):
                    return f"{name} has reached its topic"
                raise AlarmError(f"{name}: {_reason(action)}")
            sleep(_POLL_SECONDS)
        raise AlarmError(f"{name} was set to ALARM, and did nothing within {_SECONDS} s")
    finally:
        cloudwatch.set_alarm_state(
            AlarmName=name, StateValue=alarm["StateValue"], StateReason="roomcast smoke: the trial is over"
        )


def _actions(cloudwatch: Any, alarm: str, since: datetime) -> Iterator[dict[str, Any]]:
    pages = cloudwatch.get_paginator("describe_alarm_history").paginate(
        AlarmName=alarm, HistoryItemType="Action", StartDate=since
    )
    for page in pages:
        yield from page["AlarmHistoryItems"]


def _reason(action: dict[str, Any]) -> str:
    try:
        error = json.loads(action.get("HistoryData", "{}")).get("error", "")
    except ValueError:
        error = ""
    summary: str = action["HistorySummary"]
    return f"{summary}: {error}" if error and error not in summary else summary


def _alarms(cloudformation: Any, stack: str) -> tuple[list[str], datetime]:
    """The names of a stack's alarms, and when what they need was last changed."""
    names: list[str] = []
    changed = datetime.fromtimestamp(0, UTC)
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] in _MATTERS:
                changed = max(changed, resource["LastUpdatedTimestamp"])
            if resource["ResourceType"] == "AWS::CloudWatch::Alarm":
                names.append(resource["PhysicalResourceId"])
    return names, changed
