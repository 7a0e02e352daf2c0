"""`roomcast why`: each reason that a message has for not coming is found, and named before any other."""

import json
import time
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from roomcast.connection import Identity
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP
from tests.fakes.management_api import FakeManagementApi
from tests.unit.cli.conftest import Roomcast

ROOMS = APP.rooms
CHAT = ROOMS.parse("chat_room_42")
LONG_AGO = 300.0  # s


@pytest.fixture(autouse=True)
def stage(local_stage: Path) -> None:
    local_stage.write_text(local_stage.read_text() + "WEBSOCKET_HISTORY_TABLE=history\n")


def connect(
    dynamodb: Any, *, opened: float = LONG_AGO, ends: float = 3600, joins: bool = True, user: str = "u1"
) -> None:
    now = time.time()
    store = Store(
        Tables(dynamodb, "connections", "rooms", history="history", clock=lambda: now - opened), ROOMS
    )
    who = Identity(user, "user", "", "", expires_at=int(now + ends), issued_at=int(now - opened))
    store.connections.connect(f"{user}=", who)
    connection = store.connections.get(f"{user}=")
    assert connection is not None
    if joins:
        store.members.grant(CHAT, user)
        assert store.members.join(connection, CHAT, needs_grant=True)


def send(roomcast: Roomcast) -> str:
    answer = roomcast("send", "room", "chat_room_42", "chat:message", '"hi"', "--json")
    return str(json.loads(answer.out)["id"])


def verdict(roomcast: Roomcast, message_id: str, *more: str) -> tuple[str, str]:
    answer = roomcast("why", "u1", message_id, "--json", *more)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    return found["reached"], found["verdict"]


def test_a_message_that_was_posted(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb)
    message_id = send(roomcast)
    answer = roomcast("why", "u1", message_id)
    assert answer.code == 0, answer.err
    assert "number 1 of chat_room_42" in answer.out
    assert "in chat_room_42" in answer.out
    assert answer.out.splitlines()[-1].startswith("yes: nothing stopped it")


def test_nobody_there(roomcast: Roomcast, api: FakeManagementApi) -> None:
    roomcast("grant", "chat_room_42", "u1")
    reached, why = verdict(roomcast, send(roomcast), "--room", "chat_room_42")
    assert (reached, why.partition(";")[0]) == ("no", "u1 has no open connection")
    assert "joins again" in why


def test_no_grant(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb, joins=False)
    reached, why = verdict(roomcast, send(roomcast), "--room", "chat_room_42")
    assert reached == "no"
    assert "`roomcast grant chat_room_42 u1`" in why


def test_somebody_elses_room(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb, joins=False)
    sent = json.loads(roomcast("send", "user", "u2", "x", "1", "--json").out)
    assert verdict(roomcast, sent["id"], "--room", "user_u2") == ("no", "u1 may not join user_u2")


def test_a_grant_that_came_later(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    message_id = send(roomcast)
    roomcast("grant", "chat_room_42", "u1")
    connect(dynamodb)
    reached, why = verdict(roomcast, message_id)
    assert (reached, why.partition(":")[0]) == ("no", "it was sent before the grant")


def test_a_connection_that_has_not_joined(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb, joins=False)
    roomcast("grant", "chat_room_42", "u1")
    message_id = send(roomcast)
    assert verdict(roomcast, message_id, "--room", "chat_room_42") == (
        "no",
        "no connection of u1 is in chat_room_42",
    )


def test_a_connection_that_came_later(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb, user="u2")
    roomcast("grant", "chat_room_42", "u1")
    message_id = send(roomcast)
    connect(dynamodb, opened=-60)
    reached, why = verdict(roomcast, message_id)
    assert (reached, why.partition(";")[0]) == ("no", "every connection of u1 is younger than the message")


def test_a_user_who_is_kept_out(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb)
    message_id = send(roomcast)
    roomcast("kick", "u1", "--keep-out")
    reached, why = verdict(roomcast, message_id, "--room", "chat_room_42")
    assert reached == "no"
    assert "`roomcast restore u1`" in why


def test_a_message_that_no_history_has(roomcast: Roomcast, dynamodb: Any, api: FakeManagementApi) -> None:
    connect(dynamodb)
    assert verdict(roomcast, "never-sent")[0] == "unknown"
    broadcast = json.loads(roomcast("send", "all", "x", "1", "--json").out)["id"]
    answer = roomcast("why", "u1", broadcast)
    assert f", sent {time.strftime('%Y-%m-%d', time.gmtime())}" in answer.out  # its id has the time


def test_the_logs_of_a_deployed_stage_say_what_the_worker_met(
    roomcast: Roomcast,
    dynamodb: Any,
    api: FakeManagementApi,
    aws: botocore.session.Session,
    own_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(dynamodb)
    message_id = send(roomcast)
    logs: Any = aws.create_client("logs")
    logs.create_log_group(logGroupName="fanout-logs")
    logs.create_log_stream(logGroupName="fanout-logs", logStreamName="s")
    posted = f"posted id={message_id} round=0 sent=0 gone=0 failed=2 unknown=0 left=0 ms=9"
    for message in (
        posted,
        "posted id=another round=0 sent=7",
        "connect connectionId=x= userId=u1 role=user",
    ):
        line = {
            "timestamp": int(time.time() * 1000),
            "message": json.dumps({"level": "INFO", "message": message}),
        }
        logs.put_log_events(logGroupName="fanout-logs", logStreamName="s", logEvents=[line])
    keys = dict(line.split("=", 1) for line in (own_directory / ".env.local").read_text().splitlines())
    monkeypatch.setattr("roomcast_dev.cli.target.deployed", lambda *_: keys)
    monkeypatch.setattr(
        "roomcast_dev.cli.target.resources", lambda _: {"AWS::Logs::LogGroup": ["fanout-logs"]}
    )
    answer = roomcast("why", "u1", message_id, "--stage", "prod", "--json")
    logs.delete_log_group(logGroupName="fanout-logs")
    found = json.loads(answer.out)
    assert found["facts"]["posts"] == "sent 0  gone 0  failed 2  unknown 0"
    assert found["reached"] == "no"
    assert [line.split("Z  ")[1] for line in found["logs"]] == [
        posted,
        "connect connectionId=x= userId=u1 role=user",
    ]
