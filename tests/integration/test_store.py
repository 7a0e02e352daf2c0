"""The two tables hold what is true, whatever comes late, twice or at the same time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from roomcast.connection import Connection, Receiver
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.rate import Rate
from tests.builders import ADMINS, APP, chat, identity

ADMIN = ADMINS
CHAT = chat("r1")


def connected(store: Store, connection_id: str = "c1=", user_id: str = "u1") -> Connection:
    assert store.connections.connect(connection_id, identity(user_id)) == "connected"
    connection = store.connections.get(connection_id)
    assert connection
    return connection


def ids(receivers: Any) -> set[str]:
    return {receiver.connection_id for receiver in receivers}


def test_a_connection_is_kept_as_landinghub_kept_it(store: Store, rows: Any) -> None:
    store.connections.connect("c1=", identity("u1", "admin"))
    [row] = rows("connections")
    now = datetime.now(UTC)
    assert {key: row[key] for key in ("connectionId", "userId", "userRole", "userName", "userEmail")} == {
        "connectionId": "c1=",
        "userId": "u1",
        "userRole": "admin",
        "userName": "U1",
        "userEmail": "u1@x.test",
    }
    assert now - datetime.fromisoformat(row["connectedAt"]) < timedelta(minutes=1)
    assert abs(int(row["ttl"]) - now.timestamp() - 24 * 3600) < 60


def test_join_and_leave_are_idempotent(store: Store, rows: Any) -> None:
    connection = connected(store)
    for _ in range(2):
        assert store.members.join(connection, ADMIN, needs_grant=False)
        assert ids(store.receivers.of_room(ADMIN)) == {"c1="}
        assert rows("connections")[0]["rooms"] == ["dashboard_admin"]
    for _ in range(2):
        store.members.leave("c1=", ADMIN)
        assert not rows("rooms")
        assert "rooms" not in rows("connections")[0]


def test_a_disconnect_leaves_no_row_of_the_connection(store: Store, rows: Any) -> None:
    connection = connected(store)
    for number in range(60):  # more than one batch of deletes
        store.members.join(connection, chat(f"r{number}"), needs_grant=False)
    store.connections.disconnect("c1=")
    assert rows("connections") == rows("rooms") == []


def test_a_join_after_the_disconnect_changes_nothing(store: Store, rows: Any) -> None:
    connection = connected(store)
    store.connections.disconnect("c1=")
    assert not store.members.join(connection, ADMIN, needs_grant=False)
    assert rows("connections") == rows("rooms") == []


def test_a_leave_after_the_disconnect_creates_no_item(store: Store, rows: Any) -> None:
    connected(store)
    store.connections.disconnect("c1=")
    store.members.leave("c1=", ADMIN)
    assert rows("connections") == []


def test_a_disconnect_before_its_connect_keeps_the_connection_out(store: Store) -> None:
    store.connections.disconnect("c1=")
    assert store.connections.connect("c1=", identity()) == "disconnected"
    assert store.connections.get("c1=") is None
    assert ids(store.receivers.of_everybody()) == ids(store.receivers.of_user("u1")) == set()


def test_a_connect_that_is_repeated_is_kept_once(dynamodb: Any, rows: Any) -> None:
    store = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: 1_800_000_000), APP.rooms)
    who = identity(expires_at=1_900_000_000)
    assert store.connections.connect("c1=", who) == "connected"
    # botocore retries when the answer is lost.
    assert store.connections.connect("c1=", who) == "connected"
    assert len(rows("connections")) == 1


def test_a_chat_room_is_joined_with_a_grant_and_not_without(store: Store, rows: Any) -> None:
    connection = connected(store)
    assert not store.members.join(connection, CHAT, needs_grant=True)
    assert rows("rooms") == []
    store.members.grant(CHAT, "u1")
    assert store.members.join(connection, CHAT, needs_grant=True)
    assert ids(store.receivers.of_room(CHAT)) == {"c1="}


def test_a_revoke_ends_the_memberships_of_that_user_alone(store: Store, rows: Any) -> None:
    for connection_id, user_id in (("c1=", "u1"), ("c2=", "u1"), ("c3=", "u2")):
        store.members.grant(CHAT, user_id)
        store.members.join(connected(store, connection_id, user_id), CHAT, needs_grant=True)
    store.members.revoke(CHAT, "u1")
    assert ids(store.receivers.of_room(CHAT)) == {"c3="}
    assert {row["connectionId"]: row.get("rooms") for row in rows("connections")} == {
        "c1=": None,
        "c2=": None,
        "c3=": ["chat_room_r1"],
    }
    connection = store.connections.get("c1=")
    assert connection
    assert not store.members.join(connection, CHAT, needs_grant=True)


@pytest.mark.parametrize("past", ["ttl", "expiresAt"])
def test_what_is_past_its_time_is_not_there(store: Store, dynamodb: Any, past: str) -> None:
    store.members.join(connected(store), ADMIN, needs_grant=False)
    for table, key in (
        ("connections", {"connectionId": {"S": "c1="}}),
        ("rooms", {"room": {"S": "dashboard_admin"}, "member": {"S": "connection#c1="}}),
    ):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET #past = :past",
            ExpressionAttributeNames={"#past": past},
            ExpressionAttributeValues={":past": {"N": "1000"}},
        )
    assert store.connections.get("c1=") is None
    assert store.receivers.of_connection("c1=") is None
    found = store.receivers
    for receivers in (found.of_room(ADMIN), found.of_user("u1"), found.of_everybody()):
        assert ids(receivers) == set()


def test_receivers_are_read_to_the_last_page(store: Store, dynamodb: Any, monkeypatch: Any) -> None:
    """150 connections, pages of 40: Query, Scan and BatchGetItem each need more than one call."""
    make = dynamodb.get_paginator
    monkeypatch.setattr(dynamodb, "get_paginator", lambda name: _SmallPages(make(name)))
    expected = {f"c{number}=" for number in range(150)}
    for connection_id in expected:
        store.members.join(connected(store, connection_id), ADMIN, needs_grant=False)
    assert ids(store.receivers.of_everybody()) == expected
    assert ids(store.receivers.of_user("u1")) == expected
    assert ids(store.receivers.of_room(ADMIN)) == expected


class _SmallPages:
    def __init__(self, paginator: Any) -> None:
        self._paginator = paginator

    def paginate(self, **arguments: Any) -> Any:
        return self._paginator.paginate(**{**arguments, "PaginationConfig": {"PageSize": 40}})


def test_a_room_send_reads_the_rooms_table_alone(store: Store, dynamodb: Any) -> None:
    store.members.join(connected(store), ADMIN, needs_grant=False)
    calls: list[tuple[str, str]] = []

    def note(params: Any, model: Any, **_: object) -> None:
        calls.append((model.name, params["TableName"]))

    dynamodb.meta.events.register("provide-client-params.dynamodb.*", note)
    assert ids(store.receivers.of_room(ADMIN)) == {"c1="}
    dynamodb.meta.events.unregister("provide-client-params.dynamodb.*", note)
    assert calls == [("Query", "rooms")]


def test_a_prune_forgets_the_connection_and_its_rooms(store: Store, rows: Any) -> None:
    connection = connected(store)
    store.members.join(connection, ADMIN, needs_grant=False)
    store.connections.prune(Receiver("c1=", connection.connected_at))
    assert rows("connections") == rows("rooms") == []


def test_a_prune_spares_a_connection_that_came_later(store: Store) -> None:
    connected(store)
    store.connections.prune(Receiver("c1=", "2020-01-01T00:00:00.000Z"))
    assert store.connections.get("c1=")


def test_a_prune_removes_a_member_whose_connection_is_unknown(store: Store, dynamodb: Any, rows: Any) -> None:
    store.members.join(connected(store), ADMIN, needs_grant=False)
    dynamodb.delete_item(TableName="connections", Key={"connectionId": {"S": "c1="}})
    [receiver] = store.receivers.of_room(ADMIN)
    store.connections.prune(receiver, ["dashboard_admin"])
    assert rows("rooms") == []


def test_a_write_that_meets_a_transaction_is_tried_again(dynamodb: Any) -> None:
    client: Any = _Conflicts(dynamodb, times=2)
    store = Store(Tables(client, "connections", "rooms"), APP.rooms)
    connection = connected(store)
    assert store.members.join(connection, ADMIN, needs_grant=False)
    assert store.admissions.admit("c1=", Rate())
    assert ids(store.receivers.of_room(ADMIN)) == {"c1="}
    client = _Conflicts(dynamodb, times=99)
    with pytest.raises(ClientError, match="TransactionCanceled"):
        Store(Tables(client, "connections", "rooms"), APP.rooms).members.leave("c1=", ADMIN)


class _Conflicts:
    """A client whose conditional writes meet another transaction a number of times each."""

    def __init__(self, client: Any, times: int) -> None:
        self._client = client
        self._left = {"update_item": times, "transact_write_items": times}

    def __getattr__(self, name: str) -> Any:
        if name not in self._left:
            return getattr(self._client, name)
        return lambda **arguments: self._write(name, arguments)

    def _write(self, name: str, arguments: Any) -> Any:
        if not self._left[name]:
            return getattr(self._client, name)(**arguments)
        self._left[name] -= 1
        code = "TransactionConflictException" if name == "update_item" else "TransactionCanceledException"
        answer: Any = {"Error": {"Code": code}, "CancellationReasons": [{"Code": "TransactionConflict"}]}
        raise ClientError(answer, name)


def test_what_dynamodb_left_undone_is_asked_for_again(dynamodb: Any, rows: Any) -> None:
    client: Any = _Leaves(dynamodb)
    store = Store(Tables(client, "connections", "rooms"), APP.rooms)
    for connection_id in ("c1=", "c2="):
        connection = connected(store, connection_id)
        store.members.join(connection, ADMIN, needs_grant=False)
        store.members.join(connection, CHAT, needs_grant=False)
    assert ids(store.receivers.of_user("u1")) == {"c1=", "c2="}
    store.connections.disconnect("c1=")
    store.connections.disconnect("c2=")
    assert rows("rooms") == []


class _Leaves:
    """A client that does one item of each batch and leaves the rest."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803
        [(table, wanted)] = RequestItems.items()
        answer = self._client.batch_get_item(RequestItems={table: {**wanted, "Keys": wanted["Keys"][:1]}})
        if rest := wanted["Keys"][1:]:
            answer["UnprocessedKeys"] = {table: {**wanted, "Keys": rest}}
        return answer

    def batch_write_item(self, RequestItems: Any) -> Any:  # noqa: N803
        [(table, wanted)] = RequestItems.items()
        self._client.batch_write_item(RequestItems={table: wanted[:1]})
        return {"UnprocessedItems": {table: wanted[1:]} if wanted[1:] else {}}


