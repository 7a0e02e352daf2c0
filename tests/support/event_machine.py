"""Server events in any interleaving: who follows them as `docs/server-events.md` says, knows what is.

One user with several connections. Each operation runs the real code on a thread of its own, which stops
before every call to DynamoDB and to the bus. Hypothesis decides whose turn it is, what is throttled or loses
its answer, and what dies. The bus repeats and mixes up what it has taken.
"""

import itertools
import json
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from roomcast.functions import actions, handshake
from roomcast.server_events import ServerEvents
from roomcast.settings import ServerEventRules, Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.tokens.secret_keys import StaticKeys
from roomcast.wiring import Wiring
from tests.builders import APP, SECRET, chat, create_tables, token
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.event_bus import THROTTLED, FakeEventBus
from tests.support.stepping import Operation, SteppedClient, SteppedMachine

PAGE = Path(__file__).parents[2] / "docs" / "server-events.md"
KINDS = "connected,disconnected,joined,left,published"
ROOM = "chat_room_r1"
STEPS = st.sampled_from([0, 1, 2, 3, 99])
FOLLOWED: dict[str, Any] = {}
exec(re.findall(r"```python\n(def follow.*?)```", PAGE.read_text(), re.DOTALL)[0], FOLLOWED)


class Following(SteppedMachine):
    """The stage of one user, and a service that follows it.

    Attributes:
        events_class: what is tried.
        whole: in how many examples no number was missing, so that the state could be compared.
    """

    events_class: ClassVar[type[ServerEvents]] = ServerEvents
    whole: ClassVar[list[int]] = []

    @initialize()
    def begin(self) -> None:
        self.dynamodb: Any = FakeDynamoDB()
        create_tables(self.dynamodb)
        self.bus: Any = FakeEventBus()
        self.bus.before = Operation.stop_here
        rules = ServerEventRules.parse("", f"roomcast.landinghub.prod:{KINDS}@default")
        settings = Settings(
            connections_table="connections",
            rooms_table="rooms",
            rooms=APP.rooms,
            max_connections=1000,
            actions_per_second=1000,
            actions_burst=10_000,
            server_events=rules,
        )
        self.wiring = Wiring(settings)
        self.wiring.keys = StaticKeys(SECRET)
        self.wiring.management_api = mock.Mock()  # closes those who are not known
        client: Any = SteppedClient(self.dynamodb)
        self.store = Store(Tables(client, "connections", "rooms", lambda: self.now), APP.rooms)
        self.store.tables.ended = self.wiring.ended
        self.wiring.store = self.store
        self.wiring.server_events = self.events_class(self.bus, rules, self.store)
        self.store.members.grant(chat("r1"), "u1")
        self.token = token()
        self.connections: list[str] = []
        self.received = itertools.count(1_764_000_000_000)
        self.enders: list[Operation] = []

    def __init__(self) -> None:
        super().__init__(1_764_000_000.0)
        self._patches = ExitStack()
        machine, real = threading.current_thread(), time.time

        def own_time() -> float:
            is_own = Operation.current() is not None or threading.current_thread() is machine
            return self.now if is_own else real()

        for name, value in {**self.own_world(self._wait), "time.time": own_time}.items():
            self._patches.enter_context(mock.patch(name, value))

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(steps=STEPS)
    def connect(self, steps: int) -> None:
        connection_id = f"c{len(self.connections)}="
        self.connections.append(connection_id)
        asked = handshake.Handshake(connection_id, {"token": self.token}, {})
        self.start(lambda: handshake.admit(self.wiring, asked), steps)

    @precondition(lambda self: self.connections)
    @rule(choice=st.integers(0), steps=STEPS, again=st.booleans())
    def join_or_leave(self, choice: int, steps: int, again: bool) -> None:
        self._act(choice, "join" if again else "leave", steps)

    @precondition(lambda self: self.connections)
    @rule(choice=st.integers(0), first=STEPS, second=STEPS)
    def leave_and_join_without_waiting(self, choice: int, first: int, second: int) -> None:
        self._act(choice, "leave", first)
        self._act(choice, "join", second)

    @precondition(lambda self: self.connections)
    @rule(choice=st.integers(0), steps=STEPS)
    def disconnect(self, choice: int, steps: int) -> None:
        self._ends(lambda: self.store.connections.disconnect(self._one(choice)), steps)

    @rule(steps=STEPS)
    def revoke(self, steps: int) -> None:
        self._ends(lambda: self.store.members.revoke(chat("r1"), "u1"), steps)

    @precondition(lambda self: not self.running)  # see the page for a right that comes back during a join
    @rule()
    def grant(self) -> None:
        self.store.members.grant(chat("r1"), "u1")

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0), steps=st.integers(1, 4))
    def go_on(self, choice: int, steps: int) -> None:
        self.step(self.running[choice % len(self.running)], steps)

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0))
    def die(self, choice: int) -> None:
        self.kill(choice)

    @rule(what=st.sampled_from([Fault.THROTTLED, Fault.CONFLICT, Fault.LOST_ANSWER, Fault.LOST_REQUEST]))
    def bad_moment(self, what: Fault) -> None:
        faults = iter([what])
        self.dynamodb.fault = lambda _: next(faults, None) if Operation.current() else None

    @rule(what=st.sampled_from(["throttled", "entry", "refused", "silent"]))
    def bad_moment_of_the_bus(self, what: str) -> None:
        if what == "silent":
            self.bus.lost_answers += 1
        else:
            codes = {"entry": {0: "ThrottlingException"}, "refused": {0: "MalformedDetail"}}
            self.bus.script.append(codes.get(what, THROTTLED))

    def teardown(self) -> None:
        try:
            if hasattr(self, "wiring"):
                self._look()
        finally:
            self.kill_all()
            self._patches.close()

    def _one(self, choice: int) -> str:
        return self.connections[choice % len(self.connections)]

    def _act(self, choice: int, what: str, steps: int) -> None:
        connection_id, at = self._one(choice), next(self.received)
        message = json.dumps({"action": f"rooms:{what}", "rooms": [{"room": ROOM}]})
        if what == "leave":
            message = json.dumps({"action": "rooms:leave", "rooms": [ROOM]})
        act = self._ends if what == "leave" else self.start
        act(lambda: actions.handle(self.wiring, connection_id, message, at), steps)

    def _ends(self, code: Callable[[], object], steps: int) -> None:
        self.enders.append(self.start(code, steps))

    def _look(self) -> None:
        """Let all come to an end, and compare what a follower knows with what is."""
        self.dynamodb.fault = lambda _: None
        self.finish()
        for connection_id in self.connections:  # the next one who finds an end that has died goes on with it
            item = self.dynamodb.get_item(
                TableName="connections", Key={"connectionId": {"S": connection_id}}
            ).get("Item", {})
            if item and "userId" not in item:
                self.store.connections.disconnect(connection_id)
        self.bus.before = lambda: None
        events = self._delivered()
        numbers = {event["detail"]["seq"] for event in events}
        taken = self.store.event_numbers.take("u1") - 1
        assert numbers <= set(range(1, taken + 1)), "a number that nobody has taken"
        by_number: dict[int, Any] = {}
        for event in events:
            assert by_number.setdefault(event["detail"]["seq"], event) == event, "one number, two events"
        # An end that dies between its write and its number is lost, and no number is missing.
        if len(numbers) < taken or any(end.died or end.error for end in self.enders):
            return
        self.whole.append(1)
        user: dict[str, Any] = {"seq": 0, "waiting": {}, "connections": {}}
        missing = [FOLLOWED["follow"](user, event) for event in events]
        assert not any(missing[-1:])
        known = {connection_id: set(rooms) for connection_id, rooms in user["connections"].items()}
        assert known == self._real(), "who follows does not know what is"

    def _delivered(self) -> list[dict[str, Any]]:
        """What the bus has taken, some of it twice, in any order."""
        events = [{"detail-type": kind, "detail": detail} for kind, detail in self.bus.seen()]
        chance = random.Random(len(events))
        events += [event for event in events if chance.random() < 0.3]
        chance.shuffle(events)
        return events

    def _real(self) -> dict[str, set[str]]:
        items = self.dynamodb.scan(TableName="connections")["Items"]
        return {
            item["connectionId"]["S"]: set(item.get("rooms", {}).get("SS", ())) - {"user_u1"}
            for item in items
            if "userId" in item
        }
