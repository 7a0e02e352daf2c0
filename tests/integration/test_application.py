"""An application of one's own: its actions answer, refuse, join, send; and the engine knows no other."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lambdas import connect, default
from roomcast import ActionError, App, Context, WebSocketService
from roomcast.app import Reply
from roomcast.functions.cold_start import wiring
from tests.builders import connect_event, message_event, token
from tests.fakes.management_api import FakeManagementApi

pytestmark = pytest.mark.usefixtures("functions")
ROOT = Path(__file__).parents[2]


@dataclass
class Confirmed:
    order_id: str
    by: str


app = App()
app.room("order_{order_id}", join="anyone", publish="members")
app.event("order:confirmed", Confirmed)


@app.action("order:confirm", error="order:error")
def confirm(ctx: Context, order_id: str, note: str = "") -> Confirmed | Reply:
    if order_id == "none":
        raise ActionError("no_order", "There is no such order", order=order_id)
    if order_id == "late":
        return ctx.reply("order:late", {"note": note})
    confirmed = Confirmed(order_id, ctx.user_id)
    ctx.send_to_room(f"order_{order_id}", "order:confirmed", confirmed)
    ctx.send_to_user("u2", "order:seen", {"rooms": sorted(ctx.rooms), "role": ctx.role, "name": ctx.name})
    return confirmed


@app.action("order:watch")
def watch(ctx: Context, order_id: str) -> Any:
    return {**ctx.join(f"order_{order_id}"), "connection": ctx.connection_id, "action": ctx.action_id}


@app.action("order:wrong")
def wrong(ctx: Context) -> None:
    ctx.send_to_room("order_1", "order:confirmed", {"orderId": 1, "by": "x"})


@app.action("order:all")
def everyone(ctx: Context) -> Any:
    return {"queued": ctx.broadcast("order:news", {"a": 1}).queued}


@app.action("order:say")
def say(ctx: Context) -> Any:
    return ctx.publish("order_1", "order:confirmed", Confirmed("1", "me"))


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch, functions: None) -> Iterator[None]:
    monkeypatch.setattr(wiring(), "application", app)
    monkeypatch.setattr(wiring().store, "rooms", app.rooms)
    for number in ("1", "2"):
        event = connect_event(f"c{number}=", token=token(f"u{number}"))
        assert connect.handler(event, None)["statusCode"] == 200
    yield
    wiring.cache_clear()


def act(action: str, connection_id: str = "c1=", **fields: Any) -> dict[str, Any]:
    body = default.handler(message_event(connection_id, action=action, **fields), None)["body"]
    found: dict[str, Any] = json.loads(body)
    return found


def posts(api: FakeManagementApi, connection_id: str) -> list[Any]:
    return [json.loads(body) for body in api.delivered[connection_id]]


def test_an_action_answers_sends_and_knows_who_asks(api: FakeManagementApi) -> None:
    joined = act("order:watch", "c2=", orderId="7", id="j")
    assert joined["data"] == {"connection": "c2=", "action": "j"}
    assert set(joined["connection"]) == {"expiresIn", "spread"}
    reply = act("order:confirm", orderId="7", id="1")
    assert (reply["event"], reply["data"], reply["replyTo"]) == (
        "order:confirm",
        {"orderId": "7", "by": "u1"},
        "1",
    )
    assert "connection" not in reply
    heard = {message["event"]: message["data"] for message in posts(api, "c2=")}
    assert heard == {
        "order:confirmed": {"orderId": "7", "by": "u1"},
        "order:seen": {"rooms": ["user_u1"], "role": "user", "name": "U1"},
    }


def test_it_may_answer_another_event_or_refuse() -> None:
    assert act("order:confirm", orderId="late", note="x")["data"] == {"note": "x"}
    refused = act("order:confirm", orderId="none", id="1")
    data = {"code": "no_order", "message": "There is no such order", "order": "none"}
    assert (refused["event"], refused["data"], refused["replyTo"]) == ("order:error", data, "1")
    refused = act("order:confirm", note="x")
    data = {"code": "invalid_field", "message": "orderId must be a string", "field": "orderId"}
    assert (refused["event"], refused["data"]) == ("order:error", data)
    assert act("order:other")["data"]["code"] == "unknown_action"
    assert act("dashboard:join")["data"]["code"] == "unknown_action"


def test_a_rate_that_is_over_is_told_by_the_actions_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = wiring().settings._replace(actions_per_second=1, actions_burst=1)
    monkeypatch.setattr(wiring(), "settings", slow)
    answers = [act("order:confirm", orderId="late") for _ in range(4)]
    refused = [answer for answer in answers if answer["data"].get("code") == "rate_limited"]
    assert {answer["event"] for answer in refused} == {"order:error"}


def test_a_wrong_send_is_a_fault_that_names_the_field_and_sends_nothing(api: FakeManagementApi) -> None:
    act("order:watch", "c2=", orderId="1")
    with pytest.raises(Exception, match=r"data\.orderId must be a string"):
        act("order:wrong")
    assert posts(api, "c2=") == []


def test_a_broadcast_is_the_workers() -> None:
    jobs: list[Any] = []
    wiring().job_queue = SimpleNamespace(put=jobs.extend)  # type: ignore[assignment]
    assert act("order:all")["data"] == {"queued": True}
    assert (jobs[0].event, jobs[0].data) == ("order:news", {"a": 1})


def test_clients_publish_what_is_not_the_applications_own(api: FakeManagementApi) -> None:
    act("order:watch", "c1=", orderId="1")
    act("order:watch", "c2=", orderId="1")
    asked: dict[str, Any] = {"room": "order_1", "data": {"orderId": "1", "by": "x"}}
    assert act("rooms:send", event="order:confirmed", **asked)["data"]["code"] == "invalid_event"
    assert act("rooms:send", event="order:note", **asked)["event"] == "rooms:sent"
    assert act("order:say")["data"].keys() == {"id"}
    assert [message["event"] for message in posts(api, "c2=")] == ["order:note", "order:confirmed"]


def test_rooms_are_left_by_name_and_each_is_answered() -> None:
    act("order:watch", orderId="1")
    left = act("rooms:leave", rooms=["order_1", "order_2", "user", "nothing"])
    assert [(each["room"], each.get("code")) for each in left["data"]["rooms"]] == [
        ("order_1", None),
        ("order_2", None),
        ("user_u1", "forbidden"),
        ("nothing", "invalid_room"),
    ]
    asked: dict[str, Any] = {"room": "order_1", "event": "e:e", "data": 1}
    assert act("rooms:send", **asked)["data"]["code"] == "not_a_member"
    for rooms in ([], None, ["a"] * 51):
        assert act("rooms:leave", rooms=rooms)["data"]["code"] == "invalid_rooms"


def test_a_backend_that_knows_the_application_is_told_what_is_wrong(service: WebSocketService) -> None:
    from roomcast.errors import InvalidDataError

    knows = WebSocketService.from_env(application=app)
    with pytest.raises(InvalidDataError, match=r"data\.by must be a string"):
        knows.send_to_user("u1", "order:confirmed", {"orderId": "7"})
    assert knows.send_to_user("u1", "order:confirmed", Confirmed("7", "backend")).sent == 1
    knows.close()


def test_the_engine_knows_no_application() -> None:
    """Its code names no room, action or event of LandingHub."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "roomcast").rglob("*.py"))
        for line in path.read_text().splitlines()
        if any(name in line for name in ("dashboard:", "dashboard_", "chat:", "chat_room"))
    ]
    assert found == []
