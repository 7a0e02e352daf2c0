"""The table of calls in docs/architecture.md is what the functions and the service really ask DynamoDB."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials

from roomcast.functions import actions, handshake
from roomcast.management_api.client import ManagementApi
from roomcast.rooms import Kind, Retention, Rooms
from roomcast.sending.job import PresenceJob
from roomcast.sending.presence import look
from roomcast.sending.worker import Worker
from roomcast.server_events import ServerEvents
from roomcast.service import WebSocketService
from roomcast.settings import ServerEventRules, Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.large_rooms import MANY_MEMBERS
from roomcast.store.rate import Admissions
from roomcast.tokens.secret_keys import StaticKeys
from roomcast.wiring import Wiring
from tests.builders import APP, SECRET, chat, create_tables, identity, token
from tests.fakes.dynamodb import FakeDynamoDB
from tests.fakes.event_bus import FakeEventBus
from tests.fakes.management_api import FakeManagementApi
from tests.integration.test_revocation import Line

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
CHAT = chat("r1")
SETTINGS = {
    "WEBSOCKET_CONNECTIONS_TABLE": "connections",
    "WEBSOCKET_ROOMS_TABLE": "rooms",
    "WEBSOCKET_HISTORY_TABLE": "history",
    "WEBSOCKET_ROOMS": APP.rooms.dumps(),
    "WEBSOCKET_APPLICATION": "lambdas.app",
    "WEBSOCKET_API_ENDPOINT": "ws://localhost:1/local",
}


QUIET = Rooms(kind._replace(presence="none") for kind in APP.rooms.kinds[:-1])
"""The application's rooms without presence, which is counted by itself."""


class Stage:
    """A function and a backend, both warm, on the fake; `c1=` is connected and may join a chat room."""

    queue: Line

    def __init__(self, api: FakeManagementApi) -> None:
        client: Any = FakeDynamoDB()
        self.dynamodb = client
        create_tables(self.dynamodb)
        self.now = time.time()
        self.wiring = Wiring(Settings.from_env(SETTINGS))
        self.wiring.keys = StaticKeys(SECRET)
        self.wiring.store = self.store = Store(
            Tables(self.dynamodb, "connections", "rooms", clock=lambda: self.now, history="history"), QUIET
        )
        management_api = ManagementApi(api.endpoint, region="x", credentials=Credentials("AKID", "SECRET"))
        self.service = WebSocketService(self.store, management_api, index_lag=0)
        self.management_api = self.wiring.management_api = management_api
        self.store.members.grant(CHAT, "u1")
        self.connect("c1=")
        self.act("ping")
        for room in ("chat_room_r1", "user_u1"):
            self.service.send_to_room(room, "e", {})  # the stream begins
        self.rest()

    def rest(self) -> None:
        """Let a second pass, after which the rate is calm. Nothing else moves the clock."""
        self.now += 1

    def connect(self, connection_id: str, **query: str) -> None:
        asked = handshake.Handshake(connection_id, query or {"token": token()}, {})
        assert handshake.admit(self.wiring, asked)

    def act(self, action: str, **fields: object) -> None:
        reply = actions.handle(self.wiring, "c1=", json.dumps({"action": action, **fields}))
        assert reply is None or json.loads(reply)["event"] != "error", reply

    def publish(self, action: str, **fields: object) -> None:
        self.act(action, room="chat_room_r1", event="e", data={}, **fields)

    def join(self) -> None:
        self.act("chat:join_room", roomId="r1")
        self.rest()


def connect_with_a_ticket(stage: Stage) -> Callable[[], object]:
    stage.store.tickets.put("t" * 43, identity("u2"))
    return lambda: stage.connect("c2=", ticket="t" * 43)


def act_in_a_burst(stage: Stage, *, known: bool) -> Callable[[], object]:
    stage.act("ping")
    if not known:
        stage.store.admissions = Admissions(stage.store.tables)  # those of another process
    return lambda: stage.act("ping")


def after_a_join(stage: Stage, do: Callable[[], object]) -> Callable[[], object]:
    stage.join()
    return do


def join_several(stage: Stage) -> Callable[[], object]:
    stage.service.position("dashboard_user_u1")  # begins
    rooms = [{"room": "chat_room_r1"}, {"room": "user"}, {"room": "dashboard"}]
    return lambda: stage.act("rooms:join", rooms=rooms)


def missed_something(stage: Stage) -> Callable[[], object]:
    position = stage.service.position("chat_room_r1")
    assert position is not None
    stage.service.send_to_room("chat_room_r1", "e", {})
    since = {"epoch": position.epoch, "seq": position.seq}
    return lambda: stage.act("rooms:join", rooms=[{"room": "chat_room_r1", "since": since}])


def with_presence(stage: Stage, do: Callable[[], object], *, joined: bool = True) -> Callable[[], object]:
    stage.store.rooms = APP.rooms
    return after_a_join(stage, do) if joined else do


def look_at_a_user(stage: Stage) -> object:
    queue: Any = None
    return look(stage.store, queue, PresenceJob("chat_room_r1", "u1"), again=False)


def send_to_a_large_room(stage: Stage) -> Callable[[], object]:
    stage.store.members.note_size(CHAT, MANY_MEMBERS)
    return lambda: stage.service.send_to_room("chat_room_r1", "e", {})


def send_to_a_last_value(stage: Stage, earlier: int) -> Callable[[], object]:
    """After some others within its window."""
    queue, room = Line(), "dashboard_user_u1"
    stage.store.rooms = APP.rooms.with_window(60)
    service = WebSocketService(stage.store, stage.management_api, queue)
    stage.act("dashboard:join")
    stage.service.send_to_room(room, "e", {})  # the stream begins; without a queue there is no window
    for _ in range(earlier):
        service.send_to_room(room, "e", {})
    stage.queue = queue
    return lambda: service.send_to_room(room, "e", {})


