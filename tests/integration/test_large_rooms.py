"""Large rooms: their members are spread over partitions, and no send, leave or disconnect misses one."""

import hashlib
from collections import Counter
from typing import Any

import pytest

from roomcast.connection import Connection, Identity
from roomcast.sending.audience import Everybody, ToRoom
from roomcast.sending.job import PostJob, SendJob, SendLimits, SliceJob
from roomcast.sending.worker import Worker
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.items import PARTITIONS
from tests.builders import APP, chat, create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import FakeManagementApi
from tests.integration.test_revocation import Line, Stage

CHAT = chat("r1")


class Town:
    """A store on the fake, whose clocks the test moves."""

    def __init__(self) -> None:
        self.dynamodb = FakeDynamoDB()
        create_tables(self.dynamodb)
        self.dynamodb.index_lags = True  # nothing here looks at it, and keeping it takes time
        self.now = 1_800_000_000.0
        self.store = self.process()

    def process(self) -> Store:
        """The store of a process that knows nothing yet."""
        client: Any = self.dynamodb
        return Store(Tables(client, "connections", "rooms", clock=lambda: self.now), APP.rooms)

    def connect(self, connection_id: str, user_id: str = "u1") -> Connection:
        identity = Identity(user_id, "user", "", "", int(self.now) + 7200, int(self.now) - 1)
        assert self.store.connections.connect(connection_id, identity) == "connected"
        return self.connection(connection_id)

    def connection(self, connection_id: str) -> Connection:
        found = self.store.connections.get(connection_id)
        assert found
        return found

    def join(self, count: int, first: int = 0, store: Store | None = None) -> list[str]:
        ids = [f"c{number}=" for number in range(first, first + count)]
        for connection_id in ids:
            connection = self.connect(connection_id, f"u{connection_id}")
            assert (store or self.store).members.join(connection, CHAT, needs_grant=False)
        return ids

    def members(self) -> list[str]:
        return sorted(receiver.connection_id for receiver in self.process().receivers.of_room(CHAT))

    def partitions(self) -> Counter[str]:
        """How many members each partition of the chat room has."""
        items = self.dynamodb.scan(TableName="rooms")["Items"]
        return Counter(
            item["room"]["S"]
            for item in items
            if item["member"]["S"].startswith("connection#")
            and "userId" in item
            and not item["room"]["S"].startswith("user_")
        )


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def _time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the monotonic clock is 10 ms after the one before, and a join takes some of them."""
    ticks = iter(range(10**9))
    monkeypatch.setattr("time.monotonic", lambda: next(ticks) * 0.01)


def test_a_room_of_a_few_is_one_query(town: Town) -> None:
    ids = town.join(60)
    town.dynamodb.calls.clear()
    assert town.members() == sorted(ids)
    assert town.dynamodb.calls == {"Query": 1}
    assert set(town.partitions()) == {CHAT.name}


def test_a_join_asks_nothing_more_of_dynamodb_but_once_in_ten_times_and_a_second(town: Town) -> None:
    connections = [town.connect(f"c{number}=") for number in range(9)]
    town.dynamodb.calls.clear()
    for connection in connections:
        assert town.store.members.join(connection, CHAT, needs_grant=False)
    assert town.dynamodb.calls == {"TransactWriteItems": 9}


@pytest.mark.usefixtures("_time_passes")
def test_joins_at_a_rate_that_one_partition_may_not_bear_spread_the_room(town: Town) -> None:
    ids = town.join(250)
    partitions = town.partitions()
    assert partitions[CHAT.name] <= 100
    assert len(partitions) == 1 + PARTITIONS
    assert town.members() == sorted(ids)
    other = town.process()  # learns it from the note, in the room's own partition
    ids += town.join(40, first=250, store=other)
    assert town.partitions()[CHAT.name] <= 100 + 30
    assert town.members() == sorted(ids)


def test_a_partition_that_throttles_is_relieved_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roomcast.store.members._SPREADS_AFTER", 0.05)
    town.join(1)
    connection = town.connect("new=")
    transact = town.dynamodb.transact_write_items

    def hot(**arguments: Any) -> Any:
        puts = [write["Put"]["Item"] for write in arguments["TransactItems"] if "Put" in write]
        town.dynamodb.fault = lambda _: (
            Fault.THROTTLED if any(item["room"]["S"] == CHAT.name for item in puts) else None
        )
        try:
            return transact(**arguments)
        finally:
            town.dynamodb.fault = lambda _: None

    monkeypatch.setattr(town.dynamodb, "transact_write_items", hot)
    assert town.store.members.join(connection, CHAT, needs_grant=False)
    assert town.connection("new=").spread == {CHAT.name}
    assert town.members() == ["c0=", "new="]


def test_whoever_is_in_a_spread_room_leaves_and_is_forgotten(town: Town) -> None:
    """One member from before the room was spread, and four from after it."""
    town.join(1)
    town.store.members.note_size(CHAT, 1_000)
    ids = ["c0=", *town.join(4, first=1)]
    town.store.members.grant(CHAT, "uc4=")
    assert town.partitions()[CHAT.name] == 1
    assert town.members() == ids
    for connection_id in ("c0=", "c1="):
        town.store.members.leave(connection_id, CHAT)
        connection = town.connection(connection_id)
        assert connection.rooms == {f"user_u{connection_id}"}
        assert connection.spread == frozenset()
    town.store.connections.disconnect("c2=")
    [gone] = [r for r in town.store.receivers.of_room(CHAT) if r.connection_id == "c3="]
    town.dynamodb.delete_item(TableName="connections", Key={"connectionId": {"S": "c3="}})
    town.store.connections.prune(gone, [CHAT.name])
    town.store.members.revoke(CHAT, "uc4=")
    assert town.members() == []
    assert town.partitions() == {}


def test_who_joins_again_stays_where_they_are(town: Town) -> None:
    """Also if the process that joins has an old picture of the connection."""
    before = town.connect("c0=")
    assert town.store.members.join(before, CHAT, needs_grant=False)
    town.store.members.note_size(CHAT, 1_000)
    after = town.connect("c1=")
    assert town.store.members.join(after, CHAT, needs_grant=False)
    for connection in (before, after, town.connection("c0="), town.connection("c1=")):
        for store in (town.store, town.process()):
            assert store.members.join(connection, CHAT, needs_grant=False)
    assert sum(town.partitions().values()) == 2
    assert town.members() == ["c0=", "c1="]


def test_a_refresh_extends_members_wherever_they_are(town: Town) -> None:
    town.join(1)
    town.store.members.note_size(CHAT, 1_000)
    town.join(1, first=1)
    for connection_id in ("c0=", "c1="):
        identity = Identity("u", "user", "", "", int(town.now) + 50_000, int(town.now))
        assert town.store.connections.extend(town.connection(connection_id), identity)
    assert {r.expires_at for r in town.store.receivers.of_room(CHAT)} == {int(town.now) + 50_000}


def test_a_room_that_was_large_long_ago_is_one_query_again(town: Town) -> None:
    town.store.members.note_size(CHAT, 1_000)
    hours = 0
    while town.store.members._large.takes(CHAT) and hours < 100:
        last = town.connect(f"h{hours}=")
        assert town.store.members.join(last, CHAT, needs_grant=False)
        assert f"h{hours}=" in town.members()
        town.now += 3600
        hours += 1
    assert hours >= 23
    town.now += 30 * 3600  # every member's row has ended before the note has
    assert town.members() == []
    town.now += 72 * 3600
    town.dynamodb.calls.clear()
    town.members()
    assert town.dynamodb.calls == {"Query": 1}


def test_a_send_that_finds_many_members_spreads_the_room(
    api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.store.members.MANY_MEMBERS", 5)
    stage = Stage(api)
    for number in range(12):
        stage.service.grant_room(CHAT.name, f"u{number}")
        stage.connect(f"c{number}=", f"u{number}")
        assert stage.act(f"c{number}=", "chat:join_room", roomId="r1") == "chat:joined_room"
        if number == 5:
            assert stage.run(SendJob(ToRoom(CHAT), "first", {}))
    stage.now += 1
    assert stage.run(SendJob(ToRoom(CHAT), "second", {}))
    kinds = Counter(type(job) for job in stage.line.waiting)
    assert kinds == {SliceJob: 1 + PARTITIONS}
    while stage.line.waiting:
        assert stage.run(stage.line.waiting.popleft())
    second = {i: sum(b'"second"' in body for body in bodies) for i, bodies in api.delivered.items()}
    assert second == {f"c{number}=": 1 for number in range(12)}
    stage.management_api.close()


@pytest.mark.parametrize("spread", [False, True])
def test_a_large_send_writes_about_how_many_members_there_are(
    api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch, spread: bool
) -> None:
    monkeypatch.setattr("roomcast.store.members.MANY_MEMBERS", 5 if spread else 1000)
    stage = Stage(api)
    stage.store.tables.history = "history"
    stage.worker = Worker(
        stage.store, stage.management_api, stage.line, limits=SendLimits(split=10), clock=lambda: stage.now
    )

    def join(numbers: range) -> None:
        for number in numbers:
            connection_id = hashlib.sha256(str(number).encode()).hexdigest()[:12]
            stage.service.grant_room(CHAT.name, f"u{number}")
            stage.connect(connection_id, f"u{number}")
            assert stage.act(connection_id, "chat:join_room", roomId="r1") == "chat:joined_room"

    def send(id_: str) -> None:
        assert stage.run(SendJob(ToRoom(CHAT), "e", {}, id_))
        while stage.line.waiting:
            assert stage.run(stage.line.waiting.popleft())
        stage.now += 1

    join(range(10))
    send("first")
    count = 90
    join(range(10, count))
    calls = stage.dynamodb.calls
    before = calls["UpdateItem"]
    send("second")
    assert stage.store.history
    members = stage.store.history.head(CHAT.name).members
    assert count / 2 < members < count * 2 if spread else members == count
    appended, noted = 1, 1
    assert calls["UpdateItem"] - before == appended + noted
    before = calls["UpdateItem"]
    send("third")  # nearly as many
    assert calls["UpdateItem"] - before == appended


def test_a_retry_repeats_one_slice(api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice whose worker cannot put its jobs is done again, and no other."""
    monkeypatch.setattr("roomcast.store.receivers.SLICE_RECEIVERS", 20)
    stage = Stage(api)
    stage.worker = Worker(
        stage.store,
        stage.management_api,
        stage.line,
        limits=SendLimits(job_receivers=2),
        clock=lambda: stage.now,
    )
    for number in range(100):
        identity = Identity(f"u{number}", "user", "", "", int(stage.now) + 60, int(stage.now))
        # Ids that are spread over the segments as DynamoDB's hash would.
        connection_id = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        stage.store.connections.connect(connection_id, identity)
    assert stage.run(SendJob(Everybody(), "e", {}))
    slices = list(stage.line.waiting)
    assert len(slices) > 1
    stage.line.waiting.clear()
    first, *rest = slices
    with monkeypatch.context() as patch:
        patch.setattr(Line, "put", lambda *_, **__: 1 / 0)
        assert not stage.run(first)
    for job in (first, *rest):
        assert stage.run(job)
    reached = Counter(
        receiver.connection_id
        for job in stage.line.waiting
        if isinstance(job, PostJob)
        for receiver in job.receivers
    )
    posted = Counter(request.connection_id for request in api.requests)
    assert set((reached + posted).values()) == {1}
    assert len(reached + posted) == 100
    stage.management_api.close()
