"""Presence in any interleaving: joins, leaves, tabs, handovers, late and repeated looks, lost `$disconnect`s.

Each operation stops before every call to DynamoDB and to the queue; Hypothesis says whose turn it is, which
call is throttled or loses its answer, and which process dies. A watcher hears what the room is told, in the
order of posting, and asks for the state where a version is missing, as a client does.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from roomcast.connection import Identity
from roomcast.rooms import Kind, Room, Rooms
from roomcast.sending.job import PresenceJob, parse
from roomcast.sending.presence import left, look
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.presence import GRACE, LONGEST, Presences
from tests.builders import create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.support.stepping import Operation, SteppedClient, SteppedMachine

KIND = Kind("chat_room_{room_id}", "anyone", presence="list")
CHAT = Room(KIND, "r1")
USERS = ("ann", "bob", "cat")
STEPS = st.sampled_from([0, 1, 2, 3, 99])
START = 1_800_000_000.0
LONGEST_CALL = 60.0  # s; whoever is stalled for longer is taken for dead


@dataclass
class Tab:
    """One connection."""

    user: str
    made_at: float
    join: Operation | None = None
    ended_at: float | None = None  # when it began to leave, or to close

    def surely_here(self, now: float) -> bool:
        """Whether its join was answered and it has not begun to end."""
        return (
            self.join is not None
            and self.join.done
            and self.ended_at is None
            and now - self.made_at < LONGEST
        )


@dataclass
class Watcher:
    """What a client makes of what it hears."""

    ask: Callable[[], tuple[int, set[str]]]
    version: int = 0
    users: set[str] = field(default_factory=set)
    heard: dict[int, tuple[str, str]] = field(default_factory=dict)

    def hear(self, event: str, data: dict[str, Any]) -> None:
        version, user = data["version"], data["user"]["id"]
        told = (event, user)
        assert self.heard.setdefault(version, told) == told, f"version {version} is two things"
        if version > self.version + 1:
            self.version, self.users = self.ask()
        elif version == self.version + 1:
            self.version = version
            (self.users.add if event == "presence:joined" else self.users.discard)(user)


@dataclass
class Message:
    job: PresenceJob
    visible_at: float
    receives: int = 0


class World(SteppedMachine):
    """The machine."""

    presences_class: ClassVar[type[Presences]] = Presences
    bad_days: ClassVar[tuple[Any, ...]] = (*Fault, "death")

    def __init__(self) -> None:
        super().__init__(START)
        self.db = FakeDynamoDB()
        create_tables(self.db)
        self.db.fault = lambda _: self.faults.popleft() if self.faults and Operation.current() else None
        self.faults: deque[Fault] = deque()
        stepped: Any = SteppedClient(self.db, page_size=500)
        plain: Any = self.db
        self.store, self.seen = (self._store(client) for client in (stepped, plain))
        queue: Any = self
        self.store.tables.left = lambda user, rooms: left(
            self.store, queue, user, [CHAT for name in rooms if name == CHAT.name]
        )
        self.tabs: dict[str, Tab] = {}
        self.messages: list[Message] = []
        self.looks: dict[int, tuple[Message, Operation]] = {}
        self.watcher = Watcher(self._state)
        self.has_died = self.has_lost = False
        self._patches: list[Any] = [
            *(mock.patch(name, value) for name, value in self.own_world(self._wait).items()),
            mock.patch("roomcast.sending.presence._LOG.warning", self._missed),
        ]
        for patch in self._patches:
            patch.start()

    def _store(self, client: Any) -> Store:
        store = Store(Tables(client, "connections", "rooms", clock=lambda: self.now), Rooms([KIND]))
        store.presences = self.presences_class(store.tables)
        return store

    def _state(self) -> tuple[int, set[str]]:
        here, _ = self.seen.presences.read(CHAT)
        assert here.users is not None
        return here.version, set(here.users)

    def _missed(self, *_: object) -> None:
        """A leave is not noted, or nobody looks: AWS did not answer to the end."""
        self.has_died = True

    def _wait(self, seconds: float) -> None:
        Operation.stop_here()
        self.now += seconds

    # The queue

    def put(self, jobs: Iterable[PresenceJob], delay: float = 0) -> None:
        bodies = [job.dump() for job in jobs]
        Operation.stop_here()
        for body in bodies:
            job = parse(body, Rooms([KIND]))
            assert isinstance(job, PresenceJob)
            self.messages.append(Message(job, self.now + delay))

    def collect(self) -> None:
        self.has_died |= any(operation.error is not None for operation in self.running)
        super().collect()
        for key, (message, operation) in list(self.looks.items()):
            if operation.ended is not None:
                del self.looks[key]
                if operation.done:
                    self._posted(operation)
                else:
                    self.messages.append(Message(message.job, self.now + 1, message.receives))

    def _posted(self, operation: Operation) -> None:
        for event, data in operation.result:
            if event == "presence:left" and not self.has_died:
                here = [
                    operation.at - (tab.ended_at if tab.ended_at is not None else operation.at)
                    for tab in self.tabs.values()
                    if tab.user == data["user"]["id"]
                    and tab.join is not None
                    and tab.join.done
                    and operation.at - tab.made_at < LONGEST
                ]
                assert not here or min(here) >= GRACE - 0.01, f"{data['user']} was here {min(here)} s ago"
            self.watcher.hear(event, data)

    # What people do

    @rule(user=st.sampled_from(USERS), steps=STEPS)
    def open(self, user: str, steps: int) -> None:
        if sum(tab.ended_at is None for tab in self.tabs.values()) >= 6:
            return
        connection_id = f"c{len(self.tabs)}="
        tab = self.tabs[connection_id] = Tab(user, self.now)
        who = Identity(user, "user", user.title(), "", int(self.now + 24 * 3600), int(self.now))
        assert self.seen.connections.connect(connection_id, who) == "connected"
        tab.join = self.start(lambda: self._join(connection_id), steps)

    def _join(self, connection_id: str) -> None:
        connection = self.store.connections.get(connection_id)
        if (
            connection
            and self.store.members.join(connection, CHAT, needs_grant=False)
            and self.store.presences.enter(CHAT, connection.user_id, connection.name)
        ):
            self.put([PresenceJob(CHAT.name, connection.user_id)])

    @precondition(lambda self: any(tab.ended_at is None for tab in self.tabs.values()))
    @rule(data=st.data(), how=st.sampled_from(["closes", "leaves", "reloads", "is lost"]), steps=STEPS)
    def end(self, data: st.DataObject, how: str, steps: int) -> None:
        ids = [i for i, tab in self.tabs.items() if tab.ended_at is None]
        connection_id = data.draw(st.sampled_from(ids))
        tab = self.tabs[connection_id]
        tab.ended_at = self.now
        if how == "is lost":
            self.has_lost = True
        elif how == "leaves" and tab.join is not None and tab.join.done:  # else it may be run before the join
            self.start(lambda: self._leave(connection_id, tab.user), steps)
        else:
            self.start(lambda: self.store.connections.disconnect(connection_id, accepted_at=0), steps)
        if how == "reloads":
            self.open(tab.user, steps=99)

    def _leave(self, connection_id: str, user: str) -> None:
        self.store.members.leave(connection_id, CHAT)
        queue: Any = self
        left(self.store, queue, user, [CHAT])

    @precondition(lambda self: any(message.visible_at <= self.now for message in self.messages))
    @rule(data=st.data(), steps=STEPS, twice=st.booleans())
    def receive(self, data: st.DataObject, steps: int, twice: bool) -> None:
        ready = [message for message in self.messages if message.visible_at <= self.now]
        self._receive(data.draw(st.sampled_from(ready), label="job"), steps, twice=twice)

    def _receive(self, message: Message, steps: int, *, twice: bool = False) -> None:
        message.receives += 1
        if not twice:
            self.messages.remove(message)
        queue: Any = self
        again = message.receives > 1
        operation = self.start(lambda: look(self.store, queue, message.job, again=again), 0)
        self.looks[operation.began] = (message, operation)
        self.step(operation, steps)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), steps=STEPS)
    def go_on(self, data: st.DataObject, steps: int) -> None:
        self.step(data.draw(st.sampled_from(self.running), label="operation"), steps)

    @precondition(lambda self: self.running and self.bad_days)
    @rule(data=st.data())
    def bad_day(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(self.bad_days))
        if isinstance(what, Fault):
            self.faults.append(what)
            return
        self.has_died = True
        self.kill_one(data.draw(st.sampled_from(self.running)))

    @rule(seconds=st.sampled_from([0.5, 5.0, GRACE - 1.0, GRACE + 1.0, LONGEST + 120.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for operation in list(self.running):
            if self.now - operation.at > LONGEST_CALL:
                self.has_died = True
                self.kill_one(operation)

    # What must hold

    @invariant()
    def who_is_here_is_listed(self) -> None:
        _, users = self._state()
        for tab in self.tabs.values():
            assert not tab.surely_here(self.now) or tab.user in users, f"{tab.user} is here and not listed"

    def _settle(self) -> None:
        for _ in range(200):
            for operation in list(self.running):
                self.step(operation, 200)
            if not self.messages:
                return
            message = min(self.messages, key=lambda message: message.visible_at)
            self.now = max(self.now, message.visible_at)
            self._receive(message, 200)
        raise AssertionError(f"the looks do not end: {json.dumps([m.job.dump() for m in self.messages])}")

    def _look_at_what_is_odd(self) -> None:
        _, odd = self.seen.presences.read(CHAT)
        self.messages += [Message(PresenceJob(CHAT.name, user), self.now) for user in odd]
        self._settle()

    def teardown(self) -> None:
        try:
            self._rest()
        finally:
            self.kill_all()
            for patch in self._patches:
                patch.stop()

    def _rest(self) -> None:
        self.faults.clear()
        self._settle()
        self._look_at_what_is_odd()
        here = {tab.user for tab in self.tabs.values() if tab.surely_here(self.now)}
        if not (self.has_died or self.has_lost):
            assert self._state()[1] == here, "the list is not exact"
            assert self.watcher.users == here, "what was told is not the list"
            assert set(self.watcher.heard) == set(range(1, self.watcher.version + 1))
        self.now += LONGEST + 120
        for tab in self.tabs.values():
            tab.ended_at = tab.ended_at if tab.ended_at is not None else self.now
        self._look_at_what_is_odd()
        assert self._state()[1] == set(), "somebody haunts the room"
        version, _ = self._state()
        if self.watcher.version < version:  # what a client sees at its next join
            self.watcher.version, self.watcher.users = self._state()
        assert self.watcher.users == set(), "somebody haunts the watcher"
