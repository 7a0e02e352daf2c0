"""State stays right: connects, closes, joins, leaves, grants, revokes, sends and time, in any interleaving.

Each operation runs the real code on a thread of its own that stops before every call to DynamoDB, to the
management API and to the clock; Hypothesis decides whose turn it is. `$disconnect` events come late, twice
or never. The gateway is a model with the three states PENDING, OPEN and CLOSED. That a fault would be found
is shown by seeding some.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from roomcast import service
from roomcast.connection import YOUNG_SECONDS, Identity, Receiver
from roomcast.functions import actions
from roomcast.management_api.report import PostReport
from roomcast.names import Room
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.connections import Connections
from roomcast.store.dynamodb import Tables
from roomcast.store.items import grant_key
from roomcast.store.members import Members
from roomcast.store.receivers import Receivers
from roomcast.wiring import Wiring
from tests.builders import create_tables
from tests.support.dynamodb_local import dynamodb_local

CHAT = Room("chat", "r1")
USERS = ("ann", "bob")
STEPS = st.sampled_from([0, 1, 2, 99])  # that an operation does before another one's turn
START = 1_800_000_000.0
TOKEN_SECONDS = 300


class Operation:
    """Code on a thread that goes on for one call at a time.

    Attributes:
        began: the machine's tick when it was started.
        ended: the tick when it was over; None while it runs.
        result: what it returned.
    """

    _mine = threading.local()

    def __init__(self, began: int, code: Callable[[], Any]) -> None:
        self.began = began
        self.ended: int | None = None
        self.result: Any = None
        self._error: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(code,), daemon=True)
        self._thread.start()
        self._stopped.acquire()

    @classmethod
    def stop_here(cls) -> None:
        """Called by the code: wait for the next turn. Outside of an operation it does nothing."""
        operation: Operation | None = getattr(cls._mine, "operation", None)
        if operation is not None:
            operation._stopped.release()
            operation._go.acquire()

    def step(self, tick: int) -> None:
        """Let it do one call."""
        self._go.release()
        self._stopped.acquire()
        if self._over:
            self.ended = tick
            self._thread.join()
            if self._error is not None:
                raise self._error

    def _run(self, code: Callable[[], Any]) -> None:
        self._mine.operation = self
        self.stop_here()
        try:
            self.result = code()
        except BaseException as error:  # noqa: BLE001  it is raised again by `step`
            self._error = error
        self._over = True
        self._stopped.release()


class SteppedClient:
    """A DynamoDB client whose every call, and every page, is a step."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            Operation.stop_here()
            if name in ("query", "scan"):
                arguments["Limit"] = 2  # more than one page, each a step
            return method(**arguments)

        return call


@dataclass
class Browser:
    """One connection as the client and API Gateway see it."""

    user_id: str
    state: Literal["PENDING", "OPEN", "CLOSED"]
    expires_at: float
    connect: Operation | None = None
    closing: bool = False  # somebody has asked for its end
    delivered: set[str] = field(default_factory=set)


class ManagementApiModel:
    """API Gateway with its three states."""

    url, has_sent = "https://model.test", True

    def __init__(self, browsers: dict[str, Browser]) -> None:
        self._browsers = browsers

    def post(self, connection_ids: Iterable[str], body: bytes, **_: Any) -> PostReport:
        report = PostReport()
        for connection_id in connection_ids:
            Operation.stop_here()
            browser = self._browsers[connection_id]
            if browser.state == "OPEN":
                envelope = json.loads(body)
                browser.delivered.add(envelope.get("id", ""))
                report.sent.append(connection_id)
            else:
                report.gone.append(connection_id)
        return report

    def delete(self, connection_ids: Iterable[str], **_: Any) -> PostReport:
        report = PostReport()
        for connection_id in connection_ids:
            Operation.stop_here()
            browser = self._browsers[connection_id]
            (report.sent if browser.state == "OPEN" else report.gone).append(connection_id)
            browser.state = "CLOSED"
        return report

    def close(self) -> None: ...


@dataclass
class Join:
    connection_id: str
    operation: Operation

    @property
    def may_have_worked(self) -> bool:
        reply = self.operation.result  # None where the connection was closed after an error
        return (
            self.operation.ended is None
            or reply is None
            or json.loads(reply)["event"].endswith("joined_room")
        )

    @property
    def worked(self) -> bool:
        return self.operation.ended is not None and self.may_have_worked


