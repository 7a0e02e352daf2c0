"""The three handlers, called as Lambda calls them, on moto."""

import json
import logging
import time
from typing import Any

import jwt
import pytest
from botocore.exceptions import ClientError

from lambdas import connect, count, default, disconnect
from roomcast import WebSocketService
from roomcast.functions.asked import MAX_ROOMS
from roomcast.functions.cold_start import wiring
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.rate import Rate
from roomcast.tokens.authentication import sign_token
from tests.builders import (
    APP,
    OTHER_SECRET,
    SECRET,
    chat,
    connect_event,
    create_tables,
    disconnect_event,
    identity,
    message_event,
    token,
)
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import FakeManagementApi
from tests.unit.test_auth import raw_signed

pytestmark = pytest.mark.usefixtures("functions")


def let_in(connection_id: str = "c1=", user_id: str = "u1", role: Any = "user") -> None:
    event = connect_event(connection_id, token=token(user_id, role))
    assert connect.handler(event, None) == {"statusCode": 200, "headers": {}}


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
    query: Any, rows: Any, caplog: pytest.LogCaptureFixture
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
        assert connect.handler(event, None)["statusCode"] == 200


@pytest.mark.parametrize("way", ["query", "subprotocol"])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (token(ttl=-60), "expired"),
        (token(secret=OTHER_SECRET), "invalid"),
        ("x", "invalid"),
        (token(), "revoked"),
    ],
)
def test_a_refused_client_that_asks_why_is_let_in_as_nobody_and_told(
    way: str, bad: str, code: str, rows: Any, store: Store, api: FakeManagementApi
) -> None:
    store.revocations.revoke("u1")
    headers = {"Sec-WebSocket-Protocol": f"landinghub.v1, {bad}"} if way == "subprotocol" else {}
    query = {"explain": "1"} | ({"token": bad} if way == "query" else {})
    event = connect_event("c1=", headers, **query)
    answered = {"Sec-WebSocket-Protocol": "landinghub.v1"} if headers else {}
    assert connect.handler(event, None) == {"statusCode": 200, "headers": answered}
    assert rows("connections") == []
    asked = message_event("c1=", action="auth:check", token=bad, id="7")
    assert default.handler(asked, None) == {"statusCode": 200}
    (post, delete) = api.requests
    envelope = json.loads(post.body)
    assert (envelope["event"], envelope["data"]) == ("auth:checked", {"valid": False, "code": code})
    assert envelope["replyTo"] == "7"
    assert delete.method == "DELETE"
    assert [row for row in rows("connections") if row.get("userId")] == []


def test_nobody_joins_nothing_and_gets_nothing(service: WebSocketService, api: FakeManagementApi) -> None:
    connect.handler(connect_event(token=token(ttl=-60), explain="1"), None)
    for action in ("dashboard:join", "ping", "auth:refresh"):
        assert default.handler(message_event(action=action, token=token()), None) == {"statusCode": 200}
        assert json.loads(api.requests[-2].body)["data"]["code"] == "unknown_connection"
        assert api.requests[-1].method == "DELETE"
    assert service.broadcast("e", {}).sent == 0
    assert service.send_to_user("u1", "e", {}).sent == 0


def test_a_good_token_that_asks_why_is_a_connection_as_any_other(rows: Any) -> None:
    assert connect.handler(connect_event(token=token(), explain="1"), None)["statusCode"] == 200
    assert len(rows("connections")) == 1
    assert said(action="auth:check", token=token()) == ("auth:checked", {"valid": True})
    assert said(action="dashboard:join")[0] == "dashboard:joined"


def test_a_used_ticket_is_told_as_invalid_and_a_good_one_is_let_in(
    service: WebSocketService, api: FakeManagementApi
) -> None:
    ticket = service.create_ticket("u1")
    assert connect.handler(connect_event("c1=", ticket=ticket, explain="1"), None)["statusCode"] == 200
    assert said("c1=", action="auth:check", ticket=ticket) == ("auth:checked", {"valid": True})
    connect.handler(connect_event("c2=", ticket=ticket, explain="1"), None)
    default.handler(message_event("c2=", action="auth:check", ticket=ticket), None)
    assert json.loads(api.requests[-2].body)["data"] == {"valid": False, "code": "invalid"}


