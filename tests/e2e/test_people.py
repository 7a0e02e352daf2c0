"""Looking at people and ending their connections, from the command line of one running stack."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from roomcast_dev.testing import WebSocketStack
from tests.e2e.conftest import COMMAND


def test_tail_follows_a_room_until_ctrl_c(
    websocket_stack: WebSocketStack, env_file: Path, roomcast: Callable[..., str]
) -> None:
    tail = subprocess.Popen(
        [*COMMAND, "tail", "chat_room_7", "--env-file", str(env_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stderr.readline().startswith("joined chat_room_7")
        roomcast("send", "room", "dashboard_admin", "not:this", "0")
        roomcast("send", "room", "chat_room_7", "chat:message", '{"text":"hi"}')
        assert tail.stdout.readline().split("  ", 1)[1] == 'chat:message  {"text":"hi"}\n'
    finally:
        tail.send_signal(signal.SIGINT)
        tail.communicate(timeout=10)
    assert tail.returncode == 130


def test_inspect_shows_who_is_there_and_kick_ends_it(
    websocket_stack: WebSocketStack, roomcast: Callable[..., str]
) -> None:
    token = roomcast("token", "--user", "carla", "--name", "Carla C")
    clients = [websocket_stack.connect(query={"token": token}) for _ in range(2)]
    clients[0].send("dashboard:join")
    clients[0].wait_for("dashboard:joined")

    shown = roomcast("inspect", "--user", "carla")
    assert shown.startswith("local stage: 2 connections of 1 user in 1 room")
    assert "Carla C" in shown
    assert "dashboard_user_carla" in shown

    assert roomcast("kick", "carla") == "closed 2 of carla"
    for client in clients:
        assert client.wait_closed()[0] == 1000
    assert json.loads(roomcast("inspect", "--user", "carla", "--json"))["connections"] == []
