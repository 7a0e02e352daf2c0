"""The main job on real input: real clients, real tokens, sends from the command line, one running stack."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from roomcast import SendReport
from roomcast_dev.testing import WebSocketStack


def rows(stack: WebSocketStack) -> list[dict[str, Any]]:
    """Every row of both tables."""
    names = ("WEBSOCKET_CONNECTIONS_TABLE", "WEBSOCKET_ROOMS_TABLE")
    return [row for name in names for row in stack.rows(stack.environment[name])]


def test_a_room_send_arrives_at_the_admin_alone(
    websocket_stack: WebSocketStack, roomcast: Callable[..., str]
) -> None:
    admin_token = roomcast("token", "--user", "anna", "--role", "admin")
    user_token = roomcast("token", "--user", "ben", "--role", "user")
    admin = websocket_stack.connect(query={"token": admin_token})
    user = websocket_stack.connect(query={"token": user_token})
    admin.send("dashboard:join", id="1")
    joined = admin.wait_for("dashboard:joined")
    assert joined["data"] == {"success": True, "userRole": "admin", "room": "dashboard_admin"}
    assert joined["replyTo"] == "1"
    user.send("dashboard:join")
    assert user.wait_for("dashboard:joined")["data"]["room"] == "dashboard_user_ben"

    data = {"type": "new_order", "orderId": "123"}
    roomcast("send", "room", "dashboard_admin", "dashboard:update", json.dumps(data))
    update = admin.wait_for("dashboard:update")
    assert update["data"] == data
    assert set(update) >= {"event", "data", "timestamp", "id", "room"}
    user.expect_silence()

    roomcast("send", "user", "ben", "note", '{"n": 1}')
    assert user.wait_for("note")["data"] == {"n": 1}
    admin.expect_silence()

    roomcast("send", "all", "news", '{"n": 2}')
    assert [client.wait_for("news")["data"] for client in (admin, user)] == [{"n": 2}, {"n": 2}]


def bad_tokens(stack: WebSocketStack) -> dict[str, str | None]:
    now = int(time.time())
    claims = {"userId": "mallory", "role": "admin", "iat": now, "exp": now + 600}
    return {
        "none at all": None,
        "no token": "not-a-token",
        "expired": stack.token("mallory", ttl=-60),
        "unsigned": jwt.encode(claims, "", algorithm="none"),
        "signed differently": jwt.encode(claims, "another secret that is long enough for HS256"),
    }


@pytest.mark.parametrize("kind", ["none at all", "no token", "expired", "unsigned", "signed differently"])
def test_a_bad_token_is_401_and_nothing_is_stored(websocket_stack: WebSocketStack, kind: str) -> None:
    token = bad_tokens(websocket_stack)[kind]
    with pytest.raises(InvalidStatus) as refusal:
        websocket_stack.connect(query={"token": token} if token else {})
    assert refusal.value.response.status_code == 401
    assert "mallory" not in json.dumps(rows(websocket_stack))


@pytest.mark.parametrize("how", ["clean", "abrupt"])
def test_no_row_is_left_after_a_disconnect(websocket_stack: WebSocketStack, how: str) -> None:
    client = websocket_stack.connect("anna", role="admin")
    client.send("dashboard:join")
    client.wait_for("dashboard:joined")
    client.send("chat:join_room", roomId="r1")
    client.wait_for("chat:joined_room")
    connection_id = websocket_stack.connection_ids()[0]
    assert (
        len([row for row in rows(websocket_stack) if connection_id in json.dumps(row)]) == 4
    )  # and its inbox
    if how == "clean":
        client.close()
    else:
        websocket_stack.drop(connection_id)
    websocket_stack.eventually(lambda: connection_id not in json.dumps(rows(websocket_stack)))


def test_a_send_to_a_closed_connection_reports_gone_and_prunes(websocket_stack: WebSocketStack) -> None:
    websocket_stack.faults.withhold_disconnect = True
    client = websocket_stack.connect("carl", role="admin")
    client.send("dashboard:join")
    client.wait_for("dashboard:joined")
    connection_id = websocket_stack.connection_ids()[0]
    websocket_stack.drop(connection_id)
    websocket_stack.eventually(lambda: not websocket_stack.connection_ids())
    assert connection_id in json.dumps(rows(websocket_stack))
    report: SendReport = websocket_stack.service.send_to_room("dashboard_admin", "note", {})
    assert (report.sent, report.gone, report.failed) == (0, 1, 0)
    assert connection_id not in json.dumps(rows(websocket_stack))


def test_an_unknown_action_and_a_bad_body_are_answered_not_fatal(websocket_stack: WebSocketStack) -> None:
    client = websocket_stack.connect("dora")
    client.send("no-such-action", id="7")
    error = client.wait_for("error")
    assert (error["data"]["code"], error["replyTo"]) == ("unknown_action", "7")
    client.websocket.send("{no json")
    assert "code" in client.wait_for("error")["data"]
    client.send("ping")
    client.wait_for("pong")
