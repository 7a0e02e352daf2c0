"""Streams from end to end on moto: join, send, recover; who may see what; what it costs in calls."""

import json
import os
from typing import Any

import pytest

from lambdas import connect, default, disconnect
from roomcast import WebSocketService
from roomcast.aws_client.failures import refused
from roomcast.envelope import MAX_ENVELOPE_BYTES
from roomcast.errors import EnvelopeTooLargeError
from roomcast.functions.cold_start import wiring
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.replay import Position
from tests.builders import APP, connect_event, disconnect_event, message_event, token
from tests.fakes.management_api import FakeManagementApi

pytestmark = pytest.mark.usefixtures("functions")
CHAT = "chat_room_r1"
AT = {"epoch": "e", "seq": 1}


def let_in(connection_id: str = "c1=", user_id: str = "u1", role: Any = "user") -> None:
    event = connect_event(connection_id, token=token(user_id, role))
    assert connect.handler(event, None)["statusCode"] == 200


def act(action: str, connection_id: str = "c1=", **fields: Any) -> tuple[str, dict[str, Any]]:
    answer = default.handler(message_event(connection_id, action=action, id="7", **fields), None)
    text = answer["body"]
    assert len(text.encode()) <= MAX_ENVELOPE_BYTES
    reply = json.loads(text)
    assert reply["replyTo"] == "7"
    return reply["event"], reply["data"]


def join(*rooms: Any, connection_id: str = "c1=") -> list[dict[str, Any]]:
    event, data = act("rooms:join", connection_id, rooms=list(rooms))
    assert event == "rooms:joined"
    return list(data["rooms"])


def place(entry: dict[str, Any], seq: int | None = None) -> dict[str, Any]:
    return {"epoch": entry["epoch"], "seq": entry["seq"] if seq is None else seq}


def seqs(entry: dict[str, Any]) -> list[int]:
    return [message["seq"] for message in entry["messages"]]


@pytest.fixture
def member(service: WebSocketService) -> dict[str, Any]:
    """The entry of a first join of the chat room."""
    service.grant_room(CHAT, "u1")
    let_in()
    [entry] = join({"room": CHAT})
    return entry


def test_what_was_sent_while_a_client_was_away_comes_with_its_join(
    service: WebSocketService, api: FakeManagementApi, member: dict[str, Any]
) -> None:
    history = {"seconds": 86400, "messages": 1000}
    nothing = {"wasRecovering": False, "recovered": False, "messages": [], "more": False}
    assert member.pop("presence")["count"] == 1
    assert member == {"room": CHAT, "success": True, **place(member, 0), "history": history, **nothing}
    report = service.send_to_room(CHAT, "chat:message", {"n": 1})
    assert (report.sent, report.seq) == (1, 1)
    disconnect.handler(disconnect_event("c1="), None)
    assert [service.send_to_room(CHAT, "chat:message", {"n": n}).seq for n in (2, 3)] == [2, 3]
    let_in("c2=")
    [entry] = join({"room": CHAT, "since": place(member, 1)}, connection_id="c2=")
    assert (entry["wasRecovering"], entry["recovered"], entry["more"]) == (True, True, False)
    assert [(m["seq"], m["data"], m["room"]) for m in entry["messages"]] == [
        (2, {"n": 2}, CHAT),
        (3, {"n": 3}, CHAT),
    ]
    [live] = (json.loads(text) for text in api.delivered["c1="])
    assert {key: live[key] for key in ("seq", "epoch", "room")} == {**place(member, 1), "room": CHAT}


