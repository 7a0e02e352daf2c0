"""One marked token and one marked message go every way there is, and are seen only where they belong."""

import io
import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus

from roomcast import SendLimits, Settings, WebSocketService
from roomcast_dev.local.console import Console
from roomcast_dev.local.stack import Project
from roomcast_dev.testing import WebSocketStack, run_stack

MARK = "canary-7c1f"


@pytest.fixture
def output() -> io.StringIO:
    """All that the stack and its functions print."""
    return io.StringIO()


@pytest.fixture
def stack(
    websocket_project: Project, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WebSocketStack]:
    with run_stack(websocket_project, console=Console(output)) as stack:
        for name, value in stack.environment.items():
            monkeypatch.setenv(name, value)
        yield stack


@pytest.mark.slow
def test_no_token_and_no_message_is_seen_anywhere_else(
    stack: WebSocketStack,
    output: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="roomcast")
    token = stack.token("u1", role="admin")
    expired = stack.token("u1", ttl=-60)
    ticket = stack.service.create_ticket("u1")
    for query in ({"token": expired}, {"token": token[:-4] + "AAAA"}, {"ticket": MARK}):
        with pytest.raises(InvalidStatus):
            stack.connect(query=query)
    protocol = ["landinghub.v1", token]
    clients = [
        stack.connect(query={"token": token}),
        stack.connect(options={"subprotocols": protocol}),
        stack.connect(query={"ticket": ticket}),
    ]
    client = clients[0]
    client.send("dashboard:join", note=MARK)
    client.send("auth:refresh", token=token)
    client.send("auth:refresh", token=expired)
    client.send("chat:join_room", roomId="a/b " + MARK)
    client.websocket.send('{"action": "ping", "broken": "' + MARK)
    for event in ("dashboard:joined", "auth:refreshed", "chat:error", "error", "error"):
        client.wait_for(event)
    service = stack.service
    service.send_to_room("dashboard_admin", "e", {"text": MARK})
    service.send_to_user("u1", "e", {"text": MARK})
    queued = WebSocketService.from_settings(Settings.from_env(), limits=SendLimits(direct=0, split=0))
    assert queued.broadcast("last", {"text": MARK}).queued  # and over the queue
    for other in clients:
        assert other.wait_for("last", timeout=20)["data"] == {"text": MARK}
    shown = output.getvalue() + caplog.text
    tables = json.dumps(
        [stack.rows(stack.environment[f"WEBSOCKET_{name}_TABLE"]) for name in ("CONNECTIONS", "ROOMS")]
    )
    assert "$connect " in shown
    assert "u1" in tables
    for secret in (MARK, token, expired, ticket, token.rpartition(".")[2]):
        assert secret not in shown
        assert secret not in tables