@pytest.mark.parametrize("explain", ["", "0", "true", "11"])
def test_without_the_question_a_bad_token_is_a_401(explain: str) -> None:
    assert connect.handler(connect_event(token="x", explain=explain), None) == {"statusCode": 401}


def test_another_origin_or_one_connection_too_many_is_refused_whether_or_not_it_asks_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEBSOCKET_ALLOWED_ORIGINS", "https://app.example.org")
    monkeypatch.setenv("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "1")
    monkeypatch.setenv("WEBSOCKET_OVER_MAX_CONNECTIONS", "refuse_new")
    wiring.cache_clear()
    let_in("c1=")
    event = connect_event("c2=", {"Origin": "https://evil.example.org"}, token=token(), explain="1")
    assert connect.handler(event, None) == {"statusCode": 403}
    assert connect.handler(connect_event("c3=", token=token(), explain="1"), None) == {"statusCode": 429}


def facts(**fields: Any) -> Any:
    return json.loads(default.handler(message_event(**fields), None)["body"]).get("connection")


def test_joins_pings_and_new_tokens_are_answered_with_what_a_client_should_know(store: Store) -> None:
    store.connections.connect("c1=", identity(expires_at=time.time() + 100))
    store.members.grant(chat("r1"), "u1")
    for action in ("dashboard:join", "ping", "chat:join_room"):
        assert facts(action=action, roomId="r1") == {"expiresIn": pytest.approx(99, abs=2), "spread": 1000}
    refreshed = facts(action="auth:refresh", token=token(ttl=3600))
    assert refreshed["expiresIn"] == pytest.approx(3609, abs=2)
    assert facts(action="ping")["expiresIn"] == pytest.approx(3609, abs=2)
    for action in ("dashboard:refresh", "dashboard:leave", "nothing"):
        assert facts(action=action) is None


def test_the_spread_is_what_the_counted_connections_need_under_the_stages_connect_rate(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_CONNECT_RATE", "300")
    let_in()
    for counted, spread in ((10, 1000), (240, 1000), (10_000, 41_667), (100_000, 416_667)):
        store.size.put(counted)
        wiring.cache_clear()
        assert facts(action="ping")["spread"] == spread


def test_a_throttled_table_holds_no_handshake_up_for_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    db = FakeDynamoDB()
    create_tables(db)
    db.fault = lambda _: Fault.THROTTLED
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: sum(slept))
    client: Any = db
    assert Store(Tables(client, "connections", "rooms"), APP.rooms).size.last() == 0
    assert sum(slept) <= 0.2


def test_after_the_seconds_of_a_refusal_the_next_action_is_let_through() -> None:
    now = [1_800_000_000.0]
    db = FakeDynamoDB()
    create_tables(db)
    client: Any = db
    store = Store(Tables(client, "connections", "rooms", clock=lambda: now[0]), APP.rooms)
    store.connections.connect("c1=", identity(expires_at=now[0] + 300))
    rate = Rate(per_second=1, burst=3)

    def verdict() -> tuple[str, float]:
        admission = store.admissions.admit("c1=", rate)
        assert admission
        return admission.verdict, admission.retry_after

    assert [verdict()[0] for _ in range(3)] == ["ok"] * 3
    refused, seconds = verdict()
    assert refused == "rate_limited"
    now[0] += seconds
    assert verdict() == ("ok", 0)


def test_a_refresh_that_an_older_one_overtakes_keeps_the_newer_end(store: Store) -> None:
    let_in()
    connection = store.connections.get("c1=")
    assert connection
    now = int(time.time())
    newer = identity(expires_at=now + 900)._replace(issued_at=now + 2)
    older = identity(expires_at=now + 600)._replace(issued_at=now + 1)
    for who in (newer, older):  # API Gateway runs them at the same time
        assert store.connections.extend(connection, who)
    kept = store.connections.get("c1=")
    assert kept
    assert (kept.expires_at, kept.issued_at) == (newer.expires_at, newer.issued_at)


def test_the_count_is_kept_for_the_clients(store: Store) -> None:
    let_in("c1=")
    let_in("c2=", "u2")
    count.handler({}, None)
    assert store.size.last() == 2


def test_the_size_is_read_once_a_minute_and_a_read_that_fails_changes_nothing(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000.0]
    size = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: now[0]), APP.rooms).size
    size.put(7)
    assert size.last() == 7
    size.put(8)
    now[0] += 59
    assert size.last() == 7
    now[0] += 1
    assert size.last() == 8
    now[0] += 60

    def fails(**_: object) -> None:
        raise ClientError({"Error": {"Code": "InternalServerError", "Message": ""}}, "GetItem")

    monkeypatch.setattr(dynamodb, "get_item", fails)
    assert size.last() == 8


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
    wiring().store.members.grant(chat("r1"), "u1")
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