def test_a_join_of_a_large_room_says_about_how_many_members_it_has(
    service: WebSocketService, member: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.functions.asked.MANY_MEMBERS", 2)
    service.grant_room(CHAT, "u2")
    let_in("c2=", "u2")
    join({"room": CHAT}, connection_id="c2=")
    for counted in (None, 2):  # what a send finds goes with the next one
        service.send_to_room(CHAT, "e", {})
        assert join({"room": CHAT})[0].get("members") == counted
    act("chat:leave_room", roomId="r1")
    for counted in (2, None):
        service.send_to_room(CHAT, "e", {})
        assert join({"room": CHAT}, connection_id="c2=")[0].get("members") == counted


def test_who_has_missed_nothing_is_recovered_without_a_message(member: dict[str, Any]) -> None:
    [entry] = join({"room": CHAT, "since": place(member)})
    assert (entry["recovered"], entry["messages"]) == (True, [])


@pytest.mark.parametrize("since", [{"epoch": "another", "seq": 0}, {"seq": 9}, {"seq": 1, "gone": True}])
def test_it_is_all_or_nothing(
    service: WebSocketService, dynamodb: Any, member: dict[str, Any], since: dict[str, Any]
) -> None:
    for n in range(4):
        service.send_to_room(CHAT, "e", n)
    if since.pop("gone", False):
        dynamodb.delete_item(TableName="history", Key={"stream": {"S": CHAT}, "seq": {"N": "3"}})
    [entry] = join({"room": CHAT, "since": {**place(member), **since}})
    assert (entry["wasRecovering"], entry["recovered"], entry["messages"]) == (True, False, [])
    assert entry["seq"] == 4


@pytest.mark.parametrize("since", [{"seq": 1}, {"epoch": "", "seq": 1}, {"epoch": "a", "seq": "1"}, 7])
def test_a_position_without_an_epoch_or_a_number_is_refused(member: dict[str, Any], since: object) -> None:
    [entry] = join({"room": CHAT, "since": since})
    assert (entry["success"], entry["code"]) == (False, "invalid_since")


def test_a_refused_room_does_not_fail_the_others(member: dict[str, Any]) -> None:
    entries = join(
        {"room": "chat_room_secret"},
        {"room": "user_u2"},
        {"room": "dashboard_user_u2"},
        {"room": "dashboard_admin"},
        {"room": "nothing"},
        {"room": "user"},
        {"room": "dashboard"},
        {"room": CHAT},
        7,
    )
    assert [(e["room"], e.get("asked"), e["success"], e.get("code")) for e in entries] == [
        ("chat_room_secret", None, False, "forbidden"),
        ("user_u2", None, False, "forbidden"),
        ("dashboard_user_u2", None, False, "forbidden"),
        ("dashboard_admin", None, False, "forbidden"),
        ("nothing", None, False, "invalid_room"),
        ("user_u1", "user", True, None),
        ("dashboard_user_u1", "dashboard", True, None),
        (CHAT, None, True, None),
        ("", None, False, "invalid_room"),
    ]
    assert act("rooms:join", rooms=[])[1]["code"] == "invalid_rooms"


def test_fifty_rooms_are_joined_together_and_each_is_answered_by_itself(
    service: WebSocketService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[int] = []
    transact = Tables.transact

    def counted(tables: Tables, *writes: dict[str, Any]) -> None:
        transactions.append(len(writes))
        transact(tables, *writes)

    let_in()
    monkeypatch.setattr(Tables, "transact", counted)
    rooms = [f"chat_room_{number}" for number in range(50)]
    for room in rooms:
        service.grant_room(room, "u1")
    service.revoke_room(rooms[7], "u1")
    service.revoke_room(rooms[30], "u1")
    entries = join(*({"room": room} for room in rooms))
    refused = [entry["room"] for entry in entries if not entry["success"]]
    assert [entry["room"] for entry in entries] == rooms
    assert refused == [rooms[7], rooms[30]]
    assert transactions == [100, 98]  # one that names those without a grant, and one for the others
    connection = store.connections.get("c1=")
    assert connection is not None
    assert connection.rooms == {"user_u1", *rooms} - set(refused)
    assert service.send_to_room(rooms[49], "e", 1).sent == 1
    assert service.send_to_room(rooms[7], "e", 1).sent == 0
    [over, under] = (entry["success"] for entry in join({"room": "dashboard"}, {"room": rooms[0]}))
    assert (over, under) == (True, True)
    service.grant_room(rooms[7], "u1")
    service.grant_room(rooms[30], "u1")
    entries = join({"room": rooms[7]}, {"room": rooms[30]}, {"room": rooms[1]})
    assert [entry.get("code") for entry in entries] == [None, "too_many_rooms", None]


def test_rooms_that_cannot_be_joined_together_are_joined_one_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is refreshed between its read and the join."""
    let_in()
    connection = store.connections.get("c1=")
    assert connection is not None
    stale = connection._replace(expires_at=connection.expires_at + 1)
    rooms = {APP.rooms.parse(name): False for name in ("dashboard_user_u1", CHAT)}
    assert store.members.join_all(stale, rooms) == {}
    assert store.members.join_all(connection, rooms) == dict.fromkeys(("dashboard_user_u1", CHAT), True)
    monkeypatch.setattr("roomcast.store.members.Members.join_all", lambda *_: {})
    assert [entry["success"] for entry in join({"room": "dashboard"}, {"room": "user"})] == [True, True]


def test_a_last_value_is_given_to_whoever_comes(service: WebSocketService) -> None:
    let_in()
    for n in range(3):
        service.send_to_room("dashboard_user_u1", "e", n)
    [late] = join({"room": "dashboard"})
    assert (late["recovered"], seqs(late), late["seq"]) == (False, [3], 3)
    [behind] = join({"room": "dashboard", "since": place(late, 1)})
    assert (behind["recovered"], seqs(behind)) == (True, [3])
    [same] = join({"room": "dashboard", "since": place(late)})
    assert (same["recovered"], seqs(same)) == (True, [])


def test_a_users_inbox_is_there_from_the_start_and_goes_with_the_connection(
    service: WebSocketService, rows: Any
) -> None:
    let_in()
    assert service.send_to_user("u1", "e", {}).seq == 1
    assert [row["room"] for row in rows("rooms", inboxes=True) if "connectedAt" in row] == ["user_u1"]
    disconnect.handler(disconnect_event("c1="), None)
    assert [row for row in rows("rooms", inboxes=True) if "connectedAt" in row] == []


def test_a_connection_from_before_there_were_inboxes_is_in_its_own_after_one_action(
    service: WebSocketService, store: Store, dynamodb: Any
) -> None:
    let_in()
    dynamodb.update_item(
        TableName="connections", Key={"connectionId": {"S": "c1="}}, UpdateExpression="REMOVE rooms"
    )
    key = {"room": {"S": "user_u1"}, "member": {"S": "connection#c1="}}
    dynamodb.delete_item(TableName="rooms", Key=key)
    assert service.send_to_user("u1", "e", {}).sent == 0
    act("ping")
    assert service.send_to_user("u1", "e", {}).sent == 1


def test_nothing_from_before_a_grant_is_shown(service: WebSocketService) -> None:
    service.grant_room(CHAT, "u2")
    let_in("c2=", "u2")
    [other] = join({"room": CHAT}, connection_id="c2=")
    service.send_to_room(CHAT, "e", "secret")
    service.grant_room(CHAT, "u1")
    service.send_to_room(CHAT, "e", "open")
    let_in()
    [forged] = join({"room": CHAT, "since": place(other, 0)})
    assert (forged["recovered"], forged["messages"]) == (False, [])
    [entry] = join({"room": CHAT, "since": place(other, 1)})
    assert seqs(entry) == [2]
    assert seqs(act("rooms:history", room=CHAT)[1]) == [2]
    service.grant_room(CHAT, "u1")  # twice is the same as once
    [entry] = join({"room": CHAT, "since": place(other, 1)})
    assert seqs(entry) == [2]
    service.revoke_room(CHAT, "u1")
    [refused] = join({"room": CHAT, "since": place(other, 1)})
    assert refused["code"] == "forbidden"
    assert act("rooms:history", room=CHAT)[1]["code"] == "not_a_member"
    service.grant_room(CHAT, "u1")  # what came before is hidden again
    [again] = join({"room": CHAT, "since": place(other, 1)})
    assert (again["recovered"], again["messages"]) == (False, [])


@pytest.mark.parametrize("what", ["room", "user"])
def test_a_revocation_between_a_join_and_its_read_shows_nothing(
    service: WebSocketService,
    store: Store,
    member: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    from roomcast.store.replay import Replay

    heads = Replay.heads

    def revoked(self: Replay, streams: Any) -> Any:
        if what == "room":
            service.revoke_room(CHAT, "u1")
        else:
            store.revocations.revoke("u1")
        service.send_to_room(CHAT, "e", "after")
        return heads(self, streams)

    monkeypatch.setattr(Replay, "heads", revoked)
    [entry] = join({"room": CHAT, "since": place(member)})
    assert entry["code"] == "forbidden"


def test_a_reply_is_at_most_32_kb_and_the_rest_follows(
    service: WebSocketService, member: dict[str, Any]
) -> None:
    sent = [service.send_to_room(CHAT, "e", "ü" * 4000).seq for _ in range(9)]
    [entry] = join({"room": CHAT, "since": place(member)})
    assert (entry["recovered"], entry["more"], entry["seq"]) == (True, True, 9)
    found = seqs(entry)
    assert 2 <= len(found) <= 3
    more = True
    while more:
        event, page = act("rooms:history", room=CHAT, since=place(entry, found[-1]))
        assert (event, page["recovered"]) == ("rooms:history", True)
        found += seqs(page)
        more = page["more"]
    assert found == sent
    back: list[int] = []
    before = place(entry, 10)
    more = True
    while more:
        page = act("rooms:history", room=CHAT, before=before)[1]
        back = seqs(page) + back
        before, more = place(entry, back[0]), page["more"]
    assert back == sent


def test_the_largest_message_that_is_taken_can_be_replayed(
    service: WebSocketService, member: dict[str, Any]
) -> None:
    size = MAX_ENVELOPE_BYTES
    while True:
        try:
            service.send_to_room(CHAT, "e", "x" * size)
            break
        except EnvelopeTooLargeError as error:
            size -= error.size - error.limit
    page = act("rooms:history", room=CHAT, since=place(member))[1]
    assert (seqs(page), page["more"]) == ([1], False)


def test_a_pong_says_where_the_rooms_are(service: WebSocketService, member: dict[str, Any]) -> None:
    service.send_to_user("u1", "e", {})
    _, data = act("ping", rooms=[CHAT, "user", "chat_room_other"])
    assert {name: at["seq"] for name, at in data["rooms"].items()} == {CHAT: 0, "user_u1": 1}
    assert "rooms" not in act("ping")[1]


def test_landinghubs_joins_say_nothing_more_unless_they_are_asked(
    service: WebSocketService, member: dict[str, Any]
) -> None:
    assert act("chat:join_room", roomId="r1") == ("chat:joined_room", {"roomId": "r1", "success": True})
    service.send_to_room(CHAT, "e", {})
    _, data = act("chat:join_room", roomId="r1", since=place(member))
    assert (data["success"], data["recovered"], seqs(data)) == (True, True, [1])
    event, data = act("dashboard:join", position=True)
    assert (event, data["room"], data["seq"]) == ("dashboard:joined", "dashboard_user_u1", 0)
    assert act("chat:join_room", roomId="r1", since=1)[1]["code"] == "invalid_since"


def test_a_send_that_is_repeated_has_one_number(
    service: WebSocketService, api: FakeManagementApi, member: dict[str, Any]
) -> None:
    assert [service.send_to_room(CHAT, "e", {}, id="order-1").seq for _ in range(2)] == [1, 1]
    assert service.send_to_room(CHAT, "e", {}).seq == 2
    position = service.position(CHAT)
    assert position is not None
    assert position.seq == 2
    found = service.history(CHAT)
    assert found is not None
    assert [(m.seq, m.id == "order-1") for m in found.messages] == [(1, True), (2, False)]


@pytest.mark.parametrize("id_", [None, "given"])
def test_a_process_that_remembers_the_epoch_before_sends_into_the_new_one(
    service: WebSocketService, dynamodb: Any, id_: str | None
) -> None:
    let_in()
    service.send_to_user("u1", "e", 1, id=id_)
    operator = Store(Tables(dynamodb, "connections", "rooms", history="history"))
    assert operator.history is not None
    new = operator.history.new_epoch("user_u1")
    assert service.send_to_user("u1", "e", 2, id=id_).seq == new.seq + 1
    [entry] = join({"room": "user", "since": {"epoch": new.epoch, "seq": new.seq}})
    assert (entry["recovered"], seqs(entry)) == (True, [new.seq + 1])
    assert service.send_to_user("u1", "e", 3, id="given").seq == new.seq + (1 if id_ else 2)


def test_a_room_without_a_history_makes_no_call_more(dynamodb: Any, service: WebSocketService) -> None:
    plain = WebSocketService(
        Store(Tables(dynamodb, "connections", "rooms"), APP.rooms), service._management_api
    )
    calls: list[str] = []

    def count(model: Any, **_: Any) -> None:
        calls.append(model.name)

    dynamodb.meta.events.register("before-call.dynamodb.*", count)
    try:
        report = plain.send_to_room(CHAT, "e", {})
        assert (report.seq, calls) == (None, ["Query"])
        plain.send_to_user("u1", "e", {})
        assert calls == ["Query", "Query"]
    finally:
        dynamodb.meta.events.unregister("before-call.dynamodb.*", count)


def test_a_storm_reads_the_pages_that_all_have_missed_once(
    service: WebSocketService, dynamodb: Any, member: dict[str, Any]
) -> None:
    for n in range(50):
        service.send_to_room(CHAT, "e", n)
    wiring().store = Store(Tables(dynamodb, "connections", "rooms", history="history"), APP.rooms)
    queries: list[str] = []

    def count(params: dict[str, Any], **_: Any) -> None:
        if params["TableName"] == "history":
            queries.append("Query")

    dynamodb.meta.events.register("before-parameter-build.dynamodb.Query", count)
    for _ in range(20):
        [entry] = join({"room": CHAT, "since": place(member)})
        assert seqs(entry) == list(range(1, 51))
    dynamodb.meta.events.unregister("before-parameter-build.dynamodb.Query", count)
    assert queries == ["Query"]


def test_a_stage_without_a_history_table_joins_rooms_all_the_same(dynamodb: Any) -> None:
    wiring().store = Store(Tables(dynamodb, "connections", "rooms"), APP.rooms)
    let_in(role="admin")
    refused, joined = join("bad", {"room": CHAT})
    assert (refused["success"], refused["code"]) == (False, "invalid_room")
    assert joined.keys() == {"room", "success", "presence"}
    again = act("chat:join_room", roomId="r1", position=True)[1]
    assert again.keys() == {"roomId", "success", "presence"}
    assert act("rooms:history", room=CHAT)[1]["code"] == "no_history"
    assert act("ping", rooms=[CHAT])[1]["rooms"] == {}


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("rooms:join", {}, "invalid_rooms"),
        ("rooms:join", {"rooms": []}, "invalid_rooms"),
        ("rooms:join", {"rooms": [{"room": CHAT}] * 51}, "invalid_rooms"),
        ("rooms:history", {"room": "nowhere"}, "invalid_room"),
        ("rooms:history", {"room": "chat_room_other"}, "not_a_member"),
        ("rooms:history", {"room": CHAT, "limit": 0}, "invalid_limit"),
        ("rooms:history", {"room": CHAT, "limit": True}, "invalid_limit"),
        ("rooms:history", {"room": CHAT, "since": {"epoch": "", "seq": 1}}, "invalid_since"),
        ("rooms:history", {"room": CHAT, "since": {"epoch": "e", "seq": -1}}, "invalid_since"),
        ("rooms:history", {"room": CHAT, "since": AT, "before": AT}, "invalid_since"),
        ("ping", {"rooms": "all"}, "invalid_rooms"),
        ("ping", {"rooms": ["user"] * 52}, "invalid_rooms"),
    ],
)
@pytest.mark.usefixtures("member")
def test_a_wrong_field_is_an_error_that_names_it(action: str, fields: dict[str, Any], code: str) -> None:
    event, data = act(action, **fields)
    assert (event, data["code"]) == ("error", code)


@pytest.mark.usefixtures("member")
def test_tables_that_do_not_answer_refuse_the_room_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(*_: Any, **__: Any) -> Any:
        raise refused({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "Query")

    with monkeypatch.context() as outage:
        outage.setattr(wiring().store.history, "heads", throttled)
        assert [entry.get("code") for entry in join({"room": CHAT}, {"room": "user"})] == ["unavailable"] * 2
        assert act("chat:join_room", roomId="r1", position=True)[1]["code"] == "unavailable"
    with monkeypatch.context() as outage:
        outage.setattr(wiring().store.members, "join", throttled)
        first, second = join({"room": "dashboard"}, {"room": "user"})
        assert (first["code"], second["success"]) == ("unavailable", True)
    monkeypatch.setattr("roomcast.aws.seconds_left", lambda: 0.0)
    assert join({"room": "dashboard"})[0]["code"] == "unavailable"


def test_messages_before_a_position_of_another_life_are_not_these(member: dict[str, Any]) -> None:
    page = act("rooms:history", room=CHAT, before={"epoch": "another", "seq": 3})[1]
    assert (page["recovered"], page["messages"]) == (False, [])
    assert act("rooms:history", room=CHAT, before=place(member, 99))[1]["recovered"] is False


def test_a_backend_reads_a_rooms_history(service: WebSocketService, dynamodb: Any) -> None:
    for n in range(3):
        service.send_to_room(CHAT, "e", n)
    position = service.position(CHAT)
    assert position is not None
    newest = service.history(CHAT, limit=2)
    assert newest is not None
    assert [message.seq for message in newest.messages] == [2, 3]
    later = service.history(CHAT, Position(position.epoch, 1))
    assert later is not None and later.messages == newest.messages  # noqa: PT018
    plain = WebSocketService(
        Store(Tables(dynamodb, "connections", "rooms"), APP.rooms), service._management_api
    )
    assert (plain.position(CHAT), plain.history(CHAT)) == (None, None)


@pytest.mark.parametrize("table", [{}, {"WEBSOCKET_HISTORY_TABLE": "history"}])
@pytest.mark.parametrize("who", ["backend", "function"])
def test_an_environment_from_before_there_were_histories_is_one_line_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, table: dict[str, str], who: str
) -> None:
    environ = {
        "WEBSOCKET_CONNECTIONS_TABLE": "connections",
        "WEBSOCKET_ROOMS_TABLE": "rooms",
        "WEBSOCKET_API_ENDPOINT": "wss://a.execute-api.us-east-1.amazonaws.com/prod",
    }
    if who == "backend":
        WebSocketService.from_env(environ | table).close()
    else:
        monkeypatch.setattr("os.environ", os.environ | environ | {"WEBSOCKET_HISTORY_TABLE": ""} | table)
        wiring.cache_clear()
        assert wiring().store is wiring().store
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == (not table)
    assert all("WEBSOCKET_HISTORY_TABLE is not set" in line and "`roomcast env`" in line for line in said)