def test_a_join_that_meets_a_refresh_has_the_new_end(store: Store, rows: Any) -> None:
    before = connected(store)
    store.connections.extend(before, identity(expires_at=4_000_000_000))
    assert store.members.join(before, ADMIN, needs_grant=False)
    assert rows("rooms")[0]["expiresAt"] == "4000000000"


def test_actions_within_the_burst_are_admitted_and_no_more(dynamodb: Any) -> None:
    now = [1_800_000_000.0]
    store = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: now[0]), APP.rooms)
    store.connections.connect("c1=", identity(expires_at=1_900_000_000))
    rate = Rate(per_second=10, burst=5, debt=4)

    def verdicts(count: int) -> list[str]:
        admissions = [store.admissions.admit("c1=", rate) for _ in range(count)]
        return [admission.verdict for admission in admissions if admission]

    assert verdicts(6) == ["ok"] * 5 + ["rate_limited"]
    now[0] += 60
    assert verdicts(6) == ["ok"] * 5 + ["rate_limited"]  # a pause gives the burst back, and not more
    now[0] += 0.2
    assert verdicts(2) == ["ok", "rate_limited"]  # two intervals: the refused one was counted too
    assert verdicts(5) == ["rate_limited"] * 3 + ["flooding"] * 2
    assert store.admissions.admit("nobody=", rate) is None


def test_a_reader_that_may_stop_early_reads_no_more_than_it_asked_for(store: Store, dynamodb: Any) -> None:
    for number in range(30):
        store.members.join(connected(store, f"c{number}="), ADMIN, needs_grant=False)
    counts: list[int] = []

    def note(parsed: Any, **_: object) -> None:
        counts.append(parsed["ScannedCount"])

    dynamodb.meta.events.register("after-call.dynamodb.Query", note)
    next(store.receivers.of_room(ADMIN, page_size=10))
    next(store.receivers.of_room(ADMIN))
    dynamodb.meta.events.unregister("after-call.dynamodb.Query", note)
    assert counts == [10, 30]
