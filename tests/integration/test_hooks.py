"""Hooks: each is called for what it is of; one that fails or is slow hurts nothing but itself."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lambdas import connect, default, disconnect
from roomcast import App, ApplicationError, Context
from roomcast.functions import hooks
from roomcast.functions.cold_start import wiring
from tests.builders import connect_event, disconnect_event, message_event, token
from tests.fakes.management_api import FakeManagementApi

pytestmark = pytest.mark.usefixtures("functions")
HEARD: list[tuple[object, ...]] = []

app = App()
app.room("desk_{desk_id}", join="anyone", publish="members")
app.room("lobby", join="anyone")


@app.on("joined", room="desk_{desk_id}")
def welcome(ctx: Context, room: Any) -> None:
    HEARD.append(("joined a desk", ctx.user_id, room.key, room.name in ctx.rooms))
    ctx.join("lobby")  # calls no hook
    ctx.send_to_room(room, "desk:welcome", {"user": ctx.user_id})


@app.on("joined")
def anywhere(ctx: Context, room: Any) -> None:
    HEARD.append(("joined", room.name))


@app.on("left")
def gone(ctx: Context, room: Any) -> None:
    HEARD.append(("left", room.name, room.name in ctx.rooms))


@app.on("published", room="desk_{desk_id}")
def said(ctx: Context, room: Any, event: str, data: Any) -> None:
    HEARD.append(("published", room.name, event, data))


@app.on("connected")
def came(ctx: Context) -> None:
    HEARD.append(("connected", ctx.user_id, ctx.connection_id))


@app.on("disconnected")
def went(ctx: Context) -> None:
    HEARD.append(("disconnected", ctx.user_id, sorted(ctx.rooms)))


@app.action("desk:sit")
def sit(ctx: Context, desk_id: str) -> Any:
    ctx.join(f"desk_{desk_id}")
    ctx.publish(f"desk_{desk_id}", "desk:note", 1)
    ctx.leave(f"desk_{desk_id}")
    return {}


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch, functions: None) -> Iterator[None]:
    monkeypatch.setattr(wiring(), "application", app)
    monkeypatch.setattr(wiring().store, "rooms", app.rooms)
    HEARD.clear()
    assert connect.handler(connect_event("c1=", token=token("u1")), None)["statusCode"] == 200
    yield
    wiring.cache_clear()


def act(action: str, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        default.handler(message_event("c1=", action=action, **fields), None)["body"]
    )
    return found


def join(*rooms: str) -> dict[str, Any]:
    return act("rooms:join", rooms=[{"room": room} for room in rooms])


def test_a_connections_hooks_know_whose_it_is() -> None:
    join("desk_1")
    disconnect.handler(disconnect_event("c1="), None)
    disconnect.handler(disconnect_event("c1="), None)
    assert [each for each in HEARD if "connected" in str(each[0])] == [
        ("connected", "u1", "c1="),
        ("disconnected", "u1", ["desk_1", "lobby", "user_u1"]),
    ]


def test_nobody_is_refused_and_heard_of() -> None:
    HEARD.clear()
    assert connect.handler(connect_event("c2=", token="x"), None)["statusCode"] == 401
    assert connect.handler(connect_event("c2=", token="x", explain="1"), None)["statusCode"] == 200
    assert HEARD == []


def test_the_rooms_hooks_are_called_once_for_what_has_changed(api: FakeManagementApi) -> None:
    HEARD.clear()
    join("desk_1", "nothing", "dashboard")
    join("desk_1")
    act("rooms:send", room="desk_1", event="desk:note", data={"a": 1})
    act("rooms:leave", rooms=["desk_1", "desk_2"])
    assert HEARD == [
        ("joined a desk", "u1", "1", True),
        ("joined", "desk_1"),
        ("published", "desk_1", "desk:note", {"a": 1}),
        ("left", "desk_1", False),
    ]
    assert [json.loads(body)["event"] for body in api.delivered["c1="]] == ["desk:welcome", "desk:note"]


def test_what_an_action_does_is_heard_too() -> None:
    HEARD.clear()
    act("desk:sit", deskId="7")
    assert [each[0] for each in HEARD] == ["joined a desk", "joined", "published", "left"]


def test_a_hook_that_fails_or_is_slow_hurts_nothing_but_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = App()
    bad.room("lobby", join="anyone")
    called = []

    @bad.on("joined", room="lobby")
    def fails(ctx: Context, room: Any) -> None:
        raise SystemExit("out of order")

    @bad.on("joined", room="lobby")
    def slow(ctx: Context, room: Any) -> None:
        time.sleep(2)

    @bad.on("joined", room="lobby")
    def fine(ctx: Context, room: Any) -> None:
        called.append(room.name)

    monkeypatch.setattr(hooks, "HOOK_SECONDS", 0.2)
    monkeypatch.setattr(wiring(), "application", bad)
    with caplog.at_level(logging.ERROR, "roomcast"):
        assert join("lobby")["data"]["rooms"][0]["success"]
    assert called == ["lobby"]
    assert "a hook failed event=joined hook=" in caplog.text
    assert "out of order" in caplog.text
    assert "a hook is slow event=joined" in caplog.text


@pytest.mark.parametrize(
    ("event", "room", "said"),
    [
        ("came", None, "must be one of"),
        ("connected", "lobby", "has no room"),
        ("left", "hall", "not declared"),
    ],
)
def test_a_hook_of_nothing_is_refused(event: Any, room: str | None, said: str) -> None:
    with pytest.raises(ApplicationError, match=said):
        app.on(event, room=room)
