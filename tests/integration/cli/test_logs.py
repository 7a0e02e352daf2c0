"""`roomcast logs`: the lines of all functions of a stage, by time."""

import json
import time
from typing import Any

import botocore.session
import pytest

from tests.unit.cli.conftest import Roomcast


@pytest.fixture
def cloudwatch_logs(aws: botocore.session.Session, monkeypatch: pytest.MonkeyPatch) -> Any:
    client: Any = aws.create_client("logs")
    groups = ["connect-logs", "default-logs"]
    for group in groups:
        client.create_log_group(logGroupName=group)
        client.create_log_stream(logGroupName=group, logStreamName="s")
    monkeypatch.setattr("roomcast_dev.cli.target.resources", lambda _: {"AWS::Logs::LogGroup": groups})
    yield client
    for group in groups:
        client.delete_log_group(logGroupName=group)


def test_lines_of_all_functions_come_by_time_and_readable(roomcast: Roomcast, cloudwatch_logs: Any) -> None:
    now = int(time.time() * 1000)
    lines = [
        ("default-logs", now - 2000, json.dumps({"level": "INFO", "message": "action connectionId=c1="})),
        ("connect-logs", now - 3000, json.dumps({"level": "WARNING", "message": "refused status=401"})),
        ("connect-logs", now - 1000, "INIT_REPORT Status: timeout\n"),
        ("connect-logs", now - 3_600_000, json.dumps({"level": "INFO", "message": "an hour ago"})),
    ]
    for group, at, message in lines:
        event = [{"timestamp": at, "message": message}]
        cloudwatch_logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=event)
    answer = roomcast("logs", "--stage", "prod", "--minutes", "10")
    assert answer.code == 0, answer.err
    assert [line.partition(" ")[2] for line in answer.out.splitlines()] == [
        "WARNING refused status=401",
        "INFO    action connectionId=c1=",
        "INIT_REPORT Status: timeout",
    ]


def test_a_stage_without_logs_is_told_so(roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roomcast_dev.cli.target.resources", lambda _: {})
    answer = roomcast("logs", "--stage", "prod")
    assert answer.code != 0
    assert "this stage has no logs" in answer.err
