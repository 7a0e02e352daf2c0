"""The quick fake of DynamoDB does what moto does, for everything that the store asks of it."""

from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roomcast.connection import Connection, Identity, Receiver
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.rate import Rate
from tests.builders import ADMINS, APP, chat, create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault

CONNECTIONS = st.sampled_from(["c1=", "c2=", "c3="])
USERS = st.sampled_from(["ann", "bob"])
ROOMS = st.sampled_from([chat("r1"), ADMINS])
STEPS = st.one_of(
    st.tuples(st.just("connect"), CONNECTIONS, USERS, st.integers(1_000, 9_000)),
    st.tuples(st.just("disconnect"), CONNECTIONS),
    st.tuples(st.just("prune"), CONNECTIONS, ROOMS),
    st.tuples(st.just("admit"), CONNECTIONS),
    st.tuples(st.just("join"), CONNECTIONS, ROOMS, st.booleans()),
    st.tuples(st.just("leave"), CONNECTIONS, ROOMS),
    st.tuples(st.just("grant"), ROOMS, USERS),
    st.tuples(st.just("revoke"), ROOMS, USERS),
    st.tuples(st.just("revoke_user"), USERS),
    st.tuples(st.just("many_members"), ROOMS),
    st.tuples(st.just("extend"), CONNECTIONS, st.integers(1_000, 9_000)),
    st.tuples(st.just("ticket"), USERS),
    st.tuples(st.just("sleep"), st.integers(1, 40_000)),
    st.tuples(
        st.just("look"),
    ),
)


class Twin:
    """One store and its clock."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.now = 1_800_000_000.0
        self.store = Store(Tables(client, "connections", "rooms", clock=lambda: self.now), APP.rooms)

    def do(self, step: tuple[Any, ...]) -> Any:
        """Do it and say what came of it."""
        match step:
            case ("connect", connection_id, user, seconds):
                who = Identity(user, "user", user, "", int(self.now) + seconds, int(self.now))
                return self.store.connections.connect(connection_id, who)
            case ("disconnect", connection_id):
                self.store.connections.disconnect(connection_id)
            case ("prune", connection_id, room):
                found = self.store.receivers.of_connection(connection_id)
                receiver = found or Receiver(connection_id, "2027-01-15T08:00:00.000Z", was_open=True)
                self.store.connections.prune(receiver, [room.name])
            case ("admit", connection_id):
                return self.store.admissions.admit(connection_id, Rate(per_second=2, burst=2, debt=2))
            case ("join", connection_id, room, needs_grant):
                connection = self._connection(connection_id)
                return connection and self.store.members.join(connection, room, needs_grant=needs_grant)
            case ("leave", connection_id, room):
                self.store.members.leave(connection_id, room)
            case ("grant", room, user):
                self.store.members.grant(room, user)
            case ("revoke", room, user):
                self.store.members.revoke(room, user)
            case ("many_members", room):
                self.store.members.note_size(room, 1_000)
            case ("revoke_user", user):
                self.store.revocations.revoke(user)
            case ("extend", connection_id, seconds):
                connection = self._connection(connection_id)
                who = Identity(connection.user_id if connection else "ann", "user", "", "", 0, int(self.now))
                who = Identity(who.user_id, "user", "", "", int(self.now) + seconds, int(self.now))
                return connection and self.store.connections.extend(connection, who)
            case ("ticket", user):
                who = Identity(user, "user", "", "", int(self.now) + 60, int(self.now))
                self.store.tickets.put(f"ticket of {user}", who)
                text = f"ticket of {user}"
                used = [self.store.connections.connect(f"{n}=", who, text) for n in range(2)]
                return self.store.tickets.read(text), used
            case ("sleep", milliseconds):
                self.now += milliseconds / 1000
            case ("look",):
                return self.look()
        return None

    def _connection(self, connection_id: str) -> Connection | None:
        return self.store.connections.get(connection_id)

    def look(self) -> list[list[str]]:
        """Everything that a send would find."""
        receivers = self.store.receivers
        found = [receivers.of_room(chat("r1")), receivers.of_user("ann"), receivers.of_everybody()]
        return [sorted(r.connection_id for r in every) for every in found]

    def tables(self) -> list[list[str]]:
        tables = [self.client.scan(TableName=name)["Items"] for name in ("connections", "rooms")]
        return [sorted(repr(_sorted(item)) for item in items) for items in tables]


def _sorted(item: dict[str, Any]) -> list[Any]:
    kinds = {name: next(iter(value.items())) for name, value in item.items()}
    return [
        (name, kind, sorted(value) if kind == "SS" else float(value) if kind == "N" else value)
        for name, (kind, value) in sorted(kinds.items())
    ]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@given(st.lists(STEPS, min_size=5, max_size=25))
@settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_step_of_the_store_ends_as_on_moto(dynamodb_client: Any, steps: list[tuple[Any, ...]]) -> None:
    moto, fake = dynamodb_client, FakeDynamoDB()
    create_tables(fake)
    create_tables(moto)
    try:
        twins = Twin(fake), Twin(moto)
        for step in steps:
            assert twins[0].do(step) == twins[1].do(step), step
        assert twins[0].tables() == twins[1].tables()
        assert twins[0].look() == twins[1].look()
    finally:
        for table in ("connections", "rooms", "history"):
            moto.delete_table(TableName=table)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_befalls_the_call_that_it_is_for(fault: Fault) -> None:
    fake = FakeDynamoDB()
    create_tables(fake)
    fake.fault = lambda operation: fault if operation == "TransactWriteItems" else None
    item = {"connectionId": {"S": "c1="}}
    with pytest.raises((ClientError, BotoCoreError)) as caught:
        fake.transact_write_items(TransactItems=[{"Put": {"TableName": "connections", "Item": item}}])
    done = bool(fake.get_item(TableName="connections", Key=item))
    assert done is (fault is Fault.LOST_ANSWER)
    if fault in (Fault.THROTTLED, Fault.CONFLICT):
        assert isinstance(caught.value, ClientError)
        response: Any = caught.value.response
        assert response["Error"]["Code"] == "TransactionCanceledException"
        assert response["CancellationReasons"][0]["Code"] in ("ThrottlingError", "TransactionConflict")


def test_an_index_that_lags_shows_what_was() -> None:
    fake = FakeDynamoDB()
    create_tables(fake)
    twin = Twin(fake)
    fake.index_lags = True
    twin.do(("connect", "c1=", "ann", 60))
    assert twin.look()[1:] == [[], ["c1="]]
    fake.catch_up()
    assert twin.look()[1:] == [["c1="], ["c1="]]
