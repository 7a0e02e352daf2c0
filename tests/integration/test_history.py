"""Streams keep their invariants in any interleaving: appends, joins, lost posts, expiry, death, stalls.

The real appends and recoveries run for one call at a time. Posts are a model, and the clients are the model
that runs the browser client's scenarios. Everybody records what happens, and `roomcast check` judges.
"""

import json
import math
import os
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import pytest
from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from roomcast.rooms import Retention
from roomcast.store.dynamodb import Tables
from roomcast.store.history import MARGIN, STALE, History
from roomcast.store.replay import Head, Position, Recovery
from roomcast_dev.checker import INVARIANTS, check
from roomcast_dev.records import read
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.support.history import create_history, expire
from tests.support.stepping import (
    SIGNED_FOR,
    Killed,
    Operation,
    SignedClient,
    SteppedMachine,
    fault_is_found,
    run_machine,
)
from tests.support.stream_client import StreamClient

ROOM = "chat_room_r1"
KEEP = Retention(seconds=3600, messages=100)
PAGE = 3
TIMES = [
    1.0,
    STALE + 1,
    SIGNED_FOR + 1,
    KEEP.seconds,
    KEEP.seconds + MARGIN - STALE / 2,
    KEEP.seconds + MARGIN + 1,
]
STEPS = st.sampled_from([0, 1, 1, 2, 99])
START = 1_800_000_000.0


