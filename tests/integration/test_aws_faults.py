"""Faults of AWS inside our own calls: they change how long something takes, never what comes of it."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from lambdas import disconnect
from roomcast import aws
from roomcast.aws_client.client import JsonClient
from roomcast.aws_client.credentials import StaticCredentials
from roomcast.aws_client.http import Connections
from roomcast.connection import Connection, Identity, Receiver
from roomcast.functions.cold_start import wiring
from roomcast.management_api.client import ManagementApi
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.large_rooms import MANY_MEMBERS
from roomcast.store.rate import Rate
from tests.builders import APP, chat, create_tables, dashboard, disconnect_event
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import GONE, OK, RESET, RESET_WITHIN_ANSWER, FakeManagementApi
from tests.support.dynamodb_local import dynamodb_local

CHAT, DASHBOARD = chat("r1"), dashboard("u1")
NOW = 1_800_000_000.0
FUNCTION_SECONDS = 10  # of the functions that clients call


def identity(user_id: str = "u1", expires_at: float = NOW + 100) -> Identity:
    return Identity(user_id, "user", user_id.title(), "", int(expires_at), int(NOW) - 60)


@dataclass
class World:
    """One DynamoDB and a store on it; `u1` may join the chat room and is in it on c1."""

    dynamodb: FakeDynamoDB
    store: Store

    @classmethod
    def make(cls, client: Any = None, *, spread: bool = False) -> "World":
        dynamodb: Any = client or FakeDynamoDB()
        create_tables(dynamodb)
        store = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: NOW), APP.rooms)
        world = cls(dynamodb, store)
        if spread:
            store.members.note_size(CHAT, MANY_MEMBERS)
        store.members.grant(CHAT, "u1")
        store.connections.connect("c1=", identity())
        assert store.members.join(world.connection(), CHAT, needs_grant=True)
        store.tickets.put("ticket", identity("u2"))
        if client is None:
            dynamodb.calls.clear()
        return world

    def connection(self) -> Connection:
        found = self.store.connections.get("c1=")
        assert found
        return found

    def rows(self) -> list[str]:
        tables = [self.dynamodb.scan(TableName=name)["Items"] for name in ("connections", "rooms")]
        # A lost answer may count one action twice.
        return sorted(
            repr(sorted((k, sorted(v.items())) for k, v in item.items() if k != "tat"))
            for table in tables
            for item in table
        )


OPERATIONS: dict[str, Callable[[World], object]] = {
    "connect": lambda w: w.store.connections.connect("c2=", identity("u2")),
    "connect with a ticket": lambda w: w.store.connections.connect("c2=", identity("u2"), "ticket"),
    "disconnect": lambda w: w.store.connections.disconnect("c1="),
    "disconnect before the connect": lambda w: w.store.connections.disconnect("c9="),
    "prune": lambda w: w.store.connections.prune(
        Receiver("c1=", w.connection().connected_at), ["chat_room_r1"]
    ),
    "join": lambda w: w.store.members.join(w.connection(), DASHBOARD, needs_grant=False),
    "join with a grant": lambda w: w.store.members.join(w.connection(), CHAT, needs_grant=True),
    "leave": lambda w: w.store.members.leave("c1=", CHAT),
    "extend": lambda w: w.store.connections.extend(w.connection(), identity(expires_at=NOW + 200)),
    "grant": lambda w: w.store.members.grant(CHAT, "u2"),
    "revoke": lambda w: w.store.members.revoke(CHAT, "u1"),
    "revoke a user": lambda w: w.store.revocations.revoke("u1"),
    "put a ticket": lambda w: w.store.tickets.put("another", identity("u2")),
    "read a ticket": lambda w: w.store.tickets.read("ticket"),
    "admit": lambda w: bool(w.store.admissions.admit("c1=", Rate())),
    "receivers of a room": lambda w: [r.connection_id for r in w.store.receivers.of_room(CHAT)],
    "receivers of a user": lambda w: [r.connection_id for r in w.store.receivers.of_user("u1")],
    "everybody": lambda w: [r.connection_id for r in w.store.receivers.of_everybody()],
    "count": lambda w: w.store.receivers.count(),
}


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.dynamodb_local
@pytest.mark.timeout(300)
@pytest.mark.parametrize("spread", [False, True])
def test_dynamodb_itself_takes_every_operation_and_answers_as_the_fake(spread: bool) -> None:
    """Expressions that a fake may take too lightly, for rooms in one partition and for large ones."""
    with dynamodb_local() as theirs:
        url = theirs.meta.endpoint_url
        client: Any = JsonClient(
            "dynamodb",
            endpoint_url=url,
            region="us-east-1",
            credentials=StaticCredentials("test", "test"),
            connections=Connections(url, connect_timeout=1, read_timeout=60),
        )
        client.create_table, client.delete_table = theirs.create_table, theirs.delete_table
        for operation, do in OPERATIONS.items():
            worlds = World.make(spread=spread), World.make(client, spread=spread)
            results = [(do(world), world.rows()) for world in worlds]
            assert results[0] == results[1], operation
            for table in ("connections", "rooms", "history"):
                client.delete_table(TableName=table)


def at_calls(fault: Fault, numbers: range) -> Callable[[str], Fault | None]:
    """The fault at the calls with these numbers."""
    count = iter(range(10_000))
    return lambda _: fault if next(count) in numbers else None


@pytest.mark.usefixtures("_no_pauses")
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_at_any_call_changes_nothing_about_the_outcome(operation: str, fault: Fault) -> None:
    calm = World.make()
    result = OPERATIONS[operation](calm)
    expected, calls = calm.rows(), sum(calm.dynamodb.calls.values())
    for at in range(calls):
        for times in (1, 6):  # more often than any number of tries there used to be
            world = World.make()
            world.dynamodb.fault = at_calls(fault, range(at, at + times))
            assert OPERATIONS[operation](world) == result, (at, times)
            world.dynamodb.fault = lambda _: None
            assert world.rows() == expected, (at, times)


class Killed(BaseException):
    """The function ends between two calls."""


@pytest.mark.usefixtures("_no_pauses")
@pytest.mark.parametrize("ends", ["disconnect", "prune"])
@pytest.mark.parametrize("joined", ["before", "meanwhile"])
def test_what_an_end_that_dies_leaves_is_found_by_the_next_send(ends: str, joined: str) -> None:
    """Whether the function is killed at a call, or DynamoDB refuses from there on."""
    for death in (Killed, "throttled"):
        for at in range(8):
            world = World.make()
            connection = world.connection()
            if joined == "before":
                world.store.members.join(connection, DASHBOARD, needs_grant=False)
            count = iter(range(10_000))

            def fault(_: str, count: Iterator[int] = count, at: int = at, death: Any = death) -> Fault | None:
                if next(count) < at:
                    return None
                if death is Killed:
                    raise Killed
                return Fault.THROTTLED

            world.dynamodb.fault = fault
            try:
                with aws.within(0.01):
                    OPERATIONS[ends](world)
            except (Killed, ClientError):
                pass
            world.dynamodb.fault = lambda _: None
            if joined == "meanwhile":
                world.store.members.join(connection, DASHBOARD, needs_grant=False)
            for room in (CHAT, DASHBOARD):
                for receiver in world.store.receivers.of_room(room):
                    world.store.connections.prune(receiver, [room.name])
            for everyone in (world.store.receivers.of_everybody(), world.store.receivers.of_user("u1")):
                for receiver in everyone:
                    world.store.connections.prune(receiver)
            left = "".join(world.rows())
            assert "connection#c1=" not in left, (death, at)
            assert "userName" not in left or "'ttl'" in left, (death, at)


def test_a_disconnect_between_its_two_writes_and_the_connect_leaves_no_row() -> None:
    world = World.make()
    connected: list[bool] = []

    def connect(operation: str) -> None:
        if operation == "PutItem" and not connected:  # the disconnect has found nothing
            connected.append(True)
            assert world.store.connections.connect("c2=", identity("u2")) == "connected"

    world.dynamodb.fault = connect
    world.store.connections.disconnect("c2=")
    assert connected
    assert not [row for row in world.rows() if "c2=" in row]


def test_a_member_that_no_item_names_is_pruned_behind_a_tombstone() -> None:
    world = World.make()
    [receiver] = world.store.receivers.of_room(CHAT)
    world.dynamodb.delete_item(TableName="connections", Key={"connectionId": {"S": "c1="}})
    world.store.connections.disconnect("c1=")  # a second event: leaves a tombstone
    world.store.connections.prune(receiver, [CHAT.name])
    assert list(world.store.receivers.of_room(CHAT)) == []


def test_an_old_connection_that_is_unknown_leaves_no_tombstone(functions: None, rows: Any) -> None:
    """Behind a prune or a close `$disconnect` still comes; a tombstone is for one that may still connect."""
    event = disconnect_event("c1=")
    event["requestContext"]["connectedAt"] = int((time.time() - 60) * 1000)
    disconnect.handler(event, None)
    assert rows("connections") == []
    event["requestContext"]["connectedAt"] = int(time.time() * 1000)
    disconnect.handler(event, None)
    assert wiring().store.connections.connect("c1=", identity()) == "disconnected"


@pytest.mark.usefixtures("_no_pauses")
def test_an_operation_that_is_throttled_for_ever_ends_in_time() -> None:
    for operation, do in OPERATIONS.items():
        world = World.make()
        if operation in ("extend", "join", "join with a grant", "prune"):
            continue  # begin with a read of the test's own
        world.dynamodb.fault = lambda _: Fault.THROTTLED
        began = time.monotonic()
        with pytest.raises((ClientError, BotoCoreError)), aws.within(0.05):
            do(world)
        assert time.monotonic() - began < 2, operation


def test_nested_deadlines_end_with_the_earlier_one() -> None:
    assert aws.seconds_left() == aws.PATIENCE
    with aws.within(1), aws.within(100):
        assert 0.9 < aws.seconds_left() <= 1
        with aws.within(0.1):
            assert aws.seconds_left() <= 0.1
    assert aws.seconds_left() == aws.PATIENCE


def test_the_last_try_of_a_call_ends_within_the_functions_time() -> None:
    assert aws.PATIENCE + aws.CONNECT_TIMEOUT + aws.READ_TIMEOUT < FUNCTION_SECONDS
    client = aws.client("dynamodb", botocore.session.get_session())
    config: Any = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (aws.CONNECT_TIMEOUT, aws.READ_TIMEOUT)
    assert config.retries["total_max_attempts"] == 1  # one layer retries, and it is not botocore's


def test_a_silent_dynamodb_ends_a_send_in_time(functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(aws, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{silent.getsockname()[1]}")
        service = WebSocketService.from_env()
        began = time.monotonic()
        with pytest.raises(BotoCoreError):
            service.send_to_room("chat_room_r1", "e", {})
        assert time.monotonic() - began < 3
        service.close()


@pytest.fixture
def service(api: FakeManagementApi) -> Iterator[tuple[WebSocketService, World]]:
    """A service on the fake of DynamoDB."""
    world = World.make()
    management_api = ManagementApi(api.endpoint, region="x", credentials=Credentials("AKID", "SECRET"))
    yield WebSocketService(world.store, management_api, clock=lambda: NOW + 60, index_lag=0), world
    management_api.close()


def test_a_prune_that_fails_does_not_fail_the_send(
    service: tuple[WebSocketService, World], api: FakeManagementApi, caplog: pytest.LogCaptureFixture
) -> None:
    sender, world = service
    world.store.connections.connect("c2=", identity("u1"))
    api.script("c1=", GONE)
    world.dynamodb.fault = lambda operation: Fault.THROTTLED if operation == "UpdateItem" else None
    began = time.monotonic()
    report = sender.send_to_user("u1", "e", {}, id="mine")
    assert time.monotonic() - began < 5
    assert (report.id, report.sent, report.gone) == ("mine", 1, 1)
    assert "1 of 1 that are gone are not pruned yet" in caplog.text
    world.dynamodb.fault = lambda _: None
    assert sender.send_to_user("u1", "e", {}).gone == 1
    assert [r.connection_id for r in world.store.receivers.of_user("u1")] == ["c2="]


def test_many_that_are_gone_are_pruned_side_by_side_and_within_the_budget(
    service: tuple[WebSocketService, World], api: FakeManagementApi
) -> None:
    sender, world = service
    for number in range(60):
        world.store.connections.connect(f"g{number}=", identity("u1"))
        api.script(f"g{number}=", GONE)
    world.dynamodb.fault = lambda operation: time.sleep(0.02) if operation == "UpdateItem" else None
    began = time.monotonic()
    assert sender.send_to_user("u1", "e", {}).gone == 60
    assert time.monotonic() - began < 60 * 0.02
    assert [r.connection_id for r in world.store.receivers.of_user("u1")] == ["c1="]


def test_where_nobody_is_there_the_url_is_wrong_and_nothing_is_pruned(
    service: tuple[WebSocketService, World], api: FakeManagementApi, caplog: pytest.LogCaptureFixture
) -> None:
    sender, world = service
    for number in range(30):
        world.store.connections.connect(f"g{number}=", identity("u1"))
    api.always = GONE
    before = world.rows()
    assert sender.broadcast("e", {}).gone == 31
    assert world.rows() == before
    assert "is it this stage's URL?" in caplog.text
    # Once a post has succeeded the URL is right, and they are gone indeed.
    api.script("c1=", OK)
    assert sender.send_to_connection("c1=", "e", {}).sent == 1
    api.script("c1=", GONE)
    assert sender.broadcast("e", {}).gone == 31
    assert list(world.store.receivers.of_everybody()) == []


def test_a_connection_that_opens_late_is_not_pruned_by_a_clock_that_is_ahead(
    service: tuple[WebSocketService, World], api: FakeManagementApi
) -> None:
    """`$connect` takes nine of its ten seconds, and the backend's clock is ten seconds ahead."""
    _, world = service
    management_api = ManagementApi(api.endpoint, region="x", credentials=Credentials("AKID", "SECRET"))
    ahead = WebSocketService(world.store, management_api, clock=lambda: NOW + 9 + 10)
    world.store.connections.connect("opening=", identity("u2"))
    api.script("opening=", GONE)
    assert ahead.send_to_user("u2", "e", {}).gone == 1
    api.script("opening=", OK)
    assert ahead.send_to_user("u2", "e", {}).sent == 1
    management_api.close()


def test_a_reset_loses_no_message(service: tuple[WebSocketService, World], api: FakeManagementApi) -> None:
    """An answer that is lost is `unknown`; it goes out once more, and the receiver drops a repeat."""
    sender, world = service
    world.store.connections.connect("c2=", identity("u1"))
    api.script("c1=", RESET, OK)
    api.script("c2=", RESET_WITHIN_ANSWER, OK)
    report = sender.send_to_user("u1", "e", {})
    assert (report.sent, report.unknown) == (2, 0)
    assert len(api.delivered["c1="]) == 1
    assert len(set(api.delivered["c2="])) == 1  # twice, with one id