@dataclass
class Send:
    to: Literal["room", "bob", "all"]
    operation: Operation
    at: float  # virtual seconds at its start


class World(RuleBasedStateMachine):
    """The machine."""

    dynamodb: Any  # set by the test
    store_class: type[Store] = Store

    def __init__(self) -> None:
        super().__init__()
        create_tables(self.dynamodb)
        self.now = START
        self.ticks = itertools.count()
        self.browsers: dict[str, Browser] = {}
        self.running: list[Operation] = []
        self.joins: list[Join] = []
        self.ends: list[tuple[str, Operation]] = []  # leaves and revocations of a member: connection id
        self.sends: list[Send] = []
        self.revocations: list[tuple[str, Operation]] = []
        self.undelivered: list[str] = []  # `$disconnect` events to come
        self.lost: set[str] = set()  # connections whose `$disconnect` never comes
        client: Any = SteppedClient(self.dynamodb)
        self.store = self.store_class(Tables(client, "connections", "rooms", clock=lambda: self.now))
        management_api: Any = ManagementApiModel(self.browsers)
        self.service = service.WebSocketService(self.store, management_api, clock=lambda: self.now)
        settings = Settings(connections_table="connections", rooms_table="rooms", actions_per_second=1000)
        self.wiring = Wiring(settings)
        self.wiring.store, self.wiring.management_api = self.store, management_api
        self._sleep = mock.patch("time.sleep", self._wait)
        self._sleep.start()

    def _wait(self, seconds: float) -> None:
        Operation.stop_here()
        self.now += seconds

    def start(self, code: Callable[[], Any], steps: int = 0) -> Operation:
        operation = Operation(next(self.ticks), code)
        self.running.append(operation)
        self.step(operation, steps)
        return operation

    def step(self, operation: Operation, steps: int) -> None:
        for _ in range(steps):
            if operation.ended is None:
                operation.step(next(self.ticks))
        if operation.ended is not None:
            self.running.remove(operation)

    # What people do

    @initialize()
    def begin(self) -> None:
        """Both may join the room, and each has a connection: most faults need that much to show."""
        for user_id in USERS:
            self.grant(user_id, steps=99)
            self.connect(user_id, steps=99)

    @precondition(lambda self: len(self.browsers) < 4)
    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def connect(self, user_id: str, steps: int) -> None:
        connection_id = f"c{len(self.browsers)}="
        browser = Browser(user_id, "PENDING", self.now + TOKEN_SECONDS)
        self.browsers[connection_id] = browser
        who = Identity(user_id, "user", "", "", int(browser.expires_at), int(self.now))

        def code() -> str:
            result = self.store.connections.connect(connection_id, who)
            Operation.stop_here()  # the function has returned; API Gateway opens the connection
            if browser.state == "PENDING":
                browser.state = "CLOSED" if result == "revoked" else "OPEN"
            return result

        browser.connect = self.start(code, steps)

    def _pick(self, choice: int, *states: str) -> str | None:
        ids = [i for i, browser in self.browsers.items() if browser.state in states]
        return ids[choice % len(ids)] if ids else None

    @rule(choice=st.integers(0, 5), events=st.sampled_from([0, 1, 1, 2]))
    def close(self, choice: int, events: int) -> None:
        """The client goes; its `$disconnect` comes once, twice or never."""
        connection_id = self._pick(choice, "OPEN", "PENDING")
        if connection_id is not None:
            self.browsers[connection_id].state = "CLOSED"
            self.browsers[connection_id].closing = True
            self.undelivered += [connection_id] * events
            if not events:
                self.lost.add(connection_id)

    @precondition(lambda self: self.undelivered)
    @rule(choice=st.integers(0, 5), steps=STEPS)
    def disconnect_event(self, choice: int, steps: int) -> None:
        connection_id = self.undelivered.pop(choice % len(self.undelivered))
        self.start(lambda: self.store.connections.disconnect(connection_id), steps)

    def _act(self, connection_id: str, steps: int, action: str) -> Operation:
        message = json.dumps({"action": action, "roomId": CHAT.key})
        return self.start(lambda: actions.handle(self.wiring, connection_id, message), steps)

    @rule(choice=st.integers(0, 5), steps=STEPS)
    def join(self, choice: int, steps: int) -> None:
        connection_id = self._pick(choice, "OPEN")
        if connection_id is not None:
            operation = self._act(connection_id, steps, "chat:join_room")
            self.joins.append(Join(connection_id, operation))

    @rule(choice=st.integers(0, 5), steps=STEPS)
    def leave(self, choice: int, steps: int) -> None:
        connection_id = self._pick(choice, "OPEN")
        if connection_id is not None:
            operation = self._act(connection_id, steps, "chat:leave_room")
            self.ends.append((connection_id, operation))

    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def grant(self, user_id: str, steps: int) -> None:
        self.start(lambda: self.service.grant_room(CHAT.name, user_id), steps)

    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def revoke(self, user_id: str, steps: int) -> None:
        operation = self.start(lambda: self.service.revoke_room(CHAT.name, user_id), steps)
        self.ends += [(i, operation) for i, browser in self.browsers.items() if browser.user_id == user_id]

    @precondition(lambda self: len(self.revocations) < 1)
    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def revoke_user(self, user_id: str, steps: int) -> None:
        for browser in self.browsers.values():
            browser.closing |= browser.user_id == user_id
        operation = self.start(lambda: self.service.revoke_user(user_id), steps)
        self.revocations.append((user_id, operation))

    @rule(to=st.sampled_from(["room", "room", "bob", "all"]), steps=STEPS)
    def send(self, to: Literal["room", "bob", "all"], steps: int) -> None:
        send: Callable[[], Any] = {
            "room": lambda: self.service.send_to_room(CHAT.name, "e", {}),
            "bob": lambda: self.service.send_to_user("bob", "e", {}),
            "all": lambda: self.service.broadcast("e", {}),
        }[to]
        at = self.now
        self.sends.append(Send(to, self.start(send, steps), at))

    @precondition(lambda self: self.now < START + TOKEN_SECONDS)
    @rule(seconds=st.sampled_from([0.1, YOUNG_SECONDS + 1, TOKEN_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self._check_live()
        self.now += seconds

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 7), steps=STEPS.filter(bool))
    def go_on(self, choice: int, steps: int) -> None:
        self.step(self.running[choice % len(self.running)], steps)

    # What must hold

    def _check_live(self) -> None:
        """What is forgotten stays so: it is enough to look before time passes and at the end."""
        kept = self._rows("connections")
        for connection_id, browser in self.browsers.items():
            if browser.state == "OPEN" and not browser.closing and self.now < browser.expires_at:
                assert connection_id in kept, f"{connection_id} is open and was forgotten"

    def _rows(self, table: str) -> dict[str, Any]:
        key = {"connections": "connectionId", "rooms": "member"}[table]
        return {item[key]["S"]: item for item in self.dynamodb.scan(TableName=table)["Items"]}

    def teardown(self) -> None:
        try:
            while self.running:
                self.step(self.running[0], 99)
            self._check_live()
            self._check_sends()
            self._check_quiet()
        finally:
            self._sleep.stop()
            for table in ("connections", "rooms"):
                self.dynamodb.delete_table(TableName=table)

    def _check_sends(self) -> None:
        for send in self.sends:
            report: service.SendReport = send.operation.result
            got = {i for i, browser in self.browsers.items() if report.id in browser.delivered}
            assert report.sent == len(got)
            for connection_id, browser in self.browsers.items():
                if connection_id in got:
                    assert self._may_get(send, connection_id), f"{connection_id} got what was not for it"
                    assert send.at < browser.expires_at, f"{connection_id} got it after its token's end"
                elif browser.state == "OPEN" and not browser.closing and self.now < browser.expires_at:
                    assert not self._must_get(send, connection_id), f"{connection_id} did not get it"

    def _may_get(self, send: Send, connection_id: str) -> bool:
        browser = self.browsers[connection_id]
        began, ended = send.operation.began, send.operation.ended or 0
        if any(_is_between(o, browser.connect, began) for u, o in self.revocations if u == browser.user_id):
            return False
        if send.to != "room":
            return send.to in ("all", browser.user_id)
        return any(
            join.connection_id == connection_id
            and join.may_have_worked
            and join.operation.began < ended
            and not any(i == connection_id and _is_between(o, join.operation, began) for i, o in self.ends)
            for join in self.joins
        )

    def _must_get(self, send: Send, connection_id: str) -> bool:
        browser = self.browsers[connection_id]
        began, ended = send.operation.began, send.operation.ended or 0
        if send.to != "room":
            connected = browser.connect
            for_it = send.to in ("all", browser.user_id)
            return for_it and connected is not None and (connected.ended or began) < began
        return any(
            join.connection_id == connection_id
            and join.worked
            and (join.operation.ended or began) < began
            and not any(
                i == connection_id and o.began < ended and (o.ended or ended) > join.operation.began
                for i, o in self.ends
            )
            for join in self.joins
        )

    def _check_quiet(self) -> None:
        for connection_id in self.undelivered:
            self.store.connections.disconnect(connection_id)
        self._check_tables(spared=self.lost)
        self.now += YOUNG_SECONDS + 1
        self.service.broadcast("quiet", {})  # finds those whose `$disconnect` was lost
        self._check_tables(spared=set())

    def _check_tables(self, spared: set[str]) -> None:
        kept, rooms = self._rows("connections"), self._rows("rooms")
        grants = {item["room"]["S"] for item in self.dynamodb.scan(TableName="rooms")["Items"]}
        members = {name.removeprefix("connection#") for name in rooms if name.startswith("connection#")}
        listed = {i for i, item in kept.items() if CHAT.name in item.get("rooms", {}).get("SS", [])}
        assert members == listed, "a member without a connection, or the other way round"
        for connection_id in members:
            grant = grant_key(CHAT.name, self.browsers[connection_id].user_id)["room"]["S"]
            assert grant in grants, f"{connection_id} has no grant"
        for connection_id, item in kept.items():
            browser = self.browsers[connection_id]
            if "userId" in item and connection_id not in spared and self.now < browser.expires_at:
                assert browser.state == "OPEN", f"{connection_id} is closed and kept"


def _is_between(operation: Operation, after: Operation | None, before: int) -> bool:
    """Whether it ran wholly after another one had ended and before a tick."""
    return (
        after is not None
        and after.ended is not None
        and operation.began > after.ended
        and operation.ended is not None
        and operation.ended < before
    )


def run(dynamodb_client: Any, *, examples: int, store: type[Store] = Store, shrink: bool = True) -> None:
    class Machine(World):
        dynamodb = dynamodb_client
        store_class = store

    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_state_stays_right_in_any_interleaving(dynamodb_client: Any) -> None:
    run(dynamodb_client, examples=40)


@pytest.mark.dynamodb_local
@pytest.mark.timeout(600)
def test_it_does_so_on_dynamodb_local_too() -> None:
    with dynamodb_local() as client:
        run(client, examples=40)


class JoinsWithoutLooking(Store):
    """Writes the member first and the connection's list after it, with no condition."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.members = Members(_WritesMembersAtOnce(tables.client, "connections", "rooms", tables.clock))


class _WritesMembersAtOnce(Tables):
    def transact(self, *writes: dict[str, Any]) -> None:
        for write in writes:
            for kind, arguments in write.items():
                if kind == "Put" and arguments["TableName"] == "rooms":
                    self.client.put_item(**arguments)
                    return
        super().transact(*writes)


class KeepsNoTombstone(Store):
    """Does nothing where a `$disconnect` comes before its `$connect`."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.connections = _NoTombstone(tables)


class _NoTombstone(Connections):
    def disconnect(self, connection_id: str, accepted_at: float | None = None) -> None:
        del accepted_at
        super().disconnect(connection_id, accepted_at=0)


class PrunesTheYoung(Store):
    """Takes every 410 for a connection that is gone."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.receivers = _AllWereOpen(tables)


class _AllWereOpen(Receivers):
    def of_everybody(self, *, page_size: int | None = None) -> Iterator[Receiver]:
        for receiver in super().of_everybody(page_size=page_size):
            yield Receiver(receiver.connection_id, receiver.connected_at, was_open=True)


class RevokesLater(Store):
    """Looks for members before it takes the grant."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.members = _LooksFirst(tables)


class _LooksFirst(Members):
    def revoke(self, room: Room, user_id: str) -> None:
        for connection_id in [r.connection_id for r in Receivers(self._tables).of_user(user_id)]:
            self.leave(connection_id, room)
        Operation.stop_here()
        self._tables.client.delete_item(TableName="rooms", Key=grant_key(room.name, user_id))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("faulty", [JoinsWithoutLooking, KeepsNoTombstone, PrunesTheYoung, RevokesLater])
def test_the_machine_finds_a_seeded_fault(dynamodb_client: Any, faulty: type[Store]) -> None:
    with pytest.raises(AssertionError):
        run(dynamodb_client, examples=300, store=faulty, shrink=False)