class Client:
    """One page: the model of a client, its connection, and its records."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.page = StreamClient(self._done)
        self.generation = 0
        self.joined = False
        self.joining = False
        self._answer: Recovery | None = None

    @property
    def position(self) -> Position | None:
        at = self.page.positions.get(ROOM)
        return Position(at["epoch"], at["seq"]) if at else None

    def cut(self) -> None:
        self.world.members.discard((self.name, self.generation))
        self.generation += 1
        if self.joined or self.joining:
            self.world.record(self.name, "closed")
        self.joined = self.joining = False
        self.page.handle({"closed": True})

    def join(self, generation: int) -> None:
        """A member first, then the read."""
        since = self.position
        self.page.handle({"opened": [{"room": ROOM}]})
        self.world.members.add((self.name, generation))
        Operation.stop_here()
        found = self.world.history.recover(ROOM, since, KEEP, limit=PAGE)
        Operation.stop_here()
        if generation != self.generation:
            return
        self.joining, self.joined = False, True
        told = {"recovered": found.recovered, "wasRecovering": since is not None}
        self.world.record(self.name, "joined", at=found.position, **told)
        self.take("joined", found, success=True)

    def ask(self, generation: int, since: Position) -> None:
        """Read a page of the history."""
        try:
            found = self.world.history.recover(ROOM, since, KEEP, limit=PAGE)
        except ClientError:
            if generation == self.generation:
                self.page.handle({"failed": ROOM})
            return
        Operation.stop_here()
        if generation == self.generation:
            self.take("history", found)

    def take(self, kind: str, found: Recovery, **more: Any) -> None:
        messages = [{"seq": message.seq, "id": message.id} for message in found.messages]
        answer = {**_json(found.position), "recovered": found.recovered, "messages": messages}
        self._answer = found
        self.go_on(self.page.handle({kind: {"room": ROOM, **answer, "more": found.more, **more}}))

    def receive(self, generation: int, at: Position, id_: str) -> None:
        if generation == self.generation and (self.joined or self.joining):
            self.go_on(self.page.handle({"message": {"room": ROOM, **_json(at), "id": id_}}))

    def go_on(self, outputs: list[dict[str, Any]], steps: int = 0) -> None:
        for output in outputs:
            if "ask" in output:
                since = Position(**output["ask"]["since"])
                self.world.start(partial(self.ask, self.generation, since), steps)

    def _done(self, output: dict[str, Any]) -> None:
        if "deliver" in output:
            message = output["deliver"]
            assert self.position is not None
            at = Position(self.position.epoch, message["seq"])
            self.world.record(self.name, "delivered", at=at, id=message["id"])
        elif "gap" in output:
            assert self._answer is not None
            assert self.position is not None
            if self._answer.position.epoch == self.position.epoch:
                self.world.check_gap(self.position, self._answer.position)
            self.world.record(self.name, "gap", at=self._answer.position)


def _json(at: Position) -> dict[str, Any]:
    return {"epoch": at.epoch, "seq": at.seq}


class World(SteppedMachine):
    """The machine."""

    history_class: ClassVar[type[History]] = History

    def __init__(self) -> None:
        super().__init__(START)
        self.db = FakeDynamoDB()
        create_history(self.db)
        self.faults: list[Fault] = []
        self.looking = False
        self.db.fault = self._fault
        self.passed: dict[str, int] = {}  # how far the head has come in each epoch
        client: Any = SignedClient(self.db, lambda: self.now, self._look)
        tables = Tables(client, "connections", "rooms", clock=lambda: self.now)
        self.history = self.history_class(tables, "history")
        self.other = self.history_class(tables, "history")  # another process
        self.operator = self.history_class(tables, "history")
        self.members: set[tuple[str, int]] = set()
        self.net: list[tuple[str, int, Position, str]] = []
        self.records: list[str] = []
        self.clients = [Client(self, name) for name in ("a", "b")]
        self.restores = 0
        self.put_at: dict[Position, float] = {}  # when a message was last put under a number
        self.count, self.given, self.given_at = 0, "", START

    def _fault(self, _: str) -> Fault | None:
        return self.faults.pop() if self.faults and Operation.current() and not self.looking else None

    def _look(self) -> None:
        """Note where the head is; it counts even where the operation that has moved it gets no answer."""
        self.looking = True
        key = {"stream": {"S": f"head#{ROOM}"}, "seq": {"N": "0"}}
        item = self.db.get_item(TableName="history", Key=key).get("Item")
        self.looking = False
        if item:
            epoch, seq = item["epoch"]["S"], int(item["headSeq"]["N"])
            self.passed[epoch] = max(seq, self.passed.get(epoch, 0))

    def record(self, who: str, what: str, at: Position | None = None, **more: Any) -> None:
        place = {"room": ROOM, **_json(at)} if at is not None else {}
        self.records.append(json.dumps({"who": who, "what": what, **place, **more}))

    @initialize()
    def begin(self) -> None:
        self.join(0, steps=99)

    @rule(process=st.integers(0, 1), kind=st.sampled_from(["own id", "given id", "again"]), steps=STEPS)
    def send(self, process: int, kind: str, steps: int) -> None:
        """Append, then post to the members of that moment. A send with a given id may come a second time."""
        self.count += 1
        id_ = self.given if kind == "again" and self.given else f"m{self.count}"
        once = kind != "own id"
        if once and id_ != self.given:
            self.given, self.given_at = id_, self.now
        given_at, began_in = self.given_at, len(self.passed)
        history = (self.history, self.other)[process]

        def build(at: Position) -> str:
            self.put_at[at] = self.now
            return f"{at.seq}:{id_}"

        def code() -> None:
            if once and self.now - given_at > KEEP.seconds:
                return  # so late it would be another message
            at = history.append(ROOM, id_, build, KEEP, once=once)
            assert self.passed[at.epoch] >= at.seq, "a send has returned and its message does not count"
            assert at.epoch in list(self.passed)[began_in - 1 :], "a send went to an earlier epoch"
            self.record("backend", "appended", at=at, id=id_)
            Operation.stop_here()
            for name, generation in sorted(self.members):
                self.net.append((name, generation, at, id_))

        self.start(code, steps)

    @rule(choice=st.integers(0, 1), steps=STEPS)
    def join(self, choice: int, steps: int) -> None:
        client = self.clients[choice]
        if not client.joined and not client.joining:
            client.joining = True
            generation = client.generation

            def code() -> None:
                try:
                    client.join(generation)
                finally:
                    if client.generation == generation and not client.joined:
                        client.cut()  # the join failed: the client begins again

            self.start(code, steps)

    @rule(choice=st.integers(0, 1))
    def cut(self, choice: int) -> None:
        self.clients[choice].cut()

    @precondition(lambda self: self.net)
    @rule(choice=st.integers(0, 9), lost=st.sampled_from([False, False, True]))
    def arrive(self, choice: int, lost: bool) -> None:
        name, generation, at, id_ = self.net.pop(choice % len(self.net))
        if not lost:
            next(client for client in self.clients if client.name == name).receive(generation, at, id_)

    @rule(choice=st.integers(0, 1), steps=STEPS)
    def wait(self, choice: int, steps: int) -> None:
        """The reorder window of a client ends."""
        client = self.clients[choice]
        client.go_on(client.page.handle({"wait": "long"}), steps)

    @rule(choice=st.integers(0, 1))
    def pong(self, choice: int) -> None:
        client = self.clients[choice]
        if client.joined:
            head = self.history.position(ROOM)
            client.go_on(client.page.handle({"pong": {ROOM: _json(head)}}))

    @rule(seconds=st.sampled_from(TIMES))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(choice=st.integers(0, 3))
    def expire(self, choice: int) -> None:
        """DynamoDB deletes some of what has expired."""
        expire(self.db, self.now, lambda number: choice == 3 or number % 3 == choice)

    @precondition(lambda self: self.restores < 2)
    @rule(steps=STEPS)
    def new_epoch(self, steps: int) -> None:
        """The operator says that the table was restored."""
        self.restores += 1
        self.start(lambda: self.operator.new_epoch(ROOM), steps)

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 7), steps=STEPS.filter(bool))
    def go_on(self, choice: int, steps: int) -> None:
        self.step(self.running[choice % len(self.running)], steps)

    @rule(
        fault=st.sampled_from([Fault.LOST_ANSWER, Fault.LOST_REQUEST, Fault.THROTTLED, "death"]),
        choice=st.integers(0, 7),
    )
    def bad_day(self, fault: Any, choice: int) -> None:
        if fault != "death":
            self.faults.append(fault)
        else:
            self.kill(choice)

    def teardown(self) -> None:
        try:
            self.finish()
            self.faults.clear()
            for client in self.clients:
                client.cut()
                client.joining = True
                client.join(client.generation)
                self.finish()
            self._check()
        finally:
            self.kill_all()

    def check_gap(self, since: Position, now_at: Position) -> None:
        """A gap is reported only for a message older than the retention, less what a sender may stall."""
        missed = [Position(since.epoch, seq) for seq in range(since.seq + 1, now_at.seq + 1)]
        assert all(at in self.put_at for at in missed), "a number without a message"
        oldest = min((self.put_at[at] for at in missed), default=self.now)
        assert self.now - oldest > KEEP.seconds - SIGNED_FOR - STALE, "a gap without a reason"

    def _check(self) -> None:
        verdict = check(read(self.records, "records"), complete=True)
        for violation in verdict.violations:
            excerpt = "\n".join(record.text for record in violation.excerpt)
            raise AssertionError(f"{INVARIANTS[violation.invariant]}: {violation.message}\n{excerpt}")
        for client in self.clients:
            assert client.position == self.history.position(ROOM), "a client is behind"


def machine(history: type[History] = History) -> type[World]:
    """The machine whose streams are of this class."""
    return type(history.__name__, (World,), {"history_class": history})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.timeout(3600)
def test_streams_are_right_in_any_interleaving() -> None:
    """The gate tries the same examples each time; ROOMCAST_SEED and ROOMCAST_EXAMPLES try others."""
    examples = int(os.environ.get("ROOMCAST_EXAMPLES", "400"))
    run_machine(machine(), examples=examples, at=int(os.environ.get("ROOMCAST_SEED", "11")))


class CountsFirst(History):
    """Takes the number before it puts the message."""

    def _put(self, stream: str, at: Position, *arguments: Any, **more: Any) -> Any:
        self._move(stream, Position(at.epoch, at.seq - 1), at)
        return super()._put(stream, at, *arguments, **more)


class NeverStale(History):
    """Uses a number however long ago it was learnt."""

    def __init__(self, tables: Tables, name: str) -> None:
        super().__init__(tables, name, stale=10**9)


class NoMargin(History):
    """Lets a message expire with its retention."""

    def __init__(self, tables: Tables, name: str) -> None:
        super().__init__(tables, name, margin=-KEEP.seconds)


class MovesNothing(History):
    """Posts a message that the head has not passed."""

    def _move(self, stream: str, head: Position, to: Position) -> Head:
        return Head(to)


class Partial(History):
    """Recovers what is left."""

    def recover(self, stream: str, since: Position | None, retention: Retention, **more: Any) -> Recovery:
        found = super().recover(stream, since, retention, **more)
        if since is None or found.recovered or since.epoch != found.position.epoch:
            return found
        left = tuple(self._messages(stream, since.epoch, since.seq + 1, found.position.seq))
        return Recovery(found.position, recovered=True, messages=left)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("faulty", "examples", "message"),
    [
        (CountsFirst, 300, "a gap without a reason"),
        (NeverStale, 300, "one order|a gap without a reason"),
        (NoMargin, 1500, "one message|one order|a gap without a reason"),
        (MovesNothing, 300, "its message does not count"),
        (Partial, 1500, "nothing is lost in silence"),
    ],
)
def test_the_machine_finds_a_rule_that_is_left_out(
    faulty: type[History], examples: int, message: str
) -> None:
    fault_is_found(machine(faulty), machine(), message, examples=examples, at=11)


class Dies(History):
    """A process that ends between the two writes of an append."""

    def _move(self, stream: str, head: Position, to: Position) -> Head:
        raise Killed


class HelpsHalf(History):
    """Moves the head past the message of a dead sender, and lets that message expire."""

    def _help(self, stream: str, head: Position, to: Position, retention: Retention) -> bool:
        return self._move(stream, head, to).position == to


class HelpsNobody(History):
    """Takes every item behind the head for one whose sender is at work."""

    def _walk(self, *arguments: Any) -> Any:
        with mock.patch("roomcast.store.history._FRESH", math.inf):
            return super()._walk(*arguments)


@pytest.mark.parametrize(("sender", "whole"), [(History, True), (HelpsHalf, False), (HelpsNobody, False)])
def test_a_dead_senders_message_that_is_about_to_expire_is_kept_for_those_who_come_back(
    sender: type[History], whole: bool
) -> None:
    """The machine meets this too rarely: a death, a send in its item's last minute, and a client in time."""
    db, now = FakeDynamoDB(), START
    create_history(db)
    client: Any = db
    tables = Tables(client, "connections", "rooms", clock=lambda: now)
    since = History(tables, "history").position(ROOM)
    with pytest.raises(Killed):
        Dies(tables, "history").append(ROOM, "m1", lambda _: "1", KEEP)
    now += KEEP.seconds + MARGIN - 1
    assert sender(tables, "history").append(ROOM, "m2", lambda _: "2", KEEP) == Position(since.epoch, 2)
    now += 2
    expire(db, now)
    found = History(tables, "history").recover(ROOM, since, KEEP)
    assert (found.recovered, [message.id for message in found.messages]) == (
        (True, ["m1", "m2"]) if whole else (False, [])
    )


def test_senders_at_work_are_not_helped_and_their_messages_count_with_the_next_one() -> None:
    """Two writes for each sender, and one for the number that was lost to another."""
    db = FakeDynamoDB()
    create_history(db)
    client: Any = db
    tables = Tables(client, "connections", "rooms", clock=lambda: START)
    sender = History(tables, "history")
    since = sender.append(ROOM, "m1", lambda _: "1", KEEP)
    for number in (2, 3):
        with pytest.raises(Killed):
            Dies(tables, "history").append(ROOM, f"m{number}", lambda _: "", KEEP)
    db.calls.clear()
    assert sender.append(ROOM, "m4", lambda _: "4", KEEP) == Position(since.epoch, 4)
    assert db.calls == {"PutItem": 2, "Query": 1, "UpdateItem": 1}
    found = History(tables, "history").recover(ROOM, since, KEEP)
    assert [message.id for message in found.messages] == ["m2", "m3", "m4"]
