"""`roomcast tail` against a WebSocket server that plays the gateway."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from roomcast.connection import Identity
from roomcast.store import Store
from tests.builders import ROOMS_IN_FILE
from tests.integration.cli.conftest import ANYTHING, steering
from tests.unit.cli.conftest import Roomcast


class Gateway:
    """Answers joins, then says what the test wants; each connection's identity and actions are kept.

    Attributes:
        url: where it listens.
        identities: of each ticket that came.
        actions: as they came.
        kept: what the answer to a join says of the room's history.
        says: what each connection is told after its join, one list a connection.
        refuse: the status that handshakes get, if not 101.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.identities: list[Identity | None] = []
        self.actions: list[dict[str, Any]] = []
        self.kept: dict[str, object] = {}
        self.says: list[list[object]] = []
        self.refuse: int | None = None
        self.url = ""

    def conversation(self, connection: ServerConnection) -> None:
        action = json.loads(connection.recv())
        self.actions.append(action)
        connection.send(json.dumps({"event": "hello", "data": 1, "room": "another"}))
        joined = {"rooms": [{"room": action["rooms"][0]["room"], "success": True, **self.kept}]}
        connection.send(json.dumps({"event": "rooms:joined", "data": joined, "replyTo": action["id"]}))
        for message in self.says.pop(0) if self.says else []:
            connection.send(json.dumps(message))

    def handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse:
            return connection.respond(self.refuse, "")
        self.identities.append(self.store.tickets.read(request.path.partition("?ticket=")[2]))
        return None


@pytest.fixture
def gateway(store: Store, own_directory: Path) -> Iterator[Gateway]:
    gateway = Gateway(store)
    with serve(gateway.conversation, "127.0.0.1", 0, process_request=gateway.handshake) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        gateway.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/local"
        (own_directory / ".env.local").write_text(
            f"WEBSOCKET_API_ENDPOINT={gateway.url}\nWEBSOCKET_CONNECTIONS_TABLE=connections\n"
            f"WEBSOCKET_ROOMS_TABLE=rooms\nWEBSOCKET_ROOMS={ROOMS_IN_FILE}\nAWS_REGION=us-east-1\n"
        )
        yield gateway
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ctrl-C comes when the tail is about to connect again for the n-th time."""
    left = [1]

    def sleep(_: float) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    # Only of the command: the server that plays the gateway sleeps too.
    monkeypatch.setattr("roomcast_dev.cli.tail.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    return lambda times: left.__setitem__(0, times)


def event(room: str | None, data: object, **more: object) -> dict[str, object]:
    return {"event": "news", "data": data, "timestamp": "2026-11-23T10:30:00.000Z", "room": room, **more}


def test_it_shows_what_is_sent_in_the_room_and_nothing_else(roomcast: Roomcast, gateway: Gateway) -> None:
    gateway.says = [
        [
            event("dashboard_admin", {"n": 1}),
            event(None, {"n": 2}),
            event("dashboard_admin_2", {"n": 3}),
            event("dashboard_admin", None, replyTo="other"),
            event("dashboard_admin", "esc \x1b[31m é"),
        ]
    ]
    answer = roomcast("tail", "dashboard_admin")
    assert answer.code == 130
    assert answer.out.splitlines() == [
        '2026-11-23T10:30:00.000Z  news  {"n":1}',
        '2026-11-23T10:30:00.000Z  news  "esc \\u001b[31m é"',
    ]
    assert "joined dashboard_admin" in answer.err


@given(texts=st.lists(st.text(ANYTHING), min_size=10, max_size=50))
@settings(
    max_examples=10,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_sent_an_event_is_one_line_that_steers_nothing(
    roomcast: Roomcast, gateway: Gateway, stop_after: Callable[[int], None], texts: list[str]
) -> None:
    stop_after(1)
    gateway.says = [[event("dashboard_admin", {text: text}, event=text, timestamp=text) for text in texts]]
    answer = roomcast("tail", "dashboard_admin")
    assert len(answer.out.split("\n")) == len(texts) + 1
    assert not steering(answer.out)


def test_all_shows_broadcasts_too(roomcast: Roomcast, gateway: Gateway) -> None:
    gateway.says = [[event(None, 1), event("dashboard_admin", 2)]]
    assert len(roomcast("tail", "dashboard_admin", "--all").out.splitlines()) == 2


@pytest.mark.parametrize(
    ("room", "user", "role"),
    [
        ("dashboard_admin", "roomcast-tail", "admin"),
        ("chat_room_42", "roomcast-tail", "admin"),
        ("dashboard_user_u1", "u1", "user"),
        ("user_u1", "u1", "user"),
    ],
)
def test_it_joins_as_who_may(roomcast: Roomcast, gateway: Gateway, room: str, user: str, role: str) -> None:
    roomcast("tail", room)
    [identity] = gateway.identities
    assert identity
    assert (identity.user_id, identity.role) == (user, role)
    assert gateway.actions == [{"action": "rooms:join", "rooms": [{"room": room}], "id": "join"}]


def test_after_a_close_it_connects_again_and_says_so(
    roomcast: Roomcast, gateway: Gateway, stop_after: Callable[[int], None]
) -> None:
    stop_after(2)
    gateway.says = [[event("chat_room_1", 1)], [event("chat_room_1", 2)]]
    answer = roomcast("tail", "chat_room_1")
    assert [line[-1] for line in answer.out.splitlines()] == ["1", "2"]
    assert answer.err.count("closed (1000)") == 2


def test_a_refused_handshake_is_one_line(roomcast: Roomcast, gateway: Gateway) -> None:
    gateway.refuse = 401
    answer = roomcast("tail", "dashboard_admin")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "HTTP 401" in answer.err


def test_a_refused_join_is_one_line(
    roomcast: Roomcast, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: ServerConnection) -> None:
        connection.recv()
        error = {"room": "x", "success": False, "code": "forbidden", "message": "You may not join this room"}
        answer = {"event": "rooms:joined", "data": {"rooms": [error]}, "replyTo": "join"}
        connection.send(json.dumps(answer))

    monkeypatch.setattr(gateway, "conversation", refuse)
    with serve(refuse, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        env = Path(".env.local")
        env.write_text(
            env.read_text().replace(gateway.url, f"ws://127.0.0.1:{server.socket.getsockname()[1]}/local")
        )
        answer = roomcast("tail", "chat_room_1")
        server.shutdown()
        thread.join()
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "chat_room_1 cannot be joined: You may not join this room" in answer.err


def test_nobody_listening_is_one_line(roomcast: Roomcast, gateway: Gateway) -> None:
    env = Path(".env.local")
    env.write_text(env.read_text().replace(gateway.url, "ws://127.0.0.1:9/local"))
    answer = roomcast("tail", "dashboard_admin")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "cannot be reached" in answer.err


def test_an_unknown_room_is_one_line(roomcast: Roomcast, gateway: Gateway) -> None:
    answer = roomcast("tail", "lobby")
    assert (answer.code, answer.err.count("\n")) == (1, 1)


def test_json_is_each_envelope_as_it_came(roomcast: Roomcast, gateway: Gateway) -> None:
    gateway.says = [[event("dashboard_admin", {"n": "é"}, id="1")]]
    assert json.loads(roomcast("tail", "dashboard_admin", "--json").out) == event(
        "dashboard_admin", {"n": "é"}, id="1"
    )