def broadcast_with_a_history(stage: Stage) -> Callable[[], object]:
    everybody = Kind("all", "anyone", Retention(messages=100))
    stage.store.rooms = Rooms([*APP.rooms.kinds[:-1], everybody])
    stage.service.broadcast("e", {})  # the stream begins
    return lambda: stage.service.broadcast("e", {})


def post_the_newest(stage: Stage) -> Callable[[], object]:
    send_to_a_last_value(stage, 3)
    [job] = stage.queue.waiting
    worker = Worker(stage.store, stage.management_api, stage.queue)
    record = {"messageId": "m", "receiptHandle": "r", "body": job.dump()}
    return lambda: worker.run(record)


def with_events(stage: Stage, do: Callable[[], object], *, joined: bool = False) -> Callable[[], object]:
    rules = ServerEventRules.parse(
        "", "roomcast.acme.qa:connected,disconnected,joined,left,published@default"
    )
    bus: Any = FakeEventBus()
    stage.wiring.server_events = ServerEvents(bus, rules, stage.store)
    stage.store.tables.ended = stage.wiring.ended

    def once() -> None:
        before = bus.calls
        do()
        assert bus.calls == before + 1

    return after_a_join(stage, once) if joined else once


PATHS: dict[str, Callable[[Stage], Callable[[], object]]] = {
    "connect": lambda s: lambda: s.connect("c2="),
    "connect with a ticket": connect_with_a_ticket,
    "disconnect": lambda s: after_a_join(s, lambda: s.store.connections.disconnect("c1=")),
    "any other action": lambda s: lambda: s.act("ping"),
    "an action within a burst": lambda s: act_in_a_burst(s, known=True),
    "the same, counted elsewhere before": lambda s: act_in_a_burst(s, known=False),
    "join": lambda s: lambda: s.act("chat:join_room", roomId="r1"),
    "`rooms:join`": lambda s: lambda: s.act("rooms:join", rooms=[{"room": "chat_room_r1"}, {"room": "user"}]),
    "`rooms:join` of several": join_several,
    "`rooms:join`, missed something": missed_something,
    "`rooms:history`": lambda s: after_a_join(s, lambda: s.act("rooms:history", room="chat_room_r1")),
    "`ping` with rooms": lambda s: lambda: s.act("ping", rooms=["user"]),
    "leave": lambda s: after_a_join(s, lambda: s.act("chat:leave_room", roomId="r1")),
    "`rooms:join` with presence": lambda s: with_presence(
        s, lambda: s.act("rooms:join", rooms=[{"room": "chat_room_r1"}]), joined=False
    ),
    "leave with presence": lambda s: with_presence(s, lambda: s.act("chat:leave_room", roomId="r1")),
    "disconnect with presence": lambda s: with_presence(s, lambda: s.store.connections.disconnect("c1=")),
    "`rooms:presence`": lambda s: with_presence(s, lambda: s.act("rooms:presence", room="chat_room_r1")),
    "a look that finds a change": lambda s: with_presence(s, lambda: look_at_a_user(s)),
    "`auth:refresh`": lambda s: lambda: s.act("auth:refresh", token=token()),
    "`rooms:send`": lambda s: after_a_join(s, lambda: s.publish("rooms:send", id="a message")),
    "`rooms:signal`": lambda s: after_a_join(s, lambda: s.publish("rooms:signal")),
    "send to a room": lambda s: after_a_join(s, lambda: s.service.send_to_room("chat_room_r1", "e", {})),
    "send to a large room": send_to_a_large_room,
    "send to a last value, the first in its window": lambda s: send_to_a_last_value(s, 0),
    "the second": lambda s: send_to_a_last_value(s, 1),
    "any other": lambda s: send_to_a_last_value(s, 2),
    "the job at the end of the window": post_the_newest,
    "send to a user": lambda s: lambda: s.service.send_to_user("u1", "e", {}),
    "broadcast": lambda s: lambda: s.service.broadcast("e", {}),
    "broadcast with a history": broadcast_with_a_history,
    "connect with server events": lambda s: with_events(s, lambda: s.connect("c2=")),
    "join with server events": lambda s: with_events(s, lambda: s.act("chat:join_room", roomId="r1")),
    "leave with server events": lambda s: with_events(
        s, lambda: s.act("chat:leave_room", roomId="r1"), joined=True
    ),
    "disconnect with server events": lambda s: with_events(
        s, lambda: s.store.connections.disconnect("c1="), joined=True
    ),
    "`rooms:send` with server events": lambda s: with_events(
        s, lambda: s.publish("rooms:send", id="a message"), joined=True
    ),
}


def table() -> dict[str, str]:
    """The first two columns of the page's table."""
    section = PAGE.read_text().partition("## The calls that each path makes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \|", section, re.MULTILINE)
    return {path: calls for path, calls in rows if path != "path"}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with FakeManagementApi() as api:
        made = Stage(api)
        yield made
        made.management_api.close()


def test_the_table_has_these_paths() -> None:
    assert list(table()) == list(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_makes_the_calls_that_the_table_says(stage: Stage, path: str) -> None:
    do = PATHS[path](stage)
    stage.dynamodb.calls.clear()
    do()
    counted = [f"{name}" if count == 1 else f"{count} {name}" for name, count in stage.dynamodb.calls.items()]
    assert ", ".join(counted) == table()[path]
