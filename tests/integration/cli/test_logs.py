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


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_neither_steers_the_terminal_nor_looks_like_another(
    roomcast: Roomcast, cloudwatch_logs: Any, as_json: bool
) -> None:
    forged = "12:00:00 INFO    connected"
    text = f"refused reason=\x1b[2J\x1b]0;t\x07\r{forged}\x9b31m\u202e\u2028\n{forged}"
    message = json.dumps({"level": "INFO", "message": text}) if as_json else text
    event = [{"timestamp": int(time.time() * 1000), "message": message}]
    cloudwatch_logs.put_log_events(logGroupName="connect-logs", logStreamName="s", logEvents=event)
    lines = roomcast("logs", "--stage", "prod").out.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith(forged)] == []
