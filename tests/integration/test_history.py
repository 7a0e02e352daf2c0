"""Streams keep their invariants in any interleaving: appends, joins, lost posts, expiry, death, stalls.

The real appends and recoveries run for one call at a time; posts and clients are a model: a client becomes a
member first and reads then, holds live messages meanwhile, delivers by number, and learns of a gap where it
cannot be given everything.
"""

import itertools
import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from roomcast.store.dynamodb import Tables
from roomcast.store.history import MARGIN, STALE, History, Message, Position, Recovery, Retention
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.support.history import create_history
from tests.support.stepping import Operation, run_machine

ROOM = "chat_room_r1"
KEEP = Retention(seconds=3600, messages=100)
SIGNED_FOR = 900.0  # s; for which DynamoDB takes a request
STEPS = st.sampled_from([0, 1, 1, 2, 99])
START = 1_800_000_000.0


class SignedClient:
    """A client whose every call is two steps: the signed request on its way, and the answer on its way."""

    def __init__(self, client: Any, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            signed = self._clock()
            Operation.stop_here()
            if self._clock() - signed > SIGNED_FOR:
                raise ClientError(
                    {"Error": {"Code": "InvalidSignatureException", "Message": "too old"}}, name
                )
            answer = method(**arguments)
            Operation.stop_here()
            return answer

        return call


class Client:
    """One member, as the specification describes it."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.position: Position | None = None
        self.held: dict[int, str] = {}
        self.log: list[tuple[Position, str] | str] = []
        self.generation = 0
        self.joined = False
        self.joining = False

    def cut(self) -> None:
        self.world.members.discard((self.name, self.generation))
        self.generation += 1
        self.joined = self.joining = False
        self.held = {}

    def join(self, generation: int) -> None:
        """A member first, then the read."""
        self.world.members.add((self.name, generation))
        Operation.stop_here()
        found = self.world.history.recover(ROOM, self.position, KEEP)
        Operation.stop_here()
        if generation == self.generation:
            self.take(found)
            self.joining, self.joined = False, True
            self.flush()

    def take(self, found: Recovery) -> None:
        if self.position is not None and not found.recovered:
            self.log.append("gap")
            if found.position.epoch == self.position.epoch:
                self.world.check_gap(self.position, found.position)
        if not found.recovered:
            self.position = found.position
        for message in found.messages:
            self._deliver(message.seq, message.id)
        if found.recovered and self.position is not None and self.position.seq < found.position.seq:
            self.position = found.position

    def receive(self, generation: int, at: Position, id_: str) -> None:
        if generation != self.generation or not (self.joined or self.joining):
            return
        if self.position is not None and at.epoch != self.position.epoch and self.joined:
            return  # another life of the stream: only a join gives its position
        self.held[at.seq] = id_
        if self.joined:
            self.flush()

    def flush(self) -> None:
        assert self.position is not None
        while (id_ := self.held.pop(self.position.seq + 1, None)) is not None:
            self._deliver(self.position.seq + 1, id_)
        self.held = {seq: id_ for seq, id_ in self.held.items() if seq > self.position.seq}

    def _deliver(self, seq: int, id_: str) -> None:
        assert self.position is not None
        self.position = Position(self.position.epoch, seq)
        self.log.append((self.position, id_))


class World(RuleBasedStateMachine):
    """The machine."""

    history_class: ClassVar[type[History]] = History

    def __init__(self) -> None:
        super().__init__()
        self.db = FakeDynamoDB()
        create_history(self.db)
        self.now = START
        self.ticks = itertools.count(1)
        self.faults: list[Fault] = []
        self.db.fault = lambda _: self.faults.pop() if self.faults and Operation.current() else None
        client: Any = SignedClient(self.db, lambda: self.now)
        tables = Tables(client, "connections", "rooms", clock=lambda: self.now)
        self.history = self.history_class(tables, "history")
        self.other = self.history_class(tables, "history")  # another process
        self.members: set[tuple[str, int]] = set()
        self.net: list[tuple[str, int, Position, str]] = []
        self.running: list[Operation] = []
        self.sent: dict[str, Position] = {}  # sends that returned
        self.clients = [Client(self, name) for name in ("a", "b")]
        self.restored = False
        self.put_at: dict[Position, float] = {}  # when a message was last put under a number
        self.count, self.given, self.given_at = 0, "", START

    def start(self, code: Callable[[], Any], steps: int) -> Operation:
        operation = Operation(next(self.ticks), code)
        self.running.append(operation)
        self.step(operation, steps)
        return operation

    def step(self, operation: Operation, steps: int) -> None:
        for _ in range(steps):
            if operation.ended is None:
                operation.step(next(self.ticks))
        self.running = [o for o in self.running if o.ended is None]

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
        given_at = self.given_at
        history = (self.history, self.other)[process]

        def build(at: Position) -> str:
            self.put_at[at] = self.now
            return f"{at.seq}:{id_}"

        def code() -> None:
            if once and self.now - given_at > KEEP.seconds:
                return  # so late it would be another message
            at = history.append(ROOM, id_, build, KEEP, once=once)
            self.sent.setdefault(id_, at)
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

    @rule(seconds=st.sampled_from([1.0, STALE + 1, SIGNED_FOR + 1, KEEP.seconds, KEEP.seconds + MARGIN + 1]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(choice=st.integers(0, 3))
    def expire(self, choice: int) -> None:
        """DynamoDB deletes some of what has expired."""
        items = self.db.scan(TableName="history")["Items"]
        for number, item in enumerate(items):
            if "ttl" in item and float(item["ttl"]["N"]) < self.now and (choice == 3 or number % 3 == choice):
                self.db.delete_item(TableName="history", Key={key: item[key] for key in ("stream", "seq")})

    @rule(steps=STEPS)
    def restore(self, steps: int) -> None:
        """The operator says that the table was restored."""
        if not self.restored:
            self.restored = True
            self.start(lambda: self.history.new_epoch(ROOM), steps)

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
        elif self.running:
            self.running[choice % len(self.running)].kill(next(self.ticks))
            self.running = [o for o in self.running if o.ended is None]

    def teardown(self) -> None:
        try:
            while self.running:
                self.step(self.running[0], 99)
            self.faults.clear()
            for client in self.clients:
                client.cut()
                client.joining = True
                client.join(client.generation)
            self._check()
        finally:
            for operation in self.running:
                operation.kill(next(self.ticks))

    def check_gap(self, since: Position, now_at: Position) -> None:
        """A gap is reported only for a message older than the retention, less what a sender may stall."""
        missed = [Position(since.epoch, seq) for seq in range(since.seq + 1, now_at.seq + 1)]
        assert all(at in self.put_at for at in missed), "a number without a message"
        oldest = min((self.put_at[at] for at in missed), default=self.now)
        assert self.now - oldest > KEEP.seconds - SIGNED_FOR - STALE, "a gap without a reason"

    def _check(self) -> None:
        assert len(set(self.sent.values())) == len(self.sent), "two messages under one number"
        top = self.history.position(ROOM)
        numbered = {at: id_ for id_, at in self.sent.items()}
        positions: dict[str, Position] = dict(self.sent)
        for client in self.clients:
            seen = [entry for entry in client.log if isinstance(entry, tuple)]
            assert len({at for at, _ in seen}) == len(seen), "a message came twice"
            last: Position | None = None
            for entry in client.log:
                if isinstance(entry, str):
                    last = None
                    continue
                at, id_ = entry
                assert last is None or at == Position(last.epoch, last.seq + 1), (
                    "a hole that was not reported"
                )
                assert numbered.setdefault(at, id_) == id_, "another message under this number"
                assert positions.setdefault(id_, at) == at, "a message has two numbers"
                last = at
            assert client.position == top, "a client is behind"


def run(
    examples: int,
    at: int,
    *,
    history: type[History] = History,
    shrink: bool = True,
) -> None:
    class Machine(World):
        history_class = history

    run_machine(Machine, examples=examples, at=at, shrink=shrink)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_streams_are_right_in_any_interleaving() -> None:
    """The gate tries the same examples each time; ROOMCAST_SEED and ROOMCAST_EXAMPLES try others."""
    run(int(os.environ.get("ROOMCAST_EXAMPLES", "150")), int(os.environ.get("ROOMCAST_SEED", "11")))


class CountsFirst(History):
    """Takes the number before it puts the message."""

    def _put(self, stream: str, at: Position, *arguments: Any, **more: Any) -> Any:
        self._move(stream, at)
        return super()._put(stream, at, *arguments, **more)


class NeverStale(History):
    """Uses a number however long ago it was learnt."""

    def __init__(self, tables: Tables, name: str) -> None:
        super().__init__(tables, name, stale=10**9)


class NoMargin(History):
    """Lets a message expire with its retention."""

    def __init__(self, tables: Tables, name: str) -> None:
        super().__init__(tables, name, margin=-KEEP.seconds)


class HelpsNobody(History):
    """Goes on past a number that is taken."""

    def _help(self, stream: str, to: Position, retention: Retention) -> bool:
        return True


class MovesNothing(History):
    """Posts a message that the head has not passed."""

    def _move(self, stream: str, to: Position) -> bool:
        return True


class Partial(History):
    """Recovers what is left."""

    def recover(self, stream: str, since: Position | None, retention: Retention, **more: Any) -> Recovery:
        found = super().recover(stream, since, retention, **more)
        if since is None or found.recovered or since.epoch != found.position.epoch:
            return found
        items = self._items(stream, since.seq + 1, found.position.seq)
        left = tuple(Message(int(i["seq"]["N"]), i["id"]["S"], i["envelope"]["S"]) for i in items)
        return Recovery(found.position, recovered=True, messages=left)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("faulty", "examples", "message"),
    [
        (CountsFirst, 300, "a gap without a reason"),
        (NeverStale, 300, "two messages under one number"),
        (NoMargin, 300, "two messages under one number"),
        (HelpsNobody, 1500, "two messages under one number"),
        (MovesNothing, 300, "a gap without a reason"),
        (Partial, 1500, "a hole that was not reported"),
    ],
)
def test_the_machine_finds_a_rule_that_is_left_out(
    faulty: type[History], examples: int, message: str
) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        run(examples, 11, history=faulty, shrink=False)
    found = getattr(caught.value, "exceptions", [caught.value])
    assert any(message in str(one) for one in found), found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sound_code_passes_the_same_examples() -> None:
    run(1500, 11)
