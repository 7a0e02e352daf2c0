"""The three handlers, called as Lambda calls them, on moto."""

import json
import logging
from typing import Any

import pytest

from lambdas import connect, default, disconnect
from realtime.rooms import Room
from tests.builders import (
    OTHER_SECRET,
    SECRET,
    connect_event,
    disconnect_event,
    message_event,
    token,
)

pytestmark = pytest.mark.usefixtures("functions")


def let_in(connection_id: str = "c1=", user_id: str = "u1", role: Any = "user") -> None:
    assert connect.handler(connect_event(connection_id, token=token(user_id, role)), None) == {
        "statusCode": 200
    }


def said(connection_id: str = "c1=", body: object = None, **fields: object) -> tuple[str, dict[str, Any]]:
    answer = default.handler(message_event(connection_id, body, **fields), None)
    assert answer["statusCode"] == 200
    envelope = json.loads(answer["body"])
    return envelope["event"], envelope["data"]


@pytest.mark.parametrize(
    "query",
    [{}, {"token": ""}, {"token": "x"}, {"token": token(secret=OTHER_SECRET)}, {"token": token(ttl=-60)}],
)
def test_a_bad_token_is_a_401_with_the_reason_in_the_log_alone(
    query: dict[str, str], rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert connect.handler(connect_event(**query), None) == {"statusCode": 401}
    assert rows("connections") == []
    assert "reason=" in caplog.text
    assert not query.get("token") or query["token"] == "x" or query["token"] not in caplog.text


def test_a_secret_is_rotated_without_a_refused_connect(secrets: Any) -> None:
    let_in("c1=")
    secrets.put_secret_value(SecretId="jwt", SecretString=OTHER_SECRET)
    for number, secret in enumerate((OTHER_SECRET, SECRET)):
        event = connect_event(f"c{number}", token=token(secret=secret))
        assert connect.handler(event, None) == {"statusCode": 200}


def test_an_admin_joins_refreshes_and_leaves_the_admin_dashboard() -> None:
    let_in(role="admin")
    assert said(action="dashboard:join") == (
        "dashboard:joined",
        {"success": True, "userRole": "admin", "room": "dashboard_admin"},
    )
    assert said(action="dashboard:refresh") == ("dashboard:refresh_data", {"type": "admin"})
    assert said(action="dashboard:leave") == ("dashboard:left", {"success": True, "room": "dashboard_admin"})


def test_a_user_joins_their_own_dashboard_whatever_room_they_name() -> None:
    let_in()
    for fields in ({}, {"room": "dashboard_admin"}, {"role": "admin"}, {"userId": "u2"}):
        event, data = said(action="dashboard:join", **fields)
        assert (event, data["room"], data["userRole"]) == ("dashboard:joined", "dashboard_user_u1", "user")


def test_a_chat_room_needs_a_grant_but_not_of_an_admin() -> None:
    let_in("c1=")
    let_in("c2=", "boss", "admin")
    event, data = said("c1=", action="chat:join_room", roomId="r1")
    assert (event, data["code"]) == ("chat:error", "forbidden")
    assert said("c2=", action="chat:join_room", roomId="r1") == (
        "chat:joined_room",
        {"roomId": "r1", "success": True},
    )
    default.parts().grant(Room("chat", "r1"), "u1")
    assert said("c1=", action="chat:join_room", roomId="r1")[0] == "chat:joined_room"
    assert said("c1=", action="chat:leave_room", roomId="r1") == (
        "chat:left_room",
        {"roomId": "r1", "success": True},
    )


def test_a_reply_carries_the_id_of_its_action() -> None:
    let_in()
    body = default.handler(message_event(action="ping", id="42"), None)["body"]
    envelope = json.loads(body)
    assert envelope["replyTo"] == "42"
    assert envelope["event"] == "pong"
    assert envelope["data"]["timestamp"].endswith("Z")


def test_an_unknown_action_has_the_error_that_landinghub_had() -> None:
    let_in()
    assert said(action="nothing") == ("error", {"code": "unknown_action", "message": "Unknown action"})


@pytest.mark.parametrize("room_id", [None, 7, "", "a#b", "a/b", "x" * 65, ["r1"], {"a": 1}, "r1\n"])
@pytest.mark.parametrize("action", ["chat:join_room", "chat:leave_room"])
def test_a_bad_room_id_is_an_error_with_a_code(action: str, room_id: object, rows: Any) -> None:
    let_in()
    event, data = said(action=action, roomId=room_id)
    assert (event, data["code"]) == ("chat:error", "invalid_room")
    assert rows("rooms") == []


def test_a_missing_room_id_is_an_error_with_a_code() -> None:
    let_in()
    event, data = said(action="chat:join_room")
    assert (event, data["code"]) == ("chat:error", "invalid_room")


@pytest.mark.parametrize("body", ["hello", "[]", "{}", '{"action": 1}', "[" * 1000, '{"action":NaN}'])
def test_a_bad_message_is_an_error_with_a_code_and_no_trace(body: str) -> None:
    let_in()
    event, data = said(body=body)
    assert event == "error"
    assert set(data) == {"code", "message"}
    assert "Traceback" not in data["message"]


def test_a_connection_that_is_not_kept_is_told_to_connect_again() -> None:
    event, data = said(action="ping")
    assert (event, data["code"]) == ("error", "unknown_connection")


def test_a_disconnect_leaves_no_row_and_may_come_twice(rows: Any) -> None:
    let_in(role="admin")
    said(action="dashboard:join")
    for _ in range(2):
        assert disconnect.handler(disconnect_event(), None) == {"statusCode": 200}
    assert rows("rooms") == []
    assert [row for row in rows("connections") if "userId" in row] == []


def test_no_body_and_no_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="realtime"):
        mark = token("u1")
        connect.handler(connect_event(token=mark), None)
        said(action="ping", note="secret-words")
        said(body='{"action": 7, "note": "secret-words"}')
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("realtime")]
    assert any(line.startswith("connected") for line in lines)
    assert not [line for line in lines if mark in line or "secret-words" in line]