def test_a_room_id_that_is_a_number_is_told_that_it_must_be_a_string() -> None:
    let_in()
    assert said(action="chat:join_room", roomId=17)[1]["message"].startswith("roomId must be a string")


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


def test_a_connection_that_is_not_kept_is_told_so_and_closed(api: FakeManagementApi) -> None:
    assert default.handler(message_event(action="ping", id="1"), None) == {"statusCode": 200}
    assert closed_with(api) == ("error", "unknown_connection", "1")


def test_a_disconnect_leaves_no_row_and_may_come_twice(rows: Any) -> None:
    let_in(role="admin")
    said(action="dashboard:join")
    for _ in range(2):
        assert disconnect.handler(disconnect_event(), None) == {"statusCode": 200}
    assert rows("rooms") == []
    assert [row for row in rows("connections") if "userId" in row] == []


def closed_with(api: FakeManagementApi, connection_id: str = "c1=") -> tuple[str, str, str | None]:
    """Event, code and replyTo of the last envelope that was posted before the close."""
    assert [(r.method, r.connection_id) for r in api.requests][-2:] == [
        ("POST", connection_id),
        ("DELETE", connection_id),
    ]
    envelope = json.loads(api.delivered[connection_id][-1])
    return envelope["event"], envelope["data"]["code"], envelope.get("replyTo")


def test_an_action_after_the_tokens_end_is_refused_and_the_connection_is_left_to_api_gateway(
    api: FakeManagementApi, store: Store, rows: Any
) -> None:
    store.connections.connect("c1=", identity(expires_at=time.time() - 1))
    for _ in range(2):
        event, data = said(action="dashboard:join", id="1")
        assert (event, data["code"]) == ("error", "token_expired")
    assert rows("rooms") == []
    assert api.requests == []


class SocketJs:
    """What LandingHub's socket.js, unmodified, does when its WebSocket closes."""

    def __init__(self) -> None:
        self.comes_back = False

    def onclose(self, code: int) -> None:
        if code != 1000:
            self.comes_back = True


def test_landinghubs_client_survives_the_end_of_its_token_and_stays_out_over_the_limit(
    api: FakeManagementApi, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "1")
    wiring.cache_clear()
    store.connections.connect("c1=", identity(expires_at=time.time() - 1))
    expired, put_out = SocketJs(), SocketJs()
    assert said("c1=", action="ping")[1]["code"] == "token_expired"
    for closed_by_us in api.deleted:
        expired.onclose({"c1=": 1000}[closed_by_us])
    expired.onclose(1001)  # API Gateway's own, after ten idle minutes or two hours
    assert expired.comes_back
    let_in("c2=", "u2")
    let_in("c3=", "u2")
    assert api.deleted == ["c2="]
    put_out.onclose(1000)
    assert not put_out.comes_back


def test_an_expired_connection_that_floods_is_closed(
    api: FakeManagementApi, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_ACTIONS_PER_SECOND", "1")
    monkeypatch.setenv("WEBSOCKET_ACTIONS_BURST", "3")
    wiring.cache_clear()
    store.connections.connect("c1=", identity(expires_at=time.time() - 1))
    said_ = [default.handler(message_event(action="ping", id="1"), None) for _ in range(100)]
    assert {"statusCode": 200} in said_
    assert closed_with(api) == ("error", "rate_limited", "1")


def test_too_many_actions_are_refused_and_a_flood_closes_the_connection(
    api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_ACTIONS_PER_SECOND", "1")
    monkeypatch.setenv("WEBSOCKET_ACTIONS_BURST", "3")
    wiring.cache_clear()
    let_in()
    assert [said(action="ping")[0] for _ in range(3)] == ["pong"] * 3
    event, data = said(body="no JSON counts too")
    assert (event, data["code"]) == ("error", "rate_limited")
    assert 0 < data["retryAfter"] <= 2
    for _ in range(100):
        answer = default.handler(message_event(action="ping", id="1"), None)
        if "body" not in answer:
            break
    assert closed_with(api) == ("error", "rate_limited", "1")


def test_the_usual_action_is_one_call_to_dynamodb(
    dynamodb: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring(), "store", store)
    let_in()
    store.size.last()  # read once a minute
    calls: list[str] = []

    def note(model: Any, **_: object) -> None:
        calls.append(model.name)

    dynamodb.meta.events.register("provide-client-params.dynamodb.*", note)
    said(action="ping")
    dynamodb.meta.events.unregister("provide-client-params.dynamodb.*", note)
    assert calls == ["UpdateItem"]


def test_a_connection_is_in_a_bounded_number_of_rooms(store: Store) -> None:
    let_in(role="admin")
    connection = store.connections.get("c1=")
    assert connection
    for number in range(MAX_ROOMS):
        store.members.join(connection, chat(f"r{number}"), needs_grant=False)
    event, data = said(action="chat:join_room", roomId="one-more")
    assert (event, data["code"]) == ("chat:error", "too_many_rooms")
    assert said(action="chat:join_room", roomId="r1")[0] == "chat:joined_room"


def test_a_newer_token_extends_the_connection_and_its_rooms(store: Store, rows: Any) -> None:
    store.connections.connect("c1=", identity(expires_at=time.time() + 30))
    said(action="dashboard:join")
    event, data = said(action="auth:refresh", token=token(ttl=3600))
    assert (event, data["success"]) == ("auth:refreshed", True)
    for table in ("connections", "rooms"):
        assert int(rows(table)[0]["expiresAt"]) > time.time() + 3000


@pytest.mark.parametrize(
    "bad",
    [None, 7, "x", token("u2"), token("u1", "admin"), token(ttl=-60), token(secret=OTHER_SECRET)],
)
def test_a_token_of_another_user_or_role_extends_nothing(bad: object, rows: Any) -> None:
    let_in()
    before = rows("connections")[0]["expiresAt"]
    event, data = said(action="auth:refresh", token=bad)
    assert (event, data["code"]) == ("error", "invalid_token")
    assert rows("connections")[0]["expiresAt"] == before


def test_a_token_from_before_the_revocation_extends_nothing(store: Store) -> None:
    let_in()
    store.revocations.revoke("u1")
    event, data = said(action="auth:refresh", token=token())
    assert (event, data["code"]) == ("error", "invalid_token")


def test_a_token_may_travel_as_a_subprotocol_and_is_not_sent_back(rows: Any) -> None:
    text = token()
    for name in ("Sec-WebSocket-Protocol", "sec-websocket-protocol"):
        event = connect_event(headers={name: f"landinghub.v1, {text}"})
        answer = connect.handler(event, None)
        assert answer == {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "landinghub.v1"}}
        assert len(rows("connections")) == 1


@pytest.mark.parametrize(
    ("protocol", "query"),
    [
        (f"landinghub.v2, {token()}", {}),
        (token(), {}),
        ("landinghub.v1", {}),
        (f"landinghub.v1, {token()}, {token()}", {}),
        (f"landinghub.v1, {token()}", {"token": token()}),
        (f"landinghub.v1, {token()}", {"ticket": "x"}),
    ],
)
def test_a_subprotocol_without_one_token_lets_nobody_in(protocol: str, query: Any, rows: Any) -> None:
    event = connect_event(headers={"Sec-WebSocket-Protocol": protocol}, **query)
    assert connect.handler(event, None)["statusCode"] == 401
    assert rows("connections") == []


def test_a_ticket_lets_one_connection_in(service: WebSocketService, rows: Any) -> None:
    ticket = service.create_ticket("u1", role="admin", name="Ann")
    assert connect.handler(connect_event("c1=", ticket=ticket), None)["statusCode"] == 200
    assert connect.handler(connect_event("c2=", ticket=ticket), None) == {"statusCode": 401}
    [row] = rows("connections")
    assert (row["userId"], row["userRole"], row["userName"]) == ("u1", "admin", "Ann")
    assert rows("rooms") == []


def test_a_ticket_ends_with_the_longest_lifetime_that_the_stage_allows(
    service: WebSocketService, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_JWT_MAX_LIFETIME", "600")
    wiring.cache_clear()
    ticket = service.create_ticket("u1", ttl=7200)
    assert connect.handler(connect_event(ticket=ticket), None)["statusCode"] == 200
    assert int(rows("connections")[0]["expiresAt"]) <= time.time() + 600


def test_a_ticket_is_not_kept_as_it_is_and_ends_after_30_seconds(dynamodb: Any, rows: Any) -> None:
    now = [1_800_000_000.0]
    store = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: now[0]), APP.rooms)
    for ticket, later in (("first", 29), ("second", 31)):
        store.tickets.put(ticket, identity())
        assert ticket not in str(rows("rooms"))
        now[0] += later
        assert bool(store.tickets.read(ticket)) is (later < 30)


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://app.example.org", "https://app.example.org", 200),
        ("https://a.example.org, https://app.example.org", "https://app.example.org", 200),
        ("https://app.example.org", "https://app.example.org.evil.org", 403),
        ("https://app.example.org", "http://app.example.org", 403),
        ("https://app.example.org", "null", 403),
        ("https://app.example.org", None, 200),
        ("https://APP.example.org:443/", "https://app.example.org", 200),
        ("https://app.example.org", "HTTPS://App.Example.org", 200),
        ("capacitor://localhost", "capacitor://localhost", 200),
        ("capacitor://localhost", "ionic://localhost", 403),
        ("http://[::1]:3000", "http://[::1]:3000", 200),
        ("", "https://app.example.org", 403),
        ("*", "https://anything.example.org", 200),
    ],
)
def test_only_an_allowed_origin_is_let_in(
    allowed: str, origin: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_ALLOWED_ORIGINS", allowed)
    wiring.cache_clear()
    event = connect_event(headers={"origin": origin} if origin else {}, token=token())
    assert connect.handler(event, None)["statusCode"] == status


def test_while_no_key_can_be_read_nobody_is_told_that_a_token_is_bad(
    secrets: Any, api: FakeManagementApi, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    secrets.delete_secret(SecretId="jwt", ForceDeleteWithoutRecovery=True)
    assert connect.handler(connect_event(token=token()), None) == {"statusCode": 503}
    assert "reason=cannot read the secret from jwt" in caplog.text
    assert rows("connections") == []
    secrets.create_secret(Name="jwt", SecretBinary=b"x" * 32)
    time.sleep(1.1)
    assert connect.handler(connect_event(token=token()), None) == {"statusCode": 503}
    assert "holds SecretBinary" in caplog.text
    secrets.put_secret_value(SecretId="jwt", SecretString=SECRET)
    time.sleep(1.1)
    assert connect.handler(connect_event(token=token()), None)["statusCode"] == 200


def test_while_no_key_can_be_read_who_asks_why_is_not_told_that_the_token_is_bad(
    secrets: Any, api: FakeManagementApi
) -> None:
    connect.handler(connect_event(token="x", explain="1"), None)
    wiring.cache_clear()
    secrets.delete_secret(SecretId="jwt", ForceDeleteWithoutRecovery=True)
    assert connect.handler(connect_event("c2=", token=token(), explain="1"), None) == {"statusCode": 503}
    default.handler(message_event("c1=", action="auth:check", token=token()), None)
    secrets.create_secret(Name="jwt", SecretString=SECRET)
    told = json.loads(api.requests[-2].body)
    assert (told["event"], told["data"]["code"]) == ("error", "unavailable")


def test_while_no_key_can_be_read_a_refresh_may_be_tried_again(secrets: Any) -> None:
    let_in()
    wiring.cache_clear()
    secrets.delete_secret(SecretId="jwt", ForceDeleteWithoutRecovery=True)
    event, data = said(action="auth:refresh", token=token())
    secrets.create_secret(Name="jwt", SecretString=SECRET)
    assert (event, data["code"], data["retryAfter"]) == ("error", "unavailable", 1)


def test_a_stage_for_browsers_only_asks_for_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKET_BROWSERS_ONLY", "true")
    wiring.cache_clear()
    assert connect.handler(connect_event(token=token()), None) == {"statusCode": 403}


def test_one_connection_too_many_closes_the_oldest(
    api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch, store: Store, rows: Any
) -> None:
    monkeypatch.setenv("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "2")
    wiring.cache_clear()
    for connection_id in ("c1=", "c2=", "c3="):
        let_in(connection_id)
        time.sleep(0.002)  # connectedAt counts milliseconds
    assert api.deleted == ["c1="]
    assert closed_with(api, "c1=") == ("error", "connection_limit", None)
    assert {row["connectionId"] for row in rows("connections")} == {"c2=", "c3="}
    # It is told why, or it would come back at once and close the next (S67).
    told = [json.loads(request.body) for request in api.requests if request.method == "POST"]
    assert [envelope["data"]["code"] for envelope in told] == ["connection_limit"]
    assert "id" not in told[0]


def test_one_connection_too_many_is_refused_where_the_stage_says_so(
    api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "1")
    monkeypatch.setenv("WEBSOCKET_OVER_MAX_CONNECTIONS", "refuse_new")
    wiring.cache_clear()
    let_in("c1=")
    let_in("c2=", "u2")
    assert connect.handler(connect_event("c3=", token=token()), None) == {"statusCode": 429}
    assert api.deleted == []


def test_a_revoked_user_is_out_until_a_newer_token(
    api: FakeManagementApi, service: WebSocketService, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    let_in("c1=")
    let_in("c2=", "u2")
    ticket = service.create_ticket("u1")
    old = token()
    assert service.revoke_user("u1") == 1
    assert api.deleted == ["c1="]
    queries: list[Any] = [{"token": old}, {"ticket": ticket}]
    for query in queries:
        assert connect.handler(connect_event("c3=", **query), None) == {"statusCode": 401}
    later = sign_token(SECRET, user_id="u1", now=time.time() + 2)
    assert connect.handler(connect_event("c4=", token=later), None)["statusCode"] == 200


def test_a_revocation_can_be_undone_also_for_tokens_that_do_not_say_when_they_were_issued(
    service: WebSocketService, caplog: pytest.LogCaptureFixture
) -> None:
    service.revoke_user("u1")
    later = {"userId": "u1", "exp": int(time.time()) + 600}
    without_iat = jwt.encode(later, SECRET, algorithm="HS256")
    assert connect.handler(connect_event(token=without_iat), None) == {"statusCode": 401}
    assert "the user was revoked, and the token has no iat" in caplog.text
    for _ in range(2):
        service.restore_user("u1")
    assert connect.handler(connect_event(token=without_iat), None)["statusCode"] == 200


def test_a_connection_lives_as_long_as_its_token_is_let_in() -> None:
    event = connect_event(token=token(ttl=-5))
    assert connect.handler(event, None)["statusCode"] == 200
    assert said(action="ping")[0] == "pong"


def test_no_body_and_no_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="roomcast"):
        mark = token("u1")
        connect.handler(connect_event(token=mark), None)
        said(action="ping", note="secret-words")
        said(body='{"action": 7, "note": "secret-words"}')
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("roomcast")]
    assert any(line.startswith("connected") for line in lines)
    assert not [line for line in lines if mark in line or "secret-words" in line]


HOSTILE = "x\x1b[2J\x1b]0;t\x07\r\nconnected userId=admin\x9b31m\u202e\u2028\x00"


def test_nothing_that_a_stranger_wrote_reaches_a_log_line_as_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_ALLOWED_ORIGINS", "https://a.example")
    wiring.cache_clear()
    let_in("c1=")
    crit = jwt.encode({"userId": "u1"}, SECRET, headers={"crit": [HOSTILE]})
    good: dict[str, Any] = {"userId": "u1", "exp": 9999999999}
    queries: list[dict[str, str]] = [{"token": crit}, {"token": HOSTILE}, {"ticket": HOSTILE}]
    for claims in (
        {"userId": HOSTILE},
        {"exp": HOSTILE},
        {"aud": HOSTILE},
        {"iss": HOSTILE},
        {"name": HOSTILE},
    ):
        unsigned = raw_signed(json.dumps(good | claims))
        queries.append({"token": unsigned})
    with caplog.at_level(logging.DEBUG, logger="roomcast"):
        for number, query in enumerate(queries):
            connect.handler(connect_event(f"{HOSTILE}{number}", {}, **query), None)
        for headers in (
            {"Origin": HOSTILE},
            {"Origin": f"https://{HOSTILE}"},
            {"Sec-WebSocket-Protocol": f"landinghub.v1, {HOSTILE}"},
            {"User-Agent": HOSTILE},
        ):
            connect.handler(connect_event(HOSTILE, headers), None)
        for fields in ({"action": HOSTILE}, {"action": "ping", "id": HOSTILE}, {"action": "chat:join_room"}):
            default.handler(message_event("c1=", **{"roomId": HOSTILE, **fields}), None)
            default.handler(message_event(HOSTILE, **fields), None)
        default.handler(message_event("c1=", action="auth:refresh", token=crit), None)
        disconnect.handler(disconnect_event(HOSTILE), None)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("roomcast")]
    assert len(lines) > 10
    assert [line for line in lines if not line.isprintable()] == []


@pytest.mark.parametrize("last", ["join", "leave"])
@pytest.mark.parametrize("same_moment", [True, False])
def test_actions_that_overtake_each_other_end_as_the_client_asked_last(
    store: Store, rows: Any, last: str, same_moment: bool
) -> None:
    let_in(role="admin")
    first = "leave" if last == "join" else "join"
    later = message_event(action=f"chat:{last}_room", roomId="r1", id="10")
    sooner = message_event(action=f"chat:{first}_room", roomId="r1", id="9")
    other = message_event(action="chat:join_room", roomId="r2", id="8")
    for number, event in enumerate((other, sooner, later)):
        event["requestContext"]["requestTimeEpoch"] = 1_800_000_000_000 + (0 if same_moment else number)
    for event in (other, later, sooner, sooner):  # API Gateway runs them at the same time
        answer = json.loads(default.handler(event, None)["body"])
        assert answer["data"]["success"] is True
    rooms = {row["room"] for row in rows("rooms") if row["member"].startswith("connection#")}
    assert rooms == ({"chat_room_r1", "chat_room_r2"} if last == "join" else {"chat_room_r2"})
    connection = store.connections.get("c1=")
    assert connection
    assert connection.rooms - {"user_u1"} == rooms
